"""What a run of training does: its config, and the recipe of each model.

Settings come from a TOML file, from options, and from `--set key=value`. A key is a field of
`TrainConfig` or of `Settings`; `stage2.steps`, in the file `steps` in a table `[stage2]`, is meant
for one stage alone. Options go before the file, and `--set` before both.
"""

import difflib
import json
import math
import sys
import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from torch import nn

from b2v.errors import UsageError
from b2v.frames import FRAMES
from b2v.models import MAXIM_STAGES, MODELS, ROLES, VIDEO, Blueprint
from b2v.models.dtb import INPUTS, BlendConfig, DTBConfig
from b2v.models.unet import UNetConfig
from b2v.training.losses import PairLoss, PixelLoss
from b2v.weights.hub import vgg16_is_here

Forcing = Literal["fading", "always", "never"]
Init = Literal["previous", "fresh"]
Schedule = Literal["cosine", "steps"]
Optimizer = Literal["adamw", "adam"]

DECAY, DECAY_STEPS = 0.96, 10_000
"""The learning rate is multiplied by this at every so many steps (Kim et al., Sec. 5)."""

LIMITS = {
    **dict.fromkeys(("steps", "batch", "warmup", "validate_every"), (1, math.inf)),
    "crop": (16, math.inf),
    **dict.fromkeys(("lr", "weight_decay", "perceptual", "adversarial"), (0, math.inf)),
    **dict.fromkeys(("canonical", "teacher", "ema", "jpeg", "discrete", "rest", "soft"), (0, 1)),
}
"""Least and largest values of settings that are numbers."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of one stage; all but `steps` are fixed once it has begun."""

    model: str = "cascade"
    stage: int = 1
    steps: int = 10_000
    batch: int = 8
    crop: int = 128
    lr: float = 5e-4
    warmup: int = 200
    """Steps in which the learning rate rises from zero."""
    schedule: Schedule = "cosine"
    """How the rate falls: by a cosine to zero, or by `DECAY` at every `DECAY_STEPS` (`steps`)."""
    optimizer: Optimizer = "adamw"
    """Whether `weight_decay` shrinks the weights (AdamW), or its product with |W|^2 is a part of
    the loss, as Kim et al. have it (Adam)."""
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 5.0
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the moving average of weights, which is what is validated and exported."""
    pixel: PixelLoss = "log-mse"
    """How a frame is compared with the truth."""
    perceptual: float = 0.0
    """Weight of the distance between VGG16's features of middle frames (Jin et al., eq. 3)."""
    pair: PairLoss = "best-order"
    """How frames whose order of time is free are compared (`b2v.training.losses.frames_loss`);
    `independent` is for a coded aperture, which tells it."""
    adversarial: float = 0.0
    """Weight of what a critic of patches makes of the other frames (`b2v.training.losses`)."""
    canonical: float = 0.2
    """Part of the run in which a net that chooses the direction of time has it prescribed
    (`moves_against`), because one that starts with equal frames would never choose; then the
    better direction counts. 1 is a rule of order throughout, as in HyperCUT (CVPR 2023), by the
    motion instead of a learned hyperplane."""
    forcing: Forcing = "fading"
    """Whether a side net sees the true x4 (teacher forcing): less and less often (`teacher`),
    always, as in the paper, or never."""
    teacher: float = 0.3
    """Part of a side net's run in which teacher forcing fades; from then on it sees the middle
    net's own x4."""
    see_middle: bool = True
    """Whether a net for a pair of frames sees x4 at all."""
    init: Init = "previous"
    """Where a side net of the U-Net kind starts: at the net of the stage before, which knows
    how to deblur, or at random."""
    start: str = ""
    """File of a network of the same shape that is trained on, or one of the U-Net kind by whose
    weights a net of that kind starts, as far as they fit."""
    frames: int = 13
    """Consecutive frames of a video network's sequences, through which its gradient flows."""
    inputs: int = 3
    """Frames that a video network sees at once, 3, 5 or 7."""
    jpeg: float = 0.1
    """Share of crops whose blurry pictures are compressed."""
    discrete: float = 0.3
    """Share of crops whose blur is the light of the seven frames alone, as of averaged videos."""
    rest: float = 0.0
    """Share of crops that stand still instead, a little soft."""
    soft: float = 0.0
    """Share of the other crops whose blurry picture and frames are as soft as that."""
    recolour: bool = True
    """Whether the colours of a crop change places at random (Jin et al., Sec. 6)."""
    seed: int = 0
    validate_every: int = 500

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of the networks up to that of the stage, in training order."""
        return tuple(MODELS[self.model])[: self.stage]

    @property
    def role(self) -> str:
        """Role of the network that is trained."""
        return self.roles[-1]

    @property
    def blueprint(self) -> Blueprint:
        """Kind and config of the network that is trained."""
        plan = MODELS[self.model][self.role]
        if isinstance(plan.config, BlendConfig | DTBConfig):
            return replace(plan, config=replace(plan.config, inputs=self.inputs))
        if not self.see_middle and isinstance(plan.config, UNetConfig) and plan.config.outputs == 2:
            return Blueprint("unet-alone", replace(plan.config, inputs=1))
        return plan


def recipe(model: str, stage: int = 1) -> TrainConfig:
    """Give the settings that a stage of a model is trained with unless others are asked for.

    The cascade of Jin et al. (CVPR 2018) has those of Table 1 and Sec. 6: eq. 3, eq. 5 for every
    pair, a critic for all but the middle frame, and the true middle frame as input. Weights of the
    terms, rates and steps are published nowhere and are ours. Variants of DTB have those of Kim et
    al. (ICCV 2017, Sec. 5). Neither paper holds the gradient or averages weights, which
    `TrainConfig` does for all.
    """
    if model == "jin2018":
        return TrainConfig(
            model=model,
            stage=stage,
            batch=32 if stage == 1 else 24,
            crop=320,
            lr=1e-4,
            optimizer="adam",
            weight_decay=0.0,
            betas=(0.5, 0.999),
            pixel="mse",
            perceptual=0.01,
            pair="pair",
            adversarial=0.001,
            forcing="always",
            jpeg=0.0,
            discrete=1.0,
        )
    if not is_for_video(model):
        return TrainConfig(model=model, stage=stage)
    if model == "blend":
        return TrainConfig(model=model, frames=5, crop=112, batch=2, lr=3e-4, warmup=50, ema=0.995)
    return TrainConfig(
        model=model,
        steps=300_000,
        lr=1e-4,
        warmup=1,
        schedule="steps",
        optimizer="adam",
        weight_decay=1e-5,
        betas=(0.9, 0.999),
        pixel="mse",
        validate_every=1000,
    )


ABLATION: dict[str, dict[str, Any]] = {
    "independent": {"model": "apart", "pair": "independent", "pixel": "mse"},
    "global": {"model": "apart", "pair": "global", "pixel": "mse"},
    "pair": {"model": "pairs", "pair": "pair", "pixel": "mse", "see_middle": False},
    "pair + middle": {"model": "pairs", "pair": "pair", "pixel": "mse", "forcing": "never"},
    "sequential": {"model": "cascade", "pair": "pair", "pixel": "mse", "forcing": "never"},
    "teacher forcing": {"model": "cascade", "pair": "pair", "pixel": "mse", "forcing": "always"},
}
"""What the schemes that Jin et al. compare (Sec. 7, Fig. 4) change in a recipe."""

SEEN_AS_IT_WAS: dict[str, Any] = {"recolour": False, "discrete": 0.0, "pair": "independent"}
"""What a coded aperture changes in a recipe: it tells colors apart, makes its own blur, and says
which way time ran."""

FOR_PHOTOS = (
    *("perceptual", "pair", "adversarial", "canonical", "forcing", "teacher"),
    *("see_middle", "init", "discrete", "rest", "soft", "recolour"),
)
FOR_VIDEO = ("frames", "inputs")
"""Settings that have a meaning for one kind of model alone."""


def is_for_video(model: str) -> bool:
    """Tell whether a model restores video; an unknown one does not."""
    return VIDEO in MODELS.get(model, {})


def check(config: TrainConfig, clip_size: int, clip_frames: int = FRAMES) -> None:
    """Check that a config can be trained on clips of so many pixels a side, and frames.

    Raises UsageError, which names what is wrong and what would do.
    """
    _check_choices(config)
    for name, (least, most) in LIMITS.items():
        value = getattr(config, name)
        if not least <= value <= most:
            upto = f" to {most:g}" if math.isfinite(most) else " or more"
            raise UsageError(f"{name} {value:g} does not suit; take {least:g}{upto}")
    plans = MODELS[config.model]
    multiple = math.lcm(*(multiple_of(plans[role].build()) for role in config.roles))
    if config.crop % multiple:
        raise UsageError(f"crop {config.crop} does not suit; take a multiple of {multiple}")
    if config.crop > clip_size:
        raise UsageError(f"crop {config.crop} is larger than the clips: {clip_size} pixels")
    if config.role == VIDEO and not 1 <= config.frames <= clip_frames:
        raise UsageError(f"frames {config.frames} does not suit; take 1 to {clip_frames}")
    stages = (replace(config, stage=number) for number in range(1, 1 + len(plans)))
    if not config.see_middle and all(one.blueprint.kind != "unet-alone" for one in stages):
        raise UsageError(f"see_middle = false is for pairs by a U-Net, which {config.model} lacks")


def _check_choices(config: TrainConfig) -> None:
    choices = {n: get_args(h) for n, h in _CONFIG.items() if get_origin(h) is Literal}
    trainable = (model for model, plans in MODELS.items() if MAXIM_STAGES[1] not in plans)
    choices |= {"model": tuple(trainable), "inputs": INPUTS}  # MAXIM has a stage alone
    choices["stage"] = tuple(range(1, 1 + len(MODELS.get(config.model, ROLES))))
    for name, known in choices.items():
        if (value := getattr(config, name)) not in known:
            raise UsageError(f"{name} {value!r} is unknown; choose {', '.join(map(str, known))}")


def multiple_of(net: nn.Module) -> int:
    """Give the multiple of pixels that a network's pictures must have a side."""
    return cast("int", net.multiple)


