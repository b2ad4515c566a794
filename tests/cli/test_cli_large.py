"""`b2v extract` of pictures that are large: what is said, refused and kept within."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from command_line import (
    assert_one_line,
    names_in,
)
from conftest import make_picture
from PIL import Image

from b2v.cli.options import parse_bytes
from b2v.errors import UsageError
from b2v.frames import to_codes
from b2v.inference.images import plan_for
from b2v.media.images import center, read_photo, write_photo
from b2v.media.metadata import encode


@pytest.mark.parametrize(
    ("text", "size"),
    [("6G", 6e9), ("6GiB", 6 * 2**30), ("800m", 8e8), ("1.5 GB", 1.5e9), (None, None)],
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "6", "G", "-1G", "1e3G", "6T", "6G!"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="expected a size such as 6G"):
        parse_bytes(text)


def test_a_photo_that_does_not_fit_is_one_line_that_says_what_it_takes(b2v, tmp_path):
    ran = b2v("extract", "photo.png", "--max-memory", "1M", "-q")
    assert_one_line(ran, 1, "photo.png: 48x32 pixels need", "0.0 GB may be used", "--max-memory")
    assert names_in(tmp_path) == ["photo.png"]
    assert_one_line(b2v("extract", "photo.png", "--max-memory", "lots"), 2, "--max-memory lots")


def test_a_long_run_is_announced_with_its_time_and_memory(b2v, monkeypatch):
    monkeypatch.setattr("b2v.inference.images.seconds_for", lambda *_, **__: 83.4)
    ran = b2v("extract", "photo.png", "--json")
    (line,) = [line for line in ran.err.splitlines() if "will take" in line]
    assert line.startswith("photo.png: 48x32 pixels will take about 83 s and ")
    assert json.loads(ran.out)["ok"]
    monkeypatch.setattr("b2v.inference.images.seconds_for", lambda *_, **__: 19.0)
    assert "will take" not in b2v("extract", "photo.png", "--overwrite").err


def test_a_preview_is_the_middle_of_the_photo_and_tells_what_all_of_it_takes(
    b2v, tmp_path, monkeypatch
):
    monkeypatch.setattr("b2v.inference.images.seconds_for", lambda *_, **__: 83.4)
    write_photo(make_picture(32, 48, 1), "middle.png")
    ran = b2v("extract", "photo.png", "--preview", "16", "--middle", "middle.png", "-f", "png")
    assert "photo.png: 48x32 pixels would take about 83 s and " in ran.err
    from conftest import read_clip

    from b2v.media.images import read_photo

    found = read_clip(tmp_path / "photo_preview_b2v").frames
    assert found.shape == (7, 3, 16, 16)
    middle = read_photo("middle.png").pixels[:, 8:24, 16:32]
    assert (found[3] - middle).abs().max() <= 0.5 / 255 + 1e-6
    ran = b2v("extract", "photo.png", "--preview", "400", "-o", "all/", "-q")
    assert ran.code == 0
    assert ran.err == ""
    assert read_clip(tmp_path / "all").frames.shape == (7, 3, 32, 48)


def test_a_preview_is_made_though_all_of_the_photo_would_not_fit(b2v, tmp_path, monkeypatch):
    def small_ones_only(net, height, width, *args, **kwargs):
        limit = None if height <= 16 else 1e6
        return plan_for(net, height, width, *args, **{**kwargs, "max_memory": limit})

    monkeypatch.setattr("b2v.inference.images.plan_for", small_ones_only)
    ran = b2v("extract", "photo.png", "--preview", "16", "-f", "png")
    assert ran.code == 0
    assert "photo.png: the whole photo does not fit: 48x32 pixels need" in ran.err
    assert len(names_in(tmp_path / "photo_preview_b2v")) == 7
    assert b2v("extract", "photo.png", "-f", "png").code == 1


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "16 bits", "tif", "float"])
def test_the_middle_alone_is_the_middle_of_all(tmp_path, kind, turn):
    pixels, path = make_picture(31, 50), tmp_path / ("a.png" if kind[0] in "p1" else "a.tif")
    codes = to_codes(
        torch.cat([pixels, make_picture(31, 50, 2)[:1]]), 16 if kind == "16 bits" else 8
    )
    if kind in ("png", "tif"):
        exif = Image.Exif()
        exif[0x112] = turn
        Image.fromarray(codes).save(path, exif=exif)
    elif kind == "float":
        tag = (0x112, "H", 1, turn, True)
        values, alpha = codes / np.float32(255), ["unassalpha"]
        tifffile.imwrite(path, values, photometric="rgb", extrasamples=alpha, extratags=[tag])
    else:
        path.write_bytes(encode(codes, "PNG"))
    whole = read_photo(path)
    for side in (20, 21, 40, 60):
        part = read_photo(path, side=side)
        assert torch.equal(part.pixels, center(whole.pixels, side))
        assert torch.equal(part.alpha, center(whole.alpha, side))


def test_a_small_file_of_many_pixels_is_refused_before_they_are_decoded(b2v, monkeypatch):
    Image.new("L", (9000, 9000)).save("bomb.png", compress_level=9)
    monkeypatch.setattr("b2v.media.images.read_photo", None)
    assert Path("bomb.png").stat().st_size < 200_000
    ran = b2v("extract", "bomb.png", "-o", "a.mp4", "-q")
    assert_one_line(ran, 2, "a.mp4: 9000x9000 pixels are too many", "folder for PNG")
    ran = b2v("extract", "bomb.png", "-o", "a", "--max-memory", "1G", "-q")
    assert_one_line(ran, 1, "9000x9000 pixels need", "--max-memory")


def test_a_picture_that_no_mp4_holds_is_refused_before_the_run(b2v, monkeypatch):
    monkeypatch.setattr("b2v.files.MOST", {".mp4": (40, 1000)})
    monkeypatch.setattr("b2v.inference.images.restore", None)
    ran = b2v("extract", "photo.png", "-q")
    assert_one_line(ran, 2, "photo_b2v.mp4: 48x32 pixels are too many", "folder for PNG")
