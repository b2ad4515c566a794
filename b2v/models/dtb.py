"""Online video deblurring network (Kim, Lee, Schölkopf, Hirsch, ICCV 2017, Sec. 4-5).

The three networks of Table 1 are variants of one:

    cnn      the window alone
    strcnn   + F(n-1), the last features of the step before (Sec. 4.1)
    dtb      + h~(n-1), blended into the features of this step (Sec. 4.2)

Windows, states and outputs are as of `VideoNet`; H and W are even.

Where we differ from the paper, or it is silent: the blocks have ReLU but no batch norm and no
ReLU after the sum; the output is a residual to the center frame (`residual=False` is the
paper's form); cnn has a wider stem in place of the features, because the paper's networks have
equally many parameters (Sec. 6.1) and so they have; beta is the sigmoid of what is learned,
which keeps it in (0, 1); it starts where the config says.

`BlendNet` is the same idea on a body that learns faster: the U-Net for the middle frame of a photo
sees a window instead of one picture, blends the features of its coarsest scale with those of the
frame before (eq. 2, 3), and adds what its finest scale made of that frame behind the stem. So it
can start as a net for photos. A frame costs 0.6 of what the paper's network takes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.models.unet import BodyConfig, Hourglass, blocks_of

INPUTS = (3, 5, 7)
"""Lengths of the window, 2m + 1, that the paper compares (Table 1)."""


class VideoState(NamedTuple):
    """The state from one step to the next; a network leaves None what it does not use.

    `blended` is h~(n), `features` is F(n), `exposure` what is known of the shutter;
    `VideoNet.state_shapes` has their shapes.
    """

    blended: Tensor | None = None
    features: Tensor | None = None
    exposure: Tensor | None = None


class VideoNet(nn.Module):
    """A network that restores the center frame of a window, and hands on a state."""

    multiple: int
    inputs: int
    """Frames in a window, 2m + 1."""

    @property
    def look_ahead(self) -> int:
        """Frames m that the window reaches beyond its center, on either side."""
        return self.inputs // 2

    def state_shapes(self, height: int, width: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes [C, h, w] of the tensors in the state, by name, for frames of this size."""
        raise NotImplementedError

    def forward(self, window: Tensor, state: VideoState | None = None) -> tuple[Tensor, VideoState]:
        """Estimate the sharp center frame of a window.

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


VARIANTS = ("cnn", "strcnn", "dtb")


@dataclass(frozen=True, kw_only=True)
class DTBConfig:
    """Shape of the network (Fig. 4).

    `inputs` is 2m + 1; `stem` are channels at full size and `features` those of F(n), at half
    size, where the blocks have twice as many. `beta` is the least blend weight at the start of
    training: the paper has no value for it, and in the middle it is moved most easily.
    """

    variant: Literal["cnn", "strcnn", "dtb"] = "dtb"
    inputs: int = 3
    residual: bool = True
    stem: int = 64
    features: int = 32
    encoder_blocks: int = 4
    decoder_blocks: int = 4
    beta: float = 0.5

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant is {self.variant!r}; expected one of {', '.join(VARIANTS)}")
        check_video_config(self.inputs, self.beta)
        for name in ("stem", "features", "encoder_blocks", "decoder_blocks"):
            if (count := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {count!r}; expected at least 1")


class DTB(VideoNet):
    """The sharp center frame of a window, and the state for the next window (Fig. 3, 4)."""

    multiple = 2

    def __init__(self, config: DTBConfig) -> None:
        super().__init__()
        self.config, self.inputs = config, config.inputs
        channels = 2 * config.features
        recurrent = config.variant != "cnn"
        self.stem = nn.Conv2d(3 * config.inputs, config.stem, 5, padding=2)
        self.down = nn.Conv2d(
            config.stem, config.features if recurrent else channels, 3, stride=2, padding=1
        )
        self.encoder = blocks_of(channels, config.encoder_blocks)
        self.blend = (
            TemporalBlend(channels=channels, beta=config.beta) if config.variant == "dtb" else None
        )
        self.decoder = blocks_of(channels, config.decoder_blocks)
        self.feedback = nn.Conv2d(channels, config.features, 3, padding=1) if recurrent else None
        self.up = nn.ConvTranspose2d(channels, config.stem, 4, stride=2, padding=1)
        self.head = nn.Conv2d(config.stem, 3, 3, padding=1)
        firsts = (block.conv1 for block in (*self.encoder, *self.decoder))
        for conv in filter(None, (self.stem, self.down, *firsts, self.up, self.feedback)):
            # Else features come out of the decoder nine times smaller (He et al., ICCV 2015).
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        if config.residual:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def state_shapes(self, height: int, width: int) -> dict[str, tuple[int, int, int]]:
        """Shapes [C, h, w] of the tensors that this variant's state holds."""
        shapes, (h, w) = {}, (height // 2, width // 2)
        if self.blend is not None:
            shapes["blended"] = (2 * self.config.features, h, w)
        if self.feedback is not None:
            shapes["features"] = (self.config.features, h, w)
        return shapes

    def forward(self, window: Tensor, state: VideoState | None = None) -> tuple[Tensor, VideoState]:
        """Estimate the sharp center frame of a window, as of `VideoNet`; F(-1) is zero."""
        blended, features, _ = state or VideoState()
        x = F.relu(self.stem(window.flatten(1, 2)))  # [B, 64, H, W]
        x = self.down(x)  # [B, 32, H/2, W/2]
        if self.feedback is not None:
            features = torch.zeros_like(x) if features is None else features.to(x.dtype)
            x = torch.cat([x, features], dim=1)  # [B, 64, H/2, W/2]
        x = self.encoder(x)
        if self.blend is not None:
            x = blended = self.blend(x, blended)
        x = self.decoder(x)
        if self.feedback is not None:
            features = F.relu(self.feedback(x))
        restored = self.head(F.relu(self.up(x)))  # [B, 3, H, W]
        if self.config.residual:
            restored = window[:, self.look_ahead] + restored
        return restored, VideoState(blended, features)


@dataclass(frozen=True, kw_only=True)
class BlendConfig(BodyConfig):
    """Shape of the network: `inputs` is 2m + 1.

    `beta`, as of `DTBConfig`, starts close to 1, where the frame before is hardly blended in.
    """

    inputs: int = 3
    beta: float = 0.9

    def __post_init__(self) -> None:
        check_video_config(self.inputs, self.beta)


class BlendNet(Hourglass, VideoNet):
    """The sharp center frame of a window, and the state for the next window."""

    def __init__(self, config: BlendConfig) -> None:
        super().__init__(config, channels=3 * config.inputs, maps=3)
        self.config = config
        self.inputs = config.inputs
        fine, coarse = config.widths[0], config.widths[-1]
        self.feedback = nn.Conv2d(fine, fine, 3, padding=1)
        self.blend = TemporalBlend(channels=coarse, beta=config.beta)
        nn.init.zeros_(self.feedback.weight)
        nn.init.zeros_(self.feedback.bias)  # type: ignore[arg-type]

    def state_shapes(self, height: int, width: int) -> dict[str, tuple[int, int, int]]:
        """Shapes [C, h, w] of h~(n), coarsest, and of F(n), finest."""
        fine, coarse = self.config.shuffle, self.multiple
        return {
            "blended": (self.config.widths[-1], height // coarse, width // coarse),
            "features": (self.config.widths[0], height // fine, width // fine),
        }

    def forward(self, window: Tensor, state: VideoState | None = None) -> tuple[Tensor, VideoState]:
        """Estimate the sharp center frame of a window, as of `VideoNet`."""
        blended, features, _ = state or VideoState()
        m = self.look_ahead
        center, beside = window[:, m], torch.cat([window[:, :m], window[:, m + 1 :]], 1)
        pictures = torch.cat([center, beside.flatten(1, 2)], 1)
        x = self.stem(F.pixel_unshuffle(pictures, self.shuffle))  # [B, 48, H/2, W/2]
        if features is not None:
            x = x + self.feedback(features.to(x.dtype))
        x, skips = self.descend(x)  # [B, 160, H/8, W/8]
        x = blended = self.blend(x, blended)
        x = self.ascend(x, skips)
        features = x.tanh()  # it goes round for as long as a video lasts, and must not grow
        residual = F.pixel_shuffle(self.head(x), self.shuffle)
        return center + residual, VideoState(blended, features)
