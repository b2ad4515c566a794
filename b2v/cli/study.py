"""`b2v study`: networks trained with equal budgets and compared."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2v.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from b2v.study import Scored
    from b2v.train import Notice, Report


class Name(str, Enum):
    """Studies."""

    DTB_VARIANTS = "dtb-variants"
    CODED = "coded"
    JIN_ABLATION = "jin-ablation"


Which = Annotated[Name, typer.Argument(help="Comparison to be made.", metavar="NAME")]
Data = Annotated[
    list[Path],
    typer.Option(help="Folder of photos, cut-outs (alpha), videos, finished sets; repeatable."),
]
ScoredOn = Annotated[
    Path,
    typer.Option("--eval", help="Set to score on, as of b2v eval: windows, of video sharp videos."),
]
Folder = Annotated[
    Path, typer.Option("--output", "-o", help="Folder of the study: banks, runs, table.")
]
Minutes = Annotated[
    float | None, typer.Option(help="Time to train each row, in all its stages.", min=0)
]
Steps = Annotated[int | None, typer.Option(help="Or steps of each row, divided so.", min=1)]
Clips = Annotated[
    int | None, typer.Option(help="Clips to draw, 2000, or sequences of video, 800.", min=1)
]
Taus = Annotated[
    list[int], typer.Option(help="Video: sharp frames averaged to a blurry one; 7, 11 and 15.")
]
Changes = Annotated[
    list[str], typer.Option("--set", help="Setting of all rows, as key=value; repeatable.")
]
Workers = Annotated[int, typer.Option(help="Processes that cut crops.", min=0)]


def command(
    name: Which,
    data: Data,
    scored_on: ScoredOn,
    output: Folder,
    minutes: Minutes = None,
    steps: Steps = None,
    clips: Clips = None,
    tau: Taus = [],  # noqa: B006 - typer reads it and leaves it alone
    changes: Changes = [],  # noqa: B006
    workers: Workers = 1,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Train the networks of a comparison with equal budgets, score them, print the table.

    dtb-variants: CNN, STRCNN, STRCNN + DTB; coded: standard and coded blur; jin-ablation: losses
    and order of restoration. Called again it goes on. Writes table.md, table.csv, plot.png.
    """
    from b2v.runtime import choose, keep_large_blocks
    from b2v.settings import read_assignment
    from b2v.study import Job, page, run_study, studies, with_settings

    keep_large_blocks()
    runtime = choose(device, precision)
    study = with_settings(studies()[name.value], dict(map(read_assignment, changes)))
    taus = tuple(dict.fromkeys(tau or (7, 11, 15)))
    job = Job(tuple(data), scored_on, output, minutes, steps, clips, taus, workers)
    scored = _follow(run_study(study, job, runtime), quiet)
    typer.echo(page(study, [(s.row, s.summaries) for s in scored]), nl=False)


def _follow(events: "Iterator[Notice | Report | Scored]", quiet: bool) -> "list[Scored]":
    """Tell how a study goes; return the rows that have been scored."""
    from b2v.journal import Notice, Report

    scored, ticker = [], options.Ticker()
    for event in events:
        if isinstance(event, Notice):
            if not event.text.endswith("drawn") or ticker.due():
                options.note(event.text, quiet=quiet)
        elif isinstance(event, Report):
            if event.gain is not None or ticker.due():
                gain = "" if event.gain is None else f"  validation {event.gain:+.3f} dB"
                options.note(f"step {event.step:6d}  loss {event.loss:.4g}{gain}", quiet=quiet)
        else:
            scored.append(event)
            options.note(
                f"{event.row.name}: {'done before' if event.before else 'done'}", quiet=quiet
            )
    return scored
