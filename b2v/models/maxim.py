"""MAXIM, a strong prior of sharp pictures: multi-axis MLPs in three U-shaped stages.

Z. Tu et al., MAXIM: Multi-Axis MLP for Image Processing, CVPR 2022, here in its form for
deblurring, MAXIM-3S; written anew after the paper and the authors' public JAX code. Each stage
gives a restored picture of its own, the first two by a supervised attention module (SAM), so that
one may stop after any of them; each later one goes on from the features of the stage before.

Features are [B, H, W, C] and contiguous, as in JAX: half of the work is matrix products over C.
Pictures are [B, 3, H, W], sRGB-encoded in [0, 1]; sides are multiples of 64. A picture is always
cut into the same number of grid cells, so what comes out depends on its size:
`b2v.inference.runtime` runs it in tiles of one size.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.errors import ShapeError

MULTIPLE = 64
"""Sides are multiples of this: three halvings, and cells of 8 at the coarsest scale."""
EPSILON = 1e-6
"""Of layer normalization, as in flax."""

MOST = {"stage": 3, "features": 256, "groups": 8, "bottlenecks": 8}
"""Numbers in a config beyond these are of no stage of MAXIM."""


@dataclass(frozen=True, kw_only=True)
class MaximConfig:
    """Shape of one stage; raises ValueError for one that is none.

    Attributes:
        stage: which it is, 1 to 3; later ones need the features of the one before.
        features: channels at the finest of the three scales; each coarser one has twice as many.
        groups: blocks in a row at each scale.
        bottlenecks: blocks at the coarsest scale, between encoder and decoder.
        ends: the last stage of all gives no features on.

    """

    stage: int = 1
    features: int = 32
    groups: int = 2
    bottlenecks: int = 2
    ends: bool = False

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            if (value := getattr(self, name)) not in range(1, most + 1):
                raise ValueError(f"{name} is {value}, expected 1 to {most}")


DEPTH = 3
"""Scales of a stage."""
CELLS = (16, 16, 8)
"""Cells a side into which grid and block cut the picture, by scale, fine to coarse."""


class Features(NamedTuple):
    """What a stage gives on to the next, each fine to coarse: [B, H, W, C] at H, H/2 and H/4."""

    attended: list[Tensor]
    encoded: list[Tensor]
    decoded: list[Tensor]


class Maxim(nn.Module):
    """As many stages as are given, one after the other: [B, 3, H, W] from [B, 3, H, W]."""

    multiple = MULTIPLE

    def __init__(self, *stages: nn.Module) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, blurry: Tensor) -> Tensor:
        """Restore pictures; what comes out is not clamped."""
        return self.pictures(blurry)[-1]

    def pictures(self, blurry: Tensor) -> list[Tensor]:
        """Give the picture after each stage."""
        found, before = [], None
        for stage in self.stages:
            restored, before = stage(blurry, before)
            found.append(restored)
        return found


class MaximStage(nn.Module):
    """One stage: encoder, bottleneck, cross gating of the scales, decoder, SAM."""

    multiple = MULTIPLE

    def __init__(self, config: MaximConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.features << scale for scale in range(DEPTH)]
        later, groups = config.stage > 1, config.groups
        self.inputs = nn.ModuleList(_conv(3, width, 3) for width in widths)
        if later:
            self.fuse = nn.ModuleList(
                CrossGating(w, c, w) for w, c in zip(widths, CELLS, strict=True)
            )
        below = [widths[0], *widths[:-1]]  # the finest is joined to itself
        self.encoders = nn.ModuleList(
            Encoder(b + w, w, c, groups, gated=later)
            for b, w, c in zip(below, widths, CELLS, strict=True)
        )
        self.downs = nn.ModuleList(_conv(w, w, 4, stride=2) for w in widths)
        self.bottlenecks = nn.ModuleList(
            Encoder(widths[-1], widths[-1], CELLS[-1], groups, dense=True)
            for _ in range(config.bottlenecks)
        )
        self.encoder_mixes = nn.ModuleList(ScaleMix(widths, w) for w in widths)
        above = [*widths[1:], widths[-1]]
        self.gates = nn.ModuleList(
            CrossGating(w, c, DEPTH * w, coarser=a)
            for w, c, a in zip(widths, CELLS, above, strict=True)
        )
        self.decoder_mixes = nn.ModuleList(ScaleMix(widths[::-1], w) for w in widths)
        self.ups = nn.ModuleList(Up(a, w) for a, w in zip(above, widths, strict=True))
        self.decoders = nn.ModuleList(
            Encoder((1 + DEPTH) * w, w, c, groups) for w, c in zip(widths, CELLS, strict=True)
        )
        if config.ends:
            self.output = _conv(widths[0], 3, 3)
        else:
            self.attention = nn.ModuleList(SupervisedAttention(w) for w in widths)

    def forward(
        self, blurry: Tensor, before: Features | None = None
    ) -> tuple[Tensor, Features | None]:
        """Restore a picture, given what the stage before gave on; give on what the next needs.

        Raises ShapeError for sides that are no multiples of 64.
        """
        _check_sides(blurry)
        pictures = [_nearest(blurry, 1 << scale) for scale in range(DEPTH)]
        inputs = [_convolved(p, conv) for p, conv in zip(pictures, self.inputs, strict=True)]
        if before is not None:
            inputs = [
                fuse(x, sam)[0]
                for fuse, x, sam in zip(self.fuse, inputs, before.attended, strict=True)
            ]
        x, encoded = inputs[0], []
        for scale, (encoder, down) in enumerate(zip(self.encoders, self.downs, strict=True)):
            x = torch.cat([x, inputs[scale]], -1)
            gate = None if before is None else before.encoded[scale] + before.decoded[scale]
            encoded.append(encoder(x, gate))
            x = _convolved(encoded[-1], down)
        for block in self.bottlenecks:
            x = block(x)
        skips, gate = [torch.empty(0)] * DEPTH, x
        for scale in reversed(range(DEPTH)):
            signal = self.encoder_mixes[scale](encoded, encoded[scale])
            skips[scale], gate = self.gates[scale](signal, gate)
        decoded = [torch.empty(0)] * DEPTH
        for scale in reversed(range(DEPTH)):
            mixed = self.decoder_mixes[scale](skips[::-1], skips[scale])
            x = self.decoders[scale](torch.cat([self.ups[scale](x), mixed], -1))
            decoded[scale] = x
        if self.config.ends:
            return blurry + _picture(_convolved(x, self.output)), None
        attended = [sam(d, p) for sam, d, p in zip(self.attention, decoded, pictures, strict=True)]
        return attended[0][1], Features([a[0] for a in attended], encoded, decoded)


class Encoder(nn.Module):
    """A block of encoder or decoder: multi-axis MLPs and channel attention in turn, gated at last.

    [B, H, W, inputs] to [B, H, W, width]. In a `dense` one, a bottleneck, attention is dense.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        cells: int,
        groups: int,
        *,
        gated: bool = False,
        dense: bool = False,
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.mlps = nn.ModuleList(MultiAxisMlp(width, cells) for _ in range(groups))
        attention = DenseAttention if dense else ConvAttention
        self.attentions = nn.ModuleList(attention(width) for _ in range(groups))
        self.gate = CrossGating(width, cells, width) if gated else None

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """Restore features [B, H, W, inputs], told what matters by `gate` [B, H, W, width]."""
        x = shortcut = self.enter(x)
        for mlp, attention in zip(self.mlps, self.attentions, strict=True):
            x = attention(mlp(x))
        x = x + shortcut
        return x if self.gate is None else self.gate(x, gate)[0]


