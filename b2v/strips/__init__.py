"""Networks from the top of a picture to its bottom, a strip of rows at a time.

Tiles that overlap would compute what they share twice, and deep networks look far. Here every
convolution keeps the last rows of its input, a few of them, until the next strip comes: each
row of each map is computed once, from the same values as in the whole picture, so the result is
that of the whole picture, and time grows with the number of pixels. The passes of several networks
go down the picture together, each some rows behind those whose frames it takes. What is held at
once is a strip and the rows that wait, which grow with the width and not with the height.

This needs networks in which a pixel depends on its neighbourhood alone (`b2v.models.unet`). The
paper's own normalize by the whole picture, and are given it as a whole.
"""

from collections.abc import Iterator
from typing import TypeGuard

import torch
from torch import Tensor

from b2v.frames import FRAMES
from b2v.memory import Appetite
from b2v.models import Cascade, Extractor
from b2v.models.unet import UNet
from b2v.strips.cascade import cascade_in_strips

WAITING_ROWS = 770.0
"""Rows that a pass holds at most, in whatever maps, counted in rows of its finest one."""
MAPS = 28.0
"""Maps as large as the finest that lie beside each other while a strip is worked on."""


def goes_in_strips(net: Extractor) -> TypeGuard[Cascade]:
    """Tell whether a model is one for `in_strips`."""
    return type(net) is Cascade and bool(_unets(net))


def appetite(net: Cascade, frames: int, height: int, width: int) -> Appetite:
    """Estimate what `in_strips` takes for a picture of a size, from what was measured."""
    finest = max(part.config.widths[0] / part.config.shuffle**2 for part in _unets(net))
    row = 4 * finest * width
    return Appetite((frames - 1) * WAITING_ROWS * row, MAPS * row)


def in_strips(
    net: Cascade,
    blurry: Tensor,
    rows: int,
    *,
    middle: Tensor | None = None,
    frames: int = FRAMES,
    device: torch.device | None = None,
) -> Iterator[tuple[int, int, Tensor]]:
    """Run a model on one picture, strip by strip.

    Gradients are recorded, or not, as the caller has it at each step.

    Args:
        net: the model.
        blurry: [1, 3, H, W] in [0, 1], sides multiples of `net.multiple`.
        rows: height of a strip, a multiple of `net.multiple`.
        middle: sharp middle frame of the same shape, used instead of the net's own.
        frames: how many, odd, three at least, as `Cascade` takes them.
        device: where the networks are; strips are moved there. The pictures' own without.

    Yields:
        Index of a frame, the row it goes on with, and its next rows [1, 3, rows, W], not clamped.

    """
    yield from cascade_in_strips(net, blurry, rows, middle=middle, frames=frames, device=device)


def _unets(net: Extractor) -> list[UNet]:
    """List the U-Nets that a model runs in strips; none where another network is among them."""
    parts = list(net.children())
    unets = [part for part in parts if type(part) is UNet]
    return unets if len(unets) == len(parts) else []


__all__ = ["appetite", "goes_in_strips", "in_strips"]
