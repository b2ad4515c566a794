"""Words on pictures, and pictures in pages."""

import base64

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, from_numpy

from b2v.media.stills import encode, to_codes

PAGE_QUALITY = 88
"""Of pictures in pages; what they are compared for is still seen."""


def lettering(words: str, height: int) -> Tensor:
    """Draw one line of words that is `height` pixels high: [1, height, w], 1 where ink is."""
    font = ImageFont.load_default(max(6, round(height * 0.72)))
    width = max(1, round(font.getlength(words)))
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).text((0, height / 2), words, fill=255, font=font, anchor="lm")
    return from_numpy(np.array(image)).float()[None] / 255


def write_words(
    picture: Tensor,
    words: str,
    *,
    height: int,
    top: int = 0,
    left: int = 0,
    centred: bool = False,
    ink: float = 1.0,
) -> None:
    """Write words onto `picture` [3, H, W] in place; what does not fit is cut off.

    `left` is where they begin or, `centred`, where their middle is.
    """
    mask = lettering(words, height)
    left = left - mask.shape[2] // 2 if centred else left
    mask = mask[:, max(0, -top) :, max(0, -left) :]
    place = picture[:, max(0, top) :, max(0, left) :][:, : mask.shape[1], : mask.shape[2]]
    mask = mask[:, : place.shape[1], : place.shape[2]]
    place.copy_(place + mask * (ink - place))


def data_uri(pixels: Tensor) -> str:
    """Encode a picture [3, H, W] in [0, 1] as the address of itself, for a page that has no files.

    It is WebP, or JPEG where it is too large for that.
    """
    kind = "WEBP" if max(pixels.shape) <= 16383 else "JPEG"
    data = base64.b64encode(encode(to_codes(pixels), kind, PAGE_QUALITY)).decode()
    return f"data:image/{kind.lower()};base64,{data}"
