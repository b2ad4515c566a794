"""`b2v eval`: scores against known sharp frames, of photos or of videos, and their tables."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, cast

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from b2v.cli import options
from b2v.defaults import BUNDLED, PHOTO_MODELS, VIDEO_MODEL, VIDEO_MODELS
from b2v.errors import DatasetError, UsageError, WeightsError
from b2v.files import check_free

if TYPE_CHECKING:
    from b2v.evaluate import Entry
    from b2v.inference.runtime import Runtime
    from b2v.metrics import Perceptual
    from b2v.models import VideoNet
    from b2v.report import Extremes


Summaries = Sequence[dict[str, Any]]


def print_scores(summaries: Summaries) -> None:
    """Print the scores of one set, in the table that suits them."""
    first = summaries[0]
    if "tau" in first:
        _print_videos(summaries)
    else:
        (_print_frames if "psnr" in first else _print_middles)(summaries)


def _print_table(title: str, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; the first of each row is its name."""
    table = Table(title=Text(title))
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for name, *values in rows:
        table.add_row(Text(name), *values)
    Console().print(table)


def _print_videos(summaries: Summaries) -> None:
    """Print means of videos, doing nothing first for each exposure; of one model, all videos."""
    first, rows = summaries[0], list[list[str]]()
    names = ("tau", "period", "frames", "PSNR", "gain", "SSIM", "steady")

    def add(name: str, row: dict[str, Any], about: dict[str, Any]) -> None:
        nothing = about["nothing"]
        gain = "" if row is nothing else f"{row['psnr'] - nothing['psnr']:+.2f}"
        steady = "" if row["steadiness"] is None else f"{row['steadiness']:.2f}"
        shutter = (str(about.get(key, "")) for key in names[:3])
        rows.append([name, *shutter, f"{row['psnr']:.2f}", gain, f"{row['ssim']:.4f}", steady])

    for tau in sorted({summary["tau"] for summary in summaries}):
        models = [summary for summary in summaries if summary["tau"] == tau]
        add("nothing", models[0]["nothing"], models[0])
        for summary in models:
            add(summary["model"], summary, summary)
    for clip in first["clips"] if len(summaries) == 1 else ():
        add(clip["name"], clip, clip)
    _print_table(f"{first['set']}: {len(first['clips'])} videos, PSNR in dB", names, rows)


def _print_middles(summaries: Summaries) -> None:
    """Print the scores of middle frames, doing nothing first."""
    first = summaries[0]
    names = ("PSNR", "gain", "within 2 px", "SSIM", *(["LPIPS"] if "lpips_middle" in first else []))
    rows = []
    for name, row, nothing in _beside_nothing(summaries):
        gain = "" if row is nothing else f"{row['middle'] - nothing['middle']:+.2f}"
        more = (f"{row[key]:.4f}" for key in ("ssim_middle", "lpips_middle") if key in row)
        shifted = f"{row['shifted_middle']:.2f}"
        rows.append([name, f"{row['middle']:.2f}", gain, shifted, *more])
    title = f"{first['set']}: {first['samples']} samples, middle frame, PSNR in dB"
    _print_table(title, names, rows)


def _beside_nothing(summaries: Summaries) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """List rows by name; those of one blur follow the row of doing nothing for it."""
    last: dict[str, Any] = {}
    for row in summaries:
        if row["nothing"] != last:
            last = row["nothing"]
            yield "nothing", last, last
        yield row["model"], row, last


def _print_frames(summaries: Summaries) -> None:
    """Print the scores of seven frames, doing nothing first, and what they have beside PSNR."""
    first, rows = summaries[0], list[list[str]]()
    for name, row, nothing in _beside_nothing(summaries):
        lines = {name: [*row["psnr"], sum(row["psnr"]) / len(row["psnr"])]}
        if row is not nothing:
            lines[f"{name} p"] = [*row["psnr_p"], row["mean_p"]]
        rows += [[label, *(f"{x:.2f}" for x in values)] for label, values in lines.items()]
    title = f"{first['set']}: {first['samples']} samples, PSNR in dB"
    _print_table(title, (*"1234567", "mean"), rows)
    for row in summaries:
        who, nothing = f"{row['model']}: " if len(summaries) > 1 else "", row["nothing"]
        lpips = ""
        if "lpips_middle" in row:
            lpips = f", LPIPS {row['lpips_middle']:.4f} (nothing {nothing['lpips_middle']:.4f})"
        order = f"; {row['in_order']:.0%} in the better order" if "in_order" in row else ""
        typer.echo(
            f"{who}middle {row['middle']:.2f} dB ({row['middle'] - nothing['middle']:+.2f}), "
            f"within 2 pixels {row['shifted_middle']:.2f} dB "
            f"({row['shifted_middle'] - nothing['shifted_middle']:+.2f}), "
            f"SSIM {row['ssim_middle']:.4f}{lpips}; re-blur {row['reblur']:.2f} dB; "
            f"motion {row['motion']:.2f} of the true one{order}"
        )


