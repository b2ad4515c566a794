"""The motion that explains a blur: smears, the cost volume, signs, discs."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.color import to_encoded, to_linear
from b2v.models.motion import CELL, Motion, estimate, expansion, signed, smears
from b2v.motion import move_along


def texture(height: int = 128, width: int = 160, seed: int = 0) -> Tensor:
    """Make a sharp picture with detail at several scales: [3, height, width]."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, height, width)
    for cell in (3, 7, 19):
        small = torch.rand(1, 3, height // cell + 2, width // cell + 2, generator=generator)
        total += F.interpolate(small, (height, width), mode="bicubic")
    return (total[0] / 3).clamp(0.02, 0.98)


def sharpened(picture: Tensor, amount: float = 0.5) -> Tensor:
    """Sharpen a picture as image editors do, by what is finer than two pixels or so."""
    soft = F.avg_pool2d(picture[None], 3, 1, 1, count_include_pad=False)[0]
    return (picture + amount * (picture - soft)).clamp(0, 1)


def blurred(sharp: Tensor, path: Tensor, instants: int = 31) -> Tensor:
    """Average a picture as light along one path, [2] in pixels to the end of the exposure."""
    times = torch.linspace(-1, 1, instants).view(1, -1, 1, 1, 1)
    shift = path.view(1, 1, 2, 1, 1).expand(1, 1, 2, *sharp.shape[1:]) * times
    return to_encoded(move_along(to_linear(sharp, "gamma2.2")[None], shift).mean(1)[0], "gamma2.2")


def of_disc(sharp: Tensor, radius: float) -> Tensor:
    reach = math.ceil(radius)
    at = torch.arange(-reach, reach + 1).float()
    disc = ((at[:, None].square() + at.square()).sqrt() <= radius).float()
    light = F.pad(to_linear(sharp, "gamma2.2")[:, None], (reach,) * 4, "replicate")
    return to_encoded(F.conv2d(light, (disc / disc.sum())[None, None])[:, 0], "gamma2.2")


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2, 2.0, 3.0])
def test_smear_is_the_mean_of_a_picture_moved_along_its_direction(angle: float) -> None:
    light = F.avg_pool2d(texture()[None, :1], 5, 1, 2)[0, 0]
    halves = (0.75, 2.0, 6.25)
    for half, smeared in zip(halves, smears(light, angle, halves), strict=True):
        times = torch.linspace(-half, half, 201)
        shift = torch.stack([times * math.cos(angle), times * math.sin(angle)], 1)
        shift = shift[None, :, :, None, None].expand(1, -1, 2, *light.shape)
        moved = move_along(light[None, None], shift).mean(1)[0, 0]
        assert (moved - smeared)[10:-10, 10:-10].abs().max() < 0.01


@pytest.mark.parametrize("path", [(3.0, 0.0), (0.0, -5.0), (4.0, 4.0), (-9.0, 5.0), (0.0, 15.0)])
def test_motion_of_a_camera_is_found_from_the_sharp_picture(path: tuple[float, float]) -> None:
    sharp, wanted = texture(), torch.tensor(path)
    motion = estimate(blurred(sharp, wanted), sharp)
    inside = motion.path[:, 2:-2, 2:-2].flatten(1)
    turned = inside * (inside.T @ wanted).sign()  # a blur does not tell its sign
    assert (turned.median(1).values - wanted).norm() < 0.12 * wanted.norm()
    assert motion.trust[2:-2, 2:-2].median() == 1


def test_motion_of_a_camera_has_one_sign() -> None:
    sharp = texture()
    motion = estimate(blurred(sharp, torch.tensor([5.0, 2.0])), sharp)
    along = motion.path[0] * 5 + motion.path[1] * 2
    assert (along > 0).all() or (along < 0).all()


def test_sharp_picture_has_not_moved() -> None:
    sharp = texture()
    motion = estimate(sharp, sharp)
    assert motion.lengths.max() == 0
    assert motion.trust.max() == 0


