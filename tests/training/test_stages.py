"""The stages of training: what each computes, which frames it sees, the direction of time."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import make_picture
from torch import Tensor, nn

from b2v.errors import UsageError
from b2v.models import MODELS, ROLES, SEVEN, Blueprint
from b2v.models.maxim import MaximConfig, MaximStage
from b2v.models.unet import UNet, UNetConfig
from b2v.training.config import ABLATION, TrainConfig, check, recipe
from b2v.training.losses import in_order, pair_loss
from b2v.training.stages import compare, frames_of, new_network, restore_frames

SMALL = {"widths": (6, 8), "blocks": (1, 1)}
CONFIG = TrainConfig(model="tiny", steps=40, pixel="mse", teacher=0.5, canonical=0.0)
LATE = CONFIG.steps - 1
"""A step after teacher forcing and after the time in which the direction is prescribed."""


class Known(nn.Module):
    """A net that answers with given pictures, scaled by one weight, and notes what it saw."""

    def __init__(self, *answer: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.answer, self.seen = answer, ()

    def forward(self, *pictures: Tensor) -> Tensor | tuple[Tensor, ...]:
        self.seen = pictures
        trace = 0 * sum(pictures)  # so that a gradient would reach whoever made the pictures
        frames = tuple(self.scale * frame + trace for frame in self.answer)
        return frames if len(frames) > 1 else frames[0]


def assert_same(pictures: Any, others: Any) -> None:
    """Compare two rows of pictures bit for bit."""
    assert len(pictures) == len(others)
    assert all(torch.equal(p, q) for p, q in zip(pictures, others, strict=True))


@pytest.fixture
def sharp() -> Tensor:
    """Seven frames of two samples, [2, 7, 3, 8, 8]."""
    return torch.rand(2, 7, 3, 8, 8)


def known_nets(sharp: Tensor) -> dict[str, Known]:
    """Nets that know the truth, the second sample backwards in time."""
    played = torch.stack([sharp[0], sharp[1].flip(0)])
    x1, x2, x3, x4, x5, x6, x7 = played.unbind(1)
    return {
        "middle": Known(x4),
        "pair35": Known(x3, x5),
        "pair26": Known(torch.cat([x2, x6])),
        "pair17": Known(torch.cat([x1, x7])),
    }


def loss_of(
    stage: int, nets: dict[str, Known], sharp: Tensor, step: int = LATE, **changes: Any
) -> Tensor:
    config = replace(CONFIG, stage=stage, **changes)
    assert config.role in nets
    return compare(config, nets, torch.rand(2, *sharp.shape[2:]), sharp, step).loss


@pytest.mark.parametrize(("model", "role"), [("unet", "prior"), ("maxim-1", "stage1")])
def test_a_prior_is_compared_with_the_middle_frame(sharp, model, role):
    known, other = sharp[:, 3], sharp[:, 2]
    assert loss_of(1, {role: Known(known)}, sharp, model=model).tolist() == [0, 0]
    assert loss_of(1, {role: Known(other)}, sharp, model=model).min() > 0.01


def test_the_loss_of_a_stage_of_maxim_falls_along_its_gradient():
    torch.manual_seed(0)
    net = MaximStage(MaximConfig(features=4, groups=1, bottlenecks=1))
    sharp = torch.rand(1, 7, 3, 64, 64)
    config = replace(CONFIG, model="maxim-1", pixel="mse")
    losses = []
    for _ in range(3):
        loss = compare(config, {"stage1": net}, sharp.mean(1), sharp, LATE).loss.mean()
        losses.append(loss.item())
        weights = [w for w in net.parameters() if w.requires_grad]
        grads = torch.autograd.grad(loss, weights, allow_unused=True)
        known = [(w, g) for w, g in zip(weights, grads, strict=True) if g is not None]
        assert len(known) > 0.9 * len(weights)
        size = sum(g.square().sum() for _, g in known)
        with torch.no_grad():
            for weight, grad in known:
                weight -= 0.05 * loss / size * grad  # by a twentieth, were it straight
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_the_truth_in_either_direction_has_no_loss(sharp, stage):
    nets = known_nets(sharp)
    assert loss_of(stage, nets, sharp).tolist() == pytest.approx([0, 0], abs=1e-7)
    assert loss_of(stage, nets, sharp.flip(1)).tolist() == pytest.approx([0, 0], abs=1e-7)


@pytest.mark.parametrize(("stage", "role"), [(3, "pair26"), (4, "pair17")])
def test_outer_frames_that_go_against_the_direction_of_stage_2_are_a_loss(sharp, stage, role):
    nets = known_nets(sharp)
    first, second = nets[role].answer[0].chunk(2)
    nets[role] = Known(torch.cat([second, first]))
    assert (loss_of(stage, nets, sharp) > 0.05).all()


@pytest.mark.parametrize(("stage", "role"), [(2, "pair35"), (3, "pair26"), (4, "pair17")])
def test_every_pair_is_compared_by_equation_5_or_in_an_order_that_is_known(sharp, stage, role):
    nets = known_nets(sharp)
    answer = [frame + 0.1 * torch.randn_like(frame) for frame in nets[role].answer]
    nets[role] = Known(*answer)
    pair = tuple(answer) if stage == 2 else tuple(answer[0].chunk(2))
    truth = frames_of(role, sharp)
    found = loss_of(stage, nets, sharp, pair="pair")
    assert torch.allclose(found, pair_loss(pair, truth), rtol=1e-5)
    found = loss_of(stage, nets, sharp, pair="independent")
    assert torch.allclose(found, in_order(pair, truth, "mse"), rtol=1e-5)
    assert found[1] > 2 * found[0]  # the second sample is played backwards


@pytest.mark.parametrize("pair", ["pair", "best-order"])
@pytest.mark.parametrize("stage", [2, 3, 4])
def test_the_truth_played_backwards_gives_the_same_loss(sharp, stage, pair):
    nets = known_nets(sharp)
    for net in nets.values():
        net.answer = tuple(frame + 0.1 * torch.randn_like(frame) for frame in net.answer)
    forwards = loss_of(stage, nets, sharp, pair=pair)
    backwards = loss_of(stage, nets, sharp.flip(1), pair=pair)
    assert (forwards > 1e-3).all()
    assert torch.allclose(forwards, backwards, rtol=1e-5)


def test_each_stage_trains_its_own_net_alone(sharp):
    for stage, role in enumerate(ROLES, start=1):
        nets = known_nets(sharp)
        nets[role].answer = tuple(0.5 * frame for frame in nets[role].answer)
        loss_of(stage, nets, sharp).sum().backward()
        with_gradient = [name for name, net in nets.items() if net.scale.grad is not None]
        assert with_gradient == [role]
        assert nets[role].scale.grad.abs() > 1e-3


@pytest.mark.parametrize("stage", [2, 3, 4])
def test_teacher_forcing_hands_over_the_true_middle_frame_less_and_less_often(sharp, stage):
    wrong = torch.zeros(2, 3, 8, 8)
    nets = {**known_nets(sharp), "middle": Known(wrong)}
    forced = []
    for step in range(CONFIG.steps):
        loss_of(stage, nets, sharp, step)
        x4 = nets["pair35"].seen[1]
        forced.append(torch.equal(x4, sharp[:, 3]))
        assert forced[-1] or torch.equal(x4, wrong)
    assert 6 <= sum(forced[:20]) <= 14
    assert sum(forced[:10]) > sum(forced[10:20])
    assert sum(forced[20:]) == 0
    assert forced != sorted(forced, reverse=True)  # it is drawn anew in each step


def test_teacher_forcing_is_drawn_from_the_seed(sharp):
    nets = {**known_nets(sharp), "middle": Known(torch.zeros(2, 3, 8, 8))}

    def pattern(seed: int) -> list[bool]:
        seen = []
        for step in range(20):
            loss_of(2, nets, sharp, step, seed=seed)
            seen.append(torch.equal(nets["pair35"].seen[1], sharp[:, 3]))
        return seen

    assert pattern(0) == pattern(0) != pattern(1)


@pytest.mark.parametrize(("forcing", "always"), [("always", True), ("never", False)])
def test_teacher_forcing_can_be_on_or_off_throughout(sharp, forcing, always):
    nets = {**known_nets(sharp), "middle": Known(torch.zeros(2, 3, 8, 8))}
    for step in (0, LATE // 2, LATE):
        loss_of(2, nets, sharp, step, forcing=forcing)
        assert torch.equal(nets["pair35"].seen[1], sharp[:, 3]) == always


@pytest.mark.parametrize("stage", [2, 3, 4])
def test_each_pair_of_a_model_of_pairs_chooses_its_own_direction(sharp, tiny, stage):
    role = ROLES[stage - 1]
    x4 = sharp[:, 3]
    config = replace(CONFIG, model="tiny-pairs", stage=stage)
    net = config.blueprint.build()
    blurry = torch.rand(2, 3, 8, 8)
    nets = {"middle": Known(x4), role: net}
    restored, inner = restore_frames(role, nets, blurry)
    assert restored is inner
    assert_same(restored, net(blurry, x4))
    for pair in ("pair", "best-order"):
        config = replace(config, pair=pair)
        forwards = compare(config, nets, blurry, sharp, LATE).loss
        backwards = compare(config, nets, blurry, sharp.flip(1), LATE).loss
        assert torch.allclose(forwards, backwards, rtol=1e-5)
        assert (forwards > 1e-3 if pair == "pair" else forwards.isfinite()).all()


def test_a_pair_need_not_see_the_middle_frame(tiny):
    config = replace(CONFIG, model="tiny-pairs", stage=3, see_middle=False)
    check(config, 128)
    net = new_network(config, {})
    assert net.stem.weight.shape[1] == 3 * net.shuffle**2
    nn.init.normal_(net.head.weight)
    blurry, x4, other = torch.rand(3, 1, 3, 8, 8)
    assert_same(net(blurry, x4), net(blurry, other))
    assert replace(config, stage=1).blueprint == tiny["middle"]
    with pytest.raises(UsageError, match="pairs by a U-Net, which jin2018 lacks"):
        check(replace(config, model="jin2018", stage=1, crop=40), 128)


def test_stages_of_maxim_after_the_first_are_not_trained():
    with pytest.raises(UsageError, match="model 'maxim-3' is unknown; choose apart, blend"):
        check(replace(CONFIG, model="maxim-3"), 128)


def test_seven_nets_apart_learn_the_middle_frame_by_itself(sharp):
    """The six others are compared together: by their sum alone, or each with its own."""
    config = replace(CONFIG, model="tiny-apart")
    net = config.blueprint.build()

    def loss(frames: Tensor, pair: str) -> list[float]:
        net.forward = lambda _: frames
        changed = replace(config, pair=pair)
        return compare(changed, {SEVEN: net}, sharp[:, 0], sharp, 0).loss.tolist()

    swapped = sharp[:, [1, 0, 2, 3, 4, 5, 6]]
    moved = sharp[:, [0, 1, 2, 4, 3, 5, 6]]
    assert loss(sharp, "global") == loss(sharp, "independent") == [0, 0]
    assert loss(swapped, "global") == pytest.approx([0, 0], abs=1e-6)
    assert min(loss(swapped, "independent")) > 0.01
    middle = (sharp[:, 4] - sharp[:, 3]).square().mean((1, 2, 3))
    sums = (sharp[:, 4] - sharp[:, 3]).abs().mean((1, 2, 3))
    assert loss(moved, "global") == pytest.approx((middle + sums).tolist(), rel=1e-4)
    assert loss(moved, "independent") == pytest.approx((middle + middle / 6).tolist(), rel=1e-4)


@pytest.mark.parametrize("row", ABLATION)
def test_every_scheme_of_the_ablation_can_be_trained(row):
    config = replace(recipe(ABLATION[row]["model"]), **ABLATION[row])
    for stage in range(1, 1 + len(MODELS[config.model])):
        check(replace(config, stage=stage), 128)


def moving(right: int, down: int, seed: int) -> Tensor:
    """Seven frames whose content moves by so many pixels a frame, [7, 3, 32, 32]."""
    scene = make_picture(80, 80, seed)
    corners = [(24 - down * k, 24 - right * k) for k in range(-3, 4)]
    return torch.stack([scene[:, y : y + 32, x : x + 32] for y, x in corners])


def test_in_the_beginning_of_stage_2_one_direction_of_time_is_prescribed():
    sharp = torch.stack([moving(2, 1, 0), moving(-2, -1, 1)])
    canonical = torch.stack([sharp[0], sharp[1].flip(0)])  # to the right and down

    def losses(restored: Tensor, truth: Tensor, step: int, canonical: float = 0.2) -> Tensor:
        _, _, x3, x4, x5, *_ = restored.unbind(1)
        nets = {"middle": Known(x4), "pair35": Known(x3, x5)}
        return loss_of(2, nets, truth, step, canonical=canonical)

    for truth in (sharp, sharp.flip(1)):
        assert losses(canonical, truth, step=7).tolist() == [0, 0]
        assert (losses(canonical.flip(1), truth, step=7) > 1e-4).all()
        assert losses(canonical.flip(1), truth, step=8).tolist() == [0, 0]
        rule = losses(canonical.flip(1), truth, step=LATE, canonical=1.0)
        assert (rule > 1e-4).all()  # a rule of order throughout


def test_both_ends_of_the_exposure_see_the_pictures_that_the_paper_names(sharp):
    blurry = torch.rand(2, 3, 8, 8)
    nets = known_nets(sharp)
    x3, x5 = nets["pair35"].answer
    (x4,) = nets["middle"].answer
    x2, x6 = nets["pair26"].answer[0].chunk(2)
    frames, inner = restore_frames("pair26", nets, blurry)
    assert_same(nets["pair35"].seen, (blurry, x4))
    expected = (torch.cat([blurry, blurry]), torch.cat([x4, x4]), torch.cat([x3, x5]))
    assert_same(nets["pair26"].seen, expected)
    assert_same([*frames, *inner], [x2, x6, x3, x5])
    frames, inner = restore_frames("pair17", nets, blurry)
    expected = (torch.cat([blurry, blurry]), torch.cat([x3, x5]), torch.cat([x2, x6]))
    assert_same(nets["pair17"].seen, expected)
    assert_same([*frames, *inner], [*nets["pair17"].answer[0].chunk(2), x3, x5])


def test_pairs_lie_at_equal_distances_from_the_middle(sharp):
    expected = {"middle": (3,), "pair35": (2, 4), "pair26": (1, 5), "pair17": (0, 6)}
    for role, indices in {**expected, SEVEN: range(7)}.items():
        assert_same(frames_of(role, sharp), [sharp[:, index] for index in indices])


class Saying(nn.Module):
    """A net that says the same of every picture, and keeps what it was given."""

    multiple = 16

    def __init__(self, answer: Tensor | None = None) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *pictures: Tensor) -> Tensor:
        self.given = pictures
        return pictures[-1] if self.answer is None else self.answer


def test_any_network_goes_on_from_one_of_its_own_shape():
    plans = MODELS["cascade"]
    for stage, role in ((2, "pair35"), (3, "pair26")):
        start = plans[role].build()
        for weight in start.parameters():
            nn.init.normal_(weight)
        config = replace(CONFIG, model="cascade", stage=stage, start="mine.safetensors")
        earlier = {role: plans[role].build() for role in ROLES[: stage - 1]}
        net = new_network(config, earlier, start)
        for name, weight in start.state_dict().items():
            assert torch.equal(net.state_dict()[name], weight)


def test_a_start_that_does_not_suit_is_refused(tiny):
    plan = MODELS["jin2018"]["middle"].build()
    with pytest.raises(UsageError, match=r"mine.safetensors: only a network of the same"):
        new_network(replace(CONFIG, start="mine.safetensors"), {}, plan)


def test_a_model_of_one_network_has_one_stage():
    check(replace(CONFIG, model="apart"), 128)
    with pytest.raises(UsageError, match="stage 2 is unknown; choose 1"):
        check(replace(CONFIG, model="apart", stage=2), 128)


@pytest.fixture(autouse=True)
def tiny(monkeypatch) -> dict[str, Blueprint]:
    """Have a cascade of tiny U-Nets."""
    plans = {
        "middle": Blueprint("unet", UNetConfig(inputs=1, **SMALL)),
        "pair35": Blueprint("unet", UNetConfig(inputs=2, outputs=2, **SMALL)),
        "pair26": Blueprint("unet", UNetConfig(inputs=3, **SMALL)),
        "pair17": Blueprint("unet", UNetConfig(inputs=3, **SMALL)),
    }
    monkeypatch.setitem(MODELS, "tiny", plans)
    pair = dict.fromkeys(ROLES[1:], plans["pair35"])
    monkeypatch.setitem(MODELS, "tiny-pairs", {"middle": plans["middle"], **pair})
    apart = {SEVEN: Blueprint("apart", UNetConfig(inputs=1, **SMALL))}
    monkeypatch.setitem(MODELS, "tiny-apart", apart)
    return plans


def trained(plan: Blueprint) -> UNet:
    """Build a net whose weights are all different from those of a new one."""
    net = plan.build()
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.2)
    return net


def test_a_new_network_is_drawn_from_the_seed_alone(tiny):
    torch.rand(7)
    first = new_network(CONFIG, {})
    torch.rand(5)
    again, other = new_network(CONFIG, {}), new_network(replace(CONFIG, seed=1), {})
    assert_same([*first.parameters()], [*again.parameters()])
    assert not torch.equal(first.stem.weight, other.stem.weight)


@pytest.mark.parametrize(("stage", "role"), list(enumerate(ROLES, start=1))[1:])
def test_a_side_net_starts_where_the_stage_before_ended(tiny, stage, role):
    earlier = {r: trained(tiny[r]) for r in ROLES[: stage - 1]}
    previous = earlier[ROLES[stage - 2]]
    net = new_network(replace(CONFIG, stage=stage), earlier)
    assert_same([*net.bottom.parameters()], [*previous.bottom.parameters()])
    known = previous.stem.weight.shape[1]
    assert torch.equal(net.stem.weight[:, :known], previous.stem.weight)
    assert net.stem.weight[:, known:].abs().sum() == 0
    fresh = new_network(replace(CONFIG, stage=stage, init="fresh"), earlier)
    assert not torch.equal(fresh.stem.weight[:, :known], previous.stem.weight)


def test_the_paper_s_pair_loss_starts_with_two_different_frames(tiny):
    """Two equal frames have no gradient that would tell them apart."""
    pictures = torch.rand(2, 1, 3, 16, 16)
    x3, x5 = new_network(replace(CONFIG, stage=2, pair="pair"), {})(*pictures)
    assert 1e-5 < (x3 - x5).abs().mean() < 0.02
    x3, x5 = new_network(replace(CONFIG, stage=2), {})(*pictures)
    assert torch.equal(x3, x5)

    jin = TrainConfig(model="jin2018", stage=2, pair="pair")
    x3, x5 = new_network(jin, {})(*torch.rand(2, 1, 3, 20, 20))
    assert 1e-5 < (x3 - x5).abs().mean() < 0.02


def test_a_net_of_the_paper_starts_at_random_and_takes_nothing_over(tiny):
    tiny["pair26"] = MODELS["jin2018"]["pair26"]
    config = replace(CONFIG, stage=3)
    earlier = {"middle": trained(tiny["middle"]), "pair35": trained(tiny["pair35"])}
    alone = new_network(replace(config, init="fresh"), {})
    assert_same([*new_network(config, earlier).parameters()], [*alone.parameters()])
