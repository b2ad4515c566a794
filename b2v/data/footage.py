"""What is read of folders: sets of blurry pictures with the sharp frames behind them, and sources.

A set is a folder as the field publishes it (`b2v.data.sources.find_halves`), a folder in GOPRO_7
layout, or one that `b2v synth-dataset` has written in any layout, with a `manifest.jsonl`; the
manifest itself will do as well. A window has its seven sharp frames in order of time, or the
middle one alone where no more are kept or other numbers were averaged; of one set, all windows
have as many.

Sources are what training draws from: photographs, cut-out objects and videos, held in memory, and
sets, which stay on disk, for they are large.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from b2v.data.rendering import Recipe, resize
from b2v.data.sources import (
    MANIFEST,
    PICTURES,
    SPLITS,
    VIDEOS,
    Halves,
    are_frames,
    find_halves,
    frame_files,
    own_split,
    part_of,
    pictures_in,
)
from b2v.errors import DatasetError
from b2v.frames import FRAMES, MIDDLE
from b2v.media.images import read_photo
from b2v.media.video_reader import read_video
from b2v.metrics import psnr

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
    split: str | None = field(default=None, compare=False)
    """Part of the set that it is in, where the set has any."""

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

    In GOPRO_7 layout, `blur/<sequence>/<center>.png` is the blurry picture of the seven frames
    around `sharp/<sequence>/<center>.png`; elsewhere blurry and sharp pictures have one name.

    Raises DatasetError where nothing of that kind is there, or frames are missing.
    """
    if path.suffix == ".jsonl":
        return _listed(path)
    if (path / MANIFEST).is_file():
        return _listed(path / MANIFEST)
    halves = find_halves(path) if path.is_dir() else ()
    windows = [window for half in halves for window in _windows(path, half)]
    if not windows:
        raise DatasetError(
            f"{path}: no windows found; expected blurry pictures beside sharp ones (blur and sharp,"
            f" input and target, ...), or {MANIFEST}"
        )
    return _alike(_by_lists(path, windows))


def holds_windows(path: Path) -> bool:
    """Tell whether a path is a set, by its manifest or its folders."""
    if path.suffix == ".jsonl" or (path / MANIFEST).is_file():
        return True
    return path.is_dir() and any(find_halves(path))


def of_split(windows: list[Window], wanted: str | None) -> list[Window]:
    """Choose of one set the windows of a split, train, val or test, or all.

    None is test, or val where there is none, or all. Raises DatasetError where there are none.
    """
    parts = {part_of(window.split) for window in windows}
    wanted = wanted or next((part for part in ("test", "val") if part in parts), "all")
    found = [w for w in windows if wanted in ("all", part_of(w.split))]
    if not found:
        where = windows[0].sequence
        raise DatasetError(f"{where}: no {wanted} split; it has {', '.join(sorted(parts))}")
    return found


def set_name(path: Path) -> str:
    """Name a set after its folder, a single file after itself."""
    place = path.resolve()
    return place.parent.name if place.suffix == ".jsonl" else place.name


