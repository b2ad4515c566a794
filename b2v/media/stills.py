"""Pixels to the code values and bytes of one picture.

A picture is [3, H, W] or [4, H, W] float32 in [0, 1]; code values are [H, W, C] of 8 or 16 bits.
"""

import io
from fractions import Fraction

import av
import numpy as np
from PIL import Image
from torch import Tensor, cat, from_numpy

QUALITY = 95
"""Of JPEG, WebP and AVIF, from 0 to 100."""


def to_codes(pixels: Tensor, bits: int = 8) -> np.ndarray:
    """Turn `pixels` [C, H, W] in [0, 1] into an array [H, W, C] of `bits`-bit code values."""
    top = 2**bits - 1
    codes = pixels.detach().float().clamp(0, 1).mul(top).round().permute(1, 2, 0).cpu()
    return np.ascontiguousarray(codes.numpy().astype(np.uint8 if bits == 8 else np.uint16))


def to_pixels(codes: np.ndarray) -> Tensor:
    """Turn an array [H, W, C] of 8- or 16-bit code values into [C, H, W] in [0, 1]."""
    pixels = np.empty((codes.shape[2], *codes.shape[:2]), np.float32)
    for channel, plane in enumerate(pixels):  # without a second copy of so many floats
        np.divide(codes[..., channel], np.iinfo(codes.dtype).max, out=plane, dtype=np.float32)
    return from_numpy(pixels)


def unveiled(pixels: Tensor, alpha: Tensor | None) -> Tensor:
    """Take pixels [3, H, W] off the white that they lie on, by `alpha` [1, H, W]: [4, H, W].

    Laid on white again, they are as they were. The same tensor where there is no alpha.
    """
    if alpha is None:
        return pixels
    return cat([(1 - (1 - pixels) / alpha.clamp(min=1 / 65535)).clamp(0, 1), alpha])


def as_still(frame: Tensor, alpha: Tensor | None, bits: int, kind: str) -> bytes:
    """Encode a frame [3, H, W] that lies on white where `alpha` is not 1, as PNG or TIFF.

    `bits` are 8 or 16.
    """
    return encode(to_codes(unveiled(frame, alpha), bits), kind)


def encode(
    codes: np.ndarray,
    kind: str,
    quality: int = QUALITY,
    *,
    subsampling: str = "4:2:0",
    exif: bytes = b"",
    xmp: bytes = b"",
) -> bytes:
    """Encode code values [H, W, 3 or 4] as Pillow's `kind` of file; 16 bits are for PNG and TIFF.

    `quality` is for JPEG, WebP and AVIF, `subsampling` of the colors for JPEG and AVIF. `exif` and
    `xmp` are for AVIF; `b2v.media.stamp` puts them into the other kinds.
    """
    if codes.dtype == np.uint16:
        return _deep(codes, kind)
    file = io.BytesIO()
    if kind == "JPEG":
        Image.fromarray(codes).save(file, format=kind, quality=quality, subsampling=subsampling)
    elif kind == "AVIF":
        look = {"quality": quality, "subsampling": subsampling}
        Image.fromarray(codes).save(file, format=kind, exif=exif, xmp=xmp, **look)
    elif kind == "WEBP":
        Image.fromarray(codes).save(file, format=kind, quality=quality)
    elif kind == "PNG":
        Image.fromarray(codes).save(file, format=kind, compress_level=4)
    elif kind == "TIFF":
        Image.fromarray(codes).save(file, format=kind, compression="tiff_adobe_deflate")
    else:
        Image.fromarray(codes).save(file, format=kind)
    return file.getvalue()


def _deep(codes: np.ndarray, kind: str) -> bytes:
    """Encode [H, W, 3 or 4] uint16 as PNG or TIFF, which Pillow would cut to 8 bits."""
    layout, order = "rgb48" if codes.shape[2] == 3 else "rgba64", "be" if kind == "PNG" else "le"
    frame = av.VideoFrame.from_ndarray(codes, format=f"{layout}le").reformat(
        format=f"{layout}{order}"
    )
    context = av.VideoCodecContext.create(kind.lower(), "w")
    assert isinstance(context, av.VideoCodecContext)  # both are codecs of pictures
    context.height, context.width, context.time_base = frame.height, frame.width, Fraction(1)
    context.pix_fmt = f"{layout}{order}"
    if kind == "TIFF":
        context.options = {"compression_algo": "deflate"}
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
