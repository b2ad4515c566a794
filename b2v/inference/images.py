"""From one blurry photo to seven frames: pad, run, crop, clamp, align; and what is said of it.

`restore` works on tensors; `Model` is what programs use: loaded once, run on pictures, batches and
videos. What is said of a photo follows from the motion that explains the blur, and from how well
the frames explain the photo.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.defaults import FPS, PHOTO_MODEL, PHOTO_MODELS, QUALITY, VIDEO_MODEL, VIDEO_MODELS
from b2v.errors import ShapeError, UsageError, WeightsError
from b2v.files import cache_dir
from b2v.frames import COUNTS, FRAMES, MIN_SIDE, check_frame, inner, to_pixels
from b2v.inference.pyramid import motion_level, moved, planned_pixels, restored_middle
from b2v.inference.runtime import (
    Plan,
    Runtime,
    choose,
    make_plan,
    memory_for,
    run_frames,
    run_tiles,
    tiles_of,
    tried,
)
from b2v.inference.videos import Deblurrer, is_for_video, is_path, line_of, load_line
from b2v.media.clips import Clip
from b2v.media.images import read_photo, tags_of
from b2v.media.metadata import Provenance, Tags
from b2v.metrics import psnr
from b2v.models import Cascade, Extractor, Prior, VideoNet
from b2v.models.cascade import Apart, JinMiddle, Pairs
from b2v.models.motion import HALF_LENGTHS, Motion
from b2v.motion import in_one_direction
from b2v.weights.store import LoadedModel, LoadedVideoModel
from b2v.weights.store import load_model as load_weights

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
DEFOCUS = "this looks like missed focus, not motion; it was left as it is"
TOO_LONG = "the motion is longer than b2v can follow in places"
UNEXPLAINED = "the frames do not reproduce parts of the photo; --reblur map.png shows where"


@dataclass(frozen=True)
class Restored:
    """A restored photo.

    Attributes:
        frames: [T, 3, H, W] in [0, 1], on the CPU.
        motion: that explains its blur, by cells of the photo; None of networks that seek none.
        out_of_focus: missed focus made it blurry, not motion, and each frame is the photo.

    """

    frames: Tensor
    motion: Motion | None = None
    out_of_focus: bool = False


def remarks(restored: Restored, again: Tensor, photo: Tensor) -> list[str]:
    """List what is off with a photo, or with what came of it, a line each.

    Args:
        restored: what came of it.
        again: the photo that its seven frames explain, [3, H, W] (`b2v.metrics.reblur`).
        photo: [3, H, W] in [0, 1].

    """
    if restored.out_of_focus:
        return [DEFOCUS]
    motion, found = restored.motion, []
    if motion is not None and is_still(motion) and has_detail(photo):
        middle = restored.frames[len(restored.frames) // 2]
        if psnr(middle, photo) > ALIKE:
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
    """Tell whether the re-blurred frames, `again` [3, H, W], differ from much of the photo."""
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
) -> Restored:
    """Estimate the seven frames of one exposure, and the motion that made the photo blurry.

    Args:
        net: model that lies on the runtime's device (`Runtime.place`).
        blurry: [3, H, W] in [0, 1], at least 16 x 16 pixels.
        runtime: device and precision; an overflow in half precision is run again in fp32.
        middle: sharp middle frame of the same shape, used instead of the net's own.
        align: have all of the picture run in one direction of time (`b2v.motion`), unless the net
            knows the order.
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
        turned = align and not net.order_known
        aligned = in_one_direction(restored, in_place=True) if turned else restored
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
    """Test, once per machine, whether the half precision chosen by default is good enough."""
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
    return restore(net, sample, runtime, align=False).frames


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


Picture = Any
"""A file by its name, a PIL image, an array [H, W, 3] or [H, W] of 8 or 16 bits or of floats in
[0, 1], or a tensor [3, H, W] in [0, 1]; RGB, sRGB-encoded."""


