"""Filmed photographs: blur that is known, smooth ways, no borders."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_picture
from torch import Tensor

from b2v.color import to_linear
from b2v.data import scenes
from b2v.data.scenes import GRID, FootageConfig, MotionConfig, Way, film, random_way, wander
from b2v.metrics import psnr

PLAIN = FootageConfig(
    duty=(0.5, 0.5), motion=MotionConfig(parallax=0.0, shrink=(1.0, 1.0), objects=(1.0,))
)
ONE_OBJECT = replace(PLAIN, motion=replace(PLAIN.motion, objects=(0.0, 1.0)))


def steady(right: float, down: float = 0.0, frames: int = 5) -> Way:
    """Make the way of a camera that moves evenly, pixels a frame interval."""
    times = np.arange((frames + 1) * GRID + 1) / GRID - 1
    nothing = np.zeros_like(times)
    return Way(-1.0, np.stack([right * times, down * times, *4 * [nothing]], 1))


def photo(side: int = 160, seed: int = 0) -> Tensor:
    return (make_picture(side, side, seed) * 255).byte()


def filmed(
    monkeypatch: pytest.MonkeyPatch,
    ways: list[Way],
    config: FootageConfig = PLAIN,
    cutouts: tuple[Tensor, ...] = (),
    scene: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Film five frames of 24 x 24 pixels on given ways instead of random ones."""
    given = iter(ways)
    monkeypatch.setattr(scenes, "random_way", lambda *_: next(given))
    scene = photo() if scene is None else scene
    rng = np.random.default_rng(0)
    return film(scene, list(cutouts), rng, frames=5, size=24, config=config)


def test_a_camera_at_rest_makes_no_blur_and_no_motion(monkeypatch):
    blurry, sharp = filmed(monkeypatch, [steady(0)])
    assert blurry.shape == sharp.shape == (5, 3, 24, 24)
    assert (blurry - sharp).abs().max() < 1e-6
    assert (sharp - sharp[:1]).abs().max() < 1e-6


def test_sharp_frames_move_as_far_as_the_camera(monkeypatch):
    _, sharp = filmed(monkeypatch, [steady(4, 2)])
    assert (sharp[1:, :, :-2, :-4] - sharp[:-1, :, 2:, 4:]).abs().max() < 1e-4
    assert (sharp[1:] - sharp[:-1]).abs().mean() > 0.05


def test_blur_is_as_long_as_the_way_while_the_shutter_is_open(monkeypatch):
    """A white line of one pixel becomes a streak of half of 16 pixels, and as much light."""
    scene = torch.zeros(3, 160, 160, dtype=torch.uint8)
    scene[:, :, 80] = 255
    monkeypatch.setattr(scenes, "_cut_out", lambda *_: (scene / 255, torch.tensor([-80.0, -80.0])))
    blurry, sharp = filmed(monkeypatch, [steady(16)], scene=scene)
    light = to_linear(blurry, "gamma2.2")[0, 0, 12]  # the frame in which the line is in the middle
    assert 8 <= (light > 1e-3).sum() <= 10
    assert light.sum() == pytest.approx(1.0, abs=0.02)
    assert (to_linear(sharp, "gamma2.2")[0, 0, 12] > 1e-3).sum() <= 2


def test_the_sharp_frame_is_the_center_of_the_blur(monkeypatch):
    scene = torch.zeros(3, 160, 160, dtype=torch.uint8)
    scene[:, :, 80] = 255
    monkeypatch.setattr(scenes, "_cut_out", lambda *_: (scene / 255, torch.tensor([-80.0, -80.0])))
    blurry, sharp = filmed(monkeypatch, [steady(6)], scene=scene)
    columns = torch.arange(24.0)
    for frame in range(2):
        centers = [
            float((to_linear(x[frame, 0, 12], "gamma2.2") * columns).sum()) for x in (blurry, sharp)
        ]
        assert centers[0] == pytest.approx(centers[1], abs=0.1)


def test_long_steps_are_taken_in_many_instants(monkeypatch):
    seen = []
    real = scenes.look
    monkeypatch.setattr(
        scenes, "look", lambda p, points, *a: seen.append(len(points)) or real(p, points, *a)
    )
    filmed(monkeypatch, [steady(20)])
    assert seen == [9] * 5  # 10 pixels by 1.25 are 8 steps; odd, for there to be a center
    assert all(count % 2 for count in seen)


