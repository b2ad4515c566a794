"""The motion of a video's frame, known from the frames beside it.

Optical flow to both neighbors is how far things go in one frame interval; what they go while the
shutter is open is the part of it that the exposure lasts, the duty cycle. Where that is not known
it is found from the blur itself: it makes edges alike along the motion, as far as it reaches.

Flow is dense inverse search (Kroeger, Timofte, Dai and Van Gool, Fast Optical Flow using Dense
Inverse Search, ECCV 2016), on the CPU, at half the size: single frames lose less than 0.03 dB by
that. A neighbor from which nothing can be learned, beyond a cut, in a flash, or the same picture
once more, is left out, and the other one alone tells the motion.

Frames between two of a video are made of both along the flow between them: every place of both is
carried to the time that is asked for (forward warping, as in Niklaus and Liu, Softmax Splatting
for Video Frame Interpolation, CVPR 2020), which tells what moves there; then both are fetched from
where it comes from and goes to. Where a place is hidden in one of them, the other one fills it.
"""

import math
from typing import NamedTuple, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from b2v.color import GREY

LAGS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
"""Parts of the motion in a frame interval over which edges are compared."""
SOFT, BLURRED = 4.0, 1.4
"""Pixels at which edges of sharp frames are no more alike, and the length of a blur over what it
adds to them, squares being added. Measured on nine clips, each made blurry by 1, 3, 5 and 7 of
every 7 frames: duty cycles are 0.13 off, root mean square, and 0.26 from the finest size alone."""
SIZES = (1, 2, 4)
"""By how many times edges are looked at smaller than where flow is sought, and how much each says:
what moved further than `TOO_FAR` can be told at a smaller size, which has fewer edges."""
USUAL, ENOUGH = 0.5, 1.5
"""Duty cycle where nothing tells, that of film; and sum of squared edges that are enough to."""
FAR, TOO_FAR, TRUSTED = 8.0, 40.0, 0.4
"""Pixels of motion in a frame interval from which, and up to which, a place says something of the
duty cycle, times the size at which edges are looked at, and how far its motion is trusted."""
LEARNING, AGAIN = 8, 8
"""Frames each of which something is learned from, and from one to the next later."""
FORGOTTEN = 0.97
"""What is kept of earlier frames each time that something is learned."""
SLACK, SHARE = 1.0, 0.1
"""Pixels, and share of the flow, by which going there and back may miss."""
FEW, UNLIKE = 0.3, 0.9
"""Share of the pixels that have to come back for two frames to be of one scene, and difference
along the flow, over that of their pixels to their means, up to which they are. Of 300 pairs of
frames of 18 videos, most of them 0.2 s apart, the most is 0.99, and 0.7 without two of wild motion;
pairs across cuts begin at 0.6, but few of their pixels come back."""
BENT = 8.0
"""Pixels that motion before and after a frame may differ by, beside its length, and be trusted."""
ALONE = 0.7
"""How far the motion is trusted that one neighbor alone tells: things may begin to move, or end."""
REPEATED = 0.1
"""Difference to a neighbor, over that to the other one, up to which it is the same picture."""
STILL = 1.0
"""Mean difference in code values up to which nothing has changed."""
LEAST_SIDE = 64
"""Pixels of the shorter side up to which flow is sought at full size."""

Codes = NDArray[np.uint8]
Flow = NDArray[np.float32]


class Passing(NamedTuple):
    """How a frame moves in a whole frame interval, by pixels of the size at which flow is sought.

    In an exposure that lasts the whole interval, at the time t from -1 to 1, a place has gone
    t * `path` + t^2 * `bend`, both [2, h, w], x and y in pixels of the frame; `trust` [1, h, w] is
    in [0, 1]. `is_known` is false where both neighbors are others, and how it moves cannot be told.
    `cut` says of which neighbors, before and after, the scene is another one.
    """

    path: Tensor
    bend: Tensor
    trust: Tensor
    is_known: bool = True
    cut: tuple[bool, bool] = (False, False)

    @property
    def lengths(self) -> Tensor:
        """Length of the motion from the beginning to the end in pixels, [1, h, w]."""
        return 2 * self.path.norm(dim=0, keepdim=True)

    def during(self, duty: float) -> "Passing":
        """Leave out what is outside an exposure of this share of the interval."""
        return self._replace(path=self.path * duty, bend=self.bend * duty**2)


