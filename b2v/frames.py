"""Shape and range of frames, and the padding and the tiles that networks need.

A frame is [3, H, W], a clip [T, 3, H, W], a batch of clips [B, T, 3, H, W]:
RGB, sRGB-encoded, [0, 1].

Where a network sees all that it is given at once, what comes out depends on the size of that; so
the size of the tiles that larger pictures are cut into belongs to the model, and is never chosen
by the memory at hand. Tiles overlap, and are blended where they do.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor, arange, from_numpy, isfinite, lerp, ones
from torch.nn import functional as F

from b2v.defaults import COUNTS as COUNTS
from b2v.defaults import FRAMES as FRAMES
from b2v.errors import ShapeError

MIDDLE = FRAMES // 2
"""Index of the middle frame, x4 in the papers' counting from 1."""
MIN_SIDE = 16
"""Smallest height and width in pixels that the networks are run on."""


def check_frame(frame: Tensor, name: str = "frame") -> None:
    """Check that `frame` is one [3, H, W] picture in [0, 1] that the networks can take.

    Raises ShapeError when it is not RGB, or smaller than `MIN_SIDE` on either side,
    or holds values outside [0, 1].
    """
    if frame.ndim != 3 or frame.shape[0] != 3:
        raise ShapeError(f"{name} has shape {list(frame.shape)}; expected [3, H, W] in RGB")
    height, width = frame.shape[1:]
    if min(height, width) < MIN_SIDE:
        raise ShapeError(
            f"{name} is {width}x{height} pixels; at least {MIN_SIDE}x{MIN_SIDE} are needed"
        )
    if not isfinite(frame).all() or frame.min() < 0 or frame.max() > 1:
        raise ShapeError(f"{name} has values outside [0, 1]; divide 8-bit pixels by 255")


def inner(frames: Tensor, count: int = FRAMES) -> Tensor:
    """Leave out frames of [T, ...] at both ends until `count`, odd as T is, are left."""
    cut = max(0, len(frames) - count) // 2
    return frames[cut : len(frames) - cut]


def blend(frames: Tensor, blurry: Tensor, strength: float) -> Tensor:
    """Mix frames [T, 3, H, W] with the photo [3, H, W]: they alone at `strength` 1, it alone at 0.

    Code values are mixed, not light, so that a step of `strength` looks the same all the way.
    """
    return frames if strength == 1 else lerp(blurry.expand_as(frames), frames, strength)


def pad_to_multiple(frames: Tensor, multiple: int) -> Tensor:
    """Pad [..., H, W] at the bottom and the right, by reflection, to multiples of `multiple`.

    A side that is too short to be reflected at once is reflected again and again.
    """
    height, width = frames.shape[-2:]
    lead = frames.shape[:-3]
    padded = frames.reshape(-1, *frames.shape[-3:])
    while (need := (-padded.shape[-1]) % multiple) or (-padded.shape[-2]) % multiple:
        need_y = (-padded.shape[-2]) % multiple
        step_x, step_y = min(need, padded.shape[-1] - 1), min(need_y, padded.shape[-2] - 1)
        if (need and not step_x) or (need_y and not step_y):
            raise ShapeError(f"{width}x{height} pixels cannot be padded by reflection")
        padded = F.pad(padded, (0, step_x, 0, step_y), mode="reflect")
    return padded.reshape(*lead, *padded.shape[-3:])


def crop_back(frames: Tensor, height: int, width: int) -> Tensor:
    """Undo `pad_to_multiple`: the top left `height` x `width` pixels of [..., H, W]."""
    return frames[..., :height, :width]


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
        ramp = ones(length)
        rising = (arange(self.overlap) + 0.5) / self.overlap
        if start > 0:
            ramp[: self.overlap] = rising
        if start + length < whole:
            ramp[-self.overlap :] = rising.flip(0)
        return ramp


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Average [C, H, W] in a Gaussian window around each place; borders go on as they end."""
    reach = min(math.ceil(3 * sigma), *(side - 1 for side in maps.shape[1:]))
    axis = arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    kernel = (-axis.square() / (2 * sigma**2)).exp()
    kernel = kernel / kernel.sum()
    maps = F.pad(maps[:, None], (reach,) * 4, mode="replicate")  # [C, 1, H, W]
    return F.conv2d(F.conv2d(maps, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[:, 0]


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
