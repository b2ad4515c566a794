"""Score sets that everyone can make: bundled photographs in motion, the same on every machine.

`bundled` are twelve windows in GOPRO_7 layout, of a camera that moves over four photographs none of
which was trained on; `bundled-video` are four sharp clips, a folder of frames each, of a camera
that pans, shakes, rolls and zooms, for `b2v eval` to blur. All is computed in double precision and
rounded once, and all that is random comes from one seed, so that the code values do not depend on
the processor.
"""

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
    GRID,
    FootageConfig,
    MotionConfig,
    look,
    random_depth,
    random_path,
    random_way,
    sub_frames_for,
    warp_points,
)
from b2v.defaults import BUNDLED
from b2v.errors import DatasetError
from b2v.files import cache_dir, replacing
from b2v.frames import FRAMES, MIDDLE
from b2v.media.images import read_photo, write_photo
from b2v.metrics import psnr

PHOTOS, EACH = ("bridge", "china", "kite", "motorcycle"), 3
SIZE = 320
"""Side of windows and clips in pixels."""
SEED = 2018
MOTION = MotionConfig(speed=(0.5, 5.0), shrink=(1.0, 1.2))
BLUR_PSNR, TRIES = (17.0, 34.0), 8
"""Accepted PSNR in dB of the blurry picture as the middle frame, and draws before any is taken."""
NOISE = 0.004
"""Standard deviation of the noise of the blurry picture."""
FOOTAGE = FootageConfig(blur=(10.0, 22.0))
"""How the camera of clips moves, by `GRID` sharp frames; `blur` is their mean way in pixels."""
INTERVALS, ROOM, DEPTH = 4, (240.0, 60.0), 0.25
"""Length of clips in `GRID` frames, pixels in x and y that their camera may go, and how much of the
parallax of windows they have."""


def find_set(path: Path) -> Path:
    """Return the folder of a set; a bundled one is made in the user's cache first.

    Raises DatasetError where there is neither, MediaError where it cannot be made.
    """
    if path.exists():
        return path
    if (name := str(path)) not in BUNDLED:
        raise DatasetError(f"{path}: no such file or folder; check the name")
    folder = cache_dir() / f"score-set-{SEED}" / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder, overwrite=True) as part:
            if name == BUNDLED[0]:
                for window, blurry, sharp in windows():
                    _write(part / "blur" / window, [blurry], MIDDLE + 1)
                    _write(part / "sharp" / window, sharp, 1)
            else:
                for clip, frames in clips():
                    _write(part / clip, frames, 1)
    return folder


def windows() -> Iterator[tuple[str, Tensor, Tensor]]:
    """Draw the windows: name, blurry picture [3, S, S] and sharp frames [7, 3, S, S], in codes."""
    for number in range(len(PHOTOS) * EACH):
        name = PHOTOS[number // EACH]
        rng = default_rng([SEED, number])
        for _ in range(TRIES):
            light_lin, sub_frames = _filmed(_photo(name), rng)
            blurry = to_encoded(light_lin.mean(0), "gamma2.2")
            sharp = to_encoded(light_lin[sub_frames // 2 :: sub_frames], "gamma2.2")
            if BLUR_PSNR[0] <= psnr(blurry, sharp[MIDDLE]) <= BLUR_PSNR[1]:
                break
        blurry = blurry + NOISE * torch.from_numpy(rng.standard_normal(tuple(blurry.shape)))
        yield f"{name}-{number % EACH + 1}", to_codes(blurry.clamp(0, 1)), to_codes(sharp)


def clips() -> Iterator[tuple[str, Tensor]]:
    """Draw the clips: name, and sharp frames [N, 3, S, S] in codes."""
    for number, name in enumerate(PHOTOS):
        rng = default_rng([SEED, len(PHOTOS) * EACH + number])
        depth = DEPTH * random_depth(rng, MOTION, SIZE, torch.float64)
        way = random_way(rng, FOOTAGE, INTERVALS, 1.0, list(ROOM))
        poses = torch.from_numpy(way.grid[GRID // 2 : -(GRID // 2)])
        light_lin = _seen(_photo(name), warp_points(poses, depth), rng)
        yield name, to_codes(to_encoded(light_lin, "gamma2.2"))


def _photo(name: str) -> Tensor:
    path = Path(str(files("b2v"))) / "assets" / "scenes" / f"{name}.jpg"
    return (read_photo(path).pixels * 255).round().double() / 255


def _filmed(photo: Tensor, rng: Generator) -> tuple[Tensor, int]:
    """Light of a photo at instants of seven frames, [N, 3, S, S], and how many a frame has."""
    path = random_path(rng, MOTION, SIZE)
    depth = random_depth(rng, MOTION, SIZE, torch.float64)
    seen = warp_points(path.poses(instants(FRAMES, 1)[:, 0].double()), depth)
    sub_frames = sub_frames_for(seen, MOTION)
    times = instants(FRAMES, sub_frames).flatten().double()
    return _seen(photo, warp_points(path.poses(times), depth), rng), sub_frames


def _seen(photo: Tensor, points: Tensor, rng: Generator) -> Tensor:
    """Light of a photo at points [N, S, S, 2], which are placed on it at random: [N, 3, S, S]."""
    low, high = points.amin((0, 1, 2)), points.amax((0, 1, 2))
    sides = torch.tensor([photo.shape[2] - 1.0, photo.shape[1] - 1.0]).double()
    step = min(rng.uniform(*MOTION.shrink), float((sides / (high - low)).min()))
    room = (sides - (high - low) * step).clamp(min=0)
    corner = room * torch.from_numpy(rng.uniform(0, 1, 2))
    return look(to_linear(photo, "gamma2.2"), (points - low) * step + corner)


def _write(folder: Path, pictures: Iterable[Tensor], first: int) -> None:
    folder.mkdir(parents=True)
    for number, codes in enumerate(pictures, first):
        write_photo(codes.to(torch.float32) / 255, folder / f"{number:06d}.png")
