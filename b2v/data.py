"""What networks are trained on: a bank of short clips, each blurred with known sharp frames.

A bank is drawn once from folders of photographs, cut-out objects (pictures with alpha) and
videos, by `draw(sources, config, index)`, a pure function of the seed and the index; it is kept
as one memory-mapped array, so that all stages and resumed runs share it. A `Crops` dataset then
cuts random, flipped, recoloured and noisy crops out of it.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from b2v.color import Curve, to_linear
from b2v.errors import DatasetError
from b2v.frames import FRAMES, MIDDLE
from b2v.media import read_photo
from b2v.media.jpeg import through_jpeg
from b2v.media.video import read_video
from b2v.metrics import psnr
from b2v.synth.exposure import expose
from b2v.synth.motion import MotionConfig, move

PHOTOS = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
TRIES = 6
"""Draws of a clip before one outside `BankConfig.blur_psnr` is taken all the same."""
JPEG_QUALITY = (60, 96)
"""Range of the quality of blurry crops that go through JPEG."""
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi"}


@dataclass(frozen=True, kw_only=True)
class BankConfig:
    """How a bank is drawn."""

    clips: int = 8000
    size: int = 192
    seed: int = 0
    real: float = 0.35
    """Share of windows of seven real frames."""
    stills: float = 0.2
    """Share of single video frames set in motion; the rest are photographs."""
    blur_psnr: tuple[float, float] = (17.0, 36.0)
    """Accepted PSNR in dB between the blurry picture and its middle frame."""
    curve: Curve = "gamma2.2"
    motion: MotionConfig = field(default_factory=MotionConfig)


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
            sources.photos.append(_codes(photo.pixels))
        else:
            sources.cutouts.append(_codes(torch.cat([photo.pixels, photo.alpha])))
    return sources


def draw(sources: Sources, config: BankConfig, index: int) -> tuple[Tensor, Tensor]:
    """Draw clip `index`.

    Returns:
        The blurry picture and its seven frames, [8, 3, S, S] uint8, and the way of each pixel
        (`b2v.synth.motion.move`), [2, S, S] float16, not a number where it is not known.

    """
    rng = default_rng((config.seed, index))
    kind = rng.random()
    for _ in range(TRIES):
        if kind < config.real and sources.videos:
            blurry, sharp = real_window(sources, rng, config)
            way = torch.full((2, *blurry.shape[1:]), torch.nan)
        else:
            still = (kind < config.real + config.stills and sources.videos) or not sources.photos
            photo = _video_frame(sources, rng) if still else _pick(sources.photos, rng)
            blurry, sharp, way = move(
                photo, sources.cutouts, rng, size=config.size, config=config.motion
            )
        if config.blur_psnr[0] <= psnr(blurry, sharp[MIDDLE]) <= config.blur_psnr[1]:
            break
    return _codes(torch.cat([blurry[None], sharp])), way.half()


def real_window(sources: Sources, rng: Generator, config: BankConfig) -> tuple[Tensor, Tensor]:
    """Average seven neighbouring frames of a video, at full or half size."""
    video = _pick(sources.videos, rng)
    if len(video) < FRAMES:
        raise DatasetError(f"a video has {len(video)} frames; at least {FRAMES} are needed")
    shrink = int(rng.choice((1, 2)))
    side = min(config.size * shrink, *(s - s % shrink for s in video.shape[2:]))
    start = rng.integers(len(video) - FRAMES + 1)
    y, x = (rng.integers(s - side + 1) for s in video.shape[2:])
    window = video[start : start + FRAMES, :, y : y + side, x : x + side].float() / 255
    if shrink > 1:
        window = torch.nn.functional.avg_pool2d(window, shrink)
    if window.shape[-1] < config.size:
        window = torch.nn.functional.interpolate(window, (config.size,) * 2, mode="bicubic")
    window = window.clamp(0, 1)
    return expose(to_linear(window, config.curve), config.curve), window


def _codes(values: Tensor) -> Tensor:
    return (values * 255).round().byte()


def _pick(items: list[Tensor], rng: Generator) -> Tensor:
    return items[rng.integers(len(items))]


def _video_frame(sources: Sources, rng: Generator) -> Tensor:
    video = _pick(sources.videos, rng)
    return video[rng.integers(len(video))]


def is_complete(folder: Path, config: BankConfig) -> bool:
    """Tell whether `folder` holds all clips of a bank of this config."""
    card, done = folder / "bank.json", folder / "done"
    return (
        done.exists()
        and card.read_text() == _text(config)
        and int(done.read_text()) == config.clips
    )


def _text(config: BankConfig) -> str:
    return json.dumps(asdict(config), indent=1)


def build_bank(sources: Sources, config: BankConfig, folder: Path) -> Iterator[int]:
    """Draw all clips of a bank into `folder`, going on where an earlier run stopped.

    The clips lie in `clips.npy`, [clips, 8, 3, S, S] uint8, blurry picture first, the ways of
    their pixels in `ways.npy`, [clips, 2, S, S] float16. Yields the number of clips done.

    Raises:
        DatasetError: `folder` holds a bank of another config, or there is nothing to draw from.

    """
    if not sources.photos and not sources.videos:
        raise DatasetError(
            f"{folder}: no photographs or videos to draw from; training and validation need two "
            "scenes at least"
        )
    folder.mkdir(parents=True, exist_ok=True)
    card, done_file = folder / "bank.json", folder / "done"
    text = _text(config)
    if card.exists() and card.read_text() != text:
        raise DatasetError(f"{folder}: holds a bank of another config; name another folder")
    done = int(done_file.read_text()) if done_file.exists() else 0
    mode: Literal["r+", "w+"] = "r+" if done else "w+"
    sides = (config.size, config.size)
    clips, ways = (
        open_memmap(folder / name, mode, kind, None if done else (config.clips, *shape, *sides))
        for name, kind, shape in (
            ("clips.npy", np.uint8, (1 + FRAMES, 3)),
            ("ways.npy", np.float16, (2,)),
        )
    )
    card.write_text(text)
    _worker.update(sources=sources, config=config)
    fork = get_context("fork")  # the sources are shared with the workers, not sent
    with ProcessPoolExecutor(os.cpu_count(), fork, torch.set_num_threads, (1,)) as pool:
        for clip, way in pool.map(_draw, range(done, config.clips), chunksize=4):
            clips[done], ways[done] = clip, way
            done += 1
            if done % 100 == 0 or done == config.clips:
                clips.flush()
                ways.flush()
                part = done_file.with_suffix(".part")
                part.write_text(str(done))
                part.replace(done_file)
                yield done


_worker: dict[str, Any] = {}


def _draw(index: int) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    clip, way = draw(_worker["sources"], _worker["config"], index)
    return clip.numpy(), way.numpy()


def open_clips(folder: Path) -> NDArray[np.uint8]:
    """Map the clips [N, 8, 3, S, S] of a bank into memory.

    Raises DatasetError when there is no bank.
    """
    if not (folder / "clips.npy").exists():
        raise DatasetError(f"{folder}: no bank of clips there; draw one first")
    return np.load(folder / "clips.npy", mmap_mode="r")


class Crops(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Random crops of a bank: item i is a pure function of the seed and i.

    An item is (blurry [3, S, S], sharp [7, 3, S, S]) in [0, 1], and the way [2, S, S] of each
    pixel as `draw` gives it. Crops are flipped, transposed,
    played backwards and their colours permuted; half of the blurry ones get noise of up to 1 %
    (Jin et al., Sec. 6), and a share of `jpeg` of them are compressed as a camera does.
    """

    def __init__(
        self, folder: Path, *, size: int, seed: int, noise: float = 0.01, jpeg: float = 0.3
    ) -> None:
        self.clips = open_clips(folder)
        self.ways: NDArray[np.float16] = np.load(folder / "ways.npy", mmap_mode="r")
        self.size, self.seed, self.noise, self.jpeg = size, seed, noise, jpeg

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Cut item `index`; there is no last one."""
        rng = default_rng((self.seed, index))
        number = rng.integers(len(self.clips))
        y, x = rng.integers(self.clips.shape[-1] - self.size + 1, size=2)
        place = (..., slice(y, y + self.size), slice(x, x + self.size))
        crop = torch.from_numpy(self.clips[number][:, rng.permutation(3)][place])
        way = torch.from_numpy(self.ways[number][place].astype(np.float32))
        if rng.random() < 0.5:
            crop, way = crop.flip(-1), way.flip(-1) * torch.tensor([-1, 1]).view(2, 1, 1)
        if rng.random() < 0.5:
            crop, way = crop.flip(-2), way.flip(-2) * torch.tensor([1, -1]).view(2, 1, 1)
        if rng.random() < 0.5:
            crop, way = crop.mT, way.flip(0).mT
        pictures = crop.contiguous().float() / 255
        blurry, sharp = pictures[0], pictures[1:]
        if rng.random() < 0.5:
            sharp, way = sharp.flip(0), -way
        sigma = max(0.0, rng.uniform(-self.noise, self.noise))
        noise = torch.from_numpy(rng.standard_normal(blurry.shape, dtype=np.float32))
        blurry = (blurry + sigma * noise).clamp(0, 1)
        if rng.random() < self.jpeg:
            blurry = through_jpeg(blurry, int(rng.integers(*JPEG_QUALITY)))
        return blurry, sharp, way.contiguous()
