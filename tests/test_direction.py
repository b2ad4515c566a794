"""One direction of time: what runs against the camera is turned round, nothing else changes."""

import math

import pytest
import torch
from conftest import make_picture
from torch import Tensor
from torch.nn import functional as F

from b2v.motion import camera_from, in_one_direction, measure

HEIGHT, WIDTH = 96, 128


def scene(seed: int = 0) -> Tensor:
    """A picture with texture at all sizes, larger than a frame: [1, 3, 160, 192]."""
    fine = make_picture(160, 192, seed)[None]
    soft = F.interpolate(make_picture(40, 48, seed + 1)[None], (160, 192), mode="bicubic")
    return (0.3 * fine + 0.7 * soft).clamp(0, 1)


def filmed(
    right: float = 0.0,
    down: float = 0.0,
    roll: float = 0.0,
    zoom: float = 0.0,
    seed: int = 0,
    frames: int = 7,
) -> Tensor:
    """Frames [frames, 3, 96, 128] of a scene that moves by so much a frame interval."""
    y, x = torch.meshgrid(
        torch.arange(HEIGHT) - (HEIGHT - 1) / 2,
        torch.arange(WIDTH) - (WIDTH - 1) / 2,
        indexing="ij",
    )
    seen = []
    for t in range(-(frames // 2), frames // 2 + 1):
        scale, angle = math.exp(-zoom * t), -roll * t
        u = scale * (math.cos(angle) * x - math.sin(angle) * y) - right * t
        v = scale * (math.sin(angle) * x + math.cos(angle) * y) - down * t
        grid = torch.stack([u * 2 / 192, v * 2 / 160], -1)[None]
        seen.append(F.grid_sample(scene(seed), grid, align_corners=False)[0])
    return torch.stack(seen)


def torn(frames: Tensor, backwards: Tensor) -> Tensor:
    """Play the pixels for which [H, W] is true backwards."""
    return torch.where(backwards, frames.flip(0), frames)


LEFT = (torch.arange(WIDTH) < 50).expand(HEIGHT, -1)
CORNER = LEFT & (torch.arange(HEIGHT) < 40)[:, None]

shakes = pytest.mark.parametrize(
    "motion",
    [{"right": 1.5}, {"right": 0.6, "down": -1.2}, {"roll": 0.02}, {"zoom": 0.02, "down": 0.5}],
    ids=str,
)


def same_but_for_seams(frames: Tensor, truth: Tensor) -> Tensor:
    """Tell at which share of places frames are those of the truth, to rounding."""
    return ((frames - truth).abs().amax((0, 1)) < 1e-5).float().mean()


@shakes
@pytest.mark.parametrize("part", [LEFT, CORNER], ids=["left", "corner"])
def test_parts_that_run_backwards_are_turned_round(motion, part):
    if "zoom" in motion and part is LEFT:
        pytest.skip("a zoom whose left half runs backwards is a move to the side")
    truth = filmed(**motion)
    broken = torn(truth, part)
    mended = in_one_direction(broken)
    assert same_but_for_seams(broken, truth) < 0.9
    assert same_but_for_seams(mended, truth) > 0.8
    before, after = ((f - truth).square().mean() for f in (broken, mended))
    assert after < 0.25 * before


@shakes
def test_what_runs_in_one_direction_is_not_touched(motion):
    frames = filmed(**motion)
    assert in_one_direction(frames) is frames


def test_the_direction_of_most_of_the_picture_is_kept():
    truth = filmed(right=1.0, down=0.7)
    mended = in_one_direction(torn(truth, ~CORNER))  # now most runs backwards
    assert same_but_for_seams(mended, truth.flip(0)) > 0.8


def test_the_middle_frame_stays_bit_for_bit():
    broken = torn(filmed(right=1.5), LEFT)
    mended = in_one_direction(broken)
    assert torch.equal(mended[3], broken[3])
    assert not torch.equal(mended[0], broken[0])


def test_frames_stay_between_what_they_were():
    broken = torn(filmed(right=1.5), LEFT)
    mended = in_one_direction(broken)
    low, high = torch.minimum(broken, broken.flip(0)), torch.maximum(broken, broken.flip(0))
    assert ((mended >= low - 1e-6) & (mended <= high + 1e-6)).all()


def test_a_still_clip_and_a_tiny_one_are_left_alone():
    still = make_picture(64, 64).expand(7, -1, -1, -1)
    assert in_one_direction(still) is still
    tiny = torn(filmed(right=1.0), LEFT)[..., :31, :40]
    assert in_one_direction(tiny) is tiny
    black = torch.zeros(7, 3, 40, 40)
    assert in_one_direction(black) is black


def test_the_measured_motion_is_the_true_one():
    """A camera motion needs a torn picture to be sought; its sign is a matter of choice."""
    motion = camera_from(measure(torn(filmed(right=1.2, down=-0.8), LEFT)))
    inner = motion[:, 6:-6, 6:-6].mean((1, 2)) * 4  # from a quarter of the size
    inner = inner * inner[0].sign()
    assert inner.tolist() == pytest.approx([1.2, -0.8], abs=0.25)
