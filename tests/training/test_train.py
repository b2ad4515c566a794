"""The training loop: exact resume, refusals, what is written down."""

import csv
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_perceptual import vgg_state
from torch import Tensor

import b2v.training.loop
from b2v.data.clip_cache import open_array, setting
from b2v.errors import B2VError, DatasetError, TrainingError, WeightsError
from b2v.inference.runtime import Runtime
from b2v.models import MODELS, PRIOR, ROLES, SEVEN, Blueprint, Prior
from b2v.models.unet import UNetConfig
from b2v.training.config import TrainConfig
from b2v.training.logs import Notice
from b2v.training.loop import Report, train, train_stages
from b2v.training.losses import new_critic
from b2v.weights import store
from b2v.weights.checkpoints import load_network, read_card, write_card
from b2v.weights.store import verify

STAGE_FILES = {
    "config.json",
    "last.pt",
    "latest.safetensors",
    "metrics.csv",
    "strip.png",
}
"""What lies in the folder of a stage that has validated twice."""
CPU = Runtime(torch.device("cpu"), "fp32")
SMALL = {"widths": (6, 8), "blocks": (1, 1)}
TINY = {
    "middle": Blueprint("unet", UNetConfig(inputs=1, **SMALL)),
    "pair35": Blueprint("unet", UNetConfig(inputs=2, outputs=2, **SMALL)),
    "pair26": Blueprint("unet", UNetConfig(inputs=3, **SMALL)),
    "pair17": Blueprint("unet", UNetConfig(inputs=3, **SMALL)),
}
CONFIG = TrainConfig(
    model="tiny", steps=4, batch=2, crop=16, lr=2e-3, warmup=2, validate_every=2, teacher=0.75
)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    """Have a cascade of tiny nets, and report every other step."""
    monkeypatch.setitem(MODELS, "tiny", TINY)
    pairs = {"middle": TINY["middle"], **dict.fromkeys(ROLES[1:], TINY["pair35"])}
    monkeypatch.setitem(MODELS, "tiny-pairs", pairs)
    apart = {SEVEN: Blueprint("apart", UNetConfig(inputs=1, **SMALL))}
    monkeypatch.setitem(MODELS, "tiny-apart", apart)
    monkeypatch.setattr(b2v.training.loop, "REPORT_EVERY", 2)


@pytest.fixture
def vgg16(tmp_path, monkeypatch):
    """Have a VGG16 of random weights where one is looked for."""
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(tmp_path))
    save_file(vgg_state(), tmp_path / "vgg16.safetensors")


@pytest.fixture
def begin(tmp_path: Path, tiny_bank: Path):
    """Start or resume training in a run folder; returns the generator of reports."""

    def begin(
        config: TrainConfig, run: str = "run", *, workers: int = 0, **options: Any
    ) -> Iterator[Report]:
        return train(config, tmp_path / run, tiny_bank, tiny_bank, CPU, workers=workers, **options)

    return begin


def checkpoint(run: Path, stage: int = 1) -> dict[str, Any]:
    return torch.load(run / f"stage{stage}" / "last.pt", weights_only=True)


