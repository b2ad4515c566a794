"""Instants between filmed frames, so that blur is a streak rather than copies side by side.

What lies between two frames is made of both along the flow between them (`b2v.models.neighbors`);
across a cut they are mixed where they lie, so that without any flow the mean of all instants is
the mean of the frames.

Frame k stands for the time from k - 1/2 to k + 1/2, as in `b2v.data.exposure.instants`; before
the first frame and after the last, motion goes on as it was.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.data.exposure import odd
from b2v.models.neighbors import Flow, Gap, fetched, gap

STEP = 1.0
"""Largest step in pixels between two instants, where their number can be chosen."""
LARGEST = 0.999
"""Share of pixels whose motion is not beyond what counts as the largest."""
MOST = 31
"""Most instants a frame that are chosen."""


def find_gaps(frames: Tensor) -> list[Gap | None]:
    """Find what lies between neighbors of the frames [T, 3, H, W], encoded in [0, 1]."""
    return [gap(one, other) for one, other in pairwise(frames)]


def sub_frames_for(gaps: list[Gap | None]) -> int:
    """Choose the odd number of instants a frame for steps of about a pixel, up to `MOST`."""
    longest = 0.0
    for found in filter(None, gaps):
        scale = found.one.shape[-1] / found.there.shape[1]
        lengths = np.linalg.norm(found.there, axis=-1) * (found.trust[0] > 0.5)
        longest = max(longest, scale * float(np.quantile(lengths, LARGEST)))
    return odd(max(1.0, longest / STEP - 0.25), MOST)  # a still scene is not quite still


def instants_between(pictures: Tensor, gaps: list[Gap | None], sub_frames: int) -> Iterator[Tensor]:
    """Show what is seen at evenly spaced instants of an exposure, one at a time.

    Args:
        pictures: [T, 3, H, W] in [0, 1], two at least: the frames, as light or as what is to be
            averaged.
        gaps: what lies between them, T - 1.
        sub_frames: instants in the time of each frame; odd, for the frame itself to be one.

    Yields:
        T * sub_frames pictures [3, H, W], in order.

    """
    if sub_frames % 2 == 0:
        raise ValueError(f"sub_frames must be odd for a frame to have a center, got {sub_frames}")
    last = len(pictures) - 1
    for number in range(len(pictures) * sub_frames):
        frame, part = divmod(number, sub_frames)
        if part == sub_frames // 2:
            yield pictures[frame]
            continue
        time = frame + (part - sub_frames // 2) / sub_frames
        first = min(max(int(time), 0), last - 1)
        yield _seen(pictures[first], pictures[first + 1], gaps[first], time - first)


def _seen(one: Tensor, other: Tensor, found: Gap | None, time: float) -> Tensor:
    """Show a time that is 0 at the first of two pictures and 1 at the other."""
    within = min(max(time, 0.0), 1.0)
    if found is None:
        return torch.lerp(one, other, within)
    if time < 0:
        return _moved(one, found.there, found.trust[0], -time)
    if time > 1:
        return _moved(other, found.back, found.trust[1], time - 1)
    return found._replace(one=one, other=other).at(time)


def _moved(picture: Tensor, flow: Flow, trust: Flow, time: float) -> Tensor:
    """Move a picture against its flow to the next one, where that is trusted, for some time."""
    height, width = picture.shape[1:]
    scale = torch.tensor([width / flow.shape[1], height / flow.shape[0], 1]).view(3, 1, 1)
    known = torch.from_numpy(np.concatenate([flow * time, trust[..., None]], -1))
    wide = scale * F.interpolate(known.permute(2, 0, 1)[None], (height, width), mode="bilinear")[0]
    step = wide[:2].permute(1, 2, 0).numpy()
    moved = torch.from_numpy(fetched(picture.permute(1, 2, 0).numpy(), step))
    return torch.lerp(picture, moved.permute(2, 0, 1), wide[2])
