"""What files say of themselves, read again by Pillow and FFmpeg; and what they never say."""

import json
import re

import av
import pytest
import torch
from conftest import make_picture, read_clip
from PIL import ExifTags, Image

from b2v.errors import MediaError
from b2v.media.clips import Clip
from b2v.media.images import read_photo, tags_of, write_photo
from b2v.media.metadata import CAVEAT, Provenance, Tags

MADE = Provenance(model="b2v", sha256="0123456789abcdef" * 4, license="MIT")
CLIPS = ("clip.mp4", "clip.gif", "clip.webp", "clip")
STILLS = ("a.png", "a.jpg", "a.webp")
PARIS = (48.0, 51.0, 29.88), (2.0, 17.0, 40.2)
PLACE = re.compile(rb"48[.,]8583|4851|\+48|GPS|29\.88|2988")
BASE, IFD, GPS = ExifTags.Base, ExifTags.IFD, ExifTags.GPS


@pytest.fixture
def photo(tmp_path):
    """A photo of a camera that tells all it knows: place, owner, serial number, thumbnail."""
    exif = Image.Exif()
    exif[BASE.Make], exif[BASE.Model], exif[BASE.Orientation] = "Canon", "EOS R5", 6
    exif[BASE.DateTime], exif[BASE.Copyright] = "2024:05:01 12:00:00", "CC BY 4.0"
    exif[BASE.Artist] = "Owner Name"
    details = exif.get_ifd(IFD.Exif)
    details[BASE.ExposureTime], details[BASE.FNumber] = 1 / 15, 2.8
    details[BASE.DateTimeOriginal] = "2024:05:01 11:59:58"
    details[BASE.BodySerialNumber], details[BASE.CameraOwnerName] = "SERIAL1", "Owner Name"
    details[BASE.MakerNote], details[BASE.UserComment] = b"SECRET", b"SECRET"
    gps = exif.get_ifd(IFD.GPSInfo)
    gps[GPS.GPSLatitudeRef], gps[GPS.GPSLatitude] = "N", PARIS[0]
    gps[GPS.GPSLongitudeRef], gps[GPS.GPSLongitude] = "W", PARIS[1]
    image = Image.new("RGB", (48, 32), (90, 120, 30))
    image.save(tmp_path / "photo.jpg", exif=exif)
    with Image.open(tmp_path / "photo.jpg") as again:
        assert again.getexif().get_ifd(IFD.GPSInfo)[GPS.GPSLatitudeRef] == "N"
    return tmp_path / "photo.jpg"


def saved(folder, name, tags):
    """A file with these tags: a clip of seven frames, or a picture."""
    frames = torch.stack([make_picture(32, 48, k) for k in range(7)])
    if name in STILLS:
        return write_photo(frames[0], folder / name, tags=tags)
    Clip(frames, 10, tags).save(folder / name)
    return folder / name


def bytes_of(path):
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return b"".join(file.read_bytes() for file in files)


def opened(path):
    """Pillow's notes on a picture or, of a folder, on its third."""
    with Image.open(path / "000003.png" if path.is_dir() else path) as image:
        image.load()
        return dict(image.info), image.getexif()


def test_provenance_says_what_made_it_and_what_it_is_worth():
    assert CAVEAT == "estimated, not evidence"
    assert str(MADE).startswith(f"{CAVEAT}: made by b2v ")
    said = MADE.as_dict() | {"more": "é"}
    assert (said["model"], said["sha256"], said["note"]) == ("b2v", MADE.sha256, CAVEAT)
    assert said["more"] == "é"
    assert re.fullmatch(r"b2v \d+\.\d+\.\d+.*", said["software"])


def test_mp4_has_it_as_comment_and_description(photo, tmp_path):
    path = saved(tmp_path, "clip.mp4", tags_of(photo).made_by(MADE))
    with av.open(str(path)) as container:
        tags = dict(container.metadata)
    assert tags["comment"] == str(MADE)
    said = json.loads(tags["description"])
    assert (said["model"], said["sha256"], said["note"]) == ("b2v", MADE.sha256, CAVEAT)
    assert said["photo"]["Model"] == "EOS R5"
    assert said["photo"]["ExposureTime"] == pytest.approx(1 / 15)
    assert tags["date"] == "2024-05-01 11:59:58"
    assert "location" not in tags


