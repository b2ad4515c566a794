"""Windows: a blurry picture and the sharp frames behind it, from videos and from photographs.

Recipes of the papers, and all else that can be set, say how they are made.

Averaging frames is an exposure only where they follow each other evenly in time: steps that do
not are marked, and no window goes across them.
"""

import zlib
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from numpy.random import Generator, default_rng
from torch import Tensor
from torch.nn import functional as F

from b2v.color import Curve, to_encoded, to_linear
from b2v.data.exposure import (
    FRAME_STEPS,
    Aperture,
    Optics,
    by_frame,
    expose,
    optical_psfs,
    through_psfs,
)
from b2v.data.scenes import MotionConfig, render
from b2v.data.sources import Sequence, frame_files
from b2v.errors import DatasetError, UsageError
from b2v.frames import FRAMES, MIDDLE, MIN_SIDE
from b2v.media.images import read_photo
from b2v.media.video_reader import TruncatedVideoError, open_video
from b2v.metrics import psnr

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
class Settings:
    """All that decides what is written, beside the sources."""

    recipe: Recipe = field(default_factory=Recipe)
    layout: Layout = "gopro7"
    suffix: Literal["png", "jpg"] = "png"
    light: Light = "linear"
    curve: Curve = "gamma2.2"
    noise: float = 0.0
    """Standard deviation of the noise on blurry pictures, white the unit."""
    per_photo: int = 4
    """Windows made of each photograph."""
    photo_size: int = 256
    """Side of a window made of a photograph, in pixels."""
    objects: str | None = None
    """Folder of pictures with alpha that fly through photographs."""
    aperture: Aperture = "standard"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.noise < 1:
            raise UsageError(f"noise is {self.noise}; 0.01 is one percent of white")
        if self.photo_size < MIN_SIDE or self.per_photo < 1:
            raise UsageError(f"photographs need a size of {MIN_SIDE} and one window at least")

    def rng(self, sequence: str, *place: int) -> Generator:
        """Random numbers of a sequence, or of one place in it, whatever else is made."""
        return default_rng((self.seed, zlib.crc32(sequence.encode(errors="replace")), *place))


UNEVEN = 0.25
"""Largest deviation of a step in time from the usual one, as a part of it."""
STEPS = 15
"""Steps in time of which the usual one is taken."""
SAME = 0.02
"""Mean absolute difference in 8-bit code values below which a frame repeats the one before.

Clips from a camera that stands still change by 0.19 at least.
"""


@dataclass
class Frame:
    """One sharp frame, [3, H, W] encoded in [0, 1], at `position` (from 0), called `number`.

    `fault` says what is wrong with the step from the frame before; empty for a good one.
    """

    position: int
    number: int
    pixels: Tensor
    fault: str = ""


@dataclass
class Faults:
    """The faults that were found in a sequence."""

    kinds: Counter[str] = field(default_factory=Counter)
    windows: int = 0
    broken: str = ""

    def __str__(self) -> str:
        said = [f"{count} {kind}" for kind, count in self.kinds.items()]
        said += [f"{self.windows} windows left out"] if self.windows else []
        return "; ".join([*said, *([self.broken] if self.broken else [])])


def read_frames(sequence: Sequence, faults: Faults, skip: int = 0) -> Iterator[Frame]:
    """Read a folder of frames or a video from position `skip` on; note its faults.

    Raises MediaError where a file cannot be read at all; DatasetError where frames are not of one
    size.
    """
    frames = _of_video if sequence.kind == "video" else _of_folder
    before: Tensor | None = None
    for frame in frames(sequence.path, faults, skip):
        if before is not None and frame.pixels.shape != before.shape:
            sizes = [f"{x.shape[2]}x{x.shape[1]}" for x in (frame.pixels, before)]
            raise DatasetError(
                f"{sequence.path}: frame {frame.number} is {sizes[0]}, the one before {sizes[1]};"
                " photographs are read with --layout photos"
            )
        if before is not None and (frame.pixels - before).abs().mean() < SAME / 255:
            frame.fault = frame.fault or "repeated frames"
        if frame.fault and before is not None:
            faults.kinds[frame.fault] += 1
        before = frame.pixels
        yield frame


