"""The sharp middle frame of a photo, and its motion: the prior at the scale that the blur asks for.

A network that was trained on crops fails where blur is as long as what it knows is wide, and does
well there at half the size. So it runs from coarse to fine: what it changed at a coarser level is
brought up and added to the photo, and a place takes the level at which motion explains the photo
best, against no motion. A finer level runs only where the motion that was found is short enough
for it and there is any: the cost follows the blur, not the number of pixels.

Then what blur is left is taken back along the motion, which is estimated anew from the sharper
frame (`b2v.models.motion`, `b2v.models.deconvolution`).
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.frames import FRAMES, Tile
from b2v.inference.runtime import Runtime, run_tiles
from b2v.models import Prior
from b2v.models.deconvolution import deconvolve, looks
from b2v.models.motion import CELL, EVIDENT, SMALL, Motion, estimate
from b2v.motion import move_along

COARSEST, COARSE_SIDE = 3, 512
"""Most halvings of a photo, and the longer side down to which it is halved."""
LEAST_SIDE = 64
"""Shorter side of a level, at least."""
SHORT = 32.0
"""Pixels of motion over the exposure up to which a level helps."""
SOME = 0.05
"""Share of a tile that has to be of such motion."""
CHEAP = 1_000_000
"""Pixels of a level up to which tiles are run all the same in which nothing is known to move."""
MOTION_PIXELS = 1_200_000
"""Pixels of a picture up to which its motion is sought in it, and not in one of half the size."""
SLOPE = 6.0
"""How firmly the level is taken with which motion explains more, as a log of costs."""
LONG, SOFT = 20.0, 3.0
"""Pixels of motion from which a coarser level is taken where motion is not sought, how firmly."""
LITTLE, MUCH = 0.6, (1.2, 1.2)
"""How far light is taken back, each time along motion that is found anew: from the frame of a
network that knows what is sharp, twice as far for each halving of what it saw, and of another one.

