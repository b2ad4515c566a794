"""A prior run in tiles and at several scales, and what comes of a photo by it."""

import pytest
import torch
from test_motion import blurred, sharpened, texture
from torch import Tensor, nn

from b2v.errors import WeightsError
from b2v.frames import Tiling
from b2v.inference.images import restore
from b2v.inference.pyramid import first_level, moved, sharpen, shrunk, take_light_back
from b2v.inference.runtime import Runtime, run_tiles
from b2v.metrics import psnr
from b2v.models import Prior
from b2v.models.motion import Motion

CPU = Runtime(torch.device("cpu"), "fp32")


class Fixed(nn.Module):
    """A network that knows the answer at full size, and notes what it was given."""

    multiple = 8

    def __init__(self, answer: Tensor | None = None) -> None:
        super().__init__()
        self.answer, self.seen = answer, []

    def forward(self, picture: Tensor) -> Tensor:
        self.seen.append(tuple(picture.shape[2:]))
        if self.answer is None or picture.shape[2:] != self.answer.shape[1:]:
            return picture
        return self.answer[None]


class Spoilt(nn.Module):
    multiple = 8

    def forward(self, picture: Tensor) -> Tensor:
        return picture * float("nan")


def one_tile(net: nn.Module) -> Prior:
    return Prior(net, Tiling(1024, 64))


@pytest.mark.parametrize(("height", "width"), [(100, 100), (101, 230), (64, 999), (300, 65)])
def test_tiles_cover_every_pixel_and_never_leave_the_picture(height: int, width: int) -> None:
    tiling, total = Tiling(96, 32), torch.zeros(height, width)
    for tile in tiling.tiles(height, width):
        assert tile.of(total).shape == (tile.height, tile.width)
        tile.of(total).add_(tiling.weights(tile, height, width))
    assert total.min() > 0


def test_tiles_blend_into_what_each_pixel_would_be_alone() -> None:
    class Brighter(nn.Module):
        multiple = 8

        def forward(self, picture: Tensor) -> Tensor:
            return picture + 0.1

    picture = texture(150, 210)
    change, share = run_tiles(Prior(Brighter(), Tiling(96, 32)), picture, CPU)
    assert (change - 0.1).abs().max() < 1e-6
    assert share.min() > 0


def test_tiles_that_are_not_wanted_change_nothing() -> None:
    net = Fixed()
    change, share = run_tiles(one_tile(net), texture(), CPU, wanted=lambda _: False)
    assert net.seen == []
    assert change.abs().max() == share.max() == 0


def test_values_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(WeightsError, match="not finite"):
        run_tiles(one_tile(Spoilt()), texture(), CPU)


@pytest.mark.parametrize(
    ("height", "width", "level"),
    [(360, 640, 1), (640, 960, 1), (3000, 4000, 3), (16, 16, 0), (64, 4000, 0), (8000, 12000, 3)],
)
def test_photos_start_at_a_level_of_about_500_pixels(height: int, width: int, level: int) -> None:
    assert first_level(height, width) == level


@pytest.mark.parametrize(("halvings", "sizes"), [(0, [(80, 112), (160, 224)]), (1, [(80, 112)])])
def test_network_sees_no_photo_larger_than_it_is_for(halvings: int, sizes: list) -> None:
    photo, net = texture(160, 224), Fixed()
    prior = Prior(net, Tiling(1024, 64), halvings=halvings)
    restored = restore(prior, photo, CPU)
    assert restored.frames.shape == (7, 3, 160, 224)
    assert net.seen == sizes


def test_what_a_network_changes_at_half_the_size_reaches_the_photo() -> None:
    truth = texture(160, 224)
    photo = blurred(truth, torch.tensor([8.0, 4.0]))
    prior = Prior(Fixed(shrunk(truth, 1)), Tiling(1024, 64), knows_sharp=True, halvings=1)
    sharp, _ = sharpen(prior, photo, CPU)
    assert psnr(sharp, truth) > psnr(photo, truth) + 3


def test_sharp_photo_comes_back_and_nothing_moves() -> None:
    photo = texture(160, 224)
    frames = restore(one_tile(Fixed()), photo, CPU).frames
    assert psnr(frames, photo.expand_as(frames)).min() > 60


def test_sharp_photo_comes_back_that_the_network_makes_crisper() -> None:
    photo = texture(160, 224)
    crisper = sharpened(photo)
    assert psnr(crisper, photo) < 42
    frames = restore(one_tile(Fixed(crisper)), photo, CPU).frames
    assert psnr(frames, photo.expand_as(frames)).min() > 60


def test_network_that_knows_what_is_sharp_is_believed_where_nothing_moves() -> None:
    photo = texture(160, 224)
    crisper = sharpened(photo)
    prior = one_tile(Fixed(crisper))
    prior.knows_sharp = True
    sharp, motion = sharpen(prior, photo, CPU)
    assert psnr(sharp, crisper) > 42
    assert motion.lengths.quantile(0.9) < 2


