"""The paper's four networks on a large picture, one after the other, with little memory.

They have instance norm, so each layer must be known for all of the picture before the next. Where
a picture is folded into cells, maps are held, for one colour at a time; at full size, where a map
is seven times as large, they are computed anew whenever they are needed (`b2v.strips.maps`).
"""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.memory import Appetite
from b2v.models import Cascade
from b2v.models.blocks import FusionBlock, ResidualBlock
from b2v.models.cascade import JinMiddle, JinPair, JinSide
from b2v.strips.maps import Activated, Added, Convolved, Held, Joined, Map, held

MAPS = 3.0
"""Maps of cells that are held at once: of a residual block the input, the inner one, the result."""
PICTURES = 8
"""Pictures that are held at once, the blurry one and a copy to work on among them."""
WHOLE = 2600.0
"""Bytes a pixel that the networks take when they are given a picture as a whole."""
SCRATCH = 12.0
"""Maps as large as the finest that lie beside each other while a strip is worked on."""


def is_jin(net: nn.Module) -> bool:
    """Tell whether all networks of a model are the paper's."""
    return type(net) is Cascade and all(
        type(part) in (JinMiddle, JinPair, JinSide) for part in net.children()
    )


def appetite(net: Cascade, height: int, width: int) -> Appetite:
    """Estimate what `jin_in_strips` takes for a picture of a size."""
    middle = cast(JinMiddle, net.middle).config
    cells = 4 * middle.channels / middle.shuffle**2
    fixed = (MAPS * cells + PICTURES * 12) * height * width
    return Appetite(fixed, SCRATCH * 4 * middle.colour_channels * width, WHOLE)


def jin_in_strips(
    net: Cascade,
    blurry: Tensor,
    rows: int,
    *,
    middle: Tensor | None = None,
    frames: int,
    device: torch.device | None = None,
) -> Iterator[tuple[int, int, Tensor]]:
    """Run the cascade; arguments and what is yielded as of `b2v.strips.in_strips`."""

    def frame(k: int, part: nn.Module, *pictures: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        known[k] = torch.empty_like(blurry)
        for top, strip in _estimate(part, pictures, rows, device or blurry.device):
            known[k][:, :, top : top + strip.shape[2]] = strip
            yield k, top, strip

    known: dict[int, Tensor] = {}
    half = frames // 2
    if middle is None:
        yield from frame(half, net.middle, blurry)
    else:
        known[half] = middle
        yield half, 0, middle
    x4, pair = known[half], cast(JinPair, net.pair35)
    yield from frame(half - 1, pair.first, blurry, x4, x4)
    yield from frame(half + 1, pair.second, blurry, known[half - 1], x4)
    for way in (-1, 1):
        for step in range(2, half + 1):
            k = half + way * step
            part = net.pair26 if step == 2 else net.pair17
            yield from frame(k, part, blurry, known[k - 2 * way], known[k - way])
            if step > 2:
                del known[k - 2 * way]


def _estimate(
    net: nn.Module, pictures: tuple[Tensor, ...], rows: int, device: torch.device
) -> Iterator[tuple[int, Tensor]]:
    """Run one network on pictures [1, 3, H, W]; give its frame strip by strip."""
    assert isinstance(net, JinMiddle | JinSide)
    shuffle = net.config.shuffle
    colours = torch.empty_like(pictures[0])
    for colour in range(3):
        planes = (picture[:, colour : colour + 1] for picture in pictures)
        cells = [Held(F.pixel_unshuffle(p, shuffle), rows // shuffle, device) for p in planes]
        total = _cells(net, cells)
        colours[:, colour : colour + 1] = F.pixel_shuffle(total.values, shuffle)
    base, head = Held(pictures[-1], rows, device), net.head
    stem = Convolved(net.colour_stem, Held(colours, rows, device))
    block = _refined if isinstance(net, JinMiddle) else _fused
    refined = block(net.colour_block, stem)
    yield from Added(base, Convolved(head.conv, Activated(head.norm, refined))).strips()


def _cells(net: JinMiddle | JinSide, cells: list[Held]) -> Held:
    """Do what a network does with the cells of one colour, up to the sum of its taps."""
    if isinstance(net, JinMiddle):
        x = held(Convolved(net.stem, cells[0]))
    else:
        stems = zip(net.stems, cells, strict=True)
        x = held(Joined(*(Convolved(stem, cell) for stem, cell in stems)))
    total = cells[-1]
    for group, tap in zip(net.groups, net.taps, strict=True):
        for block in group.children():
            x = held(_refined(block, x, hold=True))
        total = held(Added(total, _fused(tap, x)))
    return total


def _fused(block: nn.Module, x: Map) -> Map:
    """Do what a `FusionBlock` does."""
    block = cast(FusionBlock, block)
    branches = ((block.conv1, block.norm1), (block.conv2, block.norm2))
    return Added(*(Convolved(conv, Activated(norm, x)) for conv, norm in branches))


def _refined(block: nn.Module, x: Map, *, hold: bool = False) -> Map:
    """Do what a `ResidualBlock` does; `hold` its inner map where there is room for it."""
    block = cast(ResidualBlock, block)
    short = Convolved(block.conv1, Activated(block.norm1, x))
    inner: Map = Convolved(block.conv2, Activated(block.norm2, x))
    long = Convolved(block.conv4, Activated(block.norm4, held(inner) if hold else inner))
    return Added(x, short, long)
