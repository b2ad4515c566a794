"""Slow motion that flows: frames at even steps of time, across exposures and the gaps between them.

Restored frames stand in the middle of their exposures; what lies between two of them is made of
both (`b2v.models.neighbors`). So a step from one frame to the next is like any other, wherever
the shutter was open.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from b2v.errors import UsageError
from b2v.media.video_reader import TimedFrame
from b2v.models.neighbors import gap

TICK = Fraction(1, 120_000)
"""Seconds; a whole number of them are in a frame at 24, 25, 30, 50, 60 and the rates of NTSC."""
LIMITS = (1, 1000)
"""By how many times a video may be played slower."""
NEAR = Fraction(1, 100)
"""Share of a step by which a frame may lie off its time and be taken as it is."""


@dataclass(frozen=True)
class Tempo:
    """By how many times a video is played `slower` than life, and `rate`, its frames a second."""

    slower: Fraction
    rate: Fraction

    def __post_init__(self) -> None:
        least, most = LIMITS
        if not least <= self.slower <= most:
            said = f"from {least} to {most}"
            raise UsageError(f"--slower {float(self.slower):g}: a number of times {said}")
        if not 0 < self.rate <= 1000:
            raise UsageError(f"--fps {float(self.rate):g}: frames a second, up to 1000")

    @property
    def step(self) -> Fraction:
        """Seconds of the source from one frame to the next."""
        return 1 / (self.rate * self.slower)

    def shown(self, number: int) -> tuple[int, int]:
        """When a frame is shown, and for how long, in `TICK`s; the first is number 0."""
        begin, end = (round(n / self.rate / TICK) for n in (number, number + 1))
        return begin, end - begin

    def count(self, seconds: Fraction) -> int:
        """Count the frames over so many seconds from the first frame of the source to its last."""
        return int((seconds + NEAR * self.step) / self.step) + 1


class Shown(NamedTuple):
    """A frame of slow motion [3, H, W], and the blurry one that is shown beside it."""

    pixels: Tensor
    blurry: Tensor


class SlowMotion:
    """Makes slow motion of restored frames as they come; it holds one of them."""

    KEYS = ("shown", "shown_at")
    """What `state_dict` has."""

    def __init__(self, tempo: Tempo, tick: Fraction) -> None:
        """Begin; the times of frames are in ticks of `tick` seconds."""
        self.tempo, self.tick = tempo, tick
        self.last: Shown | None = None
        self.start = self.pts = self.count = 0

    def frames(self, restored: Tensor, blurry: TimedFrame, skip: int = 0) -> Iterator[Shown]:
        """Take the next restored frame, and give those from the one before to it.

        Args:
            restored: [3, H, W] in [0, 1].
            blurry: the frame that it was, with its time.
            skip: frames of the new video that are not needed, and given as they are at hand.

        """
        before, begin = self.last, self._seconds()
        self.last, self.pts = Shown(restored, blurry.pixels), blurry.pts
        if before is None:
            self.start, self.count = blurry.pts, 1
            yield self.last
            return
        between, step = None, self.tempo.step
        end = self._seconds()
        numbers = range(self.count, self.tempo.count(end))
        self.count += len(numbers)
        for number in numbers:
            time = number * step
            if end - time <= NEAR * step:
                yield self.last
            elif number < skip or time - begin <= NEAR * step:
                yield before
            else:
                between = between or gap(before.pixels, restored)
                share = float((time - begin) / (end - begin))
                yield before._replace(pixels=between.at(share)) if between else before

    def _seconds(self) -> Fraction:
        return (self.pts - self.start) * self.tick

    def state_dict(self) -> dict[str, Tensor]:
        """Copy what is needed to go on from here."""
        if self.last is None:
            return {}
        times = torch.tensor([self.start, self.pts, self.count])
        return dict(zip(self.KEYS, (torch.stack(self.last), times), strict=True))

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where `state_dict` was called; what else is in `state` is left."""
        if "shown" in state:
            self.last = Shown(*state["shown"])
            self.start, self.pts, self.count = state["shown_at"].tolist()


def tempo_for(slower: float, fps: float | None, rate: Fraction | None) -> Tempo:
    """Say how slow motion is played of a video of `rate` frames a second; raises UsageError."""
    usual = Fraction(30) if rate is None else rate
    chosen = usual if fps is None else Fraction(fps).limit_denominator(1001)
    return Tempo(Fraction(slower).limit_denominator(1000), chosen)
