"""Scores with known values."""

import math

import pytest
import torch
from conftest import make_picture
from torch.nn import functional as F

from b2v.metrics import mse, psnr, reblur, shifted_psnr


@pytest.mark.parametrize(("offset", "decibels"), [(0.1, 20), (0.01, 40), (0.5, 6.0206), (1.0, 0)])
def test_an_offset_has_its_known_psnr(offset, decibels):
    dark = torch.zeros(3, 16, 16)
    assert psnr(dark + offset, dark).item() == pytest.approx(decibels, abs=1e-3)


def test_a_batch_is_never_pooled():
    sharp = torch.zeros(2, 3, 16, 16)
    restored = torch.stack([sharp[0] + 0.1, sharp[1] + 0.01])
    assert psnr(restored, sharp).tolist() == pytest.approx([20, 40], abs=1e-3)
    assert mse(restored, sharp).tolist() == pytest.approx([1e-2, 1e-4], rel=1e-5)


def test_a_clip_has_one_value_a_frame_and_one_picture_is_compared_with_all():
    blurry, sharp = torch.rand(3, 16, 16), torch.rand(2, 7, 3, 16, 16)
    values = psnr(blurry, sharp)
    assert values.shape == (2, 7)
    assert values[1, 5].item() == pytest.approx(psnr(blurry, sharp[1, 5]).item())


def test_equal_pictures_are_infinitely_close(picture):
    assert psnr(picture, picture).item() == math.inf


def test_psnr_does_not_ask_which_picture_is_the_truth(picture):
    other = make_picture(40, 40, seed=1)
    assert psnr(picture, other) == psnr(other, picture)


@pytest.mark.parametrize("curve", ["srgb", "gamma2.2"])
def test_frames_that_do_not_change_are_their_own_blur(picture, curve):
    assert (reblur(picture.expand(7, -1, -1, -1), curve) - picture).abs().max() < 1e-6


def test_blur_is_an_average_of_light():
    black_and_white = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    assert reblur(black_and_white).unique().tolist() == pytest.approx([0.5 ** (1 / 2.2)])
    assert reblur(black_and_white, "srgb").unique().tolist() == pytest.approx([0.7354], abs=1e-4)


def test_a_batch_of_clips_is_blurred_clip_by_clip_whatever_the_order():
    clips = torch.rand(2, 7, 3, 8, 8)
    blurred = reblur(clips)
    assert blurred.shape == (2, 3, 8, 8)
    assert (blurred[1] - reblur(clips[1].flip(0))).abs().max() < 1e-6


def test_a_picture_a_pixel_off_is_as_good_as_one_in_place_where_tiles_may_move():
    sharp = make_picture(96, 128)
    moved = sharp.roll((1, -2), (1, 2))
    blurry = F.avg_pool2d(sharp[None], 5, 1, 2, count_include_pad=False)[0]
    assert float(psnr(moved, sharp)) < float(psnr(blurry, sharp))  # what is to be mended
    assert shifted_psnr(moved, sharp) > shifted_psnr(blurry, sharp) + 5
    assert shifted_psnr(sharp, sharp) == 100
    assert shifted_psnr(blurry, sharp) >= float(psnr(blurry, sharp))


def test_without_reach_it_is_the_psnr():
    sharp, other = make_picture(64, 96), make_picture(64, 96, 1)
    assert shifted_psnr(other, sharp, reach=0) == pytest.approx(float(psnr(other, sharp)), abs=1e-4)
