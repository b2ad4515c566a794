"""Which way time ran in each picture of a video: its neighbours tell.

One blurry picture looks the same played backwards, but in a video it must lead over from the
picture before to the one after. Over its exposure a picture changes as the video does from its
neighbour before to its neighbour after, only less; so where its last frame differs from its first
one against that, the frames are exchanged for their mirror images in time. This is settled place
by place, because what moves in a picture moves on its own, and networks guess on their own.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from torch import Tensor
from torch.nn import functional as F

from b2v.direction import SCALE, turned, window

CUT = 4.0
"""A neighbour that differs so many times more than the other one is of another scene."""

T = TypeVar("T")


class Neighbours(NamedTuple):
    """What is known of a picture's place in the video, all [3, H, W]; None beyond its ends."""

    before: Tensor | None
    this: Tensor
    after: Tensor | None


def with_neighbours(pictures: Iterable[T]) -> Iterator[tuple[T | None, T, T | None]]:
    """Yield each picture between its neighbours, holding three at a time."""
    before: T | None = None
    this: T | None = None
    for after in pictures:
        if this is not None:
            yield before, this, after
        before, this = this, after
    if this is not None:
        yield before, this, None


def join(frames: Tensor, around: Neighbours) -> Tensor:
    """Have the frames of a picture run on from the picture before to the one after.

    Args:
        frames: [T, 3, H, W] in [0, 1], T odd.
        around: the picture that they are of, and its neighbours.

    Returns:
        Frames of that shape; the same tensor where there are no neighbours.

    """
    change = _change(around)
    if change is None:
        return frames
    own = _small(frames[-1].float()) - _small(frames[0].float())
    own = own - own.mean((1, 2), keepdim=True)
    agreement = (own * change).sum(0, keepdim=True)  # [1, h, w]
    signs = window(agreement) / (window(agreement.abs()) + 1e-12)
    return turned(frames, signs)


def _change(around: Neighbours) -> Tensor | None:
    """How the video changes about a picture, [3, h, w]: what changes everywhere alike left out.

    A neighbour across a cut does not count.
    """
    this = _small(around.this)
    sides = [] if around.before is None else [this - _small(around.before)]
    sides += [] if around.after is None else [_small(around.after) - this]
    sides = [side - side.mean((1, 2), keepdim=True) for side in sides]
    least = min((float(side.abs().mean()) for side in sides), default=0.0)
    near = [side for side in sides if float(side.abs().mean()) <= CUT * least + 1e-3]
    return sum(near[1:], near[0]) if near else None


def _small(picture: Tensor) -> Tensor:
    """Bring [3, H, W] to the size at which motion is looked at."""
    return F.avg_pool2d(picture, min(SCALE, *picture.shape[1:]))
