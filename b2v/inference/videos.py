"""The line of a video: a sharp frame by a network, then light taken back along the neighbors' flow.

    window of three frames -> how the middle one moves (b2v.models.neighbors)
                           -> a network at half the size, its change brought up
                           -> light taken back along the motion (b2v.models.deconvolution)

Networks that sharpen know blur of some pixels; at half the size they reach twice as far, and take
a quarter of the time. Where blur is long, a quarter of the size sharpens more, and is mixed in;
where it is short, the full size does, where asked for. What did not move while the shutter was
open comes through as it is.

`Deblurrer` does so frame by frame as they come, with any network for video. Memory does not grow:
kept are the 2m + 1 frames of the window and the network's state. A restored frame comes m frames
after its blurry one. Beyond its ends a video shows its first or last frame again.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.defaults import QUALITY, VIDEO_MODEL, VIDEO_MODELS
from b2v.errors import ShapeError, UsageError, WeightsError
from b2v.files import cache_dir
from b2v.frames import Tile, check_frame, crop_back, pad_to_multiple
from b2v.inference.pyramid import grown, shrunk
from b2v.inference.runtime import Runtime, choose, is_finite, memory_for, run_tiles, tried
from b2v.models import MAXIM_STAGES, PRIOR, VIDEO, Prior, needed_roles
from b2v.models.deconvolution import deconvolve
from b2v.models.dtb import BlendNet, VideoNet, VideoState
from b2v.models.maxim import Maxim
from b2v.models.motion import blurring
from b2v.models.neighbors import LAGS, Exposure, Passing, learned, passing, unknown
from b2v.weights.checkpoints import inspect
from b2v.weights.store import LoadedVideoModel, find_model, load_model, load_video_model

RELAXED, RELAXED_GRAY = 1.2, 2.0
"""By how much a correction is exaggerated, and one that is the same for all colors."""
BOLDER = 1.6
"""By how much the change of a network for video is exaggerated, which was trained at full size and
does less than it should at half of it: twelve clips gain 0.39 instead of 0.36 dB after all."""
SURE = 2
"""Power of the trust in motion with which light is taken back: what is half sure does harm."""
LONG, SOFT = (0.0, 20.0, 40.0, 80.0), 5.0
"""Pixels of motion from which a level is taken rather than the next finer one, and how firmly."""
WORTH, FEW = 0.3, 0.05
"""Share in which a level is taken from which it is worth it, and share of such pixels of a tile."""
BLURRY, MOST = 3.0, 0.95
"""Pixels of motion from which a frame is blurry, and the share of a frame that moves no further."""
LEAST_SIDE = 128
"""Pixels of the shorter side from which half the size is taken."""
COARSE = 8
"""Pixels, at the size at which flow is sought, of the squares in which it is told what moved."""


class Line(VideoNet):
    """Restores the frame in the middle of three; a network for video may be in it, or a prior."""

    multiple, inputs = 1, 3

    def __init__(self, net: VideoNet | Prior, *, both: bool = False, gray: bool = False) -> None:
        """Take a network.

        Args:
            net: for video, of a window of three frames, or a prior.
            both: run a prior at full size, too, where motion is short.
            gray: take light back of all colors at once, in half the time.

        """
        super().__init__()
        if isinstance(net, VideoNet) and net.inputs != self.inputs:
            raise ValueError(f"the network sees {net.inputs} frames; expected {self.inputs}")
        self.net, self.both, self.gray = net, both, gray
        self.duty: float | None = None
        """Share of the frame interval in which the shutter is open; found where None."""
        self.least_blur = 0.0
        """Pixels of motion over the exposure below which a frame is left as it is."""

    def state_shapes(self, height: int, width: int) -> dict[str, tuple[int, ...]]:
        """Shapes of what is handed on: the network's own, and what is known of the exposure."""
        shapes: dict[str, tuple[int, ...]] = {"exposure": (len(LAGS) + 3,)}
        if isinstance(self.net, VideoNet):
            size = _level_size(height, width)
            shapes |= self.net.state_shapes(*(n + -n % self.net.multiple for n in size))
        return shapes

    def forward(self, window: Tensor, state: VideoState | None = None) -> tuple[Tensor, VideoState]:
        """Restore the frame in the middle of three, [1, 3, 3, H, W]; as of `VideoNet`."""
        blurry = window[0, 1]
        moving = passing(window[0])
        exposure = learned(_exposure(state), moving, blurry)
        moving = moving.during(exposure.duty if self.duty is None else self.duty)
        lengths = F.avg_pool2d(moving.lengths, COARSE, ceil_mode=True)
        blurs = _spread(blurring(torch.ones_like(lengths[0]), lengths[0])[None], blurry)
        if moving.is_known and float(lengths.flatten().quantile(MOST)) < self.least_blur:
            blurs = torch.zeros_like(blurs)
        inner = VideoState()
        if isinstance(self.net, VideoNet):
            window, state = _within_scene(window, state, moving.cut)
            sharp, inner = self._by_window(self.net, window, state)
        elif moving.is_known and not blurs.any():
            sharp = blurry
        else:
            sharp = self._by_prior(self.net, blurry, _spread(moving.lengths, blurry))
        if moving.is_known:
            with torch.autocast(window.device.type, enabled=False):
                sharp = torch.lerp(blurry, self._taken_back(blurry, sharp.float(), moving), blurs)
        known = torch.cat([exposure.sums, exposure.sums.new_tensor([exposure.seen])])
        return sharp[None], inner._replace(exposure=known[None].to(window))

    def _by_window(
        self, net: VideoNet, window: Tensor, state: VideoState | None
    ) -> tuple[Tensor, VideoState]:
        blurry, level = window[0, 1], _level(*window.shape[3:])
        smaller = torch.stack([shrunk(frame, level) for frame in window[0]])
        height, width = smaller.shape[2:]
        restored, inner = net(pad_to_multiple(smaller, net.multiple)[None], state)
        change = crop_back(restored[0].float(), height, width) - smaller[1]
        return blurry + BOLDER**level * grown(change, blurry), inner

    def _by_prior(self, prior: Prior, blurry: Tensor, lengths: Tensor) -> Tensor:
        """Run a prior on the levels that lengths of motion [1, H, W] ask for, coarse ones first."""
        usual = _level(*blurry.shape[1:])
        finest = 0 if self.both else usual
        coarsest = usual + _level(*shrunk(blurry, usual).shape[1:])
        sharp, coarser = blurry, torch.zeros_like(lengths)
        for level in range(coarsest, finest - 1, -1):
            small = shrunk(blurry, level)
            share = 1 - coarser * _longer(lengths, level + 1)
            worth = _longer(lengths, level) if level == coarsest > finest else share
            worth = F.interpolate(worth[None], small.shape[1:], mode="area")[0]
            wanted = partial(_is_of_use, worth)
            change, ran = run_tiles(prior, small, None, wanted=wanted)
            ran = _spread(ran, blurry)
            sharp = torch.lerp(sharp, blurry + grown(change, blurry), share * ran)
            coarser = torch.maximum(coarser, ran)
        return sharp

    def _taken_back(self, blurry: Tensor, sharp: Tensor, moving: Passing) -> Tensor:
        """Take light back from a frame [3, H, W] along its motion."""
        return deconvolve(
            blurry[None],
            sharp.clamp(0, 1)[None],
            _spread(moving.path, blurry)[None],
            _spread(moving.trust.pow(SURE), blurry)[None],
            relaxed=RELAXED_GRAY if self.gray else RELAXED,
            bends=_spread(moving.bend, blurry)[None],
            gray=self.gray,
        )[0]


