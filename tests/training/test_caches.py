"""What a run trains on is what was asked for: named, refused, drawn and found again."""

import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace
from functools import partial

import pytest
from command_line import assert_one_line, run_main
from conftest import make_picture

from b2v.data.datasets import BankConfig
from b2v.errors import DatasetError, TrainingError, UsageError, WeightsError
from b2v.media.images import write_photo
from b2v.training.caches import draw_bank, plan_bank, roughly
from b2v.training.config import TrainConfig

CONFIG = TrainConfig(steps=3, batch=2, crop=16)


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Folders `data` and `other` of two photographs each, and small clips of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("b2v.training.caches.BankConfig", partial(BankConfig, size=32))
    for name, seeds in (("data", (0, 1)), ("other", (2, 3))):
        (tmp_path / name).mkdir()
        for seed in seeds:
            write_photo(make_picture(80, 90, seed), tmp_path / name / f"{seed % 2}.png")
    return tmp_path


def plan(places, *data, config=CONFIG, **changes):
    how = {"clips": 4, "held_out": 1, **changes}
    return plan_bank([config], [places / name for name in data], places / "bank", **how)


def test_other_data_or_settings_of_the_draw_are_another_bank(places):
    first = plan(places, "data")
    others = [
        plan(places, "other"),
        plan(places, "data", "other"),
        plan(places, "data", clips=5),
        plan(places, "data", aperture="coded"),
    ]
    assert len({bank.folder for bank in [first, *others]}) == 5
    assert {bank.folder.parent for bank in [first, *others]} == {places / "bank"}
    assert plan(places, "data") == first
    config = TrainConfig(steps=900, lr=1.0, crop=16)
    assert plan(places, "data", config=config) == first  # how it is learned plays no part


def test_middle_frames_alone_are_for_networks_that_give_no_others(places):
    for name in ("input", "target"):
        shutil.copytree(places / "data", places / "pairs" / name)
    bank = plan(places, "pairs")
    assert not bank.plans[0].sides
    assert plan(places, "pairs", config=replace(CONFIG, model="unet")).folder == bank.folder
    for needed in ({"config": replace(CONFIG, stage=2)}, {"aperture": "coded"}):
        with pytest.raises(DatasetError, match="only its middle frame is kept"):
            plan(places, "pairs", **needed)
    assert plan(places, "data") == plan(places, "data", config=replace(CONFIG, stage=2))


def test_a_bank_goes_with_its_files_not_with_their_place(places):
    before = plan(places, "data").folder
    (places / "data").rename(places / "moved")
    assert plan(places, "moved").folder == before
    photo = places / "moved" / "0.png"
    os.utime(photo, (1, 1))
    changed = plan(places, "moved").folder
    assert changed != before
    photo.rename(photo.with_name("2.png"))
    assert plan(places, "moved").folder not in (before, changed)


def test_no_more_clips_are_drawn_than_are_looked_at(places):
    assert plan(places, "data", clips=None).plans[0].clips == 6
    long = TrainConfig(steps=10_000, crop=16)
    assert plan(places, "data", clips=None, config=long).plans[0].clips == BankConfig().clips


def test_clips_are_as_large_as_the_crops(places):
    for crop, size in ((16, 32), (40, 40)):
        bank = plan(places, "data", config=TrainConfig(steps=3, batch=2, crop=crop))
        assert [p.size for p in bank.plans] == [size, size]


def test_a_bank_is_drawn_once_and_found_again(places):
    bank = plan(places, "data")
    said = [notice.text for notice in draw_bank(bank)]
    assert bank.is_drawn
    assert "drawing 5 clips" in said[1]
    assert said[-1].endswith("100 % drawn")
    assert list(draw_bank(plan(places, "data"))) == []
    named = plan_bank([CONFIG], [], bank.folder, clips=4, held_out=1)
    assert named.folders == bank.folders


def test_how_long_it_takes_is_said_while_it_is_drawn(places, monkeypatch):
    monkeypatch.setattr("b2v.data.clip_cache.SECURED_EVERY", 1)
    *_, early, _, _, last = draw_bank(plan(places, "data"))
    assert "40 % drawn, about" in early.text
    assert early.passing
    assert not last.passing
    assert [roughly(s) for s in (3, 80, 600, 9000)] == ["3 s", "80 s", "10 min", "2.5 h"]