TAU = 11
"""Frames averaged to one, unless another number is asked for."""


Source = Annotated[
    Path,
    typer.Argument(
        help="Dataset, published or by synth-dataset; sharp videos; bundled or bundled-video.",
        metavar="PATH",
    ),
]
WeightsOf = Annotated[
    list[Path],
    options.in_model(
        "--weights",
        help="Folder of weights, or a .safetensors file for one network; repeatable, to compare"
        " them.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What is scored of a dataset, and how."""

    protocol: Annotated[
        Literal["seven", "middle"] | None,
        typer.Option(help="Photos: score all seven frames, or the middle one alone."),
    ] = None
    split: Annotated[
        Literal["train", "val", "test", "all"] | None,
        typer.Option(help="Photos: scenes to score  [default: test, if there is one]"),
    ] = None
    scale: Annotated[
        float, typer.Option(help="Photos: resize by this factor; Jin et al. use 0.45.")
    ] = 1.0
    tau: Annotated[
        list[int] | None,
        typer.Option(help=f"Video: sharp frames per blurry one, odd; repeatable  [default: {TAU}]"),
    ] = None
    period: Annotated[
        int | None, typer.Option(help="Video: frames between exposures  [default: tau]")
    ] = None
    align: Annotated[
        bool, typer.Option(help="Photos: make all of a picture run in one direction.")
    ] = True


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The output files of an evaluation."""

    csv: Annotated[Path | None, options.in_output(help="Write scores of each sample here.")] = None
    plot: Annotated[
        Path | None,
        options.in_output(help="Chart of gains by frame, or of PSNR over tau: .png .svg .pdf"),
    ] = None
    strips: Annotated[
        Path | None,
        options.in_output(help="Folder for the best and the worst samples."),
    ] = None
    overwrite: options.Overwrite = False

    def check(self) -> None:
        """Check what can be checked before the work begins."""
        from b2v.report import check_chart

        if self.csv is not None:
            check_free(self.csv, (), overwrite=self.overwrite)
        if self.plot is not None:
            check_chart(self.plot, overwrite=self.overwrite)
        if self.strips is not None and self.strips.exists() and not self.overwrite:
            raise UsageError(f"{self.strips}: exists already; give another name or --overwrite")


class Result(NamedTuple):
    """Scores of one entry: for JSON, and a line a sample for CSV."""

    summary: dict[str, Any]
    lines: list[dict[str, Any]]


@options.grouped
def command(
    path: Source,
    *,
    quality: options.Preset = "good",
    model: options.OwnModel = None,
    weights: WeightsOf = [],  # noqa: B006 - typer reads it and leaves it alone
    how: Scored,
    outputs: Outputs,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score restored frames against the truth.

    Photos: PSNR of the seven frames in dB; "p" is the better order of time of each sample. Beside
    it: SSIM, PSNR where each tile may lie 2 pixels off, and LPIPS once b2v[lpips] is installed.
    Videos: sharp ones, or folders of their frames, are made blurry, restored and compared. bundled
    (twelve windows) and bundled-video (four clips) are made of bundled photographs, alike
    everywhere.
    --json prints an object, or for several weights or taus {"set", "rows"} with one for each.
    """
    if not path.exists() and str(path) not in BUNDLED:
        raise DatasetError(f"{path}: no such file or folder; check the name")

    from b2v.data.score_set import find_set
    from b2v.evaluate import has_videos, open_entries
    from b2v.inference.runtime import choose, keep_large_blocks
    from b2v.report import Extremes

    keep_large_blocks()
    path = find_set(path)
    outputs.check()
    videos = has_videos(path)
    name = model or (VIDEO_MODELS if videos else PHOTO_MODELS)[quality]
    entries = open_entries(name, weights, how.protocol, videos=videos)
    kept = [Extremes() if outputs.strips else None for _ in entries]
    runtime = choose(device, precision)
    if entries[0].protocol == "video":
        if how.scale != 1 or how.split is not None:
            option = "--split" if how.scale == 1 else "--scale"
            raise UsageError(f"{option} is for photos, and {entries[0].name} is for video")
        results = _score_videos(path, entries, how, runtime, kept, quiet)
    else:
        if how.tau or how.period is not None:
            raise UsageError(
                f"--tau and --period are for video, and {entries[0].name} is for photos"
            )
        results = _score_photos(path, entries, how, runtime, kept, quiet)
    _write(results, outputs, entries, kept, quiet)
    summaries = [result.summary for result in results]
    if as_json:
        several = {"set": summaries[0]["set"], "rows": summaries}
        typer.echo(json.dumps(several if len(summaries) > 1 else summaries[0]))
    else:
        print_scores(summaries)


def _perceptual(quiet: bool) -> "Perceptual | None":
    """Load LPIPS where it is installed; say so where it then cannot be had."""
    from b2v.metrics import load_lpips

    try:
        return load_lpips()
    except WeightsError as error:
        options.note(f"left out: {error}", quiet=quiet)
        return None


def _score_photos(
    path: Path,
    entries: "list[Entry]",
    how: Scored,
    runtime: "Runtime",
    kept: "list[Extremes | None]",
    quiet: bool,
) -> list[Result]:
    """Score models for photos on a set of windows."""
    from b2v.data.footage import find_windows, of_split, read_samples, set_name
    from b2v.evaluate import evaluate, has_videos, records, summarize

    if has_videos(path):
        raise UsageError(
            f"{path}: video, and {entries[0].name} is for photos; take -m {VIDEO_MODEL}"
        )
    found = find_windows(path)
    windows = of_split(found, how.split)
    if len(windows) < len(found):
        scored = f"the {len(windows)} windows of its {windows[0].split} split"
        options.note(f"{path}: {scored} are scored; others by --split", quiet=quiet)
    if how.protocol == "seven" and len(windows[0].sharp) == 1:
        raise UsageError(f"{path}: has the middle frames alone; take --protocol middle")
    lpips = _perceptual(quiet)
    results, ticker = [], options.Ticker()
    for entry, strips in zip(entries, kept, strict=True):
        scores = []
        for score in evaluate(
            runtime.place(entry.net),
            read_samples(windows, scale=how.scale),
            runtime,
            align=how.align,
            middle_net=entry.protocol == "middle",
            lpips=lpips,
            strips=strips,
        ):
            scores.append(score)
            if ticker.due():
                options.note(f"{len(scores)} of {len(windows)}: {score.name}", quiet=quiet)
        about = set_name(path), entry.name
        summary = summarize(scores, *about)
        summary |= {} if how.scale == 1 else {"scale": how.scale}
        results.append(Result(summary, records(scores, *about)))
    return results


def _score_videos(
    path: Path,
    entries: "list[Entry]",
    how: Scored,
    runtime: "Runtime",
    kept: "list[Extremes | None]",
    quiet: bool,
) -> list[Result]:
    """Score models for video on a sharp video, or on those of a folder, for each exposure."""
    from b2v.data.exposure import Shutter
    from b2v.evaluate import find_videos, records_of_videos, score_video, summarize_videos
    from b2v.inference.videos import Deblurrer

    taus = dict.fromkeys(how.tau or [TAU])
    shutters = [Shutter(tau, tau if how.period is None else how.period) for tau in taus]
    videos = find_videos(path)
    results, ticker = [], options.Ticker()
    for entry, strips in zip(entries, kept, strict=True):
        net = cast("VideoNet", entry.net)
        deblurrer = Deblurrer(weights=net, device=str(runtime.device), precision=runtime.precision)
        for shutter in shutters:
            scores = []
            for video in videos:
                scores.append(score_video(deblurrer, video, shutter, strips))
                if ticker.due():
                    options.note(f"{len(scores)} of {len(videos)}: {video.name}", quiet=quiet)
            about = path.resolve().name, entry.name, shutter
            results.append(
                Result(summarize_videos(scores, *about), records_of_videos(scores, *about))
            )
    return results


def _write(
    results: list[Result],
    outputs: Outputs,
    entries: "list[Entry]",
    kept: "list[Extremes | None]",
    quiet: bool,
) -> None:
    """Write the files that were asked for, and say which."""
    import re

    from b2v.report import chart_of, draw_chart, write_csv

    written: list[Path] = []
    if outputs.csv is not None:
        lines = [line for result in results for line in result.lines]
        write_csv(outputs.csv, lines, overwrite=outputs.overwrite)
        written.append(outputs.csv)
    if outputs.plot is not None:
        chart = chart_of([result.summary for result in results])
        draw_chart(chart, outputs.plot, overwrite=outputs.overwrite)
        written.append(outputs.plot)
    for entry, strips in zip(entries, kept, strict=True):
        if strips is not None and outputs.strips is not None:
            several = re.sub(r"[^\w.-]+", "-", entry.name).strip("-") if len(entries) > 1 else ""
            strips.write(outputs.strips / several)
    if outputs.strips is not None:
        written.append(outputs.strips)
    for path in written:
        options.note(f"written: {path}", quiet=quiet)
