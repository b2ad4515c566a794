"""Cascade that turns one blurry photo into seven frames (Jin et al., CVPR 2018, Sec. 5-6).

Four networks: the middle frame x4, then the pair (3, 5), then 2 and 6 by one shared net,
then 1 and 7 by another. Frames are [B, 3, H, W], sRGB-encoded in [0, 1]; height and width
are multiples of each network's `multiple`. Outputs are not clamped.

`Cascade` wires any four networks with these calls together:

    middle(blurry) -> x4                    pair35(blurry, x4) -> (x3, x5)
    pair26(blurry, x4, x3) -> x2            pair17(blurry, x3, x2) -> x1

so that 6 = pair26(blurry, x4, x5) and 7 = pair17(blurry, x5, x6). The outermost net can be
used again and again: 0 = pair17(blurry, x2, x1) and 8 = pair17(blurry, x6, x7) lie just before
and after the exposure. The paper's networks are below, smaller and faster ones in
`b2v.models.unet`.

The paper's restore each colour by the same weights before they join all three. So they take
pictures of one colour, [B, 1, H, W], too, at half the cost: as if it were all three, of whose
restored ones they give the mean.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.frames import FRAMES
from b2v.models.blocks import (
    FusionBlock,
    ResidualBlock,
    conv,
    fold_colours,
    instance_norm,
    unfold_colours,
)

PLAIN = (1, 1)


@dataclass(frozen=True, kw_only=True)
class JinMiddleConfig:
    """Shape of the middle net (supplement, table of the middle-frame network)."""

    shuffle: int = 4
    channels: int = 144
    colour_channels: int = 64
    dilations: tuple[tuple[tuple[int, int], ...], ...] = (
        (PLAIN, PLAIN, PLAIN),
        ((1, 2), (2, 4), (4, 8)),
        ((8, 4), (4, 2), (2, 1)),
        (PLAIN, PLAIN, PLAIN),
    )


@dataclass(frozen=True, kw_only=True)
class JinSideConfig:
    """Shape of the nets of frames 3 and 5; the outer ones have `outer=2` (supplement)."""

    shuffle: int = 5
    stems: tuple[int, int, int] = (64, 32, 32)
    colour_channels: int = 32
    outer: int = 4
    dilations: tuple[tuple[int, int], ...] = ((1, 2), (4, 8), (8, 4), (2, 1))


class JinMiddle(nn.Module):
    """The middle frame x4 from the blurry picture: [B, 3, H, W] to [B, 3, H, W]."""

    def __init__(self, config: JinMiddleConfig) -> None:
        super().__init__()
        self.config = config
        self.multiple = 20
        cells = config.shuffle**2
        self.stem = conv(cells, config.channels, 5)
        self.groups = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(channels=config.channels, dilation=d) for d in group))
            for group in config.dilations
        )
        self.taps = nn.ModuleList(
            FusionBlock(inputs=config.channels, outputs=cells) for _ in config.dilations
        )
        self.colour_stem = conv(3, config.colour_channels, 3)
        self.colour_block = ResidualBlock(channels=config.colour_channels)
        self.head = _Head(channels=config.colour_channels)

    def forward(self, blurry: Tensor) -> Tensor:
        """Estimate x4."""
        cells = F.pixel_unshuffle(fold_colours(blurry), self.config.shuffle)  # [3B, 16, h, w]
        x, total = self.stem(cells), cells
        for group, tap in zip(self.groups, self.taps, strict=True):
            x = group(x)
            total = total + tap(x)
        pictures = F.pixel_shuffle(total, self.config.shuffle)
        colours = unfold_colours(pictures, blurry.shape[1])  # [B, 3, H, W]
        return _add(blurry, self.head(self.colour_block(self.colour_stem(colours))))


class JinSide(nn.Module):
    """One frame beside the middle from three pictures, each [B, 3, H, W]."""

    def __init__(self, config: JinSideConfig) -> None:
        super().__init__()
        self.config = config
        self.multiple = 20
        cells, channels = config.shuffle**2, sum(config.stems)
        self.stems = nn.ModuleList(conv(cells, width, 5) for width in config.stems)
        groups = (config.outer * (PLAIN,), config.dilations, config.outer * (PLAIN,))
        self.groups = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(channels=channels, dilation=d) for d in group))
            for group in groups
        )
        self.taps = nn.ModuleList(FusionBlock(inputs=channels, outputs=cells) for _ in groups)
        self.colour_stem = conv(3, config.colour_channels, 3)
        self.colour_block = FusionBlock(
            inputs=config.colour_channels, outputs=config.colour_channels
        )
        self.head = _Head(channels=config.colour_channels)

    def forward(self, blurry: Tensor, second: Tensor, third: Tensor) -> Tensor:
        """Estimate the frame as `third` plus a residual."""
        cells = [
            F.pixel_unshuffle(fold_colours(picture), self.config.shuffle)
            for picture in (blurry, second, third)
        ]  # 3 x [3B, 25, h, w]
        x = torch.cat([stem(c) for stem, c in zip(self.stems, cells, strict=True)], dim=1)
        total = cells[2]
        for group, tap in zip(self.groups, self.taps, strict=True):
            x = group(x)
            total = total + tap(x)
        pictures = F.pixel_shuffle(total, self.config.shuffle)
        colours = unfold_colours(pictures, blurry.shape[1])  # [B, 3, H, W]
        return _add(third, self.head(self.colour_block(self.colour_stem(colours))))


class JinPair(nn.Module):
    """Frames 3 and 5, the second in the knowledge of the first: own weights for each."""

    def __init__(self, config: JinSideConfig) -> None:
        super().__init__()
        self.config = config
        self.multiple = 20
        self.first = JinSide(config)
        self.second = JinSide(config)

    def forward(self, blurry: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate (x3, x5) from the blurry picture and x4, each [B, 3, H, W]."""
        x3 = self.first(blurry, middle, middle)
        return x3, self.second(blurry, x3, middle)


