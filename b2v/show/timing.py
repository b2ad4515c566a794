"""How fast the frames of a photo went by in life."""

from dataclasses import dataclass
from fractions import Fraction

from b2v.frames import FRAMES

WHOLE = 0.4
"""Seconds from which on an exposure time is not told as a fraction, as cameras do."""


@dataclass(frozen=True)
class Timing:
    """Exposure time in seconds, and frames a second at which the frames are played."""

    exposure: float
    played: float

    @property
    def fps(self) -> float:
        """Frames a second in life: seven in an exposure."""
        return FRAMES / self.exposure

    @property
    def slower(self) -> float:
        """How many times slower than life they are played."""
        return self.fps / self.played

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{told(self.exposure)} over seven frames: {self.fps:.4g} fps, {self.pace}"

    @property
    def pace(self) -> str:
        """Say how that compares with how they are played."""
        if self.slower >= 1:
            return f"played {self.slower:.3g}x slower than life"
        return f"played {1 / self.slower:.3g}x faster than life"

    def as_dict(self) -> dict[str, float]:
        """Say it to programs."""
        numbers = {"seconds": self.exposure, "fps": self.fps, "slower": self.slower}
        return {key: round(value, 6) for key, value in numbers.items()}


def told(seconds: float) -> str:
    """Say an exposure time as a camera does: 1/15 s, 0.5 s, 2 s."""
    if seconds < WHOLE:
        return f"{Fraction(1, max(1, round(1 / seconds)))} s"
    return f"{seconds:.3g} s"
