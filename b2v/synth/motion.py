"""Photographs set in motion: endless blur with exact truth.

A camera moves over a photograph (translation, roll, zoom, perspective, parallax of a smooth
random depth) while cut-out objects move on paths of their own; everything is rendered at many
instants in linear light. Paths are near-straight on purpose: with strong curvature the middle
frame is no longer the centre of the blur and nothing can be learned.

Lengths are in pixels of the rendered picture, times in frame intervals from the middle frame,
angles in radians. All randomness comes from the generator that is passed in.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from b2v.color import Curve, to_encoded, to_linear
from b2v.frames import FRAMES
from b2v.synth.exposure import expose, instants


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """How scenes move; ranges are per frame interval."""

    speed: tuple[float, float] = (0.3, 6.0)
    """Translation in pixels, drawn log-uniformly."""
    curvature: float = 0.25
    """Largest deviation from the straight path at its ends, as a part of the path."""
    roll: float = 0.004
    """Standard deviation in radians."""
    zoom: float = 0.004
    """Standard deviation of the logarithm of scale."""
    perspective: float = 0.004
    """Standard deviation of the change of scale from the middle to the border."""
    parallax: float = 0.6
    """Largest change of the translation by depth, as a part of it."""
    objects: tuple[float, ...] = (0.45, 0.3, 0.15, 0.1)
    """Probabilities of 0, 1, 2, … moving objects."""
    object_size: tuple[float, float] = (0.2, 0.8)
    """Longer side of an object as a part of the picture's."""
    step: float = 1.25
    """Largest step between instants in pixels."""
    max_sub_frames: int = 13
    shrink: tuple[float, float] = (1.0, 2.0)
    """Photo pixels a rendered pixel; more makes soft photographs crisp."""
    texture: float = 0.02
    """Least mean absolute difference of neighbouring pixels; flat places teach nothing."""


@dataclass(frozen=True)
class Path:
    """Pose over time, `velocity * t` bent by `bend * t**2`: x, y, roll, log scale, px, py."""

    velocity: Tensor  # [6]
    bend: Tensor  # [6]

    def poses(self, times: Tensor) -> Tensor:
        """Poses [N, 6] at times [N]."""
        return times[:, None] * self.velocity + times[:, None] ** 2 * self.bend


def random_path(rng: Generator, config: MotionConfig, size: int) -> Path:
    """Draw a near-straight path for a camera or an object over a picture of `size` pixels."""
    low, high = config.speed
    speed = np.exp(rng.uniform(np.log(low), np.log(high)))
    angle = rng.uniform(0, 2 * np.pi)
    # Turning moves the border more than the middle: big speeds come with big turns, within limits.
    turn = rng.normal(0, 1, 4) * (config.roll, config.zoom, *2 * (config.perspective,))
    turn = turn * rng.choice((0.0, 1.0), p=(0.3, 0.7)) * min(1.0, speed * 1.5)
    velocity = np.array([speed * np.cos(angle), speed * np.sin(angle), *turn])
    end = FRAMES / 2
    sideways = rng.uniform(-1, 1, 6) * config.curvature / end
    bend = np.array([*(sideways[:2] * speed), *(sideways[2:] * velocity[2:])])
    return Path(
        torch.tensor(velocity, dtype=torch.float32), torch.tensor(bend, dtype=torch.float32)
    )


def random_depth(rng: Generator, config: MotionConfig, size: int) -> Tensor:
    """Draw a smooth field [size, size] of relative parallax, between -1 and 1 times the limit."""
    cells = int(rng.integers(2, 5))
    coarse = torch.from_numpy(rng.uniform(-1, 1, (1, 1, cells, cells)).astype(np.float32))
    field = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)[0, 0]
    return field.clamp(-1, 1) * rng.uniform(0, config.parallax)


def warp_points(poses: Tensor, depth: Tensor) -> Tensor:
    """Where each pixel of the picture looks, in pixels from the centre.

    Args:
        poses: [N, 6] from `Path.poses`.
        depth: [S, S] relative parallax, added to the translation.

    Returns:
        [N, S, S, 2] x and y.

    """
    size = depth.shape[-1]
    axis = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return warp(poses, x, y, 1 + depth, size)


def warp(poses: Tensor, x: Tensor, y: Tensor, near: Tensor, size: int) -> Tensor:
    """Where some pixels of a picture of `size` pixels a side look, in pixels from the centre.

    Args:
        poses: [N, 6].
        x: columns of the pixels, from the centre, [h, w].
        y: rows, likewise.
        near: factor of the translation, [h, w].
        size: side of the whole picture.

    Returns:
        [N, h, w, 2] x and y.

    """
    tx, ty, roll, zoom, px, py = (p[:, None, None] for p in poses.unbind(1))
    scale = torch.exp(zoom) * (1 + (px * x + py * y) * (2 / size))
    cos, sin = torch.cos(roll) * scale, torch.sin(roll) * scale
    return torch.stack([cos * x - sin * y + tx * near, sin * x + cos * y + ty * near], dim=-1)


