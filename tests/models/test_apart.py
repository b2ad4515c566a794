"""Networks without a cascade: who sees what, and in which order pairs are laid."""

import pytest
import torch
from torch import Tensor, nn

from b2v.errors import UsageError
from b2v.models import MODELS, ROLES, SEVEN, Cascade, assemble, gives_pair
from b2v.models.cascade import Alone, Apart, Pairs
from b2v.models.unet import UNet, UNetConfig

SMALL = {"widths": (6, 8), "blocks": (1, 1)}


def awake(net: nn.Module) -> nn.Module:
    """Give a net weights that make something of its pictures."""
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.2)
    return net


def small_pairs() -> dict[str, nn.Module]:
    nets = {role: UNet(UNetConfig(inputs=2, outputs=2, **SMALL)) for role in ROLES[1:]}
    return {"middle": UNet(UNetConfig(inputs=1, **SMALL)), **nets}


def test_a_net_alone_does_not_see_the_middle_frame():
    net = awake(Alone(UNetConfig(inputs=1, outputs=2, **SMALL)))
    blurry, x4, other = torch.rand(3, 1, 3, 8, 8)
    one, two = net(blurry, x4), net(blurry, other)
    assert all(map(torch.equal, one, two))
    assert (one[0] - one[1]).abs().mean() > 0.01
    assert not torch.equal(net(x4, blurry)[0], one[0])


def test_each_of_seven_frames_has_a_net_of_its_own():
    net = awake(Apart(UNetConfig(inputs=1, **SMALL)))
    blurry = torch.rand(2, 3, 8, 8)
    frames = net(blurry)
    assert frames.shape == (2, 7, 3, 8, 8)
    for index, one in enumerate(net.nets):
        assert torch.equal(frames[:, index], one(blurry))
    frames[:, 5].sum().backward()
    slopes = [sum(w.grad.abs().sum() for w in one.parameters()) for one in net.nets]
    assert [slope > 0 for slope in slopes] == [index == 5 for index in range(7)]
    given = net(blurry, torch.zeros_like(blurry))
    assert given[:, 3].abs().max() == 0
    assert torch.equal(given[:, 4], frames[:, 4])


def test_all_seven_nets_can_start_at_one():
    middle, net = awake(UNet(UNetConfig(inputs=1, **SMALL))), Apart(UNetConfig(inputs=1, **SMALL))
    net.adopt(middle)
    blurry = torch.rand(1, 3, 8, 8)
    for frame in net(blurry).unbind(1):
        assert torch.equal(frame, middle(blurry))


class Known(nn.Module):
    """A pair that is known beforehand."""

    multiple = 2

    def __init__(self, *frames: Tensor) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, *_: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.frames if len(self.frames) > 1 else self.frames[0]


def test_pairs_that_chose_other_directions_are_laid_in_one_line():
    levels = torch.arange(7.0).view(7, 1, 1, 1, 1).expand(7, 2, 3, 4, 4) / 10
    x1, x2, x3, x4, x5, x6, x7 = levels
    turn = torch.tensor([True, False]).view(2, 1, 1, 1)  # the first sample runs backwards there
    nets = {
        "middle": Known(x4),
        "pair35": Known(x3, x5),
        "pair26": Known(torch.where(turn, x6, x2), torch.where(turn, x2, x6)),
        "pair17": Known(x7, x1),
    }
    frames = Pairs(**nets)(torch.rand(2, 3, 4, 4))
    assert torch.equal(frames, levels.transpose(0, 1))


def test_a_model_is_wired_by_what_its_nets_give():
    pairs = small_pairs()
    assert isinstance(assemble(pairs), Pairs)
    cascade = {**pairs, **{r: UNet(UNetConfig(inputs=3, **SMALL)) for r in ROLES[2:]}}
    assert type(assemble(cascade)) is Cascade
    assert [gives_pair(cascade[role]) for role in ROLES] == [False, True, False, False]
    net = awake(assemble(pairs))
    assert net(torch.rand(1, 3, 8, 8)).shape == (1, 7, 3, 8, 8)
    assert tuple(MODELS["apart"]) == (SEVEN,)
    assert tuple(MODELS["pairs"]) == ROLES


@pytest.mark.parametrize("net", [Apart(UNetConfig(inputs=1, **SMALL)), Pairs(**small_pairs())])
def test_more_than_seven_frames_are_refused_in_a_sentence(net):
    with pytest.raises(UsageError, match="this model gives 7 frames, not 9"):
        net(torch.rand(1, 3, 8, 8), frames=9)
