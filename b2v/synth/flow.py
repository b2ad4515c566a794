"""Ways of what filmed windows show: the counterpart of what moving photographs know exactly.

Dense optical flow from the middle frame to the first and the last (iterative Lucas-Kanade, Le
Besnerais and Champagnat, ICIP 2005, of scikit-image). It is kept where it can be right: it leads
to the same colours, there is texture by which to tell, and what comes goes on as it came.
"""

from typing import Any

import numpy as np
import torch
from skimage.registration import optical_flow_ilk
from torch import Tensor
from torch.nn import functional as F

from b2v.frames import MIDDLE
from b2v.models.moving import move_along

SHRINK = 2
"""Flow is sought on frames of so many times fewer pixels a side: four times faster, as good."""
RADIUS, ROUNDS = 6, 5
"""Half the side of a window in which flow is one, and how often it is refined."""
WRONG = 0.025
"""Mean difference of colours, in a small window, beyond which flow is not believed."""
FARTHEST = 8.0
"""Flow in shrunken pixels beyond which it is not believed: steps of more than five pixels a frame
leave a comb of copies, in which the flow is lost as well."""
TEXTURE = 2e-5
"""Smaller eigenvalue of the structure tensor, of brightness a shrunken pixel, squared: below it
the flow is guessed (Shi and Tomasi, 1994)."""
GREY = 0.3, 0.4, 0.3
"""Shares of red, green and blue."""


def shrunk(frames: Tensor) -> Tensor:
    """Make frames [N, 3, H, W] grey and small, [N, 1, h, w]; an odd side loses nothing."""
    grey = (frames * frames.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return F.avg_pool2d(grey, SHRINK, ceil_mode=True)


def seek(first: Tensor, second: Tensor) -> Tensor:
    """Seek where each pixel of a grey picture [h, w] goes in a second one: [2, h, w], x and y."""
    flow: Any = optical_flow_ilk
    found = flow(first.numpy(), second.numpy(), radius=RADIUS, num_warp=ROUNDS, prefilter=False)
    return torch.from_numpy(np.stack([found[1], found[0]]).astype(np.float32))


def window_way(window: Tensor) -> Tensor:
    """How far what each pixel of the middle frame shows goes from there to the last frame.

    Args:
        window: [7, 3, S, S] in [0, 1], consecutive frames; S is a multiple of 2.

    Returns:
        [2, S, S], x and y in pixels, the mean of that way and of the way from the first frame
        to the middle; not a number where they could not be measured.

    """
    small = shrunk(window)  # [7, 1, s, s]
    trusted, ways = _is_textured(small[MIDDLE, 0]), []
    for end, sign in ((-1, 1), (0, -1)):
        flow = seek(small[MIDDLE, 0], small[end, 0])
        arrived = move_along(small[end][None], -flow[None, None])[:, 0]
        wrong = F.avg_pool2d((arrived - small[MIDDLE]).abs(), 5, 1, 2)[0, 0]
        trusted &= (wrong < WRONG) & (flow.norm(dim=0) < FARTHEST)
        ways.append(sign * flow)
    way = ways[0] + ways[1]  # twice of it in shrunken pixels is as much in pixels
    trusted &= (ways[0] - ways[1]).norm(dim=0) < 0.5 + 0.35 * way.norm(dim=0) / 2
    way = way.where(trusted, torch.nan)
    return way.repeat_interleave(SHRINK, 1).repeat_interleave(SHRINK, 2)


def _is_textured(grey: Tensor) -> Tensor:
    """Tell where a picture [h, w] varies in more than one direction: [h, w] bool."""
    padded = F.pad(grey[None, None], (1, 1, 1, 1), "replicate")
    gx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    gy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    xx, yy, xy = (F.avg_pool2d(part, 9, 1, 4)[0, 0] for part in (gx * gx, gy * gy, gx * gy))
    smaller = (xx + yy) / 2 - (((xx - yy) / 2).square() + xy.square()).sqrt()
    return smaller > TEXTURE
