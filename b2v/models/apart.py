"""Networks without a cascade, to be compared with it (Jin et al., CVPR 2018, Sec. 5.1, 5.2 and 7).

`Alone` is a pair that does not see the middle frame, `Pairs` a cascade whose outer pairs do not
see the inner ones, `Apart` a network for each frame. They are U-Nets; frames are [B, 3, H, W].
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from b2v.errors import UsageError
from b2v.frames import FRAMES, MIDDLE
from b2v.models.cascade import Cascade
from b2v.models.unet import UNet, UNetConfig


class Alone(UNet):
    """U-Net that looks at the first picture alone, whatever else it is given."""

    def forward(self, *pictures: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Estimate `outputs` frames, each the first picture plus a residual."""
        return super().forward(pictures[0])


class Pairs(Cascade):
    """Four networks, each outer one for a pair of frames from the blurry picture and x4."""

    def forward(
        self, blurry: Tensor, middle: Tensor | None = None, *, frames: int = FRAMES
    ) -> Tensor:
        """Estimate the seven frames; arguments as of `Cascade`.

        Each pair has chosen a direction of time of its own; it is turned so that it lies next to
        the pair inside it, as the paper asks for ("one needs to find a smooth ordering").
        """
        _check_count(frames)
        x4 = self.middle(blurry) if middle is None else middle
        pairs = [self.pair35(blurry, x4)]
        for net in (self.pair26, self.pair17):
            pairs.append(_in_line(net(blurry, x4), pairs[-1]))
        before, after = zip(*pairs, strict=True)
        return torch.stack([*before[::-1], x4, *after], 1)


@dataclass(frozen=True, kw_only=True)
class ApartConfig:
    """Shape of each of the seven U-Nets, as of `UNetConfig`."""

    shuffle: int = 2
    widths: tuple[int, ...] = (48, 96, 160)
    blocks: tuple[int, ...] = (2, 2, 4)


class Apart(nn.Module):
    """Seven frames [B, 7, 3, H, W], each by a U-Net of its own from the blurry picture."""

    def __init__(self, config: ApartConfig) -> None:
        super().__init__()
        self.config = config
        plan = UNetConfig(
            inputs=1, shuffle=config.shuffle, widths=config.widths, blocks=config.blocks
        )
        nets = [UNet(plan) for _ in range(FRAMES)]
        self.multiple = nets[0].multiple
        self.nets = nn.ModuleList(nets)

    def forward(
        self, blurry: Tensor, middle: Tensor | None = None, *, frames: int = FRAMES
    ) -> Tensor:
        """Estimate the seven frames; arguments as of `Cascade`."""
        _check_count(frames)
        restored = [net(blurry) for net in self.nets]
        if middle is not None:
            restored[MIDDLE] = middle
        return torch.stack(restored, 1)

    def adopt(self, other: nn.Module) -> None:
        """Start all seven at one U-Net for a frame of a blurry picture."""
        for net in self.nets:
            net.adopt(other)  # type: ignore[operator]


def _in_line(outer: tuple[Tensor, Tensor], inner: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Swap the samples of a pair whose frames lie nearer to the other side of the inner pair."""
    (a, b), (x, y) = outer, inner

    def far(first: Tensor, second: Tensor) -> Tensor:
        return ((first - x).square() + (second - y).square()).mean((1, 2, 3), keepdim=True)

    swapped = far(b, a) < far(a, b)
    return torch.where(swapped, b, a), torch.where(swapped, a, b)


def _check_count(frames: int) -> None:
    if frames != FRAMES:
        raise UsageError(f"this model gives {FRAMES} frames, not {frames}")
