"""`b2v train`: one stage of a model."""

import math
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from b2v.cli import options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from b2v.recipes import TrainConfig
    from b2v.sources import Sources
    from b2v.train import Report

    Build = Callable[[Sources, Any, Path], Iterator[int]]

HELD_OUT_CLIPS, HELD_OUT_SEQUENCES = 96, 24
"""Size of the validation banks: clips of photos, sequences of video."""
BANKS = {False: "runs/bank", True: "runs/bank-video"}
"""Where banks lie, for photos and for video, unless another place is asked for."""


class Pair(str, Enum):
    """Losses of stage 2."""

    BEST_ORDER = "best-order"
    PAIR = "pair"


class Init(str, Enum):
    """Where side nets start."""

    PREVIOUS = "previous"
    FRESH = "fresh"


class Variant(str, Enum):
    """Networks for video."""

    CNN = "cnn"
    STRCNN = "strcnn"
    DTB = "dtb"


class Loss(str, Enum):
    """Losses of a frame."""

    MSE = "mse"
    CHARBONNIER = "charbonnier"
    LOG_MSE = "log-mse"


class Schedule(str, Enum):
    """How the learning rate falls."""

    COSINE = "cosine"
    STEPS = "steps"


class Optimizer(str, Enum):
    """Kinds of Adam."""

    ADAM = "adam"
    ADAMW = "adamw"


