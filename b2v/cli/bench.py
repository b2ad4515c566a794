"""`b2v bench`: how fast this machine is."""

import json
import re
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from b2v.cli import options

if TYPE_CHECKING:
    from b2v.bench import Row

DIGITS = 4
"""Significant ones; a clock does not tell more."""


class Task(str, Enum):
    """What can be measured."""

    EXTRACT = "extract"
    DEBLUR = "deblur"
    TRAIN = "train"


Tasks = Annotated[
    list[Task] | None, typer.Option("--task", help="Measure this alone; repeatable, all without.")
]
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Measure this model; without, each quality.")
]
Size = Annotated[
    str | None,
    typer.Option(metavar="WxH", help="Pixels of photos and frames, such as 4000x3000 (12 MP)."),
]
Repeats = Annotated[int, typer.Option(help="Times that each is timed; long ones once.", min=1)]


def command(
    task: Tasks = None,
    model: Model = None,
    size: Size = None,
    repeats: Repeats = 3,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure speed and memory on this machine.

    Seconds are medians of a photo, a frame or a training step, files left out.
    """
    from b2v.bench import TASKS, list_cases, look_at, measure
    from b2v.inference.runtime import choose

    cases = list_cases([t.value for t in task or ()] or TASKS, model, _pixels(size))
    runtime = choose(device, precision)
    machine = look_at(runtime)
    if not as_json:
        where = f"{machine.gpu}, " if machine.gpu else ""
        typer.echo(
            f"{where}{machine.cpu}, {machine.cores} cores, {machine.threads} threads, torch"
            f" {machine.torch}, {machine.device} {machine.precision}, matrix products"
            f" {machine.matrix_gflops:.0f} GFLOP/s"
        )
    rows: list[Row] = []
    for case in cases:
        options.note(f"{case.task} {case.model} {case.width}x{case.height} ...", quiet=quiet)
        rows += measure([case], runtime, machine, repeats=repeats)
    if as_json:
        report = {"machine": asdict(machine), "rows": [asdict(row) for row in rows]}
        typer.echo(json.dumps(_rounded(report)))
    else:
        _print_table(rows)


def _pixels(size: str | None) -> tuple[int, int] | None:
    """Read a size such as 1280x720; raises UsageError."""
    from b2v.errors import UsageError

    if size is None:
        return None
    match = re.fullmatch(r"(\d{2,5})x(\d{2,5})", size)
    if match is None or min(pixels := (int(match[1]), int(match[2]))) < 16:
        raise UsageError(f"--size {size}: expected width and height, 16 or more, such as 1280x720")
    return pixels


def _rounded(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Round all numbers that are not whole."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _print_table(rows: "list[Row]") -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("task", "model", "size"):
        table.add_column(name, no_wrap=True)
    for name in ("s", "MP/s", "MB", "GFLOP", "of rate"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        memory = "-" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}"
        figures = f"{row.seconds:.3g}", f"{row.megapixels_per_s:.3g}", memory, f"{row.gflop:.4g}"
        table.add_row(row.task, Text(row.model), row.size, *figures, f"{row.share_of_rate:.0%}")
    Console().print(table)
