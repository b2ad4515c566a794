"""What blur is left is taken back along the paths, where they are trusted."""

from functools import partial

import pytest
import torch
from test_proof import PATH, SIDE, paths_of, scene, smeared

from b2v.metrics import psnr
from b2v.models.deconvolution import deconvolve, looks
from b2v.models.paths import double
from b2v.models.unfold import Motion

exposed = partial(smeared, instants=7)
"""Average the light of seven frames."""
INNER = (..., slice(24, -24), slice(24, -24))


def everywhere(trust):
    return torch.full((1, 1, SIDE, SIDE), trust)


def gain(found, before, sharp):
    return float(psnr(found[INNER], sharp[INNER]) - psnr(before[INNER], sharp[INNER]))


@pytest.mark.parametrize("instants", [7, 65])
def test_a_frame_half_sharp_becomes_sharper_along_its_paths(instants):
    sharp, paths = scene(), paths_of(*PATH)
    blurry, x4 = smeared(sharp, paths, instants), exposed(sharp, paths * 0.5)
    assert gain(deconvolve(blurry, x4, paths, everywhere(1.0)), x4, sharp) > 0.7


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


def test_a_tall_picture_is_sharpened_in_bands_as_it_is_as_a_whole(monkeypatch):
    sharp = scene()
    blurry, x4 = exposed(sharp, paths_of(*PATH)), exposed(sharp, paths_of(2.0, -1.2))
    motion = Motion.of(double(paths_of(*PATH)[..., ::8, ::8].contiguous()))
    whole = motion.sharpened(blurry, x4)
    monkeypatch.setattr("b2v.models.unfold.BAND", 32)
    assert torch.allclose(motion.sharpened(blurry, x4), whole, atol=1e-5)
    assert gain(whole, x4, sharp) > 0.8