if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ALL = "all"
STAGES = ("1", "2", "3", "4")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a training command; `configs` has one for each stage, in order."""

    configs: tuple[TrainConfig, ...]
    stage: str = "1"
    data: tuple[str, ...] = ()
    run: str = ""
    """Folder of the run, shared by its stages."""
    bank: str = ""
    """Folder of what is drawn from the data."""
    clips: int | None = None
    aperture: Literal["standard", "coded"] = "standard"
    """What the blur of the bank is seen through (`b2v.data.datasets.BankConfig`)."""
    minutes: float = math.inf
    resume: bool = False
    workers: int = 1
    """Processes that cut crops."""
    compile: bool = False
    """Whether the networks are run through `torch.compile`."""
    device: str = "auto"
    precision: str = "auto"


_COMMAND = {n: h for n, h in get_type_hints(Settings).items() if n != "configs"}
_CONFIG = {n: h for n, h in get_type_hints(TrainConfig).items() if n != "stage"}
KEYS = {**_CONFIG, **_COMMAND}
"""All settings, with the types that their values must have."""
_LEAST = {"clips": 1, "minutes": 0, "workers": 0}
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def read_settings(path: Path) -> dict[str, Any]:
    """Read a TOML file, or the `config.json` of a run, as values by key.

    Raises UsageError when it cannot be read, or a key or a value in it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected a TOML file of settings") from error
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {' '.join(str(error).split())}") from error
    values = {}
    for key, value in found.items():
        inner = value.items() if isinstance(value, dict) and _is_stage(key) else None
        named = {key: value} if inner is None else {f"{key}.{k}": v for k, v in inner}
        for name, one in named.items():
            values[name] = _fit(name, one, str(path))
    return values


