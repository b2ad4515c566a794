"""Dynamic temporal blending in a U-Net: the idea of `b2v.models.dtb` on a body that learns faster.

The U-Net for the middle frame of a photo (`b2v.models.unet`) sees a window instead of one
picture, its centre first; it blends the features of its coarsest scale with those of the frame
before (Kim et al., ICCV 2017, eq. 2, 3), and what its finest scale made of that frame is added
behind the stem. So it can start as a net for photos, which restores each frame alone: nothing
comes in from the frames beside to begin with, but what the blend mixes in at once.

A frame costs 0.6 of what the network of the paper takes, and is seen three times as wide.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.models.unet import Hourglass
from b2v.models.video import TemporalBlend, VideoNet, VideoState, check_video_config


@dataclass(frozen=True, kw_only=True)
class BlendConfig:
    """Shape of the network: `inputs` is 2m + 1, the rest is of `UNetConfig` and `DTBConfig`.

    `beta` starts close to 1, where the frame before is hardly blended in.
    """

    inputs: int = 3
    shuffle: int = 2
    widths: tuple[int, ...] = (48, 96, 160)
    blocks: tuple[int, ...] = (2, 2, 4)
    beta: float = 0.9

    def __post_init__(self) -> None:
        check_video_config(self.inputs, self.beta)


class BlendNet(Hourglass, VideoNet):
    """The sharp centre frame of a window, and the state for the next window."""

    def __init__(self, config: BlendConfig) -> None:
        super().__init__(
            channels=3 * config.inputs,
            maps=3,
            shuffle=config.shuffle,
            widths=config.widths,
            blocks=config.blocks,
        )
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
        """Estimate the sharp centre frame of a window, as of `VideoNet`."""
        blended, features, _ = state or VideoState()
        m = self.look_ahead
        centre, beside = window[:, m], torch.cat([window[:, :m], window[:, m + 1 :]], 1)
        pictures = torch.cat([centre, beside.flatten(1, 2)], 1)
        x = self.stem(F.pixel_unshuffle(pictures, self.shuffle))  # [B, 48, H/2, W/2]
        if features is not None:
            x = x + self.feedback(features.to(x.dtype))
        x, skips = self.descend(x)  # [B, 160, H/8, W/8]
        x = blended = self.blend(x, blended)
        x = self.ascend(x, skips)
        features = x.tanh()  # it goes round for as long as a video lasts, and must not grow
        residual = F.pixel_shuffle(self.head(x), self.shuffle)
        return centre + residual, VideoState(blended, features)
