"""Blur with exact truth: identity, conservation, symmetry, whole-pixel motion."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import make_picture, move
from torch import Tensor

from b2v.color import to_linear
from b2v.data import scenes
from b2v.data.exposure import expose, instants
from b2v.data.scenes import (
    MotionConfig,
    Path,
    look,
    random_path,
    sub_frames_for,
    warp_points,
)
from b2v.metrics import psnr, reblur

PLAIN = MotionConfig(parallax=0.0, shrink=(1.0, 1.0))
STILL = replace(PLAIN, speed=(1e-6, 1e-6), roll=0, zoom=0, perspective=0)
ONE_OBJECT = replace(PLAIN, objects=(0.0, 1.0), object_size=(0.4, 0.4))


def path(*velocity: float, bend: tuple[float, ...] = ()) -> Path:
    poses = [[*values, *(6 - len(values)) * [0.0]] for values in (velocity, bend)]
    return Path(*torch.tensor(poses).unbind(0))


def photo(side: int = 96, seed: int = 0) -> Tensor:
    return (make_picture(side, side, seed) * 255).round().byte()


def clip_of(
    monkeypatch: pytest.MonkeyPatch,
    paths: list[Path],
    config: MotionConfig = PLAIN,
    cutouts: tuple[Tensor, ...] = (),
    scene: Tensor | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Move a scene, and perhaps an object, on given paths instead of random ones."""
    given = iter(paths)
    monkeypatch.setattr(scenes, "random_path", lambda *_: next(given))
    scene = photo() if scene is None else scene
    rng = np.random.default_rng(seed)
    blurry, sharp = move(scene, list(cutouts), rng, size=32, config=config)
    return blurry, sharp


def centroids(frames: Tensor) -> Tensor:
    """Center of light of each frame, [7, 2] x and y."""
    light = to_linear(frames, "gamma2.2").sum(1)
    axis = torch.arange(light.shape[-1], dtype=torch.float32)
    total = light.sum((1, 2))
    return torch.stack([light.sum(1) @ axis / total, light.sum(2) @ axis / total], 1)


def white(alpha: float = 1.0) -> Tensor:
    """A white cut-out of 13 x 13 pixels."""
    pixels = torch.full((4, 13, 13), 255, dtype=torch.uint8)
    pixels[3] = round(255 * alpha)
    return pixels


@pytest.fixture
def black() -> Tensor:
    return torch.zeros(3, 96, 96, dtype=torch.uint8)


def test_instants_are_symmetric_and_evenly_spaced():
    times = instants(7, 5)
    assert times.shape == (7, 5)
    assert torch.equal(times.flatten(), -times.flatten().flip(0))
    assert times.flatten().diff().tolist() == pytest.approx(34 * [0.2], abs=1e-5)


def test_the_center_of_each_segment_is_the_time_of_its_frame():
    for sub_frames in (1, 3, 13):
        middles = instants(7, sub_frames)[:, sub_frames // 2]
        assert middles.tolist() == pytest.approx([-3, -2, -1, 0, 1, 2, 3], abs=1e-6)


@pytest.mark.parametrize("sub_frames", [2, 8])
def test_an_even_number_of_sub_frames_has_no_center(sub_frames):
    with pytest.raises(ValueError, match=f"must be odd .* got {sub_frames}"):
        instants(7, sub_frames)


@pytest.mark.parametrize("curve", ["srgb", "gamma2.2"])
def test_a_still_scene_is_unchanged_by_exposure(picture, curve):
    light_lin = to_linear(picture, curve).expand(9, -1, -1, -1)
    assert (expose(light_lin, curve) - picture).abs().max() < 1e-6


def test_exposure_averages_light_and_not_code_values():
    half_open = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    assert expose(half_open).unique().tolist() == pytest.approx([0.5 ** (1 / 2.2)])
    assert expose(half_open, "srgb").unique().tolist() == pytest.approx([0.7354], abs=1e-4)


def test_a_path_is_at_rest_in_the_middle_frame():
    poses = path(1, 2, bend=(0.5, -0.25)).poses(torch.tensor([-2.0, 0.0, 2.0]))
    assert poses[:, :2].tolist() == [[0, -5], [0, 0], [4, 3]]


def test_random_paths_keep_to_the_speeds_of_the_config_and_stay_near_straight():
    rng = np.random.default_rng(0)
    config = MotionConfig(speed=(0.5, 6.0), curvature=0.25)
    paths = [random_path(rng, config, 32) for _ in range(300)]
    speeds = torch.stack([p.velocity[:2].norm() for p in paths])
    assert 0.5 <= speeds.min() < 0.6
    assert 5 < speeds.max() <= 6.0001
    assert speeds.log().mean() == pytest.approx(np.log(3) / 2, abs=0.15)  # log-uniform
    angles = torch.stack([torch.atan2(p.velocity[1], p.velocity[0]) for p in paths])
    assert torch.stack([angles.cos(), angles.sin()]).mean(1).abs().max() < 0.15
    for p in paths:
        straight, bent = 3.5 * p.velocity[:2].norm(), 3.5**2 * p.bend[:2].abs().max()
        assert bent <= 0.2501 * straight


def test_a_camera_at_rest_looks_at_every_pixel_itself(picture):
    points = warp_points(torch.zeros(2, 6), torch.rand(40, 40))
    seen = look(picture, points + 19.5)
    assert (seen - picture).abs().max() < 1e-5


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 5), (4, 2)])
def test_a_camera_that_moves_by_whole_pixels_moves_the_picture_exactly(picture, right, down):
    points = warp_points(path(right, down).poses(torch.ones(1)), torch.zeros(40, 40))
    seen = look(picture, points + 19.5)[0]
    expected = picture[:, down:, right:]
    assert (seen[:, : 40 - down, : 40 - right] - expected).abs().max() < 1e-5


