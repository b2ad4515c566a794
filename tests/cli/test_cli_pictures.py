"""Pictures of unusual kinds through `b2v extract`: what they have is kept, or said in a line."""

import json

import numpy as np
import pytest
import torch
from command_line import assert_one_line, names_in, plain_surroundings, run_main
from command_line import write_tiny_prior as write_weights
from conftest import make_picture
from PIL import Image

from b2v.frames import to_codes
from b2v.media.images import read_photo, write_photo
from b2v.media.video_reader import open_video


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path):
    write_weights(tmp_path / "weights")
    (tmp_path / "work").mkdir()
    plain_surroundings(monkeypatch, tmp_path / "work", tmp_path / "weights")
    return lambda *args: run_main(capsys, *args)


def test_transparency_is_kept_in_frames_of_png(b2v):
    alpha = np.tile(np.linspace(0, 255, 48).astype(np.uint8), (40, 1))
    Image.fromarray(np.dstack([to_codes(make_picture(40, 48)), alpha])).save("veil.png")
    assert b2v("extract", "veil.png", "-o", "frames/", "-q").code == 0
    blurry = read_photo("veil.png")
    for name in names_in("frames"):
        frame = read_photo(f"frames/{name}")
        assert torch.equal(frame.alpha, blurry.alpha)
        assert (frame.on_white() - blurry.on_white()).abs().mean() < 0.1


def test_sixteen_bits_are_kept_in_frames_of_png(b2v):
    ramp = torch.linspace(0.2, 0.3, 48).expand(3, 40, -1)
    write_photo(ramp, "deep.png", bits=16)
    assert b2v("extract", "deep.png", "-o", "frames/", "-q").code == 0
    frames = [read_photo(f"frames/{name}") for name in names_in("frames")]
    assert [frame.bits for frame in frames] == [16] * 7
    assert len(frames[3].pixels.unique()) > 256


def test_frames_are_tiff_where_that_is_asked_for(b2v):
    write_photo(torch.linspace(0.2, 0.3, 48).expand(3, 40, -1), "deep.png", bits=16)
    seven = [f"{number:06d}.tiff" for number in range(1, 8)]
    assert b2v("extract", "deep.png", "-f", "tiff", "-q").out == "deep_b2v\n"
    assert b2v("extract", "deep.png", "-f", "tiff", "-o", "frames.v1/", "-q").code == 0
    assert names_in("deep_b2v") == names_in("frames.v1") == seven
    frames = [read_photo(f"frames.v1/{name}") for name in seven]
    assert [frame.bits for frame in frames] == [16] * 7
    assert len(frames[3].pixels.unique()) > 256
    b2v("extract", "deep.png", "-o", "png/", "-q")
    for frame, name in zip(frames, names_in("png"), strict=True):
        assert torch.equal(frame.pixels, read_photo(f"png/{name}").pixels)
    wrong = b2v("extract", "deep.png", "-f", "tiff", "-o", "out.mp4")
    assert_one_line(wrong, 2, "out.mp4: is not tiff")
    wrong = b2v("extract", "deep.png", "-o", "frames_%d.tiff")
    assert_one_line(wrong, 2, "name a folder", "--format tiff")


@pytest.mark.parametrize(
    ("options", "made", "codec"),
    [
        (("--codec", "hevc"), "photo_b2v.mp4", "hevc"),
        (("--codec", "prores"), "photo_b2v.mkv", "prores"),
        (("-o", "clip.webm"), "clip.webm", "vp9"),
        (("-f", "mov", "--order", "boomerang", "--loop", "2"), "photo_b2v.mov", "h264"),
    ],
    ids=str,
)
def test_a_clip_is_coded_as_asked_for(b2v, options, made, codec):
    write_photo(make_picture(48, 64), "photo.png")
    ran = b2v("extract", "photo.png", *options, "-q")
    assert (ran.code, ran.out) == (0, f"{made}\n")
    with open_video(made) as video:
        assert (video.info.codec, video.info.width, video.info.height) == (codec, 64, 48)
        assert "estimate" in "".join(video.info.tags.values())
        assert len(list(video)) == (24 if "--loop" in options else 7)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-o", "clip.mp4", "--codec", "prores"), ["clip.mp4: cannot hold prores; use h264"]),
        (("-o", "clip.gif", "--codec", "av1"), ["clip.gif: has no --codec"]),
        (("-f", "png", "--codec", "av1"), ["photo_b2v: has no --codec"]),
        (("-o", "clip.mkv", "--codec", "av1"), ["clip.mkv: av1 cannot keep the odd size 47x31"]),
        (("-o", "clip.mkv", "--loop", "21"), ["a video can be repeated 20 times at most"]),
    ],
    ids=str,
)
def test_a_pair_of_suffix_and_codec_that_cannot_be_is_a_line(b2v, options, words):
    write_photo(make_picture(31, 47), "photo.png")
    assert_one_line(b2v("extract", "photo.png", *options), 2, *words)
    assert names_in(".") == ["photo.png"]


def test_a_photo_of_eight_bits_gives_frames_of_eight_bits_without_alpha(b2v, picture):
    write_photo(picture, "plain.png")
    assert b2v("extract", "plain.png", "-o", "frames/", "-q").code == 0
    for name in names_in("frames"):
        frame = read_photo(f"frames/{name}")
        assert (frame.bits, frame.alpha) == (8, None)


def test_of_several_pictures_in_a_file_the_first_is_taken_and_said(b2v, picture):
    first, other = (Image.fromarray(to_codes(p)) for p in (picture, 1 - picture))
    first.save("pages.tif", save_all=True, append_images=[other])
    first.save("page.tif")
    ran = b2v("extract", "pages.tif", "--json")
    assert any("has 2 pictures; only the first is used" in n for n in json.loads(ran.out)["notes"])
    alone = json.loads(b2v("extract", "page.tif", "--json").out)
    assert not any("first one" in note for note in alone["notes"])
    assert alone["reblur_db"] == json.loads(ran.out)["reblur_db"]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_a_picture_too_narrow_for_the_networks_is_refused_in_a_line(b2v, size):
    Image.new("RGB", size).save("narrow.png")
    ran = b2v("extract", "narrow.png")
    assert_one_line(ran, 1, "narrow.png", f"{size[0]}x{size[1]} pixels", "16x16")
    assert names_in(".") == ["narrow.png"]
