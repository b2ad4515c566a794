import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from b2v.errors import MediaError, ShapeError, UsageError
from b2v.media import images
from b2v.media.clips import Clip
from b2v.media.images import read_photo, write_photo

WIDTH, HEIGHT = 64, 48
EXIF_ORIENTATION, EXIF_IFD, EXIF_EXPOSURE = 0x112, 0x8769, 0x829A


def smooth_codes(height=HEIGHT, width=WIDTH):
    y, x = np.mgrid[0:height, 0:width]
    channels = [20 + 3 * x, 30 + 4 * y, 128 + 60 * np.sin(x / 9 + y / 13)]
    return np.stack(channels, -1).clip(0, 255).round().astype(np.uint8)


def codes_of(photo):
    return photo.pixels.mul(255).round().permute(1, 2, 0).numpy().astype(int)


def difference(photo, codes):
    return abs(codes_of(photo) - codes.astype(int)).max()


def refusal(path, kind=MediaError):
    with pytest.raises(kind) as caught:
        read_photo(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "gif", "jpg", "avif"])
def test_every_kind_of_file_gives_the_same_picture(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    options = {"jpg": {"quality": 98}, "webp": {"lossless": True}, "avif": {"quality": 95}}
    Image.fromarray(smooth_codes()).save(path, **options.get(suffix, {}))
    photo = read_photo(path)
    assert photo.pixels.shape == (3, HEIGHT, WIDTH)
    assert photo.pixels.dtype == torch.float32
    assert photo.alpha is None
    assert photo.path == path
    tolerance = {"gif": 70, "jpg": 12, "avif": 12}.get(suffix, 0)
    assert difference(photo, smooth_codes()) <= tolerance


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_gives_the_same_upright_picture(tmp_path, orientation, suffix):
    upright = Image.fromarray(smooth_codes())
    undo = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    tag = Image.Exif()
    tag[EXIF_ORIENTATION] = undo
    upright.info["exif"] = tag.tobytes()
    turned = ImageOps.exif_transpose(upright)
    tag[EXIF_ORIENTATION] = orientation
    path = tmp_path / f"photo.{suffix}"
    turned.save(path, exif=tag.tobytes(), quality=100)
    photo = read_photo(path)
    assert photo.pixels.shape == (3, HEIGHT, WIDTH)
    assert difference(photo, smooth_codes()) <= (0 if suffix in ("png", "tif") else 12)


def test_exposure_time_is_read_in_seconds(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[EXIF_EXPOSURE] = 1 / 15
    picture = Image.fromarray(smooth_codes())
    picture.save(tmp_path / "timed.jpg", exif=exif)
    picture.save(tmp_path / "untimed.jpg")
    assert read_photo(tmp_path / "timed.jpg").exposure_time == pytest.approx(1 / 15)
    assert read_photo(tmp_path / "untimed.jpg").exposure_time is None


def test_broken_exposure_time_keeps_the_orientation(tmp_path):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    exif.get_ifd(EXIF_IFD)[EXIF_EXPOSURE] = (1, 15)
    Image.fromarray(smooth_codes()).save(tmp_path / "odd.jpg", exif=exif)
    photo = read_photo(tmp_path / "odd.jpg")
    assert photo.pixels.shape == (3, WIDTH, HEIGHT)
    assert photo.exposure_time is None


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_broken_exif_does_not_lose_the_picture(tmp_path, exif):
    Image.fromarray(smooth_codes()).save(tmp_path / "odd.jpg", exif=exif)
    photo = read_photo(tmp_path / "odd.jpg")
    assert photo.pixels.shape == (3, HEIGHT, WIDTH)
    assert photo.exposure_time is None


def swapped_profile():
    """Make an sRGB profile whose red and blue primaries are exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_color_profile_is_converted_to_srgb(tmp_path, mode):
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [102, 102, 102]]], np.uint8)
    picture = Image.fromarray(colors).convert(mode)
    picture.save(tmp_path / "swapped.png", icc_profile=swapped_profile())
    assert difference(read_photo(tmp_path / "swapped.png"), colors[..., ::-1]) <= 2


def test_srgb_profile_leaves_the_code_values_alone(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(smooth_codes()).save(tmp_path / "srgb.png", icc_profile=profile)
    assert difference(read_photo(tmp_path / "srgb.png"), smooth_codes()) == 0


def test_broken_profile_is_ignored(tmp_path):
    Image.fromarray(smooth_codes()).save(tmp_path / "broken.png", icc_profile=b"no profile")
    assert difference(read_photo(tmp_path / "broken.png"), smooth_codes()) == 0


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_is_neither_inverted_nor_left_in_four_channels(tmp_path, suffix):
    codes = np.full((HEIGHT, WIDTH, 3), (200, 60, 30), np.uint8)
    Image.fromarray(codes).convert("CMYK").save(tmp_path / f"print.{suffix}", quality=98)
    photo = read_photo(tmp_path / f"print.{suffix}")
    assert photo.pixels.shape == (3, HEIGHT, WIDTH)
    assert difference(photo, codes) <= 3


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_gray_becomes_three_equal_channels(tmp_path, mode):
    gray = Image.fromarray(smooth_codes()).convert("L").convert(mode)
    gray.save(tmp_path / "gray.png")
    photo = read_photo(tmp_path / "gray.png")
    expected = np.asarray(gray.convert("L"))[..., None].repeat(3, -1)
    assert difference(photo, expected) == 0


def test_palette_with_transparency_gives_colors_and_alpha(tmp_path):
    indices = np.zeros((HEIGHT, WIDTH), np.uint8)
    indices[:, WIDTH // 2 :] = 1
    picture = Image.fromarray(indices, mode=None).convert("P")
    picture.putpalette([250, 10, 20, 30, 200, 40])
    picture.save(tmp_path / "palette.png", transparency=1)
    photo = read_photo(tmp_path / "palette.png")
    assert codes_of(photo)[0, 0].tolist() == [250, 10, 20]
    assert codes_of(photo)[0, -1].tolist() == [30, 200, 40]
    assert photo.alpha.shape == (1, HEIGHT, WIDTH)
    assert photo.alpha[0, 0, [0, -1]].tolist() == [1, 0]


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_alpha_is_kept_apart_from_the_colors(tmp_path, suffix):
    rgba = np.dstack([smooth_codes(), np.full((HEIGHT, WIDTH), 51, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / f"veil.{suffix}", lossless=True)
    photo = read_photo(tmp_path / f"veil.{suffix}")
    assert difference(photo, smooth_codes()) == 0
    assert torch.allclose(photo.alpha, torch.tensor(0.2))
    assert torch.allclose(photo.on_white(), 0.8 + 0.2 * photo.pixels)


def test_opaque_alpha_is_no_alpha(tmp_path):
    Image.fromarray(smooth_codes()).convert("RGBA").save(tmp_path / "opaque.png")
    photo = read_photo(tmp_path / "opaque.png")
    assert photo.alpha is None
    assert photo.on_white() is photo.pixels


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_gray_of_16_bits_keeps_every_level(tmp_path, suffix):
    levels = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 21
    Image.fromarray(levels).save(tmp_path / f"deep.{suffix}")
    photo = read_photo(tmp_path / f"deep.{suffix}")
    assert len(photo.pixels.unique()) == HEIGHT * WIDTH
    assert abs(photo.pixels[1].double().numpy() * 65535 - levels).max() < 0.01


@pytest.mark.parametrize(("kind", "white"), [("int32", 65535), ("float32", 1), ("float32", 255)])
def test_gray_of_32_bits_is_brought_to_full_scale(tmp_path, kind, white):
    ramp = np.linspace(0, white, HEIGHT * WIDTH).astype(kind).reshape(HEIGHT, WIDTH)
    Image.fromarray(ramp).save(tmp_path / "deep.tif")
    pixels = read_photo(tmp_path / "deep.tif").pixels
    assert torch.allclose(pixels[0].flatten(), torch.linspace(0, 1, HEIGHT * WIDTH), atol=2e-5)


def test_color_of_16_bits_survives_writing_and_reading(tmp_path):
    pixels = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    write_photo(pixels, tmp_path / "deep.png", bits=16)
    assert (read_photo(tmp_path / "deep.png").pixels - pixels).abs().max() < 0.6 / 65535


def test_color_tiff_of_16_bits_keeps_its_precision(tmp_path):
    av = pytest.importorskip("av")
    codes = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
    context = av.VideoCodecContext.create("tiff", "w")
    context.height, context.width, context.pix_fmt = HEIGHT, WIDTH, "rgb48le"
    context.time_base = 1
    packets = context.encode(av.VideoFrame.from_ndarray(codes, format="rgb48le"))
    (tmp_path / "deep.tif").write_bytes(b"".join(map(bytes, [*packets, *context.encode(None)])))
    pixels = read_photo(tmp_path / "deep.tif").pixels.permute(1, 2, 0).double().numpy()
    assert abs(pixels * 65535 - codes).max() < 0.01


def test_heic_is_read_by_the_extra(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heic")
    pillow_heif.from_pillow(Image.fromarray(smooth_codes())).save(tmp_path / "a.heic", quality=95)
    assert difference(read_photo(tmp_path / "a.heic"), smooth_codes()) <= 16


def test_heic_without_the_extra_names_the_package(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "pip install b2v[heic]" in refusal(tmp_path / "a.heic")


def test_one_pixel_is_a_picture(tmp_path):
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "dot.png")
    assert codes_of(read_photo(tmp_path / "dot.png")).tolist() == [[[10, 20, 30]]]


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 2)])
def test_pictures_of_any_sides_are_read(tmp_path, size):
    Image.fromarray(smooth_codes(*size)).save(tmp_path / "narrow.png")
    photo = read_photo(tmp_path / "narrow.png")
    assert photo.pixels.shape == (3, *size)
    assert difference(photo, smooth_codes(*size)) == 0


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif", "avif"])
def test_of_several_pictures_in_a_file_the_first_is_read(tmp_path, suffix):
    path = tmp_path / f"several.{suffix}"
    first = Image.fromarray(smooth_codes())
    others = [Image.new("RGB", first.size, color) for color in ("red", "blue")]
    options = {"webp": {"lossless": True}, "avif": {"quality": 95}}.get(suffix, {})
    first.save(path, save_all=True, append_images=others, **options)
    photo = read_photo(path)
    assert photo.pages == 3
    assert difference(photo, smooth_codes()) <= {"gif": 70, "avif": 12}.get(suffix, 0)


def test_the_depth_of_a_color_is_told(tmp_path):
    write_photo(torch.rand(3, 8, 8), tmp_path / "deep.png", bits=16)
    write_photo(torch.rand(3, 8, 8), tmp_path / "plain.png")
    Image.fromarray(np.full((8, 8), 300, np.uint16)).save(tmp_path / "gray.tif")
    Image.fromarray(smooth_codes()).save(tmp_path / "photo.jpg")
    names = ("deep.png", "plain.png", "gray.tif", "photo.jpg")
    photos = [read_photo(tmp_path / name) for name in names]
    assert [photo.bits for photo in photos] == [16, 8, 16, 8]
    assert {photo.pages for photo in photos} == {1}


@pytest.mark.parametrize("bits", [8, 16])
def test_a_folder_of_png_keeps_alpha_and_depth(tmp_path, bits):
    noise = torch.Generator().manual_seed(0)
    frames = torch.rand(2, 3, 20, 24, generator=noise)
    alpha = torch.linspace(0, 1, 24).expand(1, 20, -1).contiguous()
    on_white = 1 - (1 - frames) * alpha
    Clip(on_white, 10, alpha=alpha, bits=bits).save(tmp_path / "frames")
    for number, frame in enumerate(frames, 1):
        photo = read_photo(tmp_path / "frames" / f"{number:06d}.png")
        step = 1 / (2**bits - 1)
        assert photo.bits == bits
        assert (photo.alpha - alpha).abs().max() <= step
        assert (photo.on_white() - on_white[number - 1]).abs().max() <= 2 * step
        seen = alpha[0] > 0.5
        assert (photo.pixels - frame)[:, seen].abs().max() <= 4 * step


@pytest.mark.long
def test_a_hundred_megapixels_are_read(tmp_path):
    side = 10_000
    Image.linear_gradient("L").resize((side, side)).convert("RGB").save(tmp_path / "large.jpg")
    photo = read_photo(tmp_path / "large.jpg")
    assert photo.pixels.shape == (3, side, side)
    rows = photo.pixels[:, :: side // 50, 0]
    assert (rows[:, 1:] >= rows[:, :-1] - 0.02).all()
    assert rows[0, -1] > 0.9


def test_missing_file_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.jpg")
    (tmp_path / "file").write_bytes(b"x")
    assert "no such file" in refusal(tmp_path / "file" / "below.jpg")


def test_folder_is_refused(tmp_path):
    assert "Is a directory" in refusal(tmp_path)


def test_a_name_that_no_disk_takes_is_refused():
    assert "too long" in refusal(Path("x" * 300 + ".jpg"))


def test_unreadable_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "private.jpg"
    Image.fromarray(smooth_codes()).save(path)

    def deny(*_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", deny)
    assert "Permission denied" in refusal(path)


def test_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.jpg").touch()
    assert "empty" in refusal(tmp_path / "empty.jpg")


@pytest.mark.parametrize("data", [b"Dear diary, today", b"%PDF-1.7 and so on", bytes(5000)])
def test_what_is_no_picture_is_refused_by_content(tmp_path, data):
    (tmp_path / "text.jpg").write_bytes(data)
    assert "not a picture; expected JPEG, PNG" in refusal(tmp_path / "text.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp", "gif"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_picture_is_refused(tmp_path, suffix, share):
    whole = io.BytesIO()
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix)
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    Image.fromarray(noise).save(whole, format=kind)
    data = whole.getvalue()
    (tmp_path / f"cut.{suffix}").write_bytes(data[: int(len(data) * share)])
    refusal(tmp_path / f"cut.{suffix}")


def test_truncated_jpeg_is_called_truncated(tmp_path):
    path = tmp_path / "cut.jpg"
    Image.fromarray(smooth_codes()).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    assert "truncated" in refusal(path)


def test_too_large_a_picture_is_refused_and_pillow_left_as_it_was(tmp_path, monkeypatch):
    before = Image.MAX_IMAGE_PIXELS
    Image.new("1", (1500, 1000)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(images, "MAX_MEGAPIXELS", 1)
    assert "too large" in refusal(tmp_path / "bomb.png")
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_picture_beyond_the_limit_of_pillow_is_read_without_a_warning(tmp_path, monkeypatch):
    Image.new("RGB", (200, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15_000)
    assert read_photo(tmp_path / "large.png").pixels.shape == (3, 100, 200)


def test_written_file_exists_once_and_is_replaced_only_on_request(tmp_path):
    path = tmp_path / "out.png"
    pixels = torch.full((3, HEIGHT, WIDTH), 0.2)
    write_photo(pixels, path)
    with pytest.raises(UsageError, match="--overwrite"):
        write_photo(pixels, path)
    write_photo(1 - pixels, path, overwrite=True)
    assert read_photo(path).pixels.unique().tolist() == pytest.approx([0.8])
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.png"]


def test_write_refuses_what_it_cannot_do(tmp_path):
    pixels = torch.zeros(3, HEIGHT, WIDTH)
    with pytest.raises(UsageError, match="unknown suffix"):
        write_photo(pixels, tmp_path / "out.xyz")
    with pytest.raises(ShapeError, match=r"\[1, 48, 64\]"):
        write_photo(pixels[:1], tmp_path / "out.png")
    with pytest.raises(MediaError, match="No such file or directory"):
        write_photo(pixels, tmp_path / "none" / "out.png")
    assert not list(tmp_path.iterdir())
