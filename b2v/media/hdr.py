"""From high dynamic range (BT.2100, PQ or HLG) to ordinary pictures.

Reference white of 203 nits (BT.2408) and all that is darker than half of it keeps its place;
what is brighter is bent below white, up to a peak of 1000 nits, by one factor for all three
colours, so that hues stay. Primaries of BT.2020 become those of BT.709.
"""

import torch
from torch import Tensor, where

from b2v.color import to_encoded
from b2v.media.info import Colours

WHITE, PEAK = 203.0, 1000.0
"""Nits of reference white, and of the brightest light that stays apart."""
KNEE = 0.5
"""Light, of reference white, up to which nothing is changed."""
BT2020 = 9
TO_BT709 = (
    (1.660491, -0.587641, -0.072850),
    (-0.124550, 1.132900, -0.008349),
    (-0.018151, -0.100579, 1.118730),
)
"""From linear BT.2020 to linear BT.709 (BT.2087, inverse of table 4)."""
LUMA = (0.2627, 0.6780, 0.0593)


class ToneMap:
    """Brings pixels [3, H, W] of HDR, coded in [0, 1], to sRGB-encoded ones in [0, 1]."""

    def __init__(self, colours: Colours) -> None:
        self.curve = colours.hdr
        wide = colours.primaries == BT2020
        self.matrix = torch.tensor(TO_BT709) if wide else torch.eye(3)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Convert one picture."""
        light_lin = pq_to_light(pixels) if self.curve == "PQ" else hlg_to_light(pixels)
        light_lin = torch.einsum("ij,jhw->ihw", self.matrix, light_lin).clamp_(min=0)
        brightest = light_lin.amax(0).clamp_(min=1e-6)
        return to_encoded(light_lin * (bend(brightest) / brightest))


def bend(light_lin: Tensor) -> Tensor:
    """Bend light above `KNEE` so that `PEAK` becomes 1; smooth, of slope 1 at the knee."""
    most = (PEAK / WHITE - KNEE) / (1 - KNEE)
    over = ((light_lin - KNEE) / (1 - KNEE)).clamp(0, most)
    bent = KNEE + (1 - KNEE) * over * (1 + over / most**2) / (1 + over)
    return where(light_lin < KNEE, light_lin, bent)


def pq_to_light(coded: Tensor) -> Tensor:
    """Decode PQ (SMPTE ST 2084) to light in units of reference white."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = coded.clamp(0, 1) ** (1 / m2)
    return ((power - c1).clamp(min=0) / (c2 - c3 * power)) ** (1 / m1) * (10000 / WHITE)


def hlg_to_light(coded: Tensor) -> Tensor:
    """Decode HLG (BT.2100) as a display of 1000 nits does, in units of reference white."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    coded = coded.clamp(0, 1)
    scene_lin = where(coded <= 0.5, coded**2 / 3, (((coded - c) / a).exp() + b) / 12)
    luma = torch.einsum("j,jhw->hw", torch.tensor(LUMA), scene_lin)
    return scene_lin * luma.clamp(min=1e-6) ** 0.2 * (1000 / WHITE)
