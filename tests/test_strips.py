"""In strips: every pixel is that of the whole picture, in memory that does not grow with it."""

import pytest
import torch
from conftest import make_picture
from torch import nn

from b2v.errors import B2VError
from b2v.inference.images import plan_for, restore
from b2v.inference.runtime import Plan, Runtime
from b2v.inference.strips import Convolution, Rows, appetite, goes_in_strips, in_strips
from b2v.metrics import psnr
from b2v.models import MODELS, Blueprint, assemble
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


def joined(net, blurry, rows, **given):
    """Run a picture in strips and put the frames together, as `net` gives them."""
    parts = {}
    for k, top, part in in_strips(net, blurry, rows, **given):
        known = parts.setdefault(k, [])
        assert top == sum(p.shape[2] for p in known)
        known.append(part)
    return torch.stack([torch.cat(parts[k], 2) for k in sorted(parts)], 1)


@pytest.mark.parametrize("frames", [7, 11])
@pytest.mark.parametrize("rows", [8, 24, 64, 400])
@torch.inference_mode()
def test_strips_give_what_the_whole_picture_gives(rows, frames):
    net, blurry = small_cascade(), make_picture(192, 48)[None]
    whole = net(blurry, frames=frames)
    assert (whole - blurry[:, None]).std() > 0.05
    assert torch.allclose(joined(net, blurry, rows, frames=frames), whole, atol=2e-5)


@pytest.mark.parametrize(("shuffle", "levels"), [(1, 2), (3, 3), (4, 1)])
@torch.inference_mode()
def test_other_shapes_of_networks_go_in_strips_too(shuffle, levels):
    net = small_cascade(shuffle, (6, 8, 10)[:levels], (1, 1, 1)[:levels])
    blurry = make_picture(8 * net.multiple, 2 * net.multiple)[None]
    found = joined(net, blurry, net.multiple)
    assert torch.allclose(found, net(blurry), atol=2e-5)


@torch.inference_mode()
def test_a_given_middle_frame_goes_through():
    net, blurry = small_cascade(), make_picture(160, 80)[None]
    middle = make_picture(160, 80, 1)[None]
    found = joined(net, blurry, 16, middle=middle)
    assert torch.equal(found[:, 3], middle)
    assert torch.allclose(found, net(blurry, middle), atol=5e-4)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 1, 1), (3, 1, 4), (5, 1, 1), (2, 2, 1)]
)
def test_a_convolution_in_strips_of_any_height_is_that_of_the_whole(kernel, stride, dilation):
    pad = dilation * (kernel // 2) if kernel % 2 else 0
    conv = nn.Conv2d(3, 4, kernel, stride, pad, dilation).requires_grad_(False)
    maps, strips, parts, top = torch.randn(2, 3, 24, 10), Convolution(conv), [], 0
    for rows in (1, 2, 7, 3, 11):
        top += rows
        parts.append(strips(maps[:, :, top - rows : top], top == 24))
    assert torch.allclose(torch.cat(parts, 2), conv(maps), atol=1e-5)


def test_rows_that_wait_come_out_in_order_and_are_not_held_longer():
    waiting = Rows()
    for top in range(0, 12, 4):
        waiting.push(torch.arange(top, top + 4.0).view(1, 1, 4, 1))
    assert (len(waiting), waiting.pop(5).flatten().tolist()) == (12, [0, 1, 2, 3, 4])
    assert len(waiting) == 7
    assert waiting._parts[0].untyped_storage().nbytes() == 7 * 4
    assert waiting.pop(7).flatten().tolist() == [5, 6, 7, 8, 9, 10, 11]


@torch.inference_mode()
def test_what_waits_does_not_grow_with_the_height(monkeypatch):
    net = small_cascade()

    def most(height):
        held = 0
        waiting = []
        monkeypatch.setattr(
            Rows, "__init__", lambda rows: waiting.append(rows) or setattr(rows, "_parts", [])
        )
        for _ in in_strips(net, torch.rand(1, 3, height, 16), 16):
            held = max(held, sum(p.nbytes for rows in waiting for p in rows._parts))
        return held

    assert most(1600) <= 1.02 * most(800)


@pytest.mark.parametrize(
    ("model", "goes"), [("cascade", True), ("jin2018", False), ("pairs", False)]
)
def test_a_cascade_of_u_nets_goes_in_strips_and_no_other(model, goes):
    with torch.device("meta"):
        net = assemble({role: plan.build() for role, plan in MODELS[model].items()})
    assert goes_in_strips(net) == goes


def test_the_papers_networks_are_refused_in_a_line_where_the_whole_picture_does_not_fit():
    with torch.device("meta"):
        net = assemble({role: plan.build() for role, plan in MODELS["jin2018"].items()})
    assert plan_for(net, 2000, 3000, FP32, max_memory=40e9).whole
    with pytest.raises(B2VError, match=r"3000x2000 pixels need \d+\.\d GB of memory, and 4\.0 GB"):
        plan_for(net, 2000, 3000, FP32, max_memory=4e9)


def test_the_appetite_grows_with_the_width_and_with_more_frames():
    net = small_cascade()
    cases = (7, 50, 100), (7, 50, 200), (13, 90, 100)
    narrow, wide, more = (appetite(net, *case) for case in cases)
    assert wide.fixed == 2 * narrow.fixed
    assert wide.row == 2 * narrow.row == 2 * more.row
    assert more.fixed == 2 * narrow.fixed


@pytest.fixture
def planned(monkeypatch):
    """Have `restore` follow a plan."""

    def follow(rows, dtype=torch.float32, in_file=False):
        plan = Plan(rows, False, dtype, in_file, 0.0)
        monkeypatch.setattr("b2v.inference.images.make_plan", lambda *_, **__: plan)

    return follow


@pytest.mark.parametrize("size", [(150, 45), (160, 48)])
@pytest.mark.parametrize(
    ("dtype", "in_file", "least"), [(torch.float32, False, 100), (torch.float16, True, 70)]
)
def test_a_photo_in_strips_is_the_photo_as_a_whole_without_a_seam(
    planned, size, dtype, in_file, least
):
    net, blurry = small_cascade(), make_picture(*size)
    whole = restore(net, blurry, FP32, align=False)
    planned(16, dtype, in_file)
    found = restore(net, blurry, FP32, align=False)
    assert (found.dtype, found.shape) == (dtype, whole.shape)
    difference = (found.float() - whole).square()
    assert -10 * difference.mean().log10() >= least
    assert -10 * difference.mean((0, 1, 3)).max().log10() >= least - 3  # of the worst row
    aligned = restore(net, blurry, FP32)
    assert psnr(aligned.float(), restore(net, blurry, FP32).float()).min() >= least


def test_strips_are_halved_until_the_memory_will_do(planned, monkeypatch):
    net, blurry, tried = small_cascade(), make_picture(160, 48), []

    def run(net, pictures, rows, **rest):
        tried.append(rows)
        if rows > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")
        return in_strips(net, pictures, rows, **rest)

    monkeypatch.setattr("b2v.inference.strips.in_strips", run)
    planned(104)
    found = restore(net, blurry, FP32, align=False)
    assert tried == [104, 48, 24, 8]
    planned(160)
    monkeypatch.setattr("b2v.inference.strips.in_strips", in_strips)
    assert torch.allclose(found, restore(net, blurry, FP32, align=False), atol=2e-5)
