"""`b2v train`: one stage of a model."""

import math
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from b2v.cli import options

HELD_OUT_CLIPS = 96


class Pair(str, Enum):
    """Losses of stage 2."""

    BEST_ORDER = "best-order"
    PAIR = "pair"


class Init(str, Enum):
    """Where side nets start."""

    PREVIOUS = "previous"
    FRESH = "fresh"


Data = Annotated[
    list[Path], typer.Option(help="Folder of photos, cut-outs (alpha) and videos; repeatable.")
]
StageNumber = Annotated[
    int, typer.Option(help="Of a cascade: 1 middle, 2: 3/5, 3: 2/6, 4: 1/7.", min=1, max=4)
]
RunFolder = Annotated[Path, typer.Option(help="Folder of the run, shared by its stages.")]
BankFolder = Annotated[Path, typer.Option(help="Folder of the clips drawn from --data.")]
Clips = Annotated[int, typer.Option(help="Clips to draw into the bank.", min=1)]
Architecture = Annotated[
    str, typer.Option("--model", "-m", help="b2v (one network), cascade or jin2018.")
]
Steps = Annotated[int, typer.Option(help="Length of the schedule.", min=1)]
Batch = Annotated[int, typer.Option(help="Crops a step.", min=1)]
Crop = Annotated[int, typer.Option(help="Side of a crop in pixels.", min=40)]
Rate = Annotated[float, typer.Option(help="Largest learning rate.")]
PairLoss = Annotated[Pair, typer.Option(help="Stage 2: one order for all pixels, or eq. 5.")]
Start = Annotated[Init, typer.Option(help="Start at the net of the stage before, or fresh.")]
Canonical = Annotated[
    float, typer.Option(help="Part of the run with a prescribed direction of time.", min=0, max=1)
]
From = Annotated[Path | None, typer.Option("--start", help="File of a U-Net to start with.")]
Teacher = Annotated[
    float, typer.Option(help="Part of a side net's run with teacher forcing.", min=0, max=1)
]
Ema = Annotated[
    float, typer.Option(help="Decay of the average of weights that is exported.", min=0, max=1)
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Minutes = Annotated[float, typer.Option(help="Stop after so long, to be resumed.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")]


def command(
    data: Data,
    stage: StageNumber = 1,
    run: RunFolder = Path("runs/b2v"),
    bank: BankFolder = Path("runs/bank"),
    clips: Clips = 8000,
    model: Architecture = "b2v",
    steps: Steps = 10_000,
    batch: Batch = 8,
    crop: Crop = 128,
    lr: Rate = 5e-4,
    pair: PairLoss = Pair.BEST_ORDER,
    init: Start = Init.PREVIOUS,
    start: From = None,
    canonical: Canonical = 0.2,
    teacher: Teacher = 0.3,
    ema: Ema = 0.999,
    seed: Seed = 0,
    minutes: Minutes = math.inf,
    resume: Resume = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Train one stage of a model; stages 2 to 4 of a cascade stand on the networks before.

    Example: b2v train --data photos --data videos --minutes 60
    """
    from b2v.runtime import choose, keep_large_blocks
    from b2v.stages import TrainConfig
    from b2v.train import train

    config = TrainConfig(
        model=model,
        stage=stage,
        steps=steps,
        batch=batch,
        crop=crop,
        lr=lr,
        pair=pair.value,
        init=init.value,
        start="" if start is None else str(start),
        canonical=canonical,
        teacher=teacher,
        ema=ema,
        seed=seed,
    )
    keep_large_blocks()
    runtime = choose(device, precision)
    _fill_banks(data, bank, clips, quiet)
    reports = train(
        config, run, bank / "train", bank / "validation", runtime, resume=resume, minutes=minutes
    )
    for report in reports:
        gain = "" if report.gain is None else f"  validation {report.gain:+.3f} dB"
        speed = f"{report.seconds:7.0f} s, waiting {report.waiting:4.1%}"
        options.note(f"step {report.step:6d}  loss {report.loss:.4f}  {speed}{gain}", quiet=quiet)
    typer.echo(run / "weights")


def _fill_banks(data: list[Path], bank: Path, clips: int, quiet: bool) -> None:
    """Draw the training and the validation bank, unless they are there already."""
    from b2v.data import BankConfig, build_bank, is_complete, load_sources

    wanted = {
        bank / "train": BankConfig(clips=clips, seed=0),
        bank / "validation": BankConfig(clips=HELD_OUT_CLIPS, seed=1),
    }
    if all(is_complete(folder, config) for folder, config in wanted.items()):
        return
    options.note("reading the training media ...", quiet=quiet)
    ticker = options.Ticker()
    for (folder, config), sources in zip(wanted.items(), load_sources(data).split(), strict=True):
        for done in build_bank(sources, config, folder):
            if ticker.due():
                options.note(f"{folder}: {done} of {config.clips} clips drawn", quiet=quiet)
