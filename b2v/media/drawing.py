"""Pictures made of pictures: comparisons, filmstrips with a line of words each, and heat maps.

A heat map shows where the frames explain the photo. They are averaged as light, as the open
shutter did, and compared with it; what differs is averaged in a small window around each pixel and
shown in dB, as PSNR: the photo in gray where it is explained, from violet to yellow where it is
not.
"""

import base64
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, from_numpy
from torch.nn import functional as F

from b2v.errors import ShapeError
from b2v.frames import smooth, to_codes
from b2v.media.metadata import encode
from b2v.metrics import reblur

Way = Literal["side", "stack"]


def beside(blurry: Tensor, restored: Tensor, way: Way) -> Tensor:
    """Put `blurry` left of `restored` or, for "stack", above it.

    Both are [..., 3, H, W] of one size; one blurry picture goes with any number of frames.
    """
    blurry = blurry.expand_as(restored)
    return torch.cat([blurry, restored], dim=-1 if way == "side" else -2)


def fit(pictures: Tensor, width: int, height: int) -> Tensor:
    """Scale pictures [..., 3, H, W] down, if need be, to fit into `width` x `height` pixels."""
    high, wide = pictures.shape[-2:]
    factor = min(1.0, width / wide, height / high)
    if factor == 1:
        return pictures
    size = max(1, round(high * factor)), max(1, round(wide * factor))
    flat = pictures.reshape(-1, *pictures.shape[-3:])
    small = [
        F.interpolate(one[None].float(), size, mode="bilinear", antialias=True, align_corners=False)
        for one in flat
    ]
    return torch.cat(small).clamp(0, 1).reshape(*pictures.shape[:-2], *size)


PAGE_QUALITY = 88
"""Of pictures in pages; what they are compared for is still seen."""


def write_words(picture: Tensor, words: str, *, height: int, top: int, middle: int) -> None:
    """Write one line of words onto `picture` [3, H, W] in place, about the column `middle`."""
    font = ImageFont.load_default(max(6, round(height * 0.72)))
    image = Image.new("L", (max(1, round(font.getlength(words))), height))
    ImageDraw.Draw(image).text((0, height / 2), words, fill=255, font=font, anchor="lm")
    mask = from_numpy(np.array(image)).float()[None] / 255  # [1, height, w], 1 where ink is
    left = middle - mask.shape[2] // 2
    mask = mask[..., max(0, -left) :]  # what does not fit is cut off
    place = picture[:, top : top + height, max(0, left) :][..., : mask.shape[2]]
    mask = mask[:, : place.shape[1], : place.shape[2]]
    place.copy_(place + mask * (INK - place))


def data_uri(pixels: Tensor) -> str:
    """Encode a picture [3, H, W] in [0, 1] as the address of itself, for a page that has no files.

    It is WebP, or JPEG where it is too large for that.
    """
    kind = "WEBP" if max(pixels.shape) <= 16383 else "JPEG"
    data = base64.b64encode(encode(to_codes(pixels), kind, PAGE_QUALITY)).decode()
    return f"data:image/{kind.lower()};base64,{data}"


CELL = 480
"""Longest side of a frame in pixels."""
GAP = 8
LINE = 24
"""Pixels between frames, and of the least line of words."""
WORDS = 1 / 8
"""Height of a line of words, as a part of the width of its cell: a row of eight is read when it is
scaled down to the width of a screen."""
PAPER, INK = 0.08, 0.92


def strip(rows: Sequence[Sequence[Tensor]], captions: Sequence[Sequence[str]]) -> Tensor:
    """Lay out rows of pictures [3, H, W] in [0, 1], with a line of words below each: [3, h, w].

    Large ones are scaled down. Raises ShapeError where a row is longer than another, or a picture
    of another size.
    """
    shapes = {tuple(picture.shape) for row in rows for picture in row}
    lengths = {len(row) for row in (*rows, *captions)}
    if len(shapes) != 1 or len(lengths) != 1 or len(rows) != len(captions):
        raise ShapeError(f"a strip of rows of {sorted(lengths)} pictures of {sorted(shapes)}")
    first = fit(rows[0][0], CELL, CELL)
    height, width = first.shape[1:]
    cell = max(width, 4 * LINE)
    line = max(LINE, round(WORDS * cell))
    size = len(rows) * (GAP + height + line) + GAP, lengths.pop() * (GAP + cell) + GAP
    sheet = torch.full((3, *size), PAPER)
    for y, (row, words) in enumerate(zip(rows, captions, strict=True)):
        top = GAP + y * (GAP + height + line)
        for x, (picture, said) in enumerate(zip(row, words, strict=True)):
            left = GAP + x * (GAP + cell)
            place = sheet[:, top : top + height, left + (cell - width) // 2 :][:, :, :width]
            place.copy_(fit(picture, CELL, CELL))
            middle = left + cell // 2
            below = top + height + 2
            write_words(sheet, said, height=line - 4, top=below, middle=middle)
    return sheet


HEAT_LONGEST = 1600
"""Longest side of a map in pixels; larger photos are scaled down."""
HEAT_WINDOW = 1 / 100
"""Standard deviation of the window, as a part of the longest side."""
BAD, GOOD = 20.0, 45.0
"""Range of the colors in dB."""
COLORS = (
    (0.20, 0.07, 0.35),
    (0.55, 0.15, 0.51),
    (0.86, 0.28, 0.35),
    (0.98, 0.57, 0.16),
    (0.99, 0.91, 0.15),
)
"""From `GOOD` to `BAD`; they differ in brightness too, for eyes that see few colors."""


def heat_map(frames: Tensor, photo: Tensor) -> Tensor:
    """Draw how well frames [T, 3, H, W] explain a photo [3, H, W]: [3, h, w]."""
    wrong = (reblur(frames) - photo).square().mean(0, keepdim=True)  # [1, H, W]
    small = fit(wrong.expand(3, -1, -1), HEAT_LONGEST, HEAT_LONGEST)[:1]
    sigma = max(1.0, HEAT_WINDOW * max(small.shape[1:]))
    level = -10 * torch.log10(smooth(small, sigma)[0].clamp(min=1e-10))  # [h, w] dB
    worse = ((GOOD - level) / (GOOD - BAD)).clamp(0, 1)  # 0: explained
    place = worse * (len(COLORS) - 1)
    low = place.long().clamp(max=len(COLORS) - 2)
    table = torch.tensor(COLORS)
    color = torch.lerp(table[low], table[low + 1], (place - low)[..., None])  # [h, w, 3]
    gray = 0.15 + 0.7 * fit(photo, HEAT_LONGEST, HEAT_LONGEST).mean(0)
    return torch.lerp(gray.expand(3, -1, -1), color.movedim(-1, 0), 0.9 * worse.sqrt())
