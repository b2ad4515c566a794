"""Training of video networks: the recipe, exact resume, learning, and what is refused."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import assert_one_line, run_main
from conftest import make_picture
from test_train import STAGE_FILES, assert_equal, checkpoint, rows_of
from torch import Tensor

import b2v.training.loop
from b2v.errors import UsageError
from b2v.inference.runtime import Runtime
from b2v.media.images import read_photo, write_photo
from b2v.models import MODELS, VIDEO, Blueprint
from b2v.models.dtb import DTB, BlendConfig, BlendNet, DTBConfig, run_clip
from b2v.models.unet import UNetConfig
from b2v.training.checkpoints import new_optimizer
from b2v.training.config import TrainConfig, check, is_for_video, recipe
from b2v.training.loop import Report, learning_rate, train
from b2v.training.losses import pixel_loss
from b2v.training.stages import compare, new_network, validate
from b2v.weights.checkpoints import save_network
from b2v.weights.store import load_model, load_video_model

CPU = Runtime(torch.device("cpu"), "fp32")
SMALL = {"stem": 8, "features": 4, "encoder_blocks": 1, "decoder_blocks": 1}
NAMES = {"dtb": "dtb", "strcnn": "dtb-strcnn", "cnn": "dtb-cnn"}
every_variant = pytest.mark.parametrize("variant", NAMES)


def config_of(variant: str = "dtb", **changes: Any) -> TrainConfig:
    small = {"steps": 4, "batch": 2, "crop": 16, "frames": 3, "lr": 2e-3, "validate_every": 2}
    return replace(recipe(NAMES[variant]), **{**small, **changes})


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Have small networks, and report every other step."""
    for variant, name in NAMES.items():
        plan = Blueprint("dtb", DTBConfig(variant=variant, **SMALL))
        monkeypatch.setitem(MODELS, name, {VIDEO: plan})
    monkeypatch.setattr(b2v.training.loop, "REPORT_EVERY", 2)


@pytest.fixture
def sequences(tmp_path: Path) -> Path:
    """Bank of three sequences of five frames of 20 x 20 pixels that move by two pixels a frame."""
    bank = []
    for seed in range(3):
        scene = make_picture(20, 40, seed)
        sharp = torch.stack([scene[..., 2 * n : 2 * n + 20] for n in range(1, 6)])
        shifted = [
            [scene[..., 2 * n + k : 2 * n + k + 20] for k in (-1, 0, 1)] for n in range(1, 6)
        ]
        blurry = torch.stack([torch.stack(views).mean(0) for views in shifted])
        bank.append(torch.stack([blurry, sharp]))
    folder = tmp_path / "sequences"
    folder.mkdir()
    np.save(folder / "sequences.npy", (torch.stack(bank) * 255).round().byte().numpy())
    return folder


@pytest.fixture
def begin(tmp_path, sequences):
    """Start or resume training in a run folder; returns the generator of reports."""

    def begin(config: TrainConfig, run: str = "run", **options: Any) -> Iterator[Report]:
        return train(config, tmp_path / run, sequences, sequences, CPU, workers=0, **options)

    return begin


def test_the_recipe_of_video_networks_is_the_paper_s():
    for name in NAMES.values():
        given = recipe(name)
        assert (given.model, given.frames, given.crop, given.batch) == (name, 13, 128, 8)
        assert (given.optimizer, given.lr, given.betas) == ("adam", 1e-4, (0.9, 0.999))
        assert (given.schedule, given.steps, given.pixel) == ("steps", 300_000, "mse")
        assert given.weight_decay == 1e-5
    assert recipe("cascade") == TrainConfig(model="cascade")


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 1), (9_999, 1), (10_000, 0.96), (25_000, 0.96**2), (299_999, 0.96**29)]
)
def test_the_learning_rate_falls_by_a_twenty_fifth_every_ten_thousand_steps(step, factor):
    assert learning_rate(recipe("dtb"), step) == pytest.approx(1e-4 * factor)


def test_weight_decay_is_the_gradient_of_the_squared_norm():
    """Adam with L2 = lambda |W|^2 sees the gradient 2 lambda W beside that of the loss."""
    net = torch.nn.Linear(3, 2)
    (group,) = new_optimizer(config_of(weight_decay=0.25), net).param_groups
    start = net.weight.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(0.25 * start.square().sum(), start)
    assert torch.allclose(group["weight_decay"] * start, gradient)
    photo = new_optimizer(replace(TrainConfig(), weight_decay=0.25), net)
    assert isinstance(photo, torch.optim.AdamW)
    assert photo.param_groups[0]["weight_decay"] == 0.25


@every_variant
def test_two_steps_and_two_more_equal_four_bit_for_bit(begin, tmp_path, variant):
    config = config_of(variant)
    whole = list(begin(config, "whole"))
    stopped = begin(config, "parts")
    parts = [next(stopped)]
    stopped.close()
    parts += begin(config, "parts", resume=True)
    one, other = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    assert one["step"] == 4
    assert_equal(one, other)
    assert [(r.step, r.loss, r.gain) for r in whole] == [(r.step, r.loss, r.gain) for r in parts]
    file = f"weights/{NAMES[variant]}-video.safetensors"
    assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


