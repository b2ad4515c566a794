"""A frame made sharper by what its paths say: the blur of each pixel is known, and is taken back.

Light averaged along the paths of a sharp frame must give the blurry picture. Where it does not, the
frame is corrected by the ratio of both, averaged along the same paths: Richardson (1972) and Lucy
(1974), with a kernel of its own for every pixel, as in Tai, Tan and Brown, Richardson-Lucy
Deblurring for Scenes under a Projective Motion Path (2011). It starts at the frame that a network
has sharpened, so few rounds do.
"""

import math

from torch import Tensor

from b2v.color import to_encoded, to_linear
from b2v.models.moving import move_along

ROUNDS = 2
"""Corrections, one after the other: more of them bring out what is wrong in the paths."""
RELAXED = 2.0
"""By how much each is exaggerated: two rounds do what four would at 1."""
INSTANTS, APART = (3, 12), 2.0
"""Instants to each side of the middle of the exposure over which light is averaged, least and most,
and pixels between them at most where there are not more."""
DARK = 1e-4
"""Light below which ratios are not taken."""
LEAST = 0.1
"""Factor by which a round darkens a pixel at most: exaggerated changes could pass zero."""


def deconvolve(
    blurry: Tensor,
    x4: Tensor,
    paths: Tensor,
    trust: Tensor,
    reach: float | None = None,
    relaxed: float = RELAXED,
) -> Tensor:
    """Correct a frame so that, moved along its paths and averaged as light, it gives the blur.

    A row depends on those that are up to `looks` of the longest path away.

    Args:
        blurry: [B, 3, H, W] in [0, 1], sRGB-encoded.
        x4: the frame, as `blurry`.
        paths: [B, 2, H, W], to the end of the exposure, in pixels.
        trust: [B, 1, H, W] in [0, 1], the share of each correction that is made.
        reach: pixels of the longest path of the picture that this is a part of; of this without.
        relaxed: by how much each correction is exaggerated.

    Returns:
        [B, 3, H, W] in [0, 1].

    """
    seen, light = (to_linear(p.float(), "gamma2.2") for p in (blurry, x4))
    reach = float(paths.norm(dim=1).amax()) if reach is None else reach
    least, most = INSTANTS
    side = min(max(least, math.ceil(reach / APART)), most)
    for _ in range(ROUNDS):
        ratio = seen.clamp(min=DARK) / _averaged(light, paths, side).clamp(min=DARK)
        change = relaxed * trust * (_averaged(ratio, paths, side) - 1)
        light = (light * (1 + change).clamp(min=LEAST)).clamp(0, 1)
    return to_encoded(light, "gamma2.2")


def looks(reach: float) -> int:
    """Tell how many rows away `deconvolve` looks when no path is longer than `reach` pixels."""
    return 2 * ROUNDS * (int(reach) + 2)


def _averaged(picture: Tensor, paths: Tensor, side: int) -> Tensor:
    """Average a picture along paths over `side` instants to each side of the middle.

    Paths change slowly from pixel to pixel and time runs equally far to both sides, so that this
    takes the place of its own transpose.
    """
    total = picture.clone()
    for instant in range(1, side + 1):
        for time in (-instant / side, instant / side):
            total += move_along(picture, paths[:, None] * time)[:, 0]
    return total / (2 * side + 1)
