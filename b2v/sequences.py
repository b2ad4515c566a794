"""What video networks are trained on: sequences of blurry frames with sharp centre frames.

A sequence is drawn by `draw(sources, config, index)`, a pure function of the seed and the index.
It is of one of four kinds:

* real: frames of a sharp video averaged in linear light through a random shutter, tau of 7 to 15
  frames once every tau <= T < 2 tau (Kim et al., ICCV 2017, Sec. 3), at full or half size. Where
  frames lie further apart than a pixel or two their average shows the single frames, so only calm
  parts are taken (`RealConfig.calm`); of a video too short for T = tau the end is followed by the
  video backwards, to and fro;
* written: windows of a set of blurry pictures with sharp ones, in order of time;
* filmed: a photograph or a frame of a video and cut-outs in motion (`b2v.synth.footage`);
* nearly still, likewise: what is sharp must stay as it is.

All are drawn once into a bank; a `SequenceCrops` dataset cuts random, flipped, recoloured and
noisy crops out of it. A dataset of other pairs (blurry videos with their sharp ones) has the same
items: two tensors [N, 3, S, S], blurry and sharp, by index.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from b2v.augment import wear
from b2v.bank import Part, fill, open_array
from b2v.color import Curve
from b2v.metrics import psnr
from b2v.sources import Sources, at_size, cut_square, pick, read_codes, to_codes
from b2v.synth.exposure import Shutter, expose_video
from b2v.synth.footage import FootageConfig, film
from b2v.windows import Window

TRIES = 4
"""Draws of a sequence before one outside `SequenceConfig.blur_psnr` is taken all the same."""
STILL_BLUR = (0.02, 0.6)
"""Blur in pixels of nearly still sequences."""
SECURED_EVERY = 50
"""Sequences drawn between two times that they are secured on disk."""
LOOKS = 24
"""Pairs of neighbouring frames by which the motion in a part of a video is judged."""
FLAT = 9.0
"""Mean square of the least slope, in code values a pixel, of which motion can be told."""


@dataclass(frozen=True, kw_only=True)
class RealConfig:
    """How windows of real video are taken."""

    taus: tuple[int, ...] = (7, 9, 11, 13, 15)
    calm: float = 5.0
    """Largest motion between neighbouring frames in pixels of the sequence, by `speed_of`; one
    pair of frames in ten may be up to twice as far apart."""
    half: float = 0.5
    """Share at half size, at which motion is half as large."""
    tries: int = 6
    """Random places before the sequence is filmed instead."""


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """How a bank of sequences is drawn."""

    clips: int = 2000
    frames: int = 13
    size: int = 144
    seed: int = 0
    real: float = 0.5
    """Share of real windows."""
    stills: float = 0.1
    """Share of single frames of videos, filmed; photographs are the rest."""
    still: float = 0.06
    """Share of nearly still sequences."""
    blur_psnr: tuple[float, float] = (17.0, 38.0)
    """Accepted PSNR in dB of blurry frames against sharp ones, mean of a sequence."""
    curve: Curve = "gamma2.2"
    real_windows: RealConfig = field(default_factory=RealConfig)
    footage: FootageConfig = field(default_factory=FootageConfig)


def draw(sources: Sources, config: SequenceConfig, index: int) -> Tensor:
    """Draw sequence `index`: blurry and sharp frames, [2, N, 3, S, S] uint8."""
    rng = default_rng((config.seed, index))
    kind = rng.random()
    nearly_still = kind >= 1 - config.still
    from_video = config.real <= kind < config.real + config.stills
    for _ in range(TRIES):
        real = kind < config.real or not sources.pictures
        pair = real_sequence(sources, rng, config) if real else None
        if pair is None:
            pair = _filmed(sources, rng, config, from_video=from_video, still=nearly_still)
        blurry, sharp = pair
        strength = psnr(blurry, sharp).clamp(max=60).mean()
        if nearly_still or config.blur_psnr[0] <= strength <= config.blur_psnr[1]:
            break
    return to_codes(torch.stack([blurry, sharp]))


def _filmed(
    sources: Sources, rng: Generator, config: SequenceConfig, *, from_video: bool, still: bool
) -> tuple[Tensor, Tensor]:
    from_video = (from_video and bool(sources.videos)) or not sources.photos
    photo = sources.random_still(rng) if from_video else sources.random_photo(rng)
    footage = replace(config.footage, blur=STILL_BLUR) if still else config.footage
    return film(
        photo,
        sources.cutouts,
        rng,
        frames=config.frames,
        size=config.size,
        config=footage,
        curve=config.curve,
    )


def real_sequence(
    sources: Sources, rng: Generator, config: SequenceConfig
) -> tuple[Tensor, Tensor] | None:
    """Expose a calm part of a video through a random shutter, or take windows of a set.

    Returns:
        Blurry and sharp frames, [N, 3, S, S] each, or None where no calm part was found.

    """
    real = config.real_windows
    long_enough = [v for v in sources.taken if isinstance(v, list) or len(v) >= min(real.taus)]
    for _ in range(real.tries if long_enough else 0):
        video = pick(long_enough, rng)
        if isinstance(video, list):
            return written_sequence(video, rng, config)
        shutter = random_shutter(rng, real.taus, len(video), config.frames)
        wanted = shutter.length(config.frames)
        start = int(rng.integers(max(1, len(video) - wanted + 1)))
        shrink = 2 if rng.random() < real.half else 1
        side = min(config.size * shrink, *(s - s % shrink for s in video.shape[2:]))
        y, x = (int(rng.integers(s - side + 1)) for s in video.shape[2:])
        part = video[..., y : y + side, x : x + side]
        numbers = to_and_fro(start + np.arange(wanted), len(video))
        looks = np.linspace(0, wanted - 1, LOOKS).astype(int)
        before = numbers[looks].clip(max=len(video) - 2)
        speeds = speed_of(part[before], part[before + 1]) / shrink
        if speeds.quantile(0.9) > real.calm or speeds.max() > 2 * real.calm:
            continue
        frames = (at_size(part[number, None], config.size)[0] for number in numbers)
        exposed = list(expose_video(frames, shutter, config.curve))
        blurry, sharp = (torch.stack(kind) for kind in zip(*exposed, strict=True))
        return blurry, sharp
    return None


def written_sequence(
    windows: list[Window], rng: Generator, config: SequenceConfig
) -> tuple[Tensor, Tensor]:
    """Take windows that follow each other in a set, to and fro where there are too few.

    Returns:
        Blurry and sharp frames, [N, 3, S, S] each.

    """
    start = int(rng.integers(max(1, len(windows) - config.frames + 1)))
    numbers = to_and_fro(start + np.arange(config.frames), len(windows))
    chosen = [windows[number] for number in numbers]
    shrink = 2 if rng.random() < config.real_windows.half else 1
    codes = read_codes([*(w.blurry for w in chosen), *(w.middle for w in chosen)])
    pictures = at_size(cut_square(codes, rng, config.size * shrink), config.size)
    blurry, sharp = pictures.chunk(2)
    return blurry, sharp


def random_shutter(rng: Generator, taus: tuple[int, ...], length: int, windows: int) -> Shutter:
    """Draw tau and a period, tau <= T < 2 tau, that suit a video of `length` frames.

    The period becomes shorter where so many windows would not fit in, and is tau at least.
    """
    tau = int(rng.choice([t for t in taus if t <= length]))
    period = int(rng.integers(tau, 2 * tau))
    fits = (length - tau) // max(1, windows - 1)
    return Shutter(tau, max(tau, min(period, fits)))


def to_and_fro(numbers: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Fold numbers of frames into a video of `length` frames, as if it were played to and fro."""
    turn = max(1, 2 * (length - 1))
    folded = numbers % turn
    return np.minimum(folded, turn - folded)


