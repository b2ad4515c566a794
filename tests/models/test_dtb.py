"""The networks that deblur video: sizes, causality, blending, what it remembers, its files."""

import json
import math

import pytest
import torch
from conftest import make_picture
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from b2v.defaults import PHOTO_MODEL
from b2v.errors import B2VError, WeightsError
from b2v.models import MODELS, SEVEN, VIDEO, Blueprint, missing_roles
from b2v.models.dtb import (
    DTB,
    INPUTS,
    VARIANTS,
    BlendConfig,
    BlendNet,
    DTBConfig,
    TemporalBlend,
    VideoNet,
    VideoState,
    run_clip,
)
from b2v.models.unet import UNet, UNetConfig
from b2v.weights.checkpoints import Card, card_entry, file_name, save_network, write_card
from b2v.weights.store import list_models, load_model, load_video_model

SMALL = {"stem": 8, "features": 4, "encoder_blocks": 1, "decoder_blocks": 1}
SMALL_UNET = {"widths": (8, 12), "blocks": (1, 1)}
every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_length = pytest.mark.parametrize("inputs", INPUTS)
every_net = pytest.mark.parametrize("variant", [*VARIANTS, "blend"])
with_memory = pytest.mark.parametrize("variant", ["strcnn", "dtb", "blend"])


def small_net(*, gain: float = 1.0, **config: object) -> VideoNet:
    """Make a small network with random weights, none of them zero as in a fresh one."""
    net = fresh_net(**config)
    for name, weight in net.named_parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=gain * weight[0].numel() ** -0.5)
        elif not name.endswith("beta_logit"):
            nn.init.normal_(weight, std=0.1)
    return net.eval().requires_grad_(False)


def fresh_net(*, variant: str = "dtb", **config: object) -> VideoNet:
    if variant == "blend":
        return BlendNet(BlendConfig(**{**SMALL_UNET, **config}))
    return DTB(DTBConfig(**{**SMALL, **config}, variant=variant))


def make_clip(length: int, height: int = 16, width: int = 20, seed: int = 0) -> Tensor:
    """Make [1, T, 3, H, W] of unlike pictures."""
    return torch.stack([make_picture(height, width, seed + n) for n in range(length)])[None]


def parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize(
    ("model", "count"), [("dtb", 914_436), ("dtb-strcnn", 709_571), ("dtb-cnn", 709_571)]
)
def test_networks_have_equally_many_parameters_but_for_the_blending(model, count):
    assert parameters(MODELS[model][VIDEO].build()) == count
    assert 914_436 - 709_571 == 128 * 64 * 25 + 64 + 1


def test_a_frame_of_1280_x_720_takes_222_billion_multiply_adds():
    with torch.device("meta"):
        net, frames = DTB(DTBConfig()), torch.empty(1, 3, 3, 720, 1280)
        state = VideoState(torch.empty(1, 64, 360, 640), torch.empty(1, 32, 360, 640))
        with FlopCounterMode(display=False) as counter:
            net(frames, state)
    assert counter.get_total_flops() / 2 / 1e9 == pytest.approx(222, abs=1)


