"""Media that training draws from: photographs, cut-out objects and videos, held in memory.

Sets of blurry pictures with their sharp frames (`b2v.data.pairs`) may be among them; they stay on
disk, for they are large.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from b2v.data.pairs import Window, by_sequence, find_windows, holds_windows
from b2v.data.synthesize import MANIFEST
from b2v.errors import DatasetError
from b2v.frames import FRAMES
from b2v.media import read_photo
from b2v.media.video_reader import read_video

T = TypeVar("T")

PHOTOS = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi"}
MEDIA = PHOTOS | VIDEOS | {Path(MANIFEST).suffix}


@dataclass(frozen=True)
class Sources:
    """Pictures and videos held in memory as uint8 code values, and sets on disk."""

    photos: list[Tensor]  # [3, H, W] each
    cutouts: list[Tensor]  # [4, h, w] each, RGBA
    videos: list[Tensor]  # [N, 3, H, W] each
    sequences: list[list[Window]] = field(default_factory=list)
    """Windows of sets, in order of time."""

    @property
    def taken(self) -> list[Tensor | list[Window]]:
        """Whatever was taken by a moving camera: videos, and sequences of sets."""
        return [*self.videos, *self.sequences]

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
        return video[rng.integers(len(video))]

    def check(self, folder: Path) -> None:
        """Check that there is something to draw a bank in `folder` from; else a DatasetError."""
        if not self.pictures and not self.sequences:
            raise DatasetError(
                f"{folder}: no photographs, videos or windows to draw from; training and"
                " validation need two scenes at least"
            )


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


def load_sources(folders: list[Path]) -> Sources:
    """Read every photograph, cut-out and video below `folders` into memory; list those of sets.

    Raises:
        DatasetError: a folder is missing or holds nothing of that kind, or a set is not whole.
        B2VError: a file cannot be read.

    """
    sources = Sources([], [], [])
    files: list[Path] = []
    for folder in folders:
        if holds_windows(folder):
            sources.sequences.extend(by_sequence(find_windows(folder)))
        else:
            files += [p for p in list_media(folder) if p.suffix.lower() in PHOTOS | VIDEOS]
    for path in files:
        if path.suffix.lower() in VIDEOS:
            frames = list(read_video(path))
            if len(frames) < FRAMES:
                raise DatasetError(
                    f"{path}: has {len(frames)} frames; at least {FRAMES} are needed"
                )
            sources.videos.append(torch.stack(frames))
            continue
        photo = read_photo(path)
        if photo.alpha is None:
            sources.photos.append(to_codes(photo.pixels))
        else:
            sources.cutouts.append(to_codes(torch.cat([photo.pixels, photo.alpha])))
    return sources


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
