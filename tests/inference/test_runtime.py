"""Where and how networks run."""

import pytest
import torch
from torch import nn

from b2v.errors import UsageError
from b2v.inference.runtime import (
    Runtime,
    choose,
    is_finite,
    is_out_of_memory,
    keep_large_blocks,
    tried,
)


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


# Half precision on trial

ON_TRIAL = Runtime(torch.device("cpu"), "bf16", on_trial=True)


def off_by(error, log):
    """A run whose half precision is off by so much."""

    def run(runtime):
        log.append(runtime.precision)
        return torch.full((7, 3, 4, 4), 0.5 + (error if runtime.precision == "bf16" else 0))

    return run


@pytest.mark.parametrize(("error", "expected"), [(0.005, "bf16"), (0.006, "fp32"), (0.0, "bf16")])
def test_half_precision_is_kept_where_it_agrees_to_45_db(tmp_path, error, expected):
    log = []
    for _ in range(2):  # 0.005 is 46.0 dB, 0.006 is 44.4
        found = tried(ON_TRIAL, off_by(error, log), "net", tmp_path / "cache" / "tried.json")
        assert (found.precision, found.on_trial) == (expected, False)
    assert log == ["fp32", "bf16"]  # once
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["tried.json"]


def test_each_network_is_tried_by_itself(tmp_path):
    log, record = [], tmp_path / "tried.json"
    tried(ON_TRIAL, off_by(0.1, log), "one", record)
    assert tried(ON_TRIAL, off_by(0.0, log), "another", record).precision == "bf16"
    assert tried(ON_TRIAL, off_by(0.0, log), "one", record).precision == "fp32"
    assert len(log) == 4


@pytest.mark.parametrize("spoilt", ["", "[1, 2]", "{"])
def test_a_record_that_is_spoilt_or_cannot_be_written_costs_time_alone(tmp_path, spoilt):
    log = []
    (tmp_path / "tried.json").write_text(spoilt)
    assert tried(ON_TRIAL, off_by(0.0, log), "net", tmp_path / "tried.json").precision == "bf16"
    nowhere = tmp_path / "tried.json" / "record.json"
    assert tried(ON_TRIAL, off_by(0.1, log), "net", nowhere).precision == "fp32"


def test_what_was_asked_for_is_not_tried(tmp_path, monkeypatch):
    asked = choose("cpu", "bf16")
    assert tried(asked, None, "net", tmp_path / "tried.json") is asked
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert choose("cpu", "auto") == ON_TRIAL
    assert not choose("cpu", "bf16").on_trial


def test_a_sum_sees_what_is_not_finite():
    values = torch.zeros(5, dtype=torch.bfloat16)
    assert is_finite(values)
    for bad in (float("inf"), float("-inf"), float("nan")):
        values[2] = bad
        assert not is_finite(values)


def test_lack_of_memory_is_known_in_every_way_that_torch_tells_it():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("sizes do not match"))
