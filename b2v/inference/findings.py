"""What is said of a photo once it is restored, in plain English, and only where something is off.

It follows from the motion that explains its blur, and from how well the frames explain the photo.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from b2v.inference.pyramid import motion_level
from b2v.models.motion import HALF_LENGTHS, Motion

TRUSTED = 0.3
"""Log of costs from which motion is taken to explain a cell, as `Motion.explained` has it."""
MOVED, FEW = 2.0, 0.005
"""Pixels of motion that count as any, and the share of cells of such motion below which there is
none in the photo. A network that sharpens a sharp picture a little leaves up to 1.5 pixels."""
DETAIL = 0.01
"""Difference (rms) of pixels beside each other that the best tenth of the parts of a sharp photo
has at least: less of it, noise and fog and the dark, do not tell whether anything moved."""
LONGEST = HALF_LENGTHS[-2] + HALF_LENGTHS[-1]
"""Pixels of motion over the exposure, where it is sought, that are nearest to the longest known."""
BEYOND = 0.05
"""Share of the trusted cells of the longest motion from which there may be longer motion."""
PART, APART, PARTS = 32, 0.06, 0.1
"""Pixels a side of the parts in which frames and photo are compared, the difference (rms) from
which a part is not explained, and the share of such parts that is worth a word."""
SHARP = "already sharp: no motion blur was found"
DEFOCUS = "this looks like missed focus, not motion; it was left as it is"
TOO_LONG = "the motion is longer than b2v can follow in places"
UNEXPLAINED = "parts of the photo are not explained by the frames; --reblur map.png shows where"


@dataclass(frozen=True)
class Restored:
    """What came of a photo.

    Attributes:
        frames: [T, 3, H, W] in [0, 1], on the CPU.
        motion: that explains its blur, by cells of the photo; None of networks that seek none.
        out_of_focus: missed focus made it blurry, not motion, and each frame is the photo.

    """

    frames: Tensor
    motion: Motion | None = None
    out_of_focus: bool = False


def remarks(restored: Restored, again: Tensor, photo: Tensor) -> list[str]:
    """List what is off with a photo, or with what came of it, a line each.

    Args:
        restored: what came of it.
        again: the photo that its seven frames explain, [3, H, W] (`b2v.metrics.reblur`).
        photo: [3, H, W] in [0, 1].

    """
    if restored.out_of_focus:
        return [DEFOCUS]
    motion, found = restored.motion, []
    if motion is not None and is_still(motion) and has_detail(photo):
        found.append(SHARP)
    if motion is not None and is_too_long(motion, motion_level(photo)):
        found.append(TOO_LONG)
    if is_unexplained(again, photo):
        found.append(UNEXPLAINED)
    return found


def is_still(motion: Motion) -> bool:
    """Tell whether next to nothing moved during the exposure."""
    moved = (motion.explained > TRUSTED) & (motion.lengths > MOVED)
    return _share(moved) < FEW


def has_detail(photo: Tensor) -> bool:
    """Tell whether there is anything in a photo [3, H, W] that motion would blur."""
    gray = photo.mean(0)
    squared = (gray[1:, 1:] - gray[:-1, :-1]).square() / 2
    return float(_of_parts(squared).quantile(0.9)) > DETAIL


def is_too_long(motion: Motion, level: int) -> bool:
    """Tell whether there is motion as long as the longest of the search, at the halving `level`."""
    lengths = motion.lengths[motion.explained > TRUSTED]
    return bool(lengths.numel()) and _share(lengths > LONGEST * 2**level) > BEYOND


def is_unexplained(again: Tensor, photo: Tensor) -> bool:
    """Tell whether frames that come to a photo `again`, [3, H, W], leave much of it unexplained."""
    return _share(_of_parts((again - photo).square().mean(0)) > APART) > PARTS


def _of_parts(squared: Tensor) -> Tensor:
    """Root of the mean of squares [H, W] in each part, [h, w]."""
    parts = F.avg_pool2d(squared[None, None], PART, ceil_mode=True, count_include_pad=False)
    return parts[0, 0].sqrt()


def _share(chosen: Tensor) -> float:
    return float(chosen.float().mean())
