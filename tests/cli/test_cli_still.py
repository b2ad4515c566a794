"""One sharp picture from `b2v extract`, through `main()`: the middle frame, and how much of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import (
    assert_one_line,
    frames_of,
    listing,
    names_in,
    plain_surroundings,
    run_main,
    write_tiny_prior,
)
from conftest import make_picture
from PIL import ExifTags, Image, features
from test_media_photo import swapped_profile

from b2v.files import STILLS
from b2v.frames import to_codes
from b2v.media import images
from b2v.media.images import read_photo, write_photo

H, W = 47, 63
BASE, IFD, GPS = ExifTags.Base, ExifTags.IFD, ExifTags.GPS
TURNED = 6
"""Of EXIF: the picture is shown a quarter turn clockwise from how it is stored."""
CLOSE = {".png": 0.5, ".tif": 0.5, ".jpg": 6, ".avif": 6, ".webp": 20}
"""Mean difference, in code values, that a kind of file may make; WebP halves the colors."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_tiny_prior(folder)
    return folder


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path, weights):
    """`b2v(*args)` in a folder with `photo.png`, 63 x 47 pixels; results are exact."""
    plain_surroundings(monkeypatch, tmp_path, weights)
    write_photo(make_picture(H, W), "photo.png")
    return lambda *args: run_main(capsys, *args, "--precision", "fp32")


@pytest.fixture
def turned(b2v):
    """`turned.jpg`, stored on its side, that tells its camera, its place and its owner."""
    exif = Image.Exif()
    exif[BASE.Model], exif[BASE.Orientation], exif[BASE.Artist] = "EOS R5", TURNED, "Owner Name"
    exif.get_ifd(IFD.Exif)[BASE.ExposureTime] = 1 / 15
    gps = exif.get_ifd(IFD.GPSInfo)
    gps[GPS.GPSLatitudeRef], gps[GPS.GPSLatitude] = "N", (48.0, 51.0, 29.88)
    with Image.open("photo.png") as image:
        image.save("turned.jpg", exif=exif, quality=98)
    return "turned.jpg"


def kinds(*suffixes):
    """These suffixes, AVIF only where Pillow can write it."""
    no_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF here")
    return [
        pytest.param(suffix, marks=no_avif) if suffix == ".avif" else suffix for suffix in suffixes
    ]


def exif_of(path):
    with Image.open(path) as image:
        image.load()
        return image.getexif()


def codes_apart(one, other):
    """Mean difference of two pictures, in code values of 8 bits."""
    return float((one - other).abs().mean()) * 255


# The picture


@pytest.mark.parametrize("suffix", kinds(*CLOSE))
def test_it_is_the_middle_frame_at_the_size_of_the_photo(b2v, suffix):
    b2v("extract", "photo.png", "-o", "frames", "-q")
    more = () if suffix != ".webp" else ("--still",)
    ran = b2v("extract", "photo.png", "-o", f"sharp{suffix}", "-q", *more)
    assert ran == (0, f"sharp{suffix}\n", "")
    sharp = read_photo(f"sharp{suffix}")
    assert sharp.pixels.shape == (3, H, W)
    assert (sharp.bits, sharp.alpha, sharp.pages) == (8, None, 1)
    assert codes_apart(sharp.pixels, frames_of("frames")[3]) < CLOSE[suffix]


def test_jpeg_keeps_the_colors_of_every_pixel(b2v):
    b2v("extract", "photo.png", "-o", "sharp.jpg")
    with Image.open("sharp.jpg") as image:
        assert {(across, down) for _, across, down, _ in image.layer} == {(1, 1)}


@pytest.mark.parametrize("frames", [5, 13])
def test_the_middle_is_the_same_however_many_frames_there_are(b2v, frames):
    b2v("extract", "photo.png", "-o", "seven.png")
    b2v("extract", "photo.png", "-o", "more.png", "--frames", frames, "--filmstrip", "strip.png")
    assert torch.equal(read_photo("more.png").pixels, read_photo("seven.png").pixels)


