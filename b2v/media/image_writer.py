"""Pictures to files, in one piece, with what they say of themselves."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import features
from torch import Tensor

from b2v.errors import MediaError, ShapeError, UsageError
from b2v.files import MOST, check_free, check_name, one_line, replacing
from b2v.frames import to_codes
from b2v.media.images import encode, open_photo, read_photo, unveiled
from b2v.media.metadata import Tags, stamp

STILLS = {
    **{"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"},
    **{"tif": "TIFF", "tiff": "TIFF", "bmp": "BMP"},
}
"""Suffixes that `write_photo` knows."""
SHARP = {
    **{".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"},
    **{".tif": "TIFF", ".tiff": "TIFF", ".avif": "AVIF"},
}
"""Suffixes that `write_still` knows."""
DEEP, VEILED = ("PNG", "TIFF"), ("PNG", "TIFF", "WEBP", "AVIF")
"""Kinds that can have 16 bits a color, and those that can be transparent."""


def write_photo(
    pixels: Tensor,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    bits: int = 8,
    tags: Tags | None = None,
) -> Path:
    """Write `pixels` [3, H, W] in [0, 1] as the kind of file that the suffix names.

    `bits` a colour are 8, or 16 for PNG and TIFF; `tags` are what the file is to say of itself.
    Raises UsageError for a suffix or depth that cannot be written and for a file that exists,
    MediaError when the disk refuses.
    """
    path = Path(path)
    kind = STILLS.get(path.suffix.lower()[1:])
    if kind is None:
        raise UsageError(f"{path}: unknown suffix; pictures are written as {', '.join(STILLS)}")
    if bits not in ((8, 16) if kind in ("PNG", "TIFF") else (8,)):
        raise UsageError(f"{path}: {bits} bits are not possible; use 8, or 16 in .png or .tif")
    if pixels.ndim != 3 or pixels.shape[0] != 3 or not pixels.numel():
        raise ShapeError(f"picture has shape {list(pixels.shape)}; expected [3, H, W] in RGB")
    codes = to_codes(pixels, bits)
    with replacing(path, overwrite=overwrite) as part:
        part.write_bytes(stamp(encode(codes, kind), tags))
    return path


def check_file(
    path: str | os.PathLike[str],
    suffixes: Sequence[str],
    *,
    overwrite: bool = False,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> Path:
    """Check, before any work is done, that a file with one of `suffixes` can be written.

    Raises UsageError for another suffix, where something is there that may not be replaced, and
    where it is one of `inputs`; MediaError where its folder is missing or not writable.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: unknown suffix; use {', '.join(suffixes)}")
    check_free(path, inputs, overwrite=overwrite)
    return path


def write_still(
    frame: Tensor,
    path: str | os.PathLike[str],
    *,
    alpha: Tensor | None = None,
    bits: int = 8,
    tags: Tags | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one restored frame as well as the kind of file can have it, and check it by reopening.

    Args:
        frame: [3, H, W] in [0, 1], on white where `alpha` is not 1; JPEG leaves it there.
        path: with one of the suffixes of `SHARP`.
        alpha: [1, H, W] in [0, 1], None for an opaque picture.
        bits: a color, 8 or 16; what cannot have 16 is written with 8.
        tags: what the file is to say of itself.
        overwrite: replace a file that is there.

    Raises:
        UsageError: a suffix that cannot be written, or a file that exists.
        MediaError: the disk or an encoder refuses; nothing is left under the name then.

    """
    path, kind = Path(path), _kind(path)
    depth = bits if kind in DEEP else 8
    codes = to_codes(unveiled(frame, alpha if kind in VEILED else None), depth)
    if codes.shape[2] == 4 and codes[..., 3].min() == 2**depth - 1:
        codes = np.ascontiguousarray(codes[..., :3])  # nothing shows through in so few bits
    with replacing(path, overwrite=overwrite) as part:
        part.write_bytes(_encoded(codes, kind, tags or Tags(), path))
        _verify(part, codes, path)
    return path


def lost_in(path: str | os.PathLike[str], alpha: Tensor | None, bits: int) -> Iterator[str]:
    """Say what a picture with `alpha` and `bits` a color loses in the kind of file of `path`.

    A folder of PNG or TIFF has all of it, clips of other kinds have neither.
    """
    suffix = Path(path).suffix.lower()
    kind = SHARP.get(suffix, suffix if suffix in MOST else "PNG")
    if alpha is not None and kind not in VEILED:
        yield f"{kind} cannot be transparent; the picture is laid on white"
    if bits > 8 and kind not in DEEP:
        yield f"{kind} has 8 of the {bits} bits of each color; .png and .tif have all"


def check_still(
    path: str | os.PathLike[str],
    *,
    overwrite: bool,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> Path:
    """Check, before any work is done, that `write_still` can write at `path`; return it.

    Raises as `check_file` does, and UsageError where Pillow was built without AVIF.
    """
    target = Path(path)
    check_name(target)
    if _kind(target) == "AVIF" and not features.check("avif"):
        raise UsageError(f"{target}: Pillow was built without AVIF here; write .png or .jpg")
    return check_file(target, tuple(SHARP), overwrite=overwrite, inputs=inputs)


def _kind(path: str | os.PathLike[str]) -> str:
    """Pillow's name of the kind of picture at `path`."""
    kind = SHARP.get(Path(path).suffix.lower())
    if kind is None:
        known = ", ".join(SHARP)
        raise UsageError(f"{path}: unknown suffix; one picture is written as {known}")
    return kind


def _encoded(codes: np.ndarray, kind: str, tags: Tags, path: Path) -> bytes:
    """Encode code values with all of their colors and with tags; raises MediaError."""
    try:
        if kind == "AVIF":
            return encode(codes, kind, subsampling="4:4:4", exif=tags.exif(), xmp=tags.xmp())
        return stamp(encode(codes, kind, subsampling="4:4:4"), tags)
    except (ValueError, RuntimeError) as error:  # encoders raise them on sizes that they refuse
        raise MediaError(f"{path}: cannot be encoded ({one_line(error)}); write .png") from error


def _verify(part: Path, codes: np.ndarray, path: Path) -> None:
    """Check by reopening that `part` has the size, the bits and the alpha of `codes`."""
    try:
        photo = read_photo(part)
        with open_photo(part) as image:
            veiled = image.has_transparency_data
    except MediaError as error:
        raise MediaError(f"{path}: was not written whole ({one_line(error)})") from error
    height, width, channels = codes.shape
    found = (*photo.pixels.shape[1:], photo.bits, veiled)
    if found != (height, width, 8 * codes.itemsize, channels == 4):
        wrong = f"{found[1]}x{found[0]} pixels of {found[2]} bits instead of {width}x{height}"
        raise MediaError(f"{path}: reading it back gave {wrong}; write another kind of file")
