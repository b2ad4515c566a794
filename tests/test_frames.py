"""Shape and range of frames, padding and cropping."""

import numpy as np
import pytest
import torch
from conftest import make_picture

from b2v.errors import ShapeError
from b2v.frames import FRAMES, MIDDLE, MIN_SIDE, blend, check_frame, crop_back, pad_to_multiple


def test_the_middle_frame_has_as_many_frames_before_as_after():
    assert FRAMES == 7
    assert MIDDLE == FRAMES - 1 - MIDDLE


def test_a_blend_goes_from_the_photo_to_the_frames_exactly():
    frames, photo = (
        torch.stack([make_picture(16, 18, k) for k in range(7)]),
        make_picture(16, 18, 9),
    )
    assert torch.equal(blend(frames, photo, 0), photo.expand(7, -1, -1, -1))
    assert torch.equal(blend(frames, photo, 1), frames)
    assert torch.allclose(blend(frames, photo, 0.25), 0.25 * frames + 0.75 * photo, atol=1e-6)


@pytest.mark.parametrize("multiple", [4, 8, 20])
def test_any_size_is_padded_to_the_next_multiple_and_cropped_back(multiple):
    for side in range(16, 46):
        for height, width in [(side, 61 - side), (side, 2), (3, side)]:
            whole = make_picture(height, width, seed=side)
            padded = pad_to_multiple(whole, multiple)
            assert padded.shape[-2:] == (
                -(-height // multiple) * multiple,
                -(-width // multiple) * multiple,
            )
            assert torch.equal(crop_back(padded, height, width), whole)


@pytest.mark.parametrize(("height", "width"), [(16, 45), (19, 20), (21, 16), (5, 39), (2, 3)])
def test_padding_reflects_at_the_last_pixel_exactly(height, width):
    whole = make_picture(height, width)
    down, right = -height % 20, -width % 20
    expected = np.pad(whole.numpy(), ((0, 0), (0, down), (0, right)), mode="reflect")
    assert np.array_equal(pad_to_multiple(whole, 20).numpy(), expected)


def test_padding_takes_batches_and_batches_of_clips():
    clips = torch.rand(2, 7, 3, 18, 33)
    padded = pad_to_multiple(clips, 20)
    assert padded.shape == (2, 7, 3, 20, 40)
    assert torch.equal(padded[1, 4], pad_to_multiple(clips[1, 4], 20))
    assert torch.equal(crop_back(padded, 18, 33), clips)


def test_a_fitting_size_is_left_alone():
    whole = make_picture(40, 20)
    assert torch.equal(pad_to_multiple(whole, 20), whole)


@pytest.mark.parametrize("size", [(1, 30), (30, 1), (1, 1)])
def test_a_side_of_one_pixel_cannot_be_reflected(size):
    with pytest.raises(ShapeError, match=f"{size[1]}x{size[0]} pixels"):
        pad_to_multiple(torch.zeros(3, *size), 20)


def test_a_good_frame_passes_up_to_the_ends_of_the_range():
    frame = torch.zeros(3, MIN_SIDE, MIN_SIDE)
    frame[0] = 1
    check_frame(frame)


@pytest.mark.parametrize("shape", [(16, 16), (1, 16, 16), (4, 16, 16), (16, 16, 3), (1, 3, 16, 16)])
def test_what_is_not_one_rgb_picture_is_refused_with_its_shape(shape):
    with pytest.raises(ShapeError, match=r"photo has shape .*expected \[3, H, W\]") as caught:
        check_frame(torch.zeros(shape), "photo")
    assert str(list(shape)) in str(caught.value)


@pytest.mark.parametrize(("height", "width"), [(15, 16), (16, 15), (1, 1), (0, 20)])
def test_height_and_width_are_each_checked(height, width):
    with pytest.raises(ShapeError, match=f"{width}x{height} pixels; at least 16x16"):
        check_frame(torch.zeros(3, height, width))


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, float("nan"), float("inf")])
def test_one_value_outside_the_range_is_enough_to_refuse(value):
    frame = torch.full((3, 20, 20), 0.5)
    frame[2, 19, 0] = value
    with pytest.raises(ShapeError, match=r"outside \[0, 1\]"):
        check_frame(frame)
