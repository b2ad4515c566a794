"""The network of seven frames: what paths do, order of time, a given middle frame."""

import pytest
import torch
from conftest import make_picture
from torch import Tensor, nn

from b2v.models import MODELS, SEVEN, Blueprint, assemble
from b2v.models.unet import UNet, UNetConfig
from b2v.models.unroll import Unroll, UnrollConfig, move_along

SMALL = {"widths": (6, 8), "blocks": (1, 1)}
SHARPENING, REST, PATH, BEND = range(3), range(3, 21), (21, 22), (23, 24)


def net_that_says(*, path: tuple[float, float] = (0, 0), bend: tuple[float, float] = (0, 0)):
    """Have a net whose maps are the same everywhere: only the biases of its head speak."""
    net = Unroll(UnrollConfig(**SMALL, reach=4.0))
    cells = net.head.bias.data.view(-1, net.shuffle**2)
    for channel, value in zip((*PATH, *BEND), (*path, *bend), strict=True):
        cells[channel] = value / 4.0
    return net


def shifted(picture: Tensor, right: int, down: int) -> Tensor:
    return torch.roll(picture, (down, right), (-2, -1))


@pytest.fixture
def blurry() -> Tensor:
    return make_picture(32, 40)[None]


INNER = (..., slice(8, -8), slice(8, -8))
"""Far enough from the border to be reached by no shift of these tests."""


def test_a_new_network_gives_the_blurry_picture_seven_times(blurry):
    frames, path = Unroll(UnrollConfig(**SMALL)).unroll(blurry)
    assert torch.allclose(frames, blurry[:, None].expand(-1, 7, -1, -1, -1), atol=1e-5)
    assert path.shape == (1, 2, 32, 40)
    assert path.abs().max() == 0


def test_a_path_moves_the_content_evenly_from_frame_to_frame(blurry):
    frames, path = net_that_says(path=(6.0, -3.0)).unroll(blurry)
    assert path[0, :, 5, 5].tolist() == pytest.approx([6.0, -3.0])
    for k in range(7):
        expected = shifted(blurry, 2 * (k - 3), -(k - 3))
        assert torch.allclose(frames[:, k][INNER], expected[INNER], atol=1e-4)


def test_a_bend_moves_both_ends_alike(blurry):
    frames = net_that_says(bend=(0.0, 4.5))(blurry)
    assert torch.equal(frames[:, 0], frames[:, 6])
    # Half a pixel after one interval, two pixels after two, four and a half after three.
    assert torch.allclose(frames[:, 5][INNER], shifted(blurry, 0, 2)[INNER], atol=1e-4)


def test_the_opposite_path_plays_time_backwards(blurry):
    there, back = (net_that_says(path=(s * 3.3, s * 1.7))(blurry) for s in (1, -1))
    assert torch.allclose(there, back.flip(1), atol=1e-5)
    assert (there[:, 0] - back[:, 0]).abs().mean() > 0.01


def test_what_the_path_does_not_explain_is_added_to_its_frame(blurry):
    net = Unroll(UnrollConfig(**SMALL))
    cells = net.head.bias.data.view(-1, net.shuffle**2)
    cells[REST[0] : REST[-1] + 1] = torch.arange(18.0)[:, None] / 100
    cells[0] = 0.5  # red of the middle frame, and so of all that come from it
    frames = net(blurry) - blurry[:, None]
    means = frames.mean((0, 3, 4))
    assert means[3].tolist() == pytest.approx([0.5, 0, 0], abs=1e-5)
    sides = torch.cat([means[:3], means[4:]]).flatten() - torch.tensor([0.5, 0, 0]).repeat(6)
    assert sides.tolist() == pytest.approx([c / 100 for c in range(18)], abs=1e-5)


def test_a_given_middle_frame_is_kept_and_moved(blurry):
    net, given = net_that_says(path=(3.0, 0.0)), make_picture(32, 40, seed=1)[None]
    frames = net(blurry, given)
    assert torch.equal(frames[:, 3], given)
    assert torch.allclose(frames[:, 6][INNER], shifted(given, 3, 0)[INNER], atol=1e-4)


def test_a_border_that_moves_in_is_repeated():
    picture = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    shift = torch.zeros(1, 1, 2, 4, 4)
    shift[:, :, 0] = 2
    assert move_along(picture, shift)[0, 0, 0, 0].tolist() == pytest.approx([0, 0, 0, 1])


def test_each_picture_of_a_batch_moves_along_its_own_paths():
    pictures = torch.stack([make_picture(12, 16, seed) for seed in range(3)])
    shift = torch.randn(3, 4, 2, 12, 16)
    together = move_along(pictures, shift)
    assert together.shape == (3, 4, 3, 12, 16)
    for one, s, whole in zip(pictures, shift, together, strict=True):
        for moment, expected in zip(s, whole, strict=True):
            assert torch.allclose(move_along(one[None], moment[None, None])[0, 0], expected)


def test_it_starts_at_a_middle_net_that_sharpens():
    middle = UNet(UNetConfig(inputs=1, **SMALL))
    for weight in middle.parameters():
        nn.init.normal_(weight, std=0.1)
    net, blurry = Unroll(UnrollConfig(**SMALL)), torch.rand(2, 3, 16, 24)
    net.adopt(middle)
    assert torch.allclose(net(blurry), middle(blurry)[:, None].expand(-1, 7, -1, -1, -1), atol=1e-5)
    assert (middle(blurry) - blurry).abs().mean() > 1e-3


def test_paths_learn_from_frames_and_from_known_ways(blurry):
    net = net_that_says(path=(0.5, 0.0))
    frames, path = net.unroll(blurry)
    (frames[:, 6].square().mean() + path.mean()).backward()
    assert net.head.bias.grad.view(-1, 4)[21].abs().min() > 1e-4


def test_half_precision_does_not_move_pictures_to_the_wrong_place(blurry):
    net = net_that_says(path=(6.0, 3.0))
    with torch.autocast("cpu", torch.bfloat16):
        half = net(blurry)
    assert (half - net(blurry)).abs().max() < 0.05


def test_the_model_is_this_network_alone():
    net = MODELS["unroll"][SEVEN].build()
    assert isinstance(net, Unroll)
    assert net.multiple == 8
    assert assemble({SEVEN: net}) is net
    assert Blueprint.parse(*MODELS["unroll"][SEVEN].describe()) == MODELS["unroll"][SEVEN]
