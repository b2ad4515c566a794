"""Comparisons, filmstrips, pages, maps and metadata, as `b2v extract` and `deblur` write them."""

import json
import re
from pathlib import Path

import av
import pytest
import torch
from command_line import (
    assert_one_line,
    listing,
    names_in,
    plain_surroundings,
    run_main,
    write_tiny_prior,
)
from conftest import make_picture, read_clip
from PIL import ExifTags, Image
from video_samples import HEIGHT, WIDTH, drawing, ffmpeg

from b2v.cli.clip_outputs import timing, told
from b2v.media.images import read_photo, write_photo
from b2v.media.video_reader import open_video

H, W = 32, 48
GPS = ExifTags.GPS


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_tiny_prior(folder)
    return folder


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path, weights):
    """`b2v(*args)` in a folder with `photo.jpg` of 1/15 s, which says where it was taken."""
    plain_surroundings(monkeypatch, tmp_path, weights)
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "EOS R5"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = 1 / 15
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[GPS.GPSLatitudeRef], gps[GPS.GPSLatitude] = "N", (48.0, 51.0, 29.88)
    gps[GPS.GPSLongitudeRef], gps[GPS.GPSLongitude] = "E", (2.0, 17.0, 40.2)
    write_photo(make_picture(H, W), "plain.png")
    with Image.open("plain.png") as image:
        image.save("photo.jpg", exif=exif, quality=98)
    Path("plain.png").unlink()
    return lambda *args: run_main(capsys, *args)


def gps_of(path):
    with Image.open(path) as image:
        return image.getexif().get_ifd(ExifTags.IFD.GPSInfo)


# Seeing


@pytest.mark.parametrize(("way", "size"), [("side", (H, 2 * W)), ("stack", (2 * H, W))])
def test_a_comparison_has_the_photo_beside_every_frame(b2v, way, size):
    assert b2v("extract", "photo.jpg", "-o", "plain", "-q").code == 0
    ran = b2v("extract", "photo.jpg", "-o", "both", "--compare", way, "--json")
    assert json.loads(ran.out)["size"] == [size[1], size[0]]
    both, frames = read_clip("both").frames, read_clip("plain").frames
    assert both.shape == (7, 3, *size)
    first, second = both.chunk(2, 3 if way == "side" else 2)
    assert torch.equal(second, frames)
    assert (first - read_photo("photo.jpg").pixels).abs().max() < 0.51 / 255


def test_all_that_is_asked_for_is_written_in_one_run(b2v):
    names = ("--filmstrip", "strip.png", "--html", "page.html", "--reblur", "heat.png")
    assert b2v("extract", "photo.jpg", *names).code == 0
    assert names_in(".") == ["heat.png", "page.html", "photo.jpg", "photo_b2v.mp4", "strip.png"]
    strip, heat = read_photo("strip.png").pixels, read_photo("heat.png").pixels
    assert strip.shape[2] > 8 * W
    first = strip[:, 8 : 8 + H, 8 + 24 : 8 + 24 + W]  # in the middle of a cell of 96 pixels
    assert (first - read_photo("photo.jpg").pixels).abs().max() < 0.51 / 255
    assert heat.shape == (3, H, W)
    page = Path("page.html").read_text()
    assert page.count('class="after"') == 7
    assert "105 fps" in page
    assert re.search(r'data-view="\d+ \d+ 2"', page)
    assert not re.search(r"\bdB\b|explain", re.sub(r'data:image[^"]*', "", page))


def test_a_reversed_clip_has_its_strip_and_page_reversed_too(b2v):
    write_photo(make_picture(H, W, seed=1), "sharp.png")  # which no blur made the photo of
    for order in ("forward", "reverse"):
        names = ("--filmstrip", f"{order}.png", "-o", f"{order}.mp4", "-q")
        names = (*names, "--middle", "sharp.png")
        assert b2v("extract", "photo.jpg", "--order", order, *names).code == 0
    one, other = (read_photo(f"{order}.png").pixels for order in ("forward", "reverse"))
    cell = 96 + 8
    first, last = one[:, 8:40, cell : cell + cell], one[:, 8:40, 7 * cell : 8 * cell]
    assert torch.equal(other[:, 8:40, cell : cell + cell], last)
    assert not torch.equal(first, last)


