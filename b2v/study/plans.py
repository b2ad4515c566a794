"""The studies: which networks are trained, with what, and how they are scored.

* `dtb-variants`: CNN, STRCNN and STRCNN + DTB for video (Kim et al., ICCV 2017, Table 1, Fig. 5).
* `coded`: the middle net on standard and on phase-coded blur of the same frames (Berman 2021).
* `jin-ablation`: the schemes that Jin et al. compare (CVPR 2018, Sec. 7, Fig. 4).

The recipes are for hours on a few CPU cores: smaller crops and batches than in the papers, a
cosine to zero, and an average of weights that forgets in a few hundred steps.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from b2v.data import Aperture
from b2v.entries import Protocol
from b2v.errors import UsageError
from b2v.models import MODELS
from b2v.recipes import ABLATION, TrainConfig, recipe

SHORT: dict[str, Any] = {"schedule": "cosine", "lr": 5e-4, "warmup": 100, "ema": 0.995}
"""What all short trainings have in common."""
PHOTO: dict[str, Any] = {**SHORT, "crop": 96, "validate_every": 500}
VIDEO: dict[str, Any] = {
    **SHORT,
    **{"crop": 64, "batch": 6, "frames": 4, "pixel": "log-mse", "warmup": 30, "ema": 0.99},
    **{"betas": (0.9, 0.99), "validate_every": 300},
}
PLAIN: dict[str, Any] = {"recolour": False, "discrete": 0.0, "jpeg": 0.0}
"""What a coded aperture allows: colours stay in order, blur as it was seen."""


@dataclass(frozen=True)
class Row:
    """One line of a study's table: a network, and what it is scored on."""

    name: str
    net: str
    """Name of the run that trains it; rows of one name share a network."""
    stages: tuple[TrainConfig, ...] = ()
    """How it is trained, stage by stage; none is the fast model as it comes."""
    trained_on: Aperture = "standard"
    scored_on: Aperture = "standard"


@dataclass(frozen=True)
class Study:
    """A comparison; every trained row has the same budget."""

    name: str
    title: str
    protocol: Protocol
    rows: tuple[Row, ...]
    export: tuple[str, str] | None = None
    """Run whose network becomes weights in the study's folder, and their name."""


def all_stages(model: str, **changes: Any) -> tuple[TrainConfig, ...]:  # noqa: ANN401
    """Give the recipe of a model with changes, for each of its stages."""
    base = replace(recipe(model), **changes)
    return tuple(replace(base, stage=number + 1) for number in range(len(MODELS[model])))


def studies() -> dict[str, Study]:
    """List the studies by name."""
    variants = (("CNN", "dtb-cnn"), ("STRCNN", "dtb-strcnn"), ("STRCNN + DTB", "dtb"))
    listed = (
        Study(
            "dtb-variants",
            "Online video deblurring: what recurrence and blending are worth",
            "video",
            tuple(Row(name, model, all_stages(model, **VIDEO)) for name, model in variants),
        ),
        Study(
            "coded",
            "Middle frame through a standard and a phase-coded aperture",
            "middle",
            _coded_rows(),
            export=("coded", "middle-coded"),
        ),
        Study(
            "jin-ablation",
            "Seven frames: losses, and order of restoration",
            "seven",
            tuple(_ablation_row(name, changes) for name, changes in ABLATION.items()),
        ),
    )
    return {study.name: study for study in listed}


def with_settings(study: Study, changes: dict[str, Any]) -> Study:
    """Change settings of all rows of a study alike; `start` is where first stages start.

    Raises UsageError for a setting that is none of a row, or that tells the rows apart.
    """
    trained = [row for row in study.rows if row.stages]
    known = {field.name for field in fields(TrainConfig)}
    for key in changes:
        if key not in known:
            raise UsageError(f"{key} cannot be set in a study; only how all rows are trained can")
        if key in ("model", "stage", "steps") or _differ(trained, key):
            raise UsageError(f"{key} cannot be set in {study.name}: its rows differ in it")
    rest = {key: value for key, value in changes.items() if key != "start"}
    rows = tuple(
        replace(
            row,
            stages=tuple(replace(s, **(rest if s.stage > 1 else changes)) for s in row.stages),
        )
        for row in study.rows
    )
    return replace(study, rows=rows)


def _coded_rows() -> tuple[Row, ...]:
    stages = all_stages("cascade", **PHOTO, **PLAIN)[:1]
    return (
        Row("as it comes, standard blur", "shipped"),
        Row("as it comes, coded blur", "shipped", scored_on="coded"),
        Row("trained on standard, standard blur", "standard", stages),
        Row("trained on standard, coded blur", "standard", stages, scored_on="coded"),
        Row("trained on coded, coded blur", "coded", stages, "coded", "coded"),
    )


def _ablation_row(name: str, changes: dict[str, Any]) -> Row:
    rest = {key: value for key, value in changes.items() if key != "model"}
    stages = all_stages(changes["model"], **{**PHOTO, **rest})
    return Row(name, name.replace(" + ", "-").replace(" ", "-"), stages)


def _differ(rows: list[Row], key: str) -> bool:
    return len({str(getattr(row.stages[0], key)) for row in rows}) > 1