def speed_of(first: Tensor, second: Tensor) -> Tensor:
    """Estimate how far the faster parts of pictures move to the next ones, in pixels: [N].

    In each block of 32 x 32 pixels, the change over time is compared with the slope in space (as
    motion times slope is change); the answer is the length that a tenth of the blocks
    exceeds. Pictures are looked at in a quarter of their size, where long ways are short too.

    Args:
        first: [N, 3, H, W] code values.
        second: the frames that follow each of them.

    """
    before, after = (F.avg_pool2d(x[:, 1:2].float(), 4) for x in (first, second))
    middle = (before + after) / 2
    slope_x = (middle[..., 1:-1, 2:] - middle[..., 1:-1, :-2]) / 2
    slope_y = (middle[..., 2:, 1:-1] - middle[..., :-2, 1:-1]) / 2
    block = min(8, *slope_x.shape[-2:])
    slopes = F.avg_pool2d(slope_x.square() + slope_y.square(), block)
    changes = F.avg_pool2d((after - before)[..., 1:-1, 1:-1].square(), block)
    # Where all is flat, noise would be taken for motion.
    speeds = 4 * (2 * changes / slopes.clamp(min=FLAT)).sqrt()
    return speeds.flatten(1).quantile(0.9, dim=1)


def build_sequences(sources: Sources, config: SequenceConfig, folder: Path) -> Iterator[int]:
    """Draw all sequences of a bank into `folder`, going on where an earlier run stopped.

    They lie in `sequences.npy`, [clips, 2, N, 3, S, S] uint8, blurry first. Yields the number
    done.

    Raises:
        DatasetError: `folder` holds a bank of another config, or there is nothing to draw from.

    """
    sources.check(folder)
    shape = (2, config.frames, 3, config.size, config.size)
    parts = (Part("sequences.npy", np.uint8, shape),)
    yield from fill(folder, config, parts, partial(_draw, sources, config), SECURED_EVERY)


