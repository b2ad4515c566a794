"""`b2v eval`: scores on a folder of windows whose sharp frames are known."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from b2v.cli import options


def command(
    folder: Annotated[Path, typer.Argument(help="Folder in GOPRO_7 layout.", metavar="DIR")],
    model: options.Model = "b2v",
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score the seven frames against the truth, beside doing nothing.

    PSNR over RGB in dB, mean over pictures; "p" takes the better order of time a sample.
    """
    from b2v.evaluate import evaluate, find_windows, summarize
    from b2v.runtime import choose, keep_large_blocks
    from b2v.weights import load_model

    windows = find_windows(folder)
    keep_large_blocks()
    runtime = choose(device, precision)
    loaded = load_model(model, weights=weights)
    scores, ticker = [], options.Ticker()
    for score in evaluate(runtime.place(loaded.net), windows, runtime):
        scores.append(score)
        if ticker.due():
            options.note(f"{len(scores)} of {len(windows)}: {score.name}", quiet=quiet)
    summary = summarize(scores, folder.resolve().name, loaded.name)
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        _print_table(summary)


def _print_table(summary: dict[str, Any]) -> None:
    """Print the scores of a set, doing nothing first."""
    nothing = summary["nothing"]
    table = Table(title=Text(f"{summary['set']}: {summary['samples']} samples, PSNR in dB"))
    table.add_column("")
    for name in (*"1234567", "mean"):
        table.add_column(name, justify="right")
    rows = {
        "nothing": [*nothing["psnr"], nothing["mean"]],
        summary["model"]: [*summary["psnr"], sum(summary["psnr"]) / len(summary["psnr"])],
        f"{summary['model']} p": [*summary["psnr_p"], summary["mean_p"]],
    }
    for name, values in rows.items():
        table.add_row(Text(name), *(f"{value:.2f}" for value in values))
    Console().print(table)
    typer.echo(
        f"middle {summary['middle']:.2f} dB ({summary['middle'] - nothing['middle']:+.2f}), "
        f"SSIM {summary['ssim_middle']:.4f}; re-blur {summary['reblur']:.2f} dB; "
        f"motion {summary['motion']:.2f} of the true one"
    )
