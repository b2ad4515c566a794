"""Scores of video networks, and `b2v eval` on videos through `main()`."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from command_line import (
    assert_one_line,
    plain_surroundings,
    run_main,
    write_tiny_cascade,
    write_tiny_prior,
)
from conftest import make_picture
from test_dtb import small_net
from test_evaluate import moving, write_window

from b2v.data.exposure import Shutter
from b2v.defaults import PHOTO_MODEL
from b2v.errors import DatasetError, MediaError
from b2v.evaluate import (
    ClipScore,
    find_videos,
    has_videos,
    score_video,
    ssim,
    summarize_videos,
)
from b2v.inference.videos import Deblurrer
from b2v.media.images import read_photo, write_photo
from b2v.media.video_reader import open_video
from b2v.metrics import psnr, reblur
from b2v.models import VIDEO, Blueprint
from b2v.models.dtb import DTB, DTBConfig, VideoState
from b2v.weights.checkpoints import Card, card_entry, file_name, save_network, write_card

SMALL = {"stem": 8, "features": 4, "encoder_blocks": 1, "decoder_blocks": 1}
SHUTTER = Shutter(3, 5)
PHOTO_CARD = f"weights/{PHOTO_MODEL}.json"


def save_video(path, frames, *, step=1, seed=0):
    """Write a lossless video of 40 x 24 pixels whose texture moves `step` pixels a frame."""
    scene = (make_picture(24, 40 + step * frames, seed) * 255).byte().permute(1, 2, 0).numpy()
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 40, 24, "bgr0"
        for n in range(frames):
            view = np.ascontiguousarray(scene[:, step * n : step * n + 40])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        file.mux(stream.encode())
    return path


def frames_of(path):
    with open_video(path) as reader:
        return torch.stack([frame.pixels for frame in reader])


def deblurrer(net=None, **config):
    net = DTB(DTBConfig(**{**SMALL, **config})) if net is None else net
    return Deblurrer(weights=net, device="cpu", precision="fp32")


@pytest.mark.parametrize("inputs", [3, 5, 7])
def test_an_untrained_network_scores_as_doing_nothing_exactly(tmp_path, inputs):
    path = save_video(tmp_path / "pan.mkv", 21)
    score = score_video(deblurrer(inputs=inputs), path, SHUTTER)
    assert (score.name, score.frames) == ("pan.mkv", 4)
    assert (score.psnr, score.ssim) == (score.nothing_psnr, score.nothing_ssim)
    assert 10 < score.psnr < 40


def test_doing_nothing_is_the_average_of_light_against_its_center(tmp_path):
    path = save_video(tmp_path / "pan.mkv", 14)
    video = frames_of(path)
    pairs = [(reblur(video[n : n + 3]), video[n + 1]) for n in (0, 5, 10)]
    score = score_video(deblurrer(), path, SHUTTER)
    expected = torch.stack([psnr(*pair) for pair in pairs]).mean()
    assert score.nothing_psnr == pytest.approx(float(expected), abs=1e-3)
    expected = sum(ssim(*pair) for pair in pairs) / 3
    assert score.nothing_ssim == pytest.approx(expected, abs=1e-4)
    moves = [(pairs[n + 1][0] - pairs[n][0]).abs().mean() for n in range(2)]
    truth = [(pairs[n + 1][1] - pairs[n][1]).abs().mean() for n in range(2)]
    assert score.steadiness == pytest.approx(float(sum(moves) / sum(truth)), abs=1e-4)
    assert score.nothing_steadiness == score.steadiness


@pytest.mark.parametrize("m", [1, 2, 3])
def test_restored_frames_are_compared_with_those_they_come_from(tmp_path, m):
    """A network that turns the center frame into its negative scores as that, however late."""
    path = save_video(tmp_path / "pan.mkv", 26, step=3)
    video = frames_of(path)
    centers = [5 * n + 1 for n in range(5)]
    net = DTB(DTBConfig(**SMALL, variant="cnn", inputs=2 * m + 1))
    net.forward = lambda window, _: (1 - window[:, m], VideoState())
    score = score_video(deblurrer(net), path, SHUTTER)
    pairs = [(1 - reblur(video[n - 1 : n + 2]), video[n]) for n in centers]
    assert score.frames == 5
    assert score.psnr == pytest.approx(float(torch.stack([psnr(*p) for p in pairs]).mean()), 1e-4)


def test_a_still_video_moves_nowhere(tmp_path):
    score = score_video(deblurrer(), save_video(tmp_path / "x.mkv", 16, step=0), SHUTTER)
    assert score.steadiness is None
    assert score.nothing_psnr > 99


def test_equal_pictures_have_a_hundred_decibels(tmp_path):
    path = save_video(tmp_path / "pan.mkv", 5)
    score = score_video(deblurrer(), path, Shutter(1, 1))
    assert score.frames == 5
    assert score.psnr > 99
    assert score.steadiness == pytest.approx(1.0, abs=1e-4)


def test_a_video_of_one_exposure_has_no_steadiness(tmp_path):
    path = save_video(tmp_path / "short.mkv", 7)
    score = score_video(deblurrer(), path, Shutter(7, 7))
    assert (score.frames, score.steadiness) == (1, None)
    said = summarize_videos([score], "short.mkv", "dtb", Shutter(7, 7))
    assert said["steadiness"] is None


def test_one_video_leaves_nothing_behind_for_the_next(tmp_path):
    paths = [save_video(tmp_path / f"{n}.mkv", 16, seed=n) for n in range(2)]
    net = small_net()
    one = deblurrer(net)
    together = [score_video(one, path, SHUTTER) for path in paths]
    alone = [score_video(deblurrer(net), path, SHUTTER) for path in paths]
    assert together == alone


def test_frames_are_read_as_they_are_needed(tmp_path, monkeypatch):
    """Never are more frames on their way than the window and one exposure hold."""
    path = save_video(tmp_path / "long.mkv", 60)
    begun, ahead = [0], []
    real = Deblurrer.step

    def step(self, frame):
        begun[0] += 1
        restored = real(self, frame)
        ahead.append(begun[0] - self._given)
        return restored

    monkeypatch.setattr(Deblurrer, "step", step)
    assert score_video(deblurrer(inputs=5), path, SHUTTER).frames == 12
    assert max(ahead) == 2


def test_videos_of_a_folder_are_sorted_and_nothing_else(tmp_path):
    for name in ("b.mp4", "a.MKV", "._b.mp4", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "deeper.mp4").mkdir()
    assert [p.name for p in find_videos(tmp_path)] == ["a.MKV", "b.mp4"]
    assert find_videos(tmp_path / "b.mp4") == [tmp_path / "b.mp4"]
    with pytest.raises(DatasetError, match="nowhere: no such file or folder"):
        find_videos(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="holds no videos"):
        find_videos(tmp_path / "deeper.mp4")


def test_a_folder_of_frames_is_a_video_and_scores_as_the_file(tmp_path):
    path = save_video(tmp_path / "pan.mkv", 14)
    for n, frame in enumerate(frames_of(path)):
        (tmp_path / "set" / "pan").mkdir(parents=True, exist_ok=True)
        write_photo(frame, tmp_path / "set" / "pan" / f"{n:06d}.png")
    (folder,) = find_videos(tmp_path / "set")
    assert find_videos(folder) == [folder]
    assert has_videos(folder)
    assert has_videos(tmp_path / "set")
    score = score_video(deblurrer(), folder, SHUTTER)
    assert replace(score, name="pan.mkv") == score_video(deblurrer(), path, SHUTTER)
    for n in range(9):
        (tmp_path / "photos").mkdir(exist_ok=True)
        write_photo(make_picture(24, 40, n), tmp_path / "photos" / f"kodim{n:02d}.png")
    assert not has_videos(tmp_path / "photos")
    (tmp_path / "pairs").mkdir()
    for half in ("input", "target"):
        shutil.copytree(folder, tmp_path / "pairs" / half)
    assert not has_videos(tmp_path / "pairs")  # a set of windows


def test_a_video_too_short_and_a_file_that_is_none_are_named(tmp_path):
    path = save_video(tmp_path / "short.mkv", 4)
    with pytest.raises(DatasetError, match=r"short\.mkv: has 4 frames; .* tau 5 needs 5"):
        score_video(deblurrer(), path, Shutter(5, 5))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(MediaError, match=r"text\.mp4"):
        score_video(deblurrer(), tmp_path / "text.mp4", SHUTTER)


def test_a_set_is_the_mean_of_its_clips_however_long_they_are():
    long = ClipScore("a", 90, 30.0, 0.9, 20.0, 0.7, 0.5, 0.4)
    short = replace(long, name="b", frames=10, psnr=20.0, ssim=0.5, nothing_psnr=18.0)
    still = replace(short, name="c", steadiness=None)
    said = summarize_videos([long, short], "set", "dtb", Shutter(7, 9))
    assert (said["frames"], said["tau"], said["period"]) == (100, 7, 9)
    assert (said["psnr"], said["ssim"]) == (25.0, pytest.approx(0.7))
    assert said["nothing"] == {"psnr": 19.0, "ssim": pytest.approx(0.7), "steadiness": 0.4}
    assert summarize_videos([long, still], "set", "dtb", Shutter(7, 9))["steadiness"] == 0.5


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path):
    """`b2v(*args)` in a folder with the videos `videos/{a,b}.mkv` and models for both uses."""
    weights = tmp_path / "weights"
    write_tiny_prior(weights)
    plan = Blueprint("dtb", DTBConfig(**SMALL))
    path = weights / file_name("dtb", VIDEO)
    save_network(plan.build().state_dict(), plan, VIDEO, path)
    write_card(Card(name="dtb", license="MIT", networks={VIDEO: card_entry(path)[1]}), weights)
    plain_surroundings(monkeypatch, tmp_path, weights)
    (tmp_path / "videos").mkdir()
    save_video(tmp_path / "videos" / "b.mkv", 23)
    save_video(tmp_path / "videos" / "a.mkv", 18, step=2, seed=1)
    return lambda *args: run_main(capsys, *args)


def test_of_videos_the_model_for_videos_is_taken(b2v, tmp_path):
    for name in ("videos", "videos/a.mkv"):
        ran = b2v("eval", name, "--weights", "weights/dtb.json", "--tau", 3, "--json", "-q")
        assert json.loads(ran.out)["model"] == "dtb"
    (tmp_path / "weights" / "dtb-video.safetensors").rename("weights/blend-video.safetensors")
    Path("weights/dtb.json").unlink()
    for quality, name in {"fast": "blend", "good": PHOTO_MODEL}.items():
        args = ("--quality", quality, "--tau", 3, "--json", "-q")
        assert json.loads(b2v("eval", "videos", *args).out)["model"] == name


def test_json_has_exactly_these_keys(b2v):
    ran = b2v("eval", "videos", "-m", "dtb", "--tau", 3, "--period", 5, "--json", "-q")
    said = json.loads(ran.out)
    assert (ran.code, ran.err, ran.out.count("\n")) == (0, "", 1)
    keys = ["set", "model", "tau", "period", "frames", "psnr", "ssim", "nothing", "clips"]
    assert set(said) == {*keys, "steadiness"}
    assert set(said["nothing"]) == {"psnr", "ssim", "steadiness"}
    clip = ["name", "frames", "psnr", "ssim", "nothing", "steadiness"]
    assert [list(c) for c in said["clips"]] == [clip, clip]
    assert [(c["name"], c["frames"]) for c in said["clips"]] == [("a.mkv", 4), ("b.mkv", 5)]
    assert (said["set"], said["model"], said["tau"], said["period"]) == ("videos", "dtb", 3, 5)
    assert said["frames"] == 9
    assert said["psnr"] == said["nothing"]["psnr"] == sum(c["psnr"] for c in said["clips"]) / 2
    assert said["ssim"] == said["nothing"]["ssim"]


def test_one_video_is_a_set_too_and_the_period_is_tau_by_default(b2v):
    said = json.loads(b2v("eval", "videos/b.mkv", "-m", "dtb", "--tau", 5, "--json").out)
    assert (said["set"], said["tau"], said["period"], said["frames"]) == ("b.mkv", 5, 5, 4)
    said = json.loads(b2v("eval", "videos/b.mkv", "-m", "dtb", "--json").out)
    assert (said["tau"], said["period"], said["frames"]) == (11, 11, 2)


def test_a_table_shows_every_video_and_the_mean(b2v):
    ran = b2v("eval", "videos", "-m", "dtb", "--tau", 3)
    assert ran.code == 0
    for word in ("tau", "a.mkv", "b.mkv", "dtb", "nothing", "+0.00", "SSIM", "steady"):
        assert word in ran.out
    assert ran.err.startswith("1 of 2: a.mkv")


def test_a_file_of_weights_decides_what_is_scored(b2v):
    file = "weights/dtb-video.safetensors"
    said = json.loads(b2v("eval", "videos/a.mkv", "--weights", file, "--tau", 3, "--json").out)
    assert said["model"] == "dtb-video"


def test_several_exposures_and_weights_are_rows(b2v, tmp_path):
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "dtb-video.safetensors").write_bytes(
        (tmp_path / "weights" / "dtb-video.safetensors").read_bytes()
    )
    both = ("--weights", "weights", "--weights", "again", "-m", "dtb")
    ran = b2v("eval", "videos", *both, "--tau", 3, "--tau", 5, "--json", "--csv", "x.csv", "-q")
    said = json.loads(ran.out)
    assert list(said) == ["set", "rows"]
    assert [(row["model"], row["tau"]) for row in said["rows"]] == [
        ("weights", 3),
        ("weights", 5),
        ("again", 3),
        ("again", 5),
    ]
    alone = b2v("eval", "videos", "-m", "dtb", "--tau", 5, "--json").out
    assert {**said["rows"][1], "model": "dtb"} == json.loads(alone)
    lines = list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
    assert [(x["model"], x["tau"], x["clip"]) for x in lines[:3]] == [
        ("weights", "3", "a.mkv"),
        ("weights", "3", "b.mkv"),
        ("weights", "5", "a.mkv"),
    ]
    assert float(lines[0]["psnr"]) == pytest.approx(said["rows"][0]["clips"][0]["psnr"], abs=1e-6)


def test_a_table_of_several_exposures_has_nothing_beside_each(b2v):
    ran = b2v("eval", "videos", "-m", "dtb", "--tau", 3, "--tau", 5, "--period", 5, "-q")
    assert ran.code == 0
    assert ran.out.count("nothing") == 2
    assert ran.out.count("+0.00") == 2
    assert "period" in ran.out


def test_psnr_over_tau_can_be_drawn_and_strips_written(b2v, tmp_path):
    pytest.importorskip("matplotlib")
    b2v("eval", "videos", "-m", "dtb", "--tau", 3, "--tau", 5, "--plot", "x.png", "--strips", "s")
    assert read_photo(tmp_path / "x.png").pixels.shape == (3, 660, 1080)
    strips = sorted(path.name for path in (tmp_path / "s").iterdir())
    assert [name.split("_")[0] for name in strips] == [
        f"{kind}-{n}" for kind in ("best", "worst") for n in (1, 2, 3)
    ]
    assert all("+0.00dB" in name for name in strips)
    assert read_photo(tmp_path / "s" / strips[0]).pixels.shape == (
        3,
        8 + 24 + 24 + 8,
        3 * (8 + 96) + 8,
    )


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("videos", "-m", "dtb", "--tau", 4), 2, ["tau is 4", "odd"]),
        (("videos", "-m", "dtb", "--tau", 0), 2, ["tau is 0"]),
        (("videos", "-m", "dtb", "--tau", 5, "--period", 3), 2, ["period is 3"]),
        (("videos", "-m", "dtb", "--tau", 21), 1, ["a.mkv", "18 frames", "21"]),
        (("weights/dtb.json", "-m", "dtb"), 1, ["dtb.json"]),
        (("nowhere.mp4", "-m", "dtb"), 1, ["nowhere.mp4: no such file"]),
        (("windows", "-m", "dtb"), 1, ["windows: holds no videos", f"-m {PHOTO_MODEL}"]),
        (("videos", "--weights", "four"), 2, ["videos: ", "-m blend"]),
        (("videos/a.mkv", "--weights", "four"), 2, ["a.mkv", "-m blend"]),
        (("windows", "--tau", 3), 2, ["--tau and --period are for video"]),
        (("videos", "-m", "dtb", "--scale", 0.5), 2, ["--scale is for photos"]),
        (("videos", "-m", "dtb", "--protocol", "middle"), 2, ["--protocol is for photos"]),
        (
            ("videos", "-m", "dtb", "--weights", "four", "--weights", "weights"),
            2,
            ["cannot be compared", "seven", "video"],
        ),
        (("videos", "-m", "nobody"), 3, ["nobody"]),
    ],
)
def test_what_does_not_suit_is_one_line(b2v, tmp_path, args, code, words):
    write_window(tmp_path / "windows", moving(), moving()[3])
    write_tiny_cascade(tmp_path / "four")
    assert_one_line(b2v("eval", *args, "-q"), code, *words)
