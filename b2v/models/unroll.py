"""One network that unrolls a blurry picture into its seven frames.

The U-Net of `b2v.models.unet` sees the picture once and gives three things: what sharpens the
middle frame, a path for every pixel, and what the path does not explain. Frame k is the middle
frame moved along the paths to its time, plus that rest:

    x4 = y + r4        xk(p) = x4(p - t path(p) - t^2 bend(p)) + rk(p),   t = (k - 4) / 3

So the frames move in order by construction, one pass makes all of them, and a
middle frame from elsewhere can take the place of x4. Seven frames
from one network: Jin et al. (CVPR 2018, Sec. 5.1) discuss why a plain one fails without a loss
that knows no order of time; paths and residuals in one are this project's.

Pictures are [B, 3, H, W], sRGB-encoded in [0, 1]; sides are multiples of `multiple`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.frames import FRAMES, MIDDLE
from b2v.models.unet import Hourglass, UNet


@dataclass(frozen=True, kw_only=True)
class UnrollConfig:
    """Shape of the network; see `b2v.models.unet.UNetConfig`."""

    shuffle: int = 2
    widths: tuple[int, ...] = (48, 96, 160)
    blocks: tuple[int, ...] = (2, 2, 4)
    reach: float = 8.0
    """Pixels of path for an output of one, so that paths are learned as fast as colours."""


class Unrolled(NamedTuple):
    """What the network gives."""

    frames: Tensor
    """[B, 7, 3, H, W], not clamped."""
    path: Tensor
    """[B, 2, H, W], x and y in pixels from the middle frame to the last, bend left out."""


class Unroll(Hourglass):
    """Seven frames [B, 7, 3, H, W] from one blurry picture [B, 3, H, W]."""

    def __init__(self, config: UnrollConfig) -> None:
        super().__init__(
            channels=3,
            maps=3 * FRAMES + 4,
            shuffle=config.shuffle,
            widths=config.widths,
            blocks=config.blocks,
        )
        self.config = config

    def forward(self, blurry: Tensor, middle: Tensor | None = None) -> Tensor:
        """Estimate the seven frames [B, 7, 3, H, W] as `unroll` does."""
        return self.unroll(blurry, middle).frames

    def unroll(
        self, blurry: Tensor, middle: Tensor | None = None, *, teach_path: bool = True
    ) -> Unrolled:
        """Estimate the seven frames in order of time, and the paths along which they move.

        Args:
            blurry: [B, 3, H, W] in [0, 1], sides multiples of `multiple`.
            middle: sharp middle frame of the same shape to be used instead of the net's own.
            teach_path: have gradients flow from the frames into the paths.

        """
        maps = self.maps(blurry).float()  # positions need more than half precision
        sharpening, rest, path, bend = torch.split(maps, [3, 3 * (FRAMES - 1), 2, 2], dim=1)
        x4 = blurry + sharpening if middle is None else middle
        times = torch.arange(-MIDDLE, MIDDLE + 1, device=blurry.device) / MIDDLE
        sides = torch.cat([times[:MIDDLE], times[MIDDLE + 1 :]]).view(1, -1, 1, 1, 1)  # no x4
        path, bend = self.config.reach * path, self.config.reach * bend
        taken = path if teach_path else path.detach()
        moved = move_along(x4, taken[:, None] * sides + bend[:, None] * sides.square())
        moved = moved + rest.reshape(moved.shape)  # [B, 6, 3, H, W]
        frames = torch.cat([moved[:, :MIDDLE], x4[:, None], moved[:, MIDDLE:]], dim=1)
        return Unrolled(frames, path)

    @torch.no_grad()
    def adopt(self, other: Hourglass) -> None:
        """Start at another net: a middle net's residual becomes this one's sharpening."""
        super().adopt(other)
        if isinstance(other, UNet) and other.config.outputs == 1:
            self.head.weight[: len(other.head.weight)] = other.head.weight
            self.head.bias[: len(other.head.weight)] = other.head.bias  # type: ignore[index,assignment]


def move_along(picture: Tensor, shift: Tensor) -> Tensor:
    """Move a picture by a shift for every pixel, bilinearly, its border repeated.

    Args:
        picture: [B, C, H, W].
        shift: [B, N, 2, H, W], x and y in pixels by which the content arrives at each pixel.

    Returns:
        [B, N, C, H, W]; `out[p] = picture[p - shift[p]]`.

    """
    batch, moments, _, height, width = shift.shape
    y, x = torch.meshgrid(
        torch.arange(height, device=shift.device),
        torch.arange(width, device=shift.device),
        indexing="ij",
    )
    sources = torch.stack([x - shift[:, :, 0], y - shift[:, :, 1]], dim=-1)  # [B, N, H, W, 2]
    grid = (2 * sources + 1) / sources.new_tensor([width, height]) - 1
    # The moments of one picture lie below each other, so that it need not be copied for them.
    moved = F.grid_sample(
        picture.float(), grid.flatten(1, 2), padding_mode="border", align_corners=False
    )
    return moved.reshape(batch, -1, moments, height, width).movedim(2, 1)