def flow_scale(height: int, width: int) -> int:
    """Tell by how many times flow is sought at a smaller size than that of the frames."""
    return 1 if min(height, width) < 2 * LEAST_SIDE else 2


def passing(window: Tensor) -> Passing:
    """Find how the frame in the middle of three moves, [3, 3, H, W] in [0, 1]."""
    scale = flow_scale(*window.shape[2:])
    before, frame, after = (codes(picture, scale) for picture in window)
    changed = [float(cv2.absdiff(frame, other).mean()) for other in (before, after)]
    repeated = [change <= REPEATED * max(changed) for change in changed]
    backward, forward = (
        None if same else flows(frame, other)
        for other, same in zip((before, after), repeated, strict=True)
    )
    cut = (backward is None and not repeated[0], forward is None and not repeated[1])
    if backward is None and forward is None:
        still = torch.zeros(2, *frame.shape).to(window)
        return Passing(still, still, still[:1], max(changed) < STILL, cut)
    if backward is None or forward is None:
        flow, back = forward or backward  # type: ignore[misc]
        path, trust = (flow if forward else -flow) / 2, ALONE * returning(flow, back)
        bend = np.zeros_like(path)
    else:
        path, bend = (forward[0] - backward[0]) / 4, (forward[0] + backward[0]) / 8
        apart, length = (np.linalg.norm(v, axis=-1) for v in (8 * bend, 2 * path))
        trust = returning(*forward) * returning(*backward)
        trust = trust * np.clip(2 - apart / (BENT + length), 0, 1).astype(np.float32)
    smooth = torch.from_numpy(cv2.GaussianBlur(trust, (0, 0), 3))
    path, bend = (torch.from_numpy(v).permute(2, 0, 1).to(window) * scale for v in (path, bend))
    return Passing(path, bend, smooth[None].to(window), cut=cut)


