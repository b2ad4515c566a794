"""Where a page opens: at what gained most, neither at borders nor at noise."""

import pytest
import torch
from conftest import make_picture

from b2v.frames import smooth
from b2v.html_page import SMALL, WINDOW, View, opening


def texture(height, width, seed=0):
    """Detail everywhere: gray noise that is a little smooth, [3, H, W]."""
    noise = torch.randn(1, height, width, generator=torch.Generator().manual_seed(seed))
    return (0.5 + 0.4 * smooth(noise, 1.0)).clamp(0, 1).expand(3, -1, -1)


def blurred(picture, sigma=4.0):
    return smooth(picture[:1], sigma).repeat(3, 1, 1)


def sharpened_at(top, left, side, height=720, width=1280):
    """A blurry picture, and one that is sharp in a square."""
    sharp = texture(height, width)
    blurry = blurred(sharp)
    restored = blurry.clone()
    restored[:, top : top + side, left : left + side] = sharp[
        :, top : top + side, left : left + side
    ]
    return blurry, restored


def covers(view, top, left, side):
    reach = WINDOW // view.zoom // 2
    return (
        view.x - reach <= left
        and left + side <= view.x + reach
        and view.y - reach <= top
        and top + side <= view.y + reach
    )


@pytest.mark.parametrize(("top", "left"), [(100, 200), (480, 900), (300, 60)])
def test_the_part_that_was_sharpened_is_seen(top, left):
    view = opening(*sharpened_at(top, left, 120))
    assert view.zoom == 1
    assert covers(view, top, left, 120)


def test_small_pictures_open_at_200_percent():
    view = opening(*sharpened_at(60, 240, 80, height=300, width=400))
    assert view.zoom == 2
    assert covers(view, 60, 240, 80)
    for width, zoom in ((SMALL - 1, 2), (SMALL, 1)):
        assert opening(*[texture(64, width)] * 2).zoom == zoom


def test_nothing_gained_opens_at_the_middle():
    picture = make_picture(480, 640)
    assert opening(picture, picture) == View(320, 240, 2)
    assert opening(picture, blurred(picture)) == View(320, 240, 2)


def test_noise_in_flat_regions_is_no_gain():
    blurry, restored = sharpened_at(100, 200, 60)
    restored[:, :, 700:] = blurry[:, :, 700:] = 0.5
    noise = torch.randn(3, 720, 580, generator=torch.Generator().manual_seed(1))
    restored[:, :, 700:] += 0.01 * noise
    assert covers(opening(blurry, restored), 100, 200, 60)


def test_what_is_wrong_at_the_border_does_not_count():
    blurry, restored = sharpened_at(300, 600, 60)
    restored[:, :16] = texture(16, 1280, seed=2)
    assert covers(opening(blurry, restored), 300, 600, 60)


def test_large_pictures_are_told_of_in_pixels_of_the_page():
    view = opening(*sharpened_at(200, 2000, 240, height=640, width=2560))
    assert covers(view, 100, 1000, 120)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 4000), (17, 33)])
def test_any_size_has_a_view_inside_of_it(height, width):
    sharp = texture(height, width)
    view = opening(blurred(sharp, 1.0), sharp)
    assert (0 <= view.x < width, 0 <= view.y < height) == (True, True)
