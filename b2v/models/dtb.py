"""Online video deblurring network (Kim, Lee, Schölkopf, Hirsch, ICCV 2017, Sec. 4-5).

A window of 2m + 1 blurry frames gives the sharp centre frame; what the network made of the
frames before comes back in as its state. The three networks of Table 1 are variants of one:

    cnn      the window alone
    strcnn   + F(n-1), the last features of the step before (Sec. 4.1)
    dtb      + h~(n-1), blended into the features of this step (Sec. 4.2)

Windows are [B, 2m+1, 3, H, W] in order of time, sRGB-encoded in [0, 1]; H and W are even.
Outputs are not clamped.

Where we differ from the paper, or it is silent: the blocks have ReLU but no batch norm and no
ReLU after the sum; the output is a residual to the centre frame (`residual=False` is the
paper's form); cnn has a wider stem in place of the features, because the paper's networks have
equally many parameters (Sec. 6.1) and so they have; beta is the sigmoid of what is learned,
which keeps it in (0, 1); it starts where the config says.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.models.unet import PlainBlock

VARIANTS = ("cnn", "strcnn", "dtb")
INPUTS = (3, 5, 7)
"""Lengths of the window, 2m + 1, that the paper compares (Table 1)."""


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
        if self.inputs not in INPUTS:
            raise ValueError(f"inputs is {self.inputs!r}; expected 3, 5 or 7 frames")
        for name in ("stem", "features", "encoder_blocks", "decoder_blocks"):
            if (count := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {count!r}; expected at least 1")
        if not 0 < self.beta < 1:
            raise ValueError(f"beta is {self.beta!r}; expected more than 0 and less than 1")


class DTBState(NamedTuple):
    """What a step hands on to the next; a variant leaves None what it does not use.

    `blended` is h~(n), [B, 2 features, H/2, W/2]; `features` is F(n), [B, features, H/2, W/2].
    """

    blended: Tensor | None = None
    features: Tensor | None = None


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

    def forward(self, current: Tensor, previous: Tensor) -> Tensor:
        """Blend h(n) with h~(n-1) into h~(n) (eq. 2)."""
        return torch.lerp(previous, current, self.weight(current, previous))


class DTB(nn.Module):
    """The sharp centre frame of a window, and the state for the next window (Fig. 3, 4)."""

    multiple = 2

    def __init__(self, config: DTBConfig) -> None:
        super().__init__()
        self.config = config
        channels = 2 * config.features
        recurrent = config.variant != "cnn"
        self.stem = nn.Conv2d(3 * config.inputs, config.stem, 5, padding=2)
        self.down = nn.Conv2d(
            config.stem, config.features if recurrent else channels, 3, stride=2, padding=1
        )
        self.encoder = _blocks(channels, config.encoder_blocks)
        self.blend = (
            TemporalBlend(channels=channels, beta=config.beta) if config.variant == "dtb" else None
        )
        self.decoder = _blocks(channels, config.decoder_blocks)
        self.feedback = nn.Conv2d(channels, config.features, 3, padding=1) if recurrent else None
        self.up = nn.ConvTranspose2d(channels, config.stem, 4, stride=2, padding=1)
        self.head = nn.Conv2d(config.stem, 3, 3, padding=1)
        if config.residual:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    @property
    def look_ahead(self) -> int:
        """Frames m that the window reaches beyond its centre, on either side."""
        return self.config.inputs // 2

    @property
    def state_channels(self) -> dict[str, int]:
        """Channels of each tensor that this variant's state holds, by its name."""
        channels = {}
        if self.blend is not None:
            channels["blended"] = 2 * self.config.features
        if self.feedback is not None:
            channels["features"] = self.config.features
        return channels

    def forward(self, window: Tensor, state: DTBState | None = None) -> tuple[Tensor, DTBState]:
        """Estimate the sharp centre frame of a window.

        Args:
            window: [B, 2m+1, 3, H, W] in [0, 1], H and W even.
            state: what the step before gave; None at the start of a video. There F(-1) is zero
                and h~(-1) is h(0), which makes h~(0) = h(0) whatever the weight: the features
                of the first frame pass undimmed, as they would not with h~(-1) = 0.

        Returns:
            The frame [B, 3, H, W], not clamped, and the state for the next window.

        """
        blended, features = DTBState() if state is None else state
        x = F.relu(self.stem(window.flatten(1, 2)))  # [B, 64, H, W]
        x = self.down(x)  # [B, 32, H/2, W/2]
        if self.feedback is not None:
            features = torch.zeros_like(x) if features is None else features.to(x.dtype)
            x = torch.cat([x, features], dim=1)  # [B, 64, H/2, W/2]
        x = self.encoder(x)
        if self.blend is not None:
            # A step in another precision may have made the state: lerp takes one type only.
            x = blended = x if blended is None else self.blend(x, blended.to(x.dtype))
        x = self.decoder(x)
        if self.feedback is not None:
            features = F.relu(self.feedback(x))
        restored = self.head(F.relu(self.up(x)))  # [B, 3, H, W]
        if self.config.residual:
            restored = window[:, self.look_ahead] + restored
        return restored, DTBState(blended, features)


def run_clip(net: DTB, clip: Tensor, state: DTBState | None = None) -> Tensor:
    """Restore every frame of a clip in order of time, the state handed from one to the next.

    Windows that reach beyond the clip see its first or last frame again.

    Args:
        net: network of any variant.
        clip: [B, T, 3, H, W] in [0, 1], H and W even.
        state: what the frames before the clip left; None when there are none.

    Returns:
        [B, T, 3, H, W], not clamped.

    """
    before = clip[:, :1].repeat_interleave(net.look_ahead, dim=1)
    after = clip[:, -1:].repeat_interleave(net.look_ahead, dim=1)
    padded = torch.cat([before, clip, after], dim=1)  # [B, m + T + m, 3, H, W]
    restored = []
    for n in range(clip.shape[1]):
        frame, state = net(padded[:, n : n + net.config.inputs], state)
        restored.append(frame)
    return torch.stack(restored, dim=1)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(PlainBlock(channels=channels) for _ in range(count)))
