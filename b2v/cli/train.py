"""`b2v train`: one stage of a model, or all; `b2v study`: networks trained alike and compared."""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from b2v.cli import options
from b2v.cli.evaluate import print_scores

if TYPE_CHECKING:
    from b2v.training.config import Settings
    from b2v.training.logs import Notice, Report

HELD_OUT_CLIPS, HELD_OUT_SEQUENCES = 96, 24
"""Largest size of the validation banks: clips of photos, sequences of video."""
BANKS = {False: "runs/bank", True: "runs/bank-video"}
"""Where banks lie, for photos and for video, unless another place is asked for."""

StudyName = Literal[
    "jin-ablation",
    "jin-middle",
    "jin-given",
    "order",
    "dtb-variants",
    "dtb-inputs",
    "dtb-models",
    "coded",
    "coded-video",
]

Config = Annotated[
    Path | None,
    typer.Argument(help="TOML file of settings, or config.json of a run.", metavar="CONFIG.toml"),
]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The settings that have options of their own; None leaves them to the file or the recipe."""

    stage: Annotated[
        str | None,
        typer.Option(help="Cascades: 1 middle frame, 2 frames 3 and 5, 3: 2, 6, 4: 1, 7; or all."),
    ] = None
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of photos, cut-outs (alpha), videos, or a dataset; repeatable."),
    ] = None
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run, for all stages  [default: runs/<model>]")
    ] = None
    bank: Annotated[
        Path | None, typer.Option(help="Folder of clips drawn from --data  [default: below runs]")
    ] = None
    clips: Annotated[
        int | None, typer.Option(help="Clips to draw  [default: 8000; of video 2000]")
    ] = None
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="cascade, jin2018, unet; for videos blend, dtb."),
    ] = None
    steps: Annotated[
        int | None, typer.Option(help="Steps of a stage  [default: 10000; dtb 300000]")
    ] = None
    batch: Annotated[
        int | None, typer.Option(help="Crops per step  [default: 8; jin2018 32, then 24]")
    ] = None
    crop: Annotated[int | None, typer.Option(help="Pixels a side  [default: 128; jin2018 320]")] = (
        None
    )
    lr: Annotated[
        float | None, typer.Option(help="Largest learning rate  [default: 5e-4; jin2018, dtb 1e-4]")
    ] = None
    start: Annotated[Path | None, typer.Option(help="Start with the network in this file.")] = None
    minutes: Annotated[
        float | None, typer.Option(help="Stop after this time; --resume continues.")
    ] = None
    resume: Annotated[bool | None, typer.Option("--resume", help="Continue a stopped run.")] = None
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None


@dataclass(frozen=True)
class Voice:
    """Prints what a run does: lines for people and, if wanted, JSON for programs."""

    as_json: bool
    quiet: bool
    ticker: options.Ticker = field(default_factory=options.Ticker)

    def note(self, text: str) -> None:
        """Print a message to stderr."""
        options.note(text, quiet=self.quiet)

    def tell(self, events: "Iterable[Notice | Report]") -> None:
        """Train, and print progress; of the drawing of clips only now and then."""
        from b2v.training.caches import roughly
        from b2v.training.logs import Notice

        for event in events:
            if isinstance(event, Notice):
                if not event.passing or self.ticker.due():
                    self.note(event.text)
                continue
            if self.as_json:
                typer.echo(json.dumps(asdict(event)))
            gain = "" if event.gain is None else f"  validation {event.gain:+.3f} dB"
            speed = f"{event.seconds:7.0f} s, waiting {event.waiting:4.1%}"
            left = f", about {roughly(event.left)} left" if event.left else ""
            share = f"{event.step / max(1, event.steps):4.0%}{left}"
            self.note(f"step {event.step:6d}  loss {event.loss:.4g}  {speed}{gain}  {share}")


@options.grouped
def command(
    config: Config = None,
    *,
    given: TrainOptions,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, as key=value or stage2.key=value; repeatable."),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a model.

    Stages 2 to 4 of a cascade need the networks of the stages before.

    Several processes can share each batch: torchrun --nproc-per-node 2 -m -- b2v train ...
    (without the --, torchrun takes --run for its own).
    """
    from b2v.errors import B2VError, DatasetError

    missing = [folder for folder in given.data or [] if not folder.is_dir()]
    if missing and "RANK" not in os.environ:  # of a team the one that leads says so, below
        raise DatasetError(f"{missing[0]}: no such folder; --data takes folders of training media")
    from b2v.training.config import (
        read_assignment,
        read_settings,
        resolve,
        without_missing,
        write_settings,
    )
    from b2v.training.logs import place_in_team

    team = place_in_team()
    try:
        values = read_settings(config) if config else {}
        values |= {name: _plain(value) for name, value in vars(given).items() if value is not None}
        values |= dict(map(read_assignment, assignments or []))
        values, off = without_missing(values)
        voice = Voice(as_json=as_json and team.leads, quiet=quiet or not team.leads)
        if off:
            voice.note(off)
        weights = _train(resolve(values), voice, write_settings(values))
    except B2VError as error:
        if team.leads:
            raise
        raise typer.Exit(error.exit_code) from error  # the leader says why
    if team.leads:
        typer.echo(json.dumps({"weights": str(weights)}) if as_json else weights)


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Turn paths into text, as a file of settings has it."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _train(settings: "Settings", voice: Voice, recipe: str) -> Path:
    """Train as the settings say, which `recipe` keeps; return the folder of the weights."""
    from b2v.files import write_text
    from b2v.inference.runtime import choose, keep_large_blocks
    from b2v.training.caches import draw_bank, plan_bank
    from b2v.training.config import ALL, is_for_video
    from b2v.training.logs import joined, own_device, place_in_team
    from b2v.training.loop import check_run, train, train_stages

    end = time.monotonic() + 60 * settings.minutes
    keep_large_blocks()
    first, team, every = settings.configs[0], place_in_team(), settings.stage == ALL
    run = Path(settings.run or Path("runs", first.model))
    video = is_for_video(first.model)
    runtime = choose(own_device(settings.device), settings.precision)
    for config in settings.configs:
        team.part(config.batch)
    bank = plan_bank(
        settings.configs,
        list(map(Path, settings.data)),
        Path(settings.bank or BANKS[video]),
        clips=settings.clips,
        held_out=HELD_OUT_SEQUENCES if video else HELD_OUT_CLIPS,
        aperture=settings.aperture,
    )
    again = settings.resume or every
    check_run(first, run, bank.folders[0], resume=again, compiled=settings.compile)
    voice.tell(draw_bank(bank, team, end))
    if team.leads:
        of = "" if settings.stage in (ALL, "1") else f"-stage{settings.stage}"
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / f"recipe{of}.toml", recipe, overwrite=True)
    with joined(runtime.device) as team:
        places = run, *bank.folders, runtime
        how: dict[str, Any] = {
            **{"minutes": max(0.0, end - time.monotonic()) / 60, "workers": settings.workers},
            **{"team": team, "compiled": settings.compile},
        }
        if every:
            voice.tell(train_stages(settings.configs, *places, **how))
        else:
            voice.tell(train(first, *places, resume=settings.resume, **how))
    return run / "weights"