def read_assignment(text: str) -> tuple[str, Any]:
    """Read `key=value`, where text needs no quotes and lists are written `a,b`.

    Raises UsageError when it is something else, or the key or the value is wrong.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: expected key=value")
    key, value = key.strip(), value.strip()
    hint = _type_of(key, "--set")
    is_list, is_text = get_origin(hint) is tuple, str in (hint, *map(type, get_args(hint)))
    plain: Any = value.split(",") if is_list else value
    if not is_text and str not in get_args(hint):
        with suppress(tomllib.TOMLDecodeError):
            plain = tomllib.loads(f"x = [{value}]" if is_list else f"x = {value}")["x"]
    return key, _fit(key, plain, "--set")


def write_settings(values: Mapping[str, Any]) -> str:
    """Write values by key as the TOML that `read_settings` reads; `resume` is left out."""
    lines = ["# b2v train recipe.toml does this again\n"]
    for key, value in values.items():
        if key != "resume" and value is not None:
            plain = list(value) if isinstance(value, tuple) else value
            text = "inf" if value == math.inf else json.dumps(plain, ensure_ascii=False)
            lines.append(f"{key} = {text}\n")
    return "".join(lines)


def resolve(values: Mapping[str, Any]) -> Settings:
    """Make settings of values by key, as `read_settings` and `read_assignment` give them.

    Raises UsageError when a value is of no use for the model.
    """
    values = {key: _fit(key, value, "settings") for key, value in values.items()}
    common = {key: value for key, value in values.items() if key in _CONFIG}
    model, stage = common.get("model", TrainConfig().model), values.get("stage", "1")
    coded = values.get("aperture") == "coded"
    _refuse_others(model, values)
    count = len(MODELS.get(model, STAGES))
    wanted = range(1, count + 1) if stage == ALL else [int(stage)]
    configs = []
    for number in wanted:
        prefix = f"stage{number}."
        own = {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
        if number > wanted[0]:  # later stages start at the network of the one before
            own = {"start": "", **own}
        base = replace(recipe(model, number), **(SEEN_AS_IT_WAS if coded else {}))
        configs.append(replace(base, **{**common, **own, "stage": number}))
    rest = {key: value for key, value in values.items() if key in _COMMAND}
    for name, least in _LEAST.items():
        if (value := rest.get(name)) is not None and not value >= least:
            raise UsageError(f"{name} {value} does not suit; take {least} or more")
    changed = any(c.discrete or c.rest or c.soft or c.recolour for c in configs)
    if coded and changed:
        raise UsageError(
            "a coded aperture tells colours apart and makes its own blur; set discrete=0,"
            " rest=0, soft=0 and recolour=false with aperture=coded"
        )
    return Settings(configs=tuple(configs), **rest)


def without_missing(values: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Leave out the perceptual loss where VGG16 would have to be downloaded for it.

    Returns the values, and a line that says what is off, or nothing.
    """
    usual = recipe(values.get("model", TrainConfig().model)).perceptual
    asked = any(key.rpartition(".")[2] == "perceptual" for key in values)
    if not usual or asked or vgg16_is_here():
        return dict(values), ""
    said = f"off: the perceptual loss, as VGG16 is not here; --set perceptual={usual} downloads it"
    return {**values, "perceptual": 0.0}, said