class Model:
    """A model with its weights, on a device.

    >>> model = b2v.load_model("maxim-1")
    >>> model.extract("photo.jpg").save("clip.mp4")
    >>> frames = model(batch)  # [B, 3, H, W] to [B, 7, 3, H, W]
    >>> flow = model.flow("photo.jpg")  # [2, H, W] in pixels
    >>> for frame in model.deblur(camera):
    ...     show(frame)

    Attributes:
        name: of the model.
        license: of its weights.
        sha256: one hash over the files of its networks.
        net: the network of photos, an `nn.Module` on the device; None of one for videos alone.
        runtime: device and precision.

    """

    min_size = MIN_SIDE
    """Pixels a side that pictures have at least."""

    def __init__(self, loaded: LoadedModel | LoadedVideoModel, runtime: Runtime) -> None:
        self.loaded = loaded
        self.name, self.license, self.sha256 = loaded.name, loaded.license, loaded.sha256
        self.net: Extractor | None = None
        if isinstance(loaded, LoadedModel):
            runtime = settle(runtime, loaded)
            self.net = runtime.place(loaded.net)
        self.runtime = runtime

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.runtime.device

    @property
    def precision(self) -> str:
        """What its convolutions are computed in: fp32, bf16 or fp16."""
        return self.runtime.precision

    @property
    def size_multiple(self) -> int:
        """Sides are padded to a multiple of this, and cropped back."""
        net = self.net if self.net is not None else self.video_net
        return int(cast("Extractor | VideoNet", net).multiple)

    @cached_property
    def video_net(self) -> VideoNet | None:
        """The network of videos with what goes with it; None of a model for photos alone."""
        if isinstance(self.loaded, LoadedVideoModel):
            return self.runtime.place(self.loaded.net)
        return line_of(self.net) if isinstance(self.net, Prior) else None

    @property
    def photo_net(self) -> Extractor:
        """The network of photos; raises WeightsError where the model is for videos alone."""
        if self.net is None:
            raise WeightsError(f"{self.name} is for videos; load {PHOTO_MODEL} for photos")
        return self.net

    @property
    def provenance(self) -> Provenance:
        """The metadata of files that it made."""
        return Provenance(model=self.name, sha256=self.sha256, license=self.license)

    def extract(
        self,
        photo: Picture,
        *,
        frames: int = FRAMES,
        middle: Picture | None = None,
        fps: float = FPS,
        max_memory: float | None = None,
    ) -> Clip:
        """Turn one blurry photo into a sharp clip.

        Args:
            photo: a picture.
            frames: 5, 7, 9, 11 or 13; those beyond seven lie before and after the exposure.
            middle: sharp picture of the middle of the exposure from elsewhere, if there is one.
            fps: frames a second of the clip.
            max_memory: bytes that the process may hold; 60 % of what is free without.

        Returns:
            The clip; `clip.frames` is [frames, 3, H, W], `clip.save("clip.mp4")` writes it and says
            there what made it.

        Raises:
            B2VError: the picture cannot be read or is none, or the model is for videos alone.

        """
        sharp = None if middle is None else pixels_of(middle)
        restored = self.restore(photo, middle=sharp, frames=frames, max_memory=max_memory)
        tags = tags_of(photo) if isinstance(photo, str | Path) else Tags()
        return Clip(restored.frames, fps, tags.made_by(self.provenance))

    def flow(self, photo: Picture) -> Tensor:
        """Estimate how far each pixel moved over the exposure.

        Returns:
            [2, H, W], x and y in pixels, on the CPU; 0 where nothing was found to move. The sign,
            which way time ran, cannot be known.

        Raises:
            UsageError: the model seeks no motion: it is no prior of a photo.

        """
        pixels = pixels_of(photo)
        motion = self.restore(pixels).motion
        if motion is None:
            others = ", ".join(PHOTO_MODELS.values())
            raise UsageError(f"{self.name} seeks no motion; load one of {others}")
        return 2 * motion.at(*pixels.shape[1:])[0]

    def __call__(self, batch: Tensor) -> Tensor:
        """Restore pictures [B, 3, H, W] in [0, 1]: [B, 7, 3, H, W] on the CPU, no gradients."""
        if batch.ndim != 4 or batch.shape[1] != 3:
            raise ShapeError(f"batch has shape {list(batch.shape)}; expected [B, 3, H, W] in RGB")
        return torch.stack([self.restore(picture).frames.float() for picture in batch.cpu()])

    def stream(self, *, duty: float | None = None) -> Deblurrer:
        """Start a video: `step(frame)` gives the restored frames, `flush()` the last ones.

        Args:
            duty: share of the time from frame to frame in which the shutter was open, in (0, 1];
                found from the blur where None.

        Raises:
            UsageError: `duty` is none.
            WeightsError: the model is for photos alone.

        """
        if self.video_net is None:
            raise WeightsError(f"{self.name} is for photos; load {VIDEO_MODEL} for videos")
        device, precision = str(self.device), "auto" if self.runtime.on_trial else self.precision
        return Deblurrer(weights=self.video_net, device=device, precision=precision, duty=duty)

    def deblur(self, frames: Iterable[Picture], *, duty: float | None = None) -> Iterator[Tensor]:
        """Restore the frames of a video, one after the other, as many as come in.

        Args:
            frames: pictures of one size.
            duty: as of `stream`.

        Returns:
            [3, H, W] in [0, 1] on the CPU; each is there when m more have been taken from `frames`.

        """
        return self.stream(duty=duty).run(map(pixels_of, frames))

    def __repr__(self) -> str:
        uses = [use for use, net in (("photos", self.net), ("videos", self.video_net)) if net]
        return f"<b2v model {self.name} for {' and '.join(uses)} on {self.runtime}>"

    def restore(
        self,
        photo: Picture,
        *,
        middle: Tensor | None = None,
        frames: int = FRAMES,
        max_memory: float | None = None,
        done: Callable[[int], None] = lambda _: None,
    ) -> Restored:
        """Restore one photo: its frames, and the motion that was found; as of the function."""
        return restore(
            self.photo_net,
            pixels_of(photo),
            self.runtime,
            middle=middle,
            frames=frames,
            max_memory=max_memory,
            done=done,
        )


