"""Pictures beside each other, as large and as smooth as they should be."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Way = Literal["side", "stack"]


def beside(blurry: Tensor, restored: Tensor, way: Way) -> Tensor:
    """Put `blurry` left of `restored` or, for "stack", above it.

    Both are [..., 3, H, W] of one size; one blurry picture goes with any number of frames.
    """
    blurry = blurry.expand_as(restored)
    return torch.cat([blurry, restored], dim=-1 if way == "side" else -2)


def fit(pictures: Tensor, width: int, height: int) -> Tensor:
    """Scale pictures [..., 3, H, W] down, if need be, to fit into `width` x `height` pixels."""
    high, wide = pictures.shape[-2:]
    factor = min(1.0, width / wide, height / high)
    if factor == 1:
        return pictures
    size = max(1, round(high * factor)), max(1, round(wide * factor))
    flat = pictures.reshape(-1, *pictures.shape[-3:])
    small = [
        F.interpolate(one[None].float(), size, mode="bilinear", antialias=True, align_corners=False)
        for one in flat
    ]
    return torch.cat(small).clamp(0, 1).reshape(*pictures.shape[:-2], *size)


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Average maps [1, H, W] in a Gaussian window; borders go on as they end."""
    reach = min(math.ceil(2.5 * sigma), *(side - 1 for side in maps.shape[1:]))
    axis = torch.arange(-reach, reach + 1, dtype=maps.dtype)
    kernel = torch.exp(-axis.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    maps = F.pad(maps[None], (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(maps, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0]
