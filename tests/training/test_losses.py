"""Losses: known values, and blindness to the order of time."""

import math
from typing import get_args

import pytest
import torch
from conftest import make_picture

from b2v.training.losses import (
    PairLoss,
    best_order_loss,
    frames_loss,
    in_order,
    moves_against,
    pair_loss,
    pixel_loss,
    runs_backwards,
    sum_loss,
)

KINDS = ["mse", "charbonnier", "log-mse"]


def flat(*values: float) -> torch.Tensor:
    """One gray picture [1, 3, 8, 8] a value."""
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, 8, 8)


@pytest.fixture
def pairs() -> tuple:
    """Restored and sharp pairs, each of two random pictures [4, 3, 8, 8]."""
    a, b, x, y = torch.rand(4, 4, 3, 8, 8).unbind(0)
    return (a, b), (x, y)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("mse", 0.01),
        ("charbonnier", math.sqrt(0.01 + 1e-6)),
        ("log-mse", math.log(0.01 + 1e-4)),
    ],
)
def test_an_offset_of_a_tenth_has_its_known_loss(kind, value):
    assert pixel_loss(flat(0.6), flat(0.5), kind).tolist() == pytest.approx([value], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_each_sample_has_a_loss_of_its_own(kind):
    restored, sharp = torch.rand(2, 5, 3, 8, 8).unbind(0)
    alone = [pixel_loss(r, s, kind) for r, s in zip(restored[:, None], sharp[:, None], strict=True)]
    together = pixel_loss(restored, sharp, kind)
    assert together.shape == (5,)
    assert together.tolist() == pytest.approx(torch.cat(alone).tolist(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_worse_frame_has_a_larger_loss(kind):
    losses = pixel_loss(flat(0.5, 0.51, 0.6, 0.9), flat(0.5, 0.5, 0.5, 0.5), kind)
    assert (losses.diff() > 0).all()


def test_the_default_raises_psnr_and_halving_the_error_is_worth_the_same_anywhere():
    assert pixel_loss(flat(0.6), flat(0.5)).item() == pytest.approx(math.log(0.0101), rel=1e-5)
    coarse, fine = pixel_loss(flat(0.9, 0.7), flat(0.5, 0.5))
    coarser, finer = pixel_loss(flat(0.7, 0.6), flat(0.5, 0.5))
    assert coarse - fine == pytest.approx(float(coarser - finer), abs=0.01)


def test_eq_5_by_hand():
    restored = (flat(0.2, 0.5), flat(0.6, 0.5))
    sharp = (flat(0.5, 0.1), flat(0.4, 0.8))
    # |0.8 - 0.9| + |0.4 - 0.1| and |1.0 - 0.9| + |0.0 - 0.7|
    assert pair_loss(restored, sharp).tolist() == pytest.approx([0.4, 0.8])


def test_eq_4_by_hand():
    restored, sharp = (flat(0.2, 0.5), flat(0.6, 0.1)), (flat(0.5, 0.3), flat(0.4, 0.3))
    assert sum_loss(restored, sharp).tolist() == pytest.approx([0.1, 0.0], abs=1e-6)


def six(seed: int) -> tuple:
    return torch.rand(6, 2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).unbind(0)


def test_losses_of_six_frames_are_the_named_ones():
    ours, theirs = six(0), six(1)
    pairs = [pair_loss((ours[k], ours[5 - k]), (theirs[k], theirs[5 - k])) for k in range(3)]
    expected = {
        "pair": torch.stack(pairs).mean(0),
        "global": sum_loss(ours, theirs),
        "independent": in_order(ours, theirs, "mse"),
        "best-order": best_order_loss(ours, theirs, "mse"),
    }
    for kind, losses in expected.items():
        assert torch.allclose(frames_loss(ours, theirs, kind, "mse"), losses), kind


def test_what_each_loss_of_six_frames_cannot_tell_apart():
    truth = six(0)
    backwards = truth[::-1]
    mixed = (truth[5], truth[1], truth[2], truth[3], truth[4], truth[0])  # the outer pair alone
    shuffled = truth[1:] + truth[:1]
    blind = {
        kind: [
            bool((frames_loss(frames, truth, kind, "mse") < 1e-6).all())
            for frames in (truth, backwards, mixed, shuffled)
        ]
        for kind in get_args(PairLoss)
    }
    assert blind == {
        "best-order": [True, True, False, False],
        "pair": [True, True, True, False],
        "global": [True, True, True, True],
        "independent": [True, False, False, False],
    }


def test_in_order_is_the_mean_of_both_frames():
    losses = in_order((flat(0.6), flat(0.7)), (flat(0.5), flat(0.4)), "mse")
    assert losses.tolist() == pytest.approx([(0.01 + 0.09) / 2], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_best_order_is_the_better_of_both_orders(pairs, kind):
    restored, sharp = pairs
    forwards, backwards = in_order(restored, sharp, kind), in_order(restored, sharp[::-1], kind)
    losses = best_order_loss(restored, sharp, kind)
    assert torch.equal(losses, torch.minimum(forwards, backwards))


def test_the_truth_played_backwards_gives_the_same_losses(pairs):
    restored, sharp = pairs
    for loss in (pair_loss, best_order_loss):
        assert torch.equal(loss(restored, sharp), loss(restored, sharp[::-1]))
        swapped = loss(restored[::-1], sharp)
        assert torch.allclose(swapped, loss(restored, sharp), rtol=1e-6)


def test_the_order_is_chosen_anew_for_each_sample():
    sharp = (flat(0.1, 0.1), flat(0.9, 0.9))
    restored = (flat(0.1, 0.9), flat(0.9, 0.1))  # the second sample runs backwards
    assert best_order_loss(restored, sharp, "mse").tolist() == [0, 0]
    assert pair_loss(restored, sharp).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert in_order(restored, sharp, "mse").tolist() == pytest.approx([0, 0.64], rel=1e-5)
    assert runs_backwards(restored, sharp).tolist() == [False, True]


def test_one_direction_is_asked_for_in_all_of_the_picture():
    sharp = (flat(0.1).clone(), flat(0.9).clone())
    mixed = tuple(frame.clone() for frame in sharp)
    mixed[0][..., :4], mixed[1][..., :4] = 0.9, 0.1  # the left half runs backwards
    assert pair_loss(mixed, sharp).item() == pytest.approx(0, abs=1e-6)
    assert best_order_loss(mixed, sharp, "mse").item() == pytest.approx(0.32, rel=1e-5)


def test_a_tie_runs_forwards():
    assert runs_backwards((flat(0.5), flat(0.5)), (flat(0.1), flat(0.9))).tolist() == [False]


def shifted(right: int, down: int, seed: int) -> tuple:
    """Two pictures [1, 3, 40, 40] whose content moves from one to the next."""
    scene = make_picture(64, 64, seed)[None]
    y, x = 12 - down, 12 - right
    return scene[..., 12:52, 12:52], scene[..., y : y + 40, x : x + 40]


@pytest.mark.parametrize("motion", [(3, 0), (0, 3), (4, 2), (2, 5), (4, -1), (-1, 4)])
def test_motion_up_and_to_the_left_goes_against_the_canonical_direction(motion):
    for seed in range(4):
        pair = shifted(*motion, seed)
        back = shifted(*(-m for m in motion), seed)
        assert moves_against(pair).tolist() == [False]
        assert moves_against(pair[::-1]).tolist() == [True]
        assert moves_against(back).tolist() == [True]


def test_each_sample_of_a_batch_has_a_direction_of_its_own():
    pairs = [shifted(3, 1, 0), shifted(-3, -1, 1), shifted(0, 4, 2)]
    batch = tuple(torch.cat(frames) for frames in zip(*pairs, strict=True))
    assert moves_against(batch).tolist() == [False, True, False]


@pytest.mark.parametrize("loss", [pair_loss, best_order_loss])
def test_both_frames_get_a_gradient(pairs, loss):
    (a, b), sharp = pairs
    a.requires_grad_(), b.requires_grad_()
    loss((a, b), sharp).mean().backward()
    for frame in (a, b):
        assert (frame.grad.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_where_the_frame_is_already_right(kind):
    frame = flat(0.5).clone().requires_grad_()
    pixel_loss(frame, flat(0.5), kind).sum().backward()
    assert frame.grad.abs().max() == 0
