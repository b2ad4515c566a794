"""Models as programs use them: loaded once, run on pictures, batches and videos."""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from b2v.defaults import FPS, PHOTO_MODEL, PHOTO_MODELS, QUALITY, VIDEO_MODEL, VIDEO_MODELS
from b2v.errors import ShapeError, UsageError, WeightsError
from b2v.frames import FRAMES, MIN_SIDE, to_pixels
from b2v.inference.images import Restored, restore_photo, settle
from b2v.inference.runtime import Runtime, choose
from b2v.inference.videos import Deblurrer, is_for_video, is_path, line_of, load_line
from b2v.media.clips import Clip
from b2v.media.images import read_photo, tags_of
from b2v.media.metadata import Provenance, Tags
from b2v.models import Extractor, Prior, VideoNet
from b2v.weights.store import LoadedModel, LoadedVideoModel
from b2v.weights.store import load_model as load_weights

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
        """What networks need sides to be multiples of; pictures are padded to that and cropped."""
        return int(self._any.multiple)

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
        """What files that it made say of it."""
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

    @property
    def _any(self) -> Extractor | VideoNet:
        return cast("Extractor | VideoNet", self.net if self.net is not None else self.video_net)

    def restore(
        self,
        photo: Picture,
        *,
        middle: Tensor | None = None,
        frames: int = FRAMES,
        max_memory: float | None = None,
        done: Callable[[int], None] = lambda _: None,
    ) -> Restored:
        """Restore one photo: its frames, and the motion that was found; as of `restore_photo`."""
        return restore_photo(
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
