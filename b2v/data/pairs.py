"""Sets to measure on: blurry pictures with the sharp frames that are behind them.

A set is a folder in GOPRO_7 layout, or one that `b2v synth-dataset` has written in any layout,
with a `manifest.jsonl`; the manifest itself will do as well. A window has its seven sharp frames
in order of time, or the middle one alone where no more are kept or other numbers were averaged;
of one set, all windows have as many.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from b2v.data.recipes import Recipe
from b2v.data.rendering import resize
from b2v.data.synthesize import MANIFEST
from b2v.errors import DatasetError
from b2v.frames import FRAMES, MIDDLE
from b2v.media import read_photo

PICTURES = (".png", ".jpg", ".jpeg")
LINE = ("blurry", "sharp", "frames", "tau", "period", "window")
"""What is read of a line of a manifest."""


@dataclass(frozen=True)
class Window:
    """Files of one sample: a blurry picture and its sharp frames, seven or the middle one."""

    name: str
    blurry: Path
    sharp: tuple[Path, ...]
    sequence: str = field(default="", compare=False)
    """Folder of the set, and sequence in it, that the window is of."""

    @property
    def middle(self) -> Path:
        """File of the sharp middle frame."""
        return self.sharp[len(self.sharp) // 2]


@dataclass(frozen=True, eq=False)
class Sample:
    """One window in memory."""

    name: str
    blurry: Tensor  # [3, H, W] in [0, 1]
    sharp: Tensor  # [7, 3, H, W], or [1, 3, H, W] of the middle one

    def middle_only(self) -> "Sample":
        """Leave out all sharp frames but the middle one."""
        middle = len(self.sharp) // 2
        return Sample(self.name, self.blurry, self.sharp[middle : middle + 1])


def find_windows(path: Path) -> list[Window]:
    """List the windows of a set, by name.

    In GOPRO_7 layout, `blur/<sequence>/<centre>.png` is the blurry picture of the seven frames
    around `sharp/<sequence>/<centre>.png`, in `path` itself or in its split folders; JPEG will do.

    Args:
        path: folder in that layout, or folder with a manifest, or a manifest.

    Raises:
        DatasetError: nothing of that kind is there, or frames are missing.

    """
    if path.suffix == ".jsonl":
        return _listed(path)
    if (path / MANIFEST).is_file():
        return _listed(path / MANIFEST)
    found = sorted(p for p in path.glob("**/blur/*/*") if p.suffix.lower() in PICTURES)
    blurred = [p for p in found if not p.name.startswith(".")]
    if not blurred:
        raise DatasetError(
            f"{path}: no windows found; expected blur/<sequence>/<centre>.png beside "
            f"sharp/<sequence>/NNNNNN.png (GOPRO_7 layout), or {MANIFEST}"
        )
    return [_window(path, picture) for picture in blurred]


def holds_windows(path: Path) -> bool:
    """Tell whether a path is a set, by its manifest or the folders of GOPRO_7 layout."""
    if path.suffix == ".jsonl" or (path / MANIFEST).is_file():
        return True
    return any((blur.parent / "sharp").is_dir() for blur in [path / "blur", *path.glob("*/blur")])


def by_sequence(windows: Iterable[Window]) -> list[list[Window]]:
    """Part windows by the sequence that they are of, in the order given."""
    parts: dict[str, list[Window]] = {}
    for window in windows:
        parts.setdefault(window.sequence, []).append(window)
    return list(parts.values())


def set_name(path: Path) -> str:
    """Name a set after its folder, a single file after itself."""
    place = path.resolve()
    return place.parent.name if place.suffix == ".jsonl" else place.name


def read_samples(windows: Iterable[Window], *, scale: float = 1.0) -> Iterator[Sample]:
    """Read one window after the other, transparent pictures on white.

    Args:
        windows: by `find_windows`.
        scale: size of the pictures as a part of the files'; light is averaged, so that a blurry
            picture remains the mean of its frames.

    Raises:
        B2VError: a picture cannot be read.
        DatasetError: the pictures of a window are not of one size.

    """
    recipe = Recipe(scale=scale)
    for window in windows:
        blurry = read_photo(window.blurry).on_white()
        sharp = [read_photo(path).on_white() for path in window.sharp]
        for path, frame in zip(window.sharp, sharp, strict=True):
            if frame.shape != blurry.shape:
                raise DatasetError(f"{path}: is not of the same size as {window.blurry}")
        blurry, *sharp = (resize(x, recipe, "gamma2.2") for x in (blurry, *sharp))
        yield Sample(window.name, blurry.clamp(0, 1), torch.stack(sharp).clamp(0, 1))


def _window(folder: Path, blurry: Path) -> Window:
    sequence, root = blurry.parent.name, blurry.parents[2]
    if not blurry.stem.isdecimal():
        raise DatasetError(f"{blurry}: not named by the number of its middle frame, as 000004.png")
    centre = int(blurry.stem)
    sharp = _frames(root / "sharp" / sequence, len(blurry.stem), centre - MIDDLE, blurry)
    return Window(_name(blurry, folder), blurry, sharp, str(blurry.parent))


def _listed(manifest: Path) -> list[Window]:
    """Read the windows of a manifest."""
    try:
        lines = manifest.read_text().splitlines()
    except OSError as error:
        raise DatasetError(f"{manifest}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{manifest}: is no text; expected JSON, a line a window") from error
    windows = [_from_line(manifest, number, line) for number, line in enumerate(lines, 1)]
    if not windows:
        raise DatasetError(f"{manifest}: no windows found; let b2v synth-dataset finish first")
    if any(len(window.sharp) != FRAMES for window in windows):
        windows = [replace(w, sharp=(w.middle,)) for w in windows]
    return sorted(windows, key=lambda window: window.name)


def _from_line(manifest: Path, number: int, line: str) -> Window:
    try:
        known: dict[str, Any] = json.loads(line)
        record = {key: known[key] for key in LINE}
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{manifest}: line {number} is not of b2v synth-dataset; it has {', '.join(LINE)}"
        ) from error
    folder = manifest.parent
    blurry, middle = folder / record["blurry"], folder / record["sharp"]
    for path in (blurry, middle):
        if not path.is_file():
            raise DatasetError(f"{path}: missing; line {number} of {manifest} names it")
    sharp: tuple[Path, ...] = (middle,)
    place, digits = middle.parent, len(middle.stem)
    every = place.parent.with_name(place.parent.name.removesuffix("_sharp") + "_orig") / place.name
    if record["tau"] == FRAMES and "sharp" in place.parts[-2:-1]:
        sharp = _frames(place, digits, record["frames"][0], blurry)
    elif record["tau"] == FRAMES and every.is_dir():  # REDS counts frames from the first
        sharp = _frames(every, digits, record["window"] * record["period"], blurry)
    return Window(
        _name(blurry, folder), blurry, sharp, f"{folder}: {known.get('sequence', blurry.parent)}"
    )


def _frames(folder: Path, digits: int, first: int, blurry: Path) -> tuple[Path, ...]:
    numbers = range(first, first + FRAMES)
    return tuple(_frame(folder / f"{number:0{digits}d}", blurry) for number in numbers)


def _frame(stem: Path, blurry: Path) -> Path:
    for suffix in PICTURES:
        if (path := stem.with_suffix(suffix)).exists():
            return path
    raise DatasetError(f"{stem}.png: missing; {blurry} needs the {FRAMES} frames around it")


def _name(blurry: Path, folder: Path) -> str:
    return str(blurry.parent.relative_to(folder) / blurry.stem)
