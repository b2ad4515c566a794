"""How windows are made: the recipes of the papers, and everything about them that can be set."""

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from numpy.random import Generator, default_rng
from torch import Tensor

from b2v.color import Curve
from b2v.data.exposure import FRAME_STEPS, Optics, at_instants, optical_psfs, read_psfs
from b2v.errors import UsageError
from b2v.frames import MIN_SIDE

Light = Literal["linear", "code"]
Layout = Literal["gopro7", "gopro", "reds", "bsd", "pairs"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Which frames of a high-rate video make one blurry picture, and at what size."""

    frames: tuple[int, ...] = (7,)
    """Numbers tau of frames averaged (odd), of which each sequence draws one."""
    stride: int | None = None
    """Frames from one window to the next, T; None takes `periods`."""
    periods: float = 1.0
    """Each sequence draws T from tau to below so many tau; 1 is no gap between windows."""
    scale: float = 1.0
    """Size of the pictures as a part of the source's."""
    box: tuple[int, int] | None = None
    """Width and height that pictures are brought into (a portrait into it turned), not enlarged."""

    def __post_init__(self) -> None:
        for tau in self.frames:
            if tau < 1 or tau % 2 == 0:
                raise UsageError(f"{tau} frames have no middle one; take an odd number")
        if self.stride is not None and self.stride < 1:
            raise UsageError(f"a stride of {self.stride} goes nowhere; take 1 at least")
        if not 0 < self.scale <= 1 or (self.box and min(self.box) < MIN_SIDE):
            raise UsageError("pictures are made smaller only: scale in (0, 1] or WIDTHxHEIGHT")

    def draw(self, rng: Generator) -> tuple[int, int]:
        """Draw tau and T of one sequence (Kim et al., Sec. 3)."""
        tau = int(rng.choice(self.frames))
        period = int(rng.integers(tau, max(tau + 1, int(self.periods * tau))))
        return tau, self.stride or period

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the pictures made of frames of `width` x `height` pixels."""
        scale = self.scale
        if self.box is not None:
            wide, high = sorted(self.box, reverse=width >= height)
            scale = min(1.0, wide / width, high / height)
        return round(width * scale), round(height * scale)


RECIPES: dict[str, Recipe] = {
    "jin": Recipe(scale=0.45),
    "kim": Recipe(frames=(7, 9, 11, 13, 15), periods=2.0, box=(960, 540)),
    "reds": Recipe(),
    "gopro": Recipe(frames=(7, 9, 11, 13)),
}
"""Jin 2018; Kim 2017; Berman 2021 on REDS at 120 frames a second; Nah 2017 (odd numbers only)."""


@dataclass(frozen=True, kw_only=True)
class Aperture:
    """A phase-coded aperture, from `Optics` or from a file of PSFs."""

    psf: str | None = None
    """An .npz that `read_psfs` takes; None is the lens of `Optics`."""
    gains: bool = False
    """Keep the part of the light that falls on the PSF's pixels."""
    backward: bool = False
    """Sweep the focus the other way."""

    def psfs(self, count: int) -> Tensor:
        """PSFs of `count` instants, [count, 3, k, k]."""
        if self.psf is None:
            return optical_psfs(Optics(), count, backward=self.backward, gains=self.gains)
        psfs = read_psfs(Path(self.psf), gains=self.gains)
        return at_instants(psfs.flip(0) if self.backward else psfs, count)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that decides what is written, beside the sources."""

    recipe: Recipe = field(default_factory=Recipe)
    layout: Layout = "gopro7"
    suffix: Literal["png", "jpg"] = "png"
    light: Light = "linear"
    curve: Curve = "gamma2.2"
    noise: float = 0.0
    """Standard deviation of the noise on blurry pictures, white the unit."""
    sub_frames: int | Literal["auto"] | None = None
    """Instants a frame: of photographs rendered, of videos moved between the frames.

    Odd; "auto" takes as many as the motion of each window needs, None those of the frames alone.
    """
    per_photo: int = 4
    """Windows made of each photograph."""
    photo_size: int = 256
    """Side of a window made of a photograph, in pixels."""
    objects: str | None = None
    """Folder of pictures with alpha that fly through photographs."""
    aperture: Aperture | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        count = self.sub_frames
        if isinstance(count, int) and (count < 1 or count % 2 == 0):
            raise UsageError(f"{self.sub_frames} sub-frames have no middle one; take an odd number")
        if not 0 <= self.noise < 1:
            raise UsageError(f"noise is {self.noise}; 0.01 is one percent of white")
        if self.photo_size < MIN_SIDE or self.per_photo < 1:
            raise UsageError(f"photographs need a size of {MIN_SIDE} and one window at least")

    def focus_steps(self) -> int:
        """Count the steps of a coded aperture's focus in the time of a frame that stands still."""
        return 1 if self.sub_frames == 1 else FRAME_STEPS

    def rng(self, sequence: str, *place: int) -> Generator:
        """Random numbers of a sequence, or of one place in it, whatever else is made."""
        return default_rng((self.seed, zlib.crc32(sequence.encode(errors="replace")), *place))
