"""How large the pictures are that each kind of file can hold."""

import math
import os
from pathlib import Path

from b2v.errors import UsageError

VIDEO = 16384, 139_264 * 256
MOST = {
    **dict.fromkeys((".mp4", ".mov", ".mkv", ".webm"), VIDEO),
    **{".gif": (65535, 1 << 32), ".webp": (16383, 1 << 32)},
    **{".jpg": (65500, 1 << 32), ".jpeg": (65500, 1 << 32), ".avif": (32768, 1 << 28)},
}
"""Pixels a side, and pixels: libx264 takes no longer side, and the highest level of H.264 (6.2)
has 139,264 blocks of 16 x 16, so that no player has to show more; HEVC, VP9 and AV1 have
the same limit. libjpeg takes 65500 a side; libavif reads no larger AVIF than that."""
ONE = (".jpg", ".jpeg", ".avif")
"""Of them, those that are one picture and no clip."""


def check_size(path: str | os.PathLike[str], height: int, width: int) -> None:
    """Check that a file at `path` can hold pictures of a size, any in PNG or a folder of it.

    Raises UsageError where it cannot; it says what would.
    """
    target = Path(path)
    if os.fspath(path).endswith(("/", os.sep)) or target.is_dir():
        return
    kind = target.suffix.lower()
    if kind not in MOST:
        return
    (side, pixels), why = MOST[kind], ""
    if max(height, width) > side:
        why = f"{kind} takes {side} a side"
    elif 256 * math.ceil(height / 16) * math.ceil(width / 16) > pixels:
        why = f"{kind} takes {pixels / 1e6:.1f} megapixels"
    if why:
        size = f"{width}x{height} pixels are too many, {why}"
        instead = "write .png" if kind in ONE else "name a folder for PNG"
        raise UsageError(f"{target}: {size}; scale down, or {instead}")
