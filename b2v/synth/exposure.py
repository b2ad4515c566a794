"""The open shutter: blur is the light of many instants averaged.

`expose` is eq. 1 of Jin et al. (CVPR 2018) and of Kim et al. (ICCV 2017) with the gamma
curve g where physics has it: light is averaged, code values are what comes out.
"""

import torch
from torch import Tensor

from b2v.color import Curve, to_encoded


def instants(frames: int, sub_frames: int) -> Tensor:
    """List the times at which to look at a scene, in frame intervals from the middle frame.

    Each frame's segment of the exposure is cut into `sub_frames` (odd) equal parts, whose
    centres are the instants; the centre of segment k is the time of frame k itself.

    Returns:
        [frames, sub_frames], evenly spaced from first to last.

    """
    if sub_frames % 2 == 0:
        raise ValueError(f"sub_frames must be odd for a frame to have a centre, got {sub_frames}")
    count = frames * sub_frames
    return ((torch.arange(count) - (count - 1) / 2) / sub_frames).view(frames, sub_frames)


def expose(light_lin: Tensor, curve: Curve = "gamma2.2") -> Tensor:
    """Average instants [N, C, H, W] of linear light to one encoded picture [C, H, W]."""
    return to_encoded(light_lin.mean(0), curve)