def test_objects_hide_what_is_behind_them_and_move_on_their_own(monkeypatch):
    white = torch.full((4, 12, 12), 255, dtype=torch.uint8)
    black = torch.zeros(3, 160, 160, dtype=torch.uint8)
    blurry, sharp = filmed(monkeypatch, [steady(0), steady(30)], ONE_OBJECT, (white,), black)
    covered = (sharp > 0.5).float().mean((1, 2, 3))
    assert covered.max() > 0.02
    assert (blurry - sharp).abs().max() > 0.2
    assert ((sharp == 0) | (sharp > 0.99)).float().mean() > 0.8


def test_an_object_that_the_box_would_cut_off_is_whole(monkeypatch):
    """Rendered within its box or in all of the picture, an object looks the same."""
    cutout = torch.cat([photo(20), torch.full((1, 20, 20), 255, dtype=torch.uint8)])
    turning = steady(2, 1)
    turning.grid[:, 2] = np.linspace(-0.5, 0.5, len(turning.grid))
    turning.grid[:, 3] = np.linspace(-0.3, 0.3, len(turning.grid))
    boxed = filmed(monkeypatch, [steady(0), turning], ONE_OBJECT, (cutout,))
    monkeypatch.setattr(scenes.Mover, "box", lambda *_: (0, 0, 24, 24))
    whole = filmed(monkeypatch, [steady(0), turning], ONE_OBJECT, (cutout,))
    assert torch.equal(boxed[0], whole[0])


def test_wandering_is_smooth_and_of_variance_one():
    rng = np.random.default_rng(0)
    lines = np.stack([wander(rng, 65, 1.5) for _ in range(400)])
    assert lines.shape == (400, 65)
    assert lines.mean() == pytest.approx(0, abs=0.1)
    assert lines.var() == pytest.approx(1, abs=0.15)
    assert np.abs(np.diff(lines)).max() < 0.25  # in a sixteenth of a frame interval


def test_ways_keep_to_their_speeds_and_their_room():
    config = FootageConfig(blur=(2.0, 20.0), longest=25.0)
    rng = np.random.default_rng(1)
    blurs, longest = [], 0.0
    for _ in range(100):
        way = random_way(rng, config, 13, 0.5, [1e6, 1e6])
        speeds = np.linalg.norm(np.diff(way.grid[:, :2], axis=0), axis=1) * GRID * 0.5
        blurs.append(speeds.mean())
        longest = max(longest, speeds.max())
        small = random_way(rng, config, 13, 0.5, [40.0, 30.0])
        assert (np.ptp(small.grid[:, :2], axis=0) <= [40.001, 30.001]).all()
    assert 1.5 < min(blurs) < 4
    assert 12 < max(blurs) < 20.5
    assert longest < 25.001


def test_footage_is_drawn_from_the_generator_alone():
    def one(seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        torch.rand(3)
        blurry, sharp = film(photo(), [], rng, frames=3, size=16, config=FootageConfig())
        return torch.cat([blurry, sharp])

    assert torch.equal(one(0), one(0))
    assert not torch.equal(one(0), one(1))


def test_the_camera_sees_no_border_of_the_photo(monkeypatch):
    """What lies beyond is a mirrored picture; a photo with room for the way is not mirrored."""
    places = []
    real = scenes.look
    monkeypatch.setattr(
        scenes,
        "look",
        lambda picture, points, *a: places.append((picture.shape, points)) or real(picture, points),
    )
    for seed in range(12):
        rng = np.random.default_rng(seed)
        film(photo(300, seed), [], rng, frames=5, size=24, config=FootageConfig())
    for (_, height, width), points in places:
        assert points.min() > -0.5
        assert points[..., 0].max() < width - 0.5
        assert points[..., 1].max() < height - 0.5


def test_blur_costs_decibels_and_more_of_it_more():
    def strength(blur: float) -> float:
        config = replace(PLAIN, blur=(blur, blur), turning=0.0)
        rng = np.random.default_rng(0)
        blurry, sharp = film(photo(300), [], rng, frames=4, size=32, config=config)
        return float(psnr(blurry, sharp).mean())

    assert strength(0.1) > strength(2) + 5 > strength(10) + 6
