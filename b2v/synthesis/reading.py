"""The frames of a sequence, one after the other, with what is wrong between them.

Averaging frames is an exposure only where they follow each other evenly in time: steps that do
not are marked, and no window goes across them.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.color import Curve, to_encoded, to_linear
from b2v.errors import DatasetError
from b2v.media import TruncatedVideoError, open_video, read_photo
from b2v.synthesis.recipe import Recipe
from b2v.synthesis.sources import Sequence, frame_files

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
    """What was found wrong with a sequence."""

    kinds: Counter[str] = field(default_factory=Counter)
    windows: int = 0
    broken: str = ""

    def __str__(self) -> str:
        said = [f"{count} {kind}" for kind, count in self.kinds.items()]
        said += [f"{self.windows} windows left out"] if self.windows else []
        return "; ".join([*said, *([self.broken] if self.broken else [])])


def read_frames(sequence: Sequence, faults: Faults, skip: int = 0) -> Iterator[Frame]:
    """Read a folder of frames or a video from position `skip` on; note its faults.

    Raises:
        MediaError: a file cannot be read at all.
        DatasetError: frames are not of one size.

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
    usual = _usual_step(path)
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


def _usual_step(path: Path) -> float:
    """Median of the first steps in time in ticks; one frame lost would shift the average rate."""
    with open_video(path) as reader, suppress(TruncatedVideoError):
        times = [pts for _, pts, _ in islice(reader, STEPS + 1)]
    return median(b - a for a, b in pairwise(times)) if len(times) > 1 else 1


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
