"""Long runs killed at any moment: data sets, banks and training end as they would have."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_picture
from forks import REPOSITORY, posix
from test_synth_dataset import write_frames
from test_train import assert_equal
from video_samples import make_video

from b2v.data.datasets import BankConfig
from b2v.media.images import read_photo, write_photo
from b2v.training.logs import TABLE, Journal, Report
from b2v.weights.checkpoints import load_network

SYNTH = ("synth-dataset", "walk", "film.mp4", "-q", "-o")
TRAIN = (
    *("train", "--stage", "1", "--bank", "bank", "--clips", "1", "--steps", "3", "--batch", "1"),
    *("--crop", "32", "--lr", "1e-3", "--set", "workers=0", "--set", "validate_every=1", "-q"),
    "--run",
)


@pytest.fixture
def work(driver, tmp_path):
    """An empty folder, and a driver that works in it."""
    driver.folder = tmp_path
    return tmp_path, driver


def seen(folder):
    """All files of a folder that are not hidden, with their bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    shown = [p for p in files if not any(n.startswith(".") for n in p.relative_to(folder).parts)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in shown}


def records(folder):
    """Whole lines of the manifest by the windows that they tell of."""
    path = folder / "manifest.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    told = [json.loads(line) for line in lines if line.endswith("\n")]
    return {(one["sequence"], one["window"]): one for one in told}


def check_dataset(work, moments, jobs):
    """Kill the making of a dataset; each time, what is there is right, and it goes on to all."""
    folder, driver = work
    write_frames(folder / "walk", 28, size=(48, 64))
    make_video(folder / "film.mp4", [20 * n for n in range(21)])
    seconds = driver.run(*SYNTH, "whole", "-j", jobs)
    whole, told = seen(folder / "whole"), records(folder / "whole")
    assert len(told) == 7
    chance = random.Random(jobs)
    for number in range(moments):
        driver.kill(chance.uniform(0.02, 1) * seconds, *SYNTH, "out", "-j", jobs)
        found = seen(folder / "out") if (folder / "out").is_dir() else {}
        pictures = {path: data for path, data in found.items() if path.endswith(".png")}
        assert pictures.items() <= whole.items(), number
        for window, record in records(folder / "out").items():
            assert record == told[window]
            assert record["blurry"] in pictures
        driver.run(*SYNTH, "out", "-j", jobs)
        assert seen(folder / "out") == whole
        shutil.rmtree(folder / "out")


@posix
def test_a_killed_dataset_goes_on_to_the_same_bytes(work):
    check_dataset(work, 2, "1")


@posix
@pytest.mark.long
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_dataset_killed_at_twenty_moments_goes_on_to_the_same_bytes(work, jobs):
    check_dataset(work, 20, jobs)


def test_a_dataset_killed_before_its_card_was_whole_is_begun(work):
    folder, driver = work
    write_frames(folder / "walk", 7, size=(48, 64))
    (folder / "out").mkdir()
    (folder / "out" / ".dataset.json.part").write_text('{"ver')
    driver.run("synth-dataset", "walk", "-q", "-o", "out", "-j", "1")
    assert len(records(folder / "out")) == 1


def write_bank(folder, side=48):
    """Write two whole banks of one clip each, of a texture that moves by two pixels a frame."""
    for seed, name in enumerate(("train", "validation")):
        scene = make_picture(side, side + 20, seed)
        sharp = torch.stack([scene[..., 2 * n : 2 * n + side] for n in range(7)])
        clips = torch.cat([sharp.mean(0, keepdim=True), sharp])[None]
        place = folder / name
        place.mkdir(parents=True)
        np.save(place / "clips.npy", (clips * 255).round().byte().numpy())
        (place / "bank.json").write_text(json.dumps(asdict(BankConfig(clips=1, seed=seed))))
        (place / "done").write_text("1")


def learned(run):
    """All that a run has come to, but for how long it took."""
    stage = run / "stage1"
    with (stage / TABLE).open(newline="") as file:
        rows = [(row["step"], row["loss"], row["gain"]) for row in csv.DictReader(file)]
    return torch.load(stage / "last.pt", weights_only=True), rows, seen(run / "weights")


