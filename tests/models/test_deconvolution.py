"""What blur is left is taken back along the paths, where they are trusted."""

from functools import partial

import pytest
import torch
from conftest import make_picture
from torch.nn import functional as F

from b2v.color import to_encoded, to_linear
from b2v.metrics import psnr
from b2v.models.deconvolution import deconvolve, looks
from b2v.motion import move_along

SIDE, PATH = 160, (5.0, -3.0)
INNER = (..., slice(24, -24), slice(24, -24))


def scene(seed=0):
    """A picture with texture of a few pixels, [1, 3, SIDE, SIDE]."""
    coarse = F.interpolate(make_picture(40, 40, seed)[None], (SIDE, SIDE), mode="bicubic")
    return coarse.clamp(0, 1)


def paths_of(x, y):
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, SIDE, SIDE)


def smeared(sharp, paths, instants=65):
    """Average the light of the moments of an exposure."""
    times = torch.linspace(-1, 1, instants).view(1, -1, 1, 1, 1)
    light = move_along(to_linear(sharp, "gamma2.2"), paths[:, None] * times)
    return to_encoded(light.mean(1), "gamma2.2")


exposed = partial(smeared, instants=7)
"""Average the light of seven frames."""


def everywhere(trust):
    return torch.full((1, 1, SIDE, SIDE), trust)


def gain(found, before, sharp):
    return float(psnr(found[INNER], sharp[INNER]) - psnr(before[INNER], sharp[INNER]))


@pytest.mark.parametrize("instants", [7, 65])
def test_a_frame_half_sharp_becomes_sharper_along_its_paths(instants):
    sharp, paths = scene(), paths_of(*PATH)
    blurry, x4 = smeared(sharp, paths, instants), exposed(sharp, paths * 0.5)
    assert gain(deconvolve(blurry, x4, paths, everywhere(1.0)), x4, sharp) > 0.7


def test_a_path_that_bends_is_followed():
    sharp, paths = scene(), paths_of(6.0, 0.0)
    bends, times = paths_of(0.0, 4.0), torch.linspace(-1, 1, 33).view(1, -1, 1, 1, 1)
    way = paths[:, None] * times + bends[:, None] * times.square()
    light = move_along(to_linear(sharp, "gamma2.2"), way)
    blurry = to_encoded(light.mean(1), "gamma2.2")
    straight, bent = (
        deconvolve(blurry, blurry, paths, everywhere(1.0), bends=b) for b in (None, bends)
    )
    assert gain(bent, straight, sharp) > 1
    assert gain(bent, blurry, sharp) > 1


def test_paths_across_the_smear_do_not_help():
    sharp, paths = scene(), paths_of(*PATH)
    blurry, x4 = exposed(sharp, paths), exposed(sharp, paths * 0.5)
    across = paths_of(-PATH[1], PATH[0])
    assert gain(deconvolve(blurry, x4, across, everywhere(1.0)), x4, sharp) < 0


def test_what_explains_the_blur_or_is_not_trusted_stays():
    sharp, paths = scene(), paths_of(*PATH)
    blurry, x4 = exposed(sharp, paths), exposed(sharp, paths * 0.5)
    assert torch.allclose(deconvolve(blurry, sharp, paths, everywhere(1.0)), sharp, atol=1e-4)
    assert torch.allclose(deconvolve(blurry, x4, paths, everywhere(0.0)), x4, atol=1e-5)


def test_black_and_white_stay_within_the_range():
    edges = (torch.arange(SIDE) // 9 % 2).float().expand(1, 3, SIDE, SIDE).contiguous()
    paths = paths_of(*PATH)
    found = deconvolve(exposed(edges, paths), edges.flip(3), paths, everywhere(1.0))
    assert torch.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_it_looks_as_far_as_it_says():
    sharp, paths = scene(), paths_of(*PATH)
    blurry, x4 = exposed(sharp, paths), exposed(sharp, paths * 0.5)
    whole = deconvolve(blurry, x4, paths, everywhere(1.0))
    look = looks(float(torch.tensor(PATH).norm()))
    rows = slice(60 - look, 80 + look)
    assert look < 40
    part = deconvolve(*(p[:, :, rows] for p in (blurry, x4, paths, everywhere(1.0))))
    assert torch.allclose(part[:, :, look:-look], whole[:, :, 60:80], atol=1e-5)
