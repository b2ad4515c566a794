"""MAXIM: parity with what the authors' weights gave, half precision, stages, sizes."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from b2v.errors import ShapeError, WeightsError
from b2v.files import shipped_dir
from b2v.media.images import read_photo
from b2v.metrics import psnr
from b2v.models import MAXIM_STAGES, MODELS, Maxim, assemble
from b2v.models.maxim import MaximConfig, MaximStage
from b2v.weights.checkpoints import file_name
from b2v.weights.store import load_model

ASSETS = Path(__file__).parents[2] / "b2v" / "assets"

needs_maxim = pytest.mark.skipif(
    not all((shipped_dir() / file_name("maxim", role)).is_file() for role in MAXIM_STAGES),
    reason=f"the weights of MAXIM are not in {shipped_dir()}",
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Beside another busy program, two threads take ten times as long as one here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shipped():
    return load_model("maxim-3").net.net


def tiny(*stages, **shape):
    """Stages of four channels whose weights neither vanish nor explode."""
    shape = {"features": 4, "groups": 1, "bottlenecks": 1, **shape}
    nets = []
    for number in stages:
        net = MaximStage(MaximConfig(stage=number, **shape, ends=number == 3))
        for weight in net.parameters():
            torch.nn.init.normal_(weight, std=0.5 * weight[0].numel() ** -0.5)
        nets.append(net.eval().requires_grad_(False))
    return nets


def ruled(net):
    """Weights by a rule, the same on every machine."""
    for name, weight in net.named_parameters():
        values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(weight.shape)
        if weight.ndim == 1:
            values = 0.1 * values + (("norm" in name) and name.endswith("weight"))
        else:
            values = values / np.sqrt(np.prod(weight.shape[1:]))
        weight.data.copy_(torch.from_numpy(values.astype(np.float32)))
    return net.requires_grad_(False)


def test_three_stages_give_what_they_gave_when_they_were_compared_with_the_authors():
    """The file is of the code that gave the authors' pictures with the authors' weights.

    In fp32 those differed by 1e-6, 3e-6 and 2e-5 at most, stage by stage.
    """
    net = ruled(Maxim(*tiny(1, 2, 3, features=16, groups=2, bottlenecks=2)))
    axes = torch.linspace(0, 1, 64), torch.linspace(0, 1, 128)
    y, x = torch.meshgrid(*axes, indexing="ij")
    waves = [torch.sin(f * x * (1 + y)) * torch.cos(g * y) for f, g in ((9, 4), (30, 17), (55, 3))]
    pictures = net.pictures(0.5 + 0.4 * torch.stack(waves)[None])
    with np.load(Path(__file__).parent / "maxim_pictures.npz") as known:
        for picture, role in zip(pictures, MAXIM_STAGES, strict=True):
            expected = torch.from_numpy(known[role])
            assert expected.std() > 0.1
            assert (picture[0, :, ::5, ::5] - expected).abs().max() < 2e-4 * expected.abs().max()


@needs_maxim
def test_half_precision_changes_no_photo_by_more_than_can_be_seen(shipped):
    """Measured: 59.2, 53.8 and 53.5 dB; 56.0, 54.6 and 54.3 on four times the pixels."""
    blurry = read_photo(ASSETS / "demo.jpg").pixels[None, :, 160:224, 160:224]
    with torch.inference_mode():
        exact = shipped.pictures(blurry)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = [picture.float() for picture in shipped.pictures(blurry)]
    for one, other in zip(exact, rounded, strict=True):
        assert psnr(one[0], other[0]) > 45


@needs_maxim
def test_one_may_stop_after_the_first_stage(shipped):
    first, blurry = load_model("maxim-1").net.net, torch.rand(1, 3, 64, 128)
    with torch.inference_mode():
        assert torch.equal(first(blurry), shipped.pictures(blurry)[0])


def test_the_network_has_as_many_parameters_as_the_authors():
    with torch.device("meta"):
        net = assemble({role: plan.build() for role, plan in MODELS["maxim-3"].items()})
    assert sum(weight.numel() for weight in net.parameters()) == 22_207_605


def test_pictures_of_any_multiple_of_64_come_out_at_their_size():
    net = Maxim(*tiny(1, 2, 3))
    for height, width in ((64, 128), (192, 64)):
        blurry = torch.rand(2, 3, height, width)
        assert [picture.shape for picture in net.pictures(blurry)] == 3 * [blurry.shape]


def test_a_batch_equals_its_pictures_one_by_one():
    net, blurry = Maxim(*tiny(1, 2, 3)), torch.rand(2, 3, 64, 64)
    alone = torch.cat([net(picture[None]) for picture in blurry])
    assert (alone[0] - alone[1]).abs().max() > 0.1
    assert (net(blurry) - alone).abs().max() < 1e-5  # sums run in another order


@pytest.mark.parametrize(
    ("size", "said"), [((96, 64), "height 96"), ((64, 100), "width 100"), ((63, 1), "height 63")]
)
def test_other_sizes_are_refused(size, said):
    with pytest.raises(ShapeError, match=f"{said} is not a multiple of 64; pad first"):
        Maxim(*tiny(1))(torch.rand(1, 3, *size))


@pytest.mark.parametrize(
    "wrong", [{"stage": 0}, {"stage": 4}, {"features": 0}, {"groups": 9}, {"bottlenecks": 2.5}]
)
def test_a_config_of_no_stage_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*, expected 1 to"):
        MaximConfig(**wrong)


def test_stages_that_do_not_go_together_are_refused():
    one, two, three = tiny(1, 2, 3)
    (wide,) = tiny(2, features=8)
    assert isinstance(assemble({"stage2": two, "stage1": one}).net, Maxim)
    for networks, said in (
        ({"stage1": two}, "the network for stage1 is MaximConfig.stage=2"),
        ({"stage1": one, "stage2": wide}, "the network for stage2 is .*features=8"),
        ({"stage1": one, "stage2": three, "stage3": three}, "the network for stage2 is .*stage=3"),
        ({"stage1": torch.nn.Identity()}, "the network for stage1 is no stage of MAXIM"),
    ):
        with pytest.raises(WeightsError, match=said):
            assemble(networks)
