"""Plain U-Net for any frame of the cascade: five times cheaper a pixel than the paper's nets.

Space-to-depth, residual blocks with ReLU on three scales, no normalization, so what a pixel
becomes depends on its neighborhood alone. The last input is the base to which a residual is
added, and the residual starts at zero: an untrained net returns its base.

`Hourglass` is the body, from pictures to maps; others may stand on it too.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class BodyConfig:
    """Shape of the body of a U-Net.

    `widths` and `blocks` are channels and residual blocks from the finest scale to the coarsest.
    The fine scales have their blocks twice, on the way down and on the way up.
    """

    shuffle: int = 2
    widths: tuple[int, ...] = (48, 96, 160)
    blocks: tuple[int, ...] = (2, 2, 4)


@dataclass(frozen=True, kw_only=True)
class UNetConfig(BodyConfig):
    """Shape of a U-Net: `inputs` pictures come in and `outputs` frames go out."""

    inputs: int
    outputs: int = 1


class PlainBlock(nn.Module):
    """`x + conv3x3(relu(conv3x3(x)))`, [B, C, h, w]; starts as the identity."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Refine `x`."""
        return x + self.conv2(F.relu(self.conv1(x)))


class Hourglass(nn.Module):
    """Maps [B, maps, H, W] from pictures that are joined to [B, channels, H, W]; zero at first."""

    def __init__(self, config: BodyConfig, *, channels: int, maps: int) -> None:
        super().__init__()
        shuffle, widths, blocks = config.shuffle, config.widths, config.blocks
        self.shuffle = shuffle
        self.multiple = shuffle * 2 ** (len(widths) - 1)
        fine, coarse = widths[:-1], widths[1:]
        pairs = list(zip(fine, coarse, strict=True))
        self.stem = nn.Conv2d(channels * shuffle**2, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(map(blocks_of, fine, blocks[:-1]))
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.bottom = blocks_of(widths[-1], blocks[-1])
        self.ups = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairs)
        self.decoders = nn.ModuleList(map(blocks_of, fine, blocks[:-1]))
        self.head = nn.Conv2d(widths[0], maps * shuffle**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def descend(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Go from the finest scale to the coarsest; return what is there, and on the way."""
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        return self.bottom(x), skips

    def ascend(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Go back to the finest scale."""
        for i in reversed(range(len(skips))):
            x = skips[i] + F.pixel_shuffle(self.ups[i](x), 2)
            x = self.decoders[i](x)
        return x

    @torch.no_grad()
    def adopt(self, other: "Hourglass") -> None:
        """Take over what fits of another net's weights: all of equal shape, and its stem.

        Pictures that the other net does not know are not looked at to begin with; what it made
        of those that this one does not know is left out.
        """
        mine = dict(self.named_parameters())
        for name, weight in other.named_parameters():
            if name not in mine:
                continue
            if weight.shape == mine[name].shape:
                mine[name].copy_(weight)
            elif name == "stem.weight" and weight.shape[0] == mine[name].shape[0]:
                known = min(weight.shape[1], mine[name].shape[1])
                mine[name].zero_()[:, :known] = weight[:, :known]


class UNet(Hourglass):
    """Frames from pictures, all [B, 3, H, W]; one tensor, or a tuple when `outputs` > 1."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config, channels=3 * config.inputs, maps=3 * config.outputs)
        self.config = config

    def forward(self, *pictures: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Estimate `outputs` frames, each the last picture plus a residual."""
        x = self.stem(F.pixel_unshuffle(torch.cat(pictures, dim=1), self.shuffle))  # [B, C, h, w]
        maps = F.pixel_shuffle(self.head(self.ascend(*self.descend(x))), self.shuffle)
        residuals = maps.chunk(self.config.outputs, dim=1)
        frames = tuple(pictures[-1] + residual for residual in residuals)
        return frames if len(frames) > 1 else frames[0]


def blocks_of(channels: int, count: int) -> nn.Sequential:
    """Make a row of residual blocks, [B, channels, h, w]."""
    return nn.Sequential(*(PlainBlock(channels=channels) for _ in range(count)))
