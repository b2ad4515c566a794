"""Where and how networks run."""

import pytest
import torch
from torch import nn

from b2v.errors import UsageError
from b2v.runtime import Runtime, choose, keep_large_blocks


def test_the_cpu_in_single_precision_computes_in_single_precision():
    runtime = choose("cpu", "fp32")
    assert (runtime.device.type, runtime.dtype, str(runtime)) == ("cpu", torch.float32, "cpu fp32")
    with runtime.autocast():
        assert nn.Conv2d(3, 2, 3)(torch.rand(1, 3, 16, 16)).dtype is torch.float32


def test_bf16_computes_convolutions_in_bf16_with_weights_left_as_they_are():
    runtime = choose("cpu", "bf16")
    net = runtime.place(nn.Conv2d(3, 2, 3))
    with runtime.autocast():
        assert net(torch.rand(1, 3, 16, 16)).dtype is torch.bfloat16
    assert net.weight.dtype is torch.float32


def test_networks_are_placed_in_the_layout_that_convolutions_are_fastest_in():
    net = choose("cpu", "fp32").place(nn.Conv2d(8, 8, 3))
    assert net.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_exactly_where_the_cpu_has_it(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    assert choose("cpu").precision == expected


def test_a_graphics_card_that_is_not_there_is_wrong_usage(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="device cuda:9: 2 CUDA devices found"):
        choose("cuda:9")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match="device cuda: 0 CUDA devices found"):
        choose("cuda")


def test_a_number_of_a_card_that_overflows_is_refused_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="cuda:99999"):
        choose("cuda:99999", "fp32")


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "cuda:-1", "meta", "banana"])
def test_an_unknown_device_is_refused_with_the_choices(device):
    with pytest.raises(UsageError, match="choose auto, cpu, cuda, cuda:N or mps") as caught:
        choose(device)
    assert repr(device) in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("precision", ["fp8", "", "float32", "FP32"])
def test_an_unknown_precision_is_refused_with_the_choices(precision):
    with pytest.raises(UsageError, match="choose auto, fp32, bf16 or fp16"):
        choose("cpu", precision)


def test_half_precision_is_refused_on_a_cpu():
    with pytest.raises(UsageError, match="fp16 is for GPUs") as caught:
        choose("cpu", "fp16")
    assert caught.value.exit_code == 2


def test_apple_gpus_are_refused_where_there_are_none(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match="device mps: no Apple GPU found"):
        choose("mps")


def test_auto_takes_the_cpu_where_there_is_nothing_else(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose("auto", "fp32") == Runtime(torch.device("cpu"), "fp32")


def test_keeping_large_blocks_changes_no_results():
    before = torch.ones(1 << 20).cumsum(0)[-1]
    keep_large_blocks()
    assert torch.equal(torch.ones(1 << 20).cumsum(0)[-1], before)
