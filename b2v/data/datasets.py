"""What networks are trained on: a bank of short clips, each blurred with known sharp frames.

A bank is drawn once from folders of photographs, cut-out objects (pictures with alpha), videos
and sets of blurry pictures with their sharp frames, by `draw_clip(sources, config, index)`, a pure
function of the seed and the index; it is kept as one memory-mapped array, so that all stages and
resumed runs share it. A `Crops` dataset then cuts random, flipped, recoloured and noisy crops out
of it.

For video, `draw_sequence(sources, config, index)` draws blurry frames with their sharp centre
frames. It is of one of four kinds:

* real: frames of a sharp video averaged in linear light through a random shutter, tau of 7 to 15
  frames once every tau <= T < 2 tau (Kim et al., ICCV 2017, Sec. 3), at full or half size. Where
  frames lie further apart than a pixel or two their average shows the single frames, so only calm
  parts are taken (`RealConfig.calm`); of a video too short for T = tau the end is followed by the
  video backwards, to and fro;
* written: windows of a set of blurry pictures with sharp ones, in order of time;
* filmed: a photograph or a frame of a video and cut-outs in motion (`b2v.data.scenes`);
* nearly still, likewise: what is sharp must stay as it is.

All are drawn once into a bank; a `SequenceCrops` dataset cuts random, flipped, recoloured and
noisy crops out of it. A dataset of other pairs (blurry videos with their sharp ones) has the same
items: two tensors [N, 3, S, S], blurry and sharp, by index.
"""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from b2v.color import Curve, to_encoded, to_linear
from b2v.data.clip_cache import fill, open_array, setting, soften, wear
from b2v.data.exposure import (
    FRAME_STEPS,
    Aperture,
    Optics,
    Shutter,
    by_frame,
    expose,
    expose_video,
    optical_psfs,
    through_psfs,
)
from b2v.data.footage import (
    Sources,
    at_size,
    cut_square,
    frames_of,
    pick,
    read_codes,
    to_codes,
)
from b2v.data.scenes import FootageConfig, MotionConfig, film, render
from b2v.errors import DatasetError, UsageError
from b2v.frames import FRAMES, MIDDLE
from b2v.metrics import psnr

TRIES = 6
"""Draws of a clip before one outside `BankConfig.blur_psnr` is taken all the same."""


@dataclass(frozen=True, kw_only=True)
class BankConfig:
    """How a bank of clips is drawn."""

    FILE: ClassVar = "clips.npy"
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
    aperture: Aperture = "standard"
    """What the blur is seen through; the same index has the same frames either way."""
    sides: bool = True
    """Whether sets have the frames beside the middle one; else all seven are the middle one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a clip: the blurry picture, then its frames."""
        return 1 + FRAMES, 3, self.size, self.size


def draw_clip(sources: Sources, config: BankConfig, index: int) -> Tensor:
    """Draw clip `index`: the blurry picture and its seven frames, [8, 3, S, S] uint8."""
    rng = default_rng((config.seed, index))
    kind = rng.random()
    for _ in range(TRIES):
        if (kind < config.real and sources.taken) or not sources.pictures:
            blurry, sharp = real_window(sources, rng, config)
            light_lin = to_linear(sharp, config.curve)
        else:
            scene = render(
                sources.picture(rng, still=kind < config.real + config.stills),
                sources.cutouts,
                rng,
                size=config.size,
                config=config.motion,
                curve=config.curve,
            )
            light_lin, sharp = scene.light_lin, scene.sharp(config.curve)
            blurry = expose(light_lin, config.curve)
        if config.blur_psnr[0] <= psnr(blurry, sharp[MIDDLE]) <= config.blur_psnr[1]:
            break
    if config.aperture == "coded":
        blurry = coded(light_lin, config.curve)
    return to_codes(torch.cat([blurry[None], sharp]))


def coded(light_lin: Tensor, curve: Curve = "gamma2.2") -> Tensor:
    """Expose instants [N, 3, H, W] of linear light through the coded aperture: [3, H, W], encoded.

    Seven instants are frames, which stand still while the focus moves on.
    """
    count = len(light_lin)
    steps = FRAME_STEPS if count == FRAMES else 1
    psfs = by_frame(optical_psfs(Optics(), count * steps), count)
    light = through_psfs(light_lin, psfs)
    return to_encoded(light.clamp(0, 1), curve)