def _of_folder(folder: Path, faults: Faults, skip: int) -> Iterator[Frame]:
    last: int | None = None
    for position, (number, path) in enumerate(frame_files(folder)):
        if position >= skip:
            gap = last is not None and number != last + 1
            pixels = read_photo(path).on_white()
            yield Frame(position, number, pixels, "gaps in the numbers of frames" if gap else "")
        last = number


def _of_video(path: Path, faults: Faults, skip: int) -> Iterator[Frame]:
    with open_video(path) as reader, suppress(TruncatedVideoError):
        times = [pts for _, pts, _ in islice(reader, STEPS + 1)]
    # One frame lost would shift the average rate.
    usual = median(b - a for a, b in pairwise(times)) if len(times) > 1 else 1
    with open_video(path) as reader:
        slack = max(usual * UNEVEN, 1)
        reader.skip(skip)
        last: int | None = None
        try:
            for position, (pixels, pts, _) in enumerate(reader, start=skip):
                step = usual if last is None else pts - last
                fault = "uneven steps in time" if abs(step - usual) > slack else ""
                yield Frame(position, position + 1, pixels, fault)
                last = pts
        except TruncatedVideoError as error:
            faults.broken = str(error).removeprefix(f"{path}: ")


def resize(pixels: Tensor, recipe: Recipe, curve: Curve | None) -> Tensor:
    """Bring a frame [3, H, W] to the size of the recipe, averaging light, or codes (None)."""
    height, width = pixels.shape[1:]
    wide, high = recipe.size(width, height)
    if (wide, high) == (width, height):
        return pixels
    light = pixels if curve is None else to_linear(pixels, curve)
    small = F.interpolate(light[None], (high, wide), mode="bilinear", antialias=True)[0]
    return small if curve is None else to_encoded(small, curve)


def load_objects(folder: str | None) -> list[Tensor]:
    """Read the pictures with alpha in `folder`, [4, h, w] uint8 RGBA each.

    Raises DatasetError where there are none.
    """
    if folder is None:
        return []
    if not Path(folder).is_dir():
        raise DatasetError(f"{folder}: no such folder; --objects takes one of cut-out pictures")
    photos = [read_photo(path) for _, path in frame_files(Path(folder))]
    objects = [torch.cat([p.pixels, p.alpha]) for p in photos if p.alpha is not None]
    if not objects:
        raise DatasetError(f"{folder}: no picture there has transparency; --objects needs some")
    return [(x * 255).round().byte() for x in objects]


BLUR_PSNR = (17.0, 36.0)
"""Accepted PSNR in dB between a photograph's plain blur and its middle frame."""
TRIES = 6
"""Draws of a photograph's motion before one outside `BLUR_PSNR` is taken all the same."""


@dataclass(frozen=True, eq=False)
class Window:
    """Window `index` of a sequence; its frames are `positions` from 0 in it, called `numbers`."""

    index: int
    positions: tuple[int, ...]
    numbers: tuple[int, ...]
    sharp: Tensor  # [tau, 3, H, W]
    blurry: dict[Light, Tensor]  # [3, H, W] each
    period: int
    sub_frames: int
    scale: float


def _psfs(settings: Settings, steps: int, count: int) -> Tensor | None:
    """PSFs of steps of the focus, averaged to so many instants; None where there is no mask."""
    if settings.aperture == "standard":
        return None
    return by_frame(optical_psfs(Optics(), steps), count)