class MultiAxisMlp(nn.Module):
    """Half of the channels mixed across a grid over the picture, half within blocks (Fig. 3)."""

    def __init__(self, width: int, cells: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, EPSILON)
        self.enter = nn.Linear(width, 2 * width)
        self.grid = GatedMlp(width, cells * cells)
        self.block = GatedMlp(width, cells * cells)
        self.leave = nn.Linear(2 * width, width)
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        """Mix features [B, H, W, width] over both axes."""
        height, width = x.shape[1:3]
        y = _gelu(self.enter(self.norm(x)))
        u, v = y.chunk(2, -1)
        u = _ungrid(self.grid(_grid(u, self.cells)), height, width)
        v = _unblock(self.block(_block(v, self.cells)), height, width)
        return x + self.leave(torch.cat([u, v], -1))


class GatedMlp(nn.Module):
    """A gMLP: tokens [..., T, N] of a picture, mixed over T, gate its channels."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, EPSILON)
        self.enter = nn.Linear(width, 2 * width)
        self.gate_norm = nn.LayerNorm(width, EPSILON)
        self.mix = nn.Linear(tokens, tokens)
        self.leave = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens [B, T, N, width] over T."""
        y = _gelu(self.enter(self.norm(x)))
        u, v = y.chunk(2, -1)
        v = _mixed(self.gate_norm(v), self.mix)
        return x + self.leave(u * (v + 1))


