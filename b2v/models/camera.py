"""The motion of the camera, from paths that do not know their sign.

A camera moves all of its picture at once: over a picture its motion is affine in place, which
holds translation, zoom and roll. So the affine motion is sought that explains the paths best up
to their signs, robustly, because objects have motions of their own, and every path can take the
sign that goes with it. The search alternates between signs and motion, from several starts.
"""

import math

import torch
from torch import Tensor

PLACES = 48
"""Places a side, at most, to which the motion is fitted."""
ROUNDS = 12
"""Alternations from each start."""
FORWARDS = ((1.0, 0.62), (0.38, 0.24), (0.24, 0.38))
"""Which of two opposite motions is taken; nothing common lies on the border between them."""
TURNING = 0.05
"""Share of paths that a camera that only turns or zooms must explain more than one that shifts."""
OUTLIER = 0.3
"""Relative error of a path beyond which it counts as that of an object."""


def camera_motion(paths: Tensor, trust: Tensor) -> Tensor:
    """Find the motion of the camera that explains paths best.

    Args:
        paths: [2, H, W], x and y in pixels, each right up to its sign.
        trust: [H, W] weights, not negative.

    Returns:
        [3, 2], what `motion_at` takes. Its sign is anyone's guess: the camera shows things go to
        the right, or down, so that nothing else, rounding least of all, decides it.

    """
    height, width = paths.shape[1:]
    rows, columns = _places(height), _places(width)
    known = paths[:, rows][:, :, columns].flatten(1).T  # [N, 2]
    weights = trust[rows][:, columns].flatten()
    around = _basis(height, width, paths)[:, rows][:, :, columns]
    motion = _fit(around.flatten(1).T, known, weights)
    backwards = (motion * motion.new_tensor(FORWARDS)).sum() < 0
    return torch.where(backwards, -motion, motion)


def motion_at(camera: Tensor, height: int, width: int, top: int, bottom: int) -> Tensor:
    """Compute the motion of a camera, [3, 2], for rows of a picture of a size: [2, rows, W]."""
    around = _basis(height, width, camera, top, bottom)
    return torch.einsum("khw,kc->chw", around, camera)


def _fit(places: Tensor, known: Tensor, weights: Tensor) -> Tensor:
    """Fit the motion [3, 2] to `known` [N, 2] up to signs at `places` [N, 3]; weights [N]."""
    motion = _starts().to(known)  # [S, 3, 2]
    ridge = 1e-4 * torch.eye(3).to(known)
    for _ in range(ROUNDS):
        signs, errors = _compare(motion, places, known)
        worth = weights / (1 + (errors / OUTLIER).square()) + 1e-6  # [S, N]
        left = torch.einsum("ni,sn,nj->sij", places, worth, places) + ridge
        right = torch.einsum("ni,sn,nc->sic", places, worth * signs, known)
        motion = torch.linalg.solve(left, right)
    odd = (_compare(motion, places, known)[1] / OUTLIER).square()
    unexplained = (weights * odd / (1 + odd)).sum(1) / weights.sum().clamp(min=1e-6)
    shift, turn = motion[:, 0].square().sum(1), motion[:, 1:].square().sum((1, 2))
    return motion[int((unexplained + TURNING * turn / (turn + shift + 0.1)).argmin())]


def _compare(motion: Tensor, places: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Signs that go with the motions [S, 3, 2], and relative errors then: [S, N] each."""
    explained = places @ motion  # [S, N, 2]
    signs = torch.where((explained * known).sum(-1) < 0, -1.0, 1.0)
    errors = (explained - signs[..., None] * known).norm(dim=-1)
    return signs, errors / (1 + known.norm(dim=-1))


def _starts() -> Tensor:
    """List translations in eight directions, a zoom and a roll: [10, 3, 2]."""
    angles = torch.arange(8) * (math.pi / 8)
    shifts = torch.zeros(8, 3, 2)
    shifts[:, 0] = torch.stack([angles.cos(), angles.sin()], 1)
    zoom, roll = torch.zeros(3, 2), torch.zeros(3, 2)
    zoom[1, 0] = zoom[2, 1] = roll[1, 1] = 1.0
    roll[2, 0] = -1.0
    return torch.cat([shifts, zoom[None], roll[None]])


def _basis(
    height: int, width: int, like: Tensor, top: int = 0, bottom: int | None = None
) -> Tensor:
    """One, x and y at each pixel of some rows, [3, rows, W]; half the larger side is one."""
    scale = 2 / max(height, width)
    rows = torch.arange(top, height if bottom is None else bottom)
    y = (rows.to(like) - (height - 1) / 2) * scale
    x = (torch.arange(width).to(like) - (width - 1) / 2) * scale
    grid = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([torch.ones_like(grid[0]), grid[1], grid[0]])


def _places(side: int) -> Tensor:
    count = min(side, PLACES)
    return ((torch.arange(count) + 0.5) * side / count).long()
