"""The open shutter: blur is the light of many instants averaged.

`expose` is eq. 1 of Jin et al. (CVPR 2018) and of Kim et al. (ICCV 2017) with the gamma
curve g where physics has it: light is averaged, code values are what comes out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from b2v.color import Curve, to_encoded, to_linear
from b2v.errors import UsageError


@dataclass(frozen=True)
class Shutter:
    """Opens once every `period` frames of a sharp video, for `tau` of them (Kim et al., eq. 1).

    `tau` is odd, for the exposure to have a centre frame, and its sharp frame is exactly that
    one, `tau // 2` after the first; the paper's formula, ceil(tau / 2), is one later when frames
    are counted from 0 as it does. `tau / period` is the duty cycle.
    """

    tau: int
    period: int

    def __post_init__(self) -> None:
        if self.tau < 1:
            raise UsageError(f"tau is {self.tau}; at least one frame must be exposed")
        if self.tau % 2 == 0:
            raise UsageError(f"tau is {self.tau}; only an odd number of frames has a centre frame")
        if self.period < self.tau:
            raise UsageError(
                f"period is {self.period}, tau {self.tau}; the next exposure cannot begin before"
                " this one has ended"
            )

    def windows(self, frames: int) -> int:
        """Count the whole exposures in a video of so many frames."""
        return max(0, 1 + (frames - self.tau) // self.period)

    def length(self, windows: int) -> int:
        """Count the frames that so many exposures take, from the first of them to the last."""
        return (windows - 1) * self.period + self.tau


def instants(frames: int, sub_frames: int) -> Tensor:
    """List the times at which to look at a scene, in frame intervals from the middle frame.

    Each frame's segment of the exposure is cut into `sub_frames` (odd) equal parts, whose
    centres are the instants; the centre of segment k is the time of frame k itself.

    Returns:
        [frames, sub_frames], evenly spaced from first to last.

    """
    if sub_frames % 2 == 0:
        raise ValueError(f"sub_frames must be odd for a frame to have a centre, got {sub_frames}")
    count = frames * sub_frames
    return ((torch.arange(count) - (count - 1) / 2) / sub_frames).view(frames, sub_frames)


def expose(light_lin: Tensor, curve: Curve = "gamma2.2") -> Tensor:
    """Average instants [N, C, H, W] of linear light to one encoded picture [C, H, W]."""
    return to_encoded(light_lin.mean(0), curve)


def expose_video(
    frames: Iterable[Tensor], shutter: Shutter, curve: Curve = "gamma2.2"
) -> Iterator[tuple[Tensor, Tensor]]:
    """Make a blurry video of a sharp one, holding two frames at a time.

    Args:
        frames: [3, H, W] each, encoded, in [0, 1].
        shutter: when light falls in.
        curve: transfer curve of the code values.

    Yields:
        A blurry frame and the sharp one at its centre, [3, H, W] each; a last exposure that is
        not whole is left out.

    """
    light_lin, sharp = torch.zeros(()), torch.zeros(())
    for number, frame in enumerate(frames):
        place = number % shutter.period
        if place >= shutter.tau:
            continue
        light_lin = to_linear(frame, curve) + (light_lin if place else 0)
        if place == shutter.tau // 2:
            sharp = frame
        if place == shutter.tau - 1:
            yield to_encoded(light_lin / shutter.tau, curve), sharp