@every_net
@every_length
def test_an_untrained_network_returns_the_center_frame(variant, inputs):
    net = fresh_net(variant=variant, inputs=inputs)
    assert net.look_ahead == inputs // 2
    clip = make_clip(9)
    frame, _ = net(clip[:, :inputs])
    assert torch.equal(frame, clip[:, inputs // 2])
    assert torch.equal(run_clip(net, clip), clip)


@every_variant
def test_the_papers_form_adds_nothing_to_the_input(variant):
    net = small_net(variant=variant, residual=False)
    clip = make_clip(3)
    assert torch.allclose(net(clip)[0] + clip[:, 1], with_residual(net)(clip)[0], atol=1e-6)
    nn.init.zeros_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    assert net(clip)[0].abs().max() == 0


def with_residual(net: DTB) -> DTB:
    other = small_net(variant=net.config.variant)
    other.load_state_dict(net.state_dict())
    return other


@every_variant
@every_length
@pytest.mark.parametrize("residual", [True, False])
def test_frames_of_the_clips_size_come_out(variant, inputs, residual):
    net = small_net(variant=variant, inputs=inputs, residual=residual)
    for height, width in [(2, 4), (6, 2), (18, 10)]:
        clip = torch.rand(2, 3, 3, height, width)
        restored = run_clip(net, clip)
        assert restored.shape == clip.shape
        assert (restored - clip).abs().mean() > 1e-3


@every_net
@every_length
def test_a_frame_ignores_all_that_lies_more_than_m_frames_ahead(variant, inputs):
    net, m, clip = small_net(variant=variant, inputs=inputs), inputs // 2, make_clip(10)
    before = run_clip(net, clip)
    for n in (0, 2, 5):
        beyond, last = clip.clone(), clip.clone()
        beyond[:, n + m + 1 :] = make_clip(10 - n - m - 1, seed=50)
        last[:, n + m] = make_picture(16, 20, seed=50)
        assert torch.equal(run_clip(net, beyond)[:, : n + 1], before[:, : n + 1])
        assert (run_clip(net, last)[:, n] - before[:, n]).abs().max() > 1e-3


@every_net
def test_only_the_recurrent_networks_remember_frames_before_the_window(variant):
    net, clip = small_net(variant=variant), make_clip(6)
    touched = clip.clone()
    touched[:, 0] = make_picture(16, 20, seed=50)
    difference = (run_clip(net, touched) - run_clip(net, clip)).abs().amax((0, 2, 3, 4))
    assert (difference[:2] > 1e-3).all()
    assert ((difference[2:] > 1e-6) == (variant != "cnn")).all()


@every_variant
def test_the_state_holds_what_the_variant_hands_on_at_half_size(variant):
    net = small_net(variant=variant)
    _, state = net(torch.rand(2, 3, 3, 16, 20))
    shapes = {name: tuple(t.shape) for name, t in state._asdict().items() if t is not None}
    expected = {
        "cnn": {},
        "strcnn": {"features": (2, 4, 8, 10)},
        "dtb": {"blended": (2, 8, 8, 10), "features": (2, 4, 8, 10)},
    }
    assert shapes == expected[variant]
    assert {name: shape[1:] for name, shape in shapes.items()} == net.state_shapes(16, 20)


@pytest.mark.parametrize("beta", [0.05, 0.5, 0.9])
def test_blend_weights_lie_between_beta_and_one(beta):
    blend = TemporalBlend(channels=6, beta=beta).requires_grad_(False)
    assert float(blend.beta) == pytest.approx(beta)
    weight = blend.weight(*(4 * torch.randn(2, 1, 6, 16, 16)))
    assert beta - 1e-6 < weight.min() < beta + 0.05
    assert weight.max() == 1
    nn.init.zeros_(blend.conv.weight)
    nn.init.zeros_(blend.conv.bias)
    assert torch.allclose(blend.weight(*torch.randn(2, 1, 6, 8, 8)), torch.tensor(beta))


def test_beta_cannot_be_trained_out_of_its_range():
    blend = TemporalBlend(channels=2, beta=0.5)
    optimizer = torch.optim.SGD([blend.beta_logit], lr=100.0)
    for sign in (1, 1, -1, -1, -1):
        (sign * blend.beta).backward()
        optimizer.step()
        assert 0 <= blend.beta.detach() <= 1


def test_blending_is_the_weighted_mean_of_equation_2():
    blend = TemporalBlend(channels=2, beta=0.25).requires_grad_(False)
    nn.init.zeros_(blend.conv.weight)
    nn.init.constant_(blend.conv.bias, -math.atanh(0.5))  # |tanh| = 0.5, w = 0.75
    blended = blend(torch.full((1, 2, 4, 4), 8.0), torch.full((1, 2, 4, 4), 4.0))
    assert torch.allclose(blended, torch.tensor(0.75 * 8 + 0.25 * 4))
    same = torch.randn(1, 2, 4, 4)
    assert torch.allclose(blend(same, same), same)


def test_the_first_frame_is_not_dimmed_whatever_beta_is():
    net, clip, restored = small_net(), make_clip(3), []
    for logit in (-4.0, 4.0):
        net.blend.beta_logit.fill_(logit)
        restored.append(run_clip(net, clip))
    little, much = restored
    assert torch.equal(little[:, 0], much[:, 0])
    assert (little[:, 1] - much[:, 1]).abs().max() > 1e-3


@every_length
def test_a_still_video_stays_still_in_a_network_without_memory(inputs):
    clip = make_picture(16, 20).expand(1, 8, 3, 16, 20)
    restored = run_clip(small_net(variant="cnn", inputs=inputs), clip)
    assert torch.equal(restored, restored[:, :1].expand_as(restored))


@with_memory
@every_length
def test_a_still_video_comes_to_rest_in_a_network_with_memory(variant, inputs):
    gain = 0.3 if variant == "blend" else 0.7  # with more, random weights do not contract
    net = small_net(variant=variant, inputs=inputs, gain=gain, beta=0.2)
    clip = make_picture(16, 20).expand(1, 60, 3, 16, 20)
    steps = run_clip(net, clip).diff(dim=1).abs().amax((0, 2, 3, 4))
    assert steps[0] > 1e-4
    assert steps[-1] < 1e-3 * steps[0]


def test_what_a_unet_with_blending_remembers_cannot_grow():
    net, state = small_net(variant="blend", gain=2.0), None
    frame = make_picture(16, 20).expand(1, 3, 3, 16, 20)
    sizes = []
    for _ in range(30):
        restored, state = net(frame, state)
        assert state.features.abs().max() <= 1
        sizes.append(restored.abs().max())
    assert max(sizes[1:]) < 10 * sizes[1]


@every_net
def test_a_batch_equals_its_clips_one_by_one(variant):
    net = small_net(variant=variant)
    clips = torch.cat([make_clip(4, seed=10 * seed) for seed in range(3)])
    alone = torch.cat([run_clip(net, clip[None]) for clip in clips])
    assert (run_clip(net, clips) - alone).abs().max() < 1e-5


@every_net
def test_a_clip_can_be_gone_on_with_from_its_state(variant):
    net, clip, state = small_net(variant=variant), make_clip(7), None
    clip[:, 4] = clip[:, 3]  # so that the border repeated at the cut is what lies there anyway
    whole = run_clip(net, clip)
    for window in (clip[:, [0, 0, 1]], clip[:, 0:3], clip[:, 1:4], clip[:, 2:5]):
        _, state = net(window, state)
    assert torch.allclose(run_clip(net, clip[:, 4:], state), whole[:, 4:], atol=1e-6)


@every_net
def test_bf16_is_close_to_fp32(variant):
    net, clip = small_net(variant=variant), make_clip(8)
    full = run_clip(net, clip)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = run_clip(net, clip)
        _, state = net(clip[:, :3])
    assert half.dtype == torch.float32
    assert all(part.dtype == torch.bfloat16 for part in state if part is not None)
    # bf16 has 8 bits: a relative error of 2^-9 a rounding, some twenty of them in a row.
    assert (half - full).abs().max() < 0.03 * (full - clip).abs().max()


@every_net
def test_a_state_made_in_another_precision_can_be_gone_on_with(variant):
    net, clip = small_net(variant=variant), make_clip(4)
    _, full = net(clip[:, :3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, state = net(clip[:, 1:], full)
    expected, _ = net(clip[:, 1:], full)
    assert (half - expected).abs().max() < 0.05 * expected.abs().max()
    assert net(clip[:, 1:], state)[0].dtype == torch.float32


@every_net
def test_the_layout_in_memory_changes_nothing_but_rounding(variant):
    net, clip = small_net(variant=variant), make_clip(5)
    plain = run_clip(net, clip)
    assert (run_clip(net.to(memory_format=torch.channels_last), clip) - plain).abs().max() < 1e-5


@every_net
def test_gradients_flow_back_through_time(variant):
    net, clip = small_net(variant=variant).requires_grad_(True), make_clip(6).requires_grad_()
    run_clip(net, clip)[:, -1].square().mean().backward()
    by_frame = clip.grad.abs().amax((0, 2, 3, 4))
    assert (by_frame[4:] > 0).all()
    assert ((by_frame[:4] > 0) == (variant != "cnn")).all()
    assert all(weight.grad.abs().max() > 0 for weight in net.parameters())


@every_variant
def test_a_fresh_network_neither_dims_nor_swells_its_features(variant):
    torch.manual_seed(0)
    net, clip, seen = DTB(DTBConfig(variant=variant)), make_clip(3), []
    net.head.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with torch.no_grad():
        run_clip(net, clip)
    power = torch.stack(seen).square().mean() / clip.square().mean()
    assert 0.05 < power < 20


@pytest.mark.parametrize("variant", ["dtb", "blend"])
def test_a_fresh_network_learns(variant):
    net, clip = fresh_net(variant=variant, beta=0.5), make_clip(4)
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=3e-3), []
    for _ in range(60):
        loss = (run_clip(net, clip) - 0.5).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert (net.blend.beta - 0.5).abs() > 1e-3


@every_length
def test_a_unet_with_blending_starts_as_the_net_for_photos_that_it_adopts(inputs):
    photo = UNet(UNetConfig(inputs=1, **SMALL_UNET)).requires_grad_(False)
    nn.init.normal_(photo.head.weight, std=0.1)
    net, clip = fresh_net(variant="blend", inputs=inputs), make_clip(5)
    net.adopt(photo)
    alone = torch.stack([photo(frame) for frame in clip.unbind(1)], 1)
    restored = run_clip(net, clip)
    assert torch.allclose(restored[:, 0], alone[:, 0], atol=1e-6)
    net.blend.beta_logit.data.fill_(30.0)  # nothing of the frame before
    assert torch.allclose(run_clip(net, clip), alone, atol=1e-6)
    assert (restored - alone).abs().max() > 1e-4


def test_the_state_of_a_unet_with_blending_has_the_size_of_its_scales():
    net = small_net(variant="blend")
    _, state = net(torch.rand(2, 3, 3, 16, 20))
    parts = {name: part for name, part in state._asdict().items() if part is not None}
    shapes = {name: tuple(part.shape[1:]) for name, part in parts.items()}
    assert shapes == {"blended": (12, 4, 5), "features": (8, 8, 10)}
    assert shapes == net.state_shapes(16, 20)


@every_variant
@every_length
def test_a_blueprint_of_every_variant_survives_json(variant, inputs):
    plan = Blueprint("dtb", DTBConfig(variant=variant, inputs=inputs, residual=False, **SMALL))
    again = Blueprint.parse(*json.loads(json.dumps(plan.describe())))
    assert again == plan
    again.build().load_state_dict(plan.build().state_dict(), strict=True)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"variant": "rnn"}, "variant is 'rnn'; expected one of cnn, strcnn, dtb"),
        ({"inputs": 4}, "inputs is 4; expected 3, 5 or 7 frames"),
        ({"features": 0}, "features is 0; expected at least 1"),
        ({"decoder_blocks": -1}, "decoder_blocks is -1; expected at least 1"),
        ({"beta": 1.0}, "beta is 1.0; expected more than 0 and less than 1"),
        ({"beta": math.nan}, "beta is nan; expected more than 0 and less than 1"),
    ],
)
def test_what_is_no_config_is_refused_with_what_was_expected(config, said):
    with pytest.raises(ValueError, match=said):
        DTBConfig(**config)
    with pytest.raises(B2VError, match=f"config of a dtb network does not fit: {said}"):
        Blueprint.parse("dtb", config)


