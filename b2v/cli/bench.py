"""`b2v bench`: how fast this machine is, beside the straightforward route."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from b2v.cli import options
from b2v.defaults import FAST_MODEL

if TYPE_CHECKING:
    from b2v.bench import Case, Ceiling, Machine, Row

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
Model = Annotated[str, typer.Option("--model", "-m", help="Model that extract runs.")]
Repeats = Annotated[int, typer.Option(help="Times that each route is timed.", min=1)]
Quick = Annotated[bool, typer.Option("--quick", help="Tiny sizes, once: does it work?")]
Threads = Annotated[
    int | None, typer.Option(help="Threads of torch; its own choice without.", min=1)
]


def command(
    task: Tasks = None,
    model: Model = FAST_MODEL,
    repeats: Repeats = 5,
    quick: Quick = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: Threads = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure speed and memory beside the straightforward route (fp32, contiguous).

    Seconds are medians of a picture, a frame or a training step; both routes take turns.
    """
    from b2v.bench import TASKS, Setup, list_cases, look_at, measure
    from b2v.runtime import choose

    cases = list_cases([t.value for t in task or ()] or TASKS, model=model, quick=quick)
    runtime = choose(device, precision)
    setup = Setup(str(runtime.device), runtime.precision, threads, quick)
    options.note("measuring what the machine can do at best ...", quiet=quiet)
    machine, ceiling = look_at(setup)
    told = _tell(cases, quiet=quiet)
    rows = list(measure(told, setup, ceiling, repeats=1 if quick else repeats))
    if as_json:
        report = {"machine": asdict(machine), "ceiling": asdict(ceiling)}
        typer.echo(json.dumps(_rounded({**report, "rows": [asdict(row) for row in rows]})))
    else:
        _print_table(machine, ceiling, rows)


def _tell(cases: Iterable["Case"], *, quiet: bool) -> Iterator["Case"]:
    """Hand cases on, and say of each that it has begun."""
    for case in cases:
        options.note(f"measuring {case.task} {case.size} ({_network(case)}) ...", quiet=quiet)
        yield case


def _network(row: "Row | Case") -> str:
    return row.model if row.trained else f"{row.model}, untrained"


def _rounded(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Round all numbers that are not whole."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _print_table(machine: "Machine", ceiling: "Ceiling", rows: Sequence["Row"]) -> None:
    """Print what was measured: a line for the machine, one for its ceiling, a row for each case."""
    where = f"{machine.gpu}, " if machine.gpu else ""
    typer.echo(
        f"{where}{machine.cpu}, {machine.cores} cores, {machine.threads} threads, "
        f"torch {machine.torch}, {machine.device} {machine.precision}"
    )
    rates = {"fp32": ceiling.conv_fp32_gflops, "bf16": ceiling.conv_bf16_gflops}
    known = {**rates, "fp16": ceiling.conv_fp16_gflops}
    convolutions = ", ".join(f"{k} {v:.0f}" for k, v in known.items() if v is not None)
    typer.echo(
        f"at best: convolutions {convolutions} GFLOP/s, copies {ceiling.copy_gb_s:.1f} GB/s\n"
    )
    table = Table(box=None, pad_edge=False)
    for name in ("task", "size"):
        table.add_column(name, no_wrap=True)
    for name in (
        "plain s",
        "s",
        "ratio",
        "fps",
        "file fps",
        "MP/s",
        "GFLOP",
        "of best",
        "plain MB",
        "MB",
        "dB",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(Text(row.task), Text(row.size), *_figures(row))
    Console(width=max(Console().width, 105)).print(table)
    networks = {row.task: _network(row) for row in rows}
    typer.echo("\nnetworks: " + "; ".join(f"{task} {name}" for task, name in networks.items()))
    typer.echo(
        "plain: fp32, contiguous, allocator as it comes; seconds a picture, frame or training step;"
        "\nfps: of the network; file fps: of the whole command, reading and writing files"
        "\nMB: peak memory of a process that does nothing else; dB: how well both routes agree"
    )


def _figures(row: "Row") -> list[str]:
    """Columns of the table after the first two; a dash where there is no value."""

    def show(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return [
        f"{row.seconds_plain:.3g}",
        f"{row.seconds:.3g}",
        f"{row.ratio:.2f}",
        show(row.fps, ".3g"),
        show(row.command_fps, ".3g"),
        f"{row.megapixels_per_s:.3g}",
        f"{row.gflop:.4g}",
        show(row.fraction_of_ceiling, ".0%"),
        show(row.peak_memory_mb_plain, ".0f"),
        show(row.peak_memory_mb, ".0f"),
        f"{row.agreement_db:.1f}",
    ]
