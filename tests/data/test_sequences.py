"""Sequences of blurry and sharp frames, and the crops that are cut from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_picture
from torch import Tensor

from b2v.data.clip_cache import is_complete
from b2v.data.datasets import (
    RealConfig,
    SequenceConfig,
    SequenceCrops,
    build_bank,
    draw_sequence,
    random_shutter,
    real_sequence,
    speed_of,
    to_and_fro,
)
from b2v.data.exposure import Shutter, expose_video
from b2v.data.footage import Sources
from b2v.data.scenes import FootageConfig, MotionConfig
from b2v.errors import DatasetError, UsageError
from b2v.metrics import psnr, reblur

ANY = (0.0, float("inf"))
PLAIN = MotionConfig(shrink=(1.0, 1.0), objects=(0.0, 1.0))
CONFIG = SequenceConfig(
    clips=3, frames=4, size=16, blur_psnr=ANY, footage=FootageConfig(blur=(1, 4), motion=PLAIN)
)
REAL = replace(CONFIG, real=1.0, still=0.0, real_windows=RealConfig(half=0.0, calm=99.0))


def panning(frames: int, step: int = 1, side: int = 48, seed: int = 0) -> Tensor:
    """Make a video [N, 3, side, side] uint8 of a texture that moves `step` pixels a frame."""
    scene = (make_picture(side, side + step * frames, seed) * 255).byte()
    return torch.stack([scene[..., step * n : step * n + side] for n in range(frames)])


@pytest.fixture
def sources() -> Sources:
    """Green photographs, red videos, blue cut-outs."""
    photo = torch.zeros(3, 96, 96, dtype=torch.uint8)
    photo[1] = (make_picture(96, 96)[0] * 255).byte()
    video = torch.zeros(60, 3, 48, 48, dtype=torch.uint8)
    video[:, 0] = panning(60)[:, 0]
    cutout = torch.full((4, 12, 12), 255, dtype=torch.uint8)
    cutout[:2] = 0
    return Sources([photo], [cutout], [video])


def save_sequences(folder: Path, sequences: Tensor) -> Path:
    """Write sequences [clips, 2, N, 3, S, S] uint8 as a bank."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "sequences.npy", sequences.numpy())
    return folder


@pytest.fixture
def exact_bank(tmp_path: Path) -> Path:
    """Bank of three sequences of unlike frames whose blurry ones are a third darker."""
    sharp = torch.rand(3, 1, 6, 3, 24, 24).mul(80).round() * 3
    return save_sequences(tmp_path / "bank", torch.cat([sharp * 2 / 3, sharp], 1).round().byte())


def test_a_sequence_is_a_function_of_seed_and_index(sources):
    sequence = draw_sequence(sources, CONFIG, 3)
    assert sequence.shape == (2, 4, 3, 16, 16)
    assert sequence.dtype is torch.uint8
    assert torch.equal(sequence, draw_sequence(sources, CONFIG, 3))
    assert not torch.equal(sequence, draw_sequence(sources, CONFIG, 4))
    assert not torch.equal(sequence, draw_sequence(sources, replace(CONFIG, seed=1), 3))


@pytest.mark.parametrize(
    ("real", "stills", "still", "color"),
    [(1.0, 0.0, 0.0, 0), (0.0, 1.0, 0.0, 0), (0.0, 0.0, 0.0, 1), (0.0, 0.0, 1.0, 1)],
)
def test_shares_decide_what_sequences_are_made_of(sources, real, stills, still, color):
    config = replace(REAL, real=real, stills=stills, still=still)
    for index in range(5):
        light = draw_sequence(sources, config, index)[1].float().mean((0, 2, 3))
        assert light[color] > 20
        assert light[1 - color] == 0


