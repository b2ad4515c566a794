"""Tables of scores on the terminal, a row for each of what is compared."""

from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

Summaries = Sequence[dict[str, Any]]


def print_scores(summaries: Summaries) -> None:
    """Print the scores of one set, in the table that suits them."""
    first = summaries[0]
    if "tau" not in first:
        (_print_frames if "psnr" in first else _print_middles)(summaries)
    elif len(summaries) == 1:
        _print_clips(first)
    else:
        _print_videos(summaries)


def _table(title: str, *names: str) -> Table:
    table = Table(title=Text(title))
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    return table


def _print_clips(summary: dict[str, Any]) -> None:
    """Print the scores of videos, a row each and their mean."""
    title = f"{summary['set']}: tau {summary['tau']}, period {summary['period']}, PSNR in dB"
    names = ("frames", "blurry", "PSNR", "gain", "blurry", "SSIM", "steady")
    table = _table(f"{title}, {summary['model']} beside doing nothing", *names)
    for row in (*summary["clips"], {**summary, "name": "mean"}):
        nothing = row["nothing"]
        table.add_row(
            Text(row["name"]),
            str(row["frames"]),
            *(f"{value:.2f}" for value in (nothing["psnr"], row["psnr"])),
            f"{row['psnr'] - nothing['psnr']:+.2f}",
            *(f"{value:.4f}" for value in (nothing["ssim"], row["ssim"])),
            _ratio(row["steadiness"]),
        )
    Console().print(table)


def _print_videos(summaries: Summaries) -> None:
    """Print the means of several models or exposures, doing nothing first in each of the latter."""
    first = summaries[0]
    title = f"{first['set']}: {len(first['clips'])} videos, PSNR in dB"
    table = _table(title, "tau", "period", "frames", "PSNR", "gain", "SSIM", "steady")
    for tau in sorted({summary["tau"] for summary in summaries}):
        rows = [summary for summary in summaries if summary["tau"] == tau]
        table.add_section()
        shutter = [str(rows[0][key]) for key in ("tau", "period", "frames")]
        for name, row in (("nothing", rows[0]["nothing"]), *((r["model"], r) for r in rows)):
            gain = row["psnr"] - rows[0]["nothing"]["psnr"]
            table.add_row(
                Text(name),
                *shutter,
                f"{row['psnr']:.2f}",
                "" if name == "nothing" else f"{gain:+.2f}",
                f"{row['ssim']:.4f}",
                _ratio(row["steadiness"]),
            )
    Console().print(table)


def _print_middles(summaries: Summaries) -> None:
    """Print the scores of middle frames, doing nothing first."""
    first = summaries[0]
    names = ("PSNR", "gain", "SSIM", *(["LPIPS"] if "lpips_middle" in first else []))
    title = f"{first['set']}: {first['samples']} samples, middle frame, PSNR in dB"
    table = _table(title, *names)
    rows: list[dict[str, Any]] = []
    for row in summaries:  # some may be of another blur, of which doing nothing scores otherwise
        if not rows or row["nothing"] != rows[-1]["nothing"]:
            rows.append({"model": "nothing", **row["nothing"], "nothing": row["nothing"]})
        rows.append(row)
    for row in rows:
        gain = row["middle"] - row["nothing"]["middle"]
        values = [f"{row['middle']:.2f}", "" if row["model"] == "nothing" else f"{gain:+.2f}"]
        values += [f"{row[key]:.4f}" for key in ("ssim_middle", "lpips_middle") if key in row]
        table.add_row(Text(row["model"]), *values)
    Console().print(table)


def _print_frames(summaries: Summaries) -> None:
    """Print the scores of seven frames, doing nothing first, and what they have beside PSNR."""
    first = summaries[0]
    nothing = first["nothing"]
    table = _table(f"{first['set']}: {first['samples']} samples, PSNR in dB", *(*"1234567", "mean"))
    rows = [("nothing", [*nothing["psnr"], nothing["mean"]])]
    for row in summaries:
        rows.append((row["model"], [*row["psnr"], sum(row["psnr"]) / len(row["psnr"])]))
        rows.append((f"{row['model']} p", [*row["psnr_p"], row["mean_p"]]))
    for name, values in rows:
        table.add_row(Text(name), *(f"{value:.2f}" for value in values))
    Console().print(table)
    for row in summaries:
        who = f"{row['model']}: " if len(summaries) > 1 else ""
        lpips = ""
        if "lpips_middle" in row:
            lpips = f", LPIPS {row['lpips_middle']:.4f} (nothing {nothing['lpips_middle']:.4f})"
        typer.echo(
            f"{who}middle {row['middle']:.2f} dB ({row['middle'] - nothing['middle']:+.2f}), "
            f"SSIM {row['ssim_middle']:.4f}{lpips}; re-blur {row['reblur']:.2f} dB; "
            f"motion {row['motion']:.2f} of the true one"
        )


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
