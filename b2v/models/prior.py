"""The prior of a photo: a network that makes a sharp picture of a blurry one, and how it is run.

Where a network sees all that it is given at once, what comes out depends on the size of that; so
the size of the tiles that larger pictures are cut into belongs to the model, and is never chosen
by the memory at hand. Tiles overlap, and are blended where they do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn


class Tile(NamedTuple):
    """A part of a picture: its first row and column, and its sides."""

    top: int
    left: int
    height: int
    width: int

    def of(self, picture: Tensor) -> Tensor:
        """Cut it out of [..., H, W]."""
        rows = slice(self.top, self.top + self.height)
        return picture[..., rows, self.left : self.left + self.width]


@dataclass(frozen=True)
class Tiling:
    """Tiles of `side` pixels that overlap by `overlap`; what is little longer is not cut.

    Each begins at a multiple of `step`, which a network of strides needs to give what it gives for
    the whole picture; the last one may be longer by less than that.
    """

    side: int
    overlap: int
    step: int = 1

    def tiles(self, height: int, width: int) -> Iterator[Tile]:
        """Cover a picture, evenly."""
        for top, rows in self._spans(height):
            for left, columns in self._spans(width):
                yield Tile(top, left, rows, columns)

    @property
    def most(self) -> int:
        """Pixels of the longest side that is not cut into tiles."""
        return self.side + self.overlap

    def _spans(self, length: int) -> list[tuple[int, int]]:
        """First pixel and length of each tile along one side."""
        if length <= self.most:
            return [(0, length)]
        count = -(-(length - self.overlap) // (self.side - self.overlap))
        apart = (length - self.side) / (count - 1)
        starts = [round(k * apart) // self.step * self.step for k in range(count)]
        return [*((start, self.side) for start in starts[:-1]), (starts[-1], length - starts[-1])]

    def weights(self, tile: Tile, height: int, width: int) -> Tensor:
        """How much a tile counts at each of its pixels, less towards tiles beside it: [h, w]."""
        down = self._ramp(tile.top, tile.height, height)
        return down[:, None] * self._ramp(tile.left, tile.width, width)

    def _ramp(self, start: int, length: int, whole: int) -> Tensor:
        ramp = torch.ones(length)
        rising = (torch.arange(self.overlap) + 0.5) / self.overlap
        if start > 0:
            ramp[: self.overlap] = rising
        if start + length < whole:
            ramp[-self.overlap :] = rising.flip(0)
        return ramp


class Prior(nn.Module):
    """A network from blurry pictures [B, 3, H, W] to sharp ones, with the tiles it is run in.

    One that `knows_sharp` leaves sharp places as they are; what others change where nothing moved
    is not taken.
    """

    def __init__(self, net: nn.Module, tiling: Tiling, *, knows_sharp: bool = False) -> None:
        super().__init__()
        self.net, self.tiling, self.knows_sharp = net, tiling, knows_sharp
        self.multiple = cast("int", net.multiple)

    def forward(self, blurry: Tensor) -> Tensor:
        """Restore one tile."""
        return cast("Tensor", self.net(blurry))
