"""What a run trains and validates on: planned, named after what it is drawn from, and drawn.

A bank lies in a folder whose name is a hash of all that decides its clips: the settings that it is
drawn by, and names, sizes and times of the files that it is drawn from. Another --data, --clips or
setting goes into a folder of its own beside it, and the same one is found again.

It is drawn before training, not beside it: a crop is a pure function of the seed, the step and the
number of clips, so that a run resumes bit for bit, and drawing takes all cores anyway.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from b2v.data.clip_cache import is_complete
from b2v.data.datasets import BankConfig, SequenceConfig, build_bank, check_sources
from b2v.data.exposure import Aperture
from b2v.data.footage import find_windows, holds_windows, list_media, load_sources
from b2v.data.sources import part_of
from b2v.defaults import GB
from b2v.errors import DatasetError, TrainingError, UsageError
from b2v.frames import FRAMES
from b2v.training.config import TrainConfig, check, is_for_video
from b2v.training.logs import ALONE, Notice, Team
from b2v.training.stages import MIDDLES


@dataclass(frozen=True)
class Bank:
    """Clips to train and to validate on, in `train` and `validation` of `folder`."""

    folder: Path
    plans: tuple[BankConfig | SequenceConfig, BankConfig | SequenceConfig]
    data: tuple[Path, ...]

    @property
    def folders(self) -> tuple[Path, Path]:
        """Folders of the clips for training and for validation."""
        return self.folder / "train", self.folder / "validation"

    @property
    def is_drawn(self) -> bool:
        """Tell whether all clips are there."""
        return all(is_complete(f, plan) for f, plan in zip(self.folders, self.plans, strict=True))

    @property
    def bytes(self) -> int:
        """Size of the arrays on disk."""
        return sum(plan.clips * math.prod(plan.shape) for plan in self.plans)


def plan_bank(
    configs: Sequence[TrainConfig],
    data: Sequence[Path],
    parent: Path,
    *,
    clips: int | None,
    held_out: int,
    aperture: Aperture = "standard",
) -> Bank:
    """Plan what `configs` are trained on, once it is clear that it will do; nothing is read yet.

    `parent` is the folder of all banks or, without `data` to draw from, a bank that is drawn. Of
    `clips`, None is the usual number, or as many as the crops that are looked at where those are
    fewer; `held_out` is the most to validate on, where that is no more than a quarter of them.
    Raises UsageError where a config cannot be trained on them, or there is no data; DatasetError
    where a folder of it is missing or holds nothing, or its sets lack frames that are needed.
    """
    plan: BankConfig | SequenceConfig = BankConfig(aperture=aperture)
    frames: tuple[int, ...] = ()
    if is_for_video(configs[0].model):
        plan = SequenceConfig()
        frames = (max(plan.frames, *(config.frames for config in configs)),)
        plan = replace(plan, frames=frames[0])
    plan = replace(plan, size=max(plan.size, *(config.crop for config in configs)))
    for config in configs:
        check(config, plan.size, *frames)
    if not frames:
        plan = replace(cast("BankConfig", plan), sides=_have_sides(configs, data, aperture))
    count = clips or min(plan.clips, max(c.steps * c.batch for c in configs))
    plans = (
        replace(plan, clips=count, seed=0),
        replace(plan, clips=min(held_out, -(-count // 4)), seed=1),
    )
    if data:
        media = [(str(p.relative_to(f)), p.stat()) for f in data for p in list_media(f)]
        known = [*map(asdict, plans), [(n, s.st_size, s.st_mtime_ns) for n, s in media]]
        name = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:12]
        return Bank(parent / name, plans, tuple(data))
    bank = Bank(parent, plans, ())
    if not bank.is_drawn:
        raise UsageError(f"{parent}: no bank of these settings there; name folders with --data")
    return bank


def _have_sides(configs: Sequence[TrainConfig], data: Sequence[Path], aperture: Aperture) -> bool:
    """Tell whether all sets have the frames beside the middle one.

    Raises DatasetError where they have not, and not the middle frame alone is learned.
    """
    windows = (w for folder in data if holds_windows(folder) for w in find_windows(folder))
    trained_on = (w for w in windows if part_of(w.split) != "test")
    alone = next((w for w in trained_on if len(w.sharp) != FRAMES), None)
    if alone and (aperture == "coded" or any(c.role not in MIDDLES for c in configs)):
        why = f"only its middle frame is kept; all but the networks of that frame need {FRAMES}"
        raise DatasetError(f"{alone.blurry}: {why}")
    return alone is None


def draw_bank(bank: Bank, team: Team = ALONE, end: float = math.inf) -> Iterator[Notice]:
    """Draw a bank unless it is there; one of a team draws, the others wait.

    Raises DatasetError where the disk is too small, or there are too few scenes; TrainingError
    after the `end` (of `time.monotonic`), where what is drawn by then is kept.
    """
    while not (team.leads or bank.is_drawn):
        time.sleep(1)
    if bank.is_drawn:
        return
    disk = next(p for p in (bank.folder, *bank.folder.absolute().parents) if p.exists())
    if bank.bytes > (free := shutil.disk_usage(disk).free) and not bank.folder.exists():
        size = f"takes {bank.bytes / GB:.1f} GB, and {free / GB:.1f} are free"
        raise DatasetError(f"{bank.folder}: {size}; take fewer --clips, or another --bank")
    yield Notice("reading the training media ...")
    training, validation = load_sources(bank.data), load_sources(bank.data, "val")
    sources = (training, validation) if validation.count else training.split()
    total = sum(plan.clips for plan in bank.plans)
    for source in sources:
        check_sources(source, bank.folder)
    yield Notice(f"{bank.folder}: drawing {total} clips, {bank.bytes / GB:.2g} GB, once")
    before, started, first = 0, time.monotonic(), None
    for place, plan, source in zip(bank.folders, bank.plans, sources, strict=True):
        for done in build_bank(source, plan, place):
            now, count = time.monotonic(), before + done
            if first is None:  # what was there of an earlier run took no time
                first, started = count, now
            pace = (now - started) / (count - first) if count > first else 0
            left = (
                f", about {roughly(pace * (total - count))} left" if pace and count < total else ""
            )
            said = f"{bank.folder}: {100 * count // total} % drawn{left}"
            yield Notice(said, passing=count < total)
            if now > end and count < total:
                what = f"the minutes are over with {count} of {total} clips drawn"
                raise TrainingError(f"{bank.folder}: {what}; the same command goes on from there")
        before += plan.clips


def roughly(seconds: float) -> str:
    """Say about how long something takes."""
    units = ((60, "min"), (3600, "h"))
    size, unit = next(((s, u) for s, u in reversed(units) if seconds >= 1.5 * s), (1, "s"))
    return f"{seconds / size:.1f} {unit}" if unit == "h" else f"{seconds / size:.0f} {unit}"
