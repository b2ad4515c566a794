"""From one blurry photo to seven frames: pad, run, crop, clamp, align; and what is said of it.

`restore` works on tensors. What is said follows from the motion that explains the blur, and from
how well the frames explain the photo.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.defaults import PHOTO_MODEL
from b2v.errors import ShapeError, UsageError
from b2v.files import cache_dir
from b2v.frames import COUNTS, FRAMES, check_frame, inner
from b2v.inference.pyramid import motion_level, moved, planned_pixels, restored_middle
from b2v.inference.runner import run_frames, run_tiles, tiles_of
from b2v.inference.runtime import Plan, Runtime, make_plan, memory_for, tried
from b2v.metrics import psnr
from b2v.models import Cascade, Extractor
from b2v.models.cascade import Apart, JinMiddle, Pairs
from b2v.models.motion import HALF_LENGTHS, Motion
from b2v.models.prior import Prior
from b2v.motion import in_one_direction
from b2v.weights.store import LoadedModel

TRUSTED = 0.3
"""Log of costs from which motion is taken to explain a cell, as `Motion.explained` has it."""
MOVED, FEW = 2.0, 0.005
"""Pixels of motion that count as any, and the share of cells of such motion below which there is
none in the photo. A network that sharpens a sharp picture a little leaves up to 1.5 pixels."""
DETAIL = 0.01
"""Difference (rms) of pixels beside each other that the best tenth of the parts of a sharp photo
has at least: less of it, noise and fog and the dark, do not tell whether anything moved."""
LONGEST = HALF_LENGTHS[-2] + HALF_LENGTHS[-1]
"""Pixels of motion over the exposure, where it is sought, that are nearest to the longest known."""
BEYOND = 0.05
"""Share of the trusted cells of the longest motion from which there may be longer motion."""
PART, APART, PARTS = 32, 0.06, 0.1
"""Pixels a side of the parts in which frames and photo are compared, the difference (rms) from
which a part is not explained, and the share of such parts that is worth a word."""
ALIKE = 40.0
"""PSNR in dB of the middle frame as the photo from which nobody sees a difference."""
SHARP = "already sharp: no motion blur was found"
UNSEEN = "no motion blur was found; --quality good sees more"
DEFOCUS = "this looks like missed focus, not motion; it was left as it is"
TOO_LONG = "the motion is longer than b2v can follow in places"
UNEXPLAINED = "the frames do not reproduce parts of the photo; --reblur map.png shows where"


@dataclass(frozen=True)
class Restored:
    """What came of a photo.

    Attributes:
        frames: [T, 3, H, W] in [0, 1], on the CPU.
        motion: that explains its blur, by cells of the photo; None of networks that seek none.
        out_of_focus: missed focus made it blurry, not motion, and each frame is the photo.

    """

    frames: Tensor
    motion: Motion | None = None
    out_of_focus: bool = False


def remarks(restored: Restored, again: Tensor, photo: Tensor, *, fast: bool = False) -> list[str]:
    """List what is off with a photo, or with what came of it, a line each.

    Args:
        restored: what came of it.
        again: the photo that its seven frames explain, [3, H, W] (`b2v.metrics.reblur`).
        photo: [3, H, W] in [0, 1].
        fast: a small network sharpened it, with which motion explains less of real blur.

    """
    if restored.out_of_focus:
        return [DEFOCUS]
    motion, found = restored.motion, []
    if motion is not None and is_still(motion) and has_detail(photo):
        middle = restored.frames[len(restored.frames) // 2]
        if fast:
            found.append(UNSEEN)
        elif psnr(middle, photo) > ALIKE:
            found.append(SHARP)
    if motion is not None and is_too_long(motion, motion_level(photo)):
        found.append(TOO_LONG)
    if is_unexplained(again, photo):
        found.append(UNEXPLAINED)
    return found


def is_still(motion: Motion) -> bool:
    """Tell whether next to nothing moved during the exposure."""
    moved = (motion.explained > TRUSTED) & (motion.lengths > MOVED)
    return _share(moved) < FEW


def has_detail(photo: Tensor) -> bool:
    """Tell whether there is anything in a photo [3, H, W] that motion would blur."""
    gray = photo.mean(0)
    squared = (gray[1:, 1:] - gray[:-1, :-1]).square() / 2
    return float(_of_parts(squared).quantile(0.9)) > DETAIL


def is_too_long(motion: Motion, level: int) -> bool:
    """Tell whether there is motion as long as the longest of the search, at the halving `level`."""
    lengths = motion.lengths[motion.explained > TRUSTED]
    return bool(lengths.numel()) and _share(lengths > LONGEST * 2**level) > BEYOND


def is_unexplained(again: Tensor, photo: Tensor) -> bool:
    """Tell whether frames that come to a photo `again`, [3, H, W], leave much of it unexplained."""
    return _share(_of_parts((again - photo).square().mean(0)) > APART) > PARTS


def _of_parts(squared: Tensor) -> Tensor:
    """Root of the mean of squares [H, W] in each part, [h, w]."""
    parts = F.avg_pool2d(squared[None, None], PART, ceil_mode=True, count_include_pad=False)
    return parts[0, 0].sqrt()


def _share(chosen: Tensor) -> float:
    return float(chosen.float().mean())


PRIOR_BYTES, PHOTO_BYTES = 6500, 120
"""Bytes that a prior takes for each pixel of a tile, and all that goes with it of the photo."""
CASCADE_BYTES, JIN_BYTES = 1200, 2600
"""Bytes a pixel that cascades take of what they are run on at once: U-Nets, and the paper's own."""
PROBE, PROBED = 128, 500_000
"""Pixels a side of the picture whose time is measured, and pixels of one that is worth it."""