def test_nearly_still_sequences_are_as_good_as_sharp_and_the_others_are_not(sources):
    no_objects = replace(CONFIG.footage, motion=replace(PLAIN, objects=(1.0,)))
    config = replace(CONFIG, real=0.0, stills=0.0, footage=no_objects)

    def blurs(still: float) -> Tensor:
        drawn = [
            draw_sequence(sources, replace(config, still=still), index) / 255 for index in range(8)
        ]
        return torch.stack([psnr(*pair).clamp(max=60).mean() for pair in drawn])

    assert blurs(1.0).min() > 35
    assert blurs(0.0).mean() < blurs(1.0).mean() - 8


def test_without_videos_photos_are_filmed_and_the_other_way_round(sources):
    config = replace(REAL, stills=0.0)
    photos = draw_sequence(Sources(sources.photos, [], []), config, 0)[1].float().mean((0, 2, 3))
    assert photos[1] == photos.sum() > 20
    config = replace(config, real=0.0)
    videos = draw_sequence(Sources([], [], sources.videos), config, 0)[1].float().mean((0, 2, 3))
    assert videos[0] == videos.sum() > 20


def test_blur_outside_the_accepted_range_is_drawn_anew(sources):
    config = replace(CONFIG, real=0.0, still=0.0, footage=FootageConfig(blur=(0.5, 12)))

    def strengths(accepted: tuple[float, float]) -> Tensor:
        drawn = [
            draw_sequence(sources, replace(config, blur_psnr=accepted), index) / 255
            for index in range(12)
        ]
        return torch.stack([psnr(*pair).clamp(max=60).mean() for pair in drawn])

    # A few do not find any in four tries; a fifth of a dB is for rounding to 8 bits.
    assert (strengths((0.0, 33.0)) > 33.2).sum() <= 2 < (strengths(ANY) > 33.2).sum()


def test_a_real_sequence_is_the_light_of_tau_frames_around_each_sharp_one():
    levels = torch.arange(0, 240, 2, dtype=torch.uint8)
    video = levels[:, None, None, None].expand(-1, 3, 40, 40)  # brighter by 2 a frame
    config = replace(REAL, real_windows=RealConfig(taus=(7,), half=0.0, calm=99.0))
    for seed in range(8):
        pair = real_sequence(Sources([], [], [video]), np.random.default_rng(seed), config)
        blurry, sharp = pair
        assert sharp.shape == (4, 3, 16, 16)
        centers = (sharp * 255).mean((1, 2, 3))
        periods = (centers.diff() / 2).round()
        assert periods.unique().numel() == 1
        assert 7 <= periods[0] < 14
        for frame, center in zip(blurry, centers, strict=True):
            window = (center + torch.arange(-6, 7, 2))[:, None, None, None] / 255
            assert frame.mean() == pytest.approx(float(reblur(window).mean()), abs=1e-5)


def test_half_size_averages_four_pixels():
    board = torch.tensor([[0, 200], [200, 0]], dtype=torch.uint8).repeat(20, 20)
    video = board.expand(30, 3, -1, -1)
    config = replace(REAL, real_windows=RealConfig(half=1.0, calm=99.0))
    _, sharp = real_sequence(Sources([], [], [video]), np.random.default_rng(0), config)
    assert sharp.shape == (4, 3, 16, 16)
    assert sharp.unique().tolist() == pytest.approx([100 / 255])


def test_the_shutter_suits_the_length_of_the_video():
    drawn = [random_shutter(np.random.default_rng(n), (7, 9, 15), 400, 13) for n in range(120)]
    assert {s.tau for s in drawn} == {7, 9, 15}
    assert all(s.tau <= s.period < 2 * s.tau for s in drawn)
    assert {s.period - s.tau for s in drawn if s.tau == 7} == set(range(7))
    for length in (8, 50, 130):
        for n in range(30):
            shutter = random_shutter(np.random.default_rng(n), (7, 9, 15), length, 13)
            assert shutter.tau <= length
            assert shutter.length(13) <= length or shutter.period == shutter.tau


