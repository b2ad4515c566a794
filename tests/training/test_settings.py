"""Settings of a training command: what goes before what, and what is refused in a line."""

import json
import math
from dataclasses import asdict

import pytest

from b2v.errors import UsageError
from b2v.training.config import (
    KEYS,
    TrainConfig,
    read_assignment,
    read_settings,
    recipe,
    resolve,
    without_missing,
    write_settings,
)

RECIPE = """
data = ["photos", "videos"]
run = "runs/mine"
minutes = 30
model = "cascade"
stage = "all"
lr = 1
pixel = "mse"
betas = [0.5, 0.999]
see_middle = false

[stage2]
steps = 3000
pair = "pair"
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="recipe.toml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_a_file_holds_any_setting_and_those_of_single_stages(write):
    settings = resolve(read_settings(write(RECIPE)))
    assert (settings.data, settings.run, settings.minutes) == (
        ("photos", "videos"),
        "runs/mine",
        30,
    )
    assert [config.stage for config in settings.configs] == [1, 2, 3, 4]
    assert [config.steps for config in settings.configs] == [10_000, 3000, 10_000, 10_000]
    assert [config.pair for config in settings.configs] == [
        *("best-order", "pair", "best-order", "best-order")
    ]
    first = settings.configs[0]
    assert (first.lr, first.betas, first.see_middle) == (1.0, (0.5, 0.999), False)
    assert isinstance(first.lr, float)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("lr=1e-3", "lr", 1e-3),
        ("steps = 50", "steps", 50),
        ("pixel=charbonnier", "pixel", "charbonnier"),
        ("see_middle=false", "see_middle", False),
        ("betas=0.5,0.9", "betas", (0.5, 0.9)),
        ("data=a,b", "data", ("a", "b")),
        ("run=12", "run", "12"),
        ("minutes=inf", "minutes", math.inf),
        ("stage=2", "stage", "2"),
        ("clips=7", "clips", 7),
        ("stage3.lr=2", "stage3.lr", 2.0),
        ("start=a=b.safetensors", "start", "a=b.safetensors"),
    ],
)
def test_an_assignment_has_the_type_of_its_setting(text, key, value):
    found = read_assignment(text)
    assert found == (key, value)
    assert type(found[1]) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lrr=1", r"--set: unknown setting 'lrr'; did you mean lr\? known: adversarial, .*workers"),
        ("stages2.lr=1", "unknown setting 'stages2.lr'; a stage's own are like stage2.steps"),
        ("stage2.data=1", "unknown setting 'stage2.data'"),
        ("lr=fast", "lr is 'fast', expected a number"),
        ("steps=1.5", "steps is 1.5, expected a whole number"),
        ("see_middle=yes", "see_middle is 'yes', expected true or false"),
        ("pixel=l1", "pixel is 'l1', expected one of mse, charbonnier, log-mse"),
        ("pair=pears", "expected one of best-order, pair, global, independent"),
        ("betas=0.5", r"betas is \[0.5\], expected a list of 2 numbers"),
        ("stage=5", "stage is '5', expected 1 to 4 or all"),
        ("lr", "--set lr: expected key=value"),
    ],
)
def test_what_is_wrong_is_named_with_the_choices(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_assignment(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr = ", "recipe.toml is not TOML"),
        ("lr = true", "recipe.toml: lr is True, expected a number"),
        ('steps = "9"', "recipe.toml: steps is '9', expected a whole number"),
        ("[stage2]\nrate = 1", "recipe.toml: unknown setting 'stage2.rate'"),
        ("[stage9]\nlr = 1", "recipe.toml: unknown setting 'stage9'"),
        ('data = ["a", 1]', "data is 1, expected text"),
        ("frames = 5", "frames is for training on video, and cascade is not for video"),
        ('model = "dtb"\nteacher = 0.5', "teacher is for training on photos, and dtb is not"),
        ("minutes = -1", "minutes -1.0 does not suit; take 0 or more"),
    ],
)
def test_a_wrong_file_is_refused_in_a_line(write, text, message):
    with pytest.raises(UsageError, match=message) as caught:
        resolve(read_settings(write(text)))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere.toml: No such file"):
        read_settings(tmp_path / "nowhere.toml")


def test_the_config_of_a_run_can_be_used_again(write):
    for model in ("cascade", "dtb"):
        config = recipe(model)
        again = resolve(read_settings(write(json.dumps(asdict(config)), "config.json")))
        assert again.configs == (config,)


def test_the_paper_s_cascade_has_the_paper_s_procedure(monkeypatch, tmp_path):
    settings = resolve({"model": "jin2018", "stage": "all"})
    assert [config.batch for config in settings.configs] == [32, 24, 24, 24]
    for config in settings.configs:
        assert (config.crop, config.betas, config.discrete) == (320, (0.5, 0.999), 1.0)
        assert (config.pixel, config.pair, config.forcing) == ("mse", "pair", "always")
        assert min(config.perceptual, config.adversarial) > 0
    changed = resolve({"model": "jin2018", "stage": "3", "batch": 4, "stage3.pair": "global"})
    assert (changed.configs[0].batch, changed.configs[0].pair) == (4, "global")

    monkeypatch.setenv("B2V_CACHE", str(tmp_path))
    values, said = without_missing({"model": "jin2018"})
    assert (values, said[:28]) == (
        {"model": "jin2018", "perceptual": 0.0},
        "off: the perceptual loss, as",
    )
    for asked in ({"model": "cascade"}, {"model": "jin2018", "stage1.perceptual": 0.1}):
        assert without_missing(asked) == (asked, "")
    (tmp_path / "vgg16.safetensors").touch()
    assert without_missing({"model": "jin2018"}) == ({"model": "jin2018"}, "")


def test_a_start_is_for_the_first_stage_of_all():
    every = resolve({"stage": "all", "start": "net.safetensors", "stage4.start": "other"})
    assert [config.start for config in every.configs] == ["net.safetensors", "", "", "other"]
    assert resolve({"stage": "3", "start": "net.safetensors"}).configs[0].start == "net.safetensors"


def test_every_field_of_a_config_is_a_setting():
    assert {*asdict(TrainConfig())} <= KEYS.keys()
    assert {"data", "bank", "resume", "compile", "device"} <= KEYS.keys()


def test_a_model_of_one_network_has_one_stage_of_all():
    for model in ("apart", "dtb"):
        (config,) = resolve({"model": model, "stage": "all"}).configs
        assert (config.model, config.stage) == (model, 1)


@pytest.mark.parametrize(
    "others", [{"discrete": 0.1}, {"recolour": True}, {"rest": 0.1}, {"stage2.soft": 0.1}]
)
def test_crops_of_a_coded_aperture_keep_their_colors_and_their_blur(others):
    with pytest.raises(UsageError, match="set discrete=0, rest=0, soft=0 and recolour=false"):
        resolve({"aperture": "coded", "stage": "all", **others})


def test_a_coded_aperture_teaches_the_order_of_time():
    settings = resolve({"aperture": "coded", "stage": "all"})
    assert settings.aperture == "coded"
    for config in settings.configs:
        assert (config.pair, config.recolour, config.discrete) == ("independent", False, 0)
    assert resolve({"aperture": "coded", "pair": "pair"}).configs[0].pair == "pair"
    with pytest.raises(UsageError, match="aperture is for training on photos"):
        resolve({"aperture": "coded", "model": "dtb"})


def test_what_is_written_is_read_again(write):
    values = read_settings(write(RECIPE)) | {"run": 'naïve "😀"', "minutes": math.inf, "clips": 7}
    again = read_settings(write(write_settings({**values, "resume": True}), "again.toml"))
    assert again == values
    assert resolve(again) == resolve(values)