@torch.inference_mode()
def restore(
    net: Extractor,
    blurry: Tensor,
    runtime: Runtime,
    *,
    middle: Tensor | None = None,
    align: bool = True,
    frames: int = FRAMES,
    max_memory: float | None = None,
    done: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Estimate the seven frames of one exposure; all as of `restore_photo`, the frames alone."""
    return restore_photo(
        net,
        blurry,
        runtime,
        middle=middle,
        align=align,
        frames=frames,
        max_memory=max_memory,
        done=done,
    ).frames


@torch.inference_mode()
def restore_photo(
    net: Extractor,
    blurry: Tensor,
    runtime: Runtime,
    *,
    middle: Tensor | None = None,
    align: bool = True,
    frames: int = FRAMES,
    max_memory: float | None = None,
    done: Callable[[int], None] = lambda _: None,
) -> Restored:
    """Estimate the seven frames of one exposure, and the motion that made the photo blurry.

    Args:
        net: model that lies on the runtime's device (`Runtime.place`).
        blurry: [3, H, W] in [0, 1], at least 16 x 16 pixels.
        runtime: device and precision; an overflow in half precision is run again in fp32.
        middle: sharp middle frame of the same shape, used instead of the net's own.
        align: have all of the picture run in one direction of time (`b2v.motion`).
        frames: one of `COUNTS`; five are the inner ones of seven, more go on at both ends, into
            the time before and after the exposure.
        max_memory: bytes that the process may hold; 60 % of what is free without.
        done: is told the pixels of each tile that the networks have been run on.

    Returns:
        The frames, [frames, 3, H, W] in [0, 1], on the CPU, fp32, or fp16 where the memory is too
        small for that, each a seventh of the exposure after the last; and what a prior found. Of a
        photo that missed focus rather than motion made blurry each frame is the photo, unless a
        middle frame is given.

    Raises:
        UsageError: the model cannot give so many frames.
        ShapeError: `blurry` is not such a picture, or `middle` has another shape.
        WeightsError: the networks give values that are not finite, also in fp32.
        B2VError: the memory is too small for the picture.

    """
    check_count(net, frames)
    pictures, (height, width) = _checked(blurry, middle), blurry.shape[1:]
    count = max(frames, FRAMES)
    with memory_for(height, width, "photo"):
        plan = plan_for(net, height, width, runtime, frames=count, max_memory=max_memory)
        store = plan.store(count, height, width)
        if isinstance(net, Prior):
            sharp, motion = restored_middle(net, blurry, runtime, middle=middle, done=done)
            out_of_focus = middle is None and motion.is_defocus()
            unsure = blurry if net.knows_sharp else None
            restored = store.copy_(blurry) if out_of_focus else moved(sharp, motion, store, unsure)
            return Restored(inner(restored, frames), motion, out_of_focus)
        restored = run_frames(net, pictures, runtime, store, done=done).clamp_(0, 1)
        aligned = in_one_direction(restored, in_place=True) if align else restored
        return Restored(inner(aligned, frames))


def plan_for(
    net: Extractor,
    height: int,
    width: int,
    runtime: Runtime,
    *,
    frames: int = FRAMES,
    max_memory: float | None = None,
) -> Plan:
    """Plan how `restore` runs a picture; arguments as there, `max_memory` in bytes.

    Raises B2VError where the memory is too small for it.
    """
    at_once = max(tile.height * tile.width for tile in tiles_of(net, height, width))
    if isinstance(net, Prior):
        work = PRIOR_BYTES * at_once + PHOTO_BYTES * height * width
    else:
        normalizes = isinstance(net, Cascade) and isinstance(net.middle, JinMiddle)
        work = (JIN_BYTES if normalizes else CASCADE_BYTES) * at_once
    return make_plan(work, frames, height, width, device=runtime.device, limit=max_memory)


def settle(runtime: Runtime, loaded: LoadedModel) -> Runtime:
    """Find out, once a machine, whether half precision that nobody asked for will do."""
    record = cache_dir() / "records" / "precision.json"
    return tried(runtime, partial(trial, loaded), loaded.sha256, record)


@torch.inference_mode()
def trial(loaded: LoadedModel, runtime: Runtime) -> Tensor:
    """Run a model on the small picture by which ways to run it are compared.

    A prior is run alone: what is made of its picture depends on the motion that is found there.
    """
    noise = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, PROBE // 8, PROBE // 8, generator=noise)
    sample = F.interpolate(coarse, scale_factor=8.0, mode="bilinear")[0]
    net = runtime.place(loaded.net)
    if isinstance(net, Prior):
        return (sample + run_tiles(net, sample, runtime)[0]).clamp(0, 1)
    return restore(net, sample, runtime, align=False)


def pixels_to_run(net: Extractor, height: int, width: int, *, given: bool = False) -> int:
    """Count the pixels that `restore` runs networks on, at most: its `done` is told of no more.

    0 of a prior whose middle frame is `given`.
    """
    if isinstance(net, Prior):
        return 0 if given else planned_pixels(net, height, width)
    return sum(tile.height * tile.width for tile in tiles_of(net, height, width))


def seconds_for(
    net: Extractor, height: int, width: int, runtime: Runtime, *, given: bool = False
) -> float:
    """Estimate how long `restore` takes, by a small picture that the network is run on for it.

    Small pictures, and those of which a prior is `given` the middle frame, take no time worth
    telling: 0 at once.
    """
    pixels = pixels_to_run(net, height, width, given=given)
    return pixels * _seconds_a_pixel(net, runtime) if pixels >= PROBED else 0.0


@lru_cache(maxsize=1)
@torch.inference_mode()
def _seconds_a_pixel(net: Extractor, runtime: Runtime) -> float:
    """Measure it, once for all photos that are restored one after the other."""
    sample = torch.rand(3, PROBE, PROBE)
    run: Callable[[], object] = partial(restore, net, sample, runtime, align=False)
    if isinstance(net, Prior):
        run = partial(run_tiles, net, sample, runtime)
    run()
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) / PROBE**2


def _checked(blurry: Tensor, middle: Tensor | None) -> list[Tensor]:
    """List the pictures that a model is given, once they are as they should be."""
    check_frame(blurry, "photo")
    if middle is None:
        return [blurry]
    check_frame(middle, "middle frame")
    if middle.shape != blurry.shape:
        raise ShapeError(
            f"the middle frame is {_size(middle)} pixels and the photo {_size(blurry)}; "
            "they must be of one size"
        )
    return [blurry, middle]


def check_count(net: Extractor, frames: int) -> None:
    """Check that a model can give so many frames; raises UsageError."""
    if frames not in COUNTS:
        raise UsageError(f"{frames} frames; expected {', '.join(map(str, COUNTS))}")
    if frames > FRAMES and isinstance(net, Apart | Pairs):
        raise UsageError(
            f"this model gives {FRAMES} frames at most, not {frames}; take -m {PHOTO_MODEL}"
        )


def _size(picture: Tensor) -> str:
    return f"{picture.shape[-1]}x{picture.shape[-2]}"