def test_a_run_folder_holds_what_that_of_a_photo_stage_does(begin, tmp_path):
    list(begin(config_of()))
    run = tmp_path / "run"
    assert {p.name for p in (run / "stage1").iterdir()} == STAGE_FILES
    assert [int(row["step"]) for row in rows_of(run)] == [2, 4]
    strip = read_photo(run / "stage1" / "strip.png").pixels
    assert strip.shape == (3, 3 * 20, 9 * 20)


@every_variant
@pytest.mark.parametrize("inputs", [3, 5])
def test_the_average_weights_are_exported_for_video(begin, tmp_path, variant, inputs):
    list(begin(config_of(variant, inputs=inputs, steps=2)))
    path = tmp_path / "run" / "weights" / f"{NAMES[variant]}-video.safetensors"
    loaded = load_video_model(weights=path)
    assert loaded.net.config == DTBConfig(variant=variant, inputs=inputs, **SMALL)
    for name, weight in loaded.net.state_dict().items():
        assert torch.equal(weight, checkpoint(tmp_path / "run")["ema"][name].half().float()), name
    by_name = load_video_model(NAMES[variant], weights=path.parent)
    assert_equal(by_name.net.state_dict(), loaded.net.state_dict())
    with pytest.raises(Exception, match="deblurs video"):
        load_model(weights=path)


def test_a_net_that_has_learned_nothing_gains_nothing(begin):
    (report,) = begin(config_of(lr=0.0, steps=1))
    assert report.gain == 0


def test_the_loss_falls_and_the_gain_rises_on_one_sequence(tmp_path, sequences, monkeypatch):
    monkeypatch.setattr(b2v.training.loop, "REPORT_EVERY", 20)
    bank = np.load(sequences / "sequences.npy")[:1]
    bank[:, 0] = bank[:, 1] // 2 + 110  # what was lost is contrast, and it is too bright
    np.save(sequences / "sequences.npy", bank)
    fast = {"pixel": "log-mse", "schedule": "cosine", "optimizer": "adamw", "warmup": 5}
    config = config_of(steps=60, batch=2, lr=1e-2, validate_every=20, ema=0.9, **fast)
    reports = list(train(config, tmp_path / "run", sequences, sequences, CPU, workers=0))
    assert reports[-1].loss < reports[0].loss - 0.3
    gains = [r.gain for r in reports]
    assert 0.1 < gains[0] < gains[1]
    assert gains[-1] > 4


def test_the_loss_is_the_mean_of_the_frames_of_one_run_through_the_sequence():
    net = new_network(config_of(), {})
    torch.nn.init.normal_(net.head.weight, std=0.1)
    blurry, sharp = torch.rand(2, 2, 4, 3, 8, 8)
    loss = compare(config_of(), {VIDEO: net}, blurry, sharp, 0).loss
    restored = run_clip(net, blurry)
    frames = [pixel_loss(restored[:, n], sharp[:, n], "mse") for n in range(4)]
    assert torch.allclose(loss, torch.stack(frames).mean(0))
    assert loss.shape == (2,)


def test_the_gradient_of_a_late_frame_reaches_the_first_one():
    """What the network made of frame 1 is remembered in frame 4, three steps later."""
    net = new_network(config_of(), {})
    torch.nn.init.normal_(net.head.weight, std=0.1)
    blurry = torch.rand(1, 5, 3, 8, 8, requires_grad=True)
    run_clip(net, blurry)[:, 4].sum().backward()
    assert blurry.grad[0, 0].abs().max() > 0


