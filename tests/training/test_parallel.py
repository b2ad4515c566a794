"""Several processes: parts of a batch, and two of them that train as one does."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run_main
from conftest import make_picture
from torch import Tensor

from b2v.data.datasets import BankConfig
from b2v.errors import UsageError
from b2v.training.logs import ALONE, Team, own_device, place_in_team

LR = 1e-3


def test_the_parts_of_all_processes_make_up_the_batch():
    parts = [Team(rank, 4).part(12) for rank in range(4)]
    assert [list(part) for part in parts] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert list(ALONE.part(5)) == [0, 1, 2, 3, 4]
    with pytest.raises(UsageError, match="batch 6 does not suit 4 processes; take a multiple of 4"):
        Team(0, 4).part(6)


def test_one_process_alone_needs_no_others():
    values, net = torch.rand(3), torch.nn.Linear(2, 2)
    assert ALONE.mean(values) is values
    assert ALONE.share(net) is net
    assert (ALONE.leads, Team(1, 2).leads) == (True, False)
    assert place_in_team() == ALONE


def test_each_process_takes_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [own_device(name) for name in ("auto", "cuda", "cpu")] == ["auto", "cuda", "cpu"]
    for name, value in (("RANK", "3"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert place_in_team() == Team(3, 4)
    chosen = [own_device(name) for name in ("auto", "cuda", "cuda:0", "cpu")]
    assert chosen == ["cuda:1", "cuda:1", "cuda:0", "cpu"]


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """Folder of whole banks of two clips and of one, of textures that move two pixels a frame."""
    size = BankConfig().size
    for seed, (name, count) in enumerate((("train", 2), ("validation", 1))):
        scenes = [make_picture(size, size + 20, seed + 2 * n) for n in range(count)]
        moved = [[scene[..., 2 * n : 2 * n + size] for n in range(7)] for scene in scenes]
        sharp = torch.tensor(np.array(moved))  # [count, 7, 3, S, S]
        clips = torch.cat([sharp.mean(1, keepdim=True), sharp], 1)
        folder = tmp_path / "bank" / name
        folder.mkdir(parents=True)
        np.save(folder / "clips.npy", (clips * 255).round().byte().numpy())
        config = asdict(BankConfig(clips=count, seed=seed))
        (folder / "bank.json").write_text(json.dumps(config, indent=1))
        (folder / "done").write_text(str(count))
    return tmp_path / "bank"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def torchrun(*args: object) -> subprocess.CompletedProcess[str]:
    """Start `b2v train ARGS` in two processes."""
    python = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    place = ["--master-addr", "127.0.0.1", "--master-port", str(free_port()), "-m", "--", "b2v"]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(
        [*python, *place, "train", *map(str, args)],  # -- lets b2v have its --run
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def net_of(run: Path) -> dict[str, Tensor]:
    return torch.load(run / "stage1" / "last.pt", weights_only=True)["net"]


def test_two_processes_learn_what_one_does(tmp_path, bank, capsys):
    """Both see half of each batch; only the order in which floating point adds is another.

    Adam divides a gradient by its own size, so where that is next to nothing, rounding may turn
    its sign: no weight may differ by more than the rate, and nearly all by a hundredth of it.
    """
    tail = ("--set", "warmup=1", "--set", "workers=0")
    tail = ("--bank", bank, "--clips", 2, "--device", "cpu", "--precision", "fp32", *tail)
    args = ("--steps", 2, "--batch", 4, "--crop", 16, "--lr", LR, *tail)
    one, two = tmp_path / "one", tmp_path / "two"
    assert run_main(capsys, "train", "--run", one, *args).code == 0
    shared = torchrun("--run", two, *args)
    assert shared.returncode == 0, shared.stderr
    assert shared.stdout == f"{two}/weights\n"  # said once, by the process that leads
    assert shared.stderr.count("step      2  loss") == 1
    ours, theirs = net_of(one), net_of(two)
    start = torch.cat([(ours[name] - theirs[name]).abs().flatten() for name in ours])
    assert start.max() <= 2 * LR
    assert (start <= 0.01 * LR).float().mean() > 0.99
    losses = [(run / "stage1" / "metrics.csv").read_text().splitlines()[1:] for run in (one, two)]
    assert [len(rows) for rows in losses] == [1, 1]
    ours, theirs = (float(rows[0].split(",")[1]) for rows in losses)
    assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("rank", [0, 1])
def test_what_is_wrong_is_said_once(tmp_path, bank, capsys, monkeypatch, rank):
    """The process that leads says it, before any waits for the others."""
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "2")
    args = ("--bank", bank, "--clips", 2, "--run", tmp_path / "run", "--batch", 3)
    ran = run_main(capsys, "train", *args)
    line = "b2v: batch 3 does not suit 2 processes; take a multiple of 2\n"
    assert (ran.code, ran.out, ran.err) == (2, "", "" if rank else line)
