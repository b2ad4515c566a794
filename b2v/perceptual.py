"""Perceptual loss: how far two pictures lie apart in what VGG16 sees in them.

Jin et al. (CVPR 2018, eq. 3) take its layers relu2_2 and relu3_3 for the middle frame, as
Johnson et al. (2016) do: the mean squared difference of each layer's features, added up.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.weights.vgg import CONVOLUTIONS, find_vgg16, read_vgg16

POOLED_AFTER = ("features.2", "features.7")
LOOKED_AT = ("features.7", "features.14")
"""Convolutions before relu2_2 and relu3_3."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, by which VGG16's pictures are normalised."""


class Features(nn.Module):
    """VGG16 up to relu3_3, frozen: pictures [B, 3, H, W] in [0, 1] to two maps of features."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleDict()
        for name, (outputs, inputs) in CONVOLUTIONS.items():
            conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            conv.load_state_dict({key: state[f"{name}.{key}"] for key in ("weight", "bias")})
            self.convolutions[name.replace(".", "-")] = conv
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Compute relu2_2 [B, 128, H/2, W/2] and relu3_3 [B, 256, H/4, W/4]."""
        x = (pictures - cast("Tensor", self.mean)) / cast("Tensor", self.std)
        seen = []
        for name in CONVOLUTIONS:
            x = F.relu(self.convolutions[name.replace(".", "-")](x))
            if name in LOOKED_AT:
                seen.append(x)
            if name in POOLED_AFTER:
                x = F.max_pool2d(x, 2)
        return seen


def load_features() -> Features:
    """Make VGG16's first layers with its weights, which are downloaded if they are nowhere.

    Raises WeightsError when that is not possible.
    """
    return Features(read_vgg16(find_vgg16()))


def perceptual_loss(features: Features, restored: Tensor, sharp: Tensor) -> Tensor:
    """Compare pictures [B, 3, H, W] by their features: [B]."""
    with torch.no_grad():
        expected = features(sharp)
    pairs = zip(features(restored), expected, strict=True)
    return torch.stack([(r.float() - s.float()).square().mean((1, 2, 3)) for r, s in pairs]).sum(0)
