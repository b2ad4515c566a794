"""Banks of clips and the crops that are cut from them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import make_picture
from PIL import Image
from torch import Tensor

from b2v.data.clip_cache import is_complete
from b2v.data.datasets import BankConfig, Crops, build_bank, draw_clip, real_window
from b2v.data.footage import Sources, list_media, load_sources
from b2v.data.scenes import MotionConfig
from b2v.errors import B2VError, DatasetError
from b2v.metrics import psnr, reblur

ANY = (0.0, float("inf"))
MOTION = MotionConfig(speed=(0.5, 2.0), shrink=(1.0, 1.0))
CONFIG = BankConfig(clips=6, size=16, blur_psnr=ANY, motion=MOTION)


def pixels(height: int, width: int, seed: int) -> np.ndarray:
    return (make_picture(height, width, seed) * 255).byte().permute(1, 2, 0).numpy()


def save_video(path: Path, frames: int) -> None:
    """Write an H.264 file in which a texture moves two pixels a frame to the left."""
    scene = pixels(48, 48 + 2 * frames, seed=5)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width = stream.height = 48
        stream.pix_fmt = "yuv420p"
        for i in range(frames):
            view = np.ascontiguousarray(scene[:, 2 * i : 2 * i + 48])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Folder of two photographs, a cut-out and a video of nine frames."""
    folder = tmp_path / "media"
    (folder / "deeper").mkdir(parents=True)
    Image.fromarray(pixels(64, 80, 1)).save(folder / "b.jpg", quality=95, subsampling=0)
    Image.fromarray(pixels(70, 60, 2)).save(folder / "deeper" / "a.JPG")
    cutout = np.dstack([pixels(20, 26, 3), np.full((20, 26), 200, np.uint8)])
    Image.fromarray(cutout).save(folder / "cutout.png")
    save_video(folder / "clip.mp4", frames=9)
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture
def sources() -> Sources:
    """Green photographs, red videos, no cut-outs."""
    gray = make_picture(64, 64).mean(0, keepdim=True)
    black = torch.zeros_like(gray)
    green = (torch.cat([black, gray, black]) * 255).byte()
    red = (torch.cat([gray, black, black]) * 255).byte()
    return Sources([green], [], [red.expand(8, -1, -1, -1)])


def save_bank(folder: Path, clips: Tensor) -> None:
    """Write clips [N, 8, 3, S, S] uint8 as a bank."""
    np.save(folder / "clips.npy", clips.numpy())


@pytest.fixture
def exact_bank(tmp_path: Path) -> Path:
    """Bank of four random clips of 24 x 24 pixels whose blurry pictures are exact averages."""
    sharp = torch.rand(4, 7, 3, 24, 24).mul(255).round() / 255
    clips = torch.cat([reblur(sharp)[:, None], sharp], dim=1)
    save_bank(tmp_path, (clips * 255).round().byte())
    return tmp_path


def test_media_are_found_in_deeper_folders_whatever_their_case(media):
    names = [path.name for path in list_media(media)]
    assert names == ["b.jpg", "clip.mp4", "cutout.png", "a.JPG"]


def test_a_missing_or_empty_folder_is_refused_by_name(tmp_path):
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        list_media(tmp_path / "nowhere")
    (tmp_path / "readme.txt").write_text("no pictures here")
    with pytest.raises(DatasetError, match="holds no photographs or videos"):
        list_media(tmp_path)


def test_sources_are_sorted_into_photos_cutouts_and_videos(media):
    sources = load_sources([media])
    assert [tuple(p.shape) for p in sources.photos] == [(3, 64, 80), (3, 70, 60)]
    assert [tuple(c.shape) for c in sources.cutouts] == [(4, 20, 26)]
    assert [tuple(v.shape) for v in sources.videos] == [(9, 3, 48, 48)]
    assert sources.cutouts[0][3].unique().tolist() == [200]
    everything = [*sources.photos, *sources.cutouts, *sources.videos]
    assert all(tensor.dtype is torch.uint8 for tensor in everything)
    expected = torch.from_numpy(pixels(64, 80, 1)).permute(2, 0, 1)
    assert psnr(sources.photos[0] / 255, expected / 255) > 30  # JPEG
    moved = sources.videos[0][1:, ..., 4:-6] / 255, sources.videos[0][:-1, ..., 6:-4] / 255
    assert psnr(*moved).min() > 20  # H.264


