"""The networks that unfold a picture along its paths, in strips."""

import math
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor

from b2v.models import Unfold
from b2v.models.moving import move_along
from b2v.models.unet import UNet
from b2v.models.unfold import Motion, moments
from b2v.strips.unet import Strips, rows_of


def unfold_in_strips(
    net: Unfold,
    blurry: Tensor,
    rows: int,
    *,
    middle: Tensor | None = None,
    frames: int,
    device: torch.device | None = None,
) -> Iterator[tuple[int, int, Tensor]]:
    """Run the model; arguments and what is yielded as of `b2v.strips.in_strips`.

    A camera moves all of its picture, and x4 tells how far, so x4 is sharpened and the paths are
    read from top to bottom before anything is moved. Paths are kept for cells, of which there are
    few.
    """
    half, height, given = frames // 2, blurry.shape[2], middle is not None
    if middle is None:
        middle = _whole(cast(UNet, net.middle), blurry, rows, device)
    else:
        yield half, 0, middle
    motion = Motion.read(net.paths, blurry).tested(blurry, middle)
    sharper = middle if given else motion.sharpened(blurry, middle)
    times = moments(frames).to(motion.cells.device)
    reach = math.ceil(motion.reach * float(times.max())) + 2
    sides = None
    if net.sides is not None:
        sides = [Strips(cast(UNet, net.sides), rows) for _ in range(frames)]
    known = [0] * frames
    for top in range(0, height, rows):
        bottom, first = min(top + rows, height), max(0, top - reach)
        shift = motion.paths(top, bottom)[:, None] * times.view(1, -1, 1, 1, 1)
        moved = move_along(rows_of(sharper, first, bottom + reach, device), shift, top - first)
        pictures = [rows_of(picture, top, bottom, device) for picture in (blurry, middle)]
        for k, part in enumerate(moved.unbind(1)):
            if k == half and given:
                continue
            done = part
            if sides is not None:
                done = sides[k](*pictures, part, last=bottom == height)[0]
            if done.shape[2]:
                yield k, known[k], done
            known[k] += done.shape[2]


def _whole(net: UNet, blurry: Tensor, rows: int, device: torch.device | None) -> Tensor:
    """Compute all rows of x4, which are kept where the blurry picture is."""
    strips, known, height = Strips(net, rows), 0, blurry.shape[2]
    x4 = torch.empty_like(blurry)
    for top in range(0, height, rows):
        (part,) = strips(rows_of(blurry, top, top + rows, device), last=top + rows >= height)
        x4[:, :, known : known + part.shape[2]] = part
        known += part.shape[2]
    return x4
