"""Seven frames from a sharp middle frame and the paths along which its pixels were smeared.

    x = middle(y)        xk = sides(y, x, wk)
                         wk(p) = z(p - t path(p)),   t = (k - 4) / 3,   z = x, deconvolved

Three networks: one sharpens the middle frame, one reads the paths off the blur
(`b2v.models.paths`), which become as long as the blur bears out (`b2v.models.proof`). What blur is
left is taken back along them (`b2v.models.deconvolution`), the frame is moved, and one network,
shared by all frames, mends what paths that are wrong do to it: what rings, what is uncovered, what
stands at the edges of objects. The frames move in order by construction, and a middle frame from
elsewhere can take the place of x and z. In the code x is called x4.

Pictures are [B, 3, H, W], sRGB-encoded in [0, 1]; sides are multiples of `multiple`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from b2v.frames import FRAMES, MIDDLE
from b2v.models.camera import camera_motion, motion_at
from b2v.models.deconvolution import deconvolve, looks
from b2v.models.moving import move_along
from b2v.models.paths import BAND, CELL, halve, spread
from b2v.models.proof import LONGEST, lengths, misfit

SURE = 0.3
"""Pixels of path at which a direction is half as sure as that of a long one can be."""

AGREED = 1.0
"""Relative difference between a path and the camera's at which the latter counts half as much."""


class Unfold(nn.Module):
    """Seven frames [B, 7, 3, H, W] from one blurry picture [B, 3, H, W].

    Without `sides` the frames stay as they were moved.
    """

    def __init__(self, *, middle: nn.Module, paths: nn.Module, sides: nn.Module | None) -> None:
        super().__init__()
        self.middle, self.paths, self.sides = middle, paths, sides
        self.multiple = math.lcm(*(cast("int", net.multiple) for net in (middle, paths)))

    def forward(
        self, blurry: Tensor, middle: Tensor | None = None, *, frames: int = FRAMES
    ) -> Tensor:
        """Estimate the seven frames, or another odd number, in order of time.

        `middle` is used, as it is, instead of the net's own x4; arguments as of `Cascade`.
        """
        x4 = self.middle(blurry) if middle is None else middle
        motion = Motion.read(self.paths, blurry).tested(blurry, x4)
        sharper = motion.sharpened(blurry, x4) if middle is None else middle
        restored = list(unfold(sharper, motion.paths(), frames).unbind(1))
        for k, frame in enumerate(restored):
            if middle is not None and k == frames // 2:
                restored[k] = middle.float()
            elif self.sides is not None:
                restored[k] = self.sides(blurry, x4, frame).float()
        return torch.stack(restored, 1)


