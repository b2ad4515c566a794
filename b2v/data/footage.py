"""Media that training draws from: photographs, cut-out objects and videos, held in memory.

Sets of blurry pictures with their sharp frames (`b2v.data.pairs`) may be among them; they stay on
disk, for they are large.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from b2v.data.pairs import Window, by_sequence, find_windows, holds_windows
from b2v.data.sources import (
    MANIFEST,
    PICTURES,
    VIDEOS,
    are_frames,
    frame_files,
    part_of,
    split_below,
)
from b2v.errors import DatasetError
from b2v.frames import FRAMES
from b2v.media import read_photo
from b2v.media.video_reader import read_video
from b2v.metrics import psnr

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
        """Whatever was taken by a moving camera: videos, and sequences of sets."""
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

        kept, out = (
            Sources(
                held(self.photos, k),
                held(self.cutouts, k),
                held(self.videos, k),
                held(self.sequences, k),
            )
            for k in (False, True)
        )
        return kept, out

    def random_photo(self, rng: Generator) -> Tensor:
        """Pick a photograph, [3, H, W] code values."""
        return pick(self.photos, rng)

    def random_still(self, rng: Generator) -> Tensor:
        """Pick a single frame of a video, [3, H, W] code values."""
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

    Raises:
        DatasetError: a folder is missing or holds nothing to train on, or a set is not whole.
        B2VError: a file cannot be read.

    """
    sources = Sources([], [], [])
    for folder in folders:
        media, before = list_media(folder), sources.count
        if holds_windows(folder):
            windows = [w for w in find_windows(folder) if part_of(w.split) == part]
            sources.sequences.extend(by_sequence(windows))
            media = []
        for place in dict.fromkeys(path.parent for path in media):
            if part_of(split_below(place, folder)) == part:
                _load_folder(sources, [path for path in media if path.parent == place])
        if part == "train" and sources.count == before:
            raise DatasetError(
                f"{folder}: holds no scenes to train on; those of test and val are not"
            )
    return sources


def _load_folder(sources: Sources, files: list[Path]) -> None:
    """Read the media of one folder."""
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    if len(pictures) >= FRAMES and are_frames(pictures) and _follow(pictures):
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


def _follow(pictures: list[Path]) -> bool:
    """Tell whether pictures are frames of a video: the first two are nearly the same."""
    first, second = (read_photo(path) for path in pictures[:2])
    if first.alpha is not None or first.pixels.shape != second.pixels.shape:
        return False
    return bool(psnr(first.pixels, second.pixels) > ALIKE)


def to_codes(values: Tensor) -> Tensor:
    """Round values in [0, 1] to uint8 code values."""
    return (values * 255).round().byte()


def read_codes(paths: Sequence[Path]) -> Tensor:
    """Read pictures of one size, transparent ones on white: [N, 3, H, W] code values.

    Raises:
        DatasetError: they are not of one size.
        B2VError: one cannot be read.

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
