"""Studies: networks trained alike and scored alike, or as they come, a row of a table each.

* `jin-ablation`: the schemes that Jin et al. compare (CVPR 2018, Sec. 7, Fig. 4).
* `jin-middle`: middle frames of the models as they come (Table 2 there).
* `jin-given`: frames that the cascade gives with its own middle frame, a prior's, and the true one
  (Fig. 5 there).
* `order`: pairs trained by eq. 5, in the better order of time, and by a rule of order (HyperCUT,
  CVPR 2023).
* `dtb-variants`: CNN, STRCNN and STRCNN + DTB for video (Kim et al., ICCV 2017, Fig. 5);
  `dtb-inputs`: with 3, 5 and 7 inputs each (Table 1); `dtb-models`: models for video as they come
  (Table 2).
* `coded`: the middle net on standard and on phase-coded blur of the same frames (Berman 2021);
  `coded-video`: all seven frames, whose order the code tells (`in_order`, the share of samples
  whose frames fit better as they come).

The recipes are for hours on a few CPU cores: smaller crops and batches than in the papers, a
cosine to zero, and an average of weights that forgets in a few hundred steps. Rows are trained by
`b2v.training.loop` and scored by the evaluators of `b2v eval`. In the folder of a study lie its
banks, `runs/<row>` of each trained network, `strips/<row>` of the best and the worst samples, and
at last `scores.json`.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from b2v.color import to_linear
from b2v.data.datasets import coded
from b2v.data.exposure import Aperture, Shutter
from b2v.data.footage import Sample, find_windows, read_samples, set_name
from b2v.defaults import PHOTO_MODEL, PHOTO_MODELS, VIDEO_MODELS
from b2v.errors import DatasetError, UsageError
from b2v.evaluate import (
    Protocol,
    evaluate,
    find_videos,
    open_entries,
    restore_middle,
    score_video,
    summarize,
    summarize_videos,
)
from b2v.files import write_text
from b2v.frames import FRAMES, MIDDLE
from b2v.inference.runtime import Runtime
from b2v.inference.videos import Deblurrer
from b2v.metrics import reblur
from b2v.models import MODELS, VideoNet
from b2v.models.dtb import INPUTS
from b2v.report import Extremes
from b2v.training.caches import Bank, draw_bank, plan_bank
from b2v.training.config import ABLATION, TrainConfig, recipe
from b2v.training.logs import Notice, Report
from b2v.training.loop import train_stages

SHORT: dict[str, Any] = {"schedule": "cosine", "lr": 5e-4, "warmup": 100, "ema": 0.995}
"""What all short trainings have in common."""
PHOTO: dict[str, Any] = {**SHORT, "crop": 96, "validate_every": 500}
VIDEO: dict[str, Any] = {
    **SHORT,
    **{"crop": 64, "batch": 6, "frames": 4, "pixel": "log-mse", "warmup": 30, "ema": 0.99},
    **{"betas": (0.9, 0.99), "validate_every": 300},
}
WINDOWS: dict[str, Any] = {**VIDEO, "batch": 3, "frames": 9}
"""A window of seven frames has its like in a sequence of nine, not in one of four."""
CODED: dict[str, Any] = {**PHOTO, "recolour": False, "discrete": 0.0, "jpeg": 0.0}
"""A coded aperture wants colours in order, and blur as it was seen."""
VARIANTS = {"CNN": "dtb-cnn", "STRCNN": "dtb-strcnn", "STRCNN + DTB": "dtb"}
ORDERS: dict[str, dict[str, Any]] = {
    "eq. 5": {"pair": "pair"},
    "better order": {"pair": "best-order"},
    "rule of order": {"pair": "best-order", "canonical": 1.0},
}
Given = Literal["own", "prior", "truth"]
"""Where the middle frame comes from that a cascade makes the others of."""
HELD_OUT = 24
"""Samples to validate on, of other scenes."""


@dataclass(frozen=True)
class Row:
    """A network, and what it is trained and scored on."""

    name: str
    stages: tuple[TrainConfig, ...] = ()
    """How it is trained, stage by stage; none is `model` as it comes."""
    run: str = ""
    """Folder of the run that trains it; rows of one run share a network."""
    trained_on: Aperture = "standard"
    scored_on: Aperture = "standard"
    model: str = "unet"
    given: Given = "own"


@dataclass(frozen=True)
class Study:
    """Rows that are compared, each stage of them trained for equally many steps."""

    protocol: Protocol
    rows: tuple[Row, ...]
    anew: bool = False
    """Whether the seven sharp frames are blurred anew, through the aperture of the row."""


@dataclass(frozen=True)
class Job:
    """The data and the folder of a study."""

    data: tuple[Path, ...]
    scored_on: Path
    folder: Path
    steps: int
    """Of each stage; a step of seven networks apart takes as long as four stages together."""
    clips: int
    taus: tuple[int, ...] = (7, 11, 15)
    workers: int = 1


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")


def _trained(name: str, model: str, stages: int = 4, **changes: Any) -> Row:  # noqa: ANN401
    numbers = range(1, 1 + min(stages, len(MODELS[model])))
    configs = tuple(replace(recipe(model, number), **changes) for number in numbers)
    return Row(name, configs, _slug(name))


def _as_they_come(*models: str) -> tuple[Row, ...]:
    return tuple(Row(model, model=model) for model in models)


def _coded_rows() -> tuple[Row, ...]:
    plain, seen = (_trained(name, "cascade", 1, **CODED) for name in ("standard", "coded"))
    return (
        Row("as it comes, standard blur"),
        Row("as it comes, coded blur", scored_on="coded"),
        replace(plain, name="trained on standard, standard blur"),
        replace(plain, name="trained on standard, coded blur", scored_on="coded"),
        replace(seen, name="trained on coded", trained_on="coded", scored_on="coded"),
    )


def studies() -> dict[str, Study]:
    """List the studies by name."""
    ablation = (_trained(name, **{**PHOTO, **row}) for name, row in ABLATION.items())
    orders = {name: {**PHOTO, "pixel": "mse", **row} for name, row in ORDERS.items()}
    inputs = ((name, model, n) for name, model in VARIANTS.items() for n in INPUTS)
    coded = _trained("coded blur", "cascade", **CODED, pair="independent")
    return {
        "jin-ablation": Study("seven", tuple(ablation)),
        "jin-middle": Study("middle", _as_they_come(*PHOTO_MODELS.values(), "cascade")),
        "jin-given": Study(
            "seven",
            tuple(Row(given, model="cascade", given=given) for given in get_args(Given)),
        ),
        "order": Study("seven", tuple(_trained(n, "cascade", **c) for n, c in orders.items())),
        "dtb-variants": Study(
            "video", tuple(_trained(name, model, **VIDEO) for name, model in VARIANTS.items())
        ),
        "dtb-inputs": Study(
            "video", tuple(_trained(f"{v}, {n}", m, inputs=n, **WINDOWS) for v, m, n in inputs)
        ),
        "dtb-models": Study("video", _as_they_come(*VIDEO_MODELS.values(), "dtb")),
        "coded": Study("middle", _coded_rows(), anew=True),
        "coded-video": Study(
            "seven",
            (
                _trained("standard blur", "cascade", **CODED),
                replace(coded, trained_on="coded", scored_on="coded"),
            ),
            anew=True,
        ),
    }


def with_settings(study: Study, changes: dict[str, Any]) -> Study:
    """Change settings of all rows of a study alike; `start` is where first stages start.

    Raises UsageError for a setting that is none of a row, or that tells the rows apart.
    """
    firsts = [row.stages[0] for row in study.rows if row.stages]
    for key in changes:
        if not firsts:
            raise UsageError(f"{key} cannot be set: this study trains nothing")
        if key not in {field.name for field in fields(TrainConfig)}:
            raise UsageError(f"{key} cannot be set in a study; only how all rows are trained can")
        if key in ("model", "stage", "steps") or len({str(getattr(c, key)) for c in firsts}) > 1:
            raise UsageError(f"{key} cannot be set in this study: its rows differ in it")
    later = {key: value for key, value in changes.items() if key != "start"}
    rows = tuple(
        replace(
            row, stages=tuple(replace(s, **(later if s.stage > 1 else changes)) for s in row.stages)
        )
        for row in study.rows
    )
    return replace(study, rows=rows)


def run_study(
    study: Study, job: Job, runtime: Runtime
) -> Iterator[Notice | Report | list[dict[str, Any]]]:
    """Train and score the rows of a study, going on with what an earlier call has trained.

    Yields what happens, and of each row its summary, or of video one for each exposure. Raises
    B2VError where data, sets, settings or networks are not as they should be.
    """
    _check_set(study, job.scored_on)
    banks: dict[Aperture, Bank] = {}
    configs = [config for row in study.rows for config in row.stages]
    for aperture in dict.fromkeys(row.trained_on for row in study.rows if row.stages):
        parent = job.folder / ("bank" if aperture == "standard" else f"bank-{aperture}")
        how: dict[str, Any] = {"clips": job.clips, "held_out": HELD_OUT, "aperture": aperture}
        banks[aperture] = plan_bank(configs, job.data, parent, **how)
    for bank in banks.values():
        yield from draw_bank(bank)
    scored: list[dict[str, Any]] = []
    for row in study.rows:
        if row.stages:
            yield Notice(f"{row.name} ...")
            stages = [replace(config, steps=job.steps) for config in row.stages]
            places = job.folder / "runs" / row.run, *banks[row.trained_on].folders
            yield from train_stages(stages, *places, runtime, workers=job.workers)
        summaries = score_row(study, row, job, runtime)
        scored += summaries
        yield summaries
    write_text(job.folder / "scores.json", json.dumps(scored, indent=1), overwrite=True)


def _check_set(study: Study, on: Path) -> None:
    """Check that a set is of the kind that a study is scored on, before hours of training."""
    if study.protocol == "video":
        find_videos(on)
    elif study.protocol == "middle" and not study.anew:
        find_windows(on)
    elif few := [window.name for window in find_windows(on) if len(window.sharp) != FRAMES]:
        raise DatasetError(f"{on}: {few[0]} has no {FRAMES} sharp frames, which a study needs")


def score_row(study: Study, row: Row, job: Job, runtime: Runtime) -> list[dict[str, Any]]:
    """Score the network of a row, its frames in the direction of time that it gives them."""
    video, middle_net = study.protocol == "video", study.protocol == "middle"
    weights = [job.folder / "runs" / row.run / "weights"] if row.stages else []
    model = row.stages[-1].model if row.stages else row.model
    entry = open_entries(model, weights, "middle" if middle_net else None, videos=video)[0]
    about: dict[str, Any] = {"parameters": sum(weight.numel() for weight in entry.net.parameters())}
    of, strips = (set_name(job.scored_on), row.name), Extremes()
    summaries = []
    if video:
        device, precision = str(runtime.device), runtime.precision
        net = cast("VideoNet", entry.net)
        deblurrer = Deblurrer(weights=net, device=device, precision=precision)
        for shutter in (Shutter(tau, tau) for tau in job.taus):
            videos = find_videos(job.scored_on)
            clips = [score_video(deblurrer, path, shutter, strips) for path in videos]
            summaries.append(summarize_videos(clips, *of, shutter) | about)
    else:
        samples: Iterable[Sample] = read_samples(find_windows(job.scored_on))
        if study.anew:
            samples = blurred_anew(samples, row.scored_on)
        found = evaluate(
            runtime.place(entry.net),
            samples,
            runtime,
            align=False,
            middle_net=middle_net,
            middle=_giver(row.given, runtime),
            strips=strips,
        )
        scores = list(found)
        if not middle_net:
            kept = sum(torch.equal(score.psnr, score.psnr_p) for score in scores)
            about["in_order"] = kept / len(scores)
        summaries.append(summarize(scores, *of) | about)
    strips.write(job.folder / "strips" / _slug(row.name))
    return summaries


def _giver(given: Given, runtime: Runtime) -> Callable[[Sample], Tensor] | None:
    """Make what gives the middle frame of a sample, [3, H, W]."""
    if given == "own":
        return None
    if given == "truth":
        return lambda sample: sample.sharp[MIDDLE]
    prior = runtime.place(open_entries(PHOTO_MODEL, [], "middle")[0].net)
    return lambda sample: restore_middle(prior, sample.blurry, runtime)[0]


def blurred_anew(samples: Iterable[Sample], aperture: Aperture) -> Iterator[Sample]:
    """Blur the seven sharp frames of each sample, through a standard or a coded aperture."""
    for sample in samples:
        if aperture == "coded":
            blurry = coded(to_linear(sample.sharp, "gamma2.2"))
        else:
            blurry = reblur(sample.sharp)
        yield replace(sample, blurry=blurry.clamp(0, 1))
