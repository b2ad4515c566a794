"""TIFF and PNG that hold more, or mean something else, than 8 bits of sRGB."""

import struct
import zlib
from itertools import product

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from b2v.errors import MediaError
from b2v.media.images import open_photo, picture_size, read_photo, tags_of

HEIGHT, WIDTH = 48, 80
ORIENTATION, DNG_VERSION, MAKE, CFA = 274, 50706, 271, 32803


def picture(channels):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    x, y = x / (WIDTH - 1), y / (HEIGHT - 1)
    return np.stack([0.1 + 0.8 * x, 0.2 + 0.7 * y, (x + y) / 4, 0.3 + 0.7 * x][:channels], -1)


def as_numbers(values, kind):
    kind = np.dtype(kind)
    return values.astype(kind) if kind.kind == "f" else coded(values, kind)


def coded(values, kind):
    return np.round(values * np.iinfo(kind).max).astype(kind)


def write(path, values, kind, **how):
    """Write [H, W, C] as a TIFF of numbers of a kind."""
    codes, channels = as_numbers(values, kind), values.shape[2]
    codes = codes[..., 0] if channels == 1 else codes
    if how.get("planarconfig") == "separate":
        codes = np.moveaxis(codes, -1, 0)
    how = {"photometric": "minisblack" if channels == 1 else "rgb", **how}
    alpha = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(path, codes, **{**alpha, **how})


def apart(photo, values):
    channels = values.shape[2]
    found = photo.pixels if photo.alpha is None else torch.cat([photo.pixels, photo.alpha])
    found = found.permute(1, 2, 0).numpy()[..., : max(channels, 1)]
    return abs(found - values).max()


def refusal(path):
    with pytest.raises(MediaError) as caught:
        read_photo(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


LIE = ({}, {"tile": (32, 32)}, {"planarconfig": "separate"})
PACKED = ({}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True})


