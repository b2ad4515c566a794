"""Studies with tiny networks: equal budgets, going on where one stopped, tables that add up."""

import csv
import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import make_picture
from test_cli_extract import assert_one_line, run_main
from test_evaluate import moving, write_window
from test_evaluate_video import save_video
from test_train import SMALL as TINY_NET
from test_train import TINY

import b2v.study.run
import b2v.train
from b2v.color import to_linear
from b2v.data import BankConfig, open_clips
from b2v.entries import open_entries
from b2v.errors import DatasetError, UsageError
from b2v.journal import Notice, Report
from b2v.media import read_photo, write_photo
from b2v.metrics import psnr, reblur
from b2v.models import MODELS, SEVEN, VIDEO, Blueprint
from b2v.models.apart import ApartConfig
from b2v.models.dtb import DTBConfig
from b2v.models.unet import UNetConfig
from b2v.recipes import check
from b2v.report import can_draw, draw_chart
from b2v.runtime import Runtime
from b2v.sequences import SequenceConfig
from b2v.study import Job, Scored, run_study, studies, with_settings
from b2v.study.scoring import blurred_anew
from b2v.study.tables import chart, table
from b2v.weights import load_network
from b2v.windows import find_windows, read_samples

CPU = Runtime(torch.device("cpu"), "fp32")
FAST = {"crop": 16, "batch": 2, "warmup": 1, "validate_every": 1, "lr": 2e-3, "ema": 0.5}
PAIR = Blueprint("unet", UNetConfig(inputs=2, outputs=2, **TINY_NET))
SMALL_VIDEO = {"stem": 8, "features": 4, "encoder_blocks": 1, "decoder_blocks": 1}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch, tmp_path):
    """Have tiny networks under the names of the real ones, and little to validate on."""
    monkeypatch.setitem(MODELS, "cascade", TINY)
    pairs = {**TINY, "pair35": PAIR, "pair26": PAIR, "pair17": PAIR}
    monkeypatch.setitem(MODELS, "pairs", pairs)
    monkeypatch.setitem(MODELS, "apart", {SEVEN: Blueprint("apart", ApartConfig(**TINY_NET))})
    for variant, name in (("cnn", "dtb-cnn"), ("strcnn", "dtb-strcnn"), ("dtb", "dtb")):
        config = DTBConfig(variant=variant, **SMALL_VIDEO)
        monkeypatch.setitem(MODELS, name, {VIDEO: Blueprint("dtb", config)})
    monkeypatch.setattr(b2v.train, "REPORT_EVERY", 1)
    monkeypatch.setattr("b2v.study.banks.HELD_OUT", 1)
    monkeypatch.setattr("b2v.study.banks.BankConfig", partial(BankConfig, size=32))
    sequences = partial(SequenceConfig, size=32, frames=3)
    monkeypatch.setattr("b2v.study.banks.SequenceConfig", sequences)
    monkeypatch.setattr(b2v.study.run, "PROBE", 2)
    monkeypatch.setattr("b2v.study.tables.draw_chart", lambda *_, **__: None)  # a second each
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def places(tmp_path):
    """Folders with photographs to train on, windows and videos to score on."""
    for seed in range(2):
        (tmp_path / "photos").mkdir(exist_ok=True)
        write_photo(make_picture(260, 260, seed), tmp_path / "photos" / f"{seed}.png")
    sharp = moving(height=40, width=48)
    write_window(tmp_path / "windows", sharp, sharp[3])
    (tmp_path / "videos").mkdir()
    save_video(tmp_path / "videos" / "pan.mkv", 12)
    return tmp_path


def job_of(places, folder="out", **changes):
    usual = {"steps": 2, "clips": 2, "taus": (3, 5), "workers": 0}
    on = changes.pop("on", "windows")
    return Job((places / "photos",), places / on, places / folder, **{**usual, **changes})


def small(name, **changes):
    video = {"frames": 3} if name == "dtb-variants" else {}
    return with_settings(studies()[name], {**FAST, **video, **changes})