def read_samples(windows: Iterable[Window], *, scale: float = 1.0) -> Iterator[Sample]:
    """Read one window after the other, transparent pictures on white, at a `scale` of their size.

    Light is averaged, so that a blurry picture remains the mean of its frames. Raises B2VError
    where a picture cannot be read, DatasetError where those of a window are not of one size.
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


def _windows(root: Path, half: Halves) -> Iterator[Window]:
    """List the windows below a folder of blurry pictures."""
    for folder in sorted({half.blurry, *(p for p in half.blurry.glob("**/") if p != half.blurry)}):
        blurred, place = pictures_in(folder), half.sharp / folder.relative_to(half.blurry)
        sharp = pictures_in(place) if blurred else {}
        seven = half.blurry.name == "blur" and folder.parent == half.blurry
        for stem, blurry in blurred.items():
            if seven and len(sharp) > len(blurred):
                if not stem.isdecimal():
                    what = "not named by the number of its middle frame, as 000004.png"
                    raise DatasetError(f"{blurry}: {what}")
                frames = _frames(place, len(stem), int(stem) - MIDDLE, blurry)
            else:
                other = f"{half.sharp.name}{stem.removeprefix(half.blurry.name)}"  # blur_1, gt_1
                if (one := sharp.get(stem) or sharp.get(other)) is None:
                    what = f"missing; {blurry} needs the sharp picture behind it"
                    raise DatasetError(f"{place / blurry.name}: {what}")
                frames = (one,)
            yield Window(_name(blurry, root), blurry, frames, str(folder), half.split)


def _by_lists(root: Path, windows: list[Window]) -> list[Window]:
    """Take the splits of windows from lists beside the set, as RealBlur has them."""
    splits: dict[str, str] = {}
    for split in ("train", "test"):
        for path in root.glob(f"*_{split}_list.txt"):
            splits |= dict.fromkeys(path.read_text(errors="replace").split(), split)
    places = [window.blurry.relative_to(root).as_posix() for window in windows]
    return [replace(w, split=splits.get(p, w.split)) for w, p in zip(windows, places, strict=True)]


def _alike(windows: list[Window]) -> list[Window]:
    """Sort windows by name, and leave each the middle frame where one has no more."""
    if any(len(window.sharp) != FRAMES for window in windows):
        windows = [replace(w, sharp=(w.middle,)) for w in windows]
    return sorted(windows, key=lambda window: window.name)


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
    return _alike(windows)


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
    split, place = known.get("split"), f"{folder}: {known.get('sequence', blurry.parent)}"
    return Window(
        _name(blurry, folder), blurry, sharp, place, None if split is None else str(split)
    )


def _frames(folder: Path, digits: int, first: int, blurry: Path) -> tuple[Path, ...]:
    """Find the files of seven frames by their numbers, of whatever kind."""
    found = []
    for number in range(first, first + FRAMES):
        stem = folder / f"{number:0{digits}d}"
        paths = [stem.with_suffix(s) for s in (blurry.suffix, ".png", ".jpg", ".jpeg")]
        if (path := next(filter(Path.exists, paths), None)) is None:
            raise DatasetError(f"{stem}.png: missing; {blurry} needs the {FRAMES} frames around it")
        found.append(path)
    return tuple(found)


def _name(blurry: Path, folder: Path) -> str:
    return str(blurry.parent.relative_to(folder) / blurry.stem)


T = TypeVar("T")

MEDIA = PICTURES | VIDEOS | {Path(MANIFEST).suffix}
ALIKE = 15.0
"""Least PSNR in dB of the first two pictures of a folder for all to be frames of a video."""


@dataclass(frozen=True)
class FrameFolder:
    """A video that stays on disk, a file for each of its frames."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)


Video = Tensor | FrameFolder
"""Frames [N, 3, H, W] of code values in memory, or on disk."""


def frames_of(video: Video, numbers: Sequence[int]) -> Tensor:
    """Take frames of a video by their numbers from 0: [n, 3, H, W] code values."""
    if isinstance(video, Tensor):
        return video[list(numbers)]
    return read_codes([video.paths[number] for number in numbers])


@dataclass(frozen=True)
class Sources:
    """Pictures and videos held in memory as uint8 code values, and sets on disk."""

    photos: list[Tensor]  # [3, H, W] each
    cutouts: list[Tensor]  # [4, h, w] each, RGBA
    videos: list[Video]
    sequences: list[list[Window]] = field(default_factory=list)
    """Windows of sets, in order of time."""

    @property
    def taken(self) -> list[Video | list[Window]]:
        """All that a camera took: videos, and sequences of sets."""
        return [*self.videos, *self.sequences]

    @property
    def count(self) -> int:
        """Scenes and objects in all."""
        return len(self.photos) + len(self.cutouts) + len(self.taken)

    @property
    def pictures(self) -> bool:
        """Whether there is anything that can be set in motion."""
        return bool(self.photos or self.videos)

    def split(self, every: int = 8) -> tuple["Sources", "Sources"]:
        """Part by scene, never by frame: (training, validation), one in `every` held out.

        Of fewer scenes than that, but more than one, the last is held out.
        """

        def is_out(index: int, count: int) -> bool:
            return index % every == every // 2 or (1 < count <= every // 2 and index == count - 1)

        def held(items: list[T], out: bool) -> list[T]:
            return [x for i, x in enumerate(items) if is_out(i, len(items)) is out]

        parts = [{name: held(x, out) for name, x in vars(self).items()} for out in (False, True)]
        return Sources(**parts[0]), Sources(**parts[1])

    def picture(self, rng: Generator, *, still: bool) -> Tensor:
        """Pick a photograph or, if there are any, a `still` of a video: [3, H, W] codes."""
        if self.photos and not (still and self.videos):
            return pick(self.photos, rng)
        video = pick(self.videos, rng)
        return frames_of(video, [int(rng.integers(len(video)))])[0]