def real_window(sources: Sources, rng: Generator, config: BankConfig) -> tuple[Tensor, Tensor]:
    """Average seven neighbouring frames of a video, or take a window of a set as it is.

    Returns the blurry picture [3, S, S] and its frames [7, 3, S, S], at full or half size.
    """
    taken = pick(sources.taken, rng)
    if not isinstance(taken, list):
        if len(taken) < FRAMES:
            raise DatasetError(f"a video has {len(taken)} frames; at least {FRAMES} are needed")
        shrink = int(rng.choice((1, 2)))
        start = int(rng.integers(len(taken) - FRAMES + 1))
        frames = frames_of(taken, range(start, start + FRAMES))
        sharp = at_size(cut_square(frames, rng, config.size * shrink), config.size)
        return expose(to_linear(sharp, config.curve), config.curve), sharp
    window = pick(taken, rng)
    pictures = read_codes([window.blurry, *window.sharp])
    cut = cut_square(pictures, rng, config.size * int(rng.choice((1, 2))))
    blurry, *sharp_frames = at_size(cut, config.size)
    if not config.sides:
        sharp_frames = FRAMES * [sharp_frames[len(sharp_frames) // 2]]
    return blurry, torch.stack(sharp_frames)


def check_sources(sources: Sources, folder: Path) -> None:
    """Check that a bank in `folder` can be drawn from sources; raises DatasetError."""
    if not sources.pictures and not sources.sequences:
        raise DatasetError(
            f"{folder}: no photographs, videos or windows to draw from; training and validation"
            " need two scenes at least"
        )


def build_bank(
    sources: Sources, config: "BankConfig | SequenceConfig", folder: Path
) -> Iterator[int]:
    """Draw all samples of a bank into `folder`, going on where an earlier run stopped.

    They lie in one array of uint8, samples first: of photos `clips.npy`, [clips, 8, 3, S, S], the
    blurry picture first; of video `sequences.npy`, [clips, 2, N, 3, S, S], the blurry frames first.
    Yields the number done.

    Raises DatasetError where `folder` holds a bank of another config, or there is nothing to draw
    from.
    """
    check_sources(sources, folder)
    if isinstance(config, BankConfig):
        yield from fill(folder, config, partial(draw_clip, sources, config))
    else:
        yield from fill(folder, config, partial(draw_sequence, sources, config))


def _turned(pictures: Tensor, rng: Generator, axes: tuple[int, ...]) -> Tensor:
    """Flip one in two along each of some axes, and swap height and width of one in two."""
    for axis in axes:
        if rng.random() < 0.5:
            pictures = pictures.flip(axis)
    return pictures.mT if rng.random() < 0.5 else pictures


@dataclass(eq=False)
class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Random crops of a bank: item i is a pure function of the seed and i.

    An item is (blurry [3, S, S], sharp [7, 3, S, S]) in [0, 1]. Crops are flipped, transposed,
    played backwards and their colours permuted; half of the blurry ones get noise of up to 1 % (Jin
    et al., Sec. 6), and a share of `jpeg` of them are compressed as a camera does. The blur of a
    share of `discrete` is the light of the seven frames alone, as when a video is averaged. A share
    of `rest` stands still after all, seen by a lens a little out of focus, and a share of `soft` of
    the others move behind such a lens: softness alone is no motion. A coded aperture spreads each
    color in its own way, which tells the order of time: its blur may not be recolored or made anew,
    and its frames are not played backwards.
    """

    folder: Path
    _: KW_ONLY
    size: int
    seed: int
    noise: float = 0.01
    jpeg: float = 0.1
    discrete: float = 0.3
    rest: float = 0.0
    soft: float = 0.0
    recolour: bool = True

    def __post_init__(self) -> None:
        self.clips = open_array(self.folder, BankConfig.FILE)
        self.coded = setting(self.folder, "aperture", "standard") == "coded"
        if self.coded and (self.recolour or self.discrete or self.rest or self.soft):
            how = "set recolour=false, and discrete, rest and soft to 0"
            raise UsageError(f"{self.folder}: is seen through a coded aperture; {how}")

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Cut item `index`; there is no last one."""
        rng = default_rng((self.seed, index))
        number = rng.integers(len(self.clips))
        y, x = rng.integers(self.clips.shape[-1] - self.size + 1, size=2)
        place = (..., slice(y, y + self.size), slice(x, x + self.size))
        colours = rng.permutation(3) if self.recolour else np.arange(3)
        crop = torch.from_numpy(self.clips[number][:, colours][place])
        crop = _turned(crop, rng, (-1, -2))
        pictures = crop.contiguous().float() / 255
        blurry, sharp = pictures[0], pictures[1:]
        if rng.random() < self.discrete and not torch.equal(sharp[0], sharp[-1]):
            blurry = expose(to_linear(sharp, "gamma2.2"), "gamma2.2")
        if rng.random() < 0.5 and not self.coded:
            sharp = sharp.flip(0)
        if self.rest and rng.random() < self.rest:
            blurry = soften(sharp[MIDDLE, None], rng, "gamma2.2")[0]
            sharp = blurry.expand_as(sharp)
        elif self.soft and rng.random() < self.soft:
            blurry, *frames = soften(torch.cat([blurry[None], sharp]), rng, "gamma2.2")
            sharp = torch.stack(frames)
        blurry = wear(blurry, rng, noise=self.noise, jpeg=self.jpeg)
        return blurry, sharp


SEQUENCE_TRIES = 4
"""Draws of a sequence before one outside `SequenceConfig.blur_psnr` is taken all the same."""
STILL_BLUR = (0.02, 0.6)
"""Blur in pixels of nearly still sequences."""
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

    FILE: ClassVar = "sequences.npy"
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

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sequence: its blurry frames, then the sharp ones."""
        return 2, self.frames, 3, self.size, self.size


def draw_sequence(sources: Sources, config: SequenceConfig, index: int) -> Tensor:
    """Draw sequence `index`: blurry and sharp frames, [2, N, 3, S, S] uint8."""
    rng = default_rng((config.seed, index))
    kind = rng.random()
    nearly_still = kind >= 1 - config.still
    from_video = config.real <= kind < config.real + config.stills
    for _ in range(SEQUENCE_TRIES):
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
    footage = replace(config.footage, blur=STILL_BLUR) if still else config.footage
    return film(
        sources.picture(rng, still=from_video),
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

    Returns blurry and sharp frames, [N, 3, S, S] each, or None where no calm part was found.
    """
    real = config.real_windows
    long_enough = [v for v in sources.taken if isinstance(v, list) or len(v) >= min(real.taus)]
    for _ in range(real.tries if long_enough else 0):
        video = pick(long_enough, rng)
        if isinstance(video, list):
            start = int(rng.integers(max(1, len(video) - config.frames + 1)))
            numbers = to_and_fro(start + np.arange(config.frames), len(video))
            windows = [video[number] for number in numbers]
            shrink = 2 if rng.random() < real.half else 1
            codes = read_codes([*(w.blurry for w in windows), *(w.middle for w in windows)])
            pictures = at_size(cut_square(codes, rng, config.size * shrink), config.size)
            blurry, sharp = pictures.chunk(2)
            return blurry, sharp
        shutter = random_shutter(rng, real.taus, len(video), config.frames)
        wanted = shutter.length(config.frames)
        start = int(rng.integers(max(1, len(video) - wanted + 1)))
        shrink = 2 if rng.random() < real.half else 1
        shape = frames_of(video, [0]).shape[2:]
        side = min(config.size * shrink, *(s - s % shrink for s in shape))
        y, x = (int(rng.integers(s - side + 1)) for s in shape)
        cut = (..., slice(y, y + side), slice(x, x + side))
        numbers = to_and_fro(start + np.arange(wanted), len(video))
        looks = np.linspace(0, wanted - 1, LOOKS).astype(int)
        before = numbers[looks].clip(max=len(video) - 2)
        pairs = (frames_of(video, (before + after).tolist())[cut] for after in (0, 1))
        speeds = speed_of(*pairs) / shrink
        if speeds.quantile(0.9) > real.calm or speeds.max() > 2 * real.calm:
            continue
        frames = (at_size(frames_of(video, [n])[cut], config.size)[0] for n in numbers.tolist())
        exposed = list(expose_video(frames, shutter, config.curve))
        blurry, sharp = (torch.stack(kind) for kind in zip(*exposed, strict=True))
        return blurry, sharp
    return None


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


@dataclass(eq=False)
class SequenceCrops(Dataset[tuple[Tensor, Tensor]]):
    """Random crops of a bank of sequences: item i is a pure function of the seed and i.

    An item is (blurry, sharp), [N, 3, S, S] each in [0, 1], `frames` consecutive ones at one
    place. They are flipped, transposed, played backwards and their colours permuted; half of the
    blurry ones get noise of up to 1 %, and a share of `jpeg` of them are compressed.
    """

    folder: Path
    _: KW_ONLY
    frames: int
    size: int
    seed: int
    noise: float = 0.01
    jpeg: float = 0.1

    def __post_init__(self) -> None:
        self.sequences = open_array(self.folder, SequenceConfig.FILE)

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
        pair = _turned(pair, rng, (-1, -2, 1))
        blurry, sharp = pair.contiguous().float() / 255
        return wear(blurry, rng, noise=self.noise, jpeg=self.jpeg), sharp