def scored(events):
    return [event for event in events if isinstance(event, Scored)]


def test_the_rows_of_a_study_differ_in_what_is_compared_and_nothing_else():
    for name, apart in (
        ("dtb-variants", {"model"}),
        ("coded", set()),
        ("jin-ablation", {"model", "pair", "forcing", "see_middle"}),
    ):
        configs = [row.stages[0] for row in studies()[name].rows if row.stages]
        for config in configs:
            check(config, 192, 13)
            differing = {k for k in vars(config) if vars(config)[k] != vars(configs[0])[k]}
            assert differing <= apart


def test_each_network_of_the_ablation_is_trained_in_all_its_stages():
    rows = {row.name: len(row.stages) for row in studies()["jin-ablation"].rows}
    assert rows == {
        **{"independent": 1, "global": 1, "pair": 4, "pair + middle": 4},
        **{"sequential": 4, "teacher forcing": 4},
    }


def test_what_tells_rows_apart_cannot_be_set():
    assert small("coded", crop=32).rows[2].stages[0].crop == 32
    for name, key, value in (("jin-ablation", "pair", "pair"), ("coded", "steps", 5)):
        with pytest.raises(UsageError, match="its rows differ in it"):
            with_settings(studies()[name], {key: value})
    for key in ("run", "stage2.steps"):
        with pytest.raises(UsageError, match="cannot be set in a study"):
            with_settings(studies()["coded"], {key: 1})


def test_blur_is_made_anew_of_the_same_light(places):
    (sample,) = read_samples(find_windows(places / "windows"))
    (plain,) = blurred_anew([sample], "standard")
    (seen,) = blurred_anew([sample], "coded")
    assert torch.equal(plain.blurry, reblur(sample.sharp).clamp(0, 1))
    assert torch.equal(plain.sharp, seen.sharp)
    light = [to_linear(x.blurry, "gamma2.2").mean() for x in (plain, seen)]
    assert light[1] == pytest.approx(float(light[0]), rel=0.02)
    assert psnr(seen.blurry, plain.blurry) < 40


@pytest.fixture
def shipped(monkeypatch):
    """Let the model that comes with the package be one that does nothing."""
    net = TINY["middle"].build()
    entry = SimpleNamespace(net=net, name="b2v", protocol="middle")
    real = open_entries

    def find(model, weights, protocol):
        return real(model, weights, protocol) if weights else [entry]

    monkeypatch.setattr("b2v.study.scoring.open_entries", find)


def test_coded_and_standard_blur_are_learned_from_the_same_frames(places, shipped, monkeypatch):
    study, job = small("coded"), job_of(places)
    rows = scored(run_study(study, job, CPU))
    assert [row.row.name for row in rows] == [row.name for row in study.rows]
    plain, seen = (
        torch.from_numpy(open_clips(places / "out" / name / "train").copy())
        for name in ("bank", "bank-coded")
    )
    assert torch.equal(plain[:, 1:], seen[:, 1:])
    assert not torch.equal(plain[:, 0], seen[:, 0])
    assert sorted(p.name for p in (places / "out" / "runs").iterdir()) == ["coded", "standard"]
    nothing = [row.summaries[0]["nothing"]["middle"] for row in rows]
    assert nothing[0] == nothing[2] != nothing[1] == nothing[3] == nothing[4]
    assert rows[0].summaries[0]["middle"] == pytest.approx(nothing[0])
    scores = [(row.row, row.summaries) for row in rows]
    records = table(study, scores)
    assert [r["gain"] == pytest.approx(r["restored"] - r["blurry"]) for r in records] == [True] * 5
    if can_draw():
        draw_chart(chart(study, scores), places / "points.png")
        assert read_photo(places / "points.png").pixels.std() > 0.05

    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(places / "out" / "weights"))
    (entry,) = open_entries("middle-coded", [])
    assert (entry.name, entry.protocol) == ("middle-coded", "middle")
    trained = load_network(places / "out/runs/coded/weights/cascade-middle.safetensors").module
    for name, weight in trained.state_dict().items():
        assert torch.equal(weight, entry.net.state_dict()[name])


