"""From one blurry photo to seven frames: pad, run, crop, clamp, align.

`restore` works on tensors; `extract` is what the command does, from a file to a clip.
"""

import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v import strips
from b2v.defaults import PHOTO_MODEL
from b2v.direction import in_one_direction
from b2v.errors import ShapeError, UsageError, WeightsError
from b2v.frames import COUNTS, FRAMES, check_frame, crop_back, inner, pad_to_multiple
from b2v.media import Clip, read_photo
from b2v.media.tags import Tags, tags_of
from b2v.memory import Plan, make_plan
from b2v.models import Cascade, Extractor, Unfold
from b2v.models.apart import Apart, Pairs
from b2v.provenance import Provenance
from b2v.runtime import Runtime, choose, is_finite, is_out_of_memory, memory_for, release, tried
from b2v.weights import LoadedModel, cache_dir, load_model

FPS = 10.0
"""Frames a second at which a clip is played when nothing else is said."""
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
) -> Tensor:
    """Estimate the seven frames of one exposure.

    Args:
        net: model that lies on the runtime's device (`Runtime.place`).
        blurry: [3, H, W] in [0, 1], at least 16 x 16 pixels.
        runtime: device and precision; an overflow in half precision is run again in fp32.
        middle: sharp middle frame of the same shape, used instead of the net's own.
        align: have all of the picture run in one direction of time (`b2v.direction`).
        frames: one of `COUNTS`; five are the inner ones of seven, more go on at both ends, into
            the time before and after the exposure.
        max_memory: bytes that the process may hold; 60 % of what is free without.

    Returns:
        [frames, 3, H, W] in [0, 1], on the CPU, fp32, or fp16 where the memory is too small for
        that (`b2v.memory`); each a seventh of the exposure after the last.

    Raises:
        UsageError: the model cannot give so many frames.
        ShapeError: `blurry` is not such a picture, or `middle` has another shape.
        WeightsError: the networks give values that are not finite, also in fp32.
        B2VError: the memory is too small for the picture, also in smaller strips.

    """
    check_count(net, frames)
    pictures, (height, width) = _checked(blurry, middle), blurry.shape[1:]
    count = max(frames, FRAMES)
    with memory_for(height, width, "photo"):
        plan = plan_for(net, height, width, runtime, frames=count, max_memory=max_memory)
        restored = _run(net, pictures, runtime, plan, count)
        if restored is not None:
            torn = align and not isinstance(net, Unfold)  # whose paths are in one direction
            aligned = in_one_direction(restored, in_place=True) if torn else restored
            return inner(aligned, frames).cpu()
    if runtime.precision == "fp32":
        raise WeightsError("the networks give values that are not finite; use other weights")
    full = Runtime(runtime.device, "fp32")
    return restore(
        net, blurry, full, middle=middle, align=align, frames=frames, max_memory=max_memory
    )


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
    hunger = None
    if strips.goes_in_strips(net):
        hunger = strips.appetite(net, frames, height, width)
    return make_plan(
        hunger,
        frames,
        height,
        width,
        multiple=net.multiple,
        device=runtime.device,
        limit=max_memory,
    )


def settle(runtime: Runtime, loaded: LoadedModel) -> Runtime:
    """Find out, once a machine, whether half precision that nobody asked for will do."""
    record = cache_dir() / "records" / "precision.json"
    return tried(runtime, partial(trial, loaded), loaded.sha256, record)


def trial(loaded: LoadedModel, runtime: Runtime) -> Tensor:
    """Restore the small picture by which ways to run a model are compared."""
    noise = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, PROBE // 8, PROBE // 8, generator=noise)
    sample = F.interpolate(coarse, scale_factor=8.0, mode="bilinear")[0]
    return restore(runtime.place(loaded.net), sample, runtime, align=False)


def seconds_for(net: Extractor, height: int, width: int, runtime: Runtime) -> float:
    """Estimate how long `restore` takes, by a small picture that is restored for it.

    Small pictures, which take no time worth telling, are given 0 at once.
    """
    if height * width < PROBED:
        return 0.0
    sample = torch.rand(3, PROBE, PROBE)
    restore(net, sample, runtime, align=False)
    started = time.perf_counter()
    restore(net, sample, runtime, align=False)
    return (time.perf_counter() - started) * height * width / PROBE**2


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


