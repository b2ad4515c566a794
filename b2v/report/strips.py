"""Strips: pictures side by side, of the samples that a model does best and worst on."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.media import write_photo

CELL = 640
"""Largest width of one picture of a strip in pixels."""
GAP = 4
"""White pixels around each."""


class Extremes:
    """Keeps the pictures of the best and the worst of many samples, and no others."""

    def __init__(self, count: int = 3) -> None:
        """Keep so many of the best, and as many of the worst."""
        self.count = count
        self._kept: list[tuple[float, str, Tensor]] = []  # best first

    def offer(self, gain: float, name: str, draw: Callable[[], Tensor]) -> None:
        """Look at a sample; its picture [3, H, W] in [0, 1] is drawn only if it is to be kept."""
        place = sum(gain <= other for other, _, _ in self._kept)
        after = len(self._kept) - place
        if place >= self.count and after >= self.count:
            return
        self._kept.insert(place, (gain, name, (draw() * 255).round().byte()))
        if len(self._kept) > 2 * self.count:
            del self._kept[self.count]

    def write(self, folder: Path) -> list[Path]:
        """Write `best-N…` and `worst-N…` into a folder, 1 the furthest out; return the files.

        A sample is written once: of few, the better half is best. Those that an earlier call has
        left there are removed. Raises MediaError when the disk refuses.
        """
        for old in [*folder.glob("best-*_*dB_*.png"), *folder.glob("worst-*_*dB_*.png")]:
            old.unlink()
        half = min(self.count, (len(self._kept) + 1) // 2)
        best, worst = self._kept[:half], self._kept[half:][::-1]
        written = []
        for kind, samples in (("best", best), ("worst", worst)):
            for place, (gain, name, codes) in enumerate(samples, 1):
                plain = re.sub(r"[^\w.-]+", "-", name).strip("-")
                path = folder / f"{kind}-{place}_{gain:+.2f}dB_{plain}.png"
                folder.mkdir(parents=True, exist_ok=True)
                written.append(write_photo(codes.float() / 255, path, overwrite=True))
        return written


def in_a_grid(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Lay out pictures [3, H, W] of one size in rows of equal length, each `CELL` wide at most."""
    cells = [torch.cat([_framed(picture) for picture in row], 2) for row in rows]
    return torch.cat(cells, 1)


def _framed(picture: Tensor) -> Tensor:
    height, width = picture.shape[1:]
    if width > CELL:
        shape = round(height * CELL / width), CELL
        picture = F.interpolate(picture[None], shape, mode="bilinear", antialias=True)[0]
    return F.pad(picture.clamp(0, 1), (GAP,) * 4, value=1.0)
