"""Maps that are computed a few rows at a time, whenever somebody asks for them.

A network with instance norm looks at all of a map before it goes on with any of it, so it cannot
go down a picture as a U-Net does. Here a map is a description of how its rows come about; the mean
and the variance of each channel are gathered in a first walk down the map, and what is too large
to be held is computed again in the next. The result is that of the whole picture.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Map(ABC):
    """Rows of a map [1, C, H, W] on demand, `step` of them at a time when all are wanted."""

    def __init__(self, height: int, step: int) -> None:
        self.height, self.step = height, step

    @abstractmethod
    def rows(self, top: int, bottom: int) -> Tensor:
        """Compute rows `top` to `bottom`, [1, C, bottom - top, W]."""

    def strips(self) -> Iterator[tuple[int, Tensor]]:
        """Walk down the map: the first row of a strip, and the strip."""
        for top in range(0, self.height, self.step):
            yield top, self.rows(top, min(top + self.step, self.height))

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of each channel over the whole map, [C] each, in fp32."""
        count, mean, spread = 0, torch.zeros(()), torch.zeros(())
        for _, strip in self.strips():
            variance, middle = torch.var_mean(strip.double(), (0, 2, 3), correction=0)
            more = strip.shape[2] * strip.shape[3]
            both = count + more
            mean, spread = mean.to(middle), spread.to(middle)
            apart = middle - mean
            spread = spread + variance * more + apart.square() * (count * more / both)
            mean, count = mean + apart * (more / both), both
        return mean.float(), (spread / count).float()


class Held(Map):
    """A map that is there as a whole, maybe on another device than it is worked on."""

    def __init__(self, values: Tensor, step: int, device: torch.device | None = None) -> None:
        super().__init__(values.shape[2], step)
        self.values, self.device = values, device or values.device

    def rows(self, top: int, bottom: int) -> Tensor:
        """Look them up."""
        found = self.values[:, :, top:bottom]
        return found.to(self.device, memory_format=torch.channels_last)


class Convolved(Map):
    """A convolution of a map, with zeros around it."""

    def __init__(self, conv: nn.Module, source: Map) -> None:
        super().__init__(source.height, source.step)
        self.conv, self.source = cast(nn.Conv2d, conv), source

    def rows(self, top: int, bottom: int) -> Tensor:
        """Convolve these rows and those that the kernel reaches."""
        conv = self.conv
        pad, side = cast("tuple[int, int]", conv.padding)
        first, end = max(0, top - pad), min(self.height, bottom + pad)
        seen = F.pad(self.source.rows(first, end), (0, 0, first - top + pad, bottom + pad - end))
        return F.conv2d(seen, conv.weight, None, conv.stride, (0, side), conv.dilation)


class Activated(Map):
    """Instance norm and ReLU of a map."""

    def __init__(self, norm: nn.Module, source: Map) -> None:
        super().__init__(source.height, source.step)
        self.norm, self.source = cast(nn.InstanceNorm2d, norm), source

    @cached_property
    def _line(self) -> tuple[Tensor, Tensor]:
        """Slope and offset that the norm comes to for each channel, [C, 1, 1] each."""
        mean, variance = self.source.moments
        slope = self.norm.weight * (variance + self.norm.eps).rsqrt()
        return slope[:, None, None], (self.norm.bias - mean * slope)[:, None, None]

    def rows(self, top: int, bottom: int) -> Tensor:
        """Normalize by the moments of the whole map."""
        slope, offset = self._line
        return torch.addcmul(offset, self.source.rows(top, bottom).float(), slope).relu_()


class Added(Map):
    """The sum of several maps."""

    def __init__(self, *parts: Map) -> None:
        super().__init__(parts[0].height, parts[0].step)
        self.parts = parts

    def rows(self, top: int, bottom: int) -> Tensor:
        """Add theirs."""
        first, *others = (part.rows(top, bottom) for part in self.parts)
        for other in others:
            first = first + other
        return first


class Joined(Map):
    """The channels of several maps, one map's after the other's."""

    def __init__(self, *parts: Map) -> None:
        super().__init__(parts[0].height, parts[0].step)
        self.parts = parts

    def rows(self, top: int, bottom: int) -> Tensor:
        """Join theirs."""
        return torch.cat([part.rows(top, bottom) for part in self.parts], dim=1)


def held(source: Map) -> Held:
    """Compute all of a map, once."""
    values: Tensor | None = None
    for top, strip in source.strips():
        if values is None:
            shape = (1, strip.shape[1], source.height, strip.shape[3])
            values = strip.new_empty(shape).contiguous(memory_format=torch.channels_last)
        values[:, :, top : top + strip.shape[2]] = strip
    if values is None:
        raise ValueError("a map without rows")
    return Held(values, source.step)
