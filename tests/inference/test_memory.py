"""Memory plans: what is free, and how a picture keeps within it."""

import os
from pathlib import Path

import pytest
import torch

from b2v.errors import B2VError
from b2v.inference.runtime import Plan, free_bytes, make_plan, peak_bytes

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _little_held(monkeypatch):
    monkeypatch.setattr("b2v.inference.runtime.resident_bytes", lambda: 0.5e9)
    monkeypatch.setattr("b2v.inference.runtime.free_bytes", lambda: 10e9)


def plan(height=4000, width=6000, limit=None, work=1e9, device=CPU):
    return make_plan(work, 7, height, width, device=device, limit=limit)


def test_24_megapixels_fit_into_6_gib_with_frames_in_full_precision():
    found = plan(limit=6 * 2**30)
    assert (found.dtype, found.in_file) == (torch.float32, False)
    assert 2e9 < found.peak < 6 * 2**30


def test_frames_are_kept_smaller_where_the_memory_is_and_then_in_a_file():
    full = plan(limit=100e9)
    kinds = [(p.dtype, p.in_file) for p in (full, plan(limit=full.peak - 1))]
    half = plan(limit=full.peak - 1)
    assert kinds == [(torch.float32, False), (torch.float16, False)]
    assert full.peak - half.peak == pytest.approx(21 * 2 * 24e6)
    assert plan(limit=half.peak - 1).in_file


def test_without_a_limit_60_percent_of_what_is_free_is_used():
    most = plan(8000, 12000).peak
    assert most <= 0.5e9 + 0.6 * 10e9
    with pytest.raises(B2VError, match=r"may be used"):
        plan(40000, 12000)


def test_what_cannot_fit_is_told_with_what_it_takes():
    with pytest.raises(B2VError, match=r"6000x4000 pixels need 1\.9 GB of memory, and 1\.0 GB may"):
        plan(limit=1e9)


def test_what_networks_take_of_a_gpu_is_not_taken_of_the_process():
    on_cpu, on_gpu = (plan(work=4e9, limit=20e9, device=torch.device(d)) for d in ("cpu", "cuda"))
    assert on_cpu.peak - on_gpu.peak == 4e9 - 60 * 24e6


@pytest.mark.parametrize("in_file", [False, True])
def test_frames_can_be_kept_in_a_file_that_has_no_name(tmp_path, monkeypatch, in_file):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    room = Plan(torch.float16, in_file, 0.0).store(7, 5, 4)
    room.fill_(0.5)
    assert (room.shape, room.dtype, float(room.sum())) == ((7, 3, 5, 4), torch.float16, 210)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_before_the_run(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(B2VError, match=r"no room for 5\.0 GB .*No space left.*TMPDIR"):
        Plan(torch.float16, True, 0.0).store(7, 10000, 12000)


# What is free


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def machine(tmp_path):
    write(tmp_path / "proc", meminfo="MemTotal: 32000000 kB\nMemAvailable: 16000000 kB\n")
    return tmp_path


def look(folder):
    return free_bytes(folder / "proc", folder / "groups")


def test_what_the_machine_has_is_free_where_no_group_limits_it(machine):
    assert look(machine) == 16e6 * 1024
    write(machine / "proc" / "self", cgroup="0::/a/b\n")
    write(machine / "groups" / "a" / "b", memory__max="max\n", memory__current="5\n")
    assert look(machine) == 16e6 * 1024


def test_the_tightest_of_the_control_groups_decides(machine):
    write(machine / "proc" / "self", cgroup="0::/a/b\n")
    write(
        machine / "groups" / "a" / "b", memory__max="8000000000\n", memory__current="1000000000\n"
    )
    stat = "anon 1\ninactive_file 200000000\n"
    write(
        machine / "groups" / "a",
        memory__max="4000000000\n",
        memory__current="3000000000\n",
        memory__stat=stat,
    )
    assert look(machine) == 1.2e9


def test_control_groups_of_the_first_version_are_read_too(machine):
    write(machine / "proc" / "self", cgroup="4:cpu:/x\n3:memory:/job\n0::/\n")
    group = machine / "groups" / "memory" / "job"
    write(group, memory__limit_in_bytes="2000000000\n", memory__usage_in_bytes="2500000000\n")
    assert look(machine) == 0


def test_peak_memory_is_no_less_than_what_is_held_and_does_not_fall():
    block = torch.ones(8_000_000)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    held, peak = pages * os.sysconf("SC_PAGE_SIZE"), peak_bytes(CPU)
    assert block.nbytes < held - 4e6 < peak < 100e9  # the system counts in lots
    del block
    assert peak_bytes(CPU) >= peak - 4e6


def test_where_the_system_does_not_tell_nothing_is_known(tmp_path):
    assert free_bytes(tmp_path, tmp_path) is None
