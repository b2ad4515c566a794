"""How close restored frames are to sharp ones, and to the photo they came from."""

import torch
from torch import Tensor

from b2v.color import Curve, to_encoded, to_linear


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference over the last three dimensions: [..., C, H, W] to [...]."""
    return (a - b).square().mean(dim=(-3, -2, -1))


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for values in [0, 1]: [..., 3, H, W] to [...].

    Each picture has its own value; a batch is never pooled.
    """
    return -10 * torch.log10(mse(a, b))


def reblur(frames: Tensor, curve: Curve = "gamma2.2") -> Tensor:
    """Average frames [..., T, 3, H, W] in linear light to the picture that they explain."""
    return to_encoded(to_linear(frames, curve).mean(-4), curve)
