"""Instants between filmed frames, so that blur is a streak rather than copies side by side.

Flow from each frame to the next and back is sought twice: as it is (iterative Lucas-Kanade, Le
Besnerais and Champagnat, ICIP 2005), and on top of the camera motion that explains most of what
was found, which reaches further. At an instant each pixel takes the flow along which both frames
agree best; it is believed where going there and back ends near the beginning and the colours agree
no worse than where both frames lie. There both are moved along it and mixed. Elsewhere they are
mixed where they lie, so that without any belief the mean of all instants is the mean of the
frames.

Frame k stands for the time from k - 1/2 to k + 1/2, as in `b2v.data.exposure.instants`; before
the first frame and after the last, motion goes on as it was.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from skimage.registration import optical_flow_ilk
from torch import Tensor
from torch.nn import functional as F

from b2v.color import GREY
from b2v.data.exposure import odd
from b2v.motion import move_along

SHRINK = 2
"""Flow is sought on frames of so many times fewer pixels a side: four times faster, as good."""
RADIUS, WARPS = 6, 5
"""Half the side of a window in which flow is one, and how often it is refined."""
ROUNDS = 4
"""Times that the flow at an instant is looked up where it came from."""
SLACK, SHARE = 4.0, 0.5
"""Shrunken pixels, and share of the flow, by which going there and back may miss.

Wide, because colours judge better: blur comes 1.1 dB closer to that of the
full rate than with 1 pixel and a tenth (mean of six fast clips, a third of their frames).
"""
WINDOW = 5
"""Side in shrunken pixels of the squares in which colours are compared."""
OUTLIER, FITS = 1.0, 12
"""Shrunken pixels off the camera motion that halve a pixel's say in it, and rounds of fitting."""
STEP = 1.0
"""Largest step in pixels between two instants, where their number can be chosen."""
LARGEST = 0.999
"""Share of pixels whose motion is not beyond what counts as the largest."""
MOST = 31
"""Most instants a frame that are chosen."""


class Step(NamedTuple):
    """What is known of the motion between two frames, in shrunken pixels."""

    pair: Tensor  # [2, 1, h, w] grey
    flows: Tensor  # [K, 2, 2, h, w]: K guesses, there and back, x and y
    trusted: Tensor  # [K, 2, 1, h, w] 1 where going there and back ends near the beginning