def line_of(net: VideoNet | Prior) -> VideoNet:
    """Put a network into the line that it is for; one of a paper stays alone."""
    if isinstance(net, Prior):
        return Line(net, both=isinstance(net.net, Maxim) and len(net.net.stages) > 1)
    if isinstance(net, BlendNet) and net.inputs == Line.inputs:
        return Line(net, gray=True)
    return net


def load_line(model: str, *, weights: Path | None = None) -> LoadedVideoModel:
    """Load what restores videos with a network for video, or with the prior of a photo.

    Args:
        model: as of `b2v.weights.store.load_model`.
        weights: likewise.

    Raises:
        UsageError: a hub address is malformed or names no revision.
        WeightsError: there is no such model, or it can restore no video.

    """
    if not {PRIOR, MAXIM_STAGES[0]} & {*_roles(model, weights)}:
        video = load_video_model(model, weights=weights)
        return replace(video, net=line_of(video.net))
    loaded = load_model(model, weights=weights)
    net = line_of(cast("Prior", loaded.net))
    return LoadedVideoModel(**{**vars(loaded), "net": net})


def is_for_video(model: str, *, weights: Path | None = None) -> bool:
    """Tell whether a model is for videos alone; arguments and errors as of `load_line`."""
    return needed_roles(_roles(model, weights)) == (VIDEO,)


