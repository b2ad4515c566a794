"""How far a picture may be moved along its paths: what comes of it has to explain the blur.

Paths are read off the blur by a network, which takes soft textures for smeared ones now and then
and does not see all of a long smear. The sharp middle frame is a second witness: moved along the
paths and averaged as light, it must give the blurry picture again. Where it does not, but would
along shorter or longer paths, these are the better ones.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.color import to_encoded, to_linear
from b2v.models.moving import move_along
from b2v.models.paths import CELL

STEPS, FULL, MOST = 2, 4, 6
"""Instants in a quarter of a path to each side, and quarters: of a path, and of the longest."""
LONGEST = MOST / FULL
"""By which factor paths are lengthened at most."""
AROUND, SOFT = 9, 5
"""Cells a side over which differences are averaged, and over which what follows from them is."""
DOUBT = 15.0
"""How many times as large as the least a difference is at which a path is taken to be wrong.

x4 is not quite sharp, so that shorter paths seem to do better than they should.
"""
NOISE = 1.5e-5
"""Difference (mean square) that no picture is free of."""


def misfit(blurry: Tensor, x4: Tensor, paths: Tensor, top: int = 0) -> Tensor:
    """Tell how badly a frame, moved along paths that are cut short or go on, explains the blur.

    Args:
        blurry: some rows of the blurry picture, [B, 3, h, W] in [0, 1], h a multiple of `CELL`.
        x4: the frame, [B, 3, H, W]; it has all rows that are moved to the others.
        paths: [B, 2, h, W], to the end of the exposure.
        top: row of `x4` where the others begin.

    Returns:
        Mean squared differences [B, MOST + 1, h/8, W/8] with paths of no length, of a quarter, of
        two and so on.

    """
    light = to_linear(x4.float(), "gamma2.2")
    total = light[:, :, top : top + blurry.shape[2]]
    found = [_difference(total, blurry)]
    for instant in range(1, STEPS * MOST + 1):
        time = instant / (STEPS * FULL)
        times = paths.new_tensor([-time, time]).view(1, -1, 1, 1, 1)
        ends = move_along(light, paths[:, None] * times, top).sum(1)
        if instant % STEPS == 0:  # the trapezoidal rule
            found.append(_difference((total + ends / 2) / (2 * instant), blurry))
        total = total + ends
    return torch.cat(found, 1)


def lengths(misfits: Tensor) -> Tensor:
    """Choose by which factor paths are to be as long, from 0 to 1.5: [B, 1, h, w] from `misfit`.

    Longer paths are taken where they explain the blur best, shorter ones where it is certain that
    the full one is wrong.
    """
    near = F.avg_pool2d(misfits, AROUND, 1, AROUND // 2, count_include_pad=False)
    upto = near[:, : FULL + 1]
    possible = upto <= DOUBT * upto.amin(1, keepdim=True) + NOISE
    numbers = torch.arange(FULL + 1, device=near.device).view(1, -1, 1, 1)
    longest = (numbers * possible).amax(1, keepdim=True)
    best = near.argmin(1, keepdim=True)
    factors = torch.where(best > FULL, best, longest).float() / FULL
    return F.avg_pool2d(factors, SOFT, 1, SOFT // 2, count_include_pad=False)


def _difference(light: Tensor, blurry: Tensor) -> Tensor:
    squared = (to_encoded(light, "gamma2.2") - blurry).square().mean(1, keepdim=True)
    return F.avg_pool2d(squared, CELL)
