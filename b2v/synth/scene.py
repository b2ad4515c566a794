"""A moving photograph instant by instant, for shutters that treat instants differently.

`b2v.synth.motion.move` gives the plain exposure of a scene; `render` gives the light of all its
instants, from the same random numbers: averaged, they are what `move` returns, bit for bit.
"""

from typing import NamedTuple

from numpy.random import Generator
from torch import Tensor

from b2v.color import Curve, to_encoded, to_linear
from b2v.frames import FRAMES
from b2v.synth import motion
from b2v.synth.exposure import instants
from b2v.synth.motion import MotionConfig


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
    path = motion.random_path(rng, config, size)
    depth = motion.random_depth(rng, config, size)
    movers = [
        motion._random_object(cutouts, rng, size, config)
        for _ in range(rng.choice(len(config.objects), p=config.objects) if cutouts else 0)
    ]
    if sub_frames is None:
        frame_times = instants(FRAMES, 1)[:, 0]
        ways = (motion.warp_points(p.path.poses(frame_times), depth) for p in movers)
        camera = motion.warp_points(path.poses(frame_times), depth)
        sub_frames = max(motion.sub_frames_for(way, config) for way in (camera, *ways))
    times = instants(FRAMES, sub_frames).flatten()
    patch, points = motion._cut(photo, motion.warp_points(path.poses(times), depth), rng, config)
    scene_lin = motion.look(to_linear(patch.float() / 255, curve), points)
    for mover in movers:
        scene_lin, _ = mover.over(scene_lin, times, curve)
    return Scene(scene_lin, sub_frames)
