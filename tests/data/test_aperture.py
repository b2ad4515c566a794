"""Phase-coded exposure: parity with the study, conservation of light, symmetry of the sweep."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_picture

from b2v.color import to_encoded
from b2v.data.exposure import (
    Optics,
    by_frame,
    expose,
    optical_psfs,
    through_psfs,
)

OPTICS = Optics()


@pytest.fixture(scope="module")
def study(shared):
    """The PSFs of the study with the light that they keep, its frames and its blurry picture."""
    with np.load(shared / "reference" / "berman2021_coded_blur.npz") as file:
        frames = torch.from_numpy(file["frames"]).permute(0, 3, 1, 2).float() / 255
        psfs = torch.from_numpy(file["psfs"].astype(np.float32)).permute(0, 3, 1, 2)
        return psfs, frames, torch.from_numpy(file["blurry"]).permute(2, 0, 1)


def normalized(psfs):
    return psfs / psfs.sum((2, 3), keepdim=True)


def misfit(ours, his):
    """Squared error of each PSF and color over its own energy, [N, 3]."""
    return (ours - his).square().sum((2, 3)) / his.square().sum((2, 3))


def delta(count, size=5):
    psfs = torch.zeros(count, 3, size, size)
    psfs[..., size // 2, size // 2] = 1
    return psfs


# Parity


def test_his_psfs_on_his_frames_give_his_blurry_picture(study):
    his, frames, blurry = study
    ours = through_psfs(frames, his)
    assert (ours - blurry).abs().max() < 1e-5  # he averaged code values; measured 3e-7


def test_our_optics_give_his_psfs(study):
    his = normalized(study[0])
    ours = optical_psfs(OPTICS, 7)
    assert misfit(ours, his).max() < 1e-4  # measured 6e-5 at worst, 8e-6 in all
    assert (ours - his).square().sum() / his.square().sum() < 1e-5


def test_our_optics_on_his_frames_give_his_blurry_picture_nearly(study):
    his, frames, blurry = study
    kept = his.sum((2, 3), keepdim=True)  # the light that falls on the pixels of a PSF
    ours = through_psfs(frames, optical_psfs(OPTICS, 7) * kept)
    assert (ours - blurry).abs().max() < 1e-3


def test_another_reading_of_the_same_lens_is_near_too(study):
    """The mask's nominal phases fit where the sweep is taken to begin one step later."""
    nominal = Optics(sweep=(8 / 6, 56 / 6), rings=((0.55, 0.8, 6.2), (0.8, 1.0, 12.3)), cutoff=0.25)
    his = normalized(study[0])
    ours = optical_psfs(nominal, 7)
    assert (ours - his).square().sum() / his.square().sum() < 0.01
    assert misfit(ours, his).mean() < 0.01


# Optics


@pytest.mark.parametrize("count", [1, 7, 20])
@pytest.mark.parametrize("size", [9, 27])
def test_psfs_sum_to_one(count, size):
    psfs = optical_psfs(replace(OPTICS, size=size), count)
    assert psfs.shape == (count, 3, size, size)
    assert psfs.dtype == torch.float32
    assert psfs.min() >= 0
    assert (psfs.sum((2, 3)) - 1).abs().max() < 1e-5


def test_a_clear_pupil_in_focus_gives_the_airy_disc():
    psf = optical_psfs(Optics(rings=(), sweep=(0, 0), size=41), 1)[0, 2]
    radius = torch.arange(1, 21).double()
    v = 2 * np.pi * 0.249 * radius
    airy = (2 * torch.special.bessel_j1(v) / v).square()
    assert (psf[20, 21:] / psf[20, 20] - airy).abs().max() < 1e-5


def test_psfs_are_round():
    psfs = optical_psfs(OPTICS, 3)
    assert (psfs - psfs.mT).abs().max() < 1e-7
    assert (psfs - psfs.flip(-1)).abs().max() < 1e-7


def test_blue_is_sharpest_first_and_red_in_the_second_half():
    peaks = optical_psfs(OPTICS, 7).amax((2, 3))
    assert peaks[:, 2].argmax() == 0
    assert peaks[:, 0].argmax() >= 3
    assert peaks[0, 2] > 4 * peaks[0, 0]
    assert peaks[6, 0] > 4 * peaks[6, 2]


def test_finer_steps_pass_through_the_coarse_ones():
    coarse, fine = optical_psfs(OPTICS, 7), optical_psfs(OPTICS, 61)
    assert (fine[::10] - coarse).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 26}, "odd"),
        ({"cutoff": 0.3}, "cutoff"),
        ({"rings": ((0.5, 1.2, 1.0),)}, "radius 1"),
        ({"rings": ((0.5, 0.8, 1.0), (0.7, 1.0, 2.0))}, "overlap"),
    ],
)
def test_impossible_optics_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        replace(OPTICS, **change)


# Exposure


def test_delta_psfs_are_the_plain_exposure():
    light_lin = torch.stack([make_picture(20, 31, seed) for seed in range(5)])
    seen = to_encoded(through_psfs(light_lin, delta(5)), "gamma2.2")
    assert (seen - expose(light_lin)).abs().max() < 1e-6


def test_a_still_even_scene_is_unchanged_up_to_the_border():
    light_lin = torch.full((7, 3, 40, 30), 0.4)
    psfs = optical_psfs(OPTICS, 7)
    assert (through_psfs(light_lin, psfs) - 0.4).abs().max() < 1e-5


def test_light_is_kept():
    point = torch.zeros(7, 3, 61, 61)
    point[..., 30, 30] = 1
    kept = through_psfs(point, optical_psfs(OPTICS, 7)).sum((1, 2))
    assert kept.tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_a_shifted_psf_moves_the_light_its_own_way():
    psfs = torch.zeros(1, 3, 5, 5)
    psfs[..., 2, 4] = 1  # two to the right
    light = make_picture(12, 15)[None]
    moved = through_psfs(light, psfs)
    assert (moved[..., 2:] - light[0][..., :-2]).abs().max() < 1e-6


def test_the_direction_of_motion_is_in_the_colors():
    """A point that goes right is bluer at its start, where the focus is on blue."""
    light = torch.zeros(7, 3, 33, 81)
    for i in range(7):
        light[i, :, 16, 22 + 6 * i] = 1
    seen = through_psfs(light, optical_psfs(OPTICS, 7))
    first, last = seen[:, 16, 22], seen[:, 16, 22 + 36]
    assert first[2] / first[0] > last[2] / last[0]


def test_instants_and_psfs_must_be_as_many():
    with pytest.raises(ValueError, match=r"3 instants .* 2 PSFs"):
        through_psfs(torch.zeros(3, 3, 8, 8), delta(2))


def test_a_frame_that_stands_still_gets_the_mean_of_its_psfs():
    psfs = optical_psfs(OPTICS, 21)
    still = torch.stack([make_picture(30, 30, seed) for seed in range(7)])
    every = through_psfs(still.repeat_interleave(3, 0), psfs)
    assert (through_psfs(still, by_frame(psfs, 7)) - every).abs().max() < 1e-6
