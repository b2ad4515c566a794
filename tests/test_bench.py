"""The benchmark: what is measured, and what is made of the numbers."""

import json

import pytest
import torch
from command_line import assert_one_line, plain_surroundings, run_main, write_tiny_prior

from b2v import bench
from b2v.bench import Case, Machine, cpu_name, list_cases, matrix_rate, measure, run_case
from b2v.errors import UsageError
from b2v.inference.runtime import Runtime

FP32 = Runtime(torch.device("cpu"), "fp32")
MACHINE = Machine("Fast Chip", 8, 4, "2.0", "cpu", None, "fp32", 100.0)


def test_photos_and_videos_are_measured_at_each_quality():
    listed = [(c.task, c.model, c.width, c.height) for c in list_cases()]
    assert listed == [
        *(("extract", model, 512, 320) for model in ("maxim-half", "maxim-1", "maxim-3")),
        *(("extract", model, 1280, 720) for model in ("maxim-half", "maxim-1", "maxim-3")),
        *(("deblur", model, 640, 480) for model in ("blend", "maxim-1", "maxim-3")),
        *(("deblur", model, 1280, 720) for model in ("blend", "maxim-1", "maxim-3")),
        ("train", "cascade", 128, 128),
    ]
    assert list_cases(model="dtb", sizes=[(64, 48)]) == [Case("deblur", "dtb", 64, 48)]
    assert list_cases(["deblur"], "unet", [(64, 48)]) == [Case("deblur", "unet", 64, 48)]
    assert list_cases(["train", "extract"], sizes=[(4000, 3000)])[1:] == [
        *(Case("extract", model, 4000, 3000) for model in ("maxim-1", "maxim-3")),
        Case("train", "cascade", 128, 128),
    ]
    assert list_cases(["extract", "middle"], "jin2018", [(64, 48), (80, 60)]) == [
        Case(task, "jin2018", *size)
        for task in ("extract", "middle")
        for size in [(64, 48), (80, 60)]
    ]
    with pytest.raises(UsageError, match="dtb is for --task deblur"):
        list_cases(["extract"], "dtb")


@pytest.mark.parametrize(
    "case",
    [
        Case("deblur", "dtb", 37, 25),
        Case("middle", "jin2018", 37, 25),  # by random weights
        Case("train", "cascade", 32, 32),
    ],
    ids=lambda c: c.task,
)
def test_a_case_takes_time_memory_and_operations(case):
    threads = torch.get_num_threads()
    seconds, peak, operations = run_case(case, "cpu", "fp32", threads, repeats=2)
    assert 0 < seconds < 60
    assert 5e7 < peak < 1e11
    pixels = case.pictures * case.width * case.height
    assert operations > 1000 * pixels


def test_operations_are_counted_as_two_for_a_multiply_add():
    """A step of training takes three times what a network of 2.85 M parameters does at a pixel."""
    few, many = (
        run_case(Case("train", "cascade", side, side), "cpu", "fp32", 1, 1)[2] for side in (16, 32)
    )
    assert many == pytest.approx(4 * few, rel=0.01)


def test_a_long_case_is_timed_once(monkeypatch):
    taken = []
    monkeypatch.setattr(bench, "_seconds", lambda *_: taken.append(61.0) or 61.0)
    assert run_case(Case("deblur", "dtb", 20, 20), "cpu", "fp32", 1, 5)[0] == 61
    assert len(taken) == 1


def test_the_rate_is_that_of_the_fastest_product(monkeypatch):
    seconds = iter([2.0, 0.5, 1.0, 3.0, 4.0])
    monkeypatch.setattr(bench, "_seconds", lambda *_: next(seconds))
    assert matrix_rate(FP32, side=64) == 2 * 64**3 / 0.5


def test_the_name_of_the_processor_is_that_of_its_maker(tmp_path):
    table = tmp_path / "cpuinfo"
    table.write_text("processor\t: 0\nmodel name\t: Fast Chip 9000: Pro\nflags\t: fpu\n")
    assert cpu_name(table) == "Fast Chip 9000: Pro"
    table.write_text("processor : 0\n")
    assert cpu_name(table) == cpu_name(tmp_path / "nowhere") != ""


def test_a_row_follows_from_what_was_measured(monkeypatch):
    class Pool:
        def __init__(self, *_):
            pass

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

        def submit(self, run, case, *how):
            assert (run, how) == (run_case, ("cpu", "fp32", torch.get_num_threads(), 3))
            return self

        def result(self):
            return 2.0, 3_000_000, 40 * 10**9

    monkeypatch.setattr(bench, "ProcessPoolExecutor", Pool)
    (row,) = measure([Case("train", "cascade", 100, 50)], FP32, MACHINE)
    assert (row.size, row.seconds, row.megapixels_per_s) == ("4x100x50", 2.0, 0.01)
    assert (row.peak_memory_mb, row.gflop, row.share_of_rate) == (3.0, 40.0, 0.2)


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path):
    """`b2v(*args)` with a tiny prior as the fast model."""
    write_tiny_prior(tmp_path / "weights", "unet")
    plain_surroundings(monkeypatch, tmp_path, tmp_path / "weights")
    return lambda *args: run_main(capsys, *args)


def test_the_command_measures_in_a_process_of_its_own(b2v):
    args = ("bench", "-m", "unet", "--size", "70x50", "--repeats", 1, "--precision", "fp32")
    ran = b2v(*args, "--json", "-q")
    assert (ran.code, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert list(said["machine"]) == [
        *("cpu", "cores", "threads", "torch", "device", "gpu", "precision", "matrix_gflops"),
    ]
    (row,) = said["rows"]
    assert (row["task"], row["model"], row["size"]) == ("extract", "unet", "70x50")
    assert 50 < row["peak_memory_mb"] < 5000
    assert row["seconds"] > 0
    assert 0 < row["share_of_rate"] < 2


def test_the_table_has_a_line_a_row(b2v, monkeypatch):
    row = bench.Row("deblur", "blend", "640x480", 0.5, 0.6144, 812.3, 148.24, 0.25)
    monkeypatch.setattr(bench, "look_at", lambda _: MACHINE)
    monkeypatch.setattr(bench, "measure", lambda cases, *_, **__: [row])
    ran = b2v("bench", "-m", "blend", "--size", "640x480")
    first, head, line = ran.out.splitlines()
    assert first.startswith(
        "Fast Chip, 8 cores, 4 threads, torch 2.0, cpu fp32, matrix products 100"
    )
    assert head.split() == ["task", "model", "size", "s", "MP/s", "MB", "GFLOP", "of", "rate"]
    assert line.split() == [
        *("deblur", "blend", "640x480", "0.5", "0.614", "812", "148.2", "25%"),
    ]
    assert ran.err == "deblur blend 640x480 ...\n"


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (["--task", "sleep"], 2, "'sleep' is not one of 'extract', 'middle', 'deblur'"),
        (["-m", "nobody", "--size", "32x32", "-q", "--json"], 3, "there is no model 'nobody'"),
        (["-m", "dtb", "--task", "extract"], 2, "dtb is for --task deblur"),
        (["--size", "large"], 2, "--size large"),
        (["--size", "12x99"], 2, "--size 12x99"),
        (["--repeats", "0"], 2, "--repeats"),
        (["--device", "banana"], 2, "unknown device 'banana'"),
        (["--precision", "fp8"], 2, "unknown precision 'fp8'"),
    ],
)
def test_what_cannot_be_done_is_one_line(b2v, args, code, word):
    assert_one_line(b2v("bench", *args), code, word)
