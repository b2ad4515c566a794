"""What becomes of a blurry picture on its way out of a camera: noise and JPEG."""

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from b2v.media.jpeg import through_jpeg

JPEG_QUALITY = (60, 96)
"""Range of the quality of pictures that go through JPEG."""


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
