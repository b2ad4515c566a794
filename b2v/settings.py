"""Settings of a training command: from a TOML file, from options, and from `--set key=value`.

A key is a field of `TrainConfig` or of `Settings`; `stage2.steps`, in the file `steps` in a table
`[stage2]`, is meant for one stage alone. Options go before the file, and `--set` before both.
"""

import difflib
import json
import math
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from b2v.errors import UsageError
from b2v.models import MODELS
from b2v.recipes import FOR_PHOTOS, FOR_VIDEO, TrainConfig, is_for_video, recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ALL = "all"
STAGES = ("1", "2", "3", "4")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a training command is to do beside `configs`, one for each stage, in order."""

    configs: tuple[TrainConfig, ...]
    stage: str = "1"
    data: tuple[str, ...] = ()
    run: str = ""
    """Folder of the run, shared by its stages."""
    bank: str = ""
    """Folder of what is drawn from the data."""
    clips: int | None = None
    aperture: Literal["standard", "coded"] = "standard"
    """What the blur of the bank is seen through (`b2v.data.BankConfig`)."""
    minutes: float = math.inf
    resume: bool = False
    workers: int = 1
    """Processes that cut crops."""
    compile: bool = False
    """Whether the networks are run through `torch.compile`."""
    device: str = "auto"
    precision: str = "auto"

    @property
    def video(self) -> bool:
        """Tell whether a network for video is trained."""
        return is_for_video(self.configs[0].model)


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
    plain: Any = value
    if get_origin(hint) is tuple:
        plain = [_number(part) if float in get_args(hint) else part for part in value.split(",")]
    elif value in ("true", "false") and hint is bool:
        plain = value == "true"
    elif hint in (int, float, int | None):
        plain = _number(value)
    return key, _fit(key, plain, "--set")


def resolve(values: Mapping[str, Any]) -> Settings:
    """Make settings of values by key, as `read_settings` and `read_assignment` give them.

    Raises UsageError when a value is of no use for the model.
    """
    values = {key: _fit(key, value, "settings") for key, value in values.items()}
    common = {key: value for key, value in values.items() if key in _CONFIG}
    base = recipe(common.get("model", TrainConfig().model))
    _refuse_others(base.model, values)
    base = replace(base, **common)
    stage = values.get("stage", "1")
    count = len(MODELS.get(base.model, STAGES))
    wanted = range(1, count + 1) if stage == ALL else [int(stage)]
    configs = []
    for number in wanted:
        own = _of_stage(values, number)
        if number > wanted[0]:  # later stages start at the network of the one before
            own = {"start": "", **own}
        configs.append(replace(base, stage=number, **own))
    rest = {key: value for key, value in values.items() if key in _COMMAND}
    for name, least in _LEAST.items():
        if (value := rest.get(name)) is not None and not value >= least:
            raise UsageError(f"{name} {value} does not suit; take {least} or more")
    changed = any(c.discrete or c.rest or c.soft or c.recolour for c in configs)
    if rest.get("aperture") == "coded" and changed:
        raise UsageError(
            "a coded aperture tells colours apart and makes its own blur; set discrete=0,"
            " rest=0, soft=0 and recolour=false with aperture=coded"
        )
    return Settings(configs=tuple(configs), **rest)


def _of_stage(values: Mapping[str, Any], number: int) -> dict[str, Any]:
    prefix = f"stage{number}."
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}


def _refuse_others(model: str, values: Mapping[str, Any]) -> None:
    """Refuse settings that are for another kind of model."""
    others, use = (FOR_PHOTOS, "photos") if is_for_video(model) else (FOR_VIDEO, "video")
    usual = recipe(model)
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


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


__all__ = ["ALL", "KEYS", "Settings", "read_assignment", "read_settings", "resolve"]
