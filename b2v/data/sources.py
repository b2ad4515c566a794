"""What lies in folders: scenes to make blur from, and sets of blurry pictures with sharp ones.

A published set is known by a folder of blurry pictures beside one of sharp ones (`find_halves`):
GOPRO_Large (`<split>/<seq>/{blur,blur_gamma,sharp}`), REDS (`<split>_blur`, `<split>_sharp`), BSD
(`<split>/<seq>/{Blur,Sharp}/RGB`), DVD (`<seq>/{input,GT}`), RealBlur (`<scene>/{blur,gt}`), plain
`input` and `target`, and what `b2v synth-dataset` writes. Sharp frames alone are GOPRO_Large_all
(`<split>/<seq>/NNNNNN.png`), REDS' `<split>_orig`, folders of frames, videos and photographs.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from b2v import files
from b2v.errors import DatasetError, UsageError

PICTURES = files.PHOTOS
VIDEOS = files.VIDEOS - {".gif", ".apng"}
VALIDATION = ("val", "valid", "validation")
SPLITS = ("train", "test", *VALIDATION)
BLURRY = ("blur", "blur_gamma", "blurry", "blurred", "input")
"""Names of folders of blurry pictures, in lower case, the one that is taken first; or `x_blur`."""
SHARP = ("sharp", "gt", "target", "groundtruth")
"""Names of those with the sharp ones beside them; or `x_sharp`."""
MANIFEST = "manifest.jsonl"
Layout = Literal["auto", "gopro", "reds", "bsd", "frames", "videos", "photos"]
"""How sources lie; auto looks at them."""
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

    Raises DatasetError where a source is missing, or holds nothing of that layout; UsageError where
    there is no such layout, or a source is `leave_out`.
    """
    if layout not in get_args(Layout):
        raise UsageError(f"unknown layout {layout}; expected {', '.join(get_args(Layout))}")
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


class Halves(NamedTuple):
    """Folder of blurry pictures, that of the sharp ones of the same names, and their split."""

    blurry: Path
    sharp: Path
    split: str | None


def find_halves(folder: Path) -> Iterator[Halves]:
    """Look for folders of blurry pictures beside sharp ones, in a folder and below."""
    return _halves(folder, own_split(folder), set())


def _halves(folder: Path, split: str | None, seen: set[str]) -> Iterator[Halves]:
    if (place := os.path.realpath(folder)) in seen:
        return
    seen.add(place)
    inner = {p.name.lower(): p for p in _folders(folder)}
    found = []
    for name, path in inner.items():
        what = name.removesuffix("_blur")
        if what != name and f"{what}_sharp" in inner:
            part = what if what in SPLITS else None
            found.append(Halves(path, inner[f"{what}_sharp"], split or part))
    blurry = next((inner[name] for name in BLURRY if name in inner), None)
    sharp = next((inner[name] for name in SHARP if name in inner), None)
    if blurry is not None and sharp is not None:
        found.append(Halves(blurry, sharp, split))
    yield from found
    for name, path in inner.items():
        if name in SPLITS or not found:
            yield from _halves(path, split or (name if name in SPLITS else None), seen)


def _folders(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if path.is_dir()]


def visible(folder: Path) -> list[Path]:
    """List what is in a folder, in order, hidden things left out."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def own_split(folder: Path) -> str | None:
    """Return the split that a folder is named after, if another split is beside it."""
    place = folder.resolve()
    name = place.name.lower()
    others = (place.parent / other for other in SPLITS if other != name)
    return name if name in SPLITS and any(other.is_dir() for other in others) else None


def part_of(split: str | None) -> str:
    """Return what a split is for: train (also where it is None), val, test or another."""
    return "val" if split in VALIDATION else split or "train"


def pictures_in(folder: Path) -> dict[str, Path]:
    """List the pictures of a folder by their names without suffix, in order."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in visible(folder) if path.suffix.lower() in PICTURES}


def _in_source(source: Path, layout: str, hidden: set[str]) -> Iterator[Sequence]:
    if source.is_file():
        yield from _of_files([source], source.parent, "", None, layout)
        return
    known = list(_reds(source)) if layout in ("auto", "reds") else []
    if layout in ("auto", "reds", "bsd") and not known:
        known = list(_sharp_halves(source))
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
            for path in _folders(folder):
                yield Sequence(path.name, "frames", path, split)
        if folders:
            return


def _sharp_halves(source: Path) -> Iterator[Sequence]:
    """Take the sharp halves of a set: the folders of frames in them."""
    for half in find_halves(source):
        scene = half.blurry.parent
        for folder in (half.sharp, *_folders(half.sharp)):
            if pictures_in(folder):
                inside = folder != half.sharp and folder.name != "RGB"
                yield Sequence((folder if inside else scene).name, "frames", folder, half.split)


def _walk(
    folder: Path, way: tuple[str, ...], split: str | None, layout: str, seen: set[str]
) -> Iterator[Sequence]:
    """Look at the files of `folder`, then into its folders; `way` leads to it from the source."""
    if (place := os.path.realpath(folder)) in seen:
        return
    seen.add(place)
    entries, folders = visible(folder), _folders(folder)
    if any(p.name.lower() in BLURRY for p in folders):
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
    """Tell whether pictures are frames of a video by their names: one beginning, dense numbers."""
    matches = [NUMBERED.fullmatch(path.stem) for path in pictures]
    found = [match.groups() for match in matches if match]
    if len(pictures) < 2 or len(found) < len(pictures) or len({prefix for prefix, _ in found}) > 1:
        return False
    numbers = [int(digits) for _, digits in found]
    dense = len(numbers) >= DENSE * (max(numbers) - min(numbers) + 1)
    return dense and not CAMERAS.fullmatch(found[0][0])


def frame_files(folder: Path) -> list[tuple[int, Path]]:
    """List number and file of each frame in `folder`, by name where they have no numbers."""
    files = [p for p in visible(folder) if p.suffix.lower() in PICTURES and p.is_file()]
    matches = [NUMBERED.fullmatch(path.stem) for path in files]
    if not all(matches):
        return list(enumerate(sorted(files), start=1))
    return sorted((int(m[2]), p) for m, p in zip(matches, files, strict=True) if m)