The former leaves little: on held-out scenes 0.4, 0.8 and two times 1.2 give 1.84, 1.78 and 1.62 dB
at the middle frame of videos, 3.77, 3.69 and 3.42 of photographs in motion.
"""
HEDGE = 0.6
"""How much of the photo is mixed in at the ends of the exposure where motion explains nothing: on
held-out scenes frames 1 and 7 gain 0.2 dB, and 0.03 more by 1.0, which leaves less crispness."""
BAND = 512
"""Rows that light is taken back in at once."""


def restored_middle(
    prior: Prior,
    blurry: Tensor,
    runtime: Runtime,
    *,
    middle: Tensor | None = None,
    done: Callable[[int], None] = lambda _: None,
) -> tuple[Tensor, Motion]:
    """Restore the middle frame, or take one that is given as it is; arguments as of `sharpen`."""
    if middle is not None:
        return middle, motion_of(blurry, middle)
    return sharpen(prior, blurry, runtime, done=done)


def moved(sharp: Tensor, motion: Motion, store: Tensor, unsure: Tensor | None = None) -> Tensor:
    """Move the middle frame [3, H, W] to the times of frames, and keep them in [T, 3, H, W].

    Each of seven frames is the middle of a seventh of the exposure: 1 and 7 are not at its ends.
    Far from the middle a sharp edge in a wrong place is worse than the photo, so that `unsure`,
    [3, H, W], is mixed in where the motion is in doubt.
    """
    frames, _, height, width = store.shape
    path, _ = motion.at(height, width)
    doubt = None if unsure is None else HEDGE * _spread(motion.doubt, height, width)
    times = (torch.arange(frames) - frames // 2) * (2 / FRAMES)
    look = math.ceil(float(path[1].abs().amax() * times[-1])) + 2
    for top in range(0, height, BAND):
        rows = slice(top, top + BAND)
        first = max(0, top - look)
        window = sharp[None, :, first : top + BAND + look]
        for k, time in enumerate(times.tolist()):
            shift = time * path[None, None, :, rows]
            frame = move_along(window, shift, top - first)[0, 0]
            if unsure is not None and doubt is not None:
                frame.lerp_(unsure[:, rows], min(1.0, abs(time)) * doubt[:, rows])
            store[k, :, rows] = frame.clamp_(0, 1)
    return store


def sharpen(
    prior: Prior,
    blurry: Tensor,
    runtime: Runtime,
    *,
    done: Callable[[int], None] = lambda _: None,
) -> tuple[Tensor, Motion]:
    """Restore the middle frame of a photo, and estimate the motion over its exposure.

    Args:
        prior: the network, on the runtime's device.
        blurry: [3, H, W] in [0, 1], on the CPU.
        runtime: device and precision.
        done: is told the pixels of each tile that the network has been run on.

    Returns:
        The frame [3, H, W] in [0, 1], and the motion by cells of the photo, maybe at a smaller
        scale (`at`). Where missed focus made the photo blurry (`Motion.is_defocus`) it is the
        frame: light that is taken back along a motion would explain it, and be no sharper.

    Raises:
        WeightsError: the network gives values that are not finite.

    """
    photo, sharp, motion = blurry, blurry, None
    for level in levels(prior, *blurry.shape[1:]):
        below, photo = photo, shrunk(blurry, level)
        coarse = photo if motion is None else photo + grown(sharp - below, photo)
        known = None if motion is None else motion.scaled(2.0)
        sharp, motion = _level(prior, photo, coarse, known, runtime, done)
    assert motion is not None
    if motion.is_defocus():
        return blurry, motion.scaled(2.0**level)
    sharp = sharp if level == 0 else blurry + grown(sharp - photo, blurry)
    sharp = sharp.clamp(0, 1)
    if prior.knows_sharp:
        changed = float(F.mse_loss(sharp, blurry).sqrt())
        sharp, motion = take_light_back(blurry, sharp, [LITTLE * 2**level])
        return sharp, motion.evident(changed)
    sharp, _ = take_light_back(blurry, sharp, MUCH)
    motion = motion_of(blurry, sharp)
    moved = _spread(motion.blurs, *blurry.shape[1:])
    return torch.lerp(blurry, sharp, moved), motion.without_doubt()


def first_level(height: int, width: int) -> int:
    """Tell how many times a photo is halved at the coarsest level."""
    wanted = math.ceil(math.log2(max(height, width) / COARSE_SIDE))
    possible = int(math.log2(max(1, min(height, width) / LEAST_SIDE)))
    return max(0, min(max(wanted, 1), possible, COARSEST))


def levels(prior: Prior, height: int, width: int) -> range:
    """List how many times a photo is halved for a network, the coarsest level first."""
    first = first_level(height, width)
    return range(first, min(prior.halvings, first) - 1, -1)


def planned_pixels(prior: Prior, height: int, width: int) -> int:
    """Count the pixels of all tiles of all levels of a photo: the network is run on no more."""
    sizes = (_halved(height, width, level) for level in levels(prior, height, width))
    return sum(tile.height * tile.width for size in sizes for tile in prior.tiling.tiles(*size))


def motion_level(photo: Tensor) -> int:
    """Tell how many times a photo is halved before its motion is sought in it."""
    return max(0, math.ceil(math.log(photo[0].numel() / MOTION_PIXELS, 4)))


def shrunk(picture: Tensor, level: int) -> Tensor:
    """Halve a picture [3, H, W] so many times."""
    if level == 0:
        return picture
    height, width = picture.shape[1:]
    size = _halved(height, width, level)
    smaller = F.interpolate(picture[None], size, mode="bicubic", antialias=True)
    return smaller[0].clamp(0, 1)


def _halved(height: int, width: int, level: int) -> tuple[int, int]:
    return max(1, round(height / 2**level)), max(1, round(width / 2**level))


def grown(change: Tensor, like: Tensor) -> Tensor:
    """Bring what was changed at a coarser level up to the size of another one."""
    return F.interpolate(change[None], like.shape[1:], mode="bicubic")[0]


def _level(
    prior: Prior,
    photo: Tensor,
    coarse: Tensor,
    motion: Motion | None,
    runtime: Runtime,
    done: Callable[[int], None],
) -> tuple[Tensor, Motion]:
    """Run the prior on one level, and take the coarser picture where that is the better one."""
    height, width = photo.shape[1:]
    change, share = run_tiles(
        prior,
        photo,
        runtime,
        wanted=lambda tile: motion is None or _helps(tile, motion, height * width),
        done=done,
    )
    if motion is None:
        fine = photo + change
        return fine, estimate(photo, fine.clamp(0, 1))
    if not share.any():
        return coarse, motion
    fine = torch.lerp(coarse, photo + change, share)
    if height * width > MOTION_PIXELS:
        coarser = ((motion.lengths - LONG) / SOFT).sigmoid()
        return torch.lerp(fine, coarse, _spread(coarser, height, width)), motion
    found, other = (estimate(photo, one.clamp(0, 1)) for one in (fine, coarse))
    coarser = (SLOPE * (other.explained - found.explained)).sigmoid()
    coarser = F.avg_pool2d(coarser[None], 5, 1, 2, count_include_pad=False)[0]
    sharp = torch.lerp(fine, coarse, _spread(coarser, height, width))
    return sharp, found.where(coarser > 0.5, other)


def _helps(tile: Tile, motion: Motion, pixels: int) -> bool:
    """Tell whether a network can help in a tile: its motion is short enough, and there is some."""
    part = Tile(*(round(side / CELL) for side in tile))
    lengths = part.of(motion.lengths)
    good = lengths <= SHORT
    if pixels > CHEAP:
        good &= (lengths > SMALL[0]) & (part.of(motion.explained) > EVIDENT[0])
    return bool(good.float().mean() > SOME)


def _spread(cells: Tensor, height: int, width: int) -> Tensor:
    """Bring values of cells [h, w] to the pixels of a picture, [1, H, W]."""
    return F.interpolate(cells[None, None], (height, width), mode="bilinear")[0]


def motion_of(blurry: Tensor, sharp: Tensor) -> Motion:
    """Find the motion that explains a photo with a frame, maybe in smaller ones of both."""
    level = motion_level(blurry)
    return estimate(shrunk(blurry, level), shrunk(sharp, level)).scaled(2.0**level)


def take_light_back(
    blurry: Tensor, sharp: Tensor, amounts: Iterable[float] = (LITTLE,)
) -> tuple[Tensor, Motion]:
    """Take back what blur is left in a frame along its motion; both are [3, H, W] in [0, 1].

    Returns the frame, and the motion that it was last taken back along: what is sought anew with
    the sharper frame is no nearer to the truth (held-out videos: 0.04 dB less).
    """
    for amount in amounts:
        motion = motion_of(blurry, sharp)
        sharp = _deconvolved(blurry, sharp, motion, amount)
    return sharp, motion


def _deconvolved(blurry: Tensor, sharp: Tensor, motion: Motion, amount: float) -> Tensor:
    """Correct a frame in bands of rows."""
    height, width = blurry.shape[1:]
    path, trust = motion.at(height, width)
    reach = float(path.norm(dim=0).amax())
    look = looks(reach)
    restored = torch.empty_like(sharp)
    for top in range(0, height, BAND):
        bottom, first, last = min(top + BAND, height), max(0, top - look), top + BAND + look
        seen, frame, paths, share = (x[None, :, first:last] for x in (blurry, sharp, path, trust))
        found = deconvolve(seen, frame, paths, share, reach, amount)
        restored[:, top:bottom] = found[0, :, top - first : bottom - first]
    return restored
