"""Carrying a study out: train its rows with equal budgets, score them, and write the table.

`run_study` is a generator of what happens. In the folder of a study lie `study.json`, its banks,
`runs/<net>` of each trained network, `scores/<net>-on-<blur>.json`, and, after each row, the
table of the rows so far. Called again, it goes on where it stopped.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from b2v.checkpoints import plain
from b2v.curriculum import train_stages
from b2v.errors import UsageError
from b2v.journal import Notice, Report
from b2v.recipes import TrainConfig
from b2v.report import write_text
from b2v.runtime import Runtime
from b2v.study.banks import draw_banks
from b2v.study.plans import Row, Study
from b2v.study.scoring import check_set, export, score_row
from b2v.study.tables import write_tables
from b2v.train import train

PROBE = 20
"""Steps by which the time of a step is measured."""
CARD, BUDGET = "study.json", "steps.json"


@dataclass(frozen=True)
class Job:
    """What a study is carried out on, and where; either minutes or steps are given.

    Both are of a network in all; several stages share them evenly.
    """

    data: tuple[Path, ...]
    scored_on: Path
    folder: Path
    minutes: float | None = None
    steps: int | None = None
    clips: int | None = None
    taus: tuple[int, ...] = (7, 11, 15)
    workers: int = 1


@dataclass(frozen=True)
class Scored:
    """A row has been scored, now or by an earlier call."""

    row: Row
    summaries: list[dict[str, Any]]
    before: bool


def run_study(study: Study, job: Job, runtime: Runtime) -> Iterator[Notice | Report | Scored]:
    """Train and score the rows of a study, and keep its table up to date.

    Raises:
        UsageError: the folder holds another study, or there is no budget.
        B2VError: data, sets or networks are not as they should be.

    """
    check_set(study, job.scored_on)
    _open(study, job)
    banks = yield from draw_banks(study, job.data, job.folder, job.clips)
    done: list[Scored] = []
    for row in study.rows:
        file = job.folder / "scores" / f"{row.net}-on-{row.scored_on}.json"
        before = file.exists()
        if not before:
            yield Notice(f"{row.name} ...")
            if row.stages:
                yield from _train(row, job, banks[row.trained_on], runtime)
            summaries = score_row(study, row, job.folder, job.scored_on, job.taus, runtime)
            file.parent.mkdir(exist_ok=True)
            write_text(file, json.dumps(summaries, indent=1), overwrite=True)
        done.append(Scored(row, json.loads(file.read_text()), before))
        write_tables(study, [(s.row, s.summaries) for s in done], job.folder)
        yield done[-1]
    if study.export is not None:
        yield Notice(f"written: {export(study, job.folder)}")


def _open(study: Study, job: Job) -> None:
    """Make the folder of a study, or check that it holds this one."""
    if (job.minutes is None) == (job.steps is None):
        raise UsageError("a study needs a budget for each network: --minutes or --steps, not both")
    card = job.folder / CARD
    rows = [{**asdict(row), "stages": [plain(s) for s in row.stages]} for row in study.rows]
    about = {
        "name": study.name,
        "rows": rows,
        "data": [str(path) for path in job.data],
        "scored_on": str(job.scored_on),
        **{key: getattr(job, key) for key in ("minutes", "steps", "clips", "taus")},
    }
    text = json.dumps(about, indent=1) + "\n"
    if card.exists():
        if card.read_text() != text:
            raise UsageError(f"{job.folder}: holds a study of other settings; name another folder")
        return
    if job.folder.exists() and (not job.folder.is_dir() or any(job.folder.iterdir())):
        raise UsageError(f"{job.folder}: exists and holds no study; name a new folder")
    job.folder.mkdir(parents=True, exist_ok=True)
    write_text(card, text)


def _train(
    row: Row, job: Job, banks: tuple[Path, Path], runtime: Runtime
) -> Iterator[Notice | Report]:
    """Train the network of a row to the end of its budget, going on where it stopped."""
    run = job.folder / "runs" / row.net
    run.mkdir(parents=True, exist_ok=True)
    known = job.folder / BUDGET
    budget: dict[str, int] = json.loads(known.read_text()) if known.exists() else {}
    for stage in row.stages:
        key = _cost(stage)
        if key not in budget:
            budget[key] = _steps(stage, len(row.stages), run, job, banks, runtime)
            write_text(known, json.dumps(budget), overwrite=True)
        config = replace(stage, steps=budget[key])
        yield from train_stages([config], run, *banks, runtime, workers=job.workers)


def _cost(config: TrainConfig) -> str:
    """Name what the time of a step depends on: stages that cost the same get as many steps."""
    what = [config.role, *config.blueprint.describe(), config.batch, config.crop, config.frames]
    return json.dumps(what)


def _steps(
    config: TrainConfig,
    stages: int,
    run: Path,
    job: Job,
    banks: tuple[Path, Path],
    runtime: Runtime,
) -> int:
    """Turn the budget of a stage into steps, so that its learning rate can fall to the end."""
    if job.minutes is None:
        return max(1, (job.steps or 0) // stages)
    with TemporaryDirectory(dir=run) as scratch:
        if (run / "weights").is_dir():
            shutil.copytree(run / "weights", Path(scratch, "weights"))
        probe = replace(config, steps=PROBE)
        events = train(probe, Path(scratch), *banks, runtime, workers=job.workers)
        seconds = max(event.seconds for event in events if isinstance(event, Report)) / PROBE
    return max(1, round(60 * job.minutes / stages / seconds))