def test_a_file_that_is_no_picture_is_refused_by_name(tmp_path):
    (tmp_path / "broken.jpg").write_text("this is text")
    with pytest.raises(B2VError, match=r"broken\.jpg"):
        load_sources([tmp_path])


def test_a_split_by_scene_is_disjoint_and_complete():
    def numbered(count: int) -> list[Tensor]:
        return [torch.tensor([i]) for i in range(count)]

    whole = Sources(numbered(20), numbered(9), numbered(16))
    training, validation = whole.split()
    for kind, held_out in (("photos", [4, 12]), ("cutouts", [4]), ("videos", [4, 12])):
        kept, out = ([int(x) for x in getattr(part, kind)] for part in (training, validation))
        assert out == held_out
        assert sorted(kept + out) == [int(x) for x in getattr(whole, kind)]


def test_a_clip_is_a_function_of_seed_and_index(media):
    sources = load_sources([media])
    clip = draw_clip(sources, CONFIG, 3)
    assert clip.shape == (8, 3, 16, 16)
    assert clip.dtype is torch.uint8
    assert torch.equal(clip, draw_clip(sources, CONFIG, 3))
    assert not torch.equal(clip, draw_clip(sources, CONFIG, 4))
    assert not torch.equal(clip, draw_clip(sources, replace(CONFIG, seed=1), 3))


def test_the_frames_of_a_clip_explain_its_blur(media):
    sources = load_sources([media])
    for index in range(12):
        blurry, *sharp = draw_clip(sources, CONFIG, index) / 255
        assert psnr(reblur(torch.stack(sharp)), blurry) > 30


@pytest.mark.parametrize(("real", "stills", "color"), [(1.0, 0.0, 0), (0.0, 1.0, 0), (0.0, 0.0, 1)])
def test_shares_decide_what_clips_are_made_of(sources, real, stills, color):
    config = replace(CONFIG, real=real, stills=stills)
    for index in range(6):
        light = draw_clip(sources, config, index).float().mean((0, 2, 3))
        assert light[color] > 50
        assert light.sum() == light[color]


def test_without_videos_photos_are_used_and_the_other_way_round(sources):
    config = replace(CONFIG, real=1.0)
    only_photos = draw_clip(Sources(sources.photos, [], []), config, 0).float().mean((0, 2, 3))
    assert only_photos[1] == only_photos.sum() > 50
    config = replace(CONFIG, real=0.0, stills=0.0)
    only_videos = draw_clip(Sources([], [], sources.videos), config, 0).float().mean((0, 2, 3))
    assert only_videos[0] == only_videos.sum() > 50


def test_blur_outside_the_accepted_range_is_drawn_anew(media):
    sources = load_sources([media])

    def strengths(accepted: tuple[float, float]) -> Tensor:
        config = replace(CONFIG, real=0.0, blur_psnr=accepted)
        clips = [draw_clip(sources, config, index) / 255 for index in range(24)]
        return torch.stack([psnr(clip[0], clip[4]) for clip in clips])

    loose = strengths(ANY)
    # A few draws do not find any in six tries; a tenth of a dB is for rounding to 8 bits.
    assert (strengths((18.0, 27.0)) > 27.1).sum() <= 4 < (loose > 27.1).sum()
    assert (strengths((26.5, 99.0)) < 26.4).sum() <= 4 < (loose < 26.4).sum()


def test_a_real_window_is_seven_neighboring_frames_and_their_light_average():
    levels = torch.arange(0, 240, 20, dtype=torch.uint8)
    video = levels[:, None, None, None].expand(-1, 3, 40, 40)
    for seed in range(8):
        blurry, sharp = real_window(Sources([], [], [video]), np.random.default_rng(seed), CONFIG)
        assert sharp.shape == (7, 3, 16, 16)
        steps = (sharp * 255).mean((1, 2, 3)).diff()
        assert steps.tolist() == pytest.approx(6 * [20], abs=1e-2)
        assert (blurry - reblur(sharp)).abs().max() < 1e-6


def test_a_video_smaller_than_the_clip_is_enlarged():
    video = (make_picture(12, 18) * 255).byte().expand(7, -1, -1, -1)
    blurry, sharp = real_window(Sources([], [], [video]), np.random.default_rng(0), CONFIG)
    assert sharp.shape == (7, 3, 16, 16)
    assert (blurry - sharp[3]).abs().max() < 1e-5


