"""The benchmark: both routes do the same work, in turn, each where it disturbs nobody."""

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from b2v import bench
from b2v.bench import Ceiling, Setup, agreement, list_cases, measure, take_turns
from b2v.bench.machine import CHANNELS, Probe, cpu_name
from b2v.bench.meter import peak_bytes, seconds_of
from b2v.bench.routes import Case, Route, is_trained
from b2v.bench.worker import Worker
from b2v.errors import B2VError, UsageError, WeightsError

CPU = torch.device("cpu")
CEILING = Ceiling(
    conv_fp32_gflops=100.0, conv_bf16_gflops=400.0, conv_fp16_gflops=None, copy_gb_s=9.0
)
QUICK = {
    "extract": Case("extract", 31, 30, "unet", trained=False),
    "deblur": Case("deblur", 37, 25, "blend", trained=False),
    "train": Case("train", 32, 32, "cascade", trained=False, batch=2),
}


class Told:
    """Worker that gives known answers and keeps the order in which it was asked."""

    def __init__(self, name, log, **answers):
        self.name, self.log, self.answers = name, log, answers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.log.append((self.name, "left"))

    def ask(self, method):
        self.log.append((self.name, method))
        answer = self.answers[method]
        return answer.pop(0) if isinstance(answer, list) else answer


@pytest.fixture
def told(monkeypatch):
    """Measures with known workers; gives the log of what they were asked."""
    log = []
    answers = {
        False: {"seconds": [9.0, 4.0, 5.0], "first": np.full(4, 0.5, np.float32)},
        True: {"seconds": [1.0, 8.0, 2.0], "first": np.full(4, 0.6, np.float32)},
    }

    def worker(make, case, setup, ours):
        assert make is Route
        rest = {"peak_bytes": 2_000_000 + ours, "operations": 40 * 10**9, "command_seconds": 2.5}
        return Told("ours" if ours else "plain", log, **answers[ours], **rest)

    monkeypatch.setattr(bench, "Worker", worker)
    return log


# The order of things, and what is made of the numbers


def test_routes_are_timed_in_turn():
    log = []
    a, b = Told("a", log, seconds=[1.0, 2.0, 3.0]), Told("b", log, seconds=[4.0, 5.0, 6.0])
    assert take_turns((a, b), 3) == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert [name for name, _ in log] == ["a", "b", "a", "b", "a", "b"]


def test_both_routes_warm_up_before_any_is_timed_and_count_only_after_their_memory_is_read(told):
    list(measure([QUICK["extract"]], Setup("cpu", "fp32"), CEILING, repeats=3))
    asked = [method for _, method in told]
    assert asked[:2] == ["first", "first"]
    assert asked[2:8] == ["seconds"] * 6
    assert asked[8:] == ["peak_bytes", "peak_bytes", "operations", "left", "left"]


def test_a_row_holds_the_medians_and_what_follows_from_them(told):
    (row,) = measure([QUICK["deblur"]], Setup("cpu", "fp32"), CEILING, repeats=3)
    assert (row.seconds_plain, row.seconds, row.ratio, row.fps) == (5.0, 2.0, 2.5, 0.5)
    assert (row.command_fps, row.megapixels_per_s) == (0.4, 37 * 25 / 1e6 / 2)
    assert (row.gflop, row.fraction_of_ceiling) == (40.0, 0.2)  # 40 in 2 s of 100 a second
    assert (row.peak_memory_mb_plain, row.peak_memory_mb) == (2.0, 2.000001)
    assert row.agreement_db == pytest.approx(20.0, abs=1e-4)  # off by 0.1
    assert (row.task, row.size, row.model, row.trained) == ("deblur", "37x25", "blend", False)


@pytest.mark.parametrize(("precision", "fraction"), [("bf16", 0.05), ("fp16", None)])
def test_the_ceiling_is_that_of_the_precision(told, precision, fraction):
    (row,) = measure([QUICK["train"]], Setup("cuda", precision), CEILING, repeats=3)
    assert (row.fraction_of_ceiling, row.fps, row.size) == (fraction, None, "2x32x32")


def test_a_case_is_taken_only_when_the_one_before_is_done(told):
    def cases():
        told.append(("taken", "first"))
        yield QUICK["extract"]
        told.append(("taken", "second"))

    assert len(list(measure(cases(), Setup("cpu", "fp32"), CEILING, repeats=3))) == 1
    assert told[0] == ("taken", "first")
    assert told[-2:] == [("plain", "left"), ("taken", "second")]


def test_agreement_is_the_psnr_of_pictures_and_100_dB_at_most():  # noqa: N802
    still = np.full(8, 0.5, np.float32)
    assert agreement(still, still + np.float32(0.1)) == pytest.approx(20.0, abs=1e-4)
    assert agreement(still, still) == 100.0
    assert agreement(still, still + np.float32(1e-7)) == 100.0
    assert agreement(np.zeros(8, np.float32), still, peak=None) == -100.0


def test_agreement_of_gradients_does_not_depend_on_their_size():
    one, other = np.float32([3.0, -4.0]), np.float32([3.3, -4.4])
    assert agreement(one, other, peak=None) == pytest.approx(20.0, abs=1e-4)
    assert agreement(one / 1024, other / 1024, peak=None) == pytest.approx(20.0, abs=1e-4)


# What is measured


