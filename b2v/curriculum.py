"""What a model is trained on and its stages, one after the other.

Banks are drawn where they are missing; each stage stands on the networks of those before.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from b2v.bank import is_complete
from b2v.checkpoints import has_begun, steps_done
from b2v.data import Aperture, BankConfig, build_bank
from b2v.errors import UsageError
from b2v.inference.runtime import Runtime
from b2v.journal import Notice, Report
from b2v.parallel import ALONE, Team
from b2v.recipes import TrainConfig, check, is_for_video
from b2v.sequences import SequenceConfig, build_sequences
from b2v.sources import Sources, load_sources
from b2v.train import train
from b2v.work import stage_folder

Build = Callable[[Sources, Any, Path], Iterator[int]]
"""Draws a bank of a config from sources into a folder, and tells how many samples are done."""


def plan_banks(
    configs: Sequence[TrainConfig],
    clips: int | None,
    held_out: int,
    aperture: Aperture = "standard",
) -> tuple[tuple[Any, Any], Build]:
    """Plan the banks for training and validation, once it is clear that they will do.

    Args:
        configs: all that are trained on them, for photos or for video.
        clips: samples to train on, or None for the usual number.
        held_out: most samples to validate on.
        aperture: what photos are seen through.

    Returns:
        The config of each, and what draws them. Raises as `b2v.recipes.check`.

    """
    if not is_for_video(configs[0].model):
        photos = BankConfig(aperture=aperture)
        for config in configs:
            check(config, photos.size)
        return _sized(photos, clips, held_out), build_bank
    usual = SequenceConfig()
    frames = max(usual.frames, *(config.frames for config in configs))
    size = max(usual.size, *(config.crop for config in configs))
    for config in configs:
        check(config, size, frames)
    return _sized(replace(usual, frames=frames, size=size), clips, held_out), build_sequences


def _sized(bank: Any, clips: int | None, held_out: int) -> tuple[Any, Any]:  # noqa: ANN401
    """Give the configs for training and validation, each of a seed of its own."""
    wanted = clips or bank.clips
    return replace(bank, clips=wanted, seed=0), replace(bank, clips=min(held_out, wanted), seed=1)


def bank_folders(folder: Path) -> tuple[Path, Path]:
    """Name the folders of a bank for training and for validation."""
    return folder / "train", folder / "validation"


def draw_banks(
    plans: tuple[Any, Any], build: Build, data: Sequence[Path], folder: Path, team: Team = ALONE
) -> Iterator[Notice]:
    """Draw what `plan_banks` planned, unless it is there; one of a team draws, the others wait.

    Raises UsageError where there is no data to draw from, and as `build`.
    """
    folders = bank_folders(folder)

    def complete() -> bool:
        return all(is_complete(f, plan) for f, plan in zip(folders, plans, strict=True))

    if complete():
        return
    if not data:
        raise UsageError(f"{folder}: no bank of these settings there; name folders with --data")
    while not (team.leads or complete()):
        time.sleep(1)
    if not team.leads:
        return
    yield Notice("reading the training media ...")
    sources = load_sources(list(data)).split()
    for place, plan, source in zip(folders, plans, sources, strict=True):
        for done in build(source, plan, place):
            yield Notice(f"{place}: {done} of {plan.clips} drawn")


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
