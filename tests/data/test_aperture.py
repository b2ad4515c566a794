"""Phase-coded exposure: parity with the study, conservation of light, symmetry of the sweep."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_picture

from b2v.color import to_encoded, to_linear
from b2v.data.exposure import (
    Optics,
    at_instants,
    by_frame,
    expose,
    optical_psfs,
    read_psfs,
    show_psf,
    through_psfs,
)
from b2v.errors import DatasetError

OPTICS = Optics()


@pytest.fixture(scope="module")
def study(shared):
    """The PSFs, frames and blurry picture of the study."""
    path = shared / "reference" / "berman2021_coded_blur.npz"
    with np.load(path) as file:
        frames = torch.from_numpy(file["frames"]).permute(0, 3, 1, 2).float() / 255
        return path, frames, torch.from_numpy(file["blurry"]).permute(2, 0, 1)


def misfit(ours, his):
    """Squared error of each PSF and color over its own energy, [N, 3]."""
    return (ours - his).square().sum((2, 3)) / his.square().sum((2, 3))


def delta(count, size=5):
    psfs = torch.zeros(count, 3, size, size)
    psfs[..., size // 2, size // 2] = 1
    return psfs


# Parity


def test_his_psfs_on_his_frames_give_his_blurry_picture(study):
    path, frames, blurry = study
    ours = through_psfs(frames, read_psfs(path, gains=True))
    assert (ours - blurry).abs().max() < 1e-5  # he averaged code values; measured 3e-7


@pytest.mark.parametrize("gains", [True, False])
def test_our_optics_give_his_psfs(study, gains):
    his = read_psfs(study[0], gains=gains)
    ours = optical_psfs(OPTICS, 7, gains=gains)
    assert misfit(ours, his).max() < 1e-4  # measured 6e-5 at worst, 8e-6 in all
    assert (ours - his).square().sum() / his.square().sum() < 1e-5


def test_our_gains_are_his(study):
    his = read_psfs(study[0], gains=True).sum((2, 3))
    ours = optical_psfs(OPTICS, 7, gains=True).sum((2, 3))
    assert (ours - his).abs().max() < 5e-4
    assert ours.mean(0).tolist() == pytest.approx([0.876, 0.940, 0.962], abs=2e-3)


def test_our_optics_on_his_frames_give_his_blurry_picture_nearly(study):
    _, frames, blurry = study
    ours = through_psfs(frames, optical_psfs(OPTICS, 7, gains=True))
    assert (ours - blurry).abs().max() < 1e-3


def test_another_reading_of_the_same_lens_is_near_too(study):
    """The mask's nominal phases fit where the sweep is taken to begin one step later."""
    nominal = Optics(sweep=(8 / 6, 56 / 6), rings=((0.55, 0.8, 6.2), (0.8, 1.0, 12.3)), cutoff=0.25)
    his = read_psfs(study[0])
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


def test_a_larger_window_holds_more_of_the_light_and_at_last_nearly_all():
    sums = [optical_psfs(replace(OPTICS, size=k), 2, gains=True).sum((2, 3)) for k in (9, 27, 75)]
    assert (sums[0] < sums[1]).all()
    assert (sums[1] < sums[2]).all()
    assert sums[2].min() > 0.94
    assert sums[2].max() < 1


def test_a_clear_pupil_in_focus_gives_the_airy_disc():
    psf = optical_psfs(Optics(rings=(), sweep=(0, 0), size=41), 1, gains=True)[0, 2]
    radius = torch.arange(1, 21).double()
    v = 2 * np.pi * 0.249 * radius
    airy = (2 * torch.special.bessel_j1(v) / v).square()
    assert (psf[20, 21:] / psf[20, 20] - airy).abs().max() < 1e-5
    assert psf[20, 20].item() == pytest.approx(np.pi * 0.249**2, rel=1e-5)


def test_psfs_are_round():
    psfs = optical_psfs(OPTICS, 3)
    assert (psfs - psfs.mT).abs().max() < 1e-7
    assert (psfs - psfs.flip(-1)).abs().max() < 1e-7


def test_a_backward_sweep_mirrors_a_forward_one_in_time():
    forward, backward = (optical_psfs(OPTICS, 9, backward=b) for b in (False, True))
    assert torch.equal(forward, backward.flip(0))
    assert (forward - backward).abs().max() > 0.05


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


def test_light_is_kept_and_lost_by_the_gain():
    point = torch.zeros(7, 3, 61, 61)
    point[..., 30, 30] = 1
    kept = through_psfs(point, optical_psfs(OPTICS, 7)).sum((1, 2))
    assert kept.tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    gains = optical_psfs(OPTICS, 7, gains=True)
    lost = through_psfs(point, gains).sum((1, 2))
    assert lost.tolist() == pytest.approx(gains.sum((2, 3)).mean(0).tolist(), abs=1e-5)


def test_a_shifted_psf_moves_the_light_its_own_way():
    psfs = torch.zeros(1, 3, 5, 5)
    psfs[..., 2, 4] = 1  # two to the right
    light = make_picture(12, 15)[None]
    moved = through_psfs(light, psfs)
    assert (moved[..., 2:] - light[0][..., :-2]).abs().max() < 1e-6


