"""Frames of a blurry video and of the restored one, at the same moments, spread over it."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

from torch import Tensor

from b2v.media import TimedFrame, VideoReader, open_video
from b2v.show.layout import Way

NEAR = 1e-4
"""Seconds by which times that are rounded may differ."""


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
    slower: float = 1,
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
        slower: by how many times it is played slower; frames are then put together by their times.

    Yields:
        The moments in order; fewer where the source breaks off.

    """
    steps = max(1, min(count, frames) - 1)
    wanted = sorted({round(k * (frames - 1) / steps) for k in range(min(count, frames))})
    with ExitStack() as stack:
        new = stack.enter_context(open_video(restored))
        old = None if compare else stack.enter_context(open_video(source, start, end))
        seconds, done = float(new.info.time_base), 0
        held = None if old is None or slower == 1 else _Held(old)
        for number in wanted:
            new.skip(number - done)
            if old is not None and held is None:
                old.skip(number - done)
            done = number + 1
            shown = next(iter(new))
            second = shown.pts * seconds
            if old is None:
                dim = 2 if compare == "side" else 1
                blurry, sharp = shown.pixels.chunk(2, dim)
            else:
                frame = next(iter(old)) if held is None else held.at(second / slower)
                blurry, sharp = frame.pixels, shown.pixels
            yield Moment(second, blurry, sharp)


class _Held:
    """The frames of a video by their times, each held until the next one; times only go on."""

    def __init__(self, reader: VideoReader) -> None:
        self.frames, self.tick = iter(reader), reader.info.time_base
        self.now = self.next = next(self.frames)
        self.start = self.now.pts

    def at(self, second: float) -> TimedFrame:
        """Give the frame that is shown so many seconds after the first one begins."""
        while (self.next.pts - self.start) * self.tick <= second + NEAR:
            self.now, following = self.next, next(self.frames, None)
            if following is None:
                break
            self.next = following
        return self.now
