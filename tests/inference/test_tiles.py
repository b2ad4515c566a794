"""Models that give all frames at once: tiles of any picture, without a seam."""

import pytest
import torch
from conftest import make_picture
from torch import nn

from b2v.errors import B2VError
from b2v.frames import Tiling
from b2v.inference.images import plan_for, restore
from b2v.inference.runtime import Plan, Runtime, run_frames, tiles_of
from b2v.metrics import psnr
from b2v.models import MODELS, Blueprint, assemble
from b2v.models.cascade import TILES
from b2v.models.unet import UNetConfig

FP32 = Runtime(torch.device("cpu"), "fp32")


def small_cascade(shuffle=2, widths=(6, 8, 10), blocks=(2, 1, 2)):
    """A cascade of U-Nets whose weights are all random, so that everything reaches everything."""
    nets = {}
    for role, (inputs, outputs) in zip(
        ("middle", "pair35", "pair26", "pair17"), ((1, 1), (2, 2), (3, 1), (3, 1)), strict=True
    ):
        config = UNetConfig(
            inputs=inputs, outputs=outputs, shuffle=shuffle, widths=widths, blocks=blocks
        )
        nets[role] = Blueprint("unet", config).build().eval().requires_grad_(False)
        for weight in nets[role].parameters():
            if weight.ndim > 1:
                nn.init.kaiming_normal_(weight)
                weight.mul_(0.5)
            else:
                nn.init.normal_(weight, std=0.1)
    return assemble(nets)


@pytest.mark.parametrize("size", [(150, 45), (160, 48)])
@pytest.mark.parametrize("frames", [7, 11])
@torch.inference_mode()
def test_in_tiles_a_photo_is_what_it_is_as_a_whole(monkeypatch, size, frames):
    net, blurry = small_cascade(), make_picture(*size)
    whole = restore(net, blurry, FP32, align=False, frames=frames).frames
    assert (whole - blurry).std() > 0.05
    monkeypatch.setattr("b2v.models.cascade.TILES", Tiling(96, 48, step=8))
    assert len(tiles_of(net, *size)) > 1
    found, pixels = torch.empty(frames, 3, *size), []
    run_frames(net, [blurry], FP32, found, done=pixels.append)
    difference = (found.clamp(0, 1) - whole).square()
    assert -10 * difference.mean().log10() >= 38
    assert (
        -10 * difference.mean((0, 1, 3)).max().log10() >= 28
    )  # of the worst row; random weights look further than trained ones
    assert sum(pixels) == sum(tile.height * tile.width for tile in tiles_of(net, *size))


@torch.inference_mode()
def test_a_given_middle_frame_goes_through_the_tiles(monkeypatch):
    monkeypatch.setattr("b2v.models.cascade.TILES", Tiling(64, 16, step=8))
    net, blurry, middle = small_cascade(), make_picture(160, 80), make_picture(160, 80, 1)
    found = run_frames(net, [blurry, middle], FP32, torch.empty(7, 3, 160, 80))
    assert torch.allclose(found[3], middle, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "tiling"), [("cascade", TILES), ("apart", TILES), ("jin2018", None), ("pairs", None)]
)
def test_what_depends_on_the_whole_picture_is_given_it(model, tiling):
    with torch.device("meta"):
        net = assemble({role: plan.build() for role, plan in MODELS[model].items()})
    assert net.tiling == tiling
    assert (len(tiles_of(net, 2000, 3000)) == 1) == (tiling is None)


def test_the_papers_networks_are_refused_in_a_line_where_the_whole_picture_does_not_fit():
    with torch.device("meta"):
        net = assemble({role: plan.build() for role, plan in MODELS["jin2018"].items()})
    assert plan_for(net, 2000, 3000, FP32, max_memory=40e9).peak > 2600 * 6e6
    with pytest.raises(B2VError, match=r"3000x2000 pixels need \d+\.\d GB of memory, and 4\.0 GB"):
        plan_for(net, 2000, 3000, FP32, max_memory=4e9)


def test_a_cascade_takes_24_megapixels_within_6_gib():
    with torch.device("meta"):
        net = assemble({role: plan.build() for role, plan in MODELS["cascade"].items()})
    assert plan_for(net, 4000, 6000, FP32, max_memory=6 * 2**30).peak < 6 * 2**30


@pytest.mark.parametrize("in_file", [False, True])
def test_frames_kept_in_half_precision_are_the_same_to_the_eye(monkeypatch, in_file):
    net, blurry = small_cascade(), make_picture(160, 48)
    whole = restore(net, blurry, FP32).frames
    plan = Plan(torch.float16, in_file, 0.0)
    monkeypatch.setattr("b2v.inference.images.make_plan", lambda *_, **__: plan)
    found = restore(net, blurry, FP32).frames
    assert found.dtype == torch.float16
    assert psnr(found.float(), whole).min() >= 65
