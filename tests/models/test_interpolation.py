"""Frames between two, along the flow between them."""

import pytest
import torch
from test_motion import texture
from torch.nn import functional as F

from b2v.metrics import psnr
from b2v.models.neighbors import gap

HEIGHT, WIDTH = 160, 224
INSIDE = (..., slice(24, -24), slice(32, -32))


def seen(right, down, wide=None):
    """Look at a picture from a place, in pixels."""
    wide = texture(HEIGHT + 80, WIDTH + 80) if wide is None else wide
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    size = torch.tensor([wide.shape[2], wide.shape[1]])
    grid = (2 * torch.stack([x + 40 + right, y + 40 + down], -1) + 1) / size - 1
    return F.grid_sample(wide[None], grid[None].float(), mode="bicubic", align_corners=False)[0]


def with_square(left, behind):
    """Put a square with a pattern of its own before a scene."""
    front = texture(48, 48, seed=7)
    front = (front * 0.4 + 0.55).clamp(0, 1)
    picture = behind.clone()
    picture[:, 56:104, left : left + 48] = front
    return picture


@pytest.mark.parametrize("time", [0.2, 0.5, 0.7])
def test_a_frame_between_two_is_where_the_camera_was(time):
    one, other = seen(0, 0), seen(10, -6)
    truth = seen(10 * time, -6 * time)
    found = gap(one, other).at(time)
    faded = torch.lerp(one, other, time)
    assert psnr(found[INSIDE], truth[INSIDE]) > psnr(faded[INSIDE], truth[INSIDE]) + 8


def test_an_object_moves_before_what_is_behind_it():
    behind = seen(0, 0)
    one, other, truth = (with_square(left, behind) for left in (80, 96, 88))
    found, faded = gap(one, other).at(0.5), (one + other) / 2
    front, around = ((..., slice(a, 160 - a), slice(b, 224 - b)) for a, b in ((64, 100), (40, 64)))
    assert psnr(found[front], truth[front]) > psnr(faded[front], truth[front]) + 8
    assert psnr(found[around], truth[around]) > psnr(faded[around], truth[around]) + 0.5


def test_time_runs_the_same_both_ways():
    one, other = seen(0, 0), seen(7, 3)
    assert psnr(gap(one, other).at(0.3), gap(other, one).at(0.7)) > 40


def test_a_still_scene_stays_as_it_is():
    still = seen(0, 0).clamp(0, 1)
    assert torch.allclose(gap(still, still).at(0.4), still, atol=1e-4)


def test_there_is_nothing_between_two_scenes():
    assert gap(seen(0, 0), 1 - seen(0, 0).flip(2).roll(71, 1) ** 3) is None