def _draw(sources: Sources, config: SequenceConfig, index: int) -> tuple[NDArray[np.uint8]]:
    return (draw(sources, config, index).numpy(),)


def open_sequences(folder: Path) -> NDArray[np.uint8]:
    """Map the sequences [clips, 2, N, 3, S, S] of a bank into memory.

    Raises DatasetError when there is no bank.
    """
    return open_array(folder, "sequences.npy")


class SequenceCrops(Dataset[tuple[Tensor, Tensor]]):
    """Random crops of a bank of sequences: item i is a pure function of the seed and i.

    An item is (blurry, sharp), [N, 3, S, S] each in [0, 1], `frames` consecutive ones at one
    place. They are flipped, transposed, played backwards and their colours permuted; half of the
    blurry ones get noise of up to 1 %, and a share of `jpeg` of them are compressed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        frames: int,
        size: int,
        seed: int,
        noise: float = 0.01,
        jpeg: float = 0.1,
    ) -> None:
        self.sequences = open_sequences(folder)
        self.frames, self.size, self.seed = frames, size, seed
        self.noise, self.jpeg = noise, jpeg

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Cut item `index`; there is no last one."""
        rng = default_rng((self.seed, index))
        number = rng.integers(len(self.sequences))
        length, size = self.sequences.shape[2], self.sequences.shape[-1]
        start = rng.integers(length - self.frames + 1)
        y, x = rng.integers(size - self.size + 1, size=2)
        cut = self.sequences[number, :, start : start + self.frames]
        cut = cut[..., y : y + self.size, x : x + self.size][:, :, rng.permutation(3)]
        pair = torch.from_numpy(cut)
        for axis in (-1, -2, 1):
            if rng.random() < 0.5:
                pair = pair.flip(axis)
        if rng.random() < 0.5:
            pair = pair.mT
        blurry, sharp = pair.contiguous().float() / 255
        return wear(blurry, rng, noise=self.noise, jpeg=self.jpeg), sharp
