"""Networks from the top of a picture to its bottom, a strip of rows at a time.

Tiles that overlap would compute what they share twice, and deep networks look far. Here every
convolution keeps the last rows of its input, a few of them, until the next strip comes: each
row of each map is computed once, from the same values as in the whole picture, so the result is
that of the whole picture, and time grows with the number of pixels. The passes of several networks
go down the picture together, each some rows behind those whose frames it takes. What is held at
once is a strip and the rows that wait, which grow with the width and not with the height.

This needs networks in which a pixel depends on its neighbourhood alone (`b2v.models.unet`). The
paper's own normalize by the whole picture, and are given it as a whole.
"""

from collections.abc import Iterator
from typing import TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.frames import FRAMES
from b2v.inference.runtime import Appetite
from b2v.models import Cascade, Extractor
from b2v.models.unet import PlainBlock, UNet

WAITING_ROWS = 770.0
"""Rows that a pass holds at most, in whatever maps, counted in rows of its finest one."""
MAPS = 28.0
"""Maps as large as the finest that lie beside each other while a strip is worked on."""


def goes_in_strips(net: Extractor) -> TypeGuard[Cascade]:
    """Tell whether a model is one for `in_strips`."""
    return type(net) is Cascade and bool(_unets(net))


def appetite(net: Cascade, frames: int, height: int, width: int) -> Appetite:
    """Estimate what `in_strips` takes for a picture of a size, from what was measured."""
    finest = max(part.config.widths[0] / part.config.shuffle**2 for part in _unets(net))
    row = 4 * finest * width
    return Appetite((frames - 1) * WAITING_ROWS * row, MAPS * row)


def in_strips(
    net: Cascade,
    blurry: Tensor,
    rows: int,
    *,
    middle: Tensor | None = None,
    frames: int = FRAMES,
    device: torch.device | None = None,
) -> Iterator[tuple[int, int, Tensor]]:
    """Run a model on one picture, strip by strip.

    Gradients are recorded, or not, as the caller has it at each step.

    Args:
        net: the model.
        blurry: [1, 3, H, W] in [0, 1], sides multiples of `net.multiple`.
        rows: height of a strip, a multiple of `net.multiple`.
        middle: sharp middle frame of the same shape, used instead of the net's own.
        frames: how many, odd, three at least, as `Cascade` takes them.
        device: where the networks are; strips are moved there. The pictures' own without.

    Yields:
        Index of a frame, the row it goes on with, and its next rows [1, 3, rows, W], not clamped.

    """
    passes, known, height = _Passes(net, frames, rows), [0] * frames, blurry.shape[2]
    pictures = [picture for picture in (blurry, middle) if picture is not None]
    for top in range(0, height, rows):
        strips = [_rows_of(picture, top, top + rows, device) for picture in pictures]
        for k, part in enumerate(passes(*strips, last=top + rows >= height)):
            if part.shape[2]:
                yield k, known[k], part
            known[k] += part.shape[2]


def _unets(net: Extractor) -> list[UNet]:
    """List the U-Nets that a model runs in strips; none where another network is among them."""
    parts = list(net.children())
    unets = [part for part in parts if type(part) is UNet]
    return unets if len(unets) == len(parts) else []


class _Passes:
    """The passes of the four networks, as `Cascade.forward` wires them up."""

    def __init__(self, net: Cascade, frames: int, rows: int) -> None:
        def strips(unet: nn.Module) -> Strips:
            return Strips(cast(UNet, unet), rows)

        self._middle, self._pair35 = strips(net.middle), strips(net.pair35)
        outer = [net.pair26, *[net.pair17] * (frames // 2 - 2)]
        self._ways = [[strips(unet) for unet in outer] for _ in range(2)]

    def __call__(self, blurry: Tensor, middle: Tensor | None = None, *, last: bool) -> list[Tensor]:
        """Take the next rows of the picture, and of x4 from elsewhere; give those of each frame."""
        x4 = self._middle(blurry, last=last)[0] if middle is None else middle
        ends = []
        for near, further in zip(self._pair35(blurry, x4, last=last), self._ways, strict=True):
            way = [x4, near]  # x4, x3, x2, x1 and beyond, or the other end
            for strips in further:
                way.append(strips(blurry, way[-2], way[-1], last=last)[0])
            ends.append(way[1:])
        return [*ends[0][::-1], x4, *ends[1]]


def _rows_of(picture: Tensor, top: int, bottom: int, device: torch.device | None) -> Tensor:
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
