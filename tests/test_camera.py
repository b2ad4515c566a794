"""Motions of the camera, and pictures moved along them."""

import pytest
import torch

from b2v.motion import camera_motion, motion_at, move_along


@pytest.mark.parametrize(
    "camera",
    [
        pytest.param([[3.0, -2.0], [0, 0], [0, 0]], id="pan"),
        pytest.param([[0, 0], [4.0, 0], [0, 4.0]], id="zoom"),
        pytest.param([[0.5, 0.2], [0, 3.0], [-3.0, 0]], id="roll"),
        pytest.param([[1.0, 2.0], [2.0, 1.0], [-1.0, 0.5]], id="affine"),
    ],
)
def test_signs_are_those_of_a_camera_though_an_object_moves_on_its_own(camera):
    axis = torch.linspace(-1, 1, 60)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    motion = torch.einsum("khw,kc->chw", torch.stack([x * 0 + 1, x, y]), torch.tensor(camera))
    way = motion.clone()
    way[:, 20:35, 30:50] = torch.tensor([-5.0, 6.0]).view(2, 1, 1)
    flips = torch.rand(60, 60, generator=torch.Generator().manual_seed(2)) < 0.5
    fitted = camera_motion(torch.where(flips, -way, way), torch.ones(60, 60))
    found = motion_at(fitted, 60, 60, 0, 60)
    turned = 1.0 if float((found * way).sum(0)[:20].mean()) > 0 else -1.0
    outside = torch.ones(60, 60, dtype=torch.bool)
    outside[20:35, 30:50] = False
    clear = outside & (motion.norm(dim=0) > 0.4)
    assert ((turned * found * motion).sum(0) > 0)[clear].all()
    assert (turned * found - motion).norm(dim=0)[clear].mean() < 0.15
    assert torch.equal(motion_at(fitted, 60, 60, 13, 31), found[:, 13:31])


def test_the_direction_of_the_camera_does_not_hang_on_rounding():
    noise = torch.Generator().manual_seed(0)
    for motion in ([3.0, -2.0], [-4.0, 1.0], [-0.5, 3.0]):
        way = torch.tensor(motion).view(2, 1, 1) + torch.randn(2, 20, 24, generator=noise)
        found = camera_motion(way, torch.ones(20, 24))
        for _ in range(6):
            flips = torch.rand(20, 24, generator=noise) < 0.5
            shaken = way + 1e-4 * torch.randn(2, 20, 24, generator=noise)
            again = camera_motion(torch.where(flips, -shaken, shaken), torch.ones(20, 24))
            assert torch.allclose(again, found, atol=0.05)


def test_moving_leaves_nothing_behind_at_the_border():
    picture = torch.arange(4.0).expand(1, 1, 2, 4)
    shift = torch.tensor([2.0, 0.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 2, 4)
    assert move_along(picture, shift)[0, 0, 0, 0].tolist() == pytest.approx([0, 0, 0, 1])
