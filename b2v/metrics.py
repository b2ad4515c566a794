"""How close restored frames are to sharp ones, and to the photo they came from."""

import math
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.color import Curve, to_encoded, to_linear
from b2v.errors import WeightsError

MAX_DB = 100.0
"""Stands for equal pictures, whose PSNR is infinite: so would a mean be, and JSON has no such
number."""

Perceptual = Callable[[Tensor, Tensor], float]
"""Distance of two pictures [3, H, W] in [0, 1], 0 for equal ones."""


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference over the last three dimensions: [..., C, H, W] to [...]."""
    return (a - b).square().mean(dim=(-3, -2, -1))


def psnr(a: Tensor, b: Tensor, *, max_db: float = math.inf) -> Tensor:
    """Peak signal-to-noise ratio in dB for values in [0, 1]: [..., 3, H, W] to [...].

    Each picture has its own value, `max_db` at most; a batch is never pooled.
    """
    return (-10 * torch.log10(mse(a, b))).clamp(max=max_db)


def shifted_psnr(a: Tensor, b: Tensor, *, reach: int = 2, tile: int = 32) -> float:
    """PSNR in dB of two pictures [3, H, W] in [0, 1], each tile where it fits best.

    A sharp edge that is a pixel off costs more PSNR than a blurry one in its place. Here every tile
    of `a` may lie up to `reach` pixels off; what is left over of `MAX_DB` is cut.
    """
    padded = F.pad(a[None], (reach,) * 4, mode="replicate")[0]
    height, width = b.shape[1:]
    errors = [
        F.avg_pool2d(
            (padded[:, y : y + height, x : x + width] - b).square().mean(0)[None],
            min(tile, height, width),
            ceil_mode=True,
            count_include_pad=False,
        )
        for y in range(2 * reach + 1)
        for x in range(2 * reach + 1)
    ]
    return float(-10 * torch.stack(errors).amin(0).mean().clamp(min=1e-10).log10())


def reblur(frames: Tensor, curve: Curve = "gamma2.2") -> Tensor:
    """Average frames [..., T, 3, H, W] in linear light to the picture that they explain."""
    light_lin = to_linear(frames.select(-4, 0).float(), curve)
    for k in range(1, frames.shape[-4]):  # one by one: large frames are held once
        light_lin = light_lin + to_linear(frames.select(-4, k).float(), curve)
    return to_encoded(light_lin / frames.shape[-4], curve)


def load_lpips() -> Perceptual | None:
    """Load the perceptual distance LPIPS (Zhang et al., CVPR 2018; AlexNet), which is an extra.

    Returns the distance, on the CPU; None where the package `lpips` is not installed. Raises
    WeightsError where the package is there, but the weights that it fetches cannot be had.
    """
    if find_spec("lpips") is None:
        return None
    try:
        net = import_module("lpips").LPIPS(net="alex", verbose=False).eval()
    except (ImportError, OSError, RuntimeError) as error:
        raise WeightsError(f"LPIPS: its weights cannot be loaded ({error})") from error

    def distance(a: Tensor, b: Tensor) -> float:
        with torch.no_grad():
            return float(net(a[None], b[None], normalize=True))

    return distance