def shrunk(frames: Tensor) -> Tensor:
    """Make frames [N, 3, H, W] grey and small, [N, 1, h, w]; an odd side loses nothing."""
    grey = (frames * frames.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return F.avg_pool2d(grey, SHRINK, ceil_mode=True)


def seek(first: Tensor, second: Tensor) -> Tensor:
    """Seek where each pixel of a grey picture [h, w] goes in a second one: [2, h, w], x and y."""
    flow: Any = optical_flow_ilk
    found = flow(first.numpy(), second.numpy(), radius=RADIUS, num_warp=WARPS, prefilter=False)
    return torch.from_numpy(np.stack([found[1], found[0]]).astype(np.float32))


def find_steps(frames: Tensor) -> list[Step]:
    """Seek the motion between neighbours of the frames [T, 3, H, W], encoded in [0, 1]."""
    return [_find_step(pair) for pair in pairwise(shrunk(frames))]


def _find_step(frames: tuple[Tensor, Tensor]) -> Step:
    ways = (frames, frames[::-1])
    flows = torch.stack([seek(a[0], b[0]) for a, b in ways])
    cameras = [planar_motion(f, 1 / (1 + m**2)) for f, m in zip(flows, _missed(flows), strict=True)]
    onward = []
    for (a, b), camera in zip(ways, cameras, strict=True):
        rest = seek(a[0], move_along(b[None], -camera[None, None])[0, 0, 0])
        onward.append(rest + move_along(camera[None], -rest[None, None])[0, 0])
    guesses = torch.stack([flows, torch.stack(onward)])
    missed = torch.stack([_missed(guess) for guess in guesses])
    trusted = missed < SLACK + SHARE * guesses.norm(dim=2, keepdim=True)
    return Step(torch.stack(frames), guesses, trusted.float())


def _missed(flows: Tensor) -> Tensor:
    """How far from where they began things are after going there and back, [2, 1, h, w]."""
    returned = move_along(flows.flip(0), -flows[:, None])[:, 0]
    return (flows + returned).norm(dim=1, keepdim=True)


def planar_motion(flow: Tensor, weight: Tensor) -> Tensor:
    """Fit the motion that a camera makes of a flat scene to flow, whatever else moves in it.

    The eight numbers of a plane under small rotations (Longuet-Higgins and Prazdny, 1980), by
    least squares reweighted for outliers.

    Args:
        flow: [2, h, w], x and y in pixels.
        weight: [1, h, w], how much each pixel counts.

    """
    height, width = flow.shape[1:]
    axes = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    y, x = torch.meshgrid(*axes, indexing="ij")
    one, none = torch.ones_like(x), torch.zeros_like(x)
    across = torch.stack([one, x, y, none, none, none, x * x, x * y])
    down = torch.stack([none, none, none, one, x, y, x * y, y * y])
    terms, wanted = torch.cat([across.flatten(1), down.flatten(1)], 1), flow.flatten()
    say = weight.flatten().repeat(2)
    fitted = torch.zeros_like(wanted)
    for _ in range(FITS):
        off = (fitted - wanted).view(2, -1).norm(dim=0).repeat(2)
        weighted = terms * (say / (1 + (off / OUTLIER) ** 2) if fitted.any() else say)
        normal = (weighted @ terms.T).double() + 1e-3 * torch.eye(len(terms), dtype=torch.double)
        fitted = torch.linalg.solve(normal, (weighted @ wanted).double()).float() @ terms
    return fitted.view_as(flow)


def flow_at(step: Step, time: float) -> tuple[Tensor, Tensor]:
    """Flow of what is seen at an instant between two frames, and where it is believed.

    Args:
        step: motion between the frames.
        time: 0 at the first frame, 1 at the second.

    Returns:
        [2, h, w] from the first frame to the second in shrunken pixels, and [1, h, w] in [0, 1].

    """
    past = torch.tensor([time, 1 - time]).view(2, 1, 1, 1)
    still = _near(step.pair[0] - step.pair[1])
    flow, least = torch.zeros_like(step.flows[0, 0]), still
    believed = torch.zeros_like(still, dtype=torch.bool)
    for flows, trusted in zip(step.flows, step.trusted, strict=True):
        found = flows
        for _ in range(ROUNDS):
            found = move_along(flows, (past * found)[:, None])[:, 0]
        there = torch.stack([found[0], -found[1]])  # both from the first frame to the second
        ways = torch.stack([time * there, (time - 1) * there])  # [frame, guess, 2, h, w]
        first, second = move_along(step.pair, ways)  # [guess, 1, h, w] each
        wrong = _near(first - second)
        sure = move_along(trusted, (past * found)[:, None])[:, 0] > 0.9
        for guess in range(2):
            better = sure[guess] & (wrong[guess] <= least)
            flow, least = there[guess].where(better, flow), wrong[guess].where(better, least)
            believed = believed | better
    return flow, F.avg_pool2d(believed.float()[None], 3, 1, 1)[0]


def _near(difference: Tensor) -> Tensor:
    """Mean absolute difference around each pixel."""
    return F.avg_pool2d(difference.abs(), WINDOW, 1, WINDOW // 2)


def sub_frames_for(steps: list[Step]) -> int:
    """Choose the odd number of instants a frame for steps of about a pixel, up to `MOST`."""
    longest = 0.0
    for step in steps:
        flow, belief = flow_at(step, 0.0)
        ways = (flow.norm(dim=0) * (belief[0] > 0.5)).numpy()
        longest = max(longest, SHRINK * float(np.quantile(ways, LARGEST)))
    return odd(max(1.0, longest / STEP - 0.25), MOST)  # a still scene is not quite still


def instants_between(pictures: Tensor, steps: list[Step], sub_frames: int) -> Iterator[Tensor]:
    """Show what is seen at evenly spaced instants of an exposure, one at a time.

    Args:
        pictures: [T, C, H, W], two at least: the frames, as light or as what is to be averaged.
        steps: motion between them, T - 1.
        sub_frames: instants in the time of each frame; odd, for the frame itself to be one.

    Yields:
        T * sub_frames pictures [C, H, W], in order.

    """
    if sub_frames % 2 == 0:
        raise ValueError(f"sub_frames must be odd for a frame to have a centre, got {sub_frames}")
    last = len(pictures) - 1
    for number in range(len(pictures) * sub_frames):
        frame, part = divmod(number, sub_frames)
        if part == sub_frames // 2:
            yield pictures[frame]
            continue
        time = frame + (part - sub_frames // 2) / sub_frames
        first = min(max(int(time), 0), last - 1)
        yield _seen(pictures[first : first + 2], steps[first], time - first)


def _seen(pictures: Tensor, step: Step, time: float) -> Tensor:
    """Show a time that is 0 at the first of two pictures [2, C, H, W] and 1 at the other.

    Before the first and after the other that one is moved alone.
    """
    within = min(max(time, 0.0), 1.0)
    flow, belief = flow_at(step, within)
    flow, belief = (_enlarged(field, pictures) for field in (flow * SHRINK, belief))
    shifts = torch.stack([time * flow, (time - 1) * flow])[:, None]
    moved = move_along(pictures, shifts)[:, 0]
    seen = torch.lerp(pictures, moved, belief)
    return torch.lerp(seen[0], seen[1], within)


def _enlarged(field: Tensor, pictures: Tensor) -> Tensor:
    large = F.interpolate(field[None], scale_factor=SHRINK, mode="bilinear", align_corners=False)
    return large[0, :, : pictures.shape[-2], : pictures.shape[-1]]