def load_model(
    model: str | Path | None = None,
    *,
    quality: str = QUALITY,
    weights: str | Path | None = None,
    task: Literal["photo", "video"] | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Model:
    """Load a model for photos, for videos or for both.

    Args:
        model: name of a model, as `list_models` has it, the hub address of its card
            (`hf://owner/repo@revision/name.json`), or a file or folder, as a `Path` or with a
            slash in it.
        quality: fast, good or best, where no model is named.
        weights: folder or file that the model's weights are taken from instead.
        task: what it is for, photo or video, where only a model for that will do.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16.

    Raises:
        UsageError: the device is not there, or a word is unknown.
        WeightsError: there is no such model, it is for another task, or a file of it is missing
            or damaged.

    """
    usual = VIDEO_MODELS if task == "video" else PHOTO_MODELS
    if quality not in usual:
        raise UsageError(f"quality {quality!r} is unknown; choose {', '.join(usual)}")
    if weights is None and model is not None and is_path(model):
        model, weights = None, model
    name, place = str(model or usual[quality]), None if weights is None else Path(weights)
    runtime = choose(device, precision)
    if task == "video" or (task is None and is_for_video(name, weights=place)):
        return Model(load_line(name, weights=place), runtime)
    return Model(load_weights(name, weights=place), runtime)


def extract(
    photo: Picture,
    *,
    middle: Picture | None = None,
    quality: str = QUALITY,
    model: str | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    fps: float = FPS,
    frames: int = FRAMES,
    max_memory: float | None = None,
) -> Clip:
    """Turn one blurry photo into a sharp clip, by a model that is loaded for it.

    Arguments are as of `load_model` and `Model.extract`, which is for many photos.
    """
    where: dict[str, Any] = {"device": device, "precision": precision}
    loaded = load_model(model, quality=quality, weights=weights, task="photo", **where)
    return loaded.extract(photo, frames=frames, middle=middle, fps=fps, max_memory=max_memory)


def pixels_of(picture: Picture) -> Tensor:
    """Read a picture of any kind as [3, H, W] in [0, 1]; raises MediaError and ShapeError."""
    if isinstance(picture, Tensor):
        return picture
    if isinstance(picture, str | Path):
        return read_photo(picture).on_white()
    convert: Callable[[str], Any] | None = getattr(picture, "convert", None)  # PIL
    array = np.asarray(picture if convert is None else convert("RGB"))
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ShapeError(f"picture has shape {list(array.shape)}; expected [H, W, 3] or [H, W]")
    if array.dtype in (np.uint8, np.uint16):
        return to_pixels(array)
    if array.dtype.kind != "f":
        raise ShapeError(f"picture is of {array.dtype}; expected uint8, uint16 or floats in [0, 1]")
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1), dtype=np.float32))