def test_several_photos_have_folders_for_what_is_shown(b2v):
    Path("two.jpg").write_bytes(Path("photo.jpg").read_bytes())
    refused = b2v("extract", "photo.jpg", "two.jpg", "--html", "page.html")
    assert_one_line(refused, 2, "page.html", "name a folder")
    assert b2v("extract", "photo.jpg", "two.jpg", "--html", "pages", "-q").code == 0
    assert names_in("pages") == ["photo_b2v.html", "two_b2v.html"]


@pytest.mark.parametrize(
    ("option", "name", "why"),
    [
        ("--filmstrip", "strip.gif", "unknown suffix"),
        ("--html", "page.png", "unknown suffix"),
        ("--reblur", "none/heat.png", "does not exist"),
        ("--reblur", "photo.jpg", "is the input"),
        ("--filmstrip", "there.png", "exists already"),
    ],
)
def test_what_cannot_be_written_is_found_out_before_any_work(b2v, option, name, why):
    Path("there.png").write_bytes(b"mine")
    before = listing(".")
    assert_one_line(b2v("extract", "photo.jpg", option, name), 1 if "none" in name else 2, why)
    assert listing(".") == before


def test_two_outputs_of_one_name_are_refused(b2v):
    before = listing(".")
    ran = b2v("extract", "photo.jpg", "--filmstrip", "a.png", "--reblur", "a.png")
    assert_one_line(ran, 2, "a.png", "two outputs")
    assert listing(".") == before


# Proof


def test_the_exposure_time_becomes_real_time(b2v):
    ran = b2v("extract", "photo.jpg")
    assert "1/15 s over seven frames: 105 fps, played 10.5x slower than life\n" in ran.err
    said = json.loads(b2v("extract", "photo.jpg", "--json", "--fps", "210", "--overwrite").out)
    assert said["exposure"]["seconds"] == pytest.approx(1 / 15, abs=1e-6)
    assert said["exposure"]["fps"] == pytest.approx(105, abs=1e-3)
    assert said["exposure"]["slower"] == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1 / 15, "1/15 s"), (0.0333, "1/30 s"), (1 / 8000, "1/8000 s"), (0.5, "0.5 s"), (2.0, "2 s")],
)
def test_exposure_times_are_told_as_cameras_do(seconds, words):
    assert told(timing(seconds, 10))[0].startswith(f"{words} over seven frames")


def test_frames_played_faster_than_life_are_said_to_be():
    assert told(timing(2.0, 7))[0].endswith("3.5 fps")
    assert told(timing(2.0, 7))[1] == "played 2x faster than life"


# Provenance


def test_the_clip_says_what_made_it_and_not_where(b2v):
    said = json.loads(b2v("extract", "photo.jpg", "-o", "clip.webp", "--json").out)
    assert said["provenance"]["sha256"] == said["model"]["sha256"]
    with Image.open("clip.webp") as image:
        exif = image.getexif()
        assert said["model"]["sha256"] in exif[ExifTags.Base.ImageDescription]
        assert exif[ExifTags.Base.Model] == "EOS R5"
    assert gps_of("clip.webp") == {}
    assert b2v("extract", "photo.jpg", "-o", "gps.webp", "--keep-gps", "-q").code == 0
    assert gps_of("gps.webp")[GPS.GPSLatitude] == pytest.approx((48.0, 51.0, 29.88))


def test_strip_metadata_leaves_nothing_in_any_file(b2v):
    names = ("--filmstrip", "strip.png", "--html", "page.html", "--reblur", "heat.webp")
    ran = b2v("extract", "photo.jpg", "-o", "clip.mp4", *names, "--strip-metadata", "--json")
    assert json.loads(ran.out)["provenance"] is None
    with av.open("clip.mp4") as file:
        assert not {"comment", "description", "date", "location"} & set(file.metadata)
    for name in ("strip.png", "heat.webp"):
        with Image.open(name) as image:
            assert dict(image.getexif()) == {}
            assert not {"Description", "b2v", "exif"} & set(image.info)
    assert "sha256 " not in re.sub(r"<meta[^>]*>", "", Path("page.html").read_text())
    both = b2v("extract", "photo.jpg", "--strip-metadata", "--keep-gps", "-o", "c.mp4")
    assert_one_line(both, 2, "--strip-metadata", "--keep-gps")


# Videos