@pytest.mark.parametrize("suffix", kinds(".jpg", ".png", ".tif", ".avif"))
def test_it_is_upright_once_and_tells_its_camera_but_not_its_place(b2v, turned, suffix):
    b2v("extract", turned, "-o", "frames", "-q")
    b2v("extract", turned, "-o", f"sharp{suffix}", "-q")
    sharp, exif = read_photo(f"sharp{suffix}"), exif_of(f"sharp{suffix}")
    assert sharp.pixels.shape == (3, W, H)
    assert codes_apart(sharp.pixels, frames_of("frames")[3]) < CLOSE[suffix]
    assert exif.get(BASE.Orientation, 1) == 1
    assert exif[BASE.Model] == "EOS R5"
    assert exif.get_ifd(IFD.Exif)[BASE.ExposureTime] == pytest.approx(1 / 15)
    assert "made by b2v" in exif[BASE.ImageDescription]
    assert exif.get_ifd(IFD.GPSInfo) == {}
    assert b"Owner Name" not in Path(f"sharp{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", kinds(".jpg", ".png", ".tif", ".avif"))
def test_the_place_is_kept_and_all_is_left_out_when_that_is_asked_for(b2v, turned, suffix):
    b2v("extract", turned, "-o", f"place{suffix}", "--keep-gps")
    b2v("extract", turned, "-o", f"silent{suffix}", "--strip-metadata")
    gps = exif_of(f"place{suffix}").get_ifd(IFD.GPSInfo)
    assert gps[GPS.GPSLatitude] == pytest.approx((48.0, 51.0, 29.88))
    silent = exif_of(f"silent{suffix}")
    assert not {BASE.Model, BASE.Software, BASE.ImageDescription} & set(silent)
    assert silent.get_ifd(IFD.GPSInfo) == {}
    assert b"b2v" not in Path(f"silent{suffix}").read_bytes()


def test_no_profile_is_named_since_the_photo_was_brought_to_srgb(b2v):
    wide = Image.open("photo.png")
    wide.save("wide.png", icc_profile=swapped_profile())
    b2v("extract", "wide.png", "-o", "sharp.png", "--strength", 0)
    with Image.open("sharp.png") as image:
        assert "icc_profile" not in image.info
    assert codes_apart(read_photo("sharp.png").pixels, read_photo("photo.png").pixels) > 5
    assert codes_apart(read_photo("sharp.png").pixels, read_photo("wide.png").pixels) < 0.01


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
def test_sixteen_bits_are_kept(b2v, suffix):
    write_photo(0.2 + 0.1 * make_picture(H, W), "deep.png", bits=16)
    ran = b2v("extract", "deep.png", "-o", f"sharp{suffix}", "-q")
    sharp = read_photo(f"sharp{suffix}")
    assert (ran.err, sharp.bits) == ("", 16)
    assert len(sharp.pixels.unique()) > 256


def veiled():
    """Write `veil.png`, more opaque from left to right, and return its alpha."""
    alpha = np.tile(np.linspace(0, 255, W).astype(np.uint8), (H, 1))
    Image.fromarray(np.dstack([to_codes(make_picture(H, W)), alpha])).save("veil.png")
    return read_photo("veil.png").alpha


@pytest.mark.parametrize("suffix", kinds(".png", ".tif", ".webp", ".avif"))
def test_transparency_is_kept(b2v, suffix):
    alpha = veiled()
    ran = b2v("extract", "veil.png", "--still", "-o", f"sharp{suffix}", "-q")
    sharp = read_photo(f"sharp{suffix}")
    assert (ran.code, ran.err) == (0, "")
    assert (sharp.alpha - alpha).abs().mean() < (0.03 if suffix == ".avif" else 1e-6)