class _Head(nn.Module):
    """IN, ReLU, conv 3x3 to three colours: [B, C, H, W] to [B, 3, H, W].

    It starts at zero, so that a network begins with the picture that its residual is added to.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.norm = instance_norm(channels)
        self.conv = conv(channels, 3, 3)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(self.norm(x)))


def _add(picture: Tensor, residual: Tensor) -> Tensor:
    """Add [B, 3, H, W] to a picture, its mean to one of a single colour."""
    return picture + (residual.mean(1, keepdim=True) if picture.shape[1] == 1 else residual)


class Cascade(nn.Module):
    """Four networks that turn one blurry picture into seven frames (paper, Fig. 3)."""

    def __init__(
        self, *, middle: nn.Module, pair35: nn.Module, pair26: nn.Module, pair17: nn.Module
    ) -> None:
        super().__init__()
        self.middle = middle
        self.pair35 = pair35
        self.pair26 = pair26
        self.pair17 = pair17

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        nets = (self.middle, self.pair35, self.pair26, self.pair17)
        return math.lcm(*(cast(int, net.multiple) for net in nets))

    def forward(
        self, blurry: Tensor, middle: Tensor | None = None, *, frames: int = FRAMES
    ) -> Tensor:
        """Estimate the seven frames, or another odd number, in order of time.

        Args:
            blurry: [B, 3, H, W] in [0, 1], sides multiples of `multiple`.
            middle: sharp middle frame of the same shape to be used instead of the middle
                net's own (Sec. 5.3; the paper's Fig. 5 shows how much rides on it).
            frames: odd, three at least; with more than seven the outermost net goes on.

        Returns:
            [B, frames, 3, H, W], not clamped.

        """
        x4 = self.middle(blurry) if middle is None else middle
        x3, x5 = self.pair35(blurry, x4)
        before, after = (self.outward(blurry, x4, near, frames // 2) for near in (x3, x5))
        return torch.stack([*before[::-1], x4, *after], 1)

    def outward(
        self, blurry: Tensor, x4: Tensor, near: Tensor, steps: int = 3
    ) -> tuple[Tensor, ...]:
        """Go on from x4 and its neighbour to one end: (x3, x2, x1), or (x5, x6, x7), or beyond."""
        way = [x4, near]
        while len(way) <= steps:
            net = self.pair26 if len(way) == 2 else self.pair17
            way.append(net(blurry, way[-2], way[-1]))
        return tuple(way[1:])
