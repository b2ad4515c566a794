"""Pictures to files, in one piece, with what they say of themselves."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor

from b2v.errors import ShapeError, UsageError
from b2v.media.photo import replacing
from b2v.media.stamp import stamp
from b2v.media.stills import encode, to_codes
from b2v.media.tags import Tags
from b2v.media.target import check_free

STILLS = {
    **{"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"},
    **{"tif": "TIFF", "tiff": "TIFF", "bmp": "BMP"},
}
"""Suffixes that `write_photo` knows."""


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
