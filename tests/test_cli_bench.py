"""`b2v bench` through `main()`, at its quick sizes and with tiny networks."""

import json
import os

import pytest
from test_cli_extract import assert_one_line, plain_surroundings, run_main, write_tiny_prior

from b2v import bench
from b2v.bench import Ceiling, Machine, Row
from b2v.defaults import FAST_MODEL
from b2v.models import PRIOR
from b2v.weights import file_name

MACHINE_KEYS = ["cpu", "cores", "threads", "torch", "device", "gpu", "precision"]
CEILING_KEYS = ["conv_fp32_gflops", "conv_bf16_gflops", "conv_fp16_gflops", "copy_gb_s"]
ROW_KEYS = [
    *("task", "size", "model", "trained", "seconds_plain", "seconds", "ratio", "fps"),
    *("command_fps", "megapixels_per_s", "gflop"),
    *("fraction_of_ceiling", "peak_memory_mb_plain", "peak_memory_mb", "agreement_db"),
]


class Inside:
    """Stands for `Worker`, without a process of its own."""

    def __init__(self, make, *args):
        self.made = make(*args)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, method):
        return getattr(self.made, method)()


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path):
    """`b2v(*args)` with a tiny prior as the default model."""
    write_tiny_prior(tmp_path / "weights", FAST_MODEL)
    plain_surroundings(monkeypatch, tmp_path, tmp_path / "weights")
    return lambda *args: run_main(capsys, *args)


def test_json_of_all_tasks_has_every_key(b2v, monkeypatch):
    monkeypatch.setattr(bench, "Worker", Inside)
    ran = b2v("bench", "--quick", "--json", "--precision", "fp32")
    assert (ran.code, ran.out.count("\n")) == (0, 1)
    said = json.loads(ran.out)
    assert list(said) == ["machine", "ceiling", "rows"]
    assert list(said["machine"]) == MACHINE_KEYS
    assert list(said["ceiling"]) == CEILING_KEYS
    assert [list(row) for row in said["rows"]] == [ROW_KEYS] * 3
    rows = {row["task"]: row for row in said["rows"]}
    assert list(rows) == ["extract", "deblur", "train"]
    assert rows["extract"]["trained"]
    assert not rows["train"]["trained"]
    assert [row["fps"] is None for row in rows.values()] == [True, False, True]
    assert [row["command_fps"] is None for row in rows.values()] == [True, False, True]
    assert 0 < rows["deblur"]["command_fps"] < 2 * rows["deblur"]["fps"] + 100
    for row in rows.values():
        assert row["megapixels_per_s"] > 0
        assert row["agreement_db"] >= 50
        assert row["ratio"] == pytest.approx(row["seconds_plain"] / row["seconds"], rel=2e-3)
        assert row["gflop"] > 0


def test_routes_run_in_processes_of_their_own_and_agree(b2v):
    ran = b2v("bench", "--quick", "--json", "--task", "extract", "--precision", "fp32", "-q")
    assert (ran.code, ran.err) == (0, "")
    (row,) = json.loads(ran.out)["rows"]
    assert (row["task"], row["model"], row["size"]) == ("extract", FAST_MODEL, "70x50")
    assert row["agreement_db"] >= 50
    assert row["fraction_of_ceiling"] > 0
    assert 50 < row["peak_memory_mb"] < 5000
    assert 50 < row["peak_memory_mb_plain"] < 5000


def test_table_shows_machine_ceiling_rows_and_what_is_untrained(b2v, monkeypatch):
    machine = Machine("Fast Chip", 8, 4, "2.0", "cuda", "Big [bold] Card", "fp16")
    ceiling = Ceiling(
        conv_fp32_gflops=350.4, conv_bf16_gflops=None, conv_fp16_gflops=2000.0, copy_gb_s=12.34
    )
    row = Row(
        "deblur",
        "640x480",
        "blend",
        False,
        3.0,
        0.5,
        6.0,
        2.0,
        1.8,
        0.61,
        148.2,
        0.25,
        None,
        812.3,
        61.5,
    )
    monkeypatch.setattr(bench, "look_at", lambda setup: (machine, ceiling))
    monkeypatch.setattr(bench, "measure", lambda cases, *_, repeats: [row for _ in cases][:1])
    ran = b2v("bench", "--task", "deblur")
    assert ran.code == 0
    first, second, _, head, line, *rest = ran.out.splitlines()
    assert first == "Big [bold] Card, Fast Chip, 8 cores, 4 threads, torch 2.0, cuda fp16"
    assert second == "at best: convolutions fp32 350, fp16 2000 GFLOP/s, copies 12.3 GB/s"
    assert head.split()[:2] == ["task", "size"]
    expected = [
        "deblur",
        "640x480",
        "3",
        "0.5",
        "6.00",
        "2",
        "1.8",
        "0.61",
        "148.2",
        "25%",
        "-",
        "812",
        "61.5",
    ]
    assert line.split() == expected
    assert "networks: deblur blend, untrained" in rest
    assert ran.err.splitlines() == [
        "measuring what the machine can do at best ...",
        "measuring deblur 640x480 (blend) ...",
        "measuring deblur 1280x720 (blend) ...",
    ]


def test_options_reach_the_core(b2v, monkeypatch):
    seen = []

    def measure(cases, setup, ceiling, *, repeats):
        seen.append(([case.task for case in cases], setup, repeats))
        return []

    monkeypatch.setattr(bench, "look_at", lambda setup: (Machine(*"abcdefg"), Ceiling(1, 1, 1, 1)))
    monkeypatch.setattr(bench, "measure", measure)
    args = ("--task", "train", "--task", "deblur", "--threads", "3", "--precision", "bf16")
    assert b2v("bench", *args, "--repeats", "9", "--device", "cpu", "--json").code == 0
    assert b2v("bench", "--quick", "--repeats", "9", "--json").code == 0
    (tasks, setup, repeats), (all_tasks, quick, once) = seen
    assert (tasks, repeats) == (["deblur", "deblur", "train"], 9)
    assert (setup.device, setup.precision, setup.threads) == ("cpu", "bf16", 3)
    assert not setup.quick
    assert (all_tasks, once, quick.quick, quick.threads) == (list(bench.TASKS), 1, True, None)


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (["--task", "sleep"], 2, "'sleep' is not one of 'extract', 'deblur', 'train'"),
        (["-m", "nobody"], 3, "there is no model 'nobody'"),
        (["-m", "dtb"], 2, "dtb is for video"),
        (["--repeats", "0"], 2, "--repeats"),
        (["--threads", "0"], 2, "--threads"),
        (["--device", "banana"], 2, "unknown device 'banana'"),
        (["--precision", "fp8"], 2, "unknown precision 'fp8'"),
    ],
)
def test_what_cannot_be_done_is_one_line_before_anything_is_measured(b2v, args, code, word):
    assert_one_line(b2v("bench", *args), code, word)


def test_damaged_weights_are_one_line(b2v, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "Worker", Inside)
    path = tmp_path / "weights" / file_name(FAST_MODEL, PRIOR)
    path.write_bytes(path.read_bytes()[:-8] + os.urandom(8))
    ran = b2v("bench", "--quick", "--task", "extract", "-q")
    assert_one_line(ran, 3, path.name, "sha256")
