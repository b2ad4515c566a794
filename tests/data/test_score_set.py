"""The sets of bundled photographs that every machine makes alike."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from command_line import run_main

from b2v.data.footage import find_windows, read_samples
from b2v.data.score_set import BLUR_PSNR, EACH, PHOTOS, SIZE, clips, find_set, windows
from b2v.evaluate import find_videos
from b2v.metrics import psnr, reblur

SHA256 = "6e20b9283d643fa21dd1b5ecb0eb049e3396cea5a5b987b463949735e1fd8a80"
SHA256_VIDEO = "7b43dd0228b6b8d9d71fb53fa3463cea4d2563108e56a1da6d72f6b21f2a893f"


@pytest.fixture(scope="module")
def drawn():
    return list(windows())


def digest(pictures):
    return hashlib.sha256(b"".join(codes.numpy().tobytes() for codes in pictures)).hexdigest()


def test_every_machine_makes_the_same_code_values(drawn):
    assert digest(codes for _, blurry, sharp in drawn for codes in (blurry, sharp)) == SHA256


def test_every_machine_makes_the_same_clips_of_a_camera_in_motion(capsys, monkeypatch, tmp_path):
    drawn = list(clips())
    assert digest(frames for _, frames in drawn) == SHA256_VIDEO
    for _, frames in drawn:
        assert frames.shape == (65, 3, SIZE, SIZE)
        steps = (frames[1:] / 255 - frames[:-1] / 255).abs().mean((1, 2, 3))
        assert 0.002 < steps.min() < steps.max() < 0.08
    monkeypatch.setattr("b2v.data.score_set.clips", lambda: [(n, f[:9]) for n, f in drawn])
    monkeypatch.setenv("B2V_CACHE", str(tmp_path / "cache"))
    folder = find_set(Path("bundled-video"))
    assert [path.name for path in find_videos(folder)] == list(PHOTOS)
    ran = run_main(capsys, "eval", "bundled-video", "--quality", "fast", "--tau", 3, "--json", "-q")
    said = json.loads(ran.out)
    assert (said["set"], said["model"], said["frames"]) == ("bundled-video", "blend", 12)


def test_windows_are_blurred_by_a_motion_that_their_frames_explain(drawn):
    names = []
    for name, blurry, sharp in drawn:
        names.append(name)
        assert (blurry.shape, sharp.shape) == ((3, SIZE, SIZE), (7, 3, SIZE, SIZE))
        blurry, sharp = blurry / 255, sharp / 255
        assert BLUR_PSNR[0] <= float(psnr(blurry, sharp[3])) <= BLUR_PSNR[1]
        assert psnr(reblur(sharp), blurry) > psnr(sharp[3], blurry) + 0.3
        assert not torch.equal(sharp[0], sharp[6])
    assert len(set(names)) == len(PHOTOS) * EACH == len(names)


def test_the_set_is_made_once_and_scored_by_its_name(drawn, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("b2v.data.score_set.windows", lambda: drawn)
    monkeypatch.setenv("B2V_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folder = find_set(Path("bundled"))
    assert len(find_windows(folder)) == len(PHOTOS) * EACH
    assert next(read_samples(find_windows(folder))).sharp.shape == (7, 3, SIZE, SIZE)
    monkeypatch.setattr("b2v.data.score_set.windows", None)
    assert find_set(Path("bundled")) == folder
    monkeypatch.setenv("B2V_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr("b2v.data.score_set.windows", lambda: drawn[:2])
    ran = run_main(capsys, "eval", "bundled", "--quality", "fast", "--protocol", "middle", "--json")
    assert json.loads(ran.out)["samples"] == 2
    assert run_main(capsys, "eval", "nowhere").err == (
        "b2v: nowhere: no such file or folder; check the name\n"
    )
