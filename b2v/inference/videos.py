"""The line of a video: a sharp frame by a network, then light taken back along the neighbors' flow.

    window of three frames -> how the middle one moves (b2v.models.neighbors)
                           -> a network at half the size, its change brought up
                           -> light taken back along the motion (b2v.models.deconvolution)

Networks that sharpen know blur of some pixels; at half the size they reach twice as far, and take a
quarter of the time. Where blur is short, the full size sharpens more, and is mixed in where asked
for. What did not move while the shutter was open comes through as it is.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.frames import crop_back, pad_to_multiple
from b2v.inference.pyramid import grown, shrunk
from b2v.inference.runner import run_tiles
from b2v.models import MAXIM_STAGES, PRIOR
from b2v.models.blend import BlendNet
from b2v.models.deconvolution import deconvolve
from b2v.models.maxim import Maxim
from b2v.models.motion import blurring
from b2v.models.neighbors import LAGS, Exposure, Passing, learned, passing, unknown
from b2v.models.prior import Prior, Tile
from b2v.models.video import VideoNet, VideoState
from b2v.weights import LoadedVideoModel, inspect, load_model, load_video_model
from b2v.weights.resolve import find_model

RELAXED = 1.5
"""By how much a correction is exaggerated."""
RELAXED_GRAY = 2.0
"""As much, of those that are the same for all colors."""
LONG, SOFT = 16.0, 3.0
"""Pixels of motion from which half the size is taken where there are both, and how firmly."""
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
        sharp, inner = self._sharpened(window, moving, state)
        exposure = learned(_exposure(state), moving, blurry)
        duty = exposure.duty if self.duty is None else self.duty
        with torch.autocast(window.device.type, enabled=False):
            frame = self._taken_back(blurry, sharp.float(), moving, duty)
        known = torch.cat([exposure.sums, exposure.sums.new_tensor([exposure.seen])])
        return frame[None], inner._replace(exposure=known[None].to(window))

    def _sharpened(
        self, window: Tensor, moving: Passing, state: VideoState | None
    ) -> tuple[Tensor, VideoState]:
        blurry, level = window[0, 1], _level(*window.shape[3:])
        if isinstance(self.net, VideoNet):
            smaller = torch.stack([shrunk(frame, level) for frame in window[0]])
            height, width = smaller.shape[2:]
            restored, inner = self.net(pad_to_multiple(smaller, self.net.multiple)[None], state)
            change = crop_back(restored[0].float(), height, width) - smaller[1]
            return blurry + grown(change, blurry), inner
        change, _ = run_tiles(self.net, shrunk(blurry, level), None)
        coarse = blurry + grown(change, blurry)
        if not self.both or level == 0:
            return coarse, VideoState()
        length = 2 * moving.path.norm(dim=0, keepdim=True)
        coarser = ((length - LONG) / SOFT).sigmoid()
        coarser = F.interpolate(coarser[None], blurry.shape[1:], mode="bilinear")[0]

        def short(tile: Tile) -> bool:
            return bool((tile.of(coarser) < 0.9).float().mean() > 0.05)

        fine, share = run_tiles(self.net, blurry, None, wanted=short)
        return torch.lerp(coarse, blurry + fine, share * (1 - coarser)), VideoState()

    def _taken_back(self, blurry: Tensor, sharp: Tensor, moving: Passing, duty: float) -> Tensor:
        """Take light back from a frame [3, H, W] where it moved, and leave the rest as it was."""
        if not moving.is_known:
            return sharp
        height, width = blurry.shape[1:]
        path = moving.path * duty
        lengths = 2 * F.avg_pool2d(path.norm(dim=0)[None], COARSE, ceil_mode=True)[0]
        blurs = _spread(blurring(torch.ones_like(lengths), lengths)[None], height, width)
        found = deconvolve(
            blurry[None],
            sharp.clamp(0, 1)[None],
            _spread(path, height, width)[None],
            _spread(moving.trust, height, width)[None],
            relaxed=RELAXED_GRAY if self.gray else RELAXED,
            gray=self.gray,
        )[0]
        return torch.lerp(blurry, found, blurs)


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
        model: as of `b2v.weights.load_model`.
        weights: likewise.

    Raises:
        UsageError: a hub address is malformed or names no revision.
        WeightsError: there is no such model, or it can restore no video.

    """
    if weights is not None and weights.is_file() and weights.suffix != ".json":
        roles: Collection[str] = (inspect(weights).role,)
    else:
        roles = find_model(model, weights=weights).card.networks
    if not {PRIOR, MAXIM_STAGES[0]} & {*roles}:
        video = load_video_model(model, weights=weights)
        return replace(video, net=line_of(video.net))
    loaded = load_model(model, weights=weights)
    net = line_of(cast("Prior", loaded.net))
    return LoadedVideoModel(**{**vars(loaded), "net": net})


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


def _spread(cells: Tensor, height: int, width: int) -> Tensor:
    """Bring values [C, h, w] to the pixels of a frame."""
    return F.interpolate(cells[None], (height, width), mode="bilinear")[0]
