"""Where the frames explain the photo, and where not.

The frames are averaged as light, as the open shutter did, and compared with the photo. What
differs is averaged in a small window around each pixel and shown in dB, as PSNR: the photo in
grey where it is explained, from violet to yellow where it is not.
"""

import torch
from torch import Tensor

from b2v.metrics import reblur
from b2v.show.layout import fit, smooth

LONGEST = 1600
"""Longest side of a map in pixels; larger photos are scaled down."""
WINDOW = 1 / 100
"""Standard deviation of the window, as a part of the longest side."""
BAD, GOOD = 20.0, 45.0
"""Range of the colours in dB."""
COLOURS = (
    (0.20, 0.07, 0.35),
    (0.55, 0.15, 0.51),
    (0.86, 0.28, 0.35),
    (0.98, 0.57, 0.16),
    (0.99, 0.91, 0.15),
)
"""From `GOOD` to `BAD`; they differ in brightness too, for eyes that see few colours."""


def heat_map(frames: Tensor, photo: Tensor) -> Tensor:
    """Draw how well frames [T, 3, H, W] explain a photo [3, H, W]: [3, h, w]."""
    wrong = (reblur(frames) - photo).square().mean(0, keepdim=True)  # [1, H, W]
    small = fit(wrong.expand(3, -1, -1), LONGEST, LONGEST)[:1]
    sigma = max(1.0, WINDOW * max(small.shape[1:]))
    level = -10 * torch.log10(smooth(small, sigma)[0].clamp(min=1e-10))  # [h, w] dB
    worse = ((GOOD - level) / (GOOD - BAD)).clamp(0, 1)  # 0: explained
    place = worse * (len(COLOURS) - 1)
    low = place.long().clamp(max=len(COLOURS) - 2)
    table = torch.tensor(COLOURS)
    colour = torch.lerp(table[low], table[low + 1], (place - low)[..., None])  # [h, w, 3]
    grey = 0.15 + 0.7 * fit(photo, LONGEST, LONGEST).mean(0)
    return torch.lerp(grey.expand(3, -1, -1), colour.movedim(-1, 0), 0.9 * worse.sqrt())