def _run(
    net: Extractor, pictures: list[Tensor], runtime: Runtime, plan: Plan, frames: int
) -> Tensor | None:
    """Run networks as planned, in smaller strips where the memory is too small for that.

    Returns the frames, cropped and clamped; None where a value is not finite.
    """
    if not strips.goes_in_strips(net) or plan.whole:
        given = (_upload(p, net.multiple, runtime) for p in pictures)
        with runtime.autocast():
            restored = (net(*given) if frames == FRAMES else net(*given, frames=frames))[0].float()
        finite = bool(restored.isfinite().all())
        return crop_back(restored, *pictures[0].shape[1:]).clamp_(0, 1) if finite else None
    smaller: Plan | None = plan
    while smaller is not None:
        try:
            return _run_in_strips(net, pictures, runtime, smaller, frames)
        except RuntimeError as error:
            smaller = plan.halved(net.multiple)
            if not is_out_of_memory(error) or smaller is None:
                raise
            plan = smaller
        release(runtime.device)
    return None


def _run_in_strips(
    net: Cascade | Unfold, pictures: list[Tensor], runtime: Runtime, plan: Plan, frames: int
) -> Tensor | None:
    height, width = pictures[0].shape[1:]
    padded = [pad_to_multiple(picture[None], net.multiple) for picture in pictures]
    restored = plan.store(frames, height, width)
    with runtime.autocast():
        for k, top, rows in strips.in_strips(
            net,
            padded[0],
            plan.rows,
            middle=padded[1] if len(padded) > 1 else None,
            frames=frames,
            device=runtime.device,
        ):
            if not is_finite(rows):
                return None
            kept = restored[k, :, top : top + rows.shape[2]]
            kept.copy_(crop_back(rows[0], kept.shape[1], width).clamp(0, 1))
    return restored


def extract(
    photo: str | Path | Tensor,
    *,
    middle: str | Path | Tensor | None = None,
    model: str = PHOTO_MODEL,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    fps: float = FPS,
    frames: int = FRAMES,
    max_memory: float | None = None,
) -> Clip:
    """Turn one blurry photo into a sharp clip of seven frames.

    Args:
        photo: a file, or [3, H, W] in [0, 1], RGB, sRGB-encoded.
        middle: sharp picture of the middle of the exposure from elsewhere, if there is one.
        model: name of the weights, as `b2v weights list` shows them.
        weights: folder or file to take weights from instead.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16.
        fps: frames a second of the clip.
        frames: 5, 7, 9, 11 or 13; those beyond seven lie before and after the exposure.
        max_memory: bytes that the process may hold; 60 % of what is free without.

    Returns:
        The clip; `clip.frames` is [frames, 3, H, W], `clip.save("clip.mp4")` writes it and says
        there what made it.

    Raises:
        B2VError: the photo, the weights or the device are not as they should be.

    """
    loaded = load_model(model, weights=None if weights is None else Path(weights))
    runtime = settle(choose(device, precision), loaded)
    net = runtime.place(loaded.net)
    check_count(net, frames)
    sharp = None if middle is None else _pixels(middle)
    restored = restore(
        net, _pixels(photo), runtime, middle=sharp, frames=frames, max_memory=max_memory
    )
    tags = Tags() if isinstance(photo, Tensor) else tags_of(photo)
    made = Provenance(model=loaded.name, sha256=loaded.sha256, licence=loaded.licence)
    return Clip(restored, fps, tags.made_by(made))


def check_count(net: Extractor, frames: int) -> None:
    """Check that a model can give so many frames; raises UsageError."""
    if frames not in COUNTS:
        raise UsageError(f"{frames} frames; expected {', '.join(map(str, COUNTS))}")
    if frames > FRAMES and isinstance(net, Apart | Pairs):
        raise UsageError(f"this model gives {FRAMES} frames at most, not {frames}; take -m b2v")


def _pixels(photo: str | Path | Tensor) -> Tensor:
    return photo if isinstance(photo, Tensor) else read_photo(Path(photo)).on_white()


def _upload(picture: Tensor, multiple: int, runtime: Runtime) -> Tensor:
    padded = pad_to_multiple(picture[None], multiple)
    return padded.to(runtime.device, memory_format=torch.channels_last)


def _size(picture: Tensor) -> str:
    return f"{picture.shape[-1]}x{picture.shape[-2]}"


__all__ = ["FPS", "check_count", "extract", "plan_for", "restore", "seconds_for", "settle"]
