"""Frames between two of a video, made of both along the optical flow between them.

Every place of both frames is carried along its flow to the time that is asked for (forward warping,
as in Niklaus and Liu, Softmax Splatting for Video Frame Interpolation, CVPR 2020), which tells what
moves there; then both frames are fetched from where it comes from and goes to. Where a place is
hidden in one of them, the other one fills it.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from b2v.models.neighbors import Flow, codes, fetched, flow_scale, flows, returning

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