@pytest.fixture
def video(b2v):
    """`walk.mp4` that says where it was taken, who made it, and in which language."""
    frames = torch.stack([drawing(number) for number in range(12)])
    from b2v.media.clips import Clip

    Clip(frames, 12).save("silent.mp4")
    tags = {"title": "A walk", "artist": "Owner", "location": "+48.2000+016.3000/"}
    said = [part for key, text in tags.items() for part in ("-metadata", f"{key}={text}")]
    tone = ["-f", "lavfi", "-i", "sine=duration=1", "-metadata:s:a:0", "language=deu"]
    ffmpeg("-i", "silent.mp4", *tone, *said, "-c:v", "copy", "-c:a", "aac", "walk.mp4")
    Path("silent.mp4").unlink()
    return "walk.mp4"


@pytest.mark.parametrize("compare", [(), ("--compare", "stack")])
def test_a_video_has_its_strip_and_page(b2v, video, compare):
    names = ("--filmstrip", "strip.png", "--html", "page.html", "-o", "out.mp4", *compare)
    ran = b2v("deblur", video, *names, "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["provenance"]["note"] == "estimated, not evidence"
    page = Path("page.html").read_text()
    assert page.count('class="before"') == page.count('class="after"') == 12
    assert f"12 frames of {WIDTH}×{HEIGHT}" in page
    strip = read_photo("strip.png").pixels
    assert strip.shape[1:] == (2 * (8 + HEIGHT + 24) + 8, 6 * (96 + 8) + 8)
    with open_video(video) as reader:
        first = next(iter(reader)).pixels
    shown = strip[:, 8 : 8 + HEIGHT, 8 + 16 : 8 + 16 + WIDTH]
    assert (shown - first).abs().mean() < 0.02


def test_part_of_a_video_is_shown_beside_the_same_part(b2v, video):
    names = ("--filmstrip", "strip.png", "--start", "0.5", "-o", "out.mp4", "-q")
    assert b2v("deblur", video, *names).code == 0
    with open_video(video, 0.5) as reader:
        first = next(iter(reader)).pixels
    shown = read_photo("strip.png").pixels[:, 8 : 8 + HEIGHT, 8 + 16 : 8 + 16 + WIDTH]
    assert (shown - first).abs().mean() < 0.02


def test_a_pipe_cannot_be_shown(b2v, video):
    ran = b2v("deblur", video, "-o", "-", "--html", "page.html")
    assert_one_line(ran, 2, "cannot be read again")


def test_a_video_loses_its_metadata_and_keeps_its_languages(b2v, video):
    assert b2v("deblur", video, "-o", "out.mp4", "--strip-metadata", "-q").code == 0
    with av.open("out.mp4") as file:
        kept = set(file.metadata) - {"major_brand", "minor_version", "compatible_brands"}
        assert kept <= {"encoder"}
        assert file.streams.audio[0].metadata["language"] == "deu"
    assert b"Owner" not in Path("out.mp4").read_bytes()


def test_a_video_keeps_what_it_says_beside_what_made_it(b2v, video):
    assert b2v("deblur", video, "-o", "out.mp4", "-q").code == 0
    with av.open("out.mp4") as file:
        tags = dict(file.metadata)
    assert (tags["title"], tags["artist"]) == ("A walk", "Owner")
    assert "location" not in tags
    assert tags["comment"].startswith("estimated, not evidence")
    assert len(json.loads(tags["description"])["sha256"]) == 64


@pytest.mark.parametrize("taken", [("comment",), ("comment", "description")])
def test_what_a_video_says_of_itself_stays(taken):
    from b2v.media.metadata import beside_what_is_said

    said = {"comment": "made", "description": "{}"}
    there = {key.upper(): "mine" for key in taken}
    added = beside_what_is_said(said, there)
    assert added == ({"description": "{}"} if len(taken) == 1 else {"comment": "mine | made"})
    assert beside_what_is_said({}, there) == {}


def test_clips_made_in_python_say_what_made_them_too(b2v):
    import b2v as package

    package.extract("photo.jpg").save("clip.mp4")
    with av.open("clip.mp4") as file:
        tags = dict(file.metadata)
    assert tags["comment"].startswith("estimated, not evidence: made by b2v")
    assert json.loads(tags["description"])["photo"]["Model"] == "EOS R5"
    assert "location" not in tags
