"""Online video deblurring network (Kim, Lee, Schölkopf, Hirsch, ICCV 2017, Sec. 4-5).

The three networks of Table 1 are variants of one:

    cnn      the window alone
    strcnn   + F(n-1), the last features of the step before (Sec. 4.1)
    dtb      + h~(n-1), blended into the features of this step (Sec. 4.2)

Windows, states and outputs are as of `b2v.models.video`; H and W are even.

Where we differ from the paper, or it is silent: the blocks have ReLU but no batch norm and no
ReLU after the sum; the output is a residual to the centre frame (`residual=False` is the
paper's form); cnn has a wider stem in place of the features, because the paper's networks have
equally many parameters (Sec. 6.1) and so they have; beta is the sigmoid of what is learned,
which keeps it in (0, 1); it starts where the config says.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.models.unet import blocks_of
from b2v.models.video import TemporalBlend, VideoNet, VideoState, check_video_config

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
    """The sharp centre frame of a window, and the state for the next window (Fig. 3, 4)."""

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
            _init_for_relu(cast("nn.Conv2d", conv))
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
        """Estimate the sharp centre frame of a window, as of `VideoNet`; F(-1) is zero."""
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


def _init_for_relu(conv: nn.Conv2d) -> None:
    """Draw the weights of a convolution so that ReLUs keep features alive (He et al., ICCV 2015).

    By torch's own start they come out of the decoder nine times smaller, and it learns more slowly.
    """
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