@pytest.mark.parametrize("name", ["clip", "a.png"])
def test_png_has_it_as_international_text(photo, tmp_path, name):
    info, _ = opened(saved(tmp_path, name, tags_of(photo).made_by(MADE)))
    assert info["Description"] == str(MADE)
    assert json.loads(info["b2v"])["sha256"] == MADE.sha256


@pytest.mark.parametrize("name", ["clip.webp", "a.webp", "a.jpg", "one.webp"])
def test_webp_and_jpeg_have_it_as_description(photo, tmp_path, name):
    tags = tags_of(photo).made_by(MADE)
    if name == "one.webp":
        Clip(make_picture(32, 48)[None], 10, tags).save(tmp_path / name)
    info, exif = opened(tmp_path / name if name == "one.webp" else saved(tmp_path, name, tags))
    assert exif[BASE.ImageDescription] == str(MADE)
    assert info.get("comment", str(MADE).encode()) == str(MADE).encode()


def test_gif_has_it_as_comment(photo, tmp_path):
    info, _ = opened(saved(tmp_path, "clip.gif", tags_of(photo).made_by(MADE)))
    assert json.loads(info["comment"])["sha256"] == MADE.sha256
    assert info["loop"] == 0


@pytest.mark.parametrize("name", [*STILLS, "clip", "clip.webp"])
def test_date_camera_and_exposure_come_along_upright(photo, tmp_path, name):
    _, exif = opened(saved(tmp_path, name, tags_of(photo).made_by(MADE)))
    assert (exif[BASE.Make], exif[BASE.Model]) == ("Canon", "EOS R5")
    assert (exif[BASE.Orientation], exif[BASE.Copyright]) == (1, "CC BY 4.0")
    assert exif[BASE.ImageDescription] == str(MADE)
    details = exif.get_ifd(IFD.Exif)
    assert details[BASE.DateTimeOriginal] == "2024:05:01 11:59:58"
    assert details[BASE.ExposureTime] == pytest.approx(1 / 15)


@pytest.mark.parametrize("name", [*CLIPS, *STILLS])
def test_the_place_and_the_owner_never_come_along(photo, tmp_path, name):
    path = saved(tmp_path, name, tags_of(photo).made_by(MADE))
    data = bytes_of(path)
    for secret in (b"SERIAL1", b"SECRET", b"Owner Name"):
        assert secret not in data
    if path.suffix != ".mp4":
        _, exif = opened(path)
        assert IFD.GPSInfo not in exif
        assert exif.get_ifd(IFD.GPSInfo) == {}
    said = tags_of(photo).made_by(MADE)
    assert said.gps == ()
    assert not PLACE.search(said.exif() + said.description.encode())


@pytest.mark.parametrize("name", [*STILLS, "clip.webp"])
def test_the_place_comes_along_when_it_is_asked_for(photo, tmp_path, name):
    _, exif = opened(saved(tmp_path, name, tags_of(photo, keep_gps=True)))
    gps = exif.get_ifd(IFD.GPSInfo)
    assert gps[GPS.GPSLatitude] == pytest.approx(PARIS[0])
    assert gps[GPS.GPSLongitudeRef] == "W"


def test_mp4_names_the_place_when_it_is_asked_for(photo, tmp_path):
    path = saved(tmp_path, "clip.mp4", tags_of(photo, keep_gps=True).made_by(MADE))
    with av.open(str(path)) as container:
        assert container.metadata["location"] == "+48.8583-002.2945/"


@pytest.mark.parametrize("name", [*CLIPS, *STILLS])
def test_without_tags_nothing_is_said(tmp_path, name):
    for number, tags in enumerate((None, Tags())):
        (tmp_path / str(number)).mkdir()
        path = saved(tmp_path / str(number), name, tags)
        assert b"b2v" not in bytes_of(path)
        if path.suffix == ".mp4":
            with av.open(str(path)) as container:
                assert not {"comment", "description", "date", "location"} & set(container.metadata)
        else:
            info, exif = opened(path)
            assert not {"exif", "comment", "Description"} & set(info)
            assert dict(exif) == {}


