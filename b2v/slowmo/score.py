"""How good slow motion is: a sharp video is made blurry, slowed down, and compared with itself.

>>> with open_video("sharp.mp4") as video:
...     score_slow_motion(net, (frame.pixels for frame in video), runtime)

Every seven sharp frames are averaged as light to one picture (`b2v.synth.exposure`, a shutter
that is always open), so they are what its slow motion should be. PSNR in dB over RGB, the mean of
the frames' values.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from b2v.errors import DatasetError
from b2v.frames import FRAMES
from b2v.inference import restore
from b2v.metrics import psnr, reblur
from b2v.models import Extractor
from b2v.runtime import Runtime
from b2v.slowmo.joining import Neighbours, join, with_neighbours

MAX_DB = 100.0
"""Stands for equal frames."""


@dataclass(frozen=True)
class SlowScore:
    """Scores of the slow motion of one video of so many blurry `pictures`."""

    pictures: int
    right: float
    """Share of the pictures whose frames are nearer to the truth than backwards."""
    right_alone: float
    """That share where every picture's direction is as the network gives it: chance, about."""
    psnr: float
    psnr_alone: float
    """With every picture's direction as the network gives it."""
    psnr_repeated: float
    """Of each blurry picture, shown seven times."""


def score_slow_motion(
    net: Extractor, sharp: Iterable[Tensor], runtime: Runtime, *, pictures: int | None = None
) -> SlowScore:
    """Blur a sharp video, make slow motion of it, and compare that with the video.

    Args:
        net: model for photos, on the runtime's device.
        sharp: frames [3, H, W] in [0, 1]; those after the last whole seven are left out.
        runtime: device and precision.
        pictures: how many blurry pictures at most; None for all.

    Raises:
        DatasetError: there are fewer than seven frames.
        B2VError: the frames cannot be restored.

    """
    rows = []
    exposures = islice(_sevens(sharp), pictures)
    for before, this, after in with_neighbours((reblur(seven), seven) for seven in exposures):
        near = (None if other is None else other[0] for other in (before, after))
        blurry, truth = this
        frames = restore(net, blurry, runtime)
        joined = join(frames, Neighbours(next(near), blurry, next(near)))
        shown = (joined, frames, blurry.expand_as(truth))
        forwards = [_score(one, truth) for one in shown]
        backwards = [_score(one.flip(0), truth) for one in shown]
        right = [float(a > b) for a, b in zip(forwards, backwards, strict=True)]
        rows.append([right[0], right[1], *forwards])
    if not rows:
        raise DatasetError(f"fewer than {FRAMES} frames, which make one blurry picture")
    means: list[float] = torch.tensor(rows, dtype=torch.float64).mean(0).tolist()
    return SlowScore(len(rows), *means)


def _score(frames: Tensor, truth: Tensor) -> float:
    return float(psnr(frames, truth).clamp(max=MAX_DB).mean())


def _sevens(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield every seven frames as [7, 3, H, W]."""
    rest = iter(frames)
    while len(seven := list(islice(rest, FRAMES))) == FRAMES:
        yield torch.stack(seven)