@pytest.mark.parametrize("kind", ["u2", "u4", "f2", "f4", "f8"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_deep_tiff_is_read_however_it_lies_in_the_file(tmp_path, channels, kind):
    for lie, pack, order in product(LIE, PACKED, "<>"):
        if (channels == 1 and "planarconfig" in lie) or (kind[0] == "f" and "predictor" in pack):
            continue
        write(tmp_path / "a.tif", picture(channels), kind, byteorder=order, **lie, **pack)
        photo = read_photo(tmp_path / "a.tif")
        assert apart(photo, picture(channels)) < (1e-3 if kind == "f2" else 1e-5)
        assert (photo.bits, photo.alpha is None) == (16, channels < 4)


@pytest.mark.parametrize("kind", ["u2", "u4", "f4"])
def test_deep_tiff_whose_white_is_zero_is_no_negative(tmp_path, kind):
    write(tmp_path / "a.tif", 1 - picture(1), kind, photometric="miniswhite")
    assert apart(read_photo(tmp_path / "a.tif"), picture(1)) < 1e-5


def test_alpha_that_the_colors_were_multiplied_by_is_taken_out_of_them(tmp_path):
    veiled = picture(4)
    veiled[..., :3] *= veiled[..., 3:]
    write(tmp_path / "a.tif", veiled, "u2", extrasamples=["assocalpha"])
    assert apart(read_photo(tmp_path / "a.tif"), picture(4)) < 1e-4


@pytest.mark.parametrize("kind", ["u2", "f4"])
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_lzw_is_read_by_another_decoder(tmp_path, channels, kind):
    codes = as_numbers(picture(channels), kind)[..., ::-1]
    for predictor in (1, 3 if kind == "f4" else 2):
        how = [cv2.IMWRITE_TIFF_COMPRESSION, 5, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
        cv2.imwrite(str(tmp_path / "a.tif"), codes, how)
        assert apart(read_photo(tmp_path / "a.tif"), picture(channels)) < 1e-5


@pytest.mark.parametrize("turn", range(1, 9))
def test_deep_tiff_is_turned_upright_once(tmp_path, turn):
    tags = [(ORIENTATION, "H", 1, turn, True)]
    write(tmp_path / "deep.tif", picture(3), "u2", extratags=tags)
    write(tmp_path / "plain.tif", picture(3), "u1", extratags=tags)
    deep, plain = read_photo(tmp_path / "deep.tif"), read_photo(tmp_path / "plain.tif")
    assert deep.pixels.shape == plain.pixels.shape
    assert (deep.pixels - plain.pixels).abs().max() < 1.1 / 255
    assert picture_size(tmp_path / "deep.tif") == tuple(deep.pixels.shape[1:])


def test_packing_that_no_decoder_knows_is_named(tmp_path):
    write(tmp_path / "a.tif", picture(3), "u4", compression="zlib", predictor=True)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        data[file.pages.first.tags["Predictor"].valueoffset] = 3
    (tmp_path / "a.tif").write_bytes(data)
    assert "packed as ADOBE_DEFLATE is not read" in refusal(tmp_path / "a.tif")


def test_lights_beyond_white_are_cut_and_told(tmp_path):
    write(tmp_path / "a.tif", 1.5 * picture(3), "f4")
    photo = read_photo(tmp_path / "a.tif")
    assert apart(photo, (1.5 * picture(3)).clip(0, 1)) < 1e-5
    assert "above 1 was cut" in photo.notes[0]


def test_tags_of_a_deep_tiff_are_read(tmp_path):
    write(tmp_path / "a.tif", picture(3), "f4", extratags=[(MAKE, "s", 0, "Made", True)])
    assert dict(tags_of(tmp_path / "a.tif").plain)[MAKE] == "Made"


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("kind", ["u2", "f4"])
def test_a_cut_deep_tiff_is_refused(tmp_path, kind, share):
    write(tmp_path / "a.tif", picture(3), kind, tile=(32, 32))
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: int(share * len(data))])
    assert "damaged" in refusal(tmp_path / "a.tif")


def test_a_deep_tiff_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    empty = np.zeros((1, 1), np.float32)
    tifffile.imwrite(tmp_path / "a.tif", empty, extratags=[])
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        places = [file.pages.first.tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
    for place in places:
        struct.pack_into("<H", data, place, 60000)
    (tmp_path / "a.tif").write_bytes(data)
    assert "too large" in refusal(tmp_path / "a.tif")


def test_the_raw_of_a_camera_is_named_as_what_it_is(tmp_path):
    write(
        tmp_path / "a.dng", picture(3), "u1", extratags=[(DNG_VERSION, "B", 4, b"\1\4\0\0", True)]
    )
    write(tmp_path / "b.dng", picture(1), "u2", photometric=CFA)
    with tifffile.TiffWriter(tmp_path / "c.nef") as file:
        file.write(coded(picture(3), "u1"), photometric="rgb", subifds=1, subfiletype=1)
        file.write(coded(picture(1)[..., 0], "u2"), photometric=CFA)
    (tmp_path / "d.cr3").write_bytes(b"\0\0\0\x18ftypcrx \0\0\0\1" + bytes(64))
    (tmp_path / "e.raf").write_bytes(b"FUJIFILMCCD-RAW 0201" + bytes(64))
    for path in sorted(tmp_path.iterdir()):
        assert "camera RAW file; develop it first" in refusal(path)


def png(path, *chunks, kind="RGB", values=None):
    """Write a PNG with more chunks in front."""
    image = Image.fromarray(coded(picture(3) if values is None else values, "u1"))
    image.convert(kind).save(path)
    data = path.read_bytes()
    added = b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    path.write_bytes(data[:33] + added + data[33:])


def test_png_of_linear_light_is_encoded(tmp_path):
    light = picture(3) ** 2.4
    png(tmp_path / "a.png", (b"gAMA", struct.pack(">I", 100_000)), values=light)
    encoded = 1.055 * light.clip(0.0031308) ** (1 / 2.4) - 0.055
    bright = light > 0.02
    found = read_photo(tmp_path / "a.png").pixels.permute(1, 2, 0).numpy()
    assert abs(found - encoded)[bright].max() < 0.03


@pytest.mark.parametrize("more", [(), ((b"sRGB", b"\0"),)])
def test_png_of_usual_gamma_keeps_its_values(tmp_path, more):
    gamma = 45455 if not more else 100_000  # beside sRGB it does not count
    png(tmp_path / "a.png", (b"gAMA", struct.pack(">I", gamma)), *more)
    assert apart(read_photo(tmp_path / "a.png"), picture(3)) < 0.51 / 255


def test_png_of_high_dynamic_range_is_brought_to_the_standard_one(tmp_path):
    png(tmp_path / "a.png", (b"cICP", bytes([9, 16, 0, 1])))
    photo = read_photo(tmp_path / "a.png")
    assert photo.notes == ("HDR (PQ) was brought to standard range",)
    assert apart(photo, picture(3)) > 0.1


@pytest.mark.parametrize(("codes", "told"), [((1, 13), 0), ((12, 13), 1), ((1, 8), 1)])
def test_png_of_other_colors_is_told(tmp_path, codes, told):
    png(tmp_path / "a.png", (b"cICP", bytes([*codes, 0, 1])))
    photo = read_photo(tmp_path / "a.png")
    assert apart(photo, picture(3)) < 0.51 / 255
    assert len(photo.notes) == told


def test_the_size_is_known_before_the_pixels(tmp_path):
    png(tmp_path / "a.png")
    with open_photo(tmp_path / "a.png") as image:
        assert not getattr(image, "_im", None)
    assert picture_size(tmp_path / "a.png") == (HEIGHT, WIDTH)


@pytest.mark.parametrize("read", [read_photo, picture_size, tags_of])
def test_chunks_in_front_that_are_damaged_or_unpack_to_much_are_one_line(tmp_path, read):
    packed = b"x\0\0" + zlib.compress(bytes(100_000_000), 9)
    for chunk in ((b"gAMA", b"\0\1"), (b"iCCP", packed), (b"zTXt", packed)):
        png(tmp_path / "a.png", chunk)
        with pytest.raises(MediaError, match="damaged picture"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["gray", "rgb"])
def test_a_transparent_color_of_16_bits_is_kept_with_the_depth(tmp_path, kind):
    pixels = (1000, 60000) if kind == "gray" else (1000, 2000, 3000, 60000, 50000, 40000)
    size = 1 if kind == "gray" else 3
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 0 if kind == "gray" else 2, 0, 0, 0)),
        (b"tRNS", struct.pack(f">{size}H", *pixels[:size])),
        (b"IDAT", zlib.compress(b"\0" + struct.pack(f">{2 * size}H", *pixels))),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in chunks:
        check = struct.pack(">I", zlib.crc32(name + content))
        data += struct.pack(">I", len(content)) + name + content + check
    (tmp_path / "a.png").write_bytes(data)
    photo = read_photo(tmp_path / "a.png")
    assert photo.bits == 16
    assert photo.alpha.flatten().tolist() == [0, 1]
    found = photo.pixels[:size].permute(1, 2, 0).flatten().double() * 65535
    assert (found - torch.tensor(pixels)).abs().max() < 0.01