def test_what_jpeg_cannot_have_is_told_even_when_quiet(b2v):
    veiled()
    write_photo(make_picture(H, W), "deep.png", bits=16)
    ran = b2v("extract", "veil.png", "-o", "veil.jpg", "--strength", 0, "-q")
    assert ran.err == "veil.jpg: JPEG cannot be transparent; the picture is laid on white\n"
    white = read_photo("veil.png").on_white()
    assert codes_apart(read_photo("veil.jpg").pixels, white) < CLOSE[".jpg"]
    ran = b2v("extract", "deep.png", "-o", "deep.jpg", "-q")
    assert ran.err == "deep.jpg: JPEG has 8 of the 16 bits of each color; .png and .tif have all\n"


def test_webp_is_played_unless_one_picture_is_asked_for(b2v):
    b2v("extract", "photo.png", "-o", "played.webp")
    b2v("extract", "photo.png", "-o", "still.webp", "--still")
    with Image.open("played.webp") as played, Image.open("still.webp") as one:
        assert (played.n_frames, one.n_frames) == (7, 1)
        assert played.size == one.size == (W, H)


def test_what_shows_all_frames_goes_beside_one_picture_too(b2v):
    shown = ("--filmstrip", "strip.png", "--html", "page.html", "--reblur", "heat.png")
    assert b2v("extract", "photo.png", "-o", "sharp.jpg", *shown).code == 0
    assert names_in(".") == [
        *("heat.png", "page.html", "photo.png"),
        *("sharp.jpg", "strip.png"),
    ]
    assert Path("page.html").read_text().count('class="after"') == 7


def test_json_and_the_line_of_text_tell_of_one_picture(b2v, turned):
    said = json.loads(b2v("extract", turned, "--still", "--json").out)
    assert (said["output"], said["frames"], said["size"]) == ("turned_sharp.jpg", 1, [H, W])
    assert not [note for note in said["notes"] if "played" in note]  # one picture is not played
    ran = b2v("extract", turned, "--still", "--overwrite", "-v")
    assert f"turned.jpg: one picture of {H}x{W} in " in ran.err
    assert "seven frames reproduce the photo to " in ran.err
    assert "played" not in ran.err


# Its strength


def test_strength_0_gives_the_photo_back_and_1_the_frames(b2v):
    photo = read_photo("photo.png").pixels
    b2v("extract", "photo.png", "-o", "full")
    for strength, name in ((0, "none"), (0.5, "half"), (1, "whole")):
        b2v("extract", "photo.png", "-o", name, "--strength", strength)
    assert torch.equal(frames_of("none"), photo.expand(7, -1, -1, -1))
    assert torch.equal(frames_of("whole"), frames_of("full"))
    mean = (frames_of("full") + photo) / 2
    assert (frames_of("half") - mean).abs().max() < 1.01 / 255
    b2v("extract", "photo.png", "-o", "none.png", "--strength", 0)
    b2v("extract", "photo.png", "-o", "half.png", "--strength", 0.5)
    assert torch.equal(read_photo("none.png").pixels, photo)
    assert torch.equal(read_photo("half.png").pixels, frames_of("half")[3])


def test_strength_0_keeps_sixteen_bits_and_transparency(b2v):
    write_photo(make_picture(H, W), "deep.png", bits=16)
    b2v("extract", "deep.png", "--still", "--strength", 0)
    assert torch.equal(read_photo("deep_sharp.png").pixels, read_photo("deep.png").pixels)
    alpha = veiled()
    b2v("extract", "veil.png", "--still", "--strength", 0)
    assert torch.equal(read_photo("veil_sharp.png").alpha, alpha)
    assert (
        codes_apart(read_photo("veil_sharp.png").on_white(), read_photo("veil.png").on_white()) < 1
    )


