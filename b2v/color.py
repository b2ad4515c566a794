"""Between code values and light: the only gamma in the package.

A shutter averages light, while pictures hold code values. Two curves are in use: the exact
sRGB curve (IEC 61966-2-1) and the plain power 2.2 that the deblurring literature uses
(GoPro's `blur_gamma`). Tensors in linear light carry the suffix `_lin`.
"""

from typing import Literal

from torch import Tensor, where

Curve = Literal["srgb", "gamma2.2"]
GREY = 0.3, 0.4, 0.3
"""Shares of red, green and blue in what is compared without color."""


def to_linear(encoded: Tensor, curve: Curve = "srgb") -> Tensor:
    """Decode code values in [0, 1] to linear light in [0, 1]; any shape."""
    encoded = encoded.clamp(0, 1)
    if curve == "gamma2.2":
        return encoded**2.2
    return where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def to_encoded(light_lin: Tensor, curve: Curve = "srgb") -> Tensor:
    """Encode linear light in [0, 1] to code values in [0, 1]; any shape."""
    light_lin = light_lin.clamp(0, 1)
    if curve == "gamma2.2":
        return light_lin ** (1 / 2.2)
    return where(
        light_lin <= 0.0031308,
        light_lin * 12.92,
        1.055 * light_lin.clamp(min=0.0031308) ** (1 / 2.4) - 0.055,
    )