def test_still_ground_beside_a_moving_object_comes_back() -> None:
    sharp, path = texture(160, 320), torch.tensor([6.0, 2.0])
    photo = torch.where(torch.arange(320) < 160, blurred(sharp, path), sharp)
    crisper = sharpened(sharp)
    frames = restore(one_tile(Fixed(crisper)), photo, CPU).frames
    ground = (..., slice(256, 320))
    assert psnr(crisper[ground], photo[ground]) < 42
    assert psnr(frames[ground], photo[ground].expand_as(frames[ground])).min() > 42


def test_all_frames_of_a_moving_camera_are_sharp() -> None:
    sharp, path = texture(160, 224), torch.tensor([6.0, 2.0])
    photo = blurred(sharp, path)
    frames = restore(one_tile(Fixed(sharp)), photo, CPU).frames
    ends = torch.stack([k * path / 3 for k in (-3, 0, 3)])
    inside = (..., slice(16, -16), slice(16, -16))
    for order in (frames, frames.flip(0)):
        gains = [
            psnr(order[k][inside], shifted(sharp, end)[inside])
            - psnr(photo[inside], shifted(sharp, end)[inside])
            for k, end in zip((0, 3, 6), ends, strict=True)
        ]
        if min(gains) > 6:
            return
    raise AssertionError(gains)


def shifted(picture: Tensor, by: Tensor) -> Tensor:
    from b2v.motion import move_along

    shift = by.view(1, 1, 2, 1, 1).expand(1, 1, 2, *picture.shape[1:])
    return move_along(picture[None], shift)[0, 0]


def test_light_is_taken_back_along_the_motion() -> None:
    sharp = texture(160, 224)
    photo = blurred(sharp, torch.tensor([5.0, 0.0]))
    half_way = blurred(sharp, torch.tensor([2.0, 0.0]))
    restored, motion = take_light_back(photo, half_way)
    inside = (..., slice(16, -16), slice(16, -16))
    assert psnr(restored[inside], sharp[inside]) > psnr(half_way[inside], sharp[inside]) + 0.3
    assert motion.lengths.median() == pytest.approx(10, abs=2)


def test_finer_level_is_not_run_where_motion_is_long() -> None:
    net = Fixed()
    photo = blurred(texture(256, 1024), torch.tensor([26.0, 0.0]), instants=61)
    half = shrunk(photo, 1)

    class Sharp(Fixed):
        def forward(self, picture: Tensor) -> Tensor:
            self.seen.append(tuple(picture.shape[2:]))
            return shrunk(texture(256, 1024), 1)[None] if picture.shape[3] == 512 else picture

    net = Sharp()
    sharpen(one_tile(net), photo, CPU)
    assert half.shape[1:] == (128, 512)
    assert net.seen == [(128, 512)]


def test_frames_in_bands_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    sharp, cells = texture(160, 224), torch.ones(20, 28)
    motion = Motion(torch.stack([3 * cells, 9 * cells]), cells, cells, cells)
    whole = moved(sharp, motion, torch.empty(7, *sharp.shape))
    monkeypatch.setattr("b2v.inference.pyramid.BAND", 32)
    banded = moved(sharp, motion, torch.empty(7, *sharp.shape))
    assert (whole - banded).abs().max() < 1e-5


def test_frames_are_the_middles_of_sevenths_of_the_exposure() -> None:
    sharp, cells = texture(160, 224), torch.ones(20, 28)
    motion = Motion(
        torch.stack([7 * cells, 0 * cells]), 2 * cells, cells, cells
    )  # 14 pixels in all
    seven = moved(sharp, motion, torch.empty(7, *sharp.shape))
    for k, frame in enumerate(seven):
        shifted = sharp.roll(2 * (k - 3), 2)
        assert (frame - shifted)[..., 8:-8].abs().max() < 1e-4


def test_where_motion_is_in_doubt_the_ends_keep_some_of_the_photo() -> None:
    sharp, cells = texture(160, 224), torch.ones(20, 28)
    photo = blurred(sharp, torch.tensor([5.0, 0.0]))
    motion = Motion(torch.zeros(2, 20, 28), 0 * cells, cells, cells)
    frames = moved(sharp, motion, torch.empty(7, *sharp.shape), photo)
    shares = [float((f - sharp).norm() / (photo - sharp).norm()) for f in frames]
    assert shares[3] < 1e-3
    assert 0 < shares[2] < shares[1] < shares[0] < 0.6
    assert shares[4:] == pytest.approx(shares[2::-1])


def test_more_than_seven_frames_lie_beyond_the_exposure() -> None:
    sharp, cells = texture(160, 224), torch.ones(20, 28)
    motion = Motion(torch.stack([3 * cells, 0 * cells]), cells, cells, cells)
    nine = moved(sharp, motion, torch.empty(9, *sharp.shape))
    seven = moved(sharp, motion, torch.empty(7, *sharp.shape))
    assert torch.equal(nine[1:-1], seven)


def test_given_middle_frame_is_used_as_it_is() -> None:
    sharp = texture(160, 224)
    photo = blurred(sharp, torch.tensor([5.0, 0.0]))
    net = Fixed()
    frames = restore(one_tile(net), photo, CPU, middle=sharp).frames
    assert net.seen == []
    assert (frames[3] - sharp).abs().max() < 1e-5