def test_a_short_video_is_played_to_and_fro():
    assert to_and_fro(np.arange(9), 4).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert to_and_fro(np.arange(3), 1).tolist() == [0, 0, 0]
    config = replace(REAL, frames=13)
    pair = real_sequence(Sources([], [], [panning(12)]), np.random.default_rng(0), config)
    assert [len(part) for part in pair] == [13, 13]


@pytest.mark.parametrize("step", [1, 2, 4])
def test_speed_is_that_of_a_known_motion(step):
    video = panning(9, step, side=128, seed=3)
    smooth = torch.nn.functional.avg_pool2d(video.float(), 9, 1)
    found = speed_of(smooth[:-1], smooth[1:])
    assert found.shape == (8,)
    assert 0.6 * step < found.mean() < 1.7 * step
    assert speed_of(smooth, smooth).tolist() == [0.0] * 9


def test_noise_on_a_flat_picture_is_not_taken_for_motion():
    frames = 100 + torch.randn(5, 3, 96, 96)
    assert speed_of(frames[:-1], frames[1:]).max() < 1.0


def test_videos_that_move_too_fast_are_filmed_from_instead(sources):
    fast = Sources([], [], [panning(60, step=20, side=64)])
    config = replace(REAL, real_windows=RealConfig(half=0.0, calm=2.0))
    assert real_sequence(fast, np.random.default_rng(0), config) is None
    assert draw_sequence(fast, config, 0).shape == (2, 4, 3, 16, 16)


def test_a_video_shorter_than_every_tau_is_left_out():
    short = Sources([], [], [panning(6)])
    assert real_sequence(short, np.random.default_rng(0), REAL) is None


def test_a_bank_holds_the_sequences_that_are_drawn_one_by_one(sources, tmp_path):
    folder = tmp_path / "bank"
    assert list(build_bank(sources, CONFIG, folder)) == [3]
    stored = np.load(folder / "sequences.npy")
    assert stored.shape == (3, 2, 4, 3, 16, 16)
    for index in range(3):
        assert np.array_equal(stored[index], draw_sequence(sources, CONFIG, index).numpy())
    assert list(build_bank(sources, CONFIG, folder)) == []
    assert is_complete(folder, CONFIG)
    with pytest.raises(DatasetError, match="bank: holds a bank of another config"):
        list(build_bank(sources, replace(CONFIG, seed=1), folder))


def test_a_bank_of_nothing_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="two scenes at least"):
        list(build_bank(Sources([], [], []), CONFIG, tmp_path / "bank"))


def test_a_bank_of_photos_is_not_one_of_sequences(tiny_bank):
    with pytest.raises(DatasetError, match="no bank of sequences there"):
        SequenceCrops(tiny_bank, frames=3, size=16, seed=0)


def test_a_crop_is_a_function_of_seed_and_index(exact_bank):
    crops, again = (SequenceCrops(exact_bank, frames=4, size=16, seed=3) for _ in range(2))
    blurry, sharp = crops[5]
    assert blurry.shape == sharp.shape == (4, 3, 16, 16)
    assert torch.equal(again[10**9][0], crops[10**9][0])
    assert torch.equal(again[5][0], blurry)
    assert not torch.equal(crops[6][0], blurry)
    other = SequenceCrops(exact_bank, frames=4, size=16, seed=4)
    assert not torch.equal(other[5][0], blurry)


def test_blurry_and_sharp_are_cut_flipped_and_recoloured_alike(exact_bank):
    crops = SequenceCrops(exact_bank, frames=4, size=16, seed=0, noise=0, jpeg=0)
    for index in range(60):
        blurry, sharp = crops[index]
        assert (blurry - sharp * 2 / 3).abs().max() < 0.51 / 255


