"""What is said of a photo once it is restored: what is off, and nothing else."""

from importlib.resources import files

import pytest
import torch
from test_motion import blurred, of_disc, sharpened, texture
from test_pyramid import CPU, Fixed, one_tile
from torch import Tensor

import b2v
from b2v.inference.images import (
    DEFOCUS,
    SHARP,
    TOO_LONG,
    UNEXPLAINED,
    Restored,
    has_detail,
    is_still,
    is_too_long,
    is_unexplained,
    remarks,
    restore,
)
from b2v.media.images import read_photo
from b2v.metrics import reblur
from b2v.models.motion import HALF_LENGTHS, Motion, estimate

LINE = torch.tensor([4.0, 2.0])
"""To the end of the exposure: a line of nine pixels."""


def straight(length: float, explained: float = 1.0) -> Motion:
    """Make one motion to the right of ten by ten cells, over the whole exposure."""
    cells = torch.full((10, 10), length / 2)
    return Motion(torch.stack([cells, 0 * cells]), 0 * cells + explained, 0 * cells - 1, 0 * cells)


@pytest.fixture
def sharp() -> Tensor:
    return texture(160, 224)


# The truth in hand


def test_nothing_moved_in_a_sharp_photo(sharp: Tensor) -> None:
    assert is_still(estimate(sharp, sharp))
    assert not is_still(estimate(blurred(sharp, LINE), sharp))


@pytest.mark.parametrize("radius", [2.5, 4.0, 5.0, 6.0])
def test_disc_is_missed_focus(sharp: Tensor, radius: float) -> None:
    assert estimate(of_disc(sharp, radius), sharp).is_defocus()


@pytest.mark.parametrize("length", [3.0, 6.0, 10.0])
@pytest.mark.parametrize("angle", [0.0, 0.5, 1.3, 2.2])
def test_line_is_no_missed_focus(sharp: Tensor, length: float, angle: float) -> None:
    path = length * torch.tensor([angle, angle + torch.pi / 2]).sin().flip(0)
    assert not estimate(blurred(sharp, path, 61), sharp).is_defocus()


# What a network might make of it instead


def test_sharp_photo_that_is_sharpened_more_is_still(sharp: Tensor) -> None:
    assert is_still(estimate(sharp, sharpened(sharp)))


@pytest.mark.parametrize("radius", [4.0, 5.0, 6.0])
def test_disc_is_missed_focus_beside_a_picture_that_is_half_way_there(
    sharp: Tensor, radius: float
) -> None:
    half_way = of_disc(sharp, radius / 2)
    assert estimate(of_disc(sharp, radius), half_way).is_defocus()


def test_line_is_no_missed_focus_beside_a_picture_that_is_half_way_there(sharp: Tensor) -> None:
    for half_way in (blurred(sharp, LINE / 2), sharpened(blurred(sharp, LINE))):
        assert not estimate(blurred(sharp, LINE), half_way).is_defocus()


@pytest.mark.parametrize("radius", [3.0, 5.0])
def test_photo_out_of_focus_is_told_from_one_in_motion(radius: float) -> None:
    model = b2v.load_model(device="cpu", precision="fp32")
    photo = read_photo(files("b2v") / "assets" / "scenes" / "china.jpg").pixels
    photo = photo[:, 72:264, 224:416]
    assert model.restore(of_disc(photo, radius)).out_of_focus
    assert not model.restore(blurred(photo, LINE)).out_of_focus


# What is done about it, and said


def told(photo: Tensor, answer: Tensor) -> list[str]:
    restored = restore(one_tile(Fixed(answer)), photo, CPU)
    return remarks(restored, reblur(restored.frames), photo)


def test_each_photo_is_told_what_is_off_with_it(sharp: Tensor) -> None:
    assert told(sharp, sharp) == [SHARP]
    assert told(of_disc(sharp, 5.0), sharp) == [DEFOCUS]
    assert told(blurred(sharp, LINE), sharp) == []


def test_photo_that_was_sharpened_is_not_called_sharp(sharp: Tensor) -> None:
    photo = blurred(sharp, LINE)
    for answer, said in ((photo, [SHARP]), (sharp, [])):
        restored = Restored(answer.expand(7, -1, -1, -1), straight(0.0))
        assert [one for one in remarks(restored, photo, photo) if one == SHARP] == said


def test_frames_of_a_photo_out_of_focus_are_the_photo(sharp: Tensor) -> None:
    photo = of_disc(sharp, 5.0)
    restored = restore(one_tile(Fixed(sharp)), photo, CPU, frames=9)
    assert restored.out_of_focus
    assert torch.equal(restored.frames, photo.expand(9, -1, -1, -1))
    assert torch.equal(restore(one_tile(Fixed(sharp)), photo, CPU).frames[0], photo)


def test_given_middle_frame_is_kept_though_the_photo_is_out_of_focus(sharp: Tensor) -> None:
    photo = of_disc(sharp, 5.0)
    restored = restore(one_tile(Fixed()), photo, CPU, middle=sharp)
    assert not restored.out_of_focus
    assert (restored.frames[3] - sharp).abs().max() < 1e-5


def test_photo_without_detail_is_not_called_sharp(sharp: Tensor) -> None:
    flat = torch.full_like(sharp, 0.5) + 0.002 * torch.randn_like(sharp)
    assert has_detail(sharp)
    assert not has_detail(flat)
    assert remarks(Restored(flat[None], straight(0.0)), flat, flat) == []


# The other two


@pytest.mark.parametrize("level", [0, 2])
def test_motion_is_too_long_where_it_is_as_long_as_is_known(level: int) -> None:
    last, before = (2 * half * 2**level for half in HALF_LENGTHS[:-3:-1])
    assert is_too_long(straight(last), level)
    assert not is_too_long(straight(before), level)
    assert not is_too_long(straight(last, explained=0.1), level)


def test_motion_of_a_hundred_pixels_is_too_long() -> None:
    wide = texture(128, 320)
    photo = blurred(wide, torch.tensor([50.0, 0.0]), instants=101)
    assert is_too_long(estimate(photo, wide), 0)
    assert not is_too_long(estimate(blurred(wide, torch.tensor([20.0, 0.0]), 61), wide), 0)


def test_parts_are_unexplained_from_a_tenth_of_the_photo(sharp: Tensor) -> None:
    again = sharp.clone()
    assert not is_unexplained(again, sharp)
    again[:, :32, :96] += 0.1  # 3 of 35 parts
    assert not is_unexplained(again, sharp)
    again[:, :32, 96:128] += 0.1
    assert is_unexplained(again, sharp)
    frames = Restored(sharp[None], straight(9.0))
    assert remarks(frames, again, sharp) == [UNEXPLAINED]
    frames = Restored(sharp[None], straight(62.0))
    assert remarks(frames, again, sharp) == [TOO_LONG, UNEXPLAINED]