def test_validation_means_the_gain_of_all_frames(sequences):
    stored = torch.from_numpy(np.load(sequences / "sequences.npy")).float() / 255
    blurry, sharp = stored.unbind(1)
    answers = iter((blurry + sharp) / 2)

    def answer(_: DTB, clip: Tensor) -> Tensor:
        return next(answers)[None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("b2v.training.stages.run_clip", answer)
        gain, strip = validate(VIDEO, {VIDEO: DTB(DTBConfig(**SMALL))}, sequences, CPU)
    assert gain == pytest.approx(6.02, abs=0.01)  # half the error is 20 log10(2) dB
    cells = strip.unflatten(1, (3, 20)).unflatten(-1, (9, 20))
    for cell, frame in zip((2, 5, 8), (0, 2, 4), strict=True):
        assert torch.equal(cells[:, 0, :, cell], sharp[0, frame])


def test_sequences_without_any_blur_do_not_spoil_the_mean(sequences):
    bank = np.load(sequences / "sequences.npy")
    bank[0, 0] = bank[0, 1]
    np.save(sequences / "sequences.npy", bank)
    gain, _ = validate(VIDEO, {VIDEO: DTB(DTBConfig(**SMALL))}, sequences, CPU)
    assert gain == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": 17}, "multiple of 2"),
        ({"crop": 40}, "larger than the clips: 20 pixels"),
        ({"frames": 6}, "frames 6 does not suit; take 1 to 5"),
        ({"inputs": 4}, "inputs 4 is unknown; choose 3, 5, 7"),
        ({"stage": 2}, "stage 2 is unknown; choose 1"),
        ({"schedule": "stairs"}, "stairs"),
        ({"optimizer": "sgd"}, "sgd"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_a_sentence(begin, change, message):
    if "frames" in change:
        with pytest.raises(UsageError, match=message):
            check(config_of(**change), 20, 5)
        return
    with pytest.raises(UsageError, match=message):
        next(begin(config_of(**change)))


def test_a_unet_with_blending_is_trained_on_from_a_net_for_photos(begin, tmp_path, monkeypatch):
    shape = {"widths": (8, 12), "blocks": (1, 1)}
    monkeypatch.setitem(MODELS, "blend", {VIDEO: Blueprint("blend", BlendConfig(**shape))})
    photo = Blueprint("unet", UNetConfig(inputs=1, **shape))
    weights = photo.build().state_dict()
    weights["head.weight"].normal_(std=0.01)
    save_network(weights, photo, "middle", tmp_path / "middle.safetensors", half=False)
    config = replace(
        recipe("blend"),
        steps=1,
        crop=16,
        frames=3,
        inputs=5,
        start=str(tmp_path / "middle.safetensors"),
    )
    (report,) = begin(config)
    assert math.isfinite(report.loss)
    net = load_video_model(weights=tmp_path / "run" / "weights").net
    assert (type(net), net.look_ahead) == (BlendNet, 2)
    moved = (net.stem.weight[:, :12] - weights["stem.weight"]).abs().max()
    assert 0 < moved < 0.01  # it started there
    assert net.stem.weight[:, 12:].abs().max() < 0.01


def test_models_for_video_are_known():
    assert [is_for_video(m) for m in ("dtb-cnn", "cascade", "nobody")] == [True, False, False]


@pytest.fixture
def b2v_train(capsys, monkeypatch, tmp_path):
    """`b2v train ARGS` with two photographs, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for seed in range(2):
        write_photo(make_picture(80, 90, seed), tmp_path / "data" / f"{seed}.png")
    small = ("--steps", 1, "--batch", 1, "--crop", 16, "--clips", 2, "--set", "workers=0")
    on_cpu = ("--device", "cpu", "--precision", "fp32")
    monkeypatch.setattr("b2v.cli.train.HELD_OUT_SEQUENCES", 1)
    return lambda *args: run_main(capsys, "train", "--data", "data", *args, *small, *on_cpu)


def test_the_command_draws_a_bank_and_trains_a_video_network(b2v_train, tmp_path):
    ran = b2v_train("-m", "dtb-cnn", "--set", "inputs=5", "--set", "frames=2")
    assert (ran.code, ran.out) == (0, "runs/dtb-cnn/weights\n")
    assert "step      1  loss" in ran.err
    assert "validation" in ran.err
    (file,) = (tmp_path / "runs" / "bank-video").glob("*/train/sequences.npy")
    stored = np.load(file, mmap_mode="r")
    assert stored.shape == (2, 2, 13, 3, 144, 144)
    net = load_video_model("dtb-cnn", weights=tmp_path / "runs" / "dtb-cnn" / "weights").net
    assert (net.config.variant, net.config.inputs) == ("cnn", 5)


def test_a_program_gets_an_object_of_json_for_each_report_and_the_weights(b2v_train):
    ran = b2v_train("-m", "dtb-cnn", "--set", "frames=2", "--json", "-q")
    report, end = map(json.loads, ran.out.splitlines())
    assert (report["step"], ran.err) == (1, "")
    assert report["loss"] > 0
    assert isinstance(report["gain"], float)
    assert end == {"weights": "runs/dtb-cnn/weights"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("-m", "dtb", "--set", "teacher=0.5"), "teacher is for training on photos"),
        (("-m", "dtb", "--set", "pair=pair"), "pair is for training on photos"),
        (("-m", "dtb", "--stage", 2), "stage 2 is unknown; choose 1"),
        (("-m", "dtb", "--set", "inputs=4"), "inputs 4 is unknown; choose 3, 5, 7"),
        (("-m", "cascade", "--set", "inputs=5"), "inputs is for training on video"),
        (("-m", "cascade", "--set", "frames=3"), "frames is for training on video"),
        (("-m", "cascade", "--stage", 5), "stage is '5', expected 1 to 4 or all"),
        (("-m", "cascade", "--set", "ema=2"), "ema 2 does not suit; take 0 to 1"),
        (("-m", "cascade", "--set", "lrr=2"), "did you mean lr?"),
        (("nowhere.toml",), "nowhere.toml: No such file"),
        (("-m", "nobody"), "model 'nobody' is unknown"),
    ],
)
def test_what_does_not_suit_is_refused_before_anything_is_drawn(b2v_train, tmp_path, args, message):
    assert_one_line(b2v_train(*args), 2, message)
    assert not (tmp_path / "runs").exists()
