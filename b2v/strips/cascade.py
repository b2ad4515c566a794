"""The four networks of a cascade of U-Nets, going down a picture together."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from b2v.models import Cascade
from b2v.models.unet import UNet
from b2v.strips.unet import Strips, rows_of


def cascade_in_strips(
    net: Cascade,
    blurry: Tensor,
    rows: int,
    *,
    middle: Tensor | None = None,
    frames: int,
    device: torch.device | None = None,
) -> Iterator[tuple[int, int, Tensor]]:
    """Run the model; arguments and what is yielded as of `b2v.strips.in_strips`."""
    passes, known, height = CascadePasses(net, frames, rows), [0] * frames, blurry.shape[2]
    pictures = [picture for picture in (blurry, middle) if picture is not None]
    for top in range(0, height, rows):
        strips = [rows_of(picture, top, top + rows, device) for picture in pictures]
        for k, part in enumerate(passes(*strips, last=top + rows >= height)):
            if part.shape[2]:
                yield k, known[k], part
            known[k] += part.shape[2]


class CascadePasses:
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