def test_zoom_roll_and_parallax_move_points_as_they_should():
    depth = torch.zeros(9, 9)
    poses = torch.zeros(3, 6)
    poses[0, 3] = np.log(2)  # zoom
    poses[1, 2] = np.pi / 2  # roll
    poses[2, 0] = 4.0  # translation, with depth
    zoom, roll, _ = warp_points(poses, depth)
    assert zoom[4, 8].tolist() == pytest.approx([8, 0], abs=1e-5)
    assert roll[4, 8].tolist() == pytest.approx([0, 4], abs=1e-5)
    near = warp_points(poses[2:], depth + 0.5)[0]
    assert near[4, 4].tolist() == pytest.approx([6, 0], abs=1e-5)


def test_outside_the_picture_the_scene_goes_on_reflected_and_objects_end(picture):
    points = warp_points(path(40, 0).poses(torch.ones(1)), torch.zeros(40, 40)) + 19.5
    assert (look(picture, points)[0] - picture.flip(-1)).abs().max() < 1e-5
    assert look(picture, points, "zeros")[..., 1:].abs().max() == 0


@pytest.mark.parametrize(("speed", "expected"), [(0.5, 1), (1.2, 1), (2.0, 3), (5.1, 5), (90, 13)])
def test_sub_frames_are_odd_and_no_step_is_longer_than_allowed(speed, expected):
    times = torch.arange(-3.0, 4.0)
    points = warp_points(path(speed).poses(times), torch.zeros(16, 16))
    assert sub_frames_for(points, MotionConfig(step=1.25, max_sub_frames=13)) == expected


def test_a_scene_at_rest_stays_sharp():
    blurry, sharp = move(photo(), [], np.random.default_rng(3), size=32, config=STILL)
    assert blurry.shape == (3, 32, 32)
    assert sharp.shape == (7, 3, 32, 32)
    assert (sharp - sharp[3]).abs().max() < 1e-4
    assert (blurry - sharp[3]).abs().max() < 1e-4
    assert sharp.std() > 0.05


def test_content_moves_against_the_camera_by_its_velocity(monkeypatch):
    _, sharp = clip_of(monkeypatch, [path(2, -1)])
    for before, after in pairwise(sharp):
        # The camera goes right and up, so what is seen goes left and down.
        assert (after[:, 1:, :-2] - before[:, :-1, 2:]).abs().max() < 1e-3
        assert (after - before).abs().mean() > 0.02


def test_the_blur_is_the_light_average_of_the_frames(monkeypatch):
    coarse = replace(PLAIN, step=1e9)  # one instant a frame
    blurry, sharp = clip_of(monkeypatch, [path(2, 1, 0.01)], coarse)
    assert (reblur(sharp) - blurry).abs().max() < 1e-5
    assert psnr(blurry, sharp[3]) < 30


def test_more_instants_a_frame_close_the_gaps_of_a_fast_line(monkeypatch):
    scene = torch.zeros(3, 62, 62, dtype=torch.uint8)
    scene[..., 31] = 255
    coarse, fine = (
        clip_of(monkeypatch, [path(4)], replace(PLAIN, step=step), scene=scene)[0].amax((0, 1))
        for step in (1e9, 1.25)
    )
    assert (coarse > 0.05).sum() <= 14  # seven lines of two pixels at most
    lit = (fine > 0.05).nonzero().flatten()
    assert 7 * 4 <= len(lit) + 2 <= 7 * 4 + 4
    assert lit.diff().max() == 1