def test_a_study_goes_on_where_it_was_stopped(places, shipped, monkeypatch):
    study = small("coded")
    whole = scored(run_study(study, job_of(places, "whole", steps=4), CPU))
    events = run_study(study, job_of(places, steps=4), CPU)
    for event in events:
        if isinstance(event, Report) and event.step == 2:
            events.close()
    again = list(run_study(study, job_of(places, steps=4), CPU))
    assert [e.step for e in again if isinstance(e, Report)] == [3, 4, 1, 2, 3, 4]
    assert [s.before for s in scored(again)] == [True, True, False, False, False]
    for one, other in zip(whole, scored(again), strict=True):
        assert one.summaries == other.summaries
    monkeypatch.setattr(b2v.study.run, "train_stages", None)
    last = list(run_study(study, job_of(places, steps=4), CPU))
    assert all(event.before for event in scored(last))
    tables = [(places / folder / "table.md").read_text() for folder in ("whole", "out")]
    assert tables[0] == tables[1]
    with pytest.raises(UsageError, match="holds a study of other settings"):
        next(run_study(study, job_of(places, steps=5), CPU))


def test_video_networks_are_compared_over_tau(places):
    study = small("dtb-variants")
    rows = scored(run_study(study, job_of(places, on="videos"), CPU))
    assert [[s["tau"] for s in row.summaries] for row in rows] == [[3, 5]] * 3
    lines = list(csv.DictReader((places / "out" / "table.csv").read_text().splitlines()))
    assert [line["net"] for line in lines] == ["nothing", "CNN", "STRCNN", "STRCNN + DTB"]
    assert list(lines[0]) == [
        *("net", "tau 3", "tau 5", "mean", "gain", "SSIM", "steady", "parameters"),
    ]
    for line, row in zip(lines[1:], rows, strict=True):
        assert float(line["tau 5"]) == pytest.approx(row.summaries[1]["psnr"], abs=1e-5)
        assert int(line["parameters"]) > 500
        gain = (float(line["tau 3"]) + float(line["tau 5"])) / 2 - float(lines[0]["mean"])
        assert float(line["gain"]) == pytest.approx(gain, abs=1e-5)
    page = (places / "out" / "table.md").read_text()
    assert "on videos (1 videos)" in page
    assert page.count("\n|") == 6


def test_the_schemes_of_the_ablation_are_compared_by_frame(places):
    study = small("jin-ablation", canonical=0.0)
    study = replace(study, rows=tuple(study.rows[n] for n in (0, 2, 5)))
    rows = scored(run_study(study, job_of(places, steps=4), CPU))
    assert [row.row.name for row in rows] == [row.name for row in study.rows]
    for row in rows:
        stages = sorted((places / "out" / "runs" / row.row.net).glob("stage*"))
        assert len(stages) == len(row.row.stages)
        assert sum(map(steps_of, stages)) == 4
    lines = list(csv.DictReader((places / "out" / "table.csv").read_text().splitlines()))
    assert [line["net"] for line in lines] == ["nothing", *(row.row.name for row in rows)]
    for line, row in zip(lines[1:], rows, strict=True):
        frames = [float(line[f"p {k}"]) for k in range(1, 8)]
        assert frames == pytest.approx(row.summaries[0]["psnr_p"], abs=1e-5)
        assert float(line["mean p"]) == pytest.approx(sum(frames) / 7, abs=1e-5)


def test_rows_that_are_trained_alike_are_trained_equally_long(places, monkeypatch):
    measured = iter([2, 3])
    monkeypatch.setattr("b2v.study.run._steps", lambda *_: next(measured))
    scored(run_study(small("coded"), job_of(places, steps=2), CPU))
    runs = places / "out" / "runs"
    assert [steps_of(runs / net / "stage1") for net in ("standard", "coded")] == [2, 2]