def windows_of_video(
    sequence: Sequence, settings: Settings, done: Set[int], faults: Faults
) -> Iterator[Window]:
    """Make the windows of a video in order, but those that are `done`; note its faults.

    Raises B2VError where it cannot be read, or is too short for a single window.
    """
    tau, period = settings.recipe.draw(settings.rng(sequence.name))
    index = next(number for number in range(len(done) + 1) if number not in done)
    # The end of the window before is there for sure, the beginning of this one may not be.
    skip = min(index * period, (index - 1) * period + tau) if index else 0
    held, count = list[Frame](), skip
    for frame in read_frames(sequence, faults, skip):
        count = frame.position + 1
        if frame.position < index * period:
            continue
        held.append(_resized(frame, settings))
        if count < index * period + tau:
            continue
        if any(f.fault for f in held[1:]):
            faults.windows += index not in done
        elif index not in done:
            sharp = torch.stack([f.pixels for f in held])
            instants = 1 if settings.aperture == "standard" else FRAME_STEPS
            psfs = _psfs(settings, len(sharp) * instants, len(sharp))
            blurry = _expose(to_linear(sharp, settings.curve), settings, psfs)
            places = tuple(f.position for f in held), tuple(f.number for f in held)
            scale = sharp.shape[3] / frame.pixels.shape[2]
            yield Window(index, *places, sharp, blurry, period, instants, scale)
        index += 1
        held = [f for f in held if f.position >= index * period]
    if index == 0 and not faults.broken:
        raise DatasetError(f"{sequence.path}: has {count} frames; a window takes {tau}")


def _resized(frame: Frame, settings: Settings) -> Frame:
    curve = settings.curve if settings.light == "linear" else None
    pixels = resize(frame.pixels, settings.recipe, curve)
    if min(pixels.shape[1:]) < MIN_SIDE:
        size = f"{pixels.shape[2]}x{pixels.shape[1]}"
        raise DatasetError(f"frames become {size} pixels; {MIN_SIDE} a side are needed at least")
    return replace(frame, pixels=pixels)


def windows_of_photo(
    sequence: Sequence, settings: Settings, objects: list[Tensor], done: Set[int]
) -> Iterator[Window]:
    """Make the windows of a photograph in order, but those that are `done`."""
    photo = (read_photo(sequence.path).on_white() * 255).round().byte()
    if min(photo.shape[1:]) < MIN_SIDE:
        raise DatasetError(f"{sequence.path}: is too small to be set in motion")
    for index in sorted(set(range(settings.per_photo)) - done):
        rng = settings.rng(sequence.name, index)
        for _ in range(TRIES):  # until the blur is neither nothing nor hopeless
            scene = render(
                photo,
                objects,
                rng,
                size=settings.photo_size,
                config=MotionConfig(),
                curve=settings.curve,
            )
            plain = expose(scene.light_lin, settings.curve)
            if BLUR_PSNR[0] <= psnr(plain, scene.sharp(settings.curve)[MIDDLE]) <= BLUR_PSNR[1]:
                break
        count = len(scene.light_lin)
        blurry = _expose(scene.light_lin, settings, _psfs(settings, count, count))
        first, sharp = index * FRAMES, scene.sharp(settings.curve)
        positions = tuple(range(first, first + FRAMES))
        numbers = tuple(number + 1 for number in positions)
        yield Window(index, positions, numbers, sharp, blurry, FRAMES, scene.sub_frames, 1.0)


def _expose(light_lin: Tensor, settings: Settings, psfs: Tensor | None) -> dict[Light, Tensor]:
    """Average instants [N, 3, H, W] as light or as code values, as the layout has it."""
    blurry: dict[Light, Tensor] = {}
    for kind in _kinds(settings):
        values = light_lin if kind == "linear" else to_encoded(light_lin, settings.curve)
        mean = values.mean(0) if psfs is None else through_psfs(values, psfs)
        mean = mean.clamp(0, 1)
        blurry[kind] = to_encoded(mean, settings.curve) if kind == "linear" else mean
    return blurry


def _kinds(settings: Settings) -> tuple[Light, ...]:
    return ("linear", "code") if settings.layout == "gopro" else (settings.light,)


def with_noise(window: Window, sequence: Sequence, settings: Settings) -> Window:
    """Add the noise of the settings to the blurry pictures, the same wherever it is made."""
    if not settings.noise:
        return window
    shape = tuple(window.sharp.shape[1:])
    noise = settings.rng(sequence.name, window.index, 1).standard_normal(shape, dtype="float32")
    grain = settings.noise * torch.from_numpy(noise)
    noisy = {kind: (pixels + grain).clamp(0, 1) for kind, pixels in window.blurry.items()}
    return replace(window, blurry=noisy)
