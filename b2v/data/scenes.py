"""Photographs set in motion: endless blur with exact truth.

A camera moves over a photograph (translation, roll, zoom, perspective, parallax of a smooth
random depth) while cut-out objects move on paths of their own; everything is rendered at many
instants in linear light. Paths are near-straight on purpose: with strong curvature the middle
frame is no longer the center of the blur and nothing can be learned.

Sequences for video are filmed likewise, for as long as a video lasts: velocities are smooth random
walks (pans that speed up and slow down, shake, rolls, zooms), and in each frame interval the
shutter is open for a part of the time, the duty cycle. Velocities change little within one
exposure, so its middle is the center of the blur.

Lengths are in pixels of the rendered picture, times in frame intervals from the middle frame, of
sequences from the middle of the first frame's exposure, angles in radians. All randomness comes
from the generator that is passed in.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from b2v.color import Curve, to_encoded, to_linear
from b2v.data.exposure import expose, instants, odd
from b2v.frames import FRAMES


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
    """Least mean absolute difference of neighboring pixels; flat places teach nothing."""


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


def random_depth(
    rng: Generator, config: MotionConfig, size: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Draw a smooth field [size, size] of relative parallax, between -1 and 1 times the limit."""
    cells = int(rng.integers(2, 5))
    coarse = torch.from_numpy(rng.uniform(-1, 1, (1, 1, cells, cells))).to(dtype)
    field = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)[0, 0]
    return field.clamp(-1, 1) * rng.uniform(0, config.parallax)


def warp_points(poses: Tensor, depth: Tensor) -> Tensor:
    """Where each pixel of the picture looks, in pixels from the center: [N, S, S, 2] x and y.

    To the translation of poses [N, 6] is added relative parallax, `depth` [S, S].
    """
    size = depth.shape[-1]
    axis = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return warp(poses, x, y, 1 + depth, size)


