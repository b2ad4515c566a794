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
The paper's restore each color by the same weights before they join all three.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.errors import UsageError
from b2v.frames import FRAMES, MIDDLE, Tiling
from b2v.models.unet import UNet, UNetConfig


def conv(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    """Make a convolution without bias that keeps height and width by zero padding."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)


def instance_norm(channels: int) -> nn.InstanceNorm2d:
    """Make an affine instance norm without running statistics (eps 1e-5)."""
    return nn.InstanceNorm2d(channels, eps=1e-5, affine=True, track_running_stats=False)


class FusionBlock(nn.Module):
    """`conv1x1(relu(IN1 x)) + conv3x3(relu(IN2 x))`: [B, inputs, h, w] to [B, outputs, h, w]."""

    def __init__(self, *, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = instance_norm(inputs)
        self.norm2 = instance_norm(inputs)
        self.conv1 = conv(inputs, outputs, 1)
        self.conv2 = conv(inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Fuse `x`."""
        return self.conv1(F.relu(self.norm1(x))) + self.conv2(F.relu(self.norm2(x)))


class ResidualBlock(nn.Module):
    """`x + conv1x1(relu(IN1 x)) + conv3x3(relu(IN4(conv3x3(relu(IN2 x)))))`, [B, C, h, w].

    `dilation` is that of the first and of the second 3x3 convolution. The norms are numbered
    as in the authors' files, which have no third one here.
    """

    def __init__(self, *, channels: int, dilation: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self.norm1 = instance_norm(channels)
        self.norm2 = instance_norm(channels)
        self.norm4 = instance_norm(channels)
        self.conv1 = conv(channels, channels, 1)
        self.conv2 = conv(channels, channels, 3, dilation[0])
        self.conv4 = conv(channels, channels, 3, dilation[1])

    def forward(self, x: Tensor) -> Tensor:
        """Add the two branches to `x`."""
        short = self.conv1(F.relu(self.norm1(x)))
        long = self.conv4(F.relu(self.norm4(self.conv2(F.relu(self.norm2(x))))))
        return x + short + long


def fold_colors(x: Tensor) -> Tensor:
    """Fold R, G and B into the batch: [B, 3, H, W] to [3B, 1, H, W]."""
    return x.flatten(0, 1).unsqueeze(1)


def unfold_colors(x: Tensor) -> Tensor:
    """Undo `fold_colors`: [3B, 1, H, W] to [B, 3, H, W]."""
    return x.view(-1, 3, *x.shape[-2:])


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
        cells = F.pixel_unshuffle(fold_colors(blurry), self.config.shuffle)  # [3B, 16, h, w]
        return blurry + _residual(self, self.stem(cells), cells)


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
            F.pixel_unshuffle(fold_colors(picture), self.config.shuffle)
            for picture in (blurry, second, third)
        ]  # 3 x [3B, 25, h, w]
        x = torch.cat([stem(c) for stem, c in zip(self.stems, cells, strict=True)], dim=1)
        return third + _residual(self, x, cells[2])


def _residual(net: JinMiddle | JinSide, x: Tensor, cells: Tensor) -> Tensor:
    """Add what groups of blocks find to a picture, color by color, and join the colors."""
    for group, tap in zip(net.groups, net.taps, strict=True):
        x = group(x)
        cells = cells + tap(x)
    colors = unfold_colors(F.pixel_shuffle(cells, net.config.shuffle))  # [B, 3, H, W]
    return net.head(net.colour_block(net.colour_stem(colors)))


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
    """IN, ReLU, conv 3x3 to three colors: [B, C, H, W] to [B, 3, H, W].

    It starts at zero, so that a network begins with the picture that its residual is added to.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.norm = instance_norm(channels)
        self.conv = conv(channels, 3, 3)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(self.norm(x)))


TILES = Tiling(1216, 64, step=16)
"""Tiles in pixels, 720p being one. A U-Net looks 130 pixels far at most, and hardly beyond 64: in
tiles of 512 that overlap by 128 a photo of 1280 x 720 is 86 dB from what it is as a whole."""


class Cascade(nn.Module):
    """Four networks that turn one blurry picture into seven frames (paper, Fig. 3)."""

    order_known = False
    """Whether the true order of time was learned, which a coded aperture tells."""

    def __init__(
        self, *, middle: nn.Module, pair35: nn.Module, pair26: nn.Module, pair17: nn.Module
    ) -> None:
        super().__init__()
        self.middle = middle
        self.pair35 = pair35
        self.pair26 = pair26
        self.pair17 = pair17

    @property
    def tiling(self) -> Tiling | None:
        """Tiles of large pictures; None of networks that normalize by the whole picture."""
        return TILES if all(isinstance(net, UNet) for net in self.children()) else None

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
        ways = [x4, x3], [x4, x5]
        for way in ways:  # to 1, or to 7, or beyond
            while len(way) <= frames // 2:
                net = self.pair26 if len(way) == 2 else self.pair17
                way.append(net(blurry, way[-2], way[-1]))
        return torch.stack([*ways[0][:0:-1], *ways[1]], 1)


class Alone(UNet):
    """U-Net that looks at the first picture alone, whatever else it is given."""

    def forward(self, *pictures: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Estimate `outputs` frames, each the first picture plus a residual."""
        return super().forward(pictures[0])


class Pairs(Cascade):
    """Four networks, each outer one for a pair of frames from the blurry picture and x4."""

    tiling = None
    """Each run chooses the direction of its pairs, so that tiles would not fit together."""

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


class Apart(nn.Module):
    """Seven frames [B, 7, 3, H, W], each by a U-Net of its own from the blurry picture."""

    order_known = False
    """As of `Cascade`."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, self.tiling = config, TILES
        nets = [UNet(config) for _ in range(FRAMES)]
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