@dataclass(frozen=True)
class Motion:
    """How pictures were smeared, and in which direction of time.

    Attributes:
        cells: doubled paths [B, 3, h, w] of cells, as `Paths` gives them.
        cameras: [B, 3, 2] motions of the cameras (`b2v.models.camera`), whose sign all paths take.
        factors: by which paths are longer than that, [B, 1, h, w] of cells; none is 1 everywhere.

    """

    cells: Tensor
    cameras: Tensor
    factors: Tensor | None = None

    @classmethod
    def of(cls, cells: Tensor) -> "Motion":
        """Find the cameras that go with doubled paths."""
        pairs = zip(halve(cells), _trust(cells)[:, 0], strict=True)
        return cls(cells, torch.stack([camera_motion(*pair) for pair in pairs]))

    @classmethod
    def read(cls, paths: nn.Module, blurry: Tensor) -> "Motion":
        """Read the paths off pictures [B, 3, H, W], in fp32: all frames hang on these few."""
        device = next((weight.device for weight in paths.parameters()), blurry.device)
        with torch.autocast(device.type, enabled=False):
            return cls.of(paths(blurry.float()))

    def tested(self, blurry: Tensor, x4: Tensor) -> "Motion":
        """Shorten and lengthen the paths so that x4, moved along them, explains the blur.

        Both pictures are [B, 3, H, W]; they are looked at in bands, on the device of the paths.
        """
        reach = math.ceil(self.reach * LONGEST) + 2
        found = []
        for top, bottom, first, last in _bands(blurry.shape[2], reach):
            band, window = self._fetch(blurry[:, :, top:bottom], x4[:, :, first:last])
            with torch.autocast(band.device.type, enabled=False):
                found.append(misfit(band, window, self.paths(top, bottom), top - first))
        return replace(self, factors=lengths(torch.cat(found, 2)))

    def sharpened(self, blurry: Tensor, x4: Tensor) -> Tensor:
        """Take back what blur is left in x4 along the paths, as far as they are trusted.

        The square of how sure their direction is says how far: where it is guessed, in soft
        regions above all, deconvolution does harm. Both pictures are [B, 3, H, W], sRGB-encoded
        in [0, 1], and so is the result, in fp32, which lies where x4 does.
        """
        sharper = torch.empty_like(x4, dtype=torch.float32)
        for top, bottom, first, last in _bands(blurry.shape[2], looks(self.reach)):
            trust = spread(_trust(self.cells), first, last).square()
            seen, frame = self._fetch(blurry[:, :, first:last], x4[:, :, first:last])
            with torch.autocast(trust.device.type, enabled=False):
                found = deconvolve(seen, frame, self.paths(first, last), trust, self.reach)
            sharper[:, :, top:bottom] = found[:, :, top - first : bottom - first]
        return sharper

    def _fetch(self, *pictures: Tensor) -> list[Tensor]:
        """Bring rows of pictures to where the paths are."""
        return [rows.to(self.cells.device, torch.float32) for rows in pictures]

    @property
    def reach(self) -> float:
        """Longest path in pixels that `paths` can give, or a little more."""
        own = float(self.cells[:, 0].amax().clamp(min=0))
        longest = max(own, (own + float(self.cameras.abs().sum((1, 2)).amax())) / 2)
        return longest if self.factors is None else LONGEST * longest

    def paths(self, top: int = 0, bottom: int | None = None) -> Tensor:
        """Give the paths of pixels from `top` to `bottom`, [B, 2, rows, W], in one direction.

        Where a path agrees with the camera, the mean of both is taken, which is nearer the truth
        than either; the less it agrees, the more it keeps: objects have motions of their own.
        """
        height, width = (CELL * side for side in self.cells.shape[2:])
        bottom = height if bottom is None else bottom
        own = halve(spread(self.cells, top, bottom))
        camera = torch.stack([motion_at(c, height, width, top, bottom) for c in self.cameras])
        against = (own * camera).sum(1, keepdim=True) < 0
        own = torch.where(against, -own, own)
        apart = (camera - own).norm(dim=1, keepdim=True) / (1 + own.norm(dim=1, keepdim=True))
        mixed = own + (camera - own) / (2 + 2 * (apart / AGREED).square())
        return mixed if self.factors is None else mixed * spread(self.factors, top, bottom)


def _trust(cells: Tensor) -> Tensor:
    """Tell how sure the direction of doubled paths is, [B, 1, h, w] in [0, 1]."""
    sure = cells[:, 1:].norm(dim=1, keepdim=True)
    return (sure / (SURE + cells[:, :1].clamp(min=0))).clamp(0, 1)


def _bands(height: int, look: int) -> Iterator[tuple[int, int, int, int]]:
    """Go down a picture in bands: first row and end of each, and of the rows that it looks at."""
    for top in range(0, height, BAND):
        bottom = min(top + BAND, height)
        yield top, bottom, max(0, top - look), min(bottom + look, height)


def moments(frames: int) -> Tensor:
    """Give the times of frames, as many before the middle as after it; of seven the last is 1."""
    return torch.arange(-(frames // 2), frames // 2 + 1) / MIDDLE


def unfold(x4: Tensor, paths: Tensor, frames: int = FRAMES) -> Tensor:
    """Move the middle frame [B, 3, H, W] along paths [B, 2, H, W]: [B, frames, 3, H, W].

    Paths lead to the last of seven frames; others lie on them, or further along.
    """
    times = moments(frames).to(paths.device)
    return move_along(x4, paths[:, None] * times.view(1, -1, 1, 1, 1))
