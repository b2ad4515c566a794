"""What a camera's JPEG does to a picture, in memory."""

import io

import numpy as np
from PIL import Image
from torch import Tensor, from_numpy


def through_jpeg(picture: Tensor, quality: int) -> Tensor:
    """Compress [3, H, W] in [0, 1] as JPEG and take it out again; colours at half resolution.

    `quality` is Pillow's, 1 to 95.
    """
    codes = (picture.clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()
    file = io.BytesIO()
    Image.fromarray(codes).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return from_numpy(np.array(image)).movedim(-1, 0).float() / 255
