"""Media that training draws from: photographs, cut-out objects and videos, held in memory."""

from dataclasses import dataclass
from pathlib import Path

import torch
from numpy.random import Generator
from torch import Tensor

from b2v.errors import DatasetError
from b2v.frames import FRAMES
from b2v.media import read_photo
from b2v.media.video import read_video

PHOTOS = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi"}


@dataclass(frozen=True)
class Sources:
    """Pictures and videos held in memory as uint8 code values."""

    photos: list[Tensor]  # [3, H, W] each
    cutouts: list[Tensor]  # [4, h, w] each, RGBA
    videos: list[Tensor]  # [N, 3, H, W] each

    def split(self, every: int = 8) -> tuple["Sources", "Sources"]:
        """Part by scene, never by frame: (training, validation), one in `every` held out.

        Of fewer scenes than that, but more than one, the last is held out.
        """

        def is_out(index: int, count: int) -> bool:
            return index % every == every // 2 or (1 < count <= every // 2 and index == count - 1)

        def held(items: list[Tensor], out: bool) -> list[Tensor]:
            return [x for i, x in enumerate(items) if is_out(i, len(items)) is out]

        kept, out = (
            Sources(held(self.photos, k), held(self.cutouts, k), held(self.videos, k))
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
        if not self.photos and not self.videos:
            raise DatasetError(
                f"{folder}: no photographs or videos to draw from; training and validation need"
                " two scenes at least"
            )


def find_files(folders: list[Path]) -> list[Path]:
    """List the pictures and videos in `folders` and below, sorted.

    Raises DatasetError when a folder is missing or none of them holds any.
    """
    for folder in folders:
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; --data takes folders of training media")
    files = sorted(p for f in folders for p in f.rglob("*") if p.suffix.lower() in PHOTOS | VIDEOS)
    if not files:
        raise DatasetError(f"{folders[0]}: holds no photographs or videos to train on")
    return files


def load_sources(folders: list[Path]) -> Sources:
    """Read every photograph, cut-out and video below `folders` into memory."""
    sources = Sources([], [], [])
    for path in find_files(folders):
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


def pick(items: list[Tensor], rng: Generator) -> Tensor:
    """Pick one of some pictures or videos."""
    return items[rng.integers(len(items))]
