"""The score set that everyone can make: bundled photographs in motion, the same on every machine.

Twelve windows in GOPRO_7 layout, of a camera that moves over four photographs none of which was
trained on. All is computed in double precision and rounded once, and all that is random comes from
one seed, so that the code values do not depend on the processor.
"""

import hashlib
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

import torch
from numpy.random import Generator, default_rng
from torch import Tensor

from b2v.color import to_encoded, to_linear
from b2v.data.exposure import instants
from b2v.data.footage import to_codes
from b2v.data.scenes import (
    MotionConfig,
    look,
    random_depth,
    random_path,
    sub_frames_for,
    warp_points,
)
from b2v.files import cache_dir, replacing
from b2v.frames import FRAMES, MIDDLE
from b2v.media.images import read_photo, write_photo
from b2v.metrics import psnr

PHOTOS, EACH = ("bridge", "china", "kite", "motorcycle"), 3
SIZE = 320
"""Side of the windows in pixels."""
SEED = 2018
MOTION = MotionConfig(speed=(0.5, 5.0), shrink=(1.0, 1.2))
BLUR_PSNR, TRIES = (17.0, 34.0), 8
"""Accepted PSNR in dB of the blurry picture as the middle frame, and draws before any is taken."""
NOISE = 0.004
"""Standard deviation of the noise of the blurry picture."""


def score_set() -> Path:
    """Find the set in the user's cache, or make it there; raises MediaError if it cannot be."""
    folder = cache_dir() / f"score-set-{SEED}" / "bundled"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder, overwrite=True) as part:
            for name, blurry, sharp in windows():
                _write(part / "blur" / name, [blurry], MIDDLE + 1)
                _write(part / "sharp" / name, list(sharp), 1)
    return folder


def windows() -> Iterator[tuple[str, Tensor, Tensor]]:
    """Draw the windows: name, blurry picture [3, S, S] and sharp frames [7, 3, S, S], in codes."""
    for number in range(len(PHOTOS) * EACH):
        name = PHOTOS[number // EACH]
        path = Path(str(files("b2v"))) / "assets" / "scenes" / f"{name}.jpg"
        photo = (read_photo(path).pixels * 255).round().double() / 255
        rng = default_rng([SEED, number])
        for _ in range(TRIES):
            light_lin, sub_frames = _filmed(photo, rng)
            blurry = to_encoded(light_lin.mean(0), "gamma2.2")
            sharp = to_encoded(light_lin[sub_frames // 2 :: sub_frames], "gamma2.2")
            if BLUR_PSNR[0] <= psnr(blurry, sharp[MIDDLE]) <= BLUR_PSNR[1]:
                break
        blurry = blurry + NOISE * torch.from_numpy(rng.standard_normal(tuple(blurry.shape)))
        yield f"{name}-{number % EACH + 1}", to_codes(blurry.clamp(0, 1)), to_codes(sharp)


def digest(drawn: Iterable[tuple[str, Tensor, Tensor]]) -> str:
    """Hash of the code values of windows, sha256."""
    found = hashlib.sha256()
    for _, blurry, sharp in drawn:
        found.update(blurry.numpy().tobytes() + sharp.numpy().tobytes())
    return found.hexdigest()


def _filmed(photo: Tensor, rng: Generator) -> tuple[Tensor, int]:
    """Light of a photo at instants of seven frames, [N, 3, S, S], and how many a frame has."""
    path = random_path(rng, MOTION, SIZE)
    depth = random_depth(rng, MOTION, SIZE, torch.float64)
    seen = warp_points(path.poses(instants(FRAMES, 1)[:, 0].double()), depth)
    sub_frames = sub_frames_for(seen, MOTION)
    times = instants(FRAMES, sub_frames).flatten().double()
    points = warp_points(path.poses(times), depth)
    low, high = points.amin((0, 1, 2)), points.amax((0, 1, 2))
    sides = torch.tensor([photo.shape[2] - 1.0, photo.shape[1] - 1.0]).double()
    step = min(rng.uniform(*MOTION.shrink), float((sides / (high - low)).min()))
    room = (sides - (high - low) * step).clamp(min=0)
    corner = room * torch.from_numpy(rng.uniform(0, 1, 2))
    return look(to_linear(photo, "gamma2.2"), (points - low) * step + corner), sub_frames


def _write(folder: Path, pictures: list[Tensor], first: int) -> None:
    folder.mkdir(parents=True)
    for number, codes in enumerate(pictures, first):
        write_photo(codes.to(torch.float32) / 255, folder / f"{number:06d}.png")