def check_training(work, moments):
    """Kill training; each time, what is there can be read, and it goes on bit for bit."""
    folder, driver = work
    write_bank(folder / "bank")
    seconds = driver.run(*TRAIN, "whole")
    meant, rows, exported = learned(folder / "whole")
    assert meant["step"] == len(rows) == 3
    chance, run, steps = random.Random(3), folder / "run", set()
    for _ in range(moments):
        driver.kill(chance.uniform(0.05, 1) * seconds, *TRAIN, "run")
        for path in (run / "weights").glob("[!.]*.safetensors"):
            load_network(path)
        last = run / "stage1" / "last.pt"
        kept = last.exists()
        steps |= {torch.load(last, weights_only=True)["step"]} if kept else set()
        driver.run(*TRAIN, "run", *(["--resume"] if kept else []))
        found, found_rows, found_exported = learned(run)
        assert_equal(found, meant)
        assert found_rows == rows
        assert found_exported == exported
        shutil.rmtree(run)
    return steps


@posix
def test_killed_training_goes_on_bit_for_bit(work):
    check_training(work, 1)


@posix
@pytest.mark.long
def test_training_killed_at_twenty_moments_goes_on_bit_for_bit(work):
    assert check_training(work, 20) == {1, 2, 3}


def test_a_line_of_the_table_that_was_not_finished_is_dropped(tmp_path):
    journal = Journal(tmp_path, 0)
    journal.add(Report(1, 0.5, 1e-3, 1.0, 0.0))
    journal.add(Report(2, 0.4, 1e-3, 2.0, 0.0))
    whole = (tmp_path / TABLE).read_text()
    (tmp_path / TABLE).write_text(f"{whole}3,0.")
    Journal(tmp_path, 3)
    assert (tmp_path / TABLE).read_text() == whole
    for torn in ("", "step,lo"):
        (tmp_path / TABLE).write_text(torn)
        Journal(tmp_path, 0)
        assert not (tmp_path / TABLE).exists()


BANK = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import numpy as np
import torch
from b2v.data import clip_cache

clip_cache.SECURED_EVERY = 8

@dataclass(frozen=True)
class Config:
    FILE: ClassVar = "clips.npy"
    clips: int = 60
    shape: ClassVar = (50, 50)

def draw(index):
    time.sleep(0.01)
    values = np.random.default_rng(index).integers(0, 255, (50, 50)).astype(np.uint8)
    return torch.from_numpy(values)

for folder in sys.argv[1:]:
    for done in clip_cache.fill(Path(folder), Config(), draw):
        print(folder, done, flush=True)
"""


def fill_banks(*folders, after=None):
    """Fill banks, or kill that once so many samples of the last are done; say how many were."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "B2V_MARK": str(folders[-1])}
    command, said = [sys.executable, "-c", BANK, *map(str, folders)], []
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            folder, done = line.rsplit(" ", 1)
            said += [int(done)] if folder == str(folders[-1]) else []
            if after is not None and said and said[-1] >= after:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == (0 if after is None else -signal.SIGKILL)
    return said


def others_of(folder):
    """Processes that were started for `folder` and are still there."""
    mark, found = f"B2V_MARK={folder}".encode(), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes():
                found.append(place.name)
        except OSError:
            continue
    return found


@posix
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for workers in /proc")
def test_a_killed_bank_goes_on_and_leaves_no_workers(tmp_path):
    whole, bank = tmp_path / "whole", tmp_path / "bank"
    assert fill_banks(whole, bank, after=16)[-1] >= 16
    deadline = time.monotonic() + 20
    while others_of(bank) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert others_of(bank) == []
    assert fill_banks(bank)[0] >= 24
    for name in ("clips.npy", "bank.json", "done"):
        assert (bank / name).read_bytes() == (whole / name).read_bytes()


@posix
@pytest.mark.long
def test_training_killed_while_its_bank_is_drawn_goes_on_to_the_same_weights(work):
    folder, driver = work
    for seed in range(3):
        (folder / "photos").mkdir(exist_ok=True)
        write_photo(make_picture(400, 420, seed), folder / "photos" / f"{seed}.png")
    command = (*TRAIN[:4], "bank", *TRAIN[5:], "run", "--data", "photos")
    seconds = driver.run(*command)
    whole = seen(folder / "bank"), learned(folder / "run")
    assert read_photo(folder / "run" / "stage1" / "strip.png").pixels.isfinite().all()
    chance, drawing = random.Random(5), 0
    for _ in range(20):
        for name in ("bank", "run"):
            shutil.rmtree(folder / name, ignore_errors=True)
        driver.kill(chance.uniform(0.05, 1) * seconds, *command)
        begun = (folder / "run" / "stage1" / "last.pt").exists()
        drawing += not list((folder / "bank").glob("*/validation/done"))
        driver.run(*command, *(["--resume"] if begun else []))
        assert seen(folder / "bank") == whole[0]
        assert_equal(learned(folder / "run")[0], whole[1][0])
    assert 0 < drawing < 20
