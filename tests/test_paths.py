"""Paths read off the blur: what autocorrelations show, signs, the frames along them."""

import pytest
import torch
from conftest import make_picture
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.models.camera import camera_motion, motion_at
from b2v.models.moving import move_along
from b2v.models.paths import Paths, PathsConfig, autocorrelations, double, halve, spread
from b2v.models.unfold import Motion, Unfold, unfold

SMALL = PathsConfig(directions=4, lengths=(2, 9), colours=4, widths=(6, 8), blocks=(1, 1))
INNER = (..., slice(8, -8), slice(8, -8))


def smeared(length: int, *, down: bool = False) -> Tensor:
    """White noise that moved `length` pixels to the right, or down, while the shutter was open."""
    noise = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    kernel = torch.full((3, 1, 1, length), 1 / length)
    padding = (length // 2, length // 2, 0, 0)
    if down:
        kernel, padding = kernel.mT, (0, 0, length // 2, length // 2)
    return F.conv2d(F.pad(noise, padding, "reflect"), kernel, groups=3)


def shift_of(way: tuple[float, float], size: int = 48) -> Tensor:
    return torch.tensor(way).view(1, 2, 1, 1).expand(1, 2, size, size)


def test_opposite_ways_are_one_when_doubled_and_come_back_as_one_of_both():
    ways = torch.randn(2, 2, 5, 6, generator=torch.Generator().manual_seed(0)) * 9
    assert torch.allclose(double(ways), double(-ways))
    back = halve(double(ways))
    off = torch.minimum((back - ways).norm(dim=1), (back + ways).norm(dim=1))
    assert off.max() < 1e-4
    assert torch.allclose(double(ways)[:, 0], ways.norm(dim=1), atol=1e-5)


@pytest.mark.parametrize("down", [False, True])
def test_a_smear_answers_itself_with_the_opposite_sign_a_smear_away(down):
    config = PathsConfig(directions=2, lengths=(3, 9, 15))
    alike = autocorrelations(smeared(9, down=down), config)[0, :6].view(2, 3, 12, 12)
    along, across = alike.mean((2, 3)).flip(0) if down else alike.mean((2, 3))
    assert along[1] < -0.4  # the edges of a box have opposite signs
    assert along[[0, 2]].abs().max() < 0.15
    assert across.abs().max() < 0.15


def test_autocorrelations_do_not_depend_on_contrast_or_brightness():
    picture = smeared(5)
    usual = autocorrelations(picture, SMALL)
    dim = autocorrelations(0.8 * picture + 0.1, SMALL)
    energies = [16 + 4, 16 + 4 + 5]  # of the cell and of its surroundings: they do, and may
    compared = [c for c in range(usual.shape[1]) if c not in energies]
    assert torch.allclose(usual[:, compared], dim[:, compared], atol=0.03)


def test_a_new_network_sees_no_motion_at_any_size_of_its_multiple():
    net = Paths(SMALL)
    assert net(torch.rand(2, 3, 32, 48)).shape == (2, 3, 4, 6)
    assert net(torch.rand(1, 3, 16, 16)).abs().max() == 0


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


def test_no_path_is_longer_than_the_reach_be_it_across_that_of_the_camera():
    ways = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).repeat(1, 1, 12, 12)
    ways[:, :, 5:7, 5:7] = torch.tensor([0.0, 24.0]).view(1, 2, 1, 1)  # an object, falling
    motion = Motion.of(double(ways))
    assert 17 < motion.paths().norm(dim=1).max() <= motion.reach


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


def test_all_paths_take_the_sign_of_the_camera_and_those_of_objects_keep_more_of_their_own():
    ways = torch.tensor([4.0, -3.0]).view(1, 2, 1, 1).repeat(1, 1, 12, 10)
    ways[:, :, 4:6, 4:7] = torch.tensor([5.0, 1.0]).view(1, 2, 1, 1)  # an object
    motion = Motion.of(double(ways))
    paths = motion.paths()
    assert paths.shape == (1, 2, 96, 80)
    assert torch.equal(motion.paths(16, 60), paths[:, :, 16:60])
    assert paths.norm(dim=1).max() <= motion.reach
    sign = paths[0, 0, 0, 0].sign()
    background, object_ = (sign * paths[0, :, y, x] for y, x in ((90, 5), (40, 44)))
    assert torch.allclose(background, torch.tensor([4.0, -3.0]), atol=0.1)
    own, camera = torch.tensor([5.0, 1.0]), torch.tensor([4.0, -3.0])
    share = 0.5 / (1 + ((own - camera).norm() / (1 + own.norm())) ** 2)
    assert 0.3 < share < 0.4
    assert torch.allclose(object_, own + share * (camera - own), atol=0.1)


def test_paths_are_read_in_full_precision_whatever_the_others_run_in():
    net, blurry = Paths(SMALL), make_picture(48, 48)[None]
    nn.init.normal_(net.head.weight)
    full = Motion.read(net, blurry)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Motion.read(net, blurry).cells, full.cells)
        assert not torch.equal(net(blurry), full.cells)