@pytest.mark.parametrize("name", [*CLIPS, *STILLS])
def test_tags_change_no_pixel_and_no_time(tmp_path, name):
    (tmp_path / "plain").mkdir()
    plain = saved(tmp_path / "plain", name, None)
    tagged = saved(tmp_path, name, Tags(MADE))
    if name in STILLS:
        assert torch.equal(read_photo(plain).pixels, read_photo(tagged).pixels)
        return
    one, other = read_clip(plain), read_clip(tagged)
    assert torch.equal(one.frames, other.frames)
    assert one.fps == other.fps


def test_pictures_of_16_bits_keep_what_they_are(tmp_path):
    pixels = make_picture(20, 24)
    path = write_photo(pixels, tmp_path / "deep.png", bits=16, tags=Tags(MADE))
    assert opened(path)[0]["Description"] == str(MADE)
    assert (read_photo(path).pixels - pixels).abs().max() < 1 / 65535


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_has_all_of_it_and_keeps_its_pixels(photo, tmp_path, bits):
    pixels, tags = make_picture(31, 47), tags_of(photo, keep_gps=True).made_by(MADE)
    path = write_photo(pixels, tmp_path / "a.tiff", bits=bits, tags=tags)
    plain = write_photo(pixels, tmp_path / "plain.tif", bits=bits)
    assert torch.equal(read_photo(path).pixels, read_photo(plain).pixels)
    assert read_photo(path).bits == bits
    with Image.open(path) as image:
        exif = image.getexif()
        assert (exif[BASE.Make], exif[BASE.Orientation]) == ("Canon", 1)
        assert (exif[BASE.ImageDescription], exif[BASE.Software][:3]) == (str(MADE), "b2v")
        assert exif.get_ifd(IFD.Exif)[BASE.ExposureTime] == pytest.approx(1 / 15)
        assert exif.get_ifd(IFD.GPSInfo)[GPS.GPSLatitude] == pytest.approx(PARIS[0])
        assert (image.size, image.tag_v2[258]) == ((47, 31), (bits,) * 3)
    assert b"b2v" not in plain.read_bytes()


def test_a_model_with_a_strange_name_breaks_nothing(tmp_path):
    odd = Provenance(model='a "b" <c> & ü\'', sha256="0" * 64)
    for name in ("clip.webp", "a.png", "a.jpg"):
        _, exif = opened(saved(tmp_path, name, Tags(odd)))
        assert exif[BASE.ImageDescription] == str(odd).replace("ü", "?")  # EXIF has ASCII alone


def test_broken_exif_is_no_exif(tmp_path):
    picture = Image.new("RGB", (20, 20))
    picture.save(tmp_path / "bad.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff garbage")
    assert tags_of(tmp_path / "bad.jpg", keep_gps=True) == Tags()
    with pytest.raises(MediaError, match="no such file"):
        tags_of(tmp_path / "none.jpg")


def test_a_place_that_makes_no_sense_is_not_told():
    for gps in (((GPS.GPSLatitude, (1.0, 2.0)),), ((GPS.GPSLatitude, "x"),)):
        assert "location" not in Tags(MADE, gps=gps).video()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_clips_of_every_kind_say_with_what_they_were_taken(tmp_path, suffix):
    said = Tags(MADE, plain=((271, "Maker"), (272, "M1")), details=((33434, 0.05),))
    Clip(torch.rand(2, 3, 32, 32), 10, said).save(tmp_path / f"a{suffix}")
    with av.open(str(tmp_path / f"a{suffix}")) as file:
        found = {key.lower(): text for key, text in file.metadata.items()}
    assert json.loads(found["description"])["photo"]["ExposureTime"] == 0.05
    assert (found["comment"], "Maker" in found["description"]) == (said.sentence, True)
    if suffix != ".mp4":
        assert (found["make"], found["model"]) == ("Maker", "M1")
