"""`b2v study`: networks trained alike and compared."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from b2v.cli import options
from b2v.cli.evaluate import print_scores
from b2v.cli.train import Voice


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
Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder of banks, runs, scores.")]
Steps = Annotated[int, typer.Option(help="Steps of each stage of each row.", min=1)]
Clips = Annotated[int, typer.Option(help="Clips to draw, or sequences of video.", min=1)]
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
    steps: Steps,
    clips: Clips = 1000,
    tau: Taus = [],  # noqa: B006 - typer reads it and leaves it alone
    changes: Changes = [],  # noqa: B006
    workers: Workers = 1,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Train and score the models of a comparison.

    Each takes equally many steps; the table is printed.

    dtb-variants: CNN, STRCNN, STRCNN + DTB; coded: standard and coded blur; jin-ablation: losses
    and order of restoration. Called again it goes on. Writes scores.json, and plot.png.
    """
    from b2v.inference.runtime import choose, keep_large_blocks
    from b2v.report import can_draw, chart_of, draw_chart
    from b2v.training.config import read_assignment
    from b2v.training.studies import Job, run_study, studies, with_settings

    keep_large_blocks()
    runtime = choose(device, precision)
    study = with_settings(studies()[name.value], dict(map(read_assignment, changes)))
    taus = tuple(dict.fromkeys(tau or (7, 11, 15)))
    job = Job(tuple(data), scored_on, output, steps, clips, taus, workers)
    scored: list[dict[str, Any]] = []
    voice = Voice(as_json=False, quiet=quiet)
    for event in run_study(study, job, runtime):
        if isinstance(event, list):
            scored += event
            voice.note(f"{event[0]['model']}: done")
        else:
            voice.tell([event])
    if can_draw():
        draw_chart(chart_of(scored), output / "plot.png", overwrite=True)
    print_scores(scored)
