"""All stages of a model, one after the other: each stands on the networks of those before."""

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from b2v.checkpoints import has_begun, steps_done
from b2v.journal import Notice, Report
from b2v.parallel import ALONE, Team
from b2v.recipes import TrainConfig
from b2v.runtime import Runtime
from b2v.train import train
from b2v.work import stage_folder


def train_stages(
    configs: Sequence[TrainConfig],
    run: Path,
    bank: Path,
    validation: Path,
    runtime: Runtime,
    *,
    minutes: float = math.inf,
    workers: int = 1,
    team: Team = ALONE,
    compiled: bool = False,
) -> Iterator[Report | Notice]:
    """Train stages in order, going on where an earlier call stopped.

    The minutes are divided evenly between the stages that are not at their end; what one of them
    leaves over goes to the next ones. Each takes one step at least, so that there are networks of
    all stages in the end. Arguments and errors as of `b2v.train.train`.
    """
    folders = [stage_folder(run, config) for config in configs]
    done = [steps_done(folder, c) for folder, c in zip(folders, configs, strict=True)]
    team.wait()  # before anyone writes
    todo = [c for c, steps in zip(configs, done, strict=True) if steps < c.steps]
    end = time.monotonic() + 60 * minutes
    for count, config in zip(range(len(todo), 0, -1), todo, strict=True):
        yield Notice(f"stage {config.stage}: {config.role}, {config.steps} steps")
        left = max(0.0, end - time.monotonic()) / 60
        yield from train(
            config,
            run,
            bank,
            validation,
            runtime,
            resume=has_begun(stage_folder(run, config)),
            minutes=left / count,
            workers=workers,
            team=team,
            compiled=compiled,
        )
