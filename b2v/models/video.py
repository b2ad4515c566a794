"""What networks that restore video frame by frame have in common (Kim et al., ICCV 2017).

A window of 2m + 1 blurry frames gives the sharp centre frame; what the network made of the
frames before comes back in as its state. Windows are [B, 2m+1, 3, H, W] in order of time,
sRGB-encoded in [0, 1]; H and W are multiples of the network's `multiple`. Outputs are not
clamped.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

INPUTS = (3, 5, 7)
"""Lengths of the window, 2m + 1, that the paper compares (Table 1)."""


class VideoState(NamedTuple):
    """What a step hands on to the next; a network leaves None what it does not use.

    `blended` is h~(n), `features` is F(n), `exposure` what is known of the shutter;
    `VideoNet.state_shapes` has their shapes.
    """

    blended: Tensor | None = None
    features: Tensor | None = None
    exposure: Tensor | None = None


class VideoNet(nn.Module):
    """A network that restores the centre frame of a window, and hands on a state."""

    multiple: int
    inputs: int
    """Frames in a window, 2m + 1."""

    @property
    def look_ahead(self) -> int:
        """Frames m that the window reaches beyond its centre, on either side."""
        return self.inputs // 2

    def state_shapes(self, height: int, width: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes [C, h, w] of the tensors in the state, by name, for frames of this size."""
        raise NotImplementedError

    def forward(self, window: Tensor, state: VideoState | None = None) -> tuple[Tensor, VideoState]:
        """Estimate the sharp centre frame of a window.

        Args:
            window: [B, 2m+1, 3, H, W] in [0, 1].
            state: what the step before gave; None at the start of a video.

        Returns:
            The frame [B, 3, H, W], not clamped, and the state for the next window.

        """
        raise NotImplementedError


class TemporalBlend(nn.Module):
    """Dynamic temporal blending: features of this step and the one before, [B, C, h, w]."""

    def __init__(self, *, channels: int, beta: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, channels, 5, padding=2)
        self.beta_logit = nn.Parameter(torch.tensor(math.log(beta / (1 - beta))))

    @property
    def beta(self) -> Tensor:
        """Least blend weight, a number in (0, 1)."""
        return torch.sigmoid(self.beta_logit)

    def weight(self, current: Tensor, previous: Tensor) -> Tensor:
        """Compute w(n) in [beta, 1] from h(n) and h~(n-1); of their shape (eq. 3)."""
        change = self.conv(torch.cat([previous, current], dim=1)).tanh().abs()
        return (change + self.beta).clamp(max=1)

    def forward(self, current: Tensor, previous: Tensor | None) -> Tensor:
        """Blend h(n) with h~(n-1) into h~(n) (eq. 2).

        None is h~(-1) = h(0), which makes h~(0) = h(0) whatever the weight: the features of the
        first frame pass undimmed, as they would not with h~(-1) = 0.
        """
        if previous is None:
            return current
        previous = previous.to(current.dtype)  # a step in another precision may have made it
        return torch.lerp(previous, current, self.weight(current, previous))


def check_video_config(inputs: int, beta: float) -> None:
    """Raise ValueError unless the window and the least blend weight are possible."""
    if inputs not in INPUTS:
        raise ValueError(f"inputs is {inputs!r}; expected 3, 5 or 7 frames")
    if not 0 < beta < 1:
        raise ValueError(f"beta is {beta!r}; expected more than 0 and less than 1")


def run_clip(net: VideoNet, clip: Tensor, state: VideoState | None = None) -> Tensor:
    """Restore every frame of a clip in order of time, the state handed from one to the next.

    Windows that reach beyond the clip see its first or last frame again.

    Args:
        net: the network.
        clip: [B, T, 3, H, W] in [0, 1], H and W multiples of the net's.
        state: what the frames before the clip left; None when there are none.

    Returns:
        [B, T, 3, H, W], not clamped.

    """
    before = clip[:, :1].repeat_interleave(net.look_ahead, dim=1)
    after = clip[:, -1:].repeat_interleave(net.look_ahead, dim=1)
    padded = torch.cat([before, clip, after], dim=1)  # [B, m + T + m, 3, H, W]
    restored = []
    for n in range(clip.shape[1]):
        frame, state = net(padded[:, n : n + net.inputs], state)
        restored.append(frame)
    return torch.stack(restored, dim=1)