def test_drawing_stops_when_time_is_up_and_goes_on(places, monkeypatch):
    monkeypatch.setattr("b2v.data.clip_cache.SECURED_EVERY", 2)
    bank = plan(places, "data")
    with pytest.raises(TrainingError, match="minutes are over with 2 of 5 clips drawn; the same"):
        list(draw_bank(bank, end=time.monotonic()))
    said = [notice.text for notice in draw_bank(bank) if notice.text.endswith("drawn")]
    assert "80 % drawn" in said[0]
    assert bank.is_drawn


def test_a_disk_that_is_too_small_is_refused_before_it_is_full(places, monkeypatch):
    usage = namedtuple("usage", "free")(1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DatasetError, match=r"takes 0.0 GB, and 0.0 are free; take fewer --clips"):
        next(draw_bank(plan(places, "data")))


def test_data_that_are_not_there_are_refused_though_a_bank_is_complete(places):
    bank = plan(places, "data")
    list(draw_bank(bank))
    (places / "empty").mkdir()
    for name, words in (("nowhere", "no such folder"), ("empty", "holds no photographs")):
        with pytest.raises(DatasetError, match=f"{name}: {words}"):
            plan(places, name)
    with pytest.raises(UsageError, match="bank: no bank of these settings there"):
        plan(places)


@pytest.fixture
def b2v(capsys):
    """`b2v train ARGS` of one short step."""
    small = ("--steps", 1, "--batch", 1, "--crop", 16, "--set", "workers=0", "--device", "cpu")
    return lambda *args: run_main(capsys, "train", *small, *args)


def test_a_second_experiment_runs_on_its_own_data(b2v, places):
    for name in ("data", "other", "data"):
        ran = b2v("--data", name, "--run", f"{len(list(places.iterdir()))}")
        assert ran.code == 0, ran.err
    assert "drawing" not in ran.err
    assert len(list((places / "runs" / "bank").iterdir())) == 2
    assert_one_line(b2v("--data", "nowhere", "--run", "new", "-q"), 1, "nowhere: no such folder")


def test_a_run_goes_on_with_the_data_that_it_was_begun_on(b2v, places):
    assert b2v("--data", "data", "--run", "run").code == 0
    for how in ("--resume", "--stage=all"):
        ran = b2v("--data", "other", "--run", "run", how, "-q")
        assert_one_line(ran, 1, "run/stage1: was begun on other data", "--data")
    assert len(list((places / "runs" / "bank").iterdir())) == 1
    assert b2v("--data", "data", "--run", "run", "--resume").code == 0


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--stage", 2), 1, "middle.safetensors: missing; train the stages before stage 2"),
        (("--start", "gone.safetensors"), 3, "gone.safetensors"),
        (("--run", "begun"), 1, "holds a run already"),
        (("--set", "perceptual=1"), 3, "VGG16"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_drawn(
    b2v, places, monkeypatch, args, code, words
):
    def missing():
        raise WeightsError("VGG16 is not here")

    monkeypatch.setattr("b2v.training.loop.load_features", missing)
    (places / "begun" / "stage1").mkdir(parents=True)
    (places / "begun" / "stage1" / "last.pt").touch()
    assert_one_line(b2v("--data", "data", *args, "-q"), code, words)
    assert not (places / "runs").exists()


def test_minutes_count_what_is_drawn(b2v, places):
    ran = b2v("--data", "data", "--clips", 90, "--minutes", 0, "-q")
    assert_one_line(ran, 1, "the minutes are over with 20 of 113 clips drawn")


def test_a_run_keeps_its_recipe_and_can_be_done_again_by_it(b2v, places, capsys):
    ran = b2v("--data", "data", "--run", "run", "--lr", 0.001, "--set", "ema=0.5")
    assert (ran.code, ran.err.splitlines()[-1][-4:]) == (0, "100%")
    again = run_main(capsys, "train", "run/recipe.toml", "--run", "again", "-q")
    assert (again.code, again.out) == (0, "again/weights\n")
    name = "weights/cascade-middle.safetensors"
    assert (places / "run" / name).read_bytes() == (places / "again" / name).read_bytes()


def test_a_folder_that_is_not_there_is_refused_before_torch_is_loaded(places):
    code = (
        "import sys; from b2v.cli import main; sys.argv = ['b2v', 'train', '--data', 'gone']\n"
        "try: main()\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    said = "b2v: gone: no such folder; --data takes folders of training media\n"
    assert (done.returncode, done.stderr) == (1, said)