def test_a_video_too_short_for_a_window_is_left_out_or_refused(sources):
    short = Sources(sources.photos, [], [sources.videos[0][:5]])
    config = replace(CONFIG, real=1.0)
    try:
        clip = draw_clip(short, config, 0)
    except DatasetError:
        return
    assert clip.shape == (8, 3, 16, 16)


def test_a_bank_of_nothing_is_refused(tmp_path):
    """As when so few files are given that none is left for validation."""
    empty = Sources([], [torch.zeros(4, 20, 20, dtype=torch.uint8)], [])
    with pytest.raises(DatasetError):
        list(build_bank(empty, CONFIG, tmp_path / "bank"))


def test_a_bank_holds_the_clips_that_are_drawn_one_by_one(media, tmp_path):
    sources = load_sources([media])
    folder = tmp_path / "deep" / "bank"
    assert list(build_bank(sources, CONFIG, folder)) == [6]
    clips = np.load(folder / "clips.npy")
    assert clips.shape == (6, 8, 3, 16, 16)
    for index in range(6):
        assert np.array_equal(clips[index], draw_clip(sources, CONFIG, index).numpy())
    assert list(build_bank(sources, CONFIG, folder)) == []
    assert is_complete(folder, CONFIG)
    assert not is_complete(folder, replace(CONFIG, seed=9))
    assert not is_complete(tmp_path, CONFIG)


def test_an_interrupted_bank_goes_on_to_equal_one_built_at_once(sources, tmp_path):
    config = replace(CONFIG, clips=53)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert list(build_bank(sources, config, whole)) == [20, 40, 53]
    interrupted = build_bank(sources, config, parts)
    assert next(interrupted) == 20
    interrupted.close()
    assert not is_complete(parts, config)
    begun = np.load(parts / "clips.npy", mmap_mode="r+")
    begun[0] = 77  # a mark to see that what was done is not done again
    begun.flush()
    assert list(build_bank(sources, config, parts)) == [40, 53]
    expected, clips = np.load(whole / "clips.npy"), np.load(parts / "clips.npy")
    assert (clips[0] == 77).all()
    assert np.array_equal(clips[1:], expected[1:])
    assert is_complete(parts, config)


def test_a_bank_of_another_config_is_not_mixed_in(sources, tmp_path):
    list(build_bank(sources, CONFIG, tmp_path / "bank"))
    before = (tmp_path / "bank" / "clips.npy").read_bytes()
    for other in (replace(CONFIG, seed=1), replace(CONFIG, motion=MotionConfig())):
        with pytest.raises(DatasetError, match="bank: holds a bank of another config"):
            list(build_bank(sources, other, tmp_path / "bank"))
    assert (tmp_path / "bank" / "clips.npy").read_bytes() == before


def test_a_crop_is_a_function_of_seed_and_index(exact_bank):
    crops, again = (Crops(exact_bank, size=16, seed=3) for _ in range(2))
    first, later = crops[5], crops[10**9]
    assert first[0].shape == (3, 16, 16)
    assert first[1].shape == (7, 3, 16, 16)
    assert torch.equal(again[10**9][0], later[0])
    assert torch.equal(again[5][0], first[0])
    assert torch.equal(again[5][1], first[1])
    assert not torch.equal(first[0], later[0])
    assert not torch.equal(Crops(exact_bank, size=16, seed=4)[5][0], first[0])


def test_blurry_and_sharp_are_cut_flipped_and_recoloured_alike(exact_bank):
    crops = Crops(exact_bank, size=16, seed=0, noise=0, jpeg=0, discrete=0)
    for index in range(60):
        blurry, sharp = crops[index]
        # The bank is in steps of 1/255, rounded by half a step.
        assert (reblur(sharp) - blurry).abs().max() < 0.51 / 255


def test_a_share_of_crops_is_blurred_from_the_seven_frames_alone(tmp_path):
    clip = torch.zeros(8, 3, 16, 16, dtype=torch.uint8)
    clip[1:] = torch.arange(20, 160, 20, dtype=torch.uint8)[:, None, None, None]
    save_bank(tmp_path, clip[None])
    crops = Crops(tmp_path, size=16, seed=0, noise=0, jpeg=0, discrete=0.3)
    from_frames = []
    for index in range(200):
        blurry, sharp = crops[index]
        if blurry.any():
            assert torch.allclose(blurry, reblur(sharp), atol=1e-6)
        from_frames.append(bool(blurry.any()))
    assert 40 < sum(from_frames) < 80