def test_the_direction_of_motion_is_in_the_colors():
    """A point that goes right is bluer at its start under a forward sweep, at its end else."""
    light = torch.zeros(7, 3, 33, 81)
    for i in range(7):
        light[i, :, 16, 22 + 6 * i] = 1
    for backward in (False, True):
        seen = through_psfs(light, optical_psfs(OPTICS, 7, backward=backward))
        first, last = seen[:, 16, 22], seen[:, 16, 22 + 36]
        blue_first = bool((first[2] / first[0]) > (last[2] / last[0]))
        assert blue_first is not backward


def test_instants_and_psfs_must_be_as_many():
    with pytest.raises(ValueError, match=r"3 instants .* 2 PSFs"):
        through_psfs(torch.zeros(3, 3, 8, 8), delta(2))


def test_psfs_of_parts_are_mixed_between_their_middles():
    psfs = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 5, 5)
    assert torch.equal(at_instants(psfs, 3), psfs)
    values = at_instants(psfs, 9)[:, 0, 0, 0].tolist()
    assert values == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2, 2], abs=1e-6)


def test_a_frame_that_stands_still_gets_the_mean_of_its_psfs():
    psfs = optical_psfs(OPTICS, 21)
    still = torch.stack([make_picture(30, 30, seed) for seed in range(7)])
    every = through_psfs(still.repeat_interleave(3, 0), psfs)
    assert (through_psfs(still, by_frame(psfs, 7)) - every).abs().max() < 1e-6


# Files


def write_npz(path, psfs, name="psfs"):
    np.savez(path, **{name: psfs})
    return path


def test_psfs_from_a_file_sum_to_one_unless_their_gains_are_kept(tmp_path):
    stored = np.random.default_rng(0).uniform(0, 1e-3, (4, 9, 9, 3)).astype(np.float32)
    path = write_npz(tmp_path / "psf.npz", stored)
    assert (read_psfs(path).sum((2, 3)) - 1).abs().max() < 1e-5
    kept = read_psfs(path, gains=True)
    assert torch.equal(kept, torch.from_numpy(stored).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("psfs", "said"),
    [
        (np.ones((7, 9, 9)), r"expected \[T, k, k, 3\]"),
        (np.ones((7, 9, 8, 3)), r"expected \[T, k, k, 3\]"),
        (np.ones((7, 8, 8, 3)), "odd"),
        (np.ones((0, 9, 9, 3)), "one instant"),
        (np.ones((7, 9, 9, 3), int), "floats"),
        (-np.ones((7, 9, 9, 3)), "negative"),
        (np.full((7, 9, 9, 3), np.nan), "infinite"),
        (np.zeros((7, 9, 9, 3)), "nothing"),
    ],
)
def test_arrays_that_are_no_psfs_are_refused(tmp_path, psfs, said):
    path = write_npz(tmp_path / "psf.npz", psfs)
    with pytest.raises(DatasetError, match=said):
        read_psfs(path)


def test_psfs_that_make_light_are_refused_where_gains_are_kept(tmp_path):
    path = write_npz(tmp_path / "psf.npz", np.ones((1, 9, 9, 3)))
    with pytest.raises(DatasetError, match=r"sums to 81\.000"):
        read_psfs(path, gains=True)
    assert read_psfs(path).sum().item() == pytest.approx(3)


def test_files_without_psfs_are_refused(tmp_path):
    text = tmp_path / "text.npz"
    text.write_text("no archive")
    other = write_npz(tmp_path / "other.npz", np.ones((7, 9, 9, 3)), "kernels")
    single = tmp_path / "single.npy"
    np.save(single, np.ones((7, 9, 9, 3)))
    objects = tmp_path / "objects.npz"
    np.savez(objects, psfs=np.array([{}], dtype=object))
    for path in (text, other, single, objects, tmp_path):
        with pytest.raises(DatasetError, match=r"not an \.npz"):
            read_psfs(path)
    with pytest.raises(DatasetError, match="no such file"):
        read_psfs(tmp_path / "nowhere.npz")


# Picture


def test_the_picture_has_a_row_per_color_and_one_of_all():
    psfs = optical_psfs(OPTICS, 63)
    picture = show_psf(psfs, columns=7, zoom=4)
    side = (27 + 2) * 4
    assert picture.shape == (3, 4 * side, 7 * side)
    assert picture.min() >= 0
    assert picture.max() == pytest.approx(1)
    cells = picture.view(3, 4, side, 7, side)[:, :, 4:-4, :, 4:-4]
    for row in range(3):
        others = [c for c in range(3) if c != row]
        assert cells[others, row].max() == 0
        assert cells[row, row].amax((0, 2)).min() > 0.05
    together = to_linear(cells[:, 3, :, 0])
    blue, red = (together[c].amax() for c in (2, 0))
    assert blue == pytest.approx(1)
    assert red / blue == pytest.approx(float(psfs[0, 0].max() / psfs[0, 2].max()), rel=1e-3)


def test_few_psfs_make_few_columns():
    assert show_psf(delta(2), columns=7, zoom=2).shape == (3, 4 * 14, 2 * 14)
