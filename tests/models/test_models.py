"""Networks: sizes, symmetries, shapes, blueprints."""

import json

import pytest
import torch
from conftest import make_picture
from torch import Tensor, nn

from b2v.errors import B2VError, WeightsError
from b2v.models import (
    MAXIM_STAGES,
    MODELS,
    PRIOR,
    ROLES,
    SEVEN,
    Blueprint,
    Cascade,
    Prior,
    assemble,
    missing_roles,
)
from b2v.models.cascade import JinMiddleConfig, JinSideConfig
from b2v.models.unet import UNet, UNetConfig

SIDE = JinSideConfig(stems=(4, 2, 2), colour_channels=4, outer=1)
SMALL = {"widths": (8, 12, 16), "blocks": (1, 1, 1)}
TINY = {
    "cascade": {
        "middle": Blueprint("unet", UNetConfig(inputs=1, **SMALL)),
        "pair35": Blueprint("unet", UNetConfig(inputs=2, outputs=2, **SMALL)),
        "pair26": Blueprint("unet", UNetConfig(inputs=3, **SMALL)),
        "pair17": Blueprint("unet", UNetConfig(inputs=3, **SMALL)),
    },
    "jin2018": {
        "middle": Blueprint("jin-middle", JinMiddleConfig(channels=8, colour_channels=6)),
        "pair35": Blueprint("jin-pair", SIDE),
        "pair26": Blueprint("jin-side", SIDE),
        "pair17": Blueprint("jin-side", SIDE),
    },
}
"""Both families with few channels, of the same kinds as the real ones."""
both_families = pytest.mark.parametrize("family", TINY)


def randomize(net: nn.Module) -> nn.Module:
    """Give all weights values that neither vanish nor explode; fresh nets hold zeros."""
    for weight in net.parameters():
        nn.init.normal_(weight, std=weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.3)
    return net.eval().requires_grad_(False)


def tiny_cascade(family: str) -> Cascade:
    return Cascade(**{role: randomize(plan.build()) for role, plan in TINY[family].items()})


def parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


class Recorder(nn.Module):
    """A net that notes what it is given and answers with given pictures, one call each."""

    multiple = 4

    def __init__(self, *answers: object) -> None:
        super().__init__()
        self.answers, self.calls = list(answers), []

    def forward(self, *pictures: Tensor) -> object:
        self.calls.append(pictures)
        return self.answers[len(self.calls) - 1]