def test_a_file_tells_its_strength_only_where_that_is_not_1(b2v):
    full = json.loads(b2v("extract", "photo.png", "-o", "full.png", "--json").out)
    half = ("extract", "photo.png", "-o", "half.png", "--strength", 0.5, "--json")
    assert "strength" not in full["provenance"]
    assert json.loads(b2v(*half).out)["provenance"]["strength"] == 0.5
    told = {}
    for name in ("full.png", "half.png"):
        with Image.open(name) as image:
            told[name] = dict(image.info)
    assert "strength" not in str(told["full.png"])
    assert told["half.png"]["Description"].endswith(", at strength 0.5 over the photo")
    assert json.loads(told["half.png"]["b2v"])["strength"] == 0.5


@pytest.mark.parametrize("strength", ["-0.1", "1.1", "nan", "strong"])
def test_a_strength_that_cannot_be_is_refused(b2v, strength):
    assert_one_line(b2v("extract", "photo.png", "--strength", strength), 2, "--strength")


# Where it goes


@pytest.mark.parametrize(
    ("photo", "options", "made"),
    [
        ("a.jpg", ("--still",), "a_sharp.jpg"),
        ("a.JPG", ("--still",), "a_sharp.JPG"),
        ("a.tif", ("--still",), "a_sharp.tif"),
        ("a.webp", ("--still",), "a_sharp.webp"),
        ("a.bmp", ("--still",), "a_sharp.jpg"),
        ("a.jpg", ("--still", "-f", "png"), "a_sharp.png"),
        ("a.png", ("--still", "-f", "tiff"), "a_sharp.tiff"),
        ("a.png", ("--still", "-f", "webp"), "a_sharp.webp"),
        ("a.png", ("-f", "jpg"), "a_sharp.jpg"),
        ("a.png", ("-f", "jpg", "-o", "b.jpeg"), "b.jpeg"),
        ("a.png", ("-f", "tiff", "-o", "b.tif"), "b.tif"),
        ("a.png", ("--still", "-o", "new/"), "new/a_sharp.png"),
        ("a.png", ("--still", "--preview", "20"), "a_preview_b2v.png"),
        ("a.png", ("-f", "png"), "a_b2v"),
        ("a.png", ("-f", "webp"), "a_b2v.webp"),
        ("a.png", ("-o", "there.png"), "there.png"),
    ],
    ids=str,
)
def test_the_name_says_what_it_is(b2v, photo, options, made):
    Path("there.png").mkdir()  # a folder, whatever its name: seven frames go there
    with Image.open("photo.png") as image:
        image.save(photo)
    ran = b2v("extract", photo, *options, "-n")
    assert ran == (0, f"{photo} -> {made}\n", "")


def test_a_folder_called_like_a_picture_has_frames_and_a_new_one_is_made(b2v):
    Path("there.png").mkdir()
    b2v("extract", "photo.png", "-o", "there.png", "-q")
    assert len(names_in("there.png")) == 7
    b2v("extract", "photo.png", "--still", "-o", "new/", "--preview", 20, "-q")
    assert names_in("new") == ["photo_preview_b2v.png"]
    assert read_photo("new/photo_preview_b2v.png").pixels.shape == (3, 20, 20)


PLACES = ["a", "day1/b", "day2/deep/c"]


@pytest.fixture
def trip():
    for place in PLACES:
        target = Path("trip", place).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(Path("photo.png").read_bytes())


