"""Losses of the cascade: how far restored frames are from sharp ones.

The order of time in a blurry picture cannot be told, so the losses of pairs do not depend on
it (Jin et al., CVPR 2018, Sec. 4): played backwards, the truth gives the same loss. Frames are
[B, 3, H, W]; a loss has one value a sample, [B].
"""

from typing import Literal

import torch
from torch import Tensor

from b2v.metrics import mse

PixelLoss = Literal["mse", "charbonnier", "log-mse"]
PairLoss = Literal["pair", "best-order"]

LOG_FLOOR = 1e-4
"""Added to the squared error inside the logarithm: beyond 40 dB better is not worth more."""


def pixel_loss(restored: Tensor, sharp: Tensor, kind: PixelLoss = "log-mse") -> Tensor:
    """Compare one frame with the truth.

    `mse` is the paper's (eq. 2), `charbonnier` its robust sibling (epsilon 1e-3), `log-mse`
    the logarithm of the squared error, so that PSNR itself is raised and every sample counts
    alike, hard or easy.
    """
    if kind == "mse":
        return mse(restored, sharp)
    if kind == "charbonnier":
        return ((restored - sharp).square() + 1e-6).sqrt().mean(dim=(-3, -2, -1))
    return torch.log(mse(restored, sharp) + LOG_FLOOR)


def pair_loss(restored: tuple[Tensor, Tensor], sharp: tuple[Tensor, Tensor]) -> Tensor:
    """Compare sums and absolute differences of two frames (eq. 5), which know no order."""
    (a, b), (x, y) = restored, sharp
    sums = ((a + b).abs() - (x + y).abs()).abs()
    differences = ((a - b).abs() - (x - y).abs()).abs()
    return (sums + differences).mean(dim=(-3, -2, -1))


def in_order(
    restored: tuple[Tensor, Tensor], sharp: tuple[Tensor, Tensor], kind: PixelLoss
) -> Tensor:
    """Compare two frames with two, first with first: the mean of both pixel losses."""
    first, second = (pixel_loss(r, s, kind) for r, s in zip(restored, sharp, strict=True))
    return (first + second) / 2


def best_order_loss(
    restored: tuple[Tensor, Tensor], sharp: tuple[Tensor, Tensor], kind: PixelLoss = "log-mse"
) -> Tensor:
    """Compare two frames with the truth in whichever order of time suits each sample better.

    Unlike eq. 5, which is free to choose anew at every pixel, this asks for one direction in
    all of the picture.
    """
    return torch.minimum(in_order(restored, sharp, kind), in_order(restored, sharp[::-1], kind))


def runs_backwards(restored: tuple[Tensor, Tensor], sharp: tuple[Tensor, Tensor]) -> Tensor:
    """Tell for which samples the restored pair fits the truth better when swapped: [B] bool."""
    return in_order(restored, sharp[::-1], "mse") < in_order(restored, sharp, "mse")