class GatingWeights(nn.Module):
    """Weights with which one signal gates another: mixed across the grid, and within blocks."""

    def __init__(self, width: int, cells: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, EPSILON)
        self.enter = nn.Linear(width, 2 * width)
        self.grid = nn.Linear(cells * cells, cells * cells)
        self.block = nn.Linear(cells * cells, cells * cells)
        self.leave = nn.Linear(2 * width, width)
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        """Give the weights of a signal for another, both [B, H, W, width]."""
        height, width = x.shape[1:3]
        u, v = _gelu(self.enter(self.norm(x))).chunk(2, -1)
        u = _ungrid(_mixed(_grid(u, self.cells), self.grid), height, width)
        v = _unblock(_mixed(_block(v, self.cells), self.block), height, width)
        return self.leave(torch.cat([u, v], -1))


class CrossGating(nn.Module):
    """Two signals gate each other (Fig. 3): x [B, H, W, inputs], y of the same size or coarser."""

    def __init__(self, width: int, cells: int, inputs: int, *, coarser: int = 0) -> None:
        super().__init__()
        self.up = Up(coarser, width) if coarser else None
        self.enter_x, self.enter_y = nn.Linear(inputs, width), nn.Linear(width, width)
        self.norm_x, self.norm_y = nn.LayerNorm(width, EPSILON), nn.LayerNorm(width, EPSILON)
        self.project_x, self.project_y = nn.Linear(width, width), nn.Linear(width, width)
        self.weights_x, self.weights_y = GatingWeights(width, cells), GatingWeights(width, cells)
        self.leave_x, self.leave_y = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Give x gated by y, and y gated by x, each [B, H, W, width]."""
        x = shortcut_x = self.enter_x(x)
        y = shortcut_y = self.enter_y(y if self.up is None else self.up(y))
        x = _gelu(self.project_x(self.norm_x(x)))
        y = _gelu(self.project_y(self.norm_y(y)))
        gated = shortcut_y + self.leave_y(y * self.weights_x(x))
        return shortcut_x + self.leave_x(x * self.weights_y(y)) + gated, gated


class ConvAttention(nn.Module):
    """Residual channel attention block (RCAB): two 3x3 convolutions, channels weighed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, EPSILON)
        self.first, self.second = _conv(width, width, 3), _conv(width, width, 3)
        self.attention = ChannelAttention(width)

    def forward(self, x: Tensor) -> Tensor:
        """Restore features [B, H, W, width]."""
        y = F.leaky_relu(_convolved(self.norm(x), self.first), 0.2, inplace=True)
        return x + self.attention(_convolved(y, self.second))


class DenseAttention(nn.Module):
    """Residual dense channel attention block (RDCAB): an MLP over channels, channels weighed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, EPSILON)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.attention = ChannelAttention(width)

    def forward(self, x: Tensor) -> Tensor:
        """Restore features [B, H, W, width]."""
        y = _gelu(self.first(self.norm(x)))
        return x + self.attention(self.second(y))


class ChannelAttention(nn.Module):
    """Channels weighed by what their means over the picture say (squeeze and excitation)."""

    def __init__(self, width: int, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, width // reduction)
        self.excite = nn.Linear(width // reduction, width)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels of [B, H, W, width]."""
        mean = x.mean((1, 2), keepdim=True)
        return x * self.excite(self.squeeze(mean).relu()).sigmoid()


class ScaleMix(nn.Module):
    """Signals of all scales, brought to one: [B, h, w, 3 width]."""

    def __init__(self, widths: list[int], width: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(w, width) for w in widths)

    def forward(self, signals: list[Tensor], like: Tensor) -> Tensor:
        """Join signals, fine to coarse or the other way round, at the size of `like`."""
        height, width = like.shape[1:3]
        parts = []
        for project, signal in zip(self.project, signals, strict=True):
            if signal.shape[1] > height:  # channels last: the projection is cheaper when small
                signal = project(_resized(signal, height, width))
            else:
                signal = _resized(project(signal), height, width)
            parts.append(signal)
        return torch.cat(parts, -1)


