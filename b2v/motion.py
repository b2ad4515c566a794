"""Motion that is shared by photos and videos: pictures moved along it, and one direction of time.

Blur does not tell which way time ran, and a network that looks at a part of a large picture
guesses anew in the next one: half of a camera shake then runs backwards. But a camera moves all of
its picture at once; its motion is affine in place, which holds translation, zoom and roll. So the
affine motion is sought that explains what moves best up to the sign, robustly, alternating between
signs and motion from several starts: over frames in `in_one_direction`, which exchanges frames k
and 8 - k where they run against it, and over paths in `camera_motion`.

The motion of frames is measured by least squares from brightness constancy at a quarter of their
size (Lucas and Kanade, 1981).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.frames import inner, smooth

SCALE = 4
"""Motion is measured on frames of so many times fewer pixels a side."""
WINDOW = 2.0
"""Standard deviation, in those pixels, of the window in which motion is taken to be one."""
RIDGE = 1e-4
"""Added to the determinant of evidence, whose contrast is one at most."""
WORTH = 0.02
"""Signs are changed where at least this part of the evidence runs against the camera's motion."""
STILL = 0.02
"""Mean speed in pixels of a quarter size a frame below which there is nothing to turn round."""
SEAM = 3.0
"""How steeply the frames change over, where the signs do, into their mirror images."""
STRIP = 256
"""Rows that are turned at once."""
SMALLEST = 32
"""Pixels a side below which a picture is left alone: it is too small to be of two minds."""


def in_one_direction(frames: Tensor, *, in_place: bool = False) -> Tensor:
    """Make all parts of a picture run in one direction of time.

    Args:
        frames: [T, 3, H, W] in [0, 1], T odd and usually seven; fp32 or fp16.
        in_place: change these frames, which spares the memory of others.

    Returns:
        Frames of that shape, each pixel from frame k or, of seven, 8 - k or, at the seams, from
        both; the direction that most of the picture had is kept. The same tensor where nothing
        changes. What more than seven frames show is measured on the inner seven alone.

    """
    height, width = frames.shape[-2:]
    if min(height, width) < SMALLEST:
        return frames
    evidence = measure(inner(frames))
    camera = camera_from(evidence)
    if camera is None:
        return frames
    agreement = (camera * evidence[3:]).sum(0)
    signs = window(agreement[None]) / (window(agreement.abs()[None]) + 1e-12)  # [1, h, w]
    signs = signs if agreement.sum() >= 0 else -signs
    return turned(frames, signs, in_place=in_place)


