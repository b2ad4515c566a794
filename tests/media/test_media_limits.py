"""How large pictures may be in each kind of clip."""

import pytest
from PIL import Image, ImageFile

from b2v.errors import UsageError
from b2v.files import check_size
from b2v.media.images import picture_size


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [
        ("clip.mp4", 4000, 6000),
        ("clip.mp4", 16, 16384),
        ("clip.webp", 16383, 16383),
        ("clip.gif", 65535, 16),
        ("sharp.jpg", 65500, 16),
        ("sharp.png", 99999, 16),
        ("folder/", 8333, 12000),
        ("folder", 8333, 12000),
    ],
)
def test_what_fits_is_let_through(name, height, width):
    check_size(name, height, width)


def test_a_folder_takes_any_size_whatever_its_name(tmp_path):
    check_size(tmp_path, 99999, 99999)
    (tmp_path / "made.mp4").mkdir()
    check_size(tmp_path / "made.mp4", 99999, 99999)


@pytest.mark.parametrize(
    ("name", "height", "width", "said"),
    [
        ("clip.mp4", 8333, 12000, r"12000x8333 .* takes 35\.7 megapixels; .*folder for PNG"),
        ("clip.MP4", 16, 16385, r"16384 a side"),
        ("clip.webp", 16384, 16, r"16383 a side"),
        ("sharp.jpeg", 16, 65501, r"65500 a side; .*write \.png"),
        ("sharp.avif", 16400, 16400, r"megapixels; .*write \.png"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(name, height, width, said):
    with pytest.raises(UsageError, match=said):
        check_size(name, height, width)


def test_the_size_of_a_picture_is_known_before_its_pixels_are_decoded(tmp_path, monkeypatch):
    for suffix in (".png", ".jpg", ".webp", ".tiff"):
        Image.new("RGB", (40, 24)).save(tmp_path / f"a{suffix}")

    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: decoded.append(image.format))
    for suffix in (".png", ".jpg", ".webp", ".tiff"):
        assert picture_size(tmp_path / f"a{suffix}") == (24, 40)
    assert decoded == []
