"""Adversarial term: a critic of patches that learns to tell restored frames from sharp ones.

Jin et al. (CVPR 2018, Table 1) train all but the middle net with such a term and publish neither
its network nor its weight. Here it is a small critic of patches (Isola et al., 2017) with the
least-squares loss of Mao et al. (2017), and the optimizer that the authors' released file holds:
Adam with betas 0.5 and 0.999. It sees one frame at a time, so it knows no order of time either.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.losses import Frames

WIDTHS = (48, 96, 192)
BETAS = (0.5, 0.999)
"""Of the critic's Adam."""


class Critic(nn.Module):
    """Frames [B, 3, H, W] to marks [B, 1, H/8, W/8], each of a patch of 38 pixels: 1 is real."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *WIDTHS)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)
        )
        self.head = nn.Conv2d(WIDTHS[-1], 1, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        """Mark patches."""
        x = 2 * frames - 1
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
        return self.head(x)


def new_critic(seed: int) -> Critic:
    """Make a critic whose weights are drawn from the seed."""
    torch.manual_seed(seed + 1)  # the network that it judges is drawn from the seed itself
    return Critic()


def deceit_loss(critic: nn.Module, restored: Frames) -> Tensor:
    """Say how far restored frames are from passing for sharp ones: [B].

    The critic itself is to get no gradient of it (`requires_grad_`).
    """
    marks = critic(torch.cat(restored)).float()
    return (marks - 1).square().mean((1, 2, 3)).unflatten(0, (len(restored), -1)).mean(0)


def critic_loss(critic: nn.Module, restored: Frames, sharp: Frames) -> Tensor:
    """Say how badly a critic tells restored frames from as many sharp ones: [B]."""
    marks = critic(torch.cat([*restored, *sharp])).float()
    fake, real = marks.chunk(2)
    wrong = (fake.square() + (real - 1).square()).mean((1, 2, 3)) / 2
    return wrong.unflatten(0, (len(restored), -1)).mean(0)
