"""Scores of a video network on sharp videos, made blurry and deblurred frame by frame.

Light is averaged over a shutter (`b2v.synth.exposure.Shutter`, gamma 2.2), the blurry video goes
through `b2v.inference.videos.Deblurrer`, and blurry and restored frames are compared with the sharp
centre frames. PSNR and SSIM are as in `b2v.evaluate`, the mean of a clip's frames; a set is the
mean of its clips. Memory does not grow with the video.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from b2v.defaults import PHOTO_MODEL
from b2v.errors import DatasetError
from b2v.evaluate import ssim
from b2v.inference.videos import Deblurrer
from b2v.media import open_video
from b2v.metrics import MAX_DB, psnr
from b2v.report import Extremes, in_a_grid
from b2v.sources import VIDEOS
from b2v.synth.exposure import Shutter, expose_video


@dataclass(frozen=True)
class ClipScore:
    """Scores of one video, means over its restored frames."""

    name: str
    frames: int  # restored, one for each exposure
    psnr: float
    ssim: float
    nothing_psnr: float  # of the blurry frames themselves
    nothing_ssim: float
    steadiness: float | None
    """Mean absolute difference of neighbouring restored frames over that of the sharp ones; None
    where there is one frame alone, or nothing moves."""
    nothing_steadiness: float | None  # of the blurry frames


def find_videos(path: Path) -> list[Path]:
    """List the videos of a folder, sorted by name, or the one file that is named.

    Raises:
        DatasetError: nothing is there, or the folder holds no videos.

    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetError(f"{path}: no such file or folder")
    found = sorted(p for p in path.iterdir() if is_video(p))
    if not found:
        raise DatasetError(
            f"{path}: holds no videos ({', '.join(sorted(VIDEOS))}), which a model for video is"
            f" scored on; take -m {PHOTO_MODEL} for windows of photos"
        )
    return found


def has_videos(path: Path) -> bool:
    """Tell whether a path is that of a video, or of a folder that holds some."""
    return is_video(path) or (path.is_dir() and any(map(is_video, path.iterdir())))


def is_video(path: Path) -> bool:
    """Tell by its name whether a file is a video; hidden ones are not."""
    return path.suffix.lower() in VIDEOS and path.is_file() and not path.name.startswith(".")


def evaluate_videos(
    deblurrer: Deblurrer, videos: list[Path], shutter: Shutter, strips: Extremes | None = None
) -> Iterator[ClipScore]:
    """Blur, restore and score one sharp video after the other; `strips` are given all frames.

    Raises:
        DatasetError: a video is too short for one exposure.
        B2VError: a file is no video, breaks off, or is too small for the network.

    """
    for path in videos:
        deblurrer.reset()
        yield score_video(deblurrer, path, shutter, strips)


def score_video(
    deblurrer: Deblurrer, path: Path, shutter: Shutter, strips: Extremes | None = None
) -> ClipScore:
    """Blur, restore and score one sharp video; raises as `evaluate_videos`."""
    waiting: deque[tuple[Tensor, Tensor]] = deque()  # what the network has not restored yet
    last: tuple[Tensor, ...] | None = None
    sums, moves = torch.zeros(4, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    frames = read = 0

    def sharp_frames() -> Iterator[Tensor]:
        nonlocal read
        with open_video(path) as reader:
            for frame in reader:
                read += 1
                yield frame.pixels

    def blurry_frames() -> Iterator[Tensor]:
        for blurry, sharp in expose_video(sharp_frames(), shutter):
            waiting.append((blurry, sharp))
            yield blurry

    for restored in deblurrer.run(blurry_frames()):
        shown = restored, *waiting.popleft()
        frames += 1
        scores = (*_compare(shown[0], shown[2]), *_compare(shown[1], shown[2]))
        sums += torch.tensor(scores)
        if last is not None:
            pairs = zip(shown, last, strict=True)
            moves += torch.tensor([float((now - then).abs().mean()) for now, then in pairs])
        last = shown
        if strips is not None:
            name = f"{path.stem}-tau{shutter.tau}-{frames:06d}"
            strips.offer(scores[0] - scores[2], name, partial(_strip, *shown))
    if not frames:
        raise DatasetError(
            f"{path}: has {read} frames; one exposure of tau {shutter.tau} needs {shutter.tau}"
        )
    steady: list[float | None] = [float(x / moves[2]) if moves[2] > 0 else None for x in moves[:2]]
    return ClipScore(path.name, frames, *(sums / frames).tolist(), *steady)


def _strip(restored: Tensor, blurry: Tensor, sharp: Tensor) -> Tensor:
    return in_a_grid([[blurry, restored, sharp]])


def _compare(frame: Tensor, sharp: Tensor) -> tuple[float, float]:
    return float(psnr(frame, sharp, max_db=MAX_DB)), ssim(frame, sharp)


def summarize_videos(
    scores: list[ClipScore], name: str, model: str, shutter: Shutter
) -> dict[str, Any]:
    """Put the scores of a set into plain values that JSON can hold; means are over clips."""

    def mean(key: str) -> float | None:
        values = [v for v in (getattr(s, key) for s in scores) if v is not None]
        return sum(values) / len(values) if values else None

    return {
        "set": name,
        "model": model,
        "tau": shutter.tau,
        "period": shutter.period,
        "frames": sum(s.frames for s in scores),
        "psnr": mean("psnr"),
        "ssim": mean("ssim"),
        "nothing": {
            "psnr": mean("nothing_psnr"),
            "ssim": mean("nothing_ssim"),
            "steadiness": mean("nothing_steadiness"),
        },
        "clips": [
            {
                "name": s.name,
                "frames": s.frames,
                "psnr": s.psnr,
                "ssim": s.ssim,
                "nothing": {
                    "psnr": s.nothing_psnr,
                    "ssim": s.nothing_ssim,
                    "steadiness": s.nothing_steadiness,
                },
                "steadiness": s.steadiness,
            }
            for s in scores
        ],
        "steadiness": mean("steadiness"),
    }


def records_of_videos(
    scores: list[ClipScore], name: str, model: str, shutter: Shutter
) -> list[dict[str, Any]]:
    """Put the scores of each clip into a line of a table."""
    about = {"set": name, "model": model, "tau": shutter.tau, "period": shutter.period}
    lines = []
    for score in scores:
        line = {**about, **vars(score)}
        lines.append({**about, "clip": line.pop("name"), **line})
    return lines
