"""The networks that unfold a picture along its paths, going down it together."""

import math
from typing import cast

import torch
from torch import Tensor

from b2v.models import Unfold
from b2v.models.moving import move_along
from b2v.models.unet import UNet
from b2v.models.unfold import Motion, moments
from b2v.strips.unet import Strips


class UnfoldPasses:
    """The passes of `Unfold.forward`, behind a first look at the motion of the whole picture.

    A camera moves all of its picture, so the paths are read before the first strip; they are
    kept for cells, of which there are few.
    """

    def __init__(self, net: Unfold, blurry: Tensor, frames: int, rows: int) -> None:
        self._motion = Motion.read(net.paths, blurry)
        self._times = moments(frames).to(self._motion.cells.device)
        self._middle = Strips(cast(UNet, net.middle), rows)
        self._sides = None
        if net.sides is not None:
            self._sides = [Strips(cast(UNet, net.sides), rows) for _ in range(frames - 1)]
        self._reach = math.ceil(self._motion.reach * float(self._times.max())) + 2
        self._height, self._done, self._top = blurry.shape[2], 0, 0
        self._window: Tensor | None = None

    def __call__(self, blurry: Tensor, middle: Tensor | None = None, *, last: bool) -> list[Tensor]:
        """Take the next rows of the picture, and of x4 from elsewhere; give those of each frame."""
        x4 = self._middle(blurry, last=last)[0] if middle is None else middle
        moved = self._move(x4, last)
        if self._sides is None:
            return moved
        half = len(moved) // 2
        pairs = zip(self._sides, moved[:half] + moved[half + 1 :], strict=True)
        mended = [side(blurry, x4, frame, last=last)[0] for side, frame in pairs]
        return [*mended[:half], x4, *mended[half:]]

    def _move(self, x4: Tensor, last: bool) -> list[Tensor]:
        """Move the rows whose surroundings, as far as the paths reach, are known now."""
        window = x4 if self._window is None else torch.cat([self._window, x4], dim=2)
        known = self._top + window.shape[2]
        done, ready = self._done, self._height if last else max(self._done, known - self._reach)
        if ready == done:
            frames = [x4[:, :, :0]] * len(self._times)
        else:
            shift = self._motion.paths(done, ready)[:, None] * self._times.view(1, -1, 1, 1, 1)
            frames = list(move_along(window, shift, done - self._top).unbind(1))
        first = max(self._top, ready - self._reach)
        self._window = window[:, :, first - self._top :].clone()
        self._top, self._done = first, ready
        return frames