def is_path(model: str | Path) -> bool:
    """Tell whether what names a model is a file or folder: a `Path`, or has a slash in it."""
    path = Path(model)
    is_name = isinstance(model, str) and (len(path.parts) == 1 or model.startswith("hf://"))
    return not is_name or path.suffix == ".safetensors"


def _roles(model: str, weights: Path | None) -> Collection[str]:
    if weights is not None and weights.is_file() and weights.suffix != ".json":
        return (inspect(weights).role,)
    return find_model(model, weights=weights).card.networks


def _within_scene(
    window: Tensor, state: VideoState | None, cut: tuple[bool, bool]
) -> tuple[Tensor, VideoState | None]:
    """Put the frame itself in the place of neighbors of other scenes, and forget the one before."""
    before, frame, after = window[0]
    scene = torch.stack([frame if cut[0] else before, frame, frame if cut[1] else after])
    return scene[None], None if cut[0] else state


def _exposure(state: VideoState | None) -> Exposure:
    if state is None or state.exposure is None:
        return unknown()
    known = state.exposure[0].double().cpu()
    return Exposure(known[:-1], int(known[-1]))


def _level(height: int, width: int) -> int:
    return 1 if min(height, width) >= LEAST_SIDE else 0


def _level_size(height: int, width: int) -> tuple[int, int]:
    level = _level(height, width)
    return round(height / 2**level), round(width / 2**level)


def _longer(lengths: Tensor, level: int) -> Tensor:
    """Share in which a level is taken rather than the next finer one."""
    return ((lengths - LONG[level]) / SOFT).sigmoid()


def _is_of_use(worth: Tensor, tile: Tile) -> bool:
    return bool((tile.of(worth) > WORTH).float().mean() > FEW)


def _spread(cells: Tensor, frame: Tensor) -> Tensor:
    """Bring values [C, h, w] to the pixels of a frame."""
    return F.interpolate(cells[None], frame.shape[1:], mode="bilinear")[0]