def study(
    name: Annotated[StudyName, typer.Argument(help="Which comparison.", metavar="NAME")],
    scored_on: Annotated[
        Path, typer.Option("--eval", help="Dataset to score on, as for b2v eval.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of clips, runs, scores.")],
    data: Annotated[
        list[Path],
        typer.Option(help="Folder of photos, cut-outs (alpha), videos, or a dataset; repeatable."),
    ] = [],  # noqa: B006 - typer reads it and leaves it alone
    steps: Annotated[
        int | None, typer.Option(help="Steps per stage of each network.", min=1)
    ] = None,
    clips: Annotated[int, typer.Option(help="Clips to draw, or sequences of video.", min=1)] = 1000,
    tau: Annotated[
        list[int], typer.Option(help="Video: sharp frames per blurry one  [default: 7, 11, 15]")
    ] = [],  # noqa: B006
    changes: Annotated[
        list[str], typer.Option("--set", help="Setting of all networks, as key=value; repeatable.")
    ] = [],  # noqa: B006
    workers: Annotated[int, typer.Option(help="Processes that cut crops.", min=0)] = 1,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Train and score the models of a comparison.

    These train each network on --data for --steps: jin-ablation (losses, order of restoration),
    order (rules for the order of time), dtb-variants (CNN, STRCNN, STRCNN + DTB), dtb-inputs (3, 5
    and 7 frames at once), coded and coded-video (standard and coded blur).

    These score models as they come: jin-middle (middle frames), jin-given (a cascade with its own,
    a prior's and the true middle frame), dtb-models (videos).

    The same command continues a stopped study. It writes scores.json, strips and plot.png.
    """
    from b2v.data.score_set import find_set
    from b2v.errors import UsageError
    from b2v.inference.runtime import choose, keep_large_blocks
    from b2v.report import can_draw, chart_of, draw_chart
    from b2v.training.config import read_assignment
    from b2v.training.studies import Job, run_study, studies, with_settings

    keep_large_blocks()
    runtime = choose(device, precision)
    rows = with_settings(studies()[name], dict(map(read_assignment, changes)))
    if any(row.stages for row in rows.rows) and not (data and steps):
        raise UsageError(f"{name} trains its rows; name --data and --steps")
    taus = tuple(dict.fromkeys(tau or (7, 11, 15)))
    job = Job(tuple(data), find_set(scored_on), output, steps or 0, clips, taus, workers)
    scored: list[dict[str, Any]] = []
    voice = Voice(as_json=False, quiet=quiet)
    for event in run_study(rows, job, runtime):
        if isinstance(event, list):
            scored += event
            voice.note(f"{event[0]['model']}: done")
        else:
            voice.tell([event])
    if can_draw():
        draw_chart(chart_of(scored), output / "plot.png", overwrite=True)
    print_scores(scored)
