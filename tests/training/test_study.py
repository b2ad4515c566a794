"""Studies with tiny networks: equal steps, going on where one stopped, scores that add up."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from command_line import assert_one_line, run_main
from conftest import make_picture
from test_evaluate import moving, write_window
from test_evaluate_video import save_video
from test_train import SMALL as TINY_NET
from test_train import TINY

import b2v.training.loop
from b2v.cli.evaluate import print_scores
from b2v.cli.train import StudyName
from b2v.color import to_linear
from b2v.data.clip_cache import open_array
from b2v.data.datasets import BankConfig, SequenceConfig
from b2v.data.footage import find_windows, read_samples
from b2v.defaults import PHOTO_MODEL
from b2v.errors import DatasetError, UsageError
from b2v.evaluate import open_entries
from b2v.inference.runtime import Runtime
from b2v.media.images import read_photo, write_photo
from b2v.metrics import psnr, reblur
from b2v.models import MODELS, SEVEN, VIDEO, Blueprint
from b2v.models.cascade import Cascade
from b2v.models.dtb import DTBConfig
from b2v.models.unet import UNetConfig
from b2v.training.config import check
from b2v.training.logs import Report
from b2v.training.studies import Job, blurred_anew, run_study, studies, with_settings
from b2v.weights.checkpoints import read_card
from b2v.weights.store import load_model

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
    monkeypatch.setitem(
        MODELS, "apart", {SEVEN: Blueprint("apart", UNetConfig(inputs=1, **TINY_NET))}
    )
    for variant, name in (("cnn", "dtb-cnn"), ("strcnn", "dtb-strcnn"), ("dtb", "dtb")):
        config = DTBConfig(variant=variant, **SMALL_VIDEO)
        monkeypatch.setitem(MODELS, name, {VIDEO: Blueprint("dtb", config)})
    monkeypatch.setattr(b2v.training.loop, "REPORT_EVERY", 1)
    monkeypatch.setattr("b2v.training.studies.HELD_OUT", 1)
    monkeypatch.setattr("b2v.training.caches.BankConfig", partial(BankConfig, size=32))
    sequences = partial(SequenceConfig, size=32, frames=3)
    monkeypatch.setattr("b2v.training.caches.SequenceConfig", sequences)
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
    return [event for event in events if isinstance(event, list)]


def test_the_rows_of_a_study_differ_in_what_is_compared_and_nothing_else():
    for name, apart in (
        ("dtb-variants", {"model"}),
        ("coded", set()),
        ("coded-video", {"pair"}),
        ("dtb-inputs", {"model", "inputs"}),
        ("jin-ablation", {"model", "pair", "forcing", "see_middle"}),
        ("order", {"pair", "canonical"}),
    ):
        configs = [row.stages[0] for row in studies()[name].rows if row.stages]
        for config in configs:
            check(config, 192, 13)
            differing = {k for k in vars(config) if vars(config)[k] != vars(configs[0])[k]}
            assert differing <= apart


def test_every_study_has_rows_of_its_own_names_and_is_offered():
    assert set(get_args(StudyName)) == set(studies())
    for study in studies().values():
        names = [row.name for row in study.rows]
        assert len({*names}) == len(names) > 1


def test_sequences_are_longer_than_the_windows_that_are_compared_on_them():
    for row in studies()["dtb-inputs"].rows:
        (config,) = row.stages
        assert config.frames > config.inputs


def test_each_network_of_the_ablation_is_trained_in_all_its_stages():
    rows = {row.name: len(row.stages) for row in studies()["jin-ablation"].rows}
    assert rows == {
        **{"independent": 1, "global": 1, "pair": 4, "pair + middle": 4},
        **{"sequential": 4, "teacher forcing": 4},
    }


def test_what_tells_rows_apart_cannot_be_set():
    assert small("coded", crop=32).rows[2].stages[0].crop == 32
    for name, key, value in (("jin-ablation", "pair", "pair"), ("coded", "steps", 5)):
        with pytest.raises(UsageError, match="rows differ in it"):
            with_settings(studies()[name], {key: value})
    for key in ("run", "stage2.steps"):
        with pytest.raises(UsageError, match="cannot be set in a study"):
            with_settings(studies()["coded"], {key: 1})
    with pytest.raises(UsageError, match="this study trains nothing"):
        with_settings(studies()["jin-given"], {"crop": 32})


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

    def find(model, weights, protocol, videos):
        return real(model, weights, protocol, videos=videos) if weights else [entry]

    monkeypatch.setattr("b2v.training.studies.open_entries", find)


def test_coded_and_standard_blur_are_learned_from_the_same_frames(places, shipped):
    study, job = small("coded"), job_of(places)
    summaries = [row for (row,) in scored(run_study(study, job, CPU))]
    assert [row["model"] for row in summaries] == [row.name for row in study.rows]
    plain, seen = (
        torch.from_numpy(
            open_array(next((places / "out" / name).glob("*/train")), BankConfig.FILE).copy()
        )
        for name in ("bank", "bank-coded")
    )
    assert torch.equal(plain[:, 1:], seen[:, 1:])
    assert not torch.equal(plain[:, 0], seen[:, 0])
    assert sorted(p.name for p in (places / "out" / "runs").iterdir()) == ["coded", "standard"]
    nothing = [row["nothing"]["middle"] for row in summaries]
    assert nothing[0] == nothing[2] != nothing[1] == nothing[3] == nothing[4]
    assert summaries[0]["middle"] == pytest.approx(nothing[0])


def test_a_study_goes_on_where_it_was_stopped(places, shipped):
    study = small("coded")
    whole = scored(run_study(study, job_of(places, "whole", steps=4), CPU))
    events = run_study(study, job_of(places, steps=4), CPU)
    for event in events:
        if isinstance(event, Report) and event.step == 2:
            events.close()
    again = list(run_study(study, job_of(places, steps=4), CPU))
    assert [e.step for e in again if isinstance(e, Report)] == [3, 4, 1, 2, 3, 4]
    assert scored(again) == whole
    last = list(run_study(study, job_of(places, steps=4), CPU))
    assert not any(isinstance(event, Report) for event in last)
    scores = [json.loads((places / f / "scores.json").read_text()) for f in ("whole", "out")]
    assert scores[0] == scores[1] == [row for (row,) in whole]


def test_video_networks_are_compared_over_tau(places):
    rows = scored(run_study(small("dtb-variants"), job_of(places, on="videos"), CPU))
    assert [[s["tau"] for s in row] for row in rows] == [[3, 5]] * 3
    assert [row[0]["model"] for row in rows] == ["CNN", "STRCNN", "STRCNN + DTB"]
    assert all(row[0]["parameters"] > 500 for row in rows)
    assert len({row[0]["psnr"] for row in rows}) == 3


def test_the_schemes_of_the_ablation_are_compared_by_frame(places):
    study = small("jin-ablation", canonical=0.0)
    study = replace(study, rows=tuple(study.rows[n] for n in (0, 2, 5)))
    rows = scored(run_study(study, job_of(places, steps=1), CPU))
    assert [summary["model"] for (summary,) in rows] == [row.name for row in study.rows]
    for row, (summary,) in zip(study.rows, rows, strict=True):
        stages = sorted((places / "out" / "runs" / row.run).glob("stage*"))
        assert [steps_of(stage) for stage in stages] == [1] * len(row.stages)
        assert len(summary["psnr_p"]) == 7


def test_a_cascade_is_scored_by_the_middle_frame_that_it_is_given(places, monkeypatch):
    """By its own, that of a prior that makes all of it gray, and the true one."""
    nets = {role: plan.build() for role, plan in TINY.items()}
    gray = TINY["middle"].build()
    gray.forward = lambda blurry: torch.full_like(blurry, 0.5)
    entries = {"cascade": Cascade(**nets), PHOTO_MODEL: gray}

    def find(model, weights, protocol, videos=False):
        return [SimpleNamespace(net=entries[model], name=model, protocol=protocol)]

    monkeypatch.setattr("b2v.training.studies.open_entries", find)
    rows = [row for (row,) in scored(run_study(studies()["jin-given"], job_of(places), CPU))]
    own, prior, truth = rows
    assert [row["model"] for row in rows] == ["own", "prior", "truth"]
    assert own["psnr"] == own["nothing"]["psnr"]  # untrained nets give what they see
    assert truth["middle"] == 100
    assert prior["middle"] < 30
    assert prior["psnr"][2] < truth["psnr"][2]  # the pairs stand on it
    assert (places / "out" / "strips" / "truth").is_dir()


def test_the_order_of_coded_frames_is_learned_as_it_is(places, capsys):
    rows = scored(run_study(small("coded-video"), job_of(places), CPU))
    plain, seen = (row for (row,) in rows)
    assert plain["nothing"] != seen["nothing"]
    assert len(seen["psnr"]) == 7
    assert seen["in_order"] == (seen["psnr"] == seen["psnr_p"])  # of one sample
    print_scores([plain, seen])
    said = capsys.readouterr().out
    assert said.count("nothing") == 2
    assert said.count("% in the better order") == 2


def test_a_cascade_that_learned_the_order_of_coded_blur_says_so(places):
    list(run_study(small("coded-video"), job_of(places), CPU))
    for name, known in (("standard-blur", False), ("coded-blur", True)):
        weights = places / "out" / "runs" / name / "weights"
        assert load_model("cascade", weights=weights).net.order_known == known
        assert ("coded blur" in read_card(weights / "cascade.json").recipe) == known


def steps_of(stage):
    """Steps that a stage was trained."""
    return int((stage / "metrics.csv").read_text().splitlines()[-1].split(",")[0])


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


def test_the_command_trains_scores_and_prints_the_table(b2v_study, places):
    args = ("--eval", "videos", "-o", "out", "--steps", 2)
    ran = b2v_study(*args)
    assert ran.code == 0
    for word in ("CNN", "STRCNN + DTB", "nothing"):
        assert word in ran.out
    for word in ("STRCNN + DTB: done", "step      2", "validation"):
        assert word in ran.err
    again = b2v_study(*args)
    assert (again.code, again.out) == (0, ran.out)
    assert "step" not in again.err.replace("steps", "")
    pytest.importorskip("matplotlib")
    assert read_photo(places / "out" / "plot.png").pixels.shape == (3, 660, 1080)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--eval", "videos", "-o", "out"), 2, ["--steps"]),
        (("--eval", "nowhere", "-o", "out", "--steps", 2), 1, ["nowhere"]),
        (("--eval", "videos", "-o", "out", "--steps", 2, "--set", "model=b2v"), 2, ["model"]),
        (("--eval", "videos", "-o", "out", "--steps", 2, "--set", "corp=1"), 2, ["crop"]),
        (("--eval", "videos", "-o", "out", "--steps", 2, "--set", "crop=17"), 2, ["crop 17"]),
    ],
)
def test_what_cannot_be_studied_is_one_line(b2v_study, places, args, code, words):
    assert_one_line(b2v_study(*args, "-q"), code, *words)
