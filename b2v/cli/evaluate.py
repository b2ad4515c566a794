"""`b2v eval`: scores against known sharp frames, of photos or of videos."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from b2v.cli import options

TAU = 11
"""Frames averaged to one, unless another number is asked for."""

Source = Annotated[
    Path,
    typer.Argument(help="Folder in GOPRO_7 layout; for video, sharp ones.", metavar="PATH"),
]
Tau = Annotated[
    int | None, typer.Option(help=f"Video: sharp frames averaged to a blurry one, odd; {TAU}.")
]
Period = Annotated[
    int | None, typer.Option(help="Video: frames from one exposure to the next; tau.")
]
Align = Annotated[
    bool, typer.Option(help="Photos: bring all of a picture to one direction of time.")
]


def command(
    path: Source,
    model: options.Model = "b2v",
    weights: options.Weights = None,
    tau: Tau = None,
    period: Period = None,
    align: Align = True,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score restored frames against the truth, beside doing nothing.

    Photos: seven frames each, PSNR over RGB in dB; "p" takes the better order of time a sample.
    Video (-m dtb): sharp videos are made blurry, deblurred and compared, with SSIM.
    """
    from b2v.runtime import keep_large_blocks

    keep_large_blocks()
    place = device, precision
    if _is_for_video(model, weights):
        summary = _score_videos(path, model, weights, (tau, period), place, quiet)
    else:
        _refuse_shutter(model, tau, period)
        summary = _score_photos(path, model, weights, align, place, quiet)
    if as_json:
        typer.echo(json.dumps(summary))
    elif "clips" in summary:
        _print_videos(summary)
    else:
        _print_table(summary)


def _is_for_video(model: str, weights: Path | None) -> bool:
    """Tell whether the weights restore video; raises WeightsError where there are none."""
    from b2v.models import VIDEO, needed_roles
    from b2v.weights import inspect
    from b2v.weights.resolve import find_model

    if weights is not None and weights.is_file() and weights.suffix != ".json":
        return inspect(weights).role == VIDEO
    return needed_roles(find_model(model, weights=weights).card.networks) == (VIDEO,)


def _refuse_shutter(model: str, tau: int | None, period: int | None) -> None:
    from b2v.errors import UsageError

    if (tau, period) != (None, None):
        raise UsageError(f"--tau and --period are for video, and {model} is for photos")


def _score_photos(
    path: Path,
    model: str,
    weights: Path | None,
    align: bool,
    place: tuple[str, str],
    quiet: bool,
) -> dict[str, Any]:
    """Score a model for photos on a folder of windows."""
    from b2v.errors import UsageError
    from b2v.evaluate import evaluate, find_windows, summarize
    from b2v.evaluate_video import is_video
    from b2v.runtime import choose
    from b2v.weights import load_model

    if is_video(path) or (path.is_dir() and any(map(is_video, path.iterdir()))):
        raise UsageError(f"{path}: video, and {model} is for photos; take -m dtb")
    windows = find_windows(path)
    runtime = choose(*place)
    loaded = load_model(model, weights=weights)
    scores, ticker = [], options.Ticker()
    for score in evaluate(runtime.place(loaded.net), windows, runtime, align=align):
        scores.append(score)
        if ticker.due():
            options.note(f"{len(scores)} of {len(windows)}: {score.name}", quiet=quiet)
    return summarize(scores, path.resolve().name, loaded.name)


def _score_videos(
    path: Path,
    model: str,
    weights: Path | None,
    times: tuple[int | None, int | None],
    place: tuple[str, str],
    quiet: bool,
) -> dict[str, Any]:
    """Score a model for video on a sharp video, or on those of a folder."""
    from b2v.evaluate_video import evaluate_videos, find_videos, summarize_videos
    from b2v.streaming import Deblurrer
    from b2v.synth.exposure import Shutter
    from b2v.weights import load_video_model

    tau = TAU if times[0] is None else times[0]
    shutter = Shutter(tau, tau if times[1] is None else times[1])
    videos = find_videos(path)
    loaded = load_video_model(model, weights=weights)
    deblurrer = Deblurrer(weights=loaded.net, device=place[0], precision=place[1])
    scores, ticker = [], options.Ticker()
    for score in evaluate_videos(deblurrer, videos, shutter):
        scores.append(score)
        if ticker.due():
            options.note(f"{len(scores)} of {len(videos)}: {score.name}", quiet=quiet)
    return summarize_videos(scores, path.resolve().name, loaded.name, shutter)


def _print_videos(summary: dict[str, Any]) -> None:
    """Print the scores of videos, a row each and their mean."""
    title = f"{summary['set']}: tau {summary['tau']}, period {summary['period']}, PSNR in dB"
    table = Table(title=Text(f"{title}, {summary['model']} beside doing nothing"))
    table.add_column("")
    for name in ("frames", "blurry", "PSNR", "gain", "blurry", "SSIM", "steady"):
        table.add_column(name, justify="right")
    for row in (*summary["clips"], {**summary, "name": "mean"}):
        nothing, steady = row["nothing"], row["steadiness"]
        table.add_row(
            Text(row["name"]),
            str(row["frames"]),
            *(f"{value:.2f}" for value in (nothing["psnr"], row["psnr"])),
            f"{row['psnr'] - nothing['psnr']:+.2f}",
            *(f"{value:.4f}" for value in (nothing["ssim"], row["ssim"])),
            "" if steady is None else f"{steady:.2f}",
        )
    Console().print(table)


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