def list_media(folder: Path) -> list[Path]:
    """List the pictures, videos and manifests in a folder and below, sorted.

    Raises DatasetError when it is missing or holds none.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; --data takes folders of training media")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in MEDIA)
    if not files:
        raise DatasetError(f"{folder}: holds no photographs or videos to train on")
    return files


def load_sources(folders: Sequence[Path], part: Literal["train", "val"] = "train") -> Sources:
    """Read the scenes below `folders` that are for a part of training; never those for testing.

    Photographs, cut-outs and videos come into memory; sets, and folders of frames, stay on disk.
    A scene that is in no split is for training.

    Raises DatasetError where a folder is missing or holds nothing to train on, or a set is not
    whole; B2VError where a file cannot be read.
    """
    sources = Sources([], [], [])
    for folder in folders:
        media, before = list_media(folder), sources.count
        if holds_windows(folder):
            sequences: dict[str, list[Window]] = {}
            for window in find_windows(folder):
                if part_of(window.split) == part:
                    sequences.setdefault(window.sequence, []).append(window)
            sources.sequences.extend(sequences.values())
            media = []
        for place in dict.fromkeys(path.parent for path in media):
            names = (name.lower() for name in place.relative_to(folder).parts)
            split = own_split(folder) or next((name for name in names if name in SPLITS), None)
            if part_of(split) == part:
                _load_folder(sources, [path for path in media if path.parent == place])
        if part == "train" and sources.count == before:
            raise DatasetError(
                f"{folder}: holds no scenes to train on; those of test and val are not"
            )
    return sources


def _load_folder(sources: Sources, files: list[Path]) -> None:
    """Read the media of one folder."""
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    if are_of_a_video(pictures):
        sources.videos.append(FrameFolder(tuple(p for _, p in frame_files(pictures[0].parent))))
        pictures = []
    for path in pictures:
        photo = read_photo(path)
        if photo.alpha is None:
            sources.photos.append(to_codes(photo.pixels))
        else:
            sources.cutouts.append(to_codes(torch.cat([photo.pixels, photo.alpha])))
    for path in (path for path in files if path.suffix.lower() in VIDEOS):
        frames = list(read_video(path))
        if len(frames) < FRAMES:
            raise DatasetError(f"{path}: has {len(frames)} frames; at least {FRAMES} are needed")
        sources.videos.append(torch.stack(frames))


def are_of_a_video(pictures: list[Path]) -> bool:
    """Tell whether pictures are frames of a video: by their names, and the first two are alike."""
    if len(pictures) < FRAMES or not are_frames(pictures):
        return False
    first, second = (read_photo(path) for path in pictures[:2])
    if first.alpha is not None or first.pixels.shape != second.pixels.shape:
        return False
    return bool(psnr(first.pixels, second.pixels) > ALIKE)


def to_codes(values: Tensor) -> Tensor:
    """Round values in [0, 1] to uint8 code values."""
    return (values * 255).round().byte()


def read_codes(paths: Sequence[Path]) -> Tensor:
    """Read pictures of one size, transparent ones on white: [N, 3, H, W] code values.

    Raises DatasetError where they are not of one size; B2VError where one cannot be read.
    """
    pictures = [to_codes(read_photo(path).on_white()) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise DatasetError(f"{path}: is not of the same size as {paths[0]}")
    return torch.stack(pictures)


def cut_square(pictures: Tensor, rng: Generator, side: int) -> Tensor:
    """Cut a random square of `side` pixels, or of what there is, out of pictures [N, 3, H, W]."""
    side = min(side, *pictures.shape[2:])
    y, x = (rng.integers(s - side + 1) for s in pictures.shape[2:])
    return pictures[..., y : y + side, x : x + side]


def at_size(codes: Tensor, size: int) -> Tensor:
    """Bring square pictures [N, 3, s, s] of code values to `size`; to values in [0, 1]."""
    pictures = codes.float() / 255
    if pictures.shape[-1] == size:
        return pictures
    if pictures.shape[-1] == 2 * size:
        return F.avg_pool2d(pictures, 2)
    return F.interpolate(pictures, (size, size), mode="bicubic", antialias=True).clamp(0, 1)


def pick(items: Sequence[T], rng: Generator) -> T:
    """Pick one of some pictures, videos or windows."""
    return items[int(rng.integers(len(items)))]
