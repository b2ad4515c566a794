"""From one blurry photo to seven frames: pad, run, crop, clamp, align.

`restore` works on tensors; `extract` is what the command does, from a file to a clip.
"""

from pathlib import Path

import torch
from torch import Tensor

from b2v.direction import in_one_direction
from b2v.errors import ShapeError, WeightsError
from b2v.frames import check_frame, crop_back, pad_to_multiple
from b2v.media import Clip, read_photo
from b2v.models import Cascade, Unroll
from b2v.runtime import Runtime, choose, memory_for
from b2v.weights import load_model

FPS = 10.0
"""Frames a second at which a clip is played when nothing else is said."""


@torch.inference_mode()
def restore(
    net: Cascade | Unroll,
    blurry: Tensor,
    runtime: Runtime,
    *,
    middle: Tensor | None = None,
    align: bool = True,
) -> Tensor:
    """Estimate the seven frames of one exposure.

    Args:
        net: model that lies on the runtime's device (`Runtime.place`).
        blurry: [3, H, W] in [0, 1], at least 16 x 16 pixels.
        runtime: device and precision; an overflow in half precision is run again in fp32.
        middle: sharp middle frame of the same shape, used instead of the net's own.
        align: have all of the picture run in one direction of time (`b2v.direction`).

    Returns:
        [7, 3, H, W] in [0, 1], on the CPU.

    Raises:
        ShapeError: `blurry` is not such a picture, or `middle` has another shape.
        WeightsError: the networks give values that are not finite, also in fp32.
        B2VError: the memory is too small for the picture.

    """
    check_frame(blurry, "photo")
    pictures = [blurry]
    if middle is not None:
        check_frame(middle, "middle frame")
        if middle.shape != blurry.shape:
            raise ShapeError(
                f"the middle frame is {_size(middle)} pixels and the photo {_size(blurry)}; "
                "they must be of one size"
            )
        pictures.append(middle)
    height, width = blurry.shape[1:]
    with memory_for(height, width, "photo"), runtime.autocast():
        frames = net(*(_upload(p, net.multiple, runtime) for p in pictures))[0].float()
    if not frames.isfinite().all():
        if runtime.precision == "fp32":
            raise WeightsError("the networks give values that are not finite; use other weights")
        full = Runtime(runtime.device, "fp32")
        return restore(net, blurry, full, middle=middle, align=align)
    with memory_for(height, width, "photo"):
        frames = crop_back(frames, height, width).clamp(0, 1)
        return (in_one_direction(frames) if align else frames).cpu()


def extract(
    photo: str | Path | Tensor,
    *,
    middle: str | Path | Tensor | None = None,
    model: str = "b2v",
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    fps: float = FPS,
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

    Returns:
        The clip; `clip.frames` is [7, 3, H, W], `clip.save("clip.mp4")` writes it.

    Raises:
        B2VError: the photo, the weights or the device are not as they should be.

    """
    runtime = choose(device, precision)
    loaded = load_model(model, weights=None if weights is None else Path(weights))
    net = runtime.place(loaded.net)
    frames = restore(
        net, _pixels(photo), runtime, middle=None if middle is None else _pixels(middle)
    )
    return Clip(frames, fps)


def _pixels(photo: str | Path | Tensor) -> Tensor:
    return photo if isinstance(photo, Tensor) else read_photo(Path(photo)).on_white()


def _upload(picture: Tensor, multiple: int, runtime: Runtime) -> Tensor:
    padded = pad_to_multiple(picture[None], multiple)
    return padded.to(runtime.device, memory_format=torch.channels_last)


def _size(picture: Tensor) -> str:
    return f"{picture.shape[-1]}x{picture.shape[-2]}"


__all__ = ["FPS", "extract", "restore"]