def look(picture: Tensor, points: Tensor, padding: str = "reflection") -> Tensor:
    """Sample `picture` [C, H, W] bilinearly at `points` [N, S, S, 2] in its pixels."""
    height, width = picture.shape[-2:]
    grid = (points * 2 + 1) / points.new_tensor([width, height]) - 1
    sources = picture.expand(len(points), -1, -1, -1)
    return F.grid_sample(sources, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def sub_frames_for(points: Tensor, config: MotionConfig) -> int:
    """Odd number of instants a frame, so that no pixel steps further than `config.step`."""
    speed = (points[1:] - points[:-1]).square().sum(-1).amax().sqrt().item()
    needed = int(np.ceil(speed / config.step))
    return min(needed + (needed + 1) % 2, config.max_sub_frames)


class Scene(NamedTuple):
    """Light of a scene at evenly spaced instants, `sub_frames` (odd) in each of seven frames."""

    light_lin: Tensor  # [FRAMES * sub_frames, 3, S, S]
    sub_frames: int

    def sharp(self, curve: Curve) -> Tensor:
        """Encode the instants at the middle of each frame, [FRAMES, 3, S, S]."""
        return to_encoded(self.light_lin[self.sub_frames // 2 :: self.sub_frames], curve)


def render(
    photo: Tensor,
    cutouts: list[Tensor],
    rng: Generator,
    *,
    size: int,
    config: MotionConfig,
    curve: Curve = "gamma2.2",
    sub_frames: int | None = None,
) -> Scene:
    """Set one photograph and some cut-outs in motion, on random near-straight paths.

    Args:
        photo: [3, H, W] uint8 code values, the scene.
        cutouts: objects to draw from, each [4, h, w] uint8 RGBA.
        rng: source of all randomness.
        size: side of the rendered square in pixels.
        config: how things move.
        curve: transfer curve of the code values.
        sub_frames: odd number of instants a frame; None takes as many as the speed needs.

    """
    path = random_path(rng, config, size)
    depth = random_depth(rng, config, size)
    movers = [
        _random_object(cutouts, rng, size, config)
        for _ in range(rng.choice(len(config.objects), p=config.objects) if cutouts else 0)
    ]
    if sub_frames is None:
        frame_times = instants(FRAMES, 1)[:, 0]
        sub_frames = max(
            sub_frames_for(warp_points(p.poses(frame_times), depth), config)
            for p in [path, *(m.path for m in movers)]
        )
    times = instants(FRAMES, sub_frames).flatten()
    patch, points = _cut(photo, warp_points(path.poses(times), depth), rng, config)
    scene_lin = look(to_linear(patch.float() / 255, curve), points)  # [N, 3, S, S]
    for mover in movers:
        scene_lin = mover.over(scene_lin, times, curve)
    return Scene(scene_lin, sub_frames)


def move(
    photo: Tensor,
    cutouts: list[Tensor],
    rng: Generator,
    *,
    size: int,
    config: MotionConfig,
    curve: Curve = "gamma2.2",
) -> tuple[Tensor, Tensor]:
    """Set one photograph and some cut-outs in motion; arguments as of `render`.

    Returns:
        Blurry picture [3, size, size] and its seven frames [7, 3, size, size], in [0, 1].

    """
    scene = render(photo, cutouts, rng, size=size, config=config, curve=curve)
    return expose(scene.light_lin, curve), scene.sharp(curve)


def _cut(
    photo: Tensor, points: Tensor, rng: Generator, config: MotionConfig
) -> tuple[Tensor, Tensor]:
    """Place the points [N, S, S, 2] on the photo: the patch they see, and the points within it.

    Of a few random places the first with enough texture is taken, else the last.
    """
    flat = points.flatten(0, 2)
    low, extent = flat.amin(0), flat.amax(0) - flat.amin(0)
    sides = torch.tensor([photo.shape[2] - 1.0, photo.shape[1] - 1.0])
    step = min(rng.uniform(*config.shrink), max(0.5, (sides / extent).min().item()))
    room = (sides - extent * step).clamp(min=0)
    for _ in range(8):
        corner = room * torch.from_numpy(rng.uniform(0, 1, 2).astype(np.float32))
        x, y = corner.int().tolist()
        width, height = (extent * step).ceil().int().add(2).tolist()
        patch = photo[:, y : y + height, x : x + width]
        if (
            patch[..., 1:].int() - patch[..., :-1].int()
        ).abs().float().mean() > 255 * config.texture:
            break
    return patch, (points - low) * step + corner - corner.floor()


@dataclass(frozen=True)
class _Object:
    """A cut-out [4, h, w] in [0, 1] (code values, alpha last) centred at `place` at time 0."""

    cutout: Tensor
    place: Tensor  # [2] pixels from the picture's centre
    path: Path

    def over(self, scene_lin: Tensor, times: Tensor, curve: Curve) -> Tensor:
        """Lay the object over the scene [N, 3, S, S] at each of the times [N]."""
        size = scene_lin.shape[-1]
        alpha = self.cutout[3:]
        premultiplied = torch.cat([to_linear(self.cutout[:3], curve) * alpha, alpha])
        centre = torch.tensor([alpha.shape[2] - 1.0, alpha.shape[1] - 1.0]) / 2
        # Poses are those of an eye that moves; the object moves itself, so time runs backwards.
        points = warp_points(self.path.poses(-times), torch.zeros(size, size)) - self.place + centre
        layer = look(premultiplied, points, "zeros")
        return layer[:, :3] + (1 - layer[:, 3:]) * scene_lin


def _random_object(
    cutouts: list[Tensor], rng: Generator, size: int, config: MotionConfig
) -> _Object:
    cutout = cutouts[rng.integers(len(cutouts))].float() / 255
    factor = rng.uniform(*config.object_size) * size / max(cutout.shape[1:])
    shape = [max(4, round(side * factor)) for side in cutout.shape[1:]]
    cutout = F.interpolate(cutout[None], shape, mode="bilinear", antialias=True)[0].clamp(0, 1)
    if rng.random() < 0.5:
        cutout = cutout.flip(-1)
    place = torch.from_numpy(rng.uniform(-0.5, 0.5, 2).astype(np.float32)) * size
    return _Object(cutout, place, random_path(rng, config, size))
