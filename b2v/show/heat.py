"""Where the frames explain the photo, and where not.

The frames are averaged as light, as the open shutter did, and compared with the photo. What
differs is averaged in a small window around each pixel and shown in dB, as PSNR: the photo in
grey where it is explained, from violet to yellow where it is not.
"""

import torch
from torch import Tensor

from b2v.media.draw import write_words
from b2v.metrics import reblur
from b2v.show.layout import fit, smooth

LONGEST = 1600
"""Longest side of a map in pixels; larger photos are scaled down."""
NARROWEST = 360
"""Pixels that the words of the legend need."""
WINDOW = 1 / 100
"""Standard deviation of the window, as a part of the longest side."""
BAD, GOOD = 20.0, 45.0
"""Range of the colours in dB."""
COLOURS = (
    (0.99, 0.91, 0.15),
    (0.98, 0.57, 0.16),
    (0.86, 0.28, 0.35),
    (0.55, 0.15, 0.51),
    (0.20, 0.07, 0.35),
)
"""From `BAD` to `GOOD`; they differ in brightness too, for eyes that see few colours."""
LEGEND = 56
MAX_DB = 100.0
"""Stands for no difference at all."""


def explained(frames: Tensor, photo: Tensor) -> Tensor:
    """Say how well frames [T, 3, H, W] explain a photo [3, H, W] around each pixel: dB [h, w].

    Photos longer than `LONGEST` are scaled down.
    """
    wrong = (reblur(frames) - photo).square().mean(0, keepdim=True)  # [1, H, W]
    small = fit(wrong.expand(3, -1, -1), LONGEST, LONGEST)[:1]
    sigma = max(1.0, WINDOW * max(small.shape[1:]))
    return -10 * torch.log10(smooth(small, sigma)[0] + 10 ** (-MAX_DB / 10))


def heat_map(frames: Tensor, photo: Tensor) -> Tensor:
    """Draw how well frames [T, 3, H, W] explain a photo [3, H, W], with a legend: [3, h, w]."""
    level = explained(frames, photo)
    grey = fit(photo, LONGEST, LONGEST).mean(0)
    worse = ((GOOD - level) / (GOOD - BAD)).clamp(0, 1)  # 0: explained
    cover = 0.9 * worse.sqrt()
    drawn = (0.15 + 0.7 * grey) * (1 - cover) + colour(worse) * cover
    width = max(drawn.shape[2], NARROWEST)
    sheet = torch.full((3, drawn.shape[1] + LEGEND, width), 0.08)
    left = (width - drawn.shape[2]) // 2
    sheet[:, : drawn.shape[1], left : left + drawn.shape[2]] = drawn
    _legend(sheet[:, drawn.shape[1] :])
    return sheet


def colour(worse: Tensor) -> Tensor:
    """Colour of values [h, w] from 0 (explained) to 1: [3, h, w]."""
    table = torch.tensor(COLOURS[::-1])  # [5, 3]
    place = worse.clamp(0, 1) * (len(table) - 1)
    low = place.floor().long().clamp(max=len(table) - 2)
    part = (place - low)[..., None]
    return ((1 - part) * table[low] + part * table[low + 1]).movedim(-1, 0)


def _legend(sheet: Tensor) -> None:
    """Draw the bar of colours, and what they mean, onto [3, LEGEND, w]."""
    width = sheet.shape[2]
    left, right = width // 2, width - 28
    ramp = torch.linspace(1, 0, right - left).expand(12, -1)
    sheet[:, 12:24, left:right] = colour(ramp)
    for words, x in (("poor", left + 12), ("good", right - 12)):
        write_words(sheet, words, height=18, top=28, left=x, centred=True, ink=0.9)
    write_words(sheet, "match with the photo", height=22, top=8, left=12)
    write_words(sheet, "grey: no difference", height=17, top=31, left=12, ink=0.75)