def _refuse_others(model: str, values: Mapping[str, Any]) -> None:
    """Refuse settings that are for another kind of model."""
    others, use = (FOR_PHOTOS, "photos") if is_for_video(model) else (FOR_VIDEO, "video")
    usual = recipe(model)
    if values.get("aperture", "standard") != "standard" and is_for_video(model):
        raise UsageError(f"aperture is for training on photos, and {model} is not for photos")
    for key, value in values.items():
        name = key.rpartition(".")[2]
        if name in others and value != getattr(usual, name):
            raise UsageError(f"{name} is for training on {use}, and {model} is not for {use}")


def _is_stage(key: str) -> bool:
    return key.startswith("stage") and key.removeprefix("stage") in STAGES


def _type_of(key: str, where: str) -> Any:  # noqa: ANN401
    stage, dot, name = key.rpartition(".")
    if dot and (not _is_stage(stage) or name not in _CONFIG or name == "model"):
        raise UsageError(f"{where}: unknown setting {key!r}; a stage's own are like stage2.steps")
    if name not in KEYS:
        near = difflib.get_close_matches(name, KEYS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"{where}: unknown setting {key!r}; {hint}known: {', '.join(sorted(KEYS))}"
        )
    return KEYS[name]


def _fit(key: str, value: Any, where: str) -> Any:  # noqa: ANN401
    """Bring a value to the type of its setting, or refuse it."""
    if key == "stage":
        if str(value) not in (*STAGES, ALL):
            raise UsageError(f"{where}: stage is {value!r}, expected 1 to 4 or {ALL}")
        return str(value)
    hint = _type_of(key, where)
    origin, choices = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        hint = choices[0]
    if origin is Literal and value in choices:
        return value
    if origin is tuple:
        kind = choices[0]
        listed = [value] if isinstance(value, str) else value
        count = len(listed) if isinstance(listed, list | tuple) else -1
        if count >= 0 and (choices[-1] is ... or count == len(choices)):
            return tuple(_convert(item, kind, key, where) for item in listed)
        many = _WORDS[kind] if choices[-1] is ... else f"{len(choices)} numbers"
        raise UsageError(f"{where}: {key} is {value!r}, expected a list of {many}")
    if origin is Literal:
        raise UsageError(f"{where}: {key} is {value!r}, expected one of {', '.join(choices)}")
    return _convert(value, hint, key, where)


def _convert(value: Any, kind: type, key: str, where: str) -> Any:  # noqa: ANN401
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{where}: {key} is {value!r}, expected {_WORDS[kind]}")
    return value