class SupervisedAttention(nn.Module):
    """SAM: a restored picture, and features that it picks out for the next stage."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = _conv(width, width, 3)
        self.picture = _conv(width, 3, 3)
        self.mask = _conv(3, width, 3)

    def forward(self, x: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Give features on [B, H, W, width], and the restored picture [B, 3, H, W]."""
        restored = picture + _picture(_convolved(x, self.picture))
        mask = _convolved(restored, self.mask).sigmoid()
        return x + _convolved(x, self.features) * mask, restored


class Up(nn.ConvTranspose2d):
    """Twice the size by a transposed convolution 2x2: [B, h, w, inputs] to [B, 2h, 2w, width]."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(inputs, width, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Double height and width."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()


def _check_sides(picture: Tensor) -> None:
    height, width = picture.shape[-2:]
    for name, side in (("height", height), ("width", width)):
        if side % MULTIPLE:
            raise ShapeError(f"{name} {side} is not a multiple of {MULTIPLE}; pad first")


def _gelu(x: Tensor) -> Tensor:
    """Gaussian error linear unit in its tanh form, as x sigmoid(...): half the time of torch's."""
    if x.requires_grad:  # what follows is in place
        return F.gelu(x, approximate="tanh")
    gate = (x * x).mul_(2 * 0.044715 * math.sqrt(2 / math.pi)).add_(2 * math.sqrt(2 / math.pi))
    return gate.mul_(x).sigmoid_().mul_(x)


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=(size - 1) // 2)


def _convolved(x: Tensor, conv: nn.Module) -> Tensor:
    """Convolve a picture [B, 3, H, W] or features [B, H, W, C]: [B, h, w, outputs]."""
    picture = x.shape[1] == 3 and cast("nn.Conv2d", conv).in_channels == 3
    seen = x.to(memory_format=torch.channels_last) if picture else x.permute(0, 3, 1, 2)
    return conv(seen).permute(0, 2, 3, 1).contiguous()


def _picture(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _nearest(picture: Tensor, factor: int) -> Tensor:
    """Take the pixel right and below of the middle of each square, as JAX does."""
    return picture[..., factor // 2 :: factor, factor // 2 :: factor]


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    if x.shape[1:3] == (height, width):
        return x
    smaller = x.shape[1] > height
    seen = x.float() if smaller else x  # bf16 cannot be averaged on a CPU
    resized = F.interpolate(
        seen.permute(0, 3, 1, 2), (height, width), mode="bilinear", antialias=smaller
    )
    return resized.permute(0, 2, 3, 1).contiguous().to(x.dtype)


def _grid(x: Tensor, cells: int) -> Tensor:
    """Cut [B, H, W, C] into cells, and put those of the whole picture together: [B, T, N]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, cells, height // cells, cells, width // cells, channels).transpose(2, 3)
    return x.reshape(batch, cells * cells, -1, channels)


def _ungrid(x: Tensor, height: int, width: int) -> Tensor:
    batch, tokens, _, channels = x.shape
    side = round(tokens**0.5)
    x = x.reshape(batch, side, side, height // side, width // side, channels).transpose(2, 3)
    return x.reshape(batch, height, width, channels)


def _block(x: Tensor, side: int) -> Tensor:
    """Cut [B, H, W, C] into blocks of side x side pixels: [B * blocks, T, 1, C]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // side, side, width // side, side, channels).transpose(2, 3)
    return x.reshape(-1, side * side, 1, channels)


def _unblock(x: Tensor, height: int, width: int) -> Tensor:
    _, tokens, _, channels = x.shape
    side = round(tokens**0.5)
    x = x.reshape(-1, height // side, width // side, side, side, channels).transpose(2, 3)
    return x.reshape(-1, height, width, channels)


def _mixed(x: Tensor, mix: nn.Linear) -> Tensor:
    """Mix tokens [B, T, N, C] over T."""
    flat = x.flatten(2)
    mixed = torch.matmul(mix.weight, flat) + mix.bias[:, None]
    return mixed.view_as(x)