def turned(frames: Tensor, signs: Tensor, *, in_place: bool = False) -> Tensor:
    """Play frames [T, 3, H, W] backwards where `signs` [1, h, w], in [-1, 1], are negative.

    About zero, the frames and their mirror images in time are mixed; the middle one stays. With
    `in_place`, these frames are changed, which spares the memory of others.
    """
    height, width = frames.shape[-2:]
    size = (height, width)
    share = F.interpolate(signs[None], size, mode="bilinear", align_corners=False)[0]
    share.mul_(SEAM).add_(0.5).clamp_(0, 1)  # [1, H, W]
    aligned = frames if in_place else frames.clone()
    for k in range(len(frames) // 2):
        for top in range(0, height, STRIP):  # so that nothing but strips is held twice
            rows = slice(top, top + STRIP)
            first, last = aligned[k, :, rows].float(), aligned[-1 - k, :, rows].float()
            aligned[k, :, rows], aligned[-1 - k, :, rows] = (
                torch.lerp(last, first, share[:, rows]),
                torch.lerp(first, last, share[:, rows]),
            )
    return aligned


def measure(frames: Tensor) -> Tensor:
    """Measure the motion that frames [T, 3, H, W] show, in pixels of a quarter size a frame.

    Returns the normal equations of motion at each place, [[xx, xy], [xy, yy]] motion = [x, y],
    summed over windows, as xx, xy, yy, x and y: [5, h, w]. Places of high contrast do not count
    for much more than others.
    """
    gray = torch.cat([F.avg_pool2d(f.float().mean(0, keepdim=True), SCALE) for f in frames])
    times = torch.arange(len(frames), dtype=gray.dtype, device=gray.device) - len(frames) // 2
    change = torch.einsum("t,thw->hw", times / times.square().sum(), gray)[1:-1, 1:-1]
    mean = gray.mean(0)
    gx = (mean[1:-1, 2:] - mean[1:-1, :-2]) / 2
    gy = (mean[2:, 1:-1] - mean[:-2, 1:-1]) / 2
    terms = torch.stack([gx * gx, gx * gy, gy * gy, -gx * change, -gy * change])
    terms = F.pad(window(terms)[None], (1, 1, 1, 1), mode="replicate")[0]  # [5, h, w]
    contrast = terms[0] + terms[2]
    return terms / (contrast + contrast.mean() + 1e-12)


def camera_from(evidence: Tensor) -> Tensor | None:
    """Find the motion [2, h, w] of a camera that explains the evidence best up to its sign.

    None where nothing moves, or next to nothing runs against it (`WORTH`).
    """
    xx, xy, yy, x, y = evidence
    determinant = xx * yy - xy.square() + RIDGE
    paths = torch.stack([yy * x - xy * y, xx * y - xy * x]) / determinant  # [2, h, w]
    # Where all edges are alike, motion along them is unknown.
    trust = determinant.sqrt()
    height, width = trust.shape
    motion = motion_at(camera_motion(paths, trust), height, width, 0, height)
    agreement = (motion * evidence[3:]).sum(0)
    against = agreement.clamp(max=0).sum().abs(), agreement.clamp(min=0).sum()
    still = (motion.square().sum(0) * trust).sum() < STILL**2 * trust.sum()
    return None if still or min(against) < WORTH * sum(against) else motion


def window(maps: Tensor) -> Tensor:
    """Sum [C, h, w] in a Gaussian window around each place."""
    return smooth(maps, WINDOW)


def move_along(picture: Tensor, shift: Tensor, top: int = 0) -> Tensor:
    """Move a picture by a shift for every pixel, bilinearly, its border repeated.

    Args:
        picture: [B, C, H, W].
        shift: [B, N, 2, h, W], x and y in pixels by which the content arrives at each pixel of
            h rows of the picture, all of them usually.
        top: the first of these rows.

    Returns:
        [B, N, C, h, W]; `out[p] = picture[p - shift[p]]`.

    """
    batch, moments, _, height, width = shift.shape
    y, x = torch.meshgrid(
        torch.arange(top, top + height, device=shift.device),
        torch.arange(width, device=shift.device),
        indexing="ij",
    )
    sources = torch.stack([x - shift[:, :, 0], y - shift[:, :, 1]], dim=-1)  # [B, N, H, W, 2]
    grid = (2 * sources + 1) / sources.new_tensor([width, picture.shape[2]]) - 1
    # The moments of one picture lie below each other, so that it need not be copied for them.
    moved = F.grid_sample(
        picture.float(), grid.flatten(1, 2), padding_mode="border", align_corners=False
    )
    return moved.reshape(batch, -1, moments, height, width).movedim(2, 1)


PLACES = 48
"""Places a side, at most, to which the motion is fitted."""
CAMERA_ROUNDS = 12
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
    around = _camera_basis(height, width, paths)[:, rows][:, :, columns]
    motion = _fit(around.flatten(1).T, known, weights)
    backwards = (motion * motion.new_tensor(FORWARDS)).sum() < 0
    return torch.where(backwards, -motion, motion)


def motion_at(camera: Tensor, height: int, width: int, top: int, bottom: int) -> Tensor:
    """Compute the motion of a camera, [3, 2], for rows of a picture of a size: [2, rows, W]."""
    around = _camera_basis(height, width, camera, top, bottom)
    return torch.einsum("khw,kc->chw", around, camera)


def _fit(places: Tensor, known: Tensor, weights: Tensor) -> Tensor:
    """Fit the motion [3, 2] to `known` [N, 2] up to signs at `places` [N, 3]; weights [N]."""
    motion = _camera_starts().to(known)  # [S, 3, 2]
    ridge = 1e-4 * torch.eye(3).to(known)
    for _ in range(CAMERA_ROUNDS):
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


def _camera_starts() -> Tensor:
    """List translations in eight directions, a zoom and a roll: [10, 3, 2]."""
    angles = torch.arange(8) * (math.pi / 8)
    shifts = torch.zeros(8, 3, 2)
    shifts[:, 0] = torch.stack([angles.cos(), angles.sin()], 1)
    zoom, roll = torch.zeros(3, 2), torch.zeros(3, 2)
    zoom[1, 0] = zoom[2, 1] = roll[1, 1] = 1.0
    roll[2, 0] = -1.0
    return torch.cat([shifts, zoom[None], roll[None]])


def _camera_basis(
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
