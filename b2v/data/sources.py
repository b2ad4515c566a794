"""Where sharp pictures come from: sequences found in known layouts, or by looking.

Known are GOPRO_Large_all (`{train,test}/<seq>/NNNNNN.png`), REDS (`<split>_orig/000/`, else
`<split>_sharp/000/`) and BSD (`{train,valid,test}/<n>/Sharp/RGB/`); anything else is folders of
numbered frames, videos, or photographs.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from b2v.errors import DatasetError, UsageError

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".heic"}
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mts", ".ts", ".mpg"}
SPLITS = ("train", "test", "val", "valid", "validation")
BLURRED = {"blur", "blur_gamma", "blurry", "input"}
"""Names of folders, in lower case, that hold blurry pictures: their parent is a finished set."""
LAYOUTS = ("auto", "gopro", "reds", "bsd", "frames", "videos", "photos")
NUMBERED = re.compile(r"(.*?)(\d+)")
CAMERAS = re.compile(r"(img|dsc|dscn|dscf|dji|gopr|gp|pxl|p|pict?|mg|_mg|_dsc)[-_]?\d*[-_]?", re.I)
"""What cameras put before the running number of a photograph."""
DENSE = 0.8
"""Least part of the numbers from first to last that frames have; photographs have fewer."""

Kind = Literal["frames", "video", "photo"]


@dataclass(frozen=True)
class Sequence:
    """One scene: a folder of frames, a video file or a photograph at `path`.

    `name` is its folder's name in the dataset, `split` that part's (None: not known yet), and
    `index` counts the sequences of a split.
    """

    name: str
    kind: Kind
    path: Path
    split: str | None = None
    index: int = 0


def find_sequences(
    sources: list[Path], layout: str = "auto", *, leave_out: Path | None = None
) -> list[Sequence]:
    """List the sequences below `sources`, in order.

    Folders below `leave_out`, which the dataset is written to, are not looked into.

    Raises:
        DatasetError: a source is missing, or holds nothing of that layout.
        UsageError: there is no such layout, or a source is `leave_out`.

    """
    if layout not in LAYOUTS:
        raise UsageError(f"unknown layout {layout}; expected {', '.join(LAYOUTS)}")
    found: list[Sequence] = []
    hidden = {os.path.realpath(leave_out)} if leave_out is not None else set()
    for source in sources:
        if not source.exists():
            raise DatasetError(f"{source}: no such file or folder; check the name")
        if os.path.realpath(source) in hidden:
            raise UsageError(f"{source}: is the folder to write; give another name")
        here = list(_in_source(source, layout, hidden))
        if not here:
            what = "sharp frames, videos or photographs" if layout == "auto" else f"{layout} layout"
            raise DatasetError(f"{source}: holds nothing to make blur from ({what} expected)")
        found += here
    return found


def _in_source(source: Path, layout: str, hidden: set[str]) -> Iterator[Sequence]:
    if source.is_file():
        yield from _of_files([source], source.parent, "", None, layout)
        return
    known = list(_reds(source)) if layout in ("auto", "reds") else []
    known += list(_bsd(source)) if layout in ("auto", "bsd") and not known else []
    yield from known
    if not known and layout not in ("reds", "bsd"):
        split = source.name if source.name in SPLITS else None
        yield from _walk(source, (), split, layout, set(hidden))


def _reds(source: Path) -> Iterator[Sequence]:
    """REDS: the 120 frames a second of `_orig` where they are, else the 24 of `_sharp`."""
    for kind in ("orig", "sharp"):
        folders = sorted({*source.glob(f"*_{kind}"), *source.glob(f"*/*_{kind}")})
        folders += [source] if source.name.endswith(f"_{kind}") else []
        for folder in folders:
            split = folder.name.removesuffix(f"_{kind}")
            for path in sorted(p for p in folder.iterdir() if p.is_dir()):
                yield Sequence(path.name, "frames", path, split)
        if folders:
            return


def _bsd(source: Path) -> Iterator[Sequence]:
    """BSD: the sharp half of the two cameras."""
    for path in sorted(source.glob("**/Sharp/RGB")):
        scene = path.parents[1]
        split = scene.parent.name if scene.parent.name in SPLITS else None
        yield Sequence(scene.name, "frames", path, split)


def _walk(
    folder: Path, way: tuple[str, ...], split: str | None, layout: str, seen: set[str]
) -> Iterator[Sequence]:
    """Look at the files of `folder`, then into its folders; `way` leads to it from the source."""
    if (place := os.path.realpath(folder)) in seen:
        return
    seen.add(place)
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    folders = [p for p in entries if p.is_dir()]
    if any(p.name.lower() in BLURRED for p in folders):
        return
    name = "-".join(way) or folder.resolve().name
    yield from _of_files([p for p in entries if p.is_file()], folder, name, split, layout)
    for inner in folders:
        if not way and split is None and inner.name in SPLITS:
            yield from _walk(inner, way, inner.name, layout, seen)
        else:
            yield from _walk(inner, (*way, inner.name), split, layout, seen)


def _of_files(
    files: list[Path], folder: Path, name: str, split: str | None, layout: str
) -> Iterator[Sequence]:
    """Take videos one by one, and pictures as frames of one sequence or as photographs."""
    if layout in ("auto", "videos"):
        for path in (p for p in files if p.suffix.lower() in VIDEOS):
            yield Sequence(path.stem, "video", path, split)
    pictures = [p for p in files if p.suffix.lower() in PICTURES]
    if not pictures or layout == "videos":
        return
    if layout in ("frames", "gopro") or (layout == "auto" and are_frames(pictures)):
        yield Sequence(name, "frames", folder, split)
    elif layout in ("auto", "photos"):
        for path in pictures:
            yield Sequence(path.stem, "photo", path, split)


def are_frames(pictures: list[Path]) -> bool:
    """Tell frames of a video from photographs by their names: one beginning, dense numbers."""
    matches = [NUMBERED.fullmatch(path.stem) for path in pictures]
    found = [match.groups() for match in matches if match]
    if len(pictures) < 2 or len(found) < len(pictures) or len({prefix for prefix, _ in found}) > 1:
        return False
    numbers = [int(digits) for _, digits in found]
    dense = len(numbers) >= DENSE * (max(numbers) - min(numbers) + 1)
    return dense and not CAMERAS.fullmatch(found[0][0])


def frame_files(folder: Path) -> list[tuple[int, Path]]:
    """List number and file of each frame in `folder`, by name where they have no numbers."""
    files = [
        p
        for p in folder.iterdir()
        if p.suffix.lower() in PICTURES and not p.name.startswith(".") and p.is_file()
    ]
    matches = [NUMBERED.fullmatch(path.stem) for path in files]
    if not all(matches):
        return list(enumerate(sorted(files), start=1))
    return sorted((int(m[2]), p) for m, p in zip(matches, files, strict=True) if m)


def with_own_names(sequences: list[Sequence]) -> list[Sequence]:
    """Tell apart names that occur more than once in a split: street, street-2 and so on."""
    taken: set[tuple[str | None, str]] = set()
    named = []
    for sequence in sequences:
        name, count = sequence.name, 1
        while (sequence.split, name.casefold()) in taken:
            count += 1
            name = f"{sequence.name}-{count}"
        taken.add((sequence.split, name.casefold()))
        named.append(replace(sequence, name=name))
    return named
