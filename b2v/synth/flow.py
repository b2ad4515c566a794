"""Ways of what filmed windows show: the counterpart of what moving photographs know exactly.

Dense optical flow from the middle frame to the first and the last (iterative Lucas-Kanade, Le
Besnerais and Champagnat, ICIP 2005, of scikit-image), kept where it leads to the same colours.
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
FARTHEST = 20.0
"""Flow in shrunken pixels beyond which it is not believed."""


def window_way(window: Tensor) -> Tensor:
    """How far what each pixel of the middle frame shows goes from there to the last frame.

    Args:
        window: [7, 3, S, S] in [0, 1], consecutive frames; S is a multiple of 2.

    Returns:
        [2, S, S], x and y in pixels, the mean of that way and of the way from the first frame
        to the middle; not a number where they could not be measured.

    """
    colours = window.new_tensor([0.3, 0.4, 0.3]).view(1, 3, 1, 1)
    small = F.avg_pool2d((window * colours).sum(1, keepdim=True), SHRINK)  # [7, 1, s, s]
    way, trusted = torch.zeros(()), torch.tensor(True)
    for end, sign in ((-1, 1), (0, -1)):
        pair = small[MIDDLE, 0].numpy(), small[end, 0].numpy()
        seek: Any = optical_flow_ilk
        found = seek(*pair, radius=RADIUS, num_warp=ROUNDS, prefilter=False)
        flow = torch.from_numpy(np.stack([found[1], found[0]]).astype(np.float32))
        arrived = move_along(small[end][None], -flow[None, None])[:, 0]
        wrong = F.avg_pool2d((arrived - small[MIDDLE]).abs(), 5, 1, 2)[0, 0]
        trusted = trusted & (wrong < WRONG) & (flow.norm(dim=0) < FARTHEST)
        way = way + sign * flow
    way = way.where(trusted, torch.nan)  # half of it, in pixels of twice the size
    return way.repeat_interleave(SHRINK, 1).repeat_interleave(SHRINK, 2)
