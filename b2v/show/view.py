"""Where a page opens: at the part of the picture that gained most by being restored.

Gain is gradient energy of the restored picture over that of the blurry one, both after a Gaussian
of `SIGMA` pixels, which keeps noise and the blocks of JPEG out of it.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.show.layout import smooth

SIGMA = 1.0
"""Standard deviation in pixels of the Gaussian before gradients are taken."""
WINDOW = 320
"""Side in pixels of the screen of the part that is chosen: all of it is seen on a phone."""
SMALL = 800
"""Pictures whose longest side has fewer pixels open at 200 %."""
BORDER = 1 / 32
"""Part of the shorter side that is left out all round, as networks err most at borders."""
FLAT = 0.01
"""Slopes per pixel that are less than this are those of flat regions, where only noise can grow."""
STEP = 4
"""Pixels between the windows that are tried."""


class View(NamedTuple):
    """Pixel of the picture in the middle of what is seen, and pixels of the screen for each."""

    x: int
    y: int
    zoom: int


def opening(blurry: Tensor, restored: Tensor) -> View:
    """Choose where the difference of two pictures [3, H, W] in [0, 1] is plain.

    It is the middle of the picture where nothing was gained.
    """
    height, width = blurry.shape[1:]
    zoom = 2 if max(height, width) < SMALL else 1
    gain = _energy(restored) - _energy(blurry)  # [H, W]
    cut = round(BORDER * min(height, width))
    inside = gain[None, cut : height - cut, cut : width - cut]
    side = [min(WINDOW // zoom, length) for length in inside.shape[1:]]
    sums = F.avg_pool2d(F.avg_pool2d(inside, (side[0], 1), (STEP, 1)), (1, side[1]), (1, STEP))[0]
    if sums.max() <= 0:
        return View(width // 2, height // 2, zoom)
    row, column = divmod(int(sums.argmax()), sums.shape[1])
    return View(cut + STEP * column + side[1] // 2, cut + STEP * row + side[0] // 2, zoom)


def _energy(picture: Tensor) -> Tensor:
    """Squared slope of the grey of a picture [3, H, W] at each pixel, [H, W]; 0 where flat."""
    grey = smooth(picture.float().mean(0, keepdim=True), SIGMA)[0]
    padded = F.pad(grey[None, None], (1,) * 4, mode="replicate")[0, 0]
    across = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    down = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    energy = across.square() + down.square()
    return torch.where(energy < FLAT**2, 0, energy)