def test_models_for_video_are_made_of_one_network():
    models = {name for name, networks in MODELS.items() if VIDEO in networks}
    assert models == {"blend", "dtb", "dtb-strcnn", "dtb-cnn"}
    assert missing_roles([VIDEO]) == missing_roles([SEVEN]) == []
    assert missing_roles([VIDEO, "middle"]) == ["pair35", "pair26", "pair17"]


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Folder of shipped weights with a tiny model for video, one for photos, and their cards."""
    folder = tmp_path / "shipped"
    monkeypatch.setattr("b2v.files.shipped_dir", lambda: folder)
    apart = Blueprint("apart", UNetConfig(inputs=1, widths=(4, 8), blocks=(1, 1)))
    for name, role, plan in (
        ("dtb", VIDEO, Blueprint("dtb", small_net().config)),
        (PHOTO_MODEL, SEVEN, apart),
    ):
        state = small_net().state_dict() if role == VIDEO else plan.build().state_dict()
        path = folder / file_name(name, role)
        save_network(state, plan, role, path, note={"license": "CC0"})
        write_card(Card(name=name, license="MIT", networks=dict([card_entry(path)])), folder)
    return folder


def test_weights_for_video_are_found_by_name_folder_and_file(shipped):
    path = shipped / "dtb-video.safetensors"
    by_name, by_folder = load_video_model("dtb"), load_video_model("dtb", weights=shipped)
    by_file = load_video_model("nothing else is needed", weights=path)
    assert (by_name.name, by_name.license) == ("dtb", "MIT")
    assert (by_file.name, by_file.license) == ("dtb-video", "CC0")
    assert by_name.sha256 == by_folder.sha256 == by_file.sha256
    assert list(by_name.networks) == [VIDEO]
    assert [(model.name, model.problem) for model in list_models()] == [
        ("dtb", None),
        (PHOTO_MODEL, None),
    ]


def test_a_saved_network_restores_as_it_did(tmp_path):
    net, clip = small_net(variant="dtb", inputs=5), make_clip(6)
    path = tmp_path / "own.safetensors"
    plan = Blueprint("dtb", net.config)
    save_network(net.state_dict(), plan, VIDEO, path, half=False)
    loaded = load_video_model(weights=path).net
    assert loaded.config == net.config
    assert torch.equal(run_clip(loaded, clip), run_clip(net, clip))
    save_network(net.state_dict(), plan, VIDEO, path, half=True)
    rounded = load_video_model(weights=path).net
    assert (run_clip(rounded, clip) - run_clip(net, clip)).abs().max() < 0.01


def test_each_loader_refuses_the_models_of_the_other(shipped, tmp_path):
    video, photo = ("dtb-video.safetensors", f"{PHOTO_MODEL}-seven.safetensors")
    with pytest.raises(WeightsError, match=r"^dtb deblurs video; use `b2v deblur`, or -m maxim-1"):
        load_model("dtb")
    with pytest.raises(WeightsError, match=r"is for photos; use `b2v extract`, or -m blend"):
        load_video_model(PHOTO_MODEL)
    with pytest.raises(WeightsError, match=f"{video} deblurs video"):
        load_model(weights=shipped / video)
    with pytest.raises(WeightsError, match=f"{photo} is for photos"):
        load_video_model(weights=shipped / photo)
    assert load_model(weights=shipped / photo).name == f"{PHOTO_MODEL}-seven"
    middle, path = Blueprint("unet", UNetConfig(inputs=1, widths=(4,), blocks=(1,))), tmp_path / "m"
    save_network(middle.build().state_dict(), middle, "middle", path)
    with pytest.raises(WeightsError, match=r"has no middle network that .*m could replace"):
        load_model(weights=path)