def test_crops_come_from_everywhere_in_every_orientation_color_order_and_direction(tmp_path):
    # Position, color and time can be read off the pixels of this clip.
    y, x = torch.meshgrid(torch.arange(20), torch.arange(20), indexing="ij")
    clip = torch.stack([y * 2 + 10, x * 2 + 80, torch.full_like(x, 160)])
    clip = clip.expand(8, -1, -1, -1).byte().clone()
    clip[1:, 2] += torch.arange(7, dtype=torch.uint8)[:, None, None]
    save_bank(tmp_path, clip[None])
    crops = Crops(tmp_path, size=16, seed=0, noise=0, jpeg=0, discrete=0)
    seen, corners = Counter(), set()
    for index in range(600):
        sharp = (crops[index][1] * 255).round().int()
        order = tuple(sharp[3].amax((1, 2)).argsort().tolist())
        rows, columns, times = (sharp[:, color] for color in order)
        transposed = bool(rows[0, 0, 0] == rows[0, -1, 0])
        flips = rows[0, 0, 0] > rows[0, -1, -1], columns[0, 0, 0] > columns[0, -1, -1]
        backwards = bool(times[0, 0, 0] > times[6, 0, 0])
        seen[(order, transposed, *map(bool, flips), backwards)] += 1
        corners.add((int(rows.min()), int(columns.min())))
    assert len({key[0] for key in seen}) == 6
    assert len({key[1:] for key in seen}) == 16
    assert len(seen) == 96
    assert len(corners) == 25  # 5 x 5 places, the last one included


def test_noise_is_in_the_blurry_picture_alone_in_about_half_of_the_crops_up_to_one_percent(
    tmp_path,
):
    save_bank(tmp_path, torch.full((1, 8, 3, 32, 32), 128, dtype=torch.uint8))
    crops = Crops(tmp_path, size=32, seed=0, jpeg=0)
    items = [crops[index] for index in range(200)]
    deviations = torch.stack([(blurry - 128 / 255).std() for blurry, _ in items])
    assert all(sharp.unique().tolist() == pytest.approx([128 / 255]) for _, sharp in items)
    assert 80 <= (deviations > 1e-6).sum() <= 120
    assert 0.0085 < deviations.max() < 0.0105


def test_a_share_of_clips_stands_still_and_is_soft(tmp_path):
    clips = torch.stack([make_picture(24, 24, seed) for seed in range(16)]).view(2, 8, 3, 24, 24)
    save_bank(tmp_path, (clips * 255).round().byte())
    settings = {"size": 24, "seed": 0, "noise": 0, "jpeg": 0}
    plain, resting = (Crops(tmp_path, **settings, rest=rest) for rest in (0.0, 0.5))
    still = 0
    for index in range(160):
        blurry, sharp = resting[index]
        if torch.equal(sharp, plain[index][1]):
            continue
        still += 1
        assert (sharp == blurry).all()
        assert detail(blurry) < 1.01 * detail(plain[index][1][3])
    assert 60 < still < 100


def test_a_share_of_clips_moves_behind_a_soft_lens(tmp_path):
    clips = torch.stack([make_picture(24, 24, seed) for seed in range(16)]).view(2, 8, 3, 24, 24)
    save_bank(tmp_path, (clips * 255).round().byte())
    settings = {"size": 24, "seed": 0, "noise": 0, "jpeg": 0, "discrete": 0}
    plain, soft = (Crops(tmp_path, **settings, soft=share) for share in (0.0, 0.5))
    softened = 0
    for index in range(80):
        (blurry, sharp), (before, frames) = soft[index], plain[index]
        if torch.equal(sharp, frames):
            assert torch.equal(blurry, before)
            continue
        softened += 1
        assert detail(blurry) < detail(before)
        shares = [detail(one) / detail(other) for one, other in zip(sharp, frames, strict=True)]
        assert max(shares) < 1
        assert abs(sharp.mean() - frames.mean()) < 0.02
    assert 25 < softened < 55


def detail(picture):
    return (picture[..., 1:] - picture[..., :-1]).abs().mean()


def test_a_whole_clip_is_a_crop_too(exact_bank):
    blurry, sharp = Crops(exact_bank, size=24, seed=0)[0]
    assert blurry.shape == sharp.shape[1:] == (3, 24, 24)