Data = Annotated[
    list[Path], typer.Option(help="Folder of photos, cut-outs (alpha) and videos; repeatable.")
]
StageNumber = Annotated[
    int, typer.Option(help="Of a cascade: 1 middle, 2: 3/5, 3: 2/6, 4: 1/7.", min=1, max=4)
]
RunFolder = Annotated[
    Path | None, typer.Option(help="Folder of the run, shared by its stages: runs/b2v, runs/dtb.")
]
BankFolder = Annotated[
    Path | None,
    typer.Option(help="Folder of what is drawn from --data: runs/bank, runs/bank-video."),
]
Clips = Annotated[
    int | None, typer.Option(help="Clips to draw, 8000, or sequences of video, 2000.", min=1)
]
Architecture = Annotated[
    str, typer.Option("--model", "-m", help="b2v, unroll or jin2018; for video dtb.")
]
VariantName = Annotated[Variant | None, typer.Option(help="Video: dtb, or a simpler network.")]
Inputs = Annotated[int | None, typer.Option(help="Video: frames seen at once, 3, 5 or 7.")]
Frames = Annotated[int | None, typer.Option(help="Video: frames of a sequence, 13.", min=1)]
Steps = Annotated[
    int | None, typer.Option(help="Length of the run, 10000; for video 300000.", min=1)
]
Batch = Annotated[int | None, typer.Option(help="Crops a step, 8.", min=1)]
Crop = Annotated[int | None, typer.Option(help="Side of a crop in pixels, 128.", min=16)]
Rate = Annotated[float | None, typer.Option(help="Largest learning rate, 5e-4; for video 1e-4.")]
FrameLoss = Annotated[Loss | None, typer.Option(help="Of a frame: log-mse; for video mse.")]
Falling = Annotated[
    Schedule | None, typer.Option(help="Of the rate: cosine; for video 0.96 every 10000 steps.")
]
Adams = Annotated[Optimizer | None, typer.Option(help="adamw; for video adam.")]
Decay = Annotated[
    float | None, typer.Option(help="Of weights: 1e-4; for video 1e-5, in the loss.", min=0)
]
PairLoss = Annotated[Pair | None, typer.Option(help="Stage 2: one order for all pixels, or eq. 5.")]
Start = Annotated[Init | None, typer.Option(help="Start at the net of the stage before, or fresh.")]
Canonical = Annotated[
    float | None,
    typer.Option(help="Part of the run with a prescribed direction of time, 0.2.", min=0, max=1),
]
From = Annotated[Path | None, typer.Option("--start", help="File of a U-Net to start with.")]
Teacher = Annotated[
    float | None,
    typer.Option(help="Part of a side net's run with teacher forcing, 0.3.", min=0, max=1),
]
Ema = Annotated[
    float | None,
    typer.Option(help="Decay of the average of weights that is exported, 0.999.", min=0, max=1),
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Minutes = Annotated[float, typer.Option(help="Stop after so long, to be resumed.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")]
Workers = Annotated[int, typer.Option(help="Processes that cut crops.", min=0)]


def command(
    data: Data,
    stage: StageNumber = 1,
    run: RunFolder = None,
    bank: BankFolder = None,
    clips: Clips = None,
    model: Architecture = "b2v",
    variant: VariantName = None,
    inputs: Inputs = None,
    frames: Frames = None,
    steps: Steps = None,
    batch: Batch = None,
    crop: Crop = None,
    lr: Rate = None,
    loss: FrameLoss = None,
    schedule: Falling = None,
    optimizer: Adams = None,
    weight_decay: Decay = None,
    pair: PairLoss = None,
    init: Start = None,
    start: From = None,
    canonical: Canonical = None,
    teacher: Teacher = None,
    ema: Ema = None,
    seed: Seed = 0,
    minutes: Minutes = math.inf,
    resume: Resume = False,
    workers: Workers = 1,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Train one stage of a model; stages 2 to 4 of a cascade stand on the networks before.

    Example: b2v train --data photos --data videos --minutes 60; for video: -m dtb --run runs/dtb
    """
    from b2v.recipes import choose_variant, is_for_video
    from b2v.runtime import choose, keep_large_blocks
    from b2v.train import train

    model = choose_variant(model, variant and variant.value)
    video = is_for_video(model)
    for_video = {"inputs": inputs, "frames": frames}
    parts = {"canonical": canonical, "teacher": teacher}
    for_photos = {"pair": pair, "init": init, "start": start, **parts}
    _refuse(for_photos if video else for_video, model, "photos" if video else "video")
    changes = {
        **{"steps": steps, "batch": batch, "crop": crop, "lr": lr, "pixel": loss, "ema": ema},
        **{"schedule": schedule, "optimizer": optimizer, "weight_decay": weight_decay},
        **(for_video if video else for_photos),
    }
    config = _config(model, stage, seed, changes)
    run = run or Path("runs", model if video else "b2v")
    keep_large_blocks()
    runtime = choose(device, precision)
    banks = _fill_banks(data, bank or Path(BANKS[video]), clips, config, quiet)
    reports = train(config, run, *banks, runtime, resume=resume, minutes=minutes, workers=workers)
    _say(reports, quiet)
    typer.echo(run / "weights")


def _refuse(options_of_others: dict[str, Any], model: str, use: str) -> None:
    """Refuse options that are for another kind of model."""
    from b2v.errors import UsageError

    for name, value in options_of_others.items():
        if value is not None:
            raise UsageError(f"--{name} is for training on {use}, and {model} is not for {use}")


def _config(model: str, stage: int, seed: int, changes: dict[str, Any]) -> "TrainConfig":
    """Make the config of a model from its recipe and what was asked for."""
    from b2v.recipes import recipe

    wanted = {name: value for name, value in changes.items() if value is not None}
    for name, value in wanted.items():
        if isinstance(value, Enum):
            wanted[name] = value.value
        elif isinstance(value, Path):
            wanted[name] = str(value)
    return replace(recipe(model), stage=stage, seed=seed, **wanted)


def _say(reports: "Iterator[Report]", quiet: bool) -> None:
    """Train, and tell how it goes."""
    for report in reports:
        gain = "" if report.gain is None else f"  validation {report.gain:+.3f} dB"
        speed = f"{report.seconds:7.0f} s, waiting {report.waiting:4.1%}"
        loss = f"loss {report.loss:.4g}"
        options.note(f"step {report.step:6d}  {loss}  {speed}{gain}", quiet=quiet)


def _fill_banks(
    data: list[Path], bank: Path, clips: int | None, config: "TrainConfig", quiet: bool
) -> tuple[Path, Path]:
    """Draw the training and the validation bank, unless they are there; return their folders."""
    from b2v.bank import is_complete
    from b2v.sources import load_sources

    wanted, build = _plan(clips, config)
    folders = bank / "train", bank / "validation"
    if all(is_complete(f, w) for f, w in zip(folders, wanted, strict=True)):
        return folders
    options.note("reading the training media ...", quiet=quiet)
    ticker = options.Ticker()
    for folder, plan, sources in zip(folders, wanted, load_sources(data).split(), strict=True):
        for done in build(sources, plan, folder):
            if ticker.due():
                options.note(f"{folder}: {done} of {plan.clips} drawn", quiet=quiet)
    return folders


def _plan(clips: int | None, config: "TrainConfig") -> "tuple[list[Any], Build]":
    """Plan the banks for training and validation, once it is clear that they will do."""
    from b2v.data import BankConfig, build_bank
    from b2v.recipes import check, is_for_video
    from b2v.sequences import SequenceConfig, build_sequences

    if not is_for_video(config.model):
        photos = BankConfig()
        check(config, photos.size)
        counts = clips or photos.clips, HELD_OUT_CLIPS
        return [replace(photos, clips=n, seed=seed) for seed, n in enumerate(counts)], build_bank
    usual = SequenceConfig()
    frames, size = max(usual.frames, config.frames), max(usual.size, config.crop)
    check(config, size, frames)
    video = replace(usual, frames=frames, size=size)
    counts = clips or usual.clips, HELD_OUT_SEQUENCES
    return [replace(video, clips=n, seed=seed) for seed, n in enumerate(counts)], build_sequences