def steps_of(stage):
    """Steps that a stage was trained."""
    return int((stage / "metrics.csv").read_text().splitlines()[-1].split(",")[0])


def test_minutes_become_steps_by_the_time_that_one_takes(places, monkeypatch):
    config = studies()["jin-ablation"].rows[2].stages[1]
    run = places / "run"
    (run / "weights").mkdir(parents=True)
    (run / "weights" / "x").write_text("of the stage before")
    seen = []

    def train(probe, folder, *_, workers):
        seen.append((probe.steps, (folder / "weights" / "x").read_text(), workers))
        yield Notice("")
        yield Report(2, 0.1, 1e-3, seconds=1.0, waiting=0.0)

    monkeypatch.setattr(b2v.study.run, "train", train)
    job = job_of(places, minutes=6.0, steps=None)
    assert b2v.study.run._steps(config, 4, run, job, (run, run), CPU) == 180  # 90 s of 0.5 s each
    assert seen == [(2, "of the stage before", 0)]
    assert [p.name for p in run.iterdir()] == ["weights"]
    assert b2v.study.run._steps(config, 4, run, job_of(places, steps=10), (run, run), CPU) == 2


def test_a_set_of_the_wrong_kind_is_refused_before_training(places):
    write_window(places / "short", moving(), moving()[3])
    line = {"blurry": "blur/walk/000004.png", "sharp": "sharp/walk/000004.png", "window": 0}
    line |= {"frames": [1, 11], "tau": 11, "period": 11}
    (places / "short" / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(DatasetError, match="no 7 sharp frames"):
        next(run_study(small("coded"), job_of(places, on="short"), CPU))
    with pytest.raises(DatasetError, match="holds no videos"):
        next(run_study(small("dtb-variants"), job_of(places), CPU))
    assert not (places / "out").exists()


@pytest.fixture
def b2v_study(capsys):
    """`b2v study dtb-variants ARGS` with settings of tiny networks."""
    sets = [f"--set={key}={value}" for key, value in {**FAST, "frames": 3}.items()]
    usual = ("--data", "photos", "--clips", 2, "--workers", 0, "--tau", 3, "--device", "cpu")
    return lambda *args: run_main(capsys, "study", "dtb-variants", *usual, *sets, *args)


def test_the_command_trains_scores_and_prints_the_table(b2v_study, places, monkeypatch):
    monkeypatch.setattr("b2v.study.tables.draw_chart", draw_chart)
    args = ("--eval", "videos", "-o", "out", "--steps", 2)
    ran = b2v_study(*args)
    assert (ran.code, ran.out) == (0, (places / "out" / "table.md").read_text())
    for word in ("STRCNN + DTB: done", "step      2", "validation"):
        assert word in ran.err
    again = b2v_study(*args)
    assert (again.code, again.out) == (0, ran.out)
    assert again.err.count("done before") == 3
    pytest.importorskip("matplotlib")
    assert read_photo(places / "out" / "plot.png").pixels.shape == (3, 660, 1080)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--eval", "videos", "-o", "out"), 2, ["--minutes or --steps"]),
        (("--eval", "videos", "-o", "out", "--steps", 2, "--minutes", 1), 2, ["not both"]),
        (("--eval", "nowhere", "-o", "out", "--steps", 2), 1, ["nowhere"]),
        (("--eval", "videos", "-o", "photos", "--steps", 2), 2, ["photos", "holds no study"]),
        (("--eval", "videos", "-o", "out", "--steps", 2, "--set", "model=b2v"), 2, ["model"]),
        (("--eval", "videos", "-o", "out", "--steps", 2, "--set", "corp=1"), 2, ["crop"]),
        (("--eval", "videos", "-o", "out", "--steps", 2, "--set", "crop=17"), 2, ["crop 17"]),
    ],
)
def test_what_cannot_be_studied_is_one_line(b2v_study, places, args, code, words):
    assert_one_line(b2v_study(*args, "-q"), code, *words)