def test_a_folder_becomes_a_tree_of_sharp_pictures(b2v, trip):
    meant = [f"sharp/{place}_sharp.png" for place in PLACES]
    common = ("extract", "trip", "-r", "-o", "sharp", "--still")
    planned = b2v(*common, "-n")
    assert [line.split(" -> ")[1] for line in planned.out.splitlines()] == meant
    assert not Path("sharp").exists()
    first = b2v(*common, "-q", "--shard", "1/2")
    assert (first.code, first.out.split()) == (0, [meant[0], meant[2]])
    before = Path(meant[0]).read_bytes()
    rest = b2v(*common, "--skip-existing")
    assert (rest.code, rest.out.split()) == (0, meant)
    assert rest.err.endswith("\n1 done, 0 failed, 2 skipped\n")
    assert sorted(str(path) for path in Path("sharp").rglob("*.*")) == meant
    assert Path(meant[0]).read_bytes() == before
    again = b2v(*common, "-q")
    assert (again.code, again.err.count("exists already")) == (2, 3)
    other = b2v(*common, "-q", "--overwrite", "--strength", 0)
    assert (other.code, other.out.split()) == (0, meant)
    assert Path(meant[0]).read_bytes() != before


def test_sharp_pictures_beside_their_photos_are_not_taken_again(b2v, trip):
    meant = [f"trip/{place}_sharp.png" for place in PLACES]
    assert b2v("extract", "trip", "-r", "--still", "-q").out.split() == meant
    before = listing(".")
    again = b2v("extract", "trip", "-r", "--still", "--skip-existing")
    assert (again.code, again.err) == (0, "0 done, 0 failed, 3 skipped\n")
    assert listing(".") == before


def test_kinds_of_pictures_are_called_as_pillow_calls_them():
    assert {suffix: Image.registered_extensions()[suffix] for suffix in STILLS} == STILLS


# What cannot be


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-o", "a.jpg", "--compare", "side"), ["--compare and --codec are for clips"]),
        (("-o", "a.jpg", "--codec", "h264"), ["--compare and --codec are for clips"]),
        (("-f", "mp4", "--still"), ["--format mp4 is a clip, not one picture; use webp, png"]),
        (("-f", "mp4", "-o", "a.jpg"), ["--format mp4 is a clip"]),
        (("-f", "png", "-o", "a.jpg"), ["a.jpg: is not png"]),
        (("-o", "a.mp4", "--still"), ["a.mp4: unknown suffix", ".png, .jpg, .jpeg"]),
        (("-o", "a", "--still"), ["a: unknown suffix", ".png, .jpg, .jpeg"]),
        (("-o", "there.jpg"), ["there.jpg: exists already"]),
        (("-o", "photo.png", "--overwrite"), ["photo.png: is the input"]),
        (("-o", "other.png", "--middle", "other.png", "--overwrite"), ["is the input other.png"]),
        (("-o", "a.png", "--filmstrip", "a.png"), ["a.png", "two outputs"]),
        (("other.png", "-o", "a.jpg"), ["a.jpg: one file for 2 inputs"]),
        (("-o", "x" * 300 + ".jpg"), ["not a name"]),
    ],
    ids=str,
)
def test_what_cannot_go_with_one_picture_is_a_line(b2v, options, words):
    Path("there.jpg").write_text("mine")
    write_photo(make_picture(H, W), "other.png")
    before = listing(".")
    assert_one_line(b2v("extract", "photo.png", *options), 2, *words)
    assert listing(".") == before


def test_what_was_not_written_whole_is_found_and_leaves_nothing(b2v, monkeypatch):
    whole = images.encode
    monkeypatch.setattr(images, "encode", lambda *args, **more: whole(*args, **more)[:-900])
    before = listing(".")
    ran = b2v("extract", "photo.png", "-o", "sharp.jpg")
    assert_one_line(ran, 1, "sharp.jpg: was not written whole")
    assert listing(".") == before


def test_a_picture_of_another_size_is_found_by_reopening(b2v, monkeypatch):
    whole = images.encode
    monkeypatch.setattr(images, "encode", lambda codes, *_, **more: whole(codes[:-1], *_, **more))
    Path("sharp.png").write_text("mine")
    ran = b2v("extract", "photo.png", "-o", "sharp.png", "--overwrite")
    assert_one_line(ran, 1, "sharp.png: reading it back gave 63x46 pixels")
    assert Path("sharp.png").read_text() == "mine"
