"""What networks are trained on: a bank of short clips, each blurred with known sharp frames.

A bank is drawn once from folders of photographs, cut-out objects (pictures with alpha), videos
and sets of blurry pictures with their sharp frames, by `draw(sources, config, index)`, a pure
function of the seed and the index; it is kept as one memory-mapped array, so that all stages and
resumed runs share it. A `Crops` dataset then cuts random, flipped, recoloured and noisy crops out
of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from b2v.augment import soften, wear
from b2v.bank import Part, fill, open_array, setting
from b2v.color import Curve, to_encoded, to_linear
from b2v.errors import DatasetError, UsageError
from b2v.frames import FRAMES, MIDDLE
from b2v.metrics import psnr
from b2v.sources import Sources, at_size, cut_square, pick, read_codes, to_codes
from b2v.synth.aperture import FRAME_STEPS, Optics, by_frame, optical_psfs, through_psfs
from b2v.synth.exposure import expose
from b2v.synth.motion import MotionConfig, render

Aperture = Literal["standard", "coded"]
"""Whether the lens is open as usual, or has the phase mask and focus sweep of `Optics`."""

TRIES = 6
"""Draws of a clip before one outside `BankConfig.blur_psnr` is taken all the same."""


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
    aperture: Aperture = "standard"
    """What the blur is seen through; the same index has the same frames either way."""


def draw(sources: Sources, config: BankConfig, index: int) -> Tensor:
    """Draw clip `index`: the blurry picture and its seven frames, [8, 3, S, S] uint8."""
    rng = default_rng((config.seed, index))
    kind = rng.random()
    for _ in range(TRIES):
        if (kind < config.real and sources.taken) or not sources.pictures:
            blurry, sharp = real_window(sources, rng, config)
            light_lin = to_linear(sharp, config.curve)
        else:
            still = (kind < config.real + config.stills and sources.videos) or not sources.photos
            photo = sources.random_still(rng) if still else sources.random_photo(rng)
            scene = render(
                photo,
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
    """See instants [N, 3, H, W] of linear light through the coded aperture: [3, H, W], encoded.

    Seven instants are frames, which stand still while the focus moves on.
    """
    light = through_psfs(light_lin, _psfs(len(light_lin)))
    return to_encoded(light.clamp(0, 1), curve)


@lru_cache(maxsize=16)
def _psfs(count: int) -> Tensor:
    steps = FRAME_STEPS if count == FRAMES else 1
    return by_frame(optical_psfs(Optics(), count * steps), count)


def real_window(sources: Sources, rng: Generator, config: BankConfig) -> tuple[Tensor, Tensor]:
    """Average seven neighbouring frames of a video, or take a window of a set as it is.

    Returns:
        The blurry picture [3, S, S] and its frames [7, 3, S, S], at full or half size.

    """
    taken = pick(sources.taken, rng)
    if isinstance(taken, Tensor):
        if len(taken) < FRAMES:
            raise DatasetError(f"a video has {len(taken)} frames; at least {FRAMES} are needed")
        shrink = int(rng.choice((1, 2)))
        start = int(rng.integers(len(taken) - FRAMES + 1))
        frames = taken[start : start + FRAMES]
        sharp = at_size(cut_square(frames, rng, config.size * shrink), config.size)
        return expose(to_linear(sharp, config.curve), config.curve), sharp
    window = pick(taken, rng)
    if len(window.sharp) != FRAMES:
        raise DatasetError(
            f"{window.blurry}: only its middle frame is kept; training on photos needs {FRAMES}"
        )
    pictures = read_codes([window.blurry, *window.sharp])
    cut = cut_square(pictures, rng, config.size * int(rng.choice((1, 2))))
    blurry, *sharp_frames = at_size(cut, config.size)
    return blurry, torch.stack(sharp_frames)


def build_bank(sources: Sources, config: BankConfig, folder: Path) -> Iterator[int]:
    """Draw all clips of a bank into `folder`, going on where an earlier run stopped.

    The clips lie in `clips.npy`, [clips, 8, 3, S, S] uint8, blurry picture first. Yields the number
    of clips done.

    Raises:
        DatasetError: `folder` holds a bank of another config, or there is nothing to draw from.

    """
    sources.check(folder)
    part = Part("clips.npy", np.uint8, (1 + FRAMES, 3, config.size, config.size))
    yield from fill(folder, config, (part,), partial(_draw, sources, config))


def _draw(sources: Sources, config: BankConfig, index: int) -> tuple[NDArray[np.uint8]]:
    return (draw(sources, config, index).numpy(),)


def open_clips(folder: Path) -> NDArray[np.uint8]:
    """Map the clips [N, 8, 3, S, S] of a bank into memory.

    Raises DatasetError when there is no bank.
    """
    return open_array(folder, "clips.npy")


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Random crops of a bank: item i is a pure function of the seed and i.

    An item is (blurry [3, S, S], sharp [7, 3, S, S]) in [0, 1]. Crops are flipped, transposed,
    played backwards and their colours permuted; half of the blurry ones get noise of up to 1 % (Jin
    et al., Sec. 6), and a share of `jpeg` of them are compressed as a camera does. The blur of a
    share of `discrete` is the light of the seven frames alone, as when a video is averaged. A share
    of `rest` stands still after all, seen by a lens a little out of focus, and a share of `soft` of
    the others move behind such a lens: softness alone is no motion. Of `colours` = 1 there is the
    first of the three alone, which is any of them where they are permuted: [1, S, S] and [7, 1, S,
    S]. A coded aperture spreads each colour in its own way: its blur may not be recoloured or made
    anew.
    """

    def __init__(
        self,
        folder: Path,
        *,
        size: int,
        seed: int,
        noise: float = 0.01,
        jpeg: float = 0.1,
        discrete: float = 0.3,
        rest: float = 0.0,
        soft: float = 0.0,
        colours: int = 3,
        recolour: bool = True,
    ) -> None:
        self.clips = open_clips(folder)
        if setting(folder, "aperture", "standard") == "coded" and (
            recolour or discrete or rest or soft
        ):
            raise UsageError(
                f"{folder}: is seen through a coded aperture; set recolour=false, and"
                " discrete, rest and soft to 0"
            )
        self.size, self.seed = size, seed
        self.noise, self.jpeg, self.discrete, self.rest = noise, jpeg, discrete, rest
        self.soft, self.colours, self.recolour = soft, colours, recolour

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Cut item `index`; there is no last one."""
        rng = default_rng((self.seed, index))
        number = rng.integers(len(self.clips))
        y, x = rng.integers(self.clips.shape[-1] - self.size + 1, size=2)
        place = (..., slice(y, y + self.size), slice(x, x + self.size))
        colours = rng.permutation(3) if self.recolour else np.arange(3)
        crop = torch.from_numpy(self.clips[number][:, colours][place])
        if rng.random() < 0.5:
            crop = crop.flip(-1)
        if rng.random() < 0.5:
            crop = crop.flip(-2)
        if rng.random() < 0.5:
            crop = crop.mT
        pictures = crop.contiguous().float() / 255
        blurry, sharp = pictures[0], pictures[1:]
        if rng.random() < self.discrete:
            blurry = expose(to_linear(sharp, "gamma2.2"), "gamma2.2")
        if rng.random() < 0.5:
            sharp = sharp.flip(0)
        if self.rest and rng.random() < self.rest:
            blurry = soften(sharp[MIDDLE, None], rng, "gamma2.2")[0]
            sharp = blurry.expand_as(sharp)
        elif self.soft and rng.random() < self.soft:
            blurry, *frames = soften(torch.cat([blurry[None], sharp]), rng, "gamma2.2")
            sharp = torch.stack(frames)
        blurry = wear(blurry, rng, noise=self.noise, jpeg=self.jpeg)
        return blurry[: self.colours], sharp[:, : self.colours]