def codes(picture: Tensor, scale: int) -> Codes:
    """Give a picture [3, H, W] in [0, 1] as gray code values of a smaller size."""
    with torch.autocast(picture.device.type, enabled=False):  # half precision has too few codes
        gray = torch.einsum("chw,c->hw", picture, picture.new_tensor(GREY)).cpu().numpy()
    if scale > 1:
        size = -(-gray.shape[1] // scale), -(-gray.shape[0] // scale)
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return np.rint(gray * 255).clip(0, 255).astype(np.uint8)


def flow_between(one: Codes, other: Codes) -> Flow:
    """Find the flow from one picture [h, w] to another, [h, w, 2], x and y in pixels."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return cast("Flow", search.calc(one, other, None))  # type: ignore[call-overload]


def flows(one: Codes, other: Codes) -> tuple[Flow, Flow] | None:
    """Find the flow from a picture [h, w] to another and back; None where they are of two scenes.

    Where nothing is alike, flow leads nowhere, or is none and what it leads to is other.
    """
    there, back = flow_between(one, other), flow_between(other, one)
    if (returning(there, back) > 0).mean() < FEW:
        return None
    apart = np.abs(fetched(other.astype(np.float32), there) - one).mean()
    detail = sum(np.abs(picture - picture.mean()).mean() for picture in (one, other)) / 2
    return (there, back) if apart <= STILL + UNLIKE * detail else None


def fetched(picture: Flow, step: Flow, how: int = cv2.INTER_LINEAR) -> Flow:
    """Fetch a picture [h, w] or [h, w, C] from a step away, in pixels; beyond it, its border."""
    height, width = step.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x + step[..., 0], y + step[..., 1]
    return np.asarray(cv2.remap(picture, x, y, how, None, cv2.BORDER_REPLICATE), np.float32)


def returning(there: Flow, back: Flow) -> Flow:
    """Tell how near to where it began going there and back ends, [h, w] in [0, 1]."""
    allowed = SLACK + SHARE * np.linalg.norm(there, axis=-1)
    missed = np.linalg.norm(there + fetched(back, there), axis=-1)
    return np.clip(2 - missed / allowed, 0, 1).astype(np.float32)


class Exposure(NamedTuple):
    """What is known of the duty cycle: sums of `blur_correlation`, [2 + K], and frames `seen`."""

    sums: Tensor
    seen: int

    @property
    def duty(self) -> float:
        """The duty cycle, by the lag at which edges along the motion are no more alike."""
        if self.sums[1] < ENOUGH:
            return USUAL
        far = float(self.sums[0] / self.sums[1])
        last, crossing = (1.0, 0.0), LAGS[-1]
        for alike, lag in zip((self.sums[2:] / self.sums[1]).tolist(), LAGS, strict=True):
            if alike <= 0:
                crossing = last[1] + (lag - last[1]) * last[0] / (last[0] - alike)
                break
            last = alike, lag
        return min(BLURRED * math.sqrt(max(crossing**2 - (SOFT / far) ** 2, 0)), 1.0)


def unknown() -> Exposure:
    """Begin with a video of which nothing is known."""
    return Exposure(torch.zeros(2 + len(LAGS), dtype=torch.double), 0)


def learned(exposure: Exposure, passing: Passing, frame: Tensor) -> Exposure:
    """Learn the duty cycle from a frame [3, H, W], now and then once much is known."""
    sums, seen = exposure
    if seen < LEARNING or seen % AGAIN == 0:
        sums = FORGOTTEN * sums + blur_correlation(passing, frame)
    return Exposure(sums, seen + 1)


def blur_correlation(passing: Passing, frame: Tensor) -> Tensor:
    """Correlate edges with those at `LAGS` along the motion: [2 + K].

    The first of the sums is of squares of edges times their motion, the second of these squares.

    Blur that is even over the exposure makes two of each edge across the motion, one where it
    begins and one with the sign turned where it ends: what is alike up to there is not beyond
    (Yitzhaky and Kopeika, Identification of Blur Parameters from Motion Blurred Images, 1997).
    """
    scale = flow_scale(*frame.shape[1:])
    sums = sum(size * _edges_alike(passing, frame, scale * size, scale) for size in SIZES)
    return cast("Tensor", sums)


def _edges_alike(passing: Passing, frame: Tensor, smaller: int, scale: int) -> Tensor:
    """Give the sums of `blur_correlation` at a size so many times smaller than the frame's."""
    gray = codes(frame, smaller).astype(np.float32) / 255
    known = torch.cat([2 * passing.path / smaller, passing.trust])
    known = F.interpolate(known[None], gray.shape, mode="area")[0]
    *path, trust = known.cpu().numpy()
    length = np.hypot(*path)
    x, y = path / np.maximum(length, 1e-3)
    edges = x * cv2.Sobel(gray, -1, 1, 0, ksize=1) + y * cv2.Sobel(gray, -1, 0, 1, ksize=1)
    far = length * scale
    says = edges * ((far > FAR) & (far < TOO_FAR) & (trust > TRUSTED))
    sums = [float((says * edges * far).sum()), float((says * edges).sum())]
    rows, columns = np.mgrid[: gray.shape[0], : gray.shape[1]].astype(np.float32)
    for lag in LAGS:
        both = (
            cv2.remap(edges, columns + t * path[0], rows + t * path[1], cv2.INTER_LINEAR)
            for t in (-lag, lag)
        )
        sums.append(float((says * sum(both)).sum()) / 2)
    return torch.tensor(sums, dtype=torch.double)


LEAST = 1e-3
"""What a place counts at least whose flow does not lead back."""
FILLED = 0.2
"""What has come to a place at least, of 1, where it is not filled from around."""
AROUND = 4.0
"""Pixels, at the size at which flow is sought, from which places are filled to which none came."""
AGREES = (1.0, 0.1)
"""Pixels, and share of the flow, by which flow may differ where it is the same thing that moves."""


class Gap(NamedTuple):
    """What lies between two frames: the flow there and back, and how far each is to be trusted.

    Both flows are [h, w, 2], x and y in pixels of the size at which flow is sought, both trusts
    [h, w] in [0, 1]; `one` and `other` are the frames, [3, H, W] in [0, 1] on the CPU.
    """

    one: Tensor
    other: Tensor
    there: Flow
    back: Flow
    trust: tuple[Flow, Flow]

    def at(self, time: float) -> Tensor:
        """Make the frame at a time from 0, the first frame, to 1, the second: [3, H, W]."""
        flow = self._flow_at(time)
        height, width = self.one.shape[1:]
        scale = np.asarray([width / flow.shape[1], height / flow.shape[0]], np.float32)
        weights = [
            share * (self._seen(flow, step, own, trust) + LEAST)
            for share, step, own, trust in (
                (1 - time, -time, self.there, self.trust[0]),
                (time, 1 - time, -self.back, self.trust[1]),
            )
        ]
        share = cv2.resize(weights[1] / (weights[0] + weights[1]), (width, height))
        wide = cv2.resize(flow, (width, height)) * scale
        one, other = (
            torch.from_numpy(fetched(frame.permute(1, 2, 0).numpy(), wide * step, cv2.INTER_CUBIC))
            for frame, step in ((self.one, -time), (self.other, 1 - time))
        )
        between = torch.lerp(one, other, torch.from_numpy(share)[..., None])
        return between.permute(2, 0, 1).clamp(0, 1)

    def _flow_at(self, time: float) -> Flow:
        """Carry the flow of both frames, each from the first to the second, to a time."""
        height, width = self.there.shape[:2]
        sums = np.zeros((3, height * width))
        for flow, turn, way, trust in (
            (self.there, 1, time, self.trust[0]),
            (self.back, -1, 1 - time, self.trust[1]),
        ):
            weight = (1 - way) * (trust + LEAST)
            _carry(sums, flow * way, weight, turn * flow)
        came = sums.reshape(3, height, width).transpose(1, 2, 0).astype(np.float32)
        around = cv2.GaussianBlur(came, (0, 0), AROUND)
        filled = around[..., 1:] / np.maximum(around[..., :1], 1e-9)
        direct = came[..., 1:] / np.maximum(came[..., :1], 1e-9)
        share = np.clip(came[..., :1] / FILLED, 0, 1)
        return filled + share * (direct - filled)

    def _seen(self, flow: Flow, step: float, own: Flow, trust: Flow) -> Flow:
        """Tell how surely a frame shows what is seen at a time: there, it moves as it does here."""
        there = np.concatenate([own, trust[..., None]], -1)
        found = fetched(there, flow * step)
        allowed = AGREES[0] + AGREES[1] * np.linalg.norm(flow, axis=-1)
        apart = np.linalg.norm(found[..., :2] - flow, axis=-1)
        return found[..., 2] * np.exp(-np.square(apart / allowed))


def gap(one: Tensor, other: Tensor) -> Gap | None:
    """Find what lies between two frames, [3, H, W] in [0, 1]; None where that is a cut."""
    scale = flow_scale(*one.shape[1:])
    found = flows(codes(one, scale), codes(other, scale))
    if found is None:
        return None
    there, back = found
    trust = returning(there, back), returning(back, there)
    return Gap(one.float().cpu(), other.float().cpu(), there, back, trust)


def _carry(sums: Flow, step: Flow, weight: Flow, values: Flow) -> None:
    """Add weights and weighted values [h, w, 2] to `sums` [3, h * w], a step away."""
    height, width = weight.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x + step[..., 0], y + step[..., 1]
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, below = x - left, y - top
    for column, across in ((left, 1 - right), (left + 1, right)):
        for row, down in ((top, 1 - below), (top + 1, below)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            part = (weight * across * down)[inside]
            place = (row * width + column)[inside]
            for k, what in enumerate((part, part * values[inside, 0], part * values[inside, 1])):
                sums[k] += np.bincount(place, what, height * width)