def test_object_keeps_a_motion_of_its_own() -> None:
    sharp = torch.cat([0.35 * texture(96, 128), 0.5 + 0.45 * texture(96, 128, seed=1)], 2)
    moving = blurred(sharp[:, :, :128], torch.tensor([0.0, 6.0]))
    photo = torch.cat([moving, sharp[:, :, 128:]], 2)
    lengths = estimate(photo, sharp).lengths
    assert lengths[2:-2, 2:13].median() == pytest.approx(12, abs=1.5)
    assert lengths[2:-2, 19:-2].max() < 1


def test_signs_of_a_zoom_point_away_from_its_middle() -> None:
    y, x = torch.meshgrid(torch.arange(20.0) - 9.5, torch.arange(24.0) - 11.5, indexing="ij")
    zoom = torch.stack([x, y]) / 2
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (20, 24), generator=generator) * 2 - 1
    found = signed(zoom * signs, torch.ones(20, 24), torch.full((3, 160, 192), 0.5))
    outwards = (found * zoom).sum(0)[zoom.norm(dim=0) > 1]
    assert (outwards > 0).all() or (outwards < 0).all()


def test_disc_explains_missed_focus_better_than_any_motion() -> None:
    sharp = texture()
    assert estimate(of_disc(sharp, 5.0), sharp).defocused[2:-2, 2:-2].median() > 0.5
    assert estimate(blurred(sharp, torch.tensor([5.0, 2.0])), sharp).defocused.median() < 0


def test_motion_of_a_smaller_picture_is_brought_to_the_pixels_of_a_larger_one() -> None:
    cells = torch.full((4, 6), 1.0)
    path, trust = (
        Motion(torch.stack([3 * cells, cells]), cells, cells, cells).scaled(2.0).at(65, 97)
    )
    assert path.shape == (2, 65, 97)  # a pixel more than the cells of the smaller one cover
    assert torch.equal(path[:, 30, 40], torch.tensor([6.0, 2.0]))
    assert torch.equal(path[:, 64, 96], torch.tensor([6.0, 2.0]))
    assert trust.min() == 1


def test_where_many_motions_explain_a_place_it_moves_with_the_camera() -> None:
    sharp = texture()
    sharp[:, 80:] = 0.5  # says nothing
    wanted = torch.tensor([6.0, 1.0])
    path = estimate(blurred(sharp, wanted), sharp).path
    turned = path * (path * wanted.view(2, 1, 1)).sum(0).sign()
    assert (turned[:, -6:-1] - wanted.view(2, 1, 1)).norm(dim=0).median() < 1.5


def test_last_cells_that_are_cut_off_have_a_motion_too() -> None:
    sharp = texture(93, 101)
    motion = estimate(blurred(sharp, torch.tensor([4.0, 0.0])), sharp)
    assert motion.explained.shape == (math.ceil(93 / CELL), math.ceil(101 / CELL))
    path, _ = motion.at(93, 101)
    assert path.shape == (2, 93, 101)


def test_a_camera_that_moves_ahead_gives_parts_that_do_not_touch_their_signs() -> None:
    height, width = 45, 80
    y, x = torch.meshgrid(torch.arange(45.0) - 22, torch.arange(80.0) - 40, indexing="ij")
    away = torch.stack([x, y]) / 10
    seen = ((x.abs() > 25) | (y > 15)).float()  # on both sides and at the bottom
    flips = torch.rand(height, width, generator=torch.Generator().manual_seed(0)) < 0.5
    signs = torch.where(flips, -1.0, 1.0)
    rays = expansion(away * signs, seen)
    assert rays is not None
    cosines = (rays * away).sum(0) / away.norm(dim=0).clamp(min=1e-6)
    assert cosines[seen > 0].abs().min() > 0.9
    assert cosines[seen > 0].sign().unique().numel() == 1


def test_a_shift_with_more_and_less_of_it_is_no_expansion() -> None:
    depth = torch.rand(45, 80, generator=torch.Generator().manual_seed(1)) * 5 + 1
    paths = torch.stack([depth, 0.3 * depth])
    assert expansion(paths, torch.ones(45, 80)) is None