class Swapped(nn.Module):
    """A pair net whose two frames change places."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.multiple = net, net.multiple

    def forward(self, *pictures: Tensor) -> tuple[Tensor, ...]:
        return self.net(*pictures)[::-1]


@pytest.mark.parametrize(
    ("role", "count"),
    [
        ("middle", 4_972_032),
        ("pair35", 2 * 3_934_464),
        ("pair26", 2_686_208),
        ("pair17", 2_686_208),
    ],
)
def test_the_papers_nets_have_as_many_parameters_as_the_released_files(role, count):
    assert parameters(MODELS["jin2018"][role].build()) == count


def test_frames_3_and_5_have_weights_of_their_own():
    pair = MODELS["jin2018"]["pair35"].build()
    assert parameters(pair.first) == parameters(pair.second) == 3_934_464


@pytest.mark.parametrize("role", ROLES)
def test_no_convolution_of_the_papers_nets_has_a_bias(role):
    layers = list(MODELS["jin2018"][role].build().modules())
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in layers if isinstance(layer, nn.InstanceNorm2d)]
    assert len(convolutions) > 30
    assert all(layer.bias is None for layer in convolutions)
    assert all(layer.affine and not layer.track_running_stats for layer in norms)


@both_families
@pytest.mark.parametrize("size", [(20, 40), (40, 20)])
def test_seven_frames_of_the_photos_size_come_out(family, size):
    net = tiny_cascade(family)
    multiple = {"cascade": 8, "jin2018": 20}[family]
    height, width = (side // 20 * multiple for side in size)
    assert net.multiple == multiple
    assert net(torch.rand(2, 3, height, width)).shape == (2, 7, 3, height, width)


@both_families
def test_a_batch_equals_its_pictures_one_by_one(family):
    net = tiny_cascade(family)
    blurry = torch.stack([make_picture(40, 40, seed) for seed in range(3)])
    together, alone = net(blurry), torch.cat([net(picture[None]) for picture in blurry])
    assert (together[0] - together[1]).abs().max() > 0.1
    # Sums run in another order when the batch has another size: rounding of fp32, no more.
    assert (together - alone).abs().max() < 2e-5 * alone.abs().max()


@both_families
def test_swapping_the_roles_of_frames_3_and_5_reverses_time_exactly(family):
    net = tiny_cascade(family)
    blurry = make_picture(40, 40)[None]
    forwards = net(blurry)
    net.pair35 = Swapped(net.pair35)
    assert torch.equal(net(blurry), forwards.flip(1))
    neighbors = (forwards[:, 1:] - forwards[:, :-1]).abs().amax((0, 2, 3, 4))
    assert (neighbors > 1e-3).all()


def test_each_net_is_handed_the_pictures_that_the_paper_names():
    y, x1, x2, x3, x4, x5, x6, x7 = torch.arange(8.0)[:, None, None, None, None].expand(
        -1, 1, 3, 4, 4
    )
    nets = {
        "middle": Recorder(x4),
        "pair35": Recorder((x3, x5)),
        "pair26": Recorder(x2, x6),
        "pair17": Recorder(x1, x7),
    }
    frames = Cascade(**nets)(y)
    assert frames[0, :, 0, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    seen = {
        role: [[int(p.mean()) for p in pictures] for pictures in net.calls]
        for role, net in nets.items()
    }
    assert seen == {
        "middle": [[0]],
        "pair35": [[0, 4]],
        "pair26": [[0, 4, 3], [0, 4, 5]],
        "pair17": [[0, 3, 2], [0, 5, 6]],
    }


@both_families
def test_a_given_middle_frame_takes_the_place_of_the_middle_net(family):
    net = tiny_cascade(family)
    net.middle = Recorder()
    net.middle.multiple = net.pair35.multiple
    blurry, given = make_picture(40, 40)[None], make_picture(40, 40, seed=1)[None]
    frames = net(blurry, given)
    assert net.middle.calls == []
    assert torch.equal(frames[:, 3], given)
    x3, x5 = net.pair35(blurry, given)
    assert torch.equal(frames[:, 2], x3)
    assert torch.equal(frames[:, 4], x5)


def test_sides_must_suit_every_net_of_a_cascade():
    parts = [Recorder(), Recorder(), Recorder(), Recorder()]
    for part, multiple in zip(parts, (4, 20, 8, 6), strict=True):
        part.multiple = multiple
    assert Cascade(**dict(zip(ROLES, parts, strict=True))).multiple == 120


@pytest.mark.parametrize(("role", "inputs"), [("middle", 1), ("pair26", 3)])
def test_the_three_colors_go_through_the_same_weights_before_they_meet(role, inputs):
    net = randomize(TINY["jin2018"][role].build())
    before_they_meet = []
    net.colour_stem.register_forward_pre_hook(lambda _, args: before_they_meet.append(args[0]))
    pictures = torch.rand(inputs, 2, 3, 20, 20)
    order = [2, 0, 1]
    net(*pictures)
    net(*pictures[:, :, order])
    straight, permuted = before_they_meet
    # Equal but for sums in another order, fp32.
    assert torch.allclose(straight[:, order], permuted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(straight, permuted, rtol=1e-1, atol=1e-1)


def test_the_papers_middle_net_adds_to_the_photo_and_its_side_nets_to_their_last_input():
    for role, inputs in (("middle", 1), ("pair26", 3)):
        net = randomize(TINY["jin2018"][role].build())
        nn.init.zeros_(net.head.conv.weight)
        pictures = torch.rand(inputs, 1, 3, 20, 20)
        assert torch.equal(net(*pictures), pictures[-1])


@pytest.mark.parametrize(("role", "inputs"), [("middle", 1), ("pair26", 3)])
def test_the_papers_nets_begin_with_the_picture_that_they_add_to(role, inputs):
    pictures = torch.rand(inputs, 1, 3, 20, 20)
    assert torch.equal(TINY["jin2018"][role].build()(*pictures), pictures[-1])


@pytest.mark.parametrize(("role", "inputs"), [("middle", 1), ("pair26", 3)])
def test_the_cells_of_the_last_input_are_added_to_the_taps(role, inputs):
    net = randomize(TINY["jin2018"][role].build())
    for tap in net.taps:
        nn.init.zeros_(tap.conv1.weight)
        nn.init.zeros_(tap.conv2.weight)
    colors = []
    net.colour_stem.register_forward_pre_hook(lambda _, args: colors.append(args[0]))
    pictures = torch.rand(inputs, 2, 3, 20, 20)
    net(*pictures)
    assert torch.equal(colors[0], pictures[-1])


def test_fine_detail_passes_by_the_coarse_scales_of_a_unet():
    net = randomize(UNet(UNetConfig(inputs=1, **SMALL)))
    nn.init.zeros_(net.ups[0].weight)
    nn.init.zeros_(net.ups[0].bias)
    one, other = torch.rand(2, 1, 3, 16, 16)
    assert not torch.allclose(net(one) - one, net(other) - other, atol=0.01)


@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_an_untrained_unet_returns_its_last_input(inputs):
    pictures = torch.rand(inputs, 2, 3, 16, 24)
    one = UNet(UNetConfig(inputs=inputs, **SMALL))(*pictures)
    assert torch.equal(one, pictures[-1])
    two = UNet(UNetConfig(inputs=inputs, outputs=2, **SMALL))(*pictures)
    assert len(two) == 2
    assert all(torch.equal(frame, pictures[-1]) for frame in two)


@pytest.mark.parametrize("shuffle", [1, 2, 4])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_unet_takes_every_multiple_of_what_it_asks_for(shuffle, levels):
    config = UNetConfig(
        inputs=1, shuffle=shuffle, widths=(4, 6, 8)[:levels], blocks=(1, 2, 1)[:levels]
    )
    net = randomize(UNet(config))
    assert net.multiple == shuffle * 2 ** (levels - 1)
    for rows, columns in [(1, 3), (2, 1), (5, 4)]:
        blurry = torch.rand(1, 3, rows * net.multiple, columns * net.multiple)
        restored = net(blurry)
        assert restored.shape == blurry.shape
        assert (restored - blurry).abs().mean() > 1e-3


def test_what_a_pixel_becomes_in_a_unet_depends_on_its_neighborhood_alone():
    net = randomize(UNet(UNetConfig(inputs=1, widths=(4, 6), blocks=(1, 1))))
    blurry = make_picture(16, 96)[None]
    touched = blurry.clone()
    touched[..., :8] = 1 - touched[..., :8]
    before, after = net(blurry), net(touched)
    assert not torch.equal(before[..., :12], after[..., :12])
    assert torch.equal(before[..., 48:], after[..., 48:])


def test_both_frames_of_a_pair_net_are_frames_of_their_own():
    net = randomize(TINY["cascade"]["pair35"].build())
    x3, x5 = net(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16))
    assert x3.shape == x5.shape == (1, 3, 16, 16)
    assert (x3 - x5).abs().mean() > 0.01


def test_a_unet_that_adopts_another_does_what_that_did_to_the_first_picture():
    other = randomize(UNet(UNetConfig(inputs=1, **SMALL)))
    net = randomize(UNet(UNetConfig(inputs=3, **SMALL)))
    net.adopt(other)
    first, second, base = torch.rand(3, 1, 3, 16, 16)
    assert torch.allclose(net(first, second, base) - base, other(first) - first, atol=1e-5)


def test_a_unet_adopts_what_fits_of_a_deeper_one():
    deep = randomize(UNet(UNetConfig(inputs=1, widths=(8, 12, 16), blocks=(1, 1, 2))))
    net = randomize(UNet(UNetConfig(inputs=1, widths=(8, 12), blocks=(1, 1))))
    net.adopt(deep)
    assert torch.equal(net.stem.weight, deep.stem.weight)
    assert torch.equal(net.head.weight, deep.head.weight)


@pytest.mark.parametrize(
    ("model", "role"), [(model, role) for model, plans in MODELS.items() for role in plans]
)
def test_a_blueprint_survives_json(model, role):
    plan = MODELS[model][role]
    kind, config = json.loads(json.dumps(plan.describe()))
    again = Blueprint.parse(kind, config)
    assert again == plan
    assert hash(again) == hash(plan)


def test_a_parsed_blueprint_builds_the_same_network():
    plan = TINY["jin2018"]["middle"]
    again = Blueprint.parse(*json.loads(json.dumps(plan.describe()))).build()
    again.load_state_dict(plan.build().state_dict(), strict=True)
    assert type(again) is type(plan.build())


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        (
            "vgg",
            {},
            "unknown kind of network 'vgg'; known: jin-middle, jin-pair, jin-side, unet, dtb",
        ),
        ("unet", {}, "config of a unet network does not fit.*inputs"),
        ("unet", {"inputs": 1, "depth": 3}, "config of a unet network does not fit.*depth"),
        ("jin-side", {"channels": 8}, "config of a jin-side network does not fit.*channels"),
        ("unet", [1, 2], "config of a unet network does not fit"),
        ("maxim", {"stage": 4}, "config of a maxim network does not fit: stage is 4, expected 1"),
        ("maxim", {"stage": "1"}, "does not fit: stage is 1, expected 1 to 3"),
        ("maxim", {"features": 4096}, "does not fit: features is 4096, expected 1 to 256"),
        ("maxim", {"groups": 64}, "does not fit: groups is 64, expected 1 to 8"),
        ("maxim", {"bottlenecks": 0}, "does not fit: bottlenecks is 0, expected 1 to 8"),
        ("maxim", {"features": [32]}, "does not fit: features is"),
    ],
)
def test_what_is_no_blueprint_is_refused_by_name(kind, config, message):
    with pytest.raises(B2VError, match=message):
        Blueprint.parse(kind, config)


def test_every_model_has_the_networks_it_takes():
    assert tuple(MODELS["apart"]) == (SEVEN,)
    assert tuple(MODELS["cascade"]) == tuple(MODELS["jin2018"]) == ROLES
    assert not any(missing_roles(plans) for plans in MODELS.values())
    assert missing_roles({"middle": 1, "pair26": 2}) == ["pair35", "pair17"]
    assert (tuple(MODELS["maxim-1"]), tuple(MODELS["maxim-3"])) == (
        MAXIM_STAGES[:1],
        MAXIM_STAGES,
    )
    assert tuple(MODELS["unet"]) == (PRIOR,)
    assert missing_roles([PRIOR]) == []
    assert missing_roles(["stage2"]) == ["stage1"]
    assert missing_roles(["stage3"]) == ["stage1", "stage2"]
    assert missing_roles(["stage2", "stage1"]) == []


def test_a_prior_is_a_network_of_one_picture_with_its_tiles():
    net = UNet(UNetConfig(inputs=1, **SMALL))
    prior = assemble({PRIOR: net})
    assert isinstance(prior, Prior)
    assert (prior.net, prior.multiple, prior.tiling.side) == (net, net.multiple, 512)
    for wrong in (
        UNet(UNetConfig(inputs=2, **SMALL)),
        UNet(UNetConfig(inputs=1, outputs=2, **SMALL)),
        nn.Identity(),
    ):
        with pytest.raises(WeightsError, match="prior is no U-Net of one picture"):
            assemble({PRIOR: wrong})