class Deblurrer:
    """Restores a video frame by frame.

    >>> deblurrer = b2v.Deblurrer()
    >>> for frame in camera:
    ...     restored = deblurrer.step(frame)  # None for the first m frames
    >>> last = list(deblurrer.flush())

    Gradients are not recorded. `torch.inference_mode` would do that too, but its tensors cannot
    be changed in place by the caller.
    """

    def __init__(
        self,
        *,
        weights: str | Path | VideoNet | Prior = VIDEO_MODELS[QUALITY],
        device: str = "auto",
        precision: str = "auto",
        duty: float | None = None,
    ) -> None:
        """Load the network and move it to the device.

        Args:
            weights: name of a model, as `b2v weights list` shows it, or the hub address of its
                card; a file or folder, as a `Path` or with a slash in it; or the network itself.
                A network for video that is given itself runs alone; all others are one part of
                `b2v.inference.videos.Line`.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: auto, fp32, bf16 or fp16.
            duty: share of the time from frame to frame in which the shutter was open, in (0, 1];
                found from the blur where None.

        Raises:
            UsageError: the device is not there, or a word is unknown.
            WeightsError: there are no such weights, or they are not for video.

        """
        runtime = choose(device, precision)
        self.net = runtime.place(_network(weights))
        self.duty = duty
        record = cache_dir() / "records" / "precision.json"
        self.runtime = tried(runtime, self._trial, _name(self.net), record)
        self.reset()

    @property
    def duty(self) -> float | None:
        """Share of the time in which the shutter is open; None where it is found or of no use."""
        return self.net.duty if isinstance(self.net, Line) else None

    @duty.setter
    def duty(self, duty: float | None) -> None:
        """Set it; raises UsageError for what is none."""
        if duty is not None and not 0 < duty <= 1:
            raise UsageError(f"duty cycle {duty:g}; expected more than 0 and 1 at most")
        if isinstance(self.net, Line):
            self.net.duty = duty

    @property
    def only_blurry(self) -> bool:
        """Whether frames are left as they are in which nothing moves as far as `BLURRY` pixels."""
        return isinstance(self.net, Line) and self.net.least_blur > 0

    @only_blurry.setter
    def only_blurry(self, only: bool) -> None:
        """Set it; a network that stays alone restores all frames."""
        if isinstance(self.net, Line):
            self.net.least_blur = BLURRY if only else 0.0

    def reset(self) -> None:
        """Forget the video so far: the next frame is the first of another one."""
        self._window: tuple[Tensor, ...] = ()
        self._state: VideoState | None = None
        self._size = (0, 0)
        self._taken = self._given = 0

    @torch.no_grad()
    def step(self, frame: Tensor) -> Tensor | None:
        """Take the next frame of the video.

        Args:
            frame: [3, H, W] in [0, 1], at least 16 x 16 pixels; it is copied.

        Returns:
            The restored frame of m steps ago, [3, H, W] in [0, 1], fp32 on the CPU; None while
            there is none yet. What overflows in half precision is run again in fp32.

        Raises:
            ShapeError: `frame` is not such a picture, or not of the size of those before it.
            WeightsError: the network gives values that are not finite, also in fp32.
            B2VError: the memory is too small for the frame.

        """
        check_frame(frame, f"frame {self._taken + 1}")
        size = (frame.shape[1], frame.shape[2])
        if self._window and size != self._size:
            raise ShapeError(
                f"frame {self._taken + 1} is {_pixels(size)} pixels and those before it"
                f" {_pixels(self._size)}; the frames of a video must be of one size"
            )
        padded = pad_to_multiple(frame, self.net.multiple)
        padded = padded.to(self.runtime.device, torch.float32, copy=True)
        self._size = size
        restored = self._advance((*(self._window or (padded,) * self.net.look_ahead), padded))
        self._taken += 1
        return restored

    @torch.no_grad()
    def flush(self) -> Iterator[Tensor]:
        """End the video: give the frames that are still due, m at most, and `reset`."""
        due = []
        while self._given < self._taken:
            restored = self._advance((*self._window, self._window[-1]))
            if restored is not None:
                due.append(restored)
        self.reset()
        return iter(due)

    def run(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """Restore a video from its first frame to its last: as many frames as come in."""
        for frame in frames:
            restored = self.step(frame)
            if restored is not None:
                yield restored
        yield from self.flush()

    def state_dict(self) -> dict[str, Tensor]:
        """Copy all that is known of the video, so that another Deblurrer can go on with it.

        Returns:
            On the CPU, of types that a safetensors file holds: `counts` (frames taken, given),
            `size` (H, W) and, once there are any, the `window` and the tensors of the state.

        """
        kept = {
            "counts": torch.tensor([self._taken, self._given]),
            "size": torch.tensor(self._size),
            "window": torch.stack(self._window) if self._window else None,
            **(self._state or VideoState())._asdict(),
        }
        return {
            name: tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, tensor in kept.items()
            if tensor is not None
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the video of which `state_dict` gave `state`, bit for bit as it would have.

        Raises:
            ShapeError: `state` is not that of a Deblurrer with a network of this kind.

        """
        _check_state(state, self.net)
        device = self.runtime.device
        taken, given = state["counts"].tolist()
        height, width = state["size"].tolist()
        self._taken, self._given, self._size = taken, given, (height, width)
        self._window = tuple(state["window"].to(device, copy=True)) if taken else ()
        # The layout of the weights is that of the states too; sums run in the same order then.
        self._state = VideoState(
            **{
                name: state[name].to(device, copy=True, memory_format=_layout(state[name]))
                for name in VideoState._fields
                if name in state
            }
        )

    @torch.no_grad()
    def _trial(self, runtime: Runtime) -> Tensor:
        """Restore one small frame in a precision, [1, 3, 64, 64] in [0, 1]."""
        noise = torch.Generator().manual_seed(0)
        frame = torch.rand(1, 1, 3, 64, 64, generator=noise).to(runtime.device)
        with runtime.autocast():
            restored, _ = self.net(frame.expand(-1, 2 * self.net.look_ahead + 1, -1, -1, -1))
        return restored.float().clamp(0, 1).cpu()

    def _advance(self, window: tuple[Tensor, ...]) -> Tensor | None:
        """Restore the centre of a full window; keep the window only when that has worked."""
        window, restored = window[-(2 * self.net.look_ahead + 1) :], None
        if len(window) == 2 * self.net.look_ahead + 1:
            frame, state = self._restore(torch.stack(window)[None])
            restored = crop_back(frame[0].float(), *self._size).clamp(0, 1).cpu()
            self._state, self._given = state, self._given + 1
        self._window = window
        return restored

    def _restore(self, window: Tensor) -> tuple[Tensor, VideoState]:
        """Run the network on [1, 2m+1, 3, H, W], in fp32 if half precision does not do."""
        full = Runtime(self.runtime.device, "fp32")
        for runtime in dict.fromkeys((self.runtime, full)):
            with memory_for(*self._size, "video"), runtime.autocast():
                frame, state = self.net(window, self._state)
            if all(is_finite(part) for part in (frame, *state) if part is not None):
                return frame, state
        raise WeightsError("the network gives values that are not finite; use other weights")


def deblur(
    frames: Iterable[Tensor],
    *,
    weights: str | Path | VideoNet | Prior = VIDEO_MODELS[QUALITY],
    device: str = "auto",
    precision: str = "auto",
    duty: float | None = None,
) -> Iterator[Tensor]:
    """Restore a video; the weights are loaded at once, the frames as they are asked for.

    Args:
        frames: [3, H, W] each, in [0, 1], of one size of at least 16 x 16 pixels.
        weights: as of `Deblurrer`.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16.
        duty: as of `Deblurrer`.

    Returns:
        The restored frames, as many, [3, H, W] in [0, 1] on the CPU. A frame is there when m
        more have been taken from `frames`.

    Raises:
        B2VError: the frames, the weights or the device are not as they should be.

    """
    return Deblurrer(weights=weights, device=device, precision=precision, duty=duty).run(frames)


def _network(weights: str | Path | VideoNet | Prior) -> VideoNet:
    if isinstance(weights, Prior):
        return line_of(weights)
    if not isinstance(weights, str | Path):
        return weights
    if is_path(weights):
        return load_line(VIDEO_MODEL, weights=Path(weights)).net
    return load_line(str(weights)).net


def _layout(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.contiguous_format


def _name(net: VideoNet) -> str:
    """Tell a network from others by its weights."""
    total = sum(float(weight.detach().double().abs().sum()) for weight in net.parameters())
    return f"video {total:.9g}"


def _check_state(state: Mapping[str, Tensor], net: VideoNet) -> None:
    """Check that a network can go on with a state; raises ShapeError."""
    if missing := {"counts", "size"} - set(state):
        raise ShapeError(
            f"the state has no {' and no '.join(sorted(missing))}; it is not a video's"
        )
    taken, given = state["counts"].tolist()
    height, width = (side + -side % net.multiple for side in state["size"].tolist())
    shapes: dict[str, tuple[int, ...]] = {"counts": (2,), "size": (2,)}
    if taken:
        frames = min(net.look_ahead + taken, 2 * net.look_ahead + 1)
        shapes["window"] = (frames, 3, height, width)
    if given:
        parts = net.state_shapes(height, width)
        shapes |= {name: (1, *shape) for name, shape in parts.items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if found != shapes:
        raise ShapeError(f"the state is of another network: {found}, expected {shapes}")


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