def assert_equal(one: object, other: object, where: str = "") -> None:
    """Compare nested dicts and lists of tensors bit for bit."""
    if isinstance(one, Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{where}[{i}]")
    else:
        assert one == other, where


def rows_of(run: Path, stage: int = 1) -> list[dict[str, str]]:
    with (run / f"stage{stage}" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def finish_stages(begin, config: TrainConfig, run: str, upto: int) -> None:
    for stage in range(1, upto + 1):
        list(begin(replace(config, stage=stage, steps=1), run))


def test_a_prior_is_trained_and_restores_photos(begin, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "tiny-prior", {PRIOR: TINY["middle"]})
    reports = list(begin(replace(CONFIG, model="tiny-prior")))
    assert reports[-1].step == 4
    net = store.load_model("unet", weights=tmp_path / "run" / "weights").net
    assert isinstance(net, Prior)
    assert net(torch.rand(1, 3, 64, 64)).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_two_steps_and_two_more_equal_four_bit_for_bit(begin, tmp_path, stage):
    for run in ("whole", "parts"):
        finish_stages(begin, CONFIG, run, stage - 1)
    config = replace(CONFIG, stage=stage)
    whole = list(begin(config, "whole"))
    stopped = begin(config, "parts")
    parts = [next(stopped)]
    stopped.close()
    parts += begin(config, "parts", resume=True)
    one, other = checkpoint(tmp_path / "whole", stage), checkpoint(tmp_path / "parts", stage)
    assert one["step"] == 4
    assert {"net", "ema", "optimizer"} <= one.keys()
    assert_equal(one, other)
    assert [(r.step, r.loss, r.lr, r.gain) for r in whole] == [
        (r.step, r.loss, r.lr, r.gain) for r in parts
    ]
    exported = f"weights/tiny-{ROLES[stage - 1]}.safetensors"
    assert (tmp_path / "whole" / exported).read_bytes() == (
        tmp_path / "parts" / exported
    ).read_bytes()


@pytest.mark.parametrize(
    ("model", "stage", "changes"),
    [
        ("tiny", 2, {"pair": "pair", "adversarial": 0.1}),
        ("tiny-apart", 1, {"pair": "global", "adversarial": 0.1}),
        ("tiny", 1, {"perceptual": 0.5}),
        ("tiny-pairs", 3, {"pair": "pair", "see_middle": False, "forcing": "always"}),
    ],
)
def test_so_they_do_with_every_term_of_the_loss(begin, tmp_path, vgg16, model, stage, changes):
    config = replace(CONFIG, model=model, stage=stage, **changes)
    finish_stages(begin, replace(CONFIG, model=model, lr=0.0), "whole", stage - 1)
    if stage > 1:
        shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    list(begin(config, "whole"))
    stopped = begin(config, "parts")
    next(stopped)
    stopped.close()
    list(begin(config, "parts", resume=True))
    one, other = (checkpoint(tmp_path / run, stage) for run in ("whole", "parts"))
    assert_equal(one, other)
    assert ("critic" in one) == ("critic_optimizer" in one) == (config.adversarial > 0)


def test_each_term_changes_what_is_learned_where_it_is_meant(begin, tmp_path, vgg16):
    finish_stages(begin, CONFIG, "none", 1)
    shutil.copytree(tmp_path / "none" / "weights", tmp_path / "side" / "weights")
    for stage, term, changes in (
        (1, "perceptual", True),
        (1, "adversarial", False),  # the paper's middle net has none
        (2, "adversarial", True),
        (2, "perceptual", False),
    ):
        nets = []
        for weight in (0.0, 0.3):
            run = f"{term}{stage}-{weight}"
            shutil.copytree(tmp_path / "side", tmp_path / run)
            config = replace(CONFIG, stage=stage, steps=2, **{term: weight})
            list(begin(config, run))
            nets.append(checkpoint(tmp_path / run, stage)["net"]["head.weight"])
        assert torch.equal(*nets) != changes, run


def test_a_critic_learns_beside_the_net(begin, tmp_path):
    finish_stages(begin, CONFIG, "run", 1)
    config = replace(CONFIG, stage=2, adversarial=0.1, steps=2)
    list(begin(config))
    trained = checkpoint(tmp_path / "run", 2)["critic"]
    fresh = new_critic(config.seed).state_dict()
    assert all(not torch.equal(trained[name], fresh[name]) for name in fresh)


def test_the_average_of_weights_follows_the_net(begin, tmp_path):
    list(begin(replace(CONFIG, steps=1, lr=0.0), "untrained"))
    list(begin(replace(CONFIG, steps=1), "trained"))
    before = checkpoint(tmp_path / "untrained")["net"]
    after, average = (checkpoint(tmp_path / "trained")[part] for part in ("net", "ema"))
    assert not torch.equal(after["head.weight"], before["head.weight"])
    for name, weight in after.items():
        # The decay rises to its value from 1/11 in the first step.
        expected = before[name] / 11 + weight * 10 / 11
        assert torch.allclose(average[name], expected, rtol=1e-5, atol=1e-7), name


def test_the_gradient_is_held_to_its_largest_norm(begin, tmp_path):
    config = replace(CONFIG, steps=1, weight_decay=0.0)
    list(begin(config, "free"))
    list(begin(replace(config, clip=1e-12), "held"))
    free, held = (checkpoint(tmp_path / run)["net"]["head.weight"] for run in ("free", "held"))
    assert held.abs().max() < 1e-2 * free.abs().max()


def test_a_run_stopped_by_the_clock_goes_on_step_by_step(begin, tmp_path):
    list(begin(CONFIG, "whole"))
    steps = []
    for turn in range(4):
        steps += [report.step for report in begin(CONFIG, "parts", resume=turn > 0, minutes=0)]
    assert steps == [1, 2, 3, 4]
    one, other = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    for part in ("net", "ema", "optimizer", "step"):
        assert_equal(one[part], other[part], part)


def test_helpers_that_cut_crops_change_nothing(begin, tmp_path):
    list(begin(CONFIG, "alone"))
    list(begin(CONFIG, "helped", workers=1))
    assert_equal(checkpoint(tmp_path / "alone"), checkpoint(tmp_path / "helped"))


def test_a_seed_decides_everything(begin, tmp_path):
    for run, seed in (("a", 0), ("b", 1)):
        list(begin(replace(CONFIG, seed=seed), run))
    one, other = (checkpoint(tmp_path / run)["net"] for run in ("a", "b"))
    assert all(not torch.equal(one[name], other[name]) for name in one)


def test_the_learning_rate_rises_and_then_falls_to_zero(begin, monkeypatch):
    monkeypatch.setattr(b2v.training.loop, "REPORT_EVERY", 1)
    rates = [r.lr for r in begin(replace(CONFIG, steps=8, warmup=3, lr=1e-3))]
    assert max(rates) < 1e-3
    assert rates[0] < rates[1]
    assert all(later < earlier for earlier, later in pairwise(rates[1:]))
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_a_finished_run_can_be_made_longer(begin, tmp_path):
    list(begin(CONFIG))
    assert list(begin(CONFIG, resume=True)) == []
    assert [r.step for r in begin(replace(CONFIG, steps=6), resume=True)] == [6]
    assert checkpoint(tmp_path / "run")["step"] == 6


def test_a_run_that_has_begun_is_not_overwritten(begin, tmp_path):
    list(begin(CONFIG))
    before = (tmp_path / "run" / "stage1" / "last.pt").read_bytes()
    with pytest.raises(TrainingError, match="stage1: holds a run already; --resume it"):
        next(begin(CONFIG))
    assert (tmp_path / "run" / "stage1" / "last.pt").read_bytes() == before


@pytest.mark.parametrize("change", [{"lr": 1e-5}, {"batch": 1}, {"seed": 3}, {"pixel": "mse"}])
def test_a_run_is_not_gone_on_with_under_other_settings(begin, tmp_path, change):
    list(begin(CONFIG))
    kept = (tmp_path / "run" / "stage1" / "config.json").read_text()
    with pytest.raises(TrainingError, match="stage1: was begun with other settings"):
        next(begin(replace(CONFIG, **change), resume=True))
    assert (tmp_path / "run" / "stage1" / "config.json").read_text() == kept


def test_where_there_is_nothing_to_resume_a_run_begins(begin):
    notice, *rest = begin(CONFIG, resume=True)
    assert notice.text.endswith("stage1: nothing to resume; the run begins")
    assert rest[-1].step == CONFIG.steps


def test_a_stage_needs_the_exported_networks_of_those_before(begin, tmp_path):
    with pytest.raises(TrainingError, match="before stage 2") as caught:
        next(begin(replace(CONFIG, stage=2)))
    assert str(tmp_path / "run" / "weights" / "tiny-middle.safetensors") in str(caught.value)
    finish_stages(begin, CONFIG, "run", 1)
    with pytest.raises(TrainingError, match=r"tiny-pair35\.safetensors: missing"):
        next(begin(replace(CONFIG, stage=3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "nets"}, "nets"),
        ({"crop": 18}, "multiple of 4"),
        ({"crop": 40}, "24"),  # the clips of the bank are smaller
        ({"stage": 2, "pair": "pear"}, "pear"),
        ({"pixel": "msee"}, "msee"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_a_sentence(begin, change, message):
    if change.get("stage"):
        finish_stages(begin, CONFIG, "run", 1)
    with pytest.raises(B2VError, match=message):
        next(begin(replace(CONFIG, **change)))


def test_a_bank_that_is_not_there_is_refused_by_name(tmp_path):
    nowhere = tmp_path / "nowhere"
    with pytest.raises(B2VError, match="nowhere"):
        next(train(CONFIG, tmp_path / "run", nowhere, nowhere, CPU, workers=0))


def test_validation_clips_need_not_be_a_multiple_of_what_the_net_asks_for(begin, monkeypatch):
    config = UNetConfig(inputs=1, shuffle=5, **SMALL)
    monkeypatch.setitem(TINY, "middle", Blueprint("unet", config))  # multiples of 10, clips of 24
    (report,) = begin(replace(CONFIG, crop=20, steps=1, lr=0.0))
    assert report.gain == pytest.approx(0, abs=1e-5)


def test_a_run_folder_holds_what_is_promised(begin, tmp_path):
    list(begin(CONFIG))
    run = tmp_path / "run"
    assert {p.name for p in (run / "stage1").iterdir()} == STAGE_FILES
    weights = {p.name for p in (run / "weights").iterdir()}
    assert weights == {"tiny-middle.safetensors", "tiny.json"}
    saved = json.loads((run / "stage1" / "config.json").read_text())
    assert saved == json.loads(json.dumps(asdict(CONFIG)))


def test_a_card_describes_the_networks_that_are_best_so_far(begin, tmp_path):
    finish_stages(begin, CONFIG, "run", 2)
    folder = tmp_path / "run" / "weights"
    assert [check.problem for check in verify(str(folder / "tiny.json"))] == [None, None]
    card = read_card(folder / "tiny.json")
    assert list(card.networks) == ["middle", "pair35"]
    assert "pair35: step 1 of 1, batch 2" in card.recipe
    assert set(card.scores) == {f"{role}, validation gain in dB" for role in ("middle", "pair35")}
    with pytest.raises(WeightsError, match="tiny has no license on its card"):
        store.stage(str(folder / "tiny.json"), "me/tiny", tmp_path)
    write_card(replace(card, license="CC0-1.0"), folder)
    store.stage(str(folder / "tiny.json"), "me/tiny", tmp_path)
    assert (tmp_path / "tiny-pair35.safetensors").is_file()
    list(begin(replace(CONFIG, stage=3, steps=1)))
    assert read_card(folder / "tiny.json").license == "CC0-1.0"


def test_how_far_it_is_and_how_long_it_takes_is_told(begin):
    first, last = begin(CONFIG)
    assert (first.steps, last.left) == (4, 0)
    assert first.left == pytest.approx(first.seconds, rel=1e-6)  # two of four steps
    (only,) = begin(replace(CONFIG, steps=10**6), "short", minutes=0)
    assert only.left == 0


def test_the_average_weights_are_exported_for_their_role(begin, tmp_path):
    list(begin(replace(CONFIG, steps=2)))
    network = load_network(tmp_path / "run" / "weights" / "tiny-middle.safetensors")
    assert (network.role, network.blueprint) == ("middle", TINY["middle"])
    average = checkpoint(tmp_path / "run")["ema"]
    for name, weight in network.module.state_dict().items():
        assert torch.equal(weight, average[name].half().float()), name


def test_weights_are_exported_when_they_are_the_best_so_far(begin, tmp_path, monkeypatch):
    monkeypatch.setattr(b2v.training.loop, "REPORT_EVERY", 1)
    file = tmp_path / "run" / "weights" / "tiny-middle.safetensors"
    latest = tmp_path / "run" / "stage1" / "latest.safetensors"
    best, written, kept = -float("inf"), None, 0
    for report in begin(replace(CONFIG, steps=12, lr=0.02, validate_every=1)):
        content = file.read_bytes()
        assert (content == latest.read_bytes()) == (report.gain >= best)
        assert (content != written) == (report.gain > best), report
        kept += content == written
        best, written = max(best, report.gain), content
    assert kept >= 2


def test_reports_are_written_down_as_they_are_given(begin, tmp_path):
    reports = list(begin(CONFIG))
    rows = rows_of(tmp_path / "run")
    assert [int(row["step"]) for row in rows] == [2, 4]
    assert [float(row["loss"]) for row in rows] == [r.loss for r in reports]
    assert [float(row["gain"]) for row in rows] == [r.gain for r in reports]


def test_a_step_that_is_done_again_after_a_stop_is_written_down_once(begin, tmp_path, monkeypatch):
    monkeypatch.setattr(b2v.training.loop, "REPORT_EVERY", 1)
    stopped = begin(CONFIG)
    assert [next(stopped).step for _ in range(3)] == [1, 2, 3]
    stopped.close()  # as if killed after step 3; the checkpoint is of step 2
    assert [report.step for report in begin(CONFIG, resume=True)] == [3, 4]
    assert [int(row["step"]) for row in rows_of(tmp_path / "run")] == [1, 2, 3, 4]


def test_every_validation_is_reported_and_can_be_gone_on_from(begin, monkeypatch):
    monkeypatch.setattr(b2v.training.loop, "REPORT_EVERY", 50)
    reports = list(begin(replace(CONFIG, steps=5)))
    assert [(report.step, report.gain is not None) for report in reports] == [
        *((2, True), (4, True), (5, True))
    ]


def test_waiting_is_a_part_of_the_time(begin, monkeypatch):
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr(b2v.training.loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for report in begin(CONFIG):
        assert report.seconds >= 10
        assert 0.2 < report.waiting < 0.8


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_a_net_that_has_learned_nothing_gains_nothing(begin, stage):
    still = replace(CONFIG, lr=0.0, steps=1)
    finish_stages(begin, still, "run", stage - 1)
    (report,) = begin(replace(still, stage=stage))
    assert report.gain == pytest.approx(0, abs=1e-5)


def test_a_loss_that_is_not_finite_ends_the_run(begin, tmp_path):
    with pytest.raises(TrainingError, match=r"stage1: the loss is (nan|inf) at step 2; lower lr"):
        list(begin(replace(CONFIG, lr=1e20, warmup=1)))
    assert not (tmp_path / "run" / "weights").exists()


def test_a_gradient_that_is_not_finite_ends_the_run(begin, monkeypatch):
    def endless(*_: object) -> Tensor:
        return torch.tensor(torch.inf)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", endless)
    with pytest.raises(TrainingError, match="the gradient is inf at step 1"):
        list(begin(CONFIG))


def test_a_torn_checkpoint_is_one_line(begin, tmp_path):
    list(begin(CONFIG))
    last = tmp_path / "run" / "stage1" / "last.pt"
    content = last.read_bytes()
    last.write_bytes(content[: len(content) // 2])
    with pytest.raises(TrainingError, match=r"last.pt: is damaged; move the folder away"):
        list(begin(CONFIG, resume=True))
    assert not list(last.parent.glob("*.part"))


def negative(saved):
    return {**saved, "step": -5}


def of_other_shape(saved):
    return {**saved, "net": {key: tensor[..., :1] for key, tensor in saved["net"].items()}}


CONTENTS = {
    "list": lambda saved: [1, 2, 3],
    "text": lambda saved: "a checkpoint",
    "nothing": lambda saved: {},
    "no config": lambda saved: {**saved, "config": None},
    "no net": lambda saved: {key: part for key, part in saved.items() if key != "net"},
    "net of text": lambda saved: {**saved, "net": "a net"},
    "other shape": of_other_shape,
    "other optimizer": lambda saved: {**saved, "optimizer": {"state": {}, "param_groups": []}},
    "negative step": negative,
    "step of text": lambda saved: {**saved, "step": "five"},
}
"""What a whole archive may hold that is no checkpoint of the run."""


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_checkpoint_that_holds_something_else_is_one_line(begin, tmp_path, kind):
    list(begin(CONFIG))
    path = tmp_path / "run" / "stage1" / "last.pt"
    torch.save(CONTENTS[kind](torch.load(path, weights_only=True)), path)
    with pytest.raises(TrainingError, match="move the folder away") as caught:
        next(begin(CONFIG, resume=True))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"step,loss\nfive,1\n", b"\xff\xfe\n\x00\n"])
def test_a_table_that_is_damaged_is_one_line(begin, tmp_path, content):
    stopped = begin(CONFIG)
    next(stopped)
    stopped.close()
    (tmp_path / "run" / "stage1" / "metrics.csv").write_bytes(content)
    with pytest.raises(TrainingError, match=r"metrics.csv: is damaged; move it away"):
        list(begin(CONFIG, resume=True))


@pytest.mark.parametrize("name", ["bank.json", "clips.npy"])
@pytest.mark.parametrize("content", [b"", b"[1, 2", b"\x93NUMPY\x01\x00\xff\xff", b"\xff\xfe\x00"])
def test_a_bank_that_is_damaged_is_one_line(tiny_bank, name, content):
    (tiny_bank / name).write_bytes(content)
    read, *rest = (setting, "kind", "usual") if name == "bank.json" else (open_array, name)
    with pytest.raises(DatasetError, match=r"is damaged; delete .* drawn anew"):
        read(tiny_bank, *rest)


def test_a_checkpoint_with_one_wrong_byte_is_one_line(begin, tmp_path):
    list(begin(CONFIG))
    path = tmp_path / "run" / "stage1" / "last.pt"
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(TrainingError, match="is damaged; move the folder away"):
        list(begin(CONFIG, resume=True))


def test_compiled_networks_learn_the_same(begin, tmp_path, monkeypatch):
    """Copies that share the weights are compiled; to be compiled is to be noted here."""
    seen = []

    def note(net: torch.nn.Module) -> None:
        usual = net.forward
        net.forward = lambda *pictures: seen.append(len(pictures)) or usual(*pictures)

    monkeypatch.setattr(torch.nn.Module, "compile", note)
    finish_stages(begin, CONFIG, "plain", 1)
    shutil.copytree(tmp_path / "plain", tmp_path / "quick")
    config = replace(CONFIG, stage=2, forcing="never")
    list(begin(config, "plain"))
    assert seen == []
    list(begin(config, "quick", compiled=True))
    assert seen == 4 * [1, 2]  # the middle net and the pair's, in each step
    assert_equal(checkpoint(tmp_path / "plain", 2), checkpoint(tmp_path / "quick", 2))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(B2VError, match=r"compile = true needs a C\+\+ compiler"):
        list(begin(config, "quick", compiled=True, resume=True))


@pytest.fixture
def stages(tmp_path, tiny_bank):
    """Train all stages of the tiny cascade, as one call does."""

    def stages(run: str = "run", configs: list | None = None, **options: Any) -> list:
        every = configs or [replace(CONFIG, stage=stage) for stage in (1, 2, 3, 4)]
        places = tmp_path / run, tiny_bank, tiny_bank, CPU
        return list(train_stages(every, *places, workers=0, **options))

    return stages


def test_all_stages_are_trained_in_turn_and_gone_on_with(begin, stages, tmp_path):
    for stage in (1, 2):
        list(begin(replace(CONFIG, stage=stage), "singly"))
    said = stages()
    assert [n.text for n in said if isinstance(n, Notice)] == [
        f"stage {n}: {role}, 4 steps" for n, role in enumerate(ROLES, start=1)
    ]
    assert [r.step for r in said if isinstance(r, Report)] == 4 * [2, 4]
    assert_equal(*(checkpoint(tmp_path / run, 2) for run in ("singly", "run")))
    assert stages() == []
    longer = [replace(CONFIG, stage=s, steps=4 + 2 * (s == 3)) for s in (1, 2, 3, 4)]
    assert [r.step for r in stages(configs=longer) if isinstance(r, Report)] == [6]
    with pytest.raises(TrainingError, match="stage2: was begun with other settings than these: lr"):
        stages(configs=[CONFIG, replace(CONFIG, stage=2, lr=1.0)])


def test_minutes_are_divided_between_the_stages_that_are_not_done(stages, begin, monkeypatch):
    list(begin(CONFIG))
    given, clock = [], [1000.0]

    def spend(config: TrainConfig, *_: Any, minutes: float, **__: Any) -> Iterator[Report]:
        given.append((config.stage, round(minutes, 1)))
        clock[0] += {2: 60, 3: 60 * 5, 4: 60}[config.stage]
        yield from ()

    monkeypatch.setattr("b2v.training.loop.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr("b2v.training.loop.train", spend)
    stages(minutes=9)
    assert given == [(2, 3.0), (3, 4.0), (4, 3.0)]  # 9 / 3, then 8 / 2, then 3 are left
    given.clear()
    stages(minutes=0)
    assert given == [(2, 0.0), (3, 0.0), (4, 0.0)]


def test_every_stage_takes_a_step_however_short_the_time_is(stages, tmp_path):
    assert [r.step for r in stages(minutes=0) if isinstance(r, Report)] == [1, 1, 1, 1]
    assert len(list((tmp_path / "run" / "weights").glob("*.safetensors"))) == 4


def test_the_loss_falls_and_the_gain_rises_on_one_clip(tmp_path, tiny_bank, monkeypatch):
    monkeypatch.setattr(b2v.training.loop, "REPORT_EVERY", 10)
    clips = np.load(tiny_bank / "clips.npy")
    np.save(tiny_bank / "clips.npy", clips[:1])
    config = replace(CONFIG, steps=60, batch=8, lr=5e-3, warmup=5, validate_every=20, ema=0.9)
    reports = list(train(config, tmp_path / "run", tiny_bank, tiny_bank, CPU, workers=0))
    assert reports[-1].loss < reports[0].loss - 0.05
    gains = [r.gain for r in reports if r.gain is not None]
    assert 0.1 < gains[0] < gains[1] < gains[2]
    assert gains[2] > 0.25