def test_crops_are_of_consecutive_frames_at_one_place_in_every_orientation(tmp_path):
    # Place, color and time can be read off the pixels.
    y, x = torch.meshgrid(torch.arange(20), torch.arange(20), indexing="ij")
    frame = torch.stack([y * 2 + 10, x * 2 + 80, torch.full_like(x, 160)])
    frames = frame.expand(1, 2, 7, -1, -1, -1).byte().clone()
    frames[:, :, :, 2] += torch.arange(7, dtype=torch.uint8)[:, None, None]
    bank = save_sequences(tmp_path / "known", frames)
    crops = SequenceCrops(bank, frames=5, size=16, seed=0, noise=0, jpeg=0)
    orientations, colors, starts, corners = set(), set(), set(), set()
    for index in range(400):
        sharp = (crops[index][1] * 255).round().int()
        order = tuple(sharp[0].amax((1, 2)).argsort().tolist())
        rows, columns, times = (sharp[:, color] for color in order)
        assert (rows == rows[:1]).all()
        moments = times[:, 0, 0] - 160
        assert moments.diff().abs().tolist() == [1] * 4
        transposed = bool(rows[0, 0, 0] == rows[0, -1, 0])
        flips = rows[0, 0, 0] > rows[0, -1, -1], columns[0, 0, 0] > columns[0, -1, -1]
        orientations.add((transposed, *map(bool, flips), bool(moments[0] > moments[1])))
        colors.add(order)
        starts.add(int(moments.min()))
        corners.add((int(rows.min()), int(columns.min())))
    assert (len(orientations), len(colors), len(starts), len(corners)) == (16, 6, 3, 25)


def test_noise_and_jpeg_are_in_the_blurry_frames_alone(tmp_path):
    gray = torch.full((1, 2, 3, 3, 32, 32), 128, dtype=torch.uint8)
    bank = save_sequences(tmp_path / "gray", gray)
    noisy = SequenceCrops(bank, frames=3, size=32, seed=0, jpeg=0)
    items = [noisy[index] for index in range(100)]
    assert all((sharp == 128 / 255).all() for _, sharp in items)
    deviations = torch.stack([blurry.std() for blurry, _ in items])
    assert 35 <= (deviations > 1e-6).sum() <= 65
    assert 0.008 < deviations.max() < 0.0105
    textured = (make_picture(32, 32) * 255).byte().expand(1, 2, 3, -1, -1, -1)
    worn = SequenceCrops(save_sequences(tmp_path / "t", textured), frames=3, size=32, seed=0)
    worn.noise, worn.jpeg = 0, 1
    blurry, sharp = worn[0]
    assert 20 < psnr(blurry, sharp).min() < 45


def test_an_exposure_begins_every_period_and_whole_ones_count():
    shutter = Shutter(tau=5, period=8)
    assert [shutter.length(n) for n in (1, 2, 3)] == [5, 13, 21]
    for frames, whole in ((0, 0), (4, 0), (5, 1), (12, 1), (13, 2), (21, 3)):
        video = [torch.full((3, 4, 4), n / 40) for n in range(frames)]
        pairs = list(expose_video(iter(video), shutter))
        assert len(pairs) == whole
        for number, (_, sharp) in enumerate(pairs):
            assert torch.equal(sharp, video[8 * number + 2])


def test_exposed_frames_are_averages_of_light():
    video = torch.rand(20, 3, 8, 8)
    (first, _), (second, _) = expose_video(video, Shutter(7, 9))
    assert (first - reblur(video[:7])).abs().max() < 1e-6
    assert (second - reblur(video[9:16])).abs().max() < 1e-6


def test_a_still_video_is_unchanged_by_exposure(picture):
    for blurry, sharp in expose_video([picture] * 21, Shutter(7, 7)):
        assert (blurry - picture).abs().max() < 1e-6
        assert torch.equal(sharp, picture)


def test_a_short_exposure_of_one_frame_is_that_frame(picture):
    (pair,) = expose_video([picture], Shutter(1, 1))
    assert (pair[0] - picture).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("tau", "period", "message"),
    [(8, 9, "odd"), (0, 3, "at least one"), (-3, 3, "at least one"), (7, 6, "cannot begin")],
)
def test_a_shutter_that_cannot_be_is_refused(tau, period, message):
    with pytest.raises(UsageError, match=message):
        Shutter(tau, period)
