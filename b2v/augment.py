"""What becomes of a picture in a camera, beside motion blur: softness, noise and JPEG."""

import math

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from b2v.color import Curve, to_encoded, to_linear
from b2v.media.jpeg import through_jpeg

JPEG_QUALITY = (60, 96)
"""Range of the quality of pictures that go through JPEG."""
SOFTNESS = (0.2, 3.0)
"""Range of the standard deviation in pixels of what a lens out of focus does to light."""


def soften(pictures: Tensor, rng: Generator, curve: Curve) -> Tensor:
    """See pictures [N, 3, H, W] through one lens, a little out of focus: a Gaussian of light."""
    sigma = rng.uniform(*SOFTNESS)
    reach = min(math.ceil(3 * sigma), *(side - 1 for side in pictures.shape[2:]))
    weights = torch.exp(-(torch.arange(-reach, reach + 1) / sigma).square() / 2)
    weights = (weights / weights.sum()).expand(3, 1, -1)
    light = F.pad(to_linear(pictures, curve), (reach,) * 4, "reflect")
    light = F.conv2d(F.conv2d(light, weights[..., None], groups=3), weights[:, :, None], groups=3)
    return to_encoded(light, curve)


def wear(pictures: Tensor, rng: Generator, *, noise: float, jpeg: float) -> Tensor:
    """Add noise to one in two, and compress some.

    Args:
        pictures: [3, H, W], or frames [N, 3, H, W] of one video that fare alike.
        rng: source of all randomness.
        noise: largest standard deviation; it is drawn evenly up to that (Jin et al., Sec. 6).
        jpeg: probability of compression.

    Returns:
        Pictures of the same shape in [0, 1].

    """
    sigma = max(0.0, rng.uniform(-noise, noise))
    grain = torch.from_numpy(rng.standard_normal(pictures.shape, dtype=np.float32))
    worn = (pictures + sigma * grain).clamp(0, 1)
    if rng.random() >= jpeg:
        return worn
    quality = int(rng.integers(*JPEG_QUALITY))
    flat = worn.reshape(-1, *worn.shape[-3:])
    return torch.stack([through_jpeg(picture, quality) for picture in flat]).reshape(worn.shape)