def test_a_straight_path_run_backwards_gives_the_same_blur_and_the_frames_in_reverse(monkeypatch):
    there = clip_of(monkeypatch, [path(1.5, -0.7)])
    back = clip_of(monkeypatch, [path(-1.5, 0.7)])
    assert (there[0] - back[0]).abs().max() < 1e-4
    assert (there[1] - back[1].flip(0)).abs().max() < 1e-4
    assert (there[1] - back[1]).abs().mean() > 0.02


def test_a_scene_is_a_function_of_the_seed():
    config = replace(ONE_OBJECT, parallax=0.6)
    first, again, other = (
        move(photo(), [white()], np.random.default_rng(seed), size=24, config=config)
        for seed in (5, 5, 6)
    )
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert (first[0] - other[0]).abs().mean() > 0.02


def test_pictures_stay_within_the_range():
    for seed in range(12):
        blurry, sharp = move(
            photo(60), [white(0.7)], np.random.default_rng(seed), size=24, config=MotionConfig()
        )
        for frames in (blurry, sharp):
            assert frames.isfinite().all()
            assert frames.min() >= 0
            assert frames.max() <= 1


def test_a_photo_smaller_than_the_view_is_reflected():
    _, sharp = move(photo(17), [], np.random.default_rng(0), size=32, config=STILL)
    assert sharp.shape == (7, 3, 32, 32)
    assert (sharp[3, :, :, 1:] - sharp[3, :, :, :-1]).abs().mean() > 0.005


def whole_object(
    monkeypatch: pytest.MonkeyPatch, scene: Tensor, velocity: Path, alpha: float = 1.0
) -> tuple[Tensor, Tensor]:
    """An object on its path over a scene at rest, at a place where none of it is cut off."""
    for seed in range(60):
        paths = [path(), velocity]
        clip = clip_of(monkeypatch, paths, ONE_OBJECT, (white(alpha),), scene, seed)
        border = torch.cat([clip[1][..., [0, -1], :].flatten(), clip[1][..., [0, -1]].flatten()])
        if border.max() == 0 and clip[1].max() > 0:
            return clip
    raise AssertionError("no place in sixty shows the whole object")


def test_an_object_keeps_its_light_on_its_way(monkeypatch, black):
    blurry, sharp = whole_object(monkeypatch, black, path(0.6, 0.3))
    light = to_linear(sharp, "gamma2.2").sum((1, 2, 3))
    assert light.tolist() == pytest.approx(7 * [3 * 13 * 13], rel=0.02)
    assert to_linear(blurry, "gamma2.2").sum() == pytest.approx(float(light.mean()), rel=0.01)


def test_an_object_moves_evenly_and_as_fast_as_its_velocity(monkeypatch, black):
    _, sharp = whole_object(monkeypatch, black, path(0.8, -0.5))
    steps = centroids(sharp).diff(dim=0)
    assert steps.abs().flatten().tolist() == pytest.approx(6 * [0.8, 0.5], abs=0.02)


def test_an_object_moves_in_the_direction_of_its_velocity(monkeypatch, black):
    """Unlike the scene, which is seen from a moving camera: the object itself is what moves."""
    _, sharp = whole_object(monkeypatch, black, path(0.8, -0.5))
    steps = centroids(sharp).diff(dim=0).mean(0)
    assert steps.tolist() == pytest.approx([0.8, -0.5], abs=0.02)


def test_a_solid_object_hides_the_scene_and_a_half_clear_one_half_of_its_light(monkeypatch, black):
    _, solid = whole_object(monkeypatch, black, path())
    assert solid.max().item() == pytest.approx(1, abs=1e-5)
    _, clear = whole_object(monkeypatch, black, path(), alpha=0.5)
    half = to_linear(clear, "gamma2.2").max().item()
    assert half == pytest.approx(128 / 255, abs=1e-3)


def test_light_behind_an_object_is_weighed_by_what_is_clear_of_it(monkeypatch):
    scene = torch.full((3, 96, 96), 255, dtype=torch.uint8)
    ghost = white(0.25)
    ghost[:3] = 0
    _, sharp = clip_of(monkeypatch, [path(), path()], ONE_OBJECT, (ghost,), scene)
    light = to_linear(sharp, "gamma2.2")
    assert light.min().item() == pytest.approx(1 - 64 / 255, abs=1e-3)
    assert light.max().item() == pytest.approx(1, abs=1e-5)


def test_an_invisible_object_changes_nothing(monkeypatch):
    shown = clip_of(monkeypatch, [path(1), path(0.5)], ONE_OBJECT, (white(0),))[1]
    # Without cut-outs fewer random numbers are drawn, so compare with another invisible one.
    other = white(0)
    other[:3] = 17
    again = clip_of(monkeypatch, [path(1), path(0.5)], ONE_OBJECT, (other,))[1]
    assert torch.equal(shown, again)
    assert (shown[1:, :, :, :-1] - shown[:-1, :, :, 1:]).abs().max() < 1e-3