def test_a_tall_picture_is_looked_at_in_bands_and_seen_as_a_whole(monkeypatch):
    net = Paths(SMALL)
    nn.init.normal_(net.head.weight)
    tall = make_picture(320, 48)[None]
    whole = net(tall)
    monkeypatch.setattr("b2v.models.paths.BAND", 64)
    assert whole.std() > 0.1
    assert torch.allclose(net(tall), whole, atol=1e-3)


def test_cells_are_spread_over_rows_as_over_all_of_a_picture():
    cells = torch.rand(2, 3, 6, 5)
    whole = spread(cells)
    assert whole.shape == (2, 3, 48, 40)
    for top, bottom in ((0, 7), (8, 40), (13, 30), (41, 48)):
        assert torch.allclose(spread(cells, top, bottom), whole[:, :, top:bottom], atol=1e-6)


def test_frames_stand_in_order_along_the_paths_with_the_middle_one_untouched():
    middle = make_picture(48, 48)[None]
    frames = unfold(middle, shift_of((6.0, -3.0)))[0]
    assert torch.allclose(frames[3], middle[0], atol=1e-6)
    for k, frame in enumerate(frames):
        moved = torch.roll(middle[0], (-(k - 3), 2 * (k - 3)), (-2, -1))
        assert torch.allclose(frame[INNER], moved[INNER], atol=1e-5)


class Fixed(nn.Module):
    """Says the same of every picture."""

    multiple = 8

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *_: Tensor) -> Tensor:
        return self.answer


class Last(nn.Module):
    """Gives back its last picture, a little brighter."""

    def forward(self, *pictures: Tensor) -> Tensor:
        return pictures[-1] + 0.1


def test_a_still_picture_gives_its_sharp_frame_seven_times():
    blurry, sharp = make_picture(48, 48)[None], make_picture(48, 48, seed=1)[None]
    net = Unfold(middle=Fixed(sharp), paths=Fixed(torch.zeros(1, 3, 6, 6)), sides=None)
    assert torch.allclose(net(blurry), sharp[:, None].expand(1, 7, -1, -1, -1), atol=1e-6)


def test_a_given_middle_frame_is_moved_instead_and_stays_as_it_is():
    blurry, given = make_picture(48, 48)[None], make_picture(48, 48, seed=1)[None]
    paths = Fixed(double(shift_of((3.0, 0.0), 6)))
    net = Unfold(middle=Fixed(blurry), paths=paths, sides=Last())
    frames = net(blurry, given)[0]
    assert torch.equal(frames[3], given[0])
    ways = Motion.of(paths(blurry)).tested(blurry, given).paths()
    expected = unfold(given, ways)[0] + 0.1
    for k in (0, 1, 2, 4, 5, 6):
        assert torch.allclose(frames[k], expected[k])


def test_the_nets_own_middle_frame_is_deconvolved_and_every_frame_mended():
    blurry, x4 = make_picture(48, 48)[None], make_picture(48, 48, seed=1)[None]
    paths = Fixed(double(shift_of((3.0, 0.0), 6)))
    frames = Unfold(middle=Fixed(x4), paths=paths, sides=Last())(blurry)
    motion = Motion.of(paths(blurry)).tested(blurry, x4)
    sharper = motion.sharpened(blurry, x4)
    assert (sharper - x4).abs().max() > 0.05
    assert torch.allclose(frames, unfold(sharper, motion.paths()) + 0.1)
    unmended = Unfold(middle=Fixed(x4), paths=paths, sides=None)(blurry)
    assert torch.allclose(unmended + 0.1, frames)


def test_moving_leaves_nothing_behind_at_the_border():
    picture = torch.arange(4.0).expand(1, 1, 2, 4)
    shift = torch.tensor([2.0, 0.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 2, 4)
    assert move_along(picture, shift)[0, 0, 0, 0].tolist() == pytest.approx([0, 0, 0, 1])
