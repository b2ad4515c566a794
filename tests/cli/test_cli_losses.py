"""What an output lacks of its input is told: with --quiet, in --json, and streams may be closed."""

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import tifffile
from conftest import make_picture
from forks import posix
from PIL import Image
from video_samples import ffmpeg, make_video

from b2v.media.images import read_photo, write_photo


def lost_sound():
    make_video("plain.mp4", audio="aac")
    ffmpeg("-i", "plain.mp4", "-c:v", "mpeg4", "-c:a", "adpcm_ms", "a.avi")


def veiled():
    filters = ["-vf", "format=yuva420p,colorchannelmixer=aa=.5", "-c:v", "libvpx-vp9"]
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=64x48:d=0.3", *filters, "-pix_fmt", "yuva420p", "a.webm"
    )


def veiled_rgb():
    filters = ["-vf", "format=rgba,colorchannelmixer=aa=.5", "-c:v", "qtrle"]
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:d=0.3", *filters, "a.mov")


def whole_colors():
    make_video("a.mp4", pix_fmt="yuv444p")


def deep():
    make_video("a.mp4", pix_fmt="yuv420p10le")


LOSSES = {
    "a.avi": (lost_sound, "out.webm", "audio stream 1 (adpcm_ms) cannot be kept in .webm"),
    "a.webm": (veiled, "out.mp4", "it has transparency, which is not kept"),
    "a.mov": (veiled_rgb, "out.mp4", "it has transparency, which is not kept"),
    "444": (whole_colors, "out.mp4", "4:4:4"),
    "10 bits": (deep, "out.mp4", "10 bits of each color became 8"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_what_a_video_loses_is_told_with_quiet_and_in_json(b2v, name):
    make, target, said = LOSSES[name]
    make()
    (source,) = Path().glob("a.*")
    ran = b2v("deblur", str(source), "-o", target, "-q")
    assert (ran.code, ran.out) == (0, f"{target}\n")
    assert said in ran.err
    assert all(line.startswith((target, source.name)) for line in ran.err.splitlines())
    ran = b2v("deblur", str(source), "-o", target, "--overwrite", "--json", "-q")
    assert ran.err == ""
    assert any(said in line for line in json.loads(ran.out)["lost"])


def test_what_is_kept_is_not_told_as_lost(b2v):
    make_video("plain.mp4", audio="aac")
    assert b2v("deblur", "plain.mp4", "-o", "out.mp4", "-q") == (0, "out.mp4\n", "")
    colors = [Image.new("RGB", (64, 48), color) for color in ("red", "blue")]
    colors[0].save("a.gif", save_all=True, append_images=colors[1:])
    assert b2v("deblur", "a.gif", "-o", "gif.mp4", "-q").err == ""
    make_video("deep.mp4", pix_fmt="yuv444p10le")
    ran = b2v("deblur", "deep.mp4", "-o", "out.mkv", "--pix-fmt", "yuv444p10le", "-q")
    assert ran.err == ""


def test_what_a_photo_loses_is_told_with_quiet_and_in_json(b2v):
    write_photo(make_picture(32, 48), "deep.png", bits=16)
    codes = (make_picture(32, 48) * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.dstack([codes, np.full((32, 48, 1), 99, np.uint8)])).save("veil.png")
    tifffile.imwrite("float.tif", 1.2 * codes / np.float32(255), photometric="rgb")
    for photo, said in (
        ("deep.png", ".mp4 has 8 of the 16 bits"),
        ("veil.png", ".mp4 cannot be transparent"),
        ("float.tif", "float values are taken for sRGB-encoded; what is above 1 was cut"),
    ):
        ran = b2v("extract", photo, "-o", "a.mp4", "-q", "--overwrite")
        assert said in ran.err
        ran = b2v("extract", photo, "-o", "a.mp4", "--overwrite", "--json")
        assert any(said in line for line in json.loads(ran.out)["lost"])
    assert b2v("extract", "deep.png", "-o", "frames", "-q").err == ""


@posix
@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_the_result_does_not_depend_on_streams_that_are_open(b2v, driver, tmp_path, closed):
    driver.folder = tmp_path
    driver.run("extract", "photo.png", "-o", "out.png", closed=closed)
    assert read_photo("out.png").pixels.shape == (3, 32, 48)
    driver.run("extract", "photo.png", "-o", "out.png", "-q", code=2, closed=closed)  # it exists


@posix
def test_a_process_may_begin_without_any_stream(b2v):
    command = f"{sys.executable} -m b2v extract photo.png -o out.png >&- 2>&- <&-"
    subprocess.run(["sh", "-c", command], check=True)
    assert read_photo("out.png").pixels.shape == (3, 32, 48)


def test_libraries_do_not_talk_beside_us(tmp_path):
    """SVT-AV1 of itself, and libtiff of what is damaged."""
    codes = (make_picture(60, 60) * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(codes).save(tmp_path / "a.tif", compression="tiff_lzw")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[200:240] = bytes(40)
    (tmp_path / "a.tif").write_bytes(data)
    script = f"""
import torch
from b2v.errors import MediaError
from b2v.media.clips import Clip
from b2v.media.images import read_photo
Clip(torch.rand(3, 3, 64, 64), 10).save({str(tmp_path / "a.mkv")!r}, codec="av1")
try:
    read_photo({str(tmp_path / "a.tif")!r})
except MediaError:
    pass
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    with av.open(str(tmp_path / "a.mkv")) as file:
        assert "av1" in file.streams.video[0].codec_context.codec.canonical_name
