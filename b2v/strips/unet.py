"""A U-Net in strips: every convolution keeps the last rows of its input for the next strip."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.models.unet import PlainBlock, UNet


def rows_of(picture: Tensor, top: int, bottom: int, device: torch.device | None) -> Tensor:
    """Bring rows of a picture to a device, the picture's own where none is named."""
    rows = picture[:, :, top:bottom]
    return rows.to(device or picture.device, memory_format=torch.channels_last)


class Rows:
    """Rows of a map, [B, C, rows, W], that wait for others to catch up."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def __len__(self) -> int:
        """Count them."""
        return sum(part.shape[2] for part in self._parts)

    def push(self, rows: Tensor) -> None:
        """Add rows at the bottom."""
        if rows.shape[2]:
            self._parts.append(rows)

    def pop(self, count: int) -> Tensor:
        """Take rows from the top; there are as many, and at least one was pushed before."""
        rows = self._parts[0] if len(self._parts) == 1 else torch.cat(self._parts, dim=2)
        # A view would keep all of the strip that it was taken from.
        self._parts = [rows[:, :, count:].clone()] if count < rows.shape[2] else []
        return rows[:, :, :count]


class Convolution:
    """A convolution, or one of these with a ReLU after it, that is given its input in strips."""

    def __init__(self, conv: nn.Module, *, relu: bool = False) -> None:
        self.conv, self.relu = cast(nn.Conv2d, conv), relu
        self._waiting: Tensor | None = None

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """Compute the rows that are known after these; `last` ones have zeros below them."""
        conv = self.conv
        (pad, side), (stride, _) = cast("tuple[int, int]", conv.padding), conv.stride
        reach = conv.dilation[0] * (conv.kernel_size[0] - 1) + 1
        if self._waiting is None:
            rows = F.pad(rows, (0, 0, pad, pad if last else 0)) if pad else rows
        else:
            below = (F.pad(rows, (0, 0, 0, pad)) if last and pad else rows,)
            rows = torch.cat([self._waiting, *below], dim=2)
        count = max(0, (rows.shape[2] - reach) // stride + 1)
        self._waiting = rows[:, :, count * stride :].clone()
        if not count:
            return rows.new_empty(len(rows), conv.out_channels, 0, rows.shape[3] // stride)
        seen = rows[:, :, : (count - 1) * stride + reach]
        maps = F.conv2d(
            seen, conv.weight, conv.bias, conv.stride, (0, side), conv.dilation, conv.groups
        )
        return maps.relu_() if self.relu else maps


class Block:
    """A `PlainBlock` in strips."""

    def __init__(self, block: PlainBlock) -> None:
        self._first = Convolution(block.conv1, relu=True)
        self._second = Convolution(block.conv2)
        self._waiting = Rows()

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """Refine the rows that are known after these."""
        self._waiting.push(rows)
        refined = self._second(self._first(rows, last), last)
        return refined.add_(self._waiting.pop(refined.shape[2])) if refined.shape[2] else refined


class Strips:
    """A `UNet` in strips of `rows` at most; forgets nothing: each picture takes a new one."""

    def __init__(self, net: UNet, rows: int) -> None:
        self._net, self._rows = net, rows
        self._inputs = [Rows() for _ in range(net.config.inputs)]
        self._base = Rows()
        self._stem, self._head = Convolution(net.stem), Convolution(net.head)
        self._down_blocks = [_blocks(encoder) for encoder in net.encoders]
        self._downs = [Convolution(down) for down in net.downs]
        self._skips = [Rows() for _ in net.downs]
        self._bottom = _blocks(net.bottom)
        self._up_blocks = [_blocks(decoder) for decoder in net.decoders]

    def __call__(self, *pictures: Tensor, last: bool = False) -> tuple[Tensor, ...]:
        """Take the next rows of each picture [B, 3, rows, W], not always equally many.

        Returns:
            The rows of the frames that are known now, [B, 3, rows, W] each; none at first.

        """
        for waiting, rows in zip(self._inputs, pictures, strict=True):
            waiting.push(rows)
        known = min(map(len, self._inputs))
        known -= known % self._net.shuffle
        # The end of a picture sets free all that waited; in one strip it would be a tall one.
        counts = [min(self._rows, known - start) for start in range(0, known, self._rows)]
        steps = [
            self._step(count, last and number == len(counts))
            for number, count in enumerate(counts, 1)
        ]
        frames = zip(*(step for step in steps if step), strict=True)
        none = tuple(pictures[0][:, :, :0] for _ in range(self._net.config.outputs))
        return tuple(torch.cat(parts, dim=2) for parts in frames) or none

    def _step(self, count: int, last: bool) -> tuple[Tensor, ...]:
        """Take `count` rows of those that wait; give what is known then, nothing at first."""
        pictures = [waiting.pop(count) for waiting in self._inputs]
        self._base.push(pictures[-1])
        residuals = self._maps(torch.cat(pictures, dim=1), last)
        if not residuals.shape[2]:
            return ()
        base = self._base.pop(residuals.shape[2])
        return tuple(base + part for part in residuals.chunk(self._net.config.outputs, dim=1))

    def _maps(self, pictures: Tensor, last: bool) -> Tensor:
        """Do what `Hourglass.maps` does."""
        net = self._net
        x = self._stem(F.pixel_unshuffle(pictures, net.shuffle), last)
        for blocks, skip, down in zip(self._down_blocks, self._skips, self._downs, strict=True):
            x = _through(blocks, x, last)
            skip.push(x)
            x = down(x, last)
        x = _through(self._bottom, x, last)
        for i in reversed(range(len(self._skips))):
            if not x.shape[2]:
                return x
            x = F.pixel_shuffle(net.ups[i](x), 2)
            x = _through(self._up_blocks[i], x.add_(self._skips[i].pop(x.shape[2])), last)
        return F.pixel_shuffle(self._head(x, last), net.shuffle)


def _blocks(blocks: nn.Module) -> list[Block]:
    return [Block(cast(PlainBlock, block)) for block in blocks.children()]


def _through(blocks: list[Block], rows: Tensor, last: bool) -> Tensor:
    for block in blocks:
        rows = block(rows, last)
    return rows
