"""Paths become as long as the blur bears out."""

import pytest
import torch
from conftest import make_picture
from torch.nn import functional as F

from b2v.color import to_encoded, to_linear
from b2v.models.moving import move_along
from b2v.models.paths import double
from b2v.models.proof import FULL, MOST, lengths, misfit
from b2v.models.unfold import Motion

SIDE, PATH = 160, (5.0, -3.0)
INNER = (..., slice(6, -6), slice(6, -6))
"""Cells that nothing comes into from beyond the border."""


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


@pytest.mark.parametrize(("stretch", "factor"), [(1.0, 1.0), (2.0, 0.5), (0.8, 1.25), (0.5, 1.5)])
def test_paths_become_as_long_as_the_smear(stretch, factor):
    sharp, paths = scene(), paths_of(*PATH)
    found = lengths(misfit(smeared(sharp, paths), sharp, paths * stretch))
    assert found.shape == (1, 1, SIDE // 8, SIDE // 8)
    assert found[INNER].mean() == pytest.approx(factor, abs=0.06)


def test_what_is_not_smeared_does_not_move():
    sharp, paths = scene(), paths_of(*PATH)
    assert lengths(misfit(sharp, sharp, paths)).max() == 0


def test_a_part_that_stands_still_stays_where_it_is_beside_one_that_moves():
    sharp, paths = scene(), paths_of(*PATH)
    blurry = smeared(sharp, paths)
    blurry[..., SIDE // 2 :] = sharp[..., SIDE // 2 :]
    found = lengths(misfit(blurry, sharp, paths))[0, 0]
    assert found[6:-6, 3:5].min() == 1
    assert found[6:-6, -4:].max() == 0


def test_a_frame_that_is_still_a_little_blurred_keeps_its_paths():
    sharp, paths = scene(), paths_of(*PATH)
    blurry = smeared(sharp, paths)
    half_sharp = smeared(sharp, paths * 0.4)
    assert lengths(misfit(blurry, half_sharp, paths))[INNER].mean() > 0.9


def test_misfit_counts_quarters_of_the_path():
    sharp, paths = scene(), paths_of(*PATH)
    found = misfit(smeared(sharp, paths), sharp, paths)
    assert found.shape == (1, MOST + 1, SIDE // 8, SIDE // 8)
    assert found[INNER].mean((0, 2, 3)).argmin() == FULL
    assert torch.allclose(found[:, :1], misfit(smeared(sharp, paths), sharp, 0 * paths)[:, 3:4])


def test_a_tall_picture_is_tested_in_bands_as_it_is_as_a_whole(monkeypatch):
    sharp = scene()
    blurry = smeared(sharp, paths_of(*PATH))
    motion = Motion.of(double(paths_of(7.0, -4.0)[..., ::8, ::8].contiguous()))
    whole = motion.tested(blurry, sharp)
    monkeypatch.setattr("b2v.models.unfold.BAND", 32)
    bands = motion.tested(blurry, sharp)
    assert torch.allclose(bands.factors, whole.factors)
    assert 0.3 < whole.factors[INNER].mean() < 0.95
    assert torch.equal(whole.paths(24, 77), whole.paths()[:, :, 24:77])
    assert whole.reach >= whole.paths().norm(dim=1).max()
