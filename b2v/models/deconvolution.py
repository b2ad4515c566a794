"""A frame made sharper by what its paths say: the blur of each pixel is known, and is taken back.

Light averaged along the paths of a sharp frame must give the blurry picture. Where it does not,
the frame is corrected by the ratio of both, averaged along the same paths: Richardson (1972) and
Lucy (1974), with a kernel of its own for every pixel, as in Tai, Tan and Brown, Richardson-Lucy
Deblurring for Scenes under a Projective Motion Path (2011). It starts at the frame that a network
has sharpened, so few rounds do.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.color import GREY, to_encoded, to_linear

ROUNDS = 2
"""Corrections, one after the other: more of them bring out what is wrong in the paths."""
RELAXED = 2.0
"""By how much each is exaggerated: two rounds do what four would at 1."""
INSTANTS, APART = (3, 12), 2.0
"""Instants to each side of the middle of the exposure over which light is averaged, least and most,
and pixels between them at most where there are not more."""
DARK = 1e-4
"""Light below which ratios are not taken."""
LEAST = 0.1
"""Factor by which a round darkens a pixel at most: exaggerated changes could pass zero."""


def deconvolve(
    blurry: Tensor,
    x4: Tensor,
    paths: Tensor,
    trust: Tensor,
    reach: float | None = None,
    relaxed: float = RELAXED,
    *,
    bends: Tensor | None = None,
    gray: bool = False,
) -> Tensor:
    """Correct a frame so that, moved along its paths and averaged as light, it gives the blur.

    A row depends on those that are up to `looks` of the longest path away.

    Args:
        blurry: [B, 3, H, W] in [0, 1], sRGB-encoded.
        x4: the frame, as `blurry`.
        paths: [B, 2, H, W], to the end of the exposure, in pixels.
        trust: [B, 1, H, W] in [0, 1], the share of each correction that is made.
        reach: pixels of the longest path of the picture that this is a part of; of this without.
        relaxed: by how much each correction is exaggerated.
        bends: [B, 2, H, W], how far the ends of the exposure lie off a straight path, in pixels:
            at the time t from -1 to 1 a place has gone t * path + t^2 * bend.
        gray: correct all colors by one ratio, that of their sums, in half the time.

    Returns:
        [B, 3, H, W] in [0, 1].

    """
    seen, light = (to_linear(p.float(), "gamma2.2") for p in (blurry, x4))
    colors = light
    if gray:
        seen, light = (_gray(picture) for picture in (seen, light))
    side = instants_for(paths, reach)
    averaged = averaging(paths, side, bends)
    spread = averaged if bends is None else averaging(-paths, side, -bends)
    factor = torch.ones_like(light)
    for _ in range(ROUNDS):
        ratio = seen.clamp(min=DARK) / averaged((light * factor).clamp(0, 1)).clamp(min=DARK)
        change = relaxed * trust * (spread(ratio) - 1)
        factor = factor * (1 + change).clamp(min=LEAST)
    return to_encoded((colors * factor).clamp(0, 1), "gamma2.2")


def looks(reach: float) -> int:
    """Tell how many rows away `deconvolve` looks when no path is longer than `reach` pixels."""
    return 2 * ROUNDS * (int(reach) + 2)


def instants_for(paths: Tensor, reach: float | None = None) -> int:
    """Tell over how many instants to each side of the middle light is averaged along paths."""
    reach = float(paths.norm(dim=1).amax()) if reach is None else reach
    least, most = INSTANTS
    return min(max(least, math.ceil(reach / APART)), most)


def averaging(paths: Tensor, side: int, bends: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """Make what averages pictures [B, C, H, W] along paths, over `side` instants to each side.

    Paths change slowly from pixel to pixel, so that the way back takes the place of the transpose;
    along straight ones that is the same, as time runs equally far to both sides.
    """
    height, width = paths.shape[2:]
    size = paths.new_tensor([width, height])
    y, x = torch.meshgrid(
        torch.arange(height, device=paths.device),
        torch.arange(width, device=paths.device),
        indexing="ij",
    )
    here = (2 * torch.stack([x, y], -1) + 1) / size - 1  # [H, W, 2]
    step = paths.movedim(1, 3) * (2 / size / side)
    off = None if bends is None else bends.movedim(1, 3) * (2 / size / side**2)

    def averaged(picture: Tensor) -> Tensor:
        total = picture.clone()
        for instant in range(1, side + 1):
            for time in (-instant, instant):
                grid = torch.add(here, step, alpha=-time)
                if off is not None:
                    grid = grid.sub_(off, alpha=time * time)
                total += F.grid_sample(picture, grid, padding_mode="border", align_corners=False)
        return total / (2 * side + 1)

    return averaged


def _gray(light: Tensor) -> Tensor:
    return (light * light.new_tensor(GREY).view(3, 1, 1)).sum(1, keepdim=True)