def test_all_tasks_are_measured_in_the_order_of_the_list_at_the_sizes_of_the_papers():
    sizes = [(case.task, case.size) for case in list_cases(model="jin2018")]
    assert sizes == [
        *(("extract", size) for size in ("568x320", "854x480", "1280x720")),
        *(("deblur", size) for size in ("640x480", "1280x720")),
        ("train", "4x128x128"),
    ]
    assert [c.task for c in list_cases(["train", "extract"], quick=True)] == ["extract", "train"]


def test_models_without_weights_here_are_measured_untrained(monkeypatch, tmp_path):
    monkeypatch.setattr("b2v.weights.places.shipped_dir", lambda: tmp_path)
    assert not is_trained("jin2018")
    (case,) = list_cases(["extract"], model="jin2018", quick=True)
    assert (case.model, case.trained) == ("jin2018", False)
    (tmp_path / "jin2018.json").write_text("{}")
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(WeightsError, match="jin2018"):  # they are here, and broken
        is_trained("jin2018")


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(WeightsError, match="no model 'nobody'"):
        list_cases(model="nobody")
    with pytest.raises(UsageError, match="dtb-cnn is for video"):
        list_cases(model="dtb-cnn")
    with pytest.raises(UsageError, match="unknown task 'sleep'; choose extract, deblur, train"):
        list_cases(["sleep"])
    assert [case.model for case in list_cases(["deblur"], model="nobody")] == ["blend", "blend"]


@pytest.mark.parametrize("task", QUICK)
@pytest.mark.parametrize(("precision", "least"), [("fp32", 50), ("bf16", 40)])
def test_both_routes_do_the_same(task, precision, least):
    case, setup = QUICK[task], Setup("cpu", precision, quick=True)
    plain, ours = Route(case, setup, False), Route(case, setup, True)
    expected, found = plain.first(), ours.first()
    assert expected.dtype == found.dtype == np.float32
    assert agreement(expected, found, peak=case.peak) >= least - 10 * (task == "train")
    if precision == "fp32":
        assert plain.operations() == ours.operations() > 0
    if task != "train":
        frames = 7 if task == "extract" else 1
        assert expected.shape == (frames * 3 * case.width * case.height,)
        assert expected.std() > 0.05


def test_networks_without_weights_change_their_input():
    route = Route(QUICK["deblur"], Setup("cpu", "fp32", quick=True), False)
    assert not np.array_equal(route.first(), route.first())  # the video goes on
    frames = Route(QUICK["extract"], Setup("cpu", "fp32", quick=True), False).first()
    assert abs(np.diff(frames.reshape(7, -1), axis=0)).max() > 1e-3


# How it is measured


def test_a_short_run_is_repeated_and_its_mean_is_given(monkeypatch):
    clock, runs = [0.0], []

    def run():
        runs.append(1)
        clock[0] += 0.01

    monkeypatch.setattr("b2v.bench.meter.time.perf_counter", lambda: clock[0])
    assert seconds_of(run, CPU, 0.035) == pytest.approx(0.01)
    assert len(runs) == 4
    runs.clear()
    seconds_of(run, CPU)
    assert runs == [1]


def test_peak_memory_is_no_less_than_what_is_held_and_does_not_fall():
    block = np.ones(8_000_000)
    held = resident()
    peak = peak_bytes(CPU)
    assert block.nbytes < held - 1e6 < peak < 100e9  # the system counts in lots
    del block
    assert peak_bytes(CPU) >= peak


def resident():
    """Bytes of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_the_machine_is_described_and_has_rates():
    probe = Probe(Setup("cpu", "fp32", quick=True))
    machine, ceiling = probe.machine(), probe.ceiling()
    assert (machine.device, machine.precision, machine.gpu) == ("cpu", "fp32", None)
    assert (machine.torch, machine.threads) == (torch.__version__, torch.get_num_threads())
    assert 1 <= machine.cores <= os.cpu_count()
    assert machine.cpu
    assert ceiling.conv_fp32_gflops > 0.1
    assert ceiling.copy_gb_s > 0.1
    assert ceiling.conv_fp16_gflops is None


def test_the_rate_is_the_best_of_all_channel_counts_and_layouts(monkeypatch):
    probe = Probe(Setup("cpu", "fp32", quick=True))
    taken = iter([1.0] * (2 * len(CHANNELS) - 1) + [0.5])
    monkeypatch.setattr(probe, "_median", lambda run: next(taken))
    assert probe._convolve("fp32") == pytest.approx(2 * 9 * 160**2 * 16 * 16 / 0.5 / 1e9)


def test_the_name_of_the_processor_is_that_of_its_maker(tmp_path):
    table = tmp_path / "cpuinfo"
    table.write_text("processor\t: 0\nmodel name\t: Fast Chip 9000: Pro\nflags\t: fpu\n")
    assert cpu_name(table) == "Fast Chip 9000: Pro"
    table.write_text("processor : 0\n")
    assert cpu_name(table) == cpu_name(tmp_path / "nowhere") != ""


def test_a_process_says_what_is_wrong_and_answers_on_and_its_end_is_one_line():
    case = Case("deblur", 20, 20, "nobody", trained=True)
    with Worker(Route, case, Setup("cpu", "fp32"), False) as worker:
        for _ in range(2):
            with pytest.raises(WeightsError, match="no model 'nobody'"):
                worker.ask("first")
        (process,) = multiprocessing.active_children()
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(B2VError, match=r"ended with code -9; was there too little memory\?"):
            worker.ask("first")
    assert multiprocessing.active_children() == []
