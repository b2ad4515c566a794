"""Ways of real windows: flow that is right where it is given at all."""

import torch
from conftest import make_picture

from b2v.synth.flow import window_way


def moving(dx: int, dy: int, size: int = 64) -> torch.Tensor:
    """Seven frames of a scene that moves by whole pixels a frame, blurred to be no grain alone."""
    scene = torch.nn.functional.avg_pool2d(make_picture(140, 140)[None], 5, 1, 2)[0]
    corners = [(38 - k * dy, 38 - k * dx) for k in range(-3, 4)]
    return torch.stack([scene[:, y : y + size, x : x + size] for y, x in corners])


def test_a_pan_goes_three_frame_intervals_from_the_middle_frame_to_the_last():
    way = window_way(moving(2, -1))[:, 16:-16, 16:-16]
    assert way.isfinite().float().mean() > 0.9
    off = way - torch.tensor([6.0, -3.0]).view(2, 1, 1)
    assert off.nan_to_num().norm(dim=0).median() < 0.3


def test_what_stands_still_has_a_way_of_zero():
    way = window_way(moving(0, 0))
    assert way.abs().max() < 1e-3


def test_no_way_is_given_where_the_frames_have_nothing_in_common():
    frames = torch.rand(7, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert window_way(frames).isfinite().float().mean() < 0.2


def test_no_way_is_given_where_there_is_nothing_to_see_or_it_turns_round():
    flat = torch.full((7, 3, 64, 64), 0.5)
    assert not window_way(flat).isfinite().any()
    there = moving(2, 0)
    back = torch.cat([there[3:].flip(0), there[4:]])  # it comes back the way that it went
    assert window_way(back).isfinite().float().mean() < 0.1