def warp(poses: Tensor, x: Tensor, y: Tensor, near: Tensor, size: int) -> Tensor:
    """Where some pixels of a picture of `size` pixels a side look, in pixels from the center.

    Of poses [N, 6], columns x and rows y of the pixels, from the center, and a factor of the
    translation, `near`, [h, w] each (or one `near` for each pose), come [N, h, w, 2] x and y.
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
    return odd(speed / config.step, config.max_sub_frames)


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
) -> Scene:
    """Set one photograph and some cut-outs in motion, on random near-straight paths.

    Args:
        photo: [3, H, W] uint8 code values, the scene.
        cutouts: objects to draw from, each [4, h, w] uint8 RGBA.
        rng: source of all randomness.
        size: side of the rendered square in pixels.
        config: how things move.
        curve: of the code values.

    """
    path = random_path(rng, config, size)
    depth = random_depth(rng, config, size)
    movers = []
    for _ in range(rng.choice(len(config.objects), p=config.objects) if cutouts else 0):
        cutout_lin = _random_cutout(cutouts, rng, config.object_size, size, curve)
        place = torch.from_numpy(rng.uniform(-0.5, 0.5, 2).astype(np.float32)) * size
        way = random_path(rng, config, size)
        # Poses are those of an eye that moves; the object moves itself, so time runs backwards.
        movers.append(Mover(cutout_lin, place, Path(-way.velocity, way.bend)))
    frame_times = instants(FRAMES, 1)[:, 0]
    sub_frames = max(
        sub_frames_for(warp_points(p.poses(frame_times), depth), config)
        for p in [path, *(m.way for m in movers)]
    )
    times = instants(FRAMES, sub_frames).flatten()
    points = warp_points(path.poses(times), depth)
    low, high = points.amin((0, 1, 2)), points.amax((0, 1, 2))
    sides = torch.tensor([photo.shape[2] - 1.0, photo.shape[1] - 1.0])
    step = min(rng.uniform(*config.shrink), max(0.5, (sides / (high - low)).min().item()))
    extent, room = (high - low) * step, (sides - (high - low) * step).clamp(min=0)
    width, height = extent.ceil().int().add(2).tolist()
    corners = (room * torch.from_numpy(rng.uniform(0, 1, 2).astype(np.float32)) for _ in range(8))
    patch, corner = _textured(photo, corners, (width, height), config)
    points = (points - low) * step + corner - corner.floor()
    scene_lin = look(to_linear(patch.float() / 255, curve), points)  # [N, 3, S, S]
    for mover in movers:
        mover.cover(scene_lin, times)
    return Scene(scene_lin, sub_frames)


def _textured(
    photo: Tensor, corners: Iterable[Tensor], size: tuple[int, int], config: MotionConfig
) -> tuple[Tensor, Tensor]:
    """Take the first patch with enough texture, else the last, and its corner [2], x and y."""
    for corner in corners:
        x, y = corner.int().tolist()
        patch = photo[:, y : y + size[1], x : x + size[0]]
        change = (patch[..., 1:].int() - patch[..., :-1].int()).abs().float().mean()
        if change > 255 * config.texture:
            break
    return patch, corner


def _random_cutout(
    cutouts: list[Tensor], rng: Generator, longest: tuple[float, float], size: int, curve: Curve
) -> Tensor:
    """Pick an object in a random size: its light multiplied by its alpha, then that, [4, h, w]."""
    cutout = cutouts[rng.integers(len(cutouts))].float() / 255
    factor = rng.uniform(*longest) * size / max(cutout.shape[1:])
    shape = [max(4, round(side * factor)) for side in cutout.shape[1:]]
    cutout = F.interpolate(cutout[None], shape, mode="bilinear", antialias=True)[0].clamp(0, 1)
    if rng.random() < 0.5:
        cutout = cutout.flip(-1)
    return torch.cat([to_linear(cutout[:3], curve) * cutout[3:], cutout[3:]])


GRID = 16
"""Points in a frame interval at which a way is known; between them it is straight."""
MARGIN = 4.0
"""Pixels around what the corners of the picture see, for what bends between them."""
FOLD = 0.25
"""Largest stretch of the picture by parallax: beyond 1 it would fold over itself."""


@dataclass(frozen=True, kw_only=True)
class FootageConfig:
    """How cameras and objects move; what it does not say is said by `MotionConfig`."""

    blur: tuple[float, float] = (1.0, 22.0)
    """Mean way of the picture during an exposure in pixels, drawn log-uniformly."""
    longest: float = 30.0
    """Longest way during an exposure."""
    duty: tuple[float, float] = (0.4, 1.0)
    """Part of the frame interval in which the shutter is open."""
    shake: float = 0.25
    """Largest share of the speed that trembles; the rest pans and wanders."""
    roll: float = 0.015
    """Standard deviation in radians a frame interval."""
    zoom: float = 0.012
    """Standard deviation of the logarithm of scale a frame interval."""
    perspective: float = 0.006
    """Standard deviation of the change of scale from the middle to the border."""
    turning: float = 0.7
    """Share of ways that roll and zoom at all."""
    step: float = 1.25
    """Largest step between two instants in pixels."""
    max_instants: int = 41
    motion: MotionConfig = field(default_factory=lambda: MotionConfig(object_size=(0.2, 0.7)))
    """Parallax, objects, size of the photographs."""


@dataclass(frozen=True)
class Way:
    """Poses on a fine grid of times: x, y, roll, log scale, px, py, as `warp_points` takes them."""

    start: float
    grid: NDArray[np.float64]  # [G, 6], GRID in a frame interval

    def poses(self, times: Tensor) -> Tensor:
        """Poses [N, 6] at times [N]."""
        places = (times.numpy().astype(np.float64) - self.start) * GRID
        known = np.arange(len(self.grid))
        columns = [np.interp(places, known, column) for column in self.grid.T]
        return torch.from_numpy(np.stack(columns, 1).astype(np.float32))


@dataclass(frozen=True)
class Mover:
    """A cut-out [4, h, w], alpha last and its light multiplied by it, that hides what is behind.

    It is centered at `place`, in pixels from the picture's center, where its way is at zero.
    """

    cutout_lin: Tensor
    place: Tensor
    way: Path | Way

    def cover(self, scene_lin: Tensor, times: Tensor) -> None:
        """Lay the object over the scene [N, 3, S, S] at each of the times [N], in place."""
        size = scene_lin.shape[-1]
        poses = self.way.poses(times)
        left, top, right, bottom = self.box(poses, size)
        if left >= right or top >= bottom:
            return
        axis = torch.arange(size) - (size - 1) / 2
        y, x = torch.meshgrid(axis[top:bottom], axis[left:right], indexing="ij")
        height, width = self.cutout_lin.shape[1:]
        center = torch.tensor([width - 1.0, height - 1.0]) / 2
        points = warp(poses, x, y, torch.ones(()), size) - self.place + center
        layer = look(self.cutout_lin, points, "zeros")
        scene_lin[..., top:bottom, left:right].mul_(1 - layer[:, 3:]).add_(layer[:, :3])

    def box(self, poses: Tensor, size: int) -> tuple[int, int, int, int]:
        """Find where the object may be seen: left, top, right, bottom, within the picture."""
        dx, dy = (self.place - poses[:, :2]).unbind(1)
        cos, sin, scale = poses[:, 2].cos(), poses[:, 2].sin(), poses[:, 3].exp()
        seen = torch.stack([cos * dx + sin * dy, cos * dy - sin * dx], 1) / scale[:, None]
        reach = 0.75 * float(np.hypot(*self.cutout_lin.shape[1:]) / scale.min())
        left, top = (seen.amin(0) - reach + size / 2).floor().clamp(0, size).int().tolist()
        right, bottom = (seen.amax(0) + reach + size / 2).ceil().clamp(0, size).int().tolist()
        return left, top, right, bottom


def film(
    photo: Tensor,
    cutouts: list[Tensor],
    rng: Generator,
    *,
    frames: int,
    size: int,
    config: FootageConfig,
    curve: Curve = "gamma2.2",
) -> tuple[Tensor, Tensor]:
    """Film one photograph and some cut-outs; arguments as of `render`.

    Returns the blurry frames and the sharp ones at the centers of their exposures, both [frames, 3,
    size, size] in [0, 1].
    """
    duty = float(rng.uniform(*config.duty))
    room = [side - size - 2 * MARGIN for side in (photo.shape[2], photo.shape[1])]
    camera = random_way(rng, config, frames, duty, room)
    depth = random_depth(rng, config.motion, size)
    steepest = max(float(depth.diff(dim=axis).abs().max()) for axis in (0, 1))
    far = float(np.abs(camera.grid[:, :2]).max())
    depth = depth * min(1.0, FOLD / max(steepest * far, 1e-9))  # what suits so long a way
    odds, movers = config.motion.objects, []
    for _ in range(rng.choice(len(odds), p=odds) if cutouts else 0):
        cutout_lin = _random_cutout(cutouts, rng, config.motion.object_size, size, curve)
        poses = random_way(rng, config, frames, duty, [2.0 * size, 2.0 * size]).grid
        kind = rng.random()  # free, followed by the camera, or a part of the scene that is nearer
        if kind < 0.3:
            poses = poses * rng.uniform(0, 0.3)
        elif kind < 0.6:
            poses = poses * 0.2 + camera.grid * rng.uniform(0.8, 1.6)
        # It is at its place at a time of the sequence, so that objects come and go.
        meeting = rng.integers(GRID, len(poses) - GRID)
        poses = poses - [*poses[meeting, :2], 0, 0, 0, 0]
        place = torch.from_numpy(rng.uniform(-0.5, 0.5, 2).astype(np.float32)) * size
        movers.append(Mover(cutout_lin, place, Way(camera.start, poses)))
    scene_lin, corner = _cut_out(photo, camera, frames, depth, rng, config, curve)
    blurry, sharp = [], []
    for frame in range(frames):
        times = _instants(frame, duty, [camera, *(m.way for m in movers)], size, config)
        light_lin = look(scene_lin, warp_points(camera.poses(times), depth) - corner)
        for mover in movers:
            mover.cover(light_lin, times)
        blurry.append(expose(light_lin, curve))
        sharp.append(to_encoded(light_lin[len(times) // 2], curve))
    return torch.stack(blurry), torch.stack(sharp)


def wander(rng: Generator, count: int, smooth: float) -> NDArray[np.float64]:
    """Draw a smooth random line of `count` points, mean 0 and variance 1 over many lines.

    It is white noise under a Gaussian whose standard deviation is `smooth` frame intervals.
    """
    sigma = smooth * GRID
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    noise = rng.standard_normal(count + 2 * reach)
    return np.convolve(noise, kernel / np.sqrt((kernel**2).sum()), "valid")


def random_way(
    rng: Generator, config: FootageConfig, frames: int, duty: float, room: list[float]
) -> Way:
    """Draw the way of a camera or an object.

    Args:
        rng: source of all randomness.
        config: how things move.
        frames: length of the sequence.
        duty: part of the time in which the shutter is open.
        room: pixels in x and y that the way may extend over; speeds are lowered to keep to it.

    """
    count = (frames + 1) * GRID + 1  # from one frame interval before the middle to one after
    low, high = config.blur
    speed = np.exp(rng.uniform(np.log(low), np.log(high))) / duty
    angle, pan, shake = rng.uniform(0, 2 * np.pi), rng.random(), rng.uniform(0, config.shake)
    haste = np.exp(0.4 * wander(rng, count, 2.0))
    straight = np.stack([np.cos(angle) * haste, np.sin(angle) * haste], 1)
    smooth = rng.uniform(1.5, 4.0)
    roaming = np.stack([wander(rng, count, smooth) for _ in range(2)], 1)
    trembling = np.stack([wander(rng, count, 0.6) for _ in range(2)], 1)
    velocity = pan * straight + (1 - pan) * roaming + shake * trembling
    velocity *= speed / np.linalg.norm(velocity, axis=1).mean()
    fastest = config.longest / duty / np.linalg.norm(velocity, axis=1, keepdims=True).clip(1e-9)
    velocity *= np.minimum(1, fastest)
    place = velocity.cumsum(0) / GRID
    extent = place.max(0) - place.min(0)
    place *= min(1.0, *(max(r, 0) / max(e, 1e-9) for r, e in zip(room, extent, strict=True)))
    deviations = (config.roll, config.zoom, config.perspective, config.perspective)
    turns = np.stack([d * wander(rng, count, 1.5) for d in deviations], 1).cumsum(0) / GRID
    turns = (turns - turns.mean(0)) * (rng.random() < config.turning) * min(1.0, speed / 4)
    poses = np.concatenate([place, turns], 1)
    return Way(-1.0, poses - [*poses[count // 2, :2], 0, 0, 0, 0])


def _cut_out(
    photo: Tensor,
    camera: Way,
    frames: int,
    depth: Tensor,
    rng: Generator,
    config: FootageConfig,
    curve: Curve,
) -> tuple[Tensor, Tensor]:
    """Cut out of a photo what the camera sees of it, at the size in which it is rendered.

    Of a few random places the first with enough texture is taken, else the last.

    Returns the light of the patch, [3, h, w], and the place of its first pixel, [2], in pixels from
    the center of the picture.
    """
    size = depth.shape[-1]
    poses = camera.poses(torch.arange(-0.5, frames - 0.5, 1 / GRID))
    ends = [_corners(poses, size, 1 + float(d)) for d in (depth.min(), depth.max())]
    seen = torch.cat(ends).flatten(0, 1)
    low = (seen.amin(0) - MARGIN).floor()
    extent = (seen.amax(0) + MARGIN).ceil() - low + 1
    sides = torch.tensor([photo.shape[2], photo.shape[1]])
    shrink = min(rng.uniform(*config.motion.shrink), max(0.5, (sides / extent).min().item()))
    width, height = torch.minimum((extent * shrink).round(), sides).int().tolist()
    room = (sides - torch.tensor([width, height])).tolist()
    corners = (torch.tensor([int(rng.integers(r + 1)) for r in room]) for _ in range(8))
    patch, _ = _textured(photo, corners, (width, height), config.motion)
    scene = patch.float()[None] / 255
    shape = extent.flip(0).int().tolist()
    if [height, width] != shape:
        scene = F.interpolate(scene, shape, mode="bicubic", antialias=True).clamp(0, 1)
    return to_linear(scene[0], curve), low


def _corners(poses: Tensor, size: int, near: float) -> Tensor:
    """Where the four corners and the center of a picture look, [N, 5, 2]."""
    end = (size - 1) / 2
    x, y = (torch.tensor([row]) * end for row in ([-1.0, 1, -1, 1, 0], [-1.0, -1, 1, 1, 0]))
    return warp(poses, x, y, torch.tensor(near), size)[:, 0]


def _instants(
    frame: int, duty: float, ways: list[Path | Way], size: int, config: FootageConfig
) -> Tensor:
    """Choose times, evenly spaced over a frame's exposure, between which nothing moves far."""
    looks = frame + duty * (torch.arange(9) / 8 - 0.5)
    steps = [_corners(way.poses(looks), size, 1.0).diff(dim=0).norm(dim=-1) for way in ways]
    longest = max(float(s.sum(0).max()) for s in steps)
    count = max(3, odd(longest / config.step, config.max_instants))
    return frame + duty * (torch.arange(count) - (count - 1) / 2) / count
