"""Instants between frames: where motion is known, they are what the camera would have seen."""

import pytest
import torch
from conftest import make_picture
from torch import Tensor
from torch.nn import functional as F

from b2v.color import to_encoded, to_linear
from b2v.data import rendering
from b2v.data.rendering import (
    MOST,
    find_gaps,
    instants_between,
    sub_frames_for,
)
from b2v.metrics import psnr

PARTS = 5
INSIDE = slice(None), slice(12, -12), slice(12, -12)


def scene(side: int = 200, seed: int = 0) -> Tensor:
    """Draw something like a photograph: soft patches with edges here and there."""
    soft = F.avg_pool2d(make_picture(side, side, seed)[None], 5, 1, 2)[0]
    return (soft + 0.25 * (make_picture(side, side, seed + 1) > 0.62)).clamp(0, 1)


def pan(frames: int, right: int, down: int, size: int = 64) -> Tensor:
    """Every instant, `PARTS` a frame, of a scene that moves by whole pixels between them."""
    wide, corner = scene(), 100 - size // 2
    moved = [n - frames * PARTS // 2 for n in range(frames * PARTS)]
    corners = [(corner - down * n, corner - right * n) for n in moved]
    return torch.stack([wide[:, y : y + size, x : x + size] for y, x in corners])


def with_an_object(instants: Tensor, right: int, side: int = 26) -> Tensor:
    """Have a textured square pass in front, another way than what is behind it."""
    thing, seen = scene(seed=7)[:, :side, :side].flip(0), instants.clone()
    middle = len(instants) // 2
    for number, picture in enumerate(seen):
        left = (picture.shape[2] - side) // 2 + right * (number - middle)
        picture[:, 20 : 20 + side, left : left + side] = thing
    return seen


def blurs(truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Blur of all instants, of the middle one of each frame, and of those made from the latter."""
    frames = truth[PARTS // 2 :: PARTS]
    light_lin = to_linear(frames, "gamma2.2")
    made = torch.stack(list(instants_between(light_lin, find_gaps(frames), PARTS)))
    assert made.shape == truth.shape
    averaged = (to_linear(truth, "gamma2.2"), light_lin, made)
    return tuple(to_encoded(x.mean(0), "gamma2.2") for x in averaged)


def test_the_blur_of_a_pan_is_a_streak_rather_than_copies():
    """Seven pixels a frame, of which the frames alone show every seventh."""
    exact, plain, made = blurs(pan(7, 1, -1))
    assert psnr(plain, exact) < 34
    assert psnr(made, exact) > psnr(plain, exact) + 10
    assert psnr(made[INSIDE], exact[INSIDE]) > 50


def test_what_goes_ten_pixels_a_frame_is_still_followed():
    exact, plain, made = blurs(pan(3, 2, 0))
    assert psnr(made, exact) > psnr(plain, exact) + 6


def test_an_object_before_a_moving_scene_is_followed_too():
    exact, plain, made = blurs(with_an_object(pan(3, 1, 0, size=80), -1))
    assert psnr(made, exact) > psnr(plain, exact) + 4


def test_the_frames_themselves_are_among_the_instants():
    frames = pan(2, 1, 1)[PARTS // 2 :: PARTS]
    seen = list(instants_between(frames, find_gaps(frames), 3))
    assert len(seen) == 6
    assert torch.equal(seen[1], frames[0])
    assert torch.equal(seen[4], frames[1])


def test_a_still_scene_is_unchanged_by_instants():
    frames = scene()[None, :, :40, :40].expand(3, -1, -1, -1)
    gaps = find_gaps(frames)
    assert sub_frames_for(gaps) == 1
    for seen in instants_between(frames, gaps, 3):
        assert (seen - frames[0]).abs().max() < 1e-5


@pytest.mark.parametrize("count", [3, 9])
def test_across_cuts_instants_are_as_good_as_the_frames_alone(count):
    """Mixed where they lie, all frames count the same in the end, the first and the last too."""
    frames = torch.rand(4, 3, 17, 22, generator=torch.Generator().manual_seed(0))
    seen = torch.stack(list(instants_between(frames, [None] * 3, count)))
    assert (seen.mean(0) - frames.mean(0)).abs().max() < 1e-5


def test_motion_goes_on_before_the_first_frame_and_after_the_last():
    truth = pan(3, 1, 0)
    frames = truth[PARTS // 2 :: PARTS]
    seen = list(instants_between(frames, find_gaps(frames), PARTS))
    for end in (0, -1):
        assert psnr(seen[end][INSIDE], truth[end][INSIDE]) > 40
        assert psnr(frames[end][INSIDE], truth[end][INSIDE]) < 30


@pytest.mark.parametrize(("pixels", "count"), [(1, 5), (2, 11)])
def test_as_many_instants_are_chosen_as_there_are_pixels_in_a_step(pixels, count):
    gaps = find_gaps(pan(2, pixels, 0)[PARTS // 2 :: PARTS])
    assert abs(sub_frames_for(gaps) - count) <= 2
    assert sub_frames_for(gaps) % 2 == 1


def test_no_more_instants_are_chosen_than_the_limit(monkeypatch):
    gaps = find_gaps(pan(2, 1, 0)[PARTS // 2 :: PARTS])
    monkeypatch.setattr(rendering, "STEP", 0.01)
    assert sub_frames_for(gaps) == MOST


def test_an_even_number_of_instants_has_no_frame_among_them():
    frames = torch.rand(2, 3, 16, 16)
    with pytest.raises(ValueError, match=r"must be odd .* got 4"):
        next(instants_between(frames, find_gaps(frames), 4))


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (16, 90)])
def test_pictures_of_any_size_and_content_give_numbers(size):
    noise = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    for frames in (noise, torch.zeros(2, 3, *size), torch.stack([noise[0], 0 * noise[0]])):
        for seen in instants_between(frames, find_gaps(frames), 3):
            assert seen.shape == frames.shape[1:]
            assert seen.min() >= 0  # false for what is not a number
            assert seen.max() <= 1
