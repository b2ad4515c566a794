"""Seven frames from a sharp middle frame and the paths along which its pixels were smeared.

    x4 = middle(y)        xk = sides(y, x4, wk),   wk(p) = x4(p - t path(p)),   t = (k - 4) / 3

Three networks: one sharpens the middle frame, one reads the paths off the blur
(`b2v.models.paths`), and one, shared by all frames, mends what moving along paths leaves: what
is uncovered, what stands at the edges of objects, what is still blurred. The frames move in
order by construction, and a middle frame from elsewhere can take the place of x4.

Pictures are [B, 3, H, W], sRGB-encoded in [0, 1]; sides are multiples of `multiple`.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from b2v.frames import FRAMES, MIDDLE
from b2v.models.camera import choose_signs
from b2v.models.moving import move_along
from b2v.models.paths import halve

SURE = 0.3
"""Pixels of path at which a direction is half as sure as that of a long one can be."""


class Unfold(nn.Module):
    """Seven frames [B, 7, 3, H, W] from one blurry picture [B, 3, H, W].

    Without `sides` the frames stay as they were moved.
    """

    def __init__(self, *, middle: nn.Module, paths: nn.Module, sides: nn.Module | None) -> None:
        super().__init__()
        self.middle, self.paths, self.sides = middle, paths, sides
        self.multiple = math.lcm(*(cast("int", net.multiple) for net in (middle, paths)))

    def forward(
        self, blurry: Tensor, middle: Tensor | None = None, *, frames: int = FRAMES
    ) -> Tensor:
        """Estimate the seven frames, or another odd number, in order of time.

        `middle` is used, as it is, instead of the net's own x4; arguments as of `Cascade`.
        """
        x4 = self.middle(blurry) if middle is None else middle
        moved = unfold(x4, signed_paths(self.paths(blurry)), frames)
        if self.sides is None:
            return moved
        mended = [self.sides(blurry, x4, frame).float() for frame in moved.unbind(1)]
        if middle is not None:
            mended[frames // 2] = middle.float()
        return torch.stack(mended, 1)


def signed_paths(doubled: Tensor) -> Tensor:
    """Turn the doubled paths [B, 3, H, W] of `Paths` into paths [B, 2, H, W] in one direction.

    Half of each path is its own and half is the camera's: of held-out scenes the mean of both
    is nearer the truth than either.
    """
    paths = halve(doubled)
    trust = doubled[:, 1:].norm(dim=1) / (SURE + doubled[:, 0].clamp(min=0))
    pairs = [choose_signs(p, t.clamp(0, 1)) for p, t in zip(paths, trust, strict=True)]
    return torch.stack([(own + camera) / 2 for own, camera in pairs])


def unfold(x4: Tensor, paths: Tensor, frames: int = FRAMES) -> Tensor:
    """Move the middle frame [B, 3, H, W] along paths [B, 2, H, W]: [B, frames, 3, H, W].

    Paths lead to the last of seven frames; others lie on them, or further along.
    """
    times = torch.arange(-(frames // 2), frames // 2 + 1, device=paths.device) / MIDDLE
    return move_along(x4, paths[:, None] * times.view(1, -1, 1, 1, 1))
