"""Frames of a blurry video and of the restored one, at the same moments, spread over it."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

from torch import Tensor

from b2v.media import open_video
from b2v.show.layout import Way


class Moment(NamedTuple):
    """One frame of each, [3, H, W] in [0, 1], and its time in seconds of the restored one."""

    second: float
    blurry: Tensor
    restored: Tensor


def moments(
    source: str,
    restored: str,
    frames: int,
    *,
    count: int,
    start: float | None = None,
    end: float | None = None,
    compare: Way | None = None,
) -> Iterator[Moment]:
    """Read evenly spread frames of a restored video beside those that they came from.

    Args:
        source: the blurry video.
        restored: what was made of it, frame by frame.
        frames: how many there are.
        count: how many are wanted, at most.
        start: the part of the source that was restored, as `open_video` takes it.
        end: likewise.
        compare: the restored video shows both; then it alone is read.

    Yields:
        The moments in order; fewer where the source breaks off.

    """
    steps = max(1, min(count, frames) - 1)
    wanted = sorted({round(k * (frames - 1) / steps) for k in range(min(count, frames))})
    with ExitStack() as stack:
        new = stack.enter_context(open_video(restored))
        old = None if compare else stack.enter_context(open_video(source, start, end))
        seconds, done = float(new.info.time_base), 0
        for number in wanted:
            for reader in filter(None, (old, new)):
                reader.skip(number - done)
            done = number + 1
            shown = next(iter(new))
            if old is None:
                dim = 2 if compare == "side" else 1
                blurry, sharp = shown.pixels.chunk(2, dim)
            else:
                blurry, sharp = next(iter(old)).pixels, shown.pixels
            yield Moment(shown.pts * seconds, blurry, sharp)
