"""The table and the chart of a study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from b2v.report import (
    Chart,
    Line,
    can_draw,
    draw_chart,
    gain_by_frame,
    markdown,
    psnr_over_tau,
    write_csv,
    write_text,
)
from b2v.study.plans import Row, Study

Scores = Sequence[tuple[Row, list[dict[str, Any]]]]
"""Rows with their summaries."""
Record = dict[str, str | int | float | None]


def write_tables(study: Study, scores: Scores, folder: Path) -> None:
    """Write `table.md`, `table.csv` and, where matplotlib is installed, `plot.png`."""
    write_csv(folder / "table.csv", table(study, scores), overwrite=True)
    write_text(folder / "table.md", page(study, scores), overwrite=True)
    if can_draw():
        draw_chart(chart(study, scores), folder / "plot.png", overwrite=True)


def page(study: Study, scores: Scores) -> str:
    """Draw the table in Markdown, with what it is of."""
    records = table(study, scores)
    first = scores[0][1][0]
    what = f"{len(first['clips'])} videos" if "clips" in first else f"{first['samples']} windows"
    rows = [[_text(value, key) for key, value in record.items()] for record in records]
    return f"{study.title}. PSNR in dB on {first['set']} ({what}).\n\n" + markdown(
        list(records[0]), rows
    )


def table(study: Study, scores: Scores) -> list[Record]:
    """Make a record of each row, doing nothing first or beside."""
    if study.protocol == "video":
        return _by_tau(scores)
    return _by_blur(scores) if study.protocol == "middle" else _by_frame(scores)


def chart(study: Study, scores: Scores) -> Chart:
    """Draw PSNR over tau, gains by frame, or points by row, as suits the study."""
    summaries = [summary for _, row in scores for summary in row]
    if study.protocol == "video":
        return psnr_over_tau(summaries)
    if study.protocol == "seven":
        return gain_by_frame(summaries, as_given=False)
    places = tuple(row.name for row, _ in scores)
    values = tuple(summary["middle"] for summary in summaries)
    nothing = tuple(summary["nothing"]["middle"] for summary in summaries)
    lines = Line("blurry", nothing, None), Line("restored", values)
    return Chart(study.title, "", "PSNR of the middle frame (dB)", places, lines, apart=True)


def _by_tau(scores: Scores) -> list[Record]:
    records: list[Record] = []
    for name, rows in (("nothing", scores[0][1]), *((row.name, rows) for row, rows in scores)):
        values = [r["nothing"] if name == "nothing" else r for r in rows]
        gains = [v["psnr"] - r["nothing"]["psnr"] for r, v in zip(rows, values, strict=True)]
        steady = [v["steadiness"] for v in values if v["steadiness"] is not None]
        records.append(
            {
                "net": name,
                **{f"tau {r['tau']}": v["psnr"] for r, v in zip(rows, values, strict=True)},
                "mean": _mean([v["psnr"] for v in values]),
                "gain": _mean(gains),
                "SSIM": _mean([v["ssim"] for v in values]),
                "steady": _mean(steady) if steady else None,
                "parameters": 0 if name == "nothing" else rows[0]["parameters"],
            }
        )
    return records


def _by_frame(scores: Scores) -> list[Record]:
    nothing = {**scores[0][1][0]["nothing"], "parameters": 0}
    nothing |= {"psnr_p": nothing["psnr"], "mean_p": nothing["mean"]}
    return [
        {
            "net": name,
            **{f"p {frame + 1}": value for frame, value in enumerate(row["psnr_p"])},
            "mean p": row["mean_p"],
            "gain": row["mean_p"] - nothing["mean_p"],
            "as given": _mean(row["psnr"]),
            "parameters": row["parameters"],
        }
        for name, row in (("nothing", nothing), *((row.name, rows[0]) for row, rows in scores))
    ]


def _by_blur(scores: Scores) -> list[Record]:
    return [
        {
            "net, and blur": row.name,
            "blurry": summary["nothing"]["middle"],
            "restored": summary["middle"],
            "gain": summary["middle"] - summary["nothing"]["middle"],
            "SSIM blurry": summary["nothing"]["ssim_middle"],
            "SSIM": summary["ssim_middle"],
            "parameters": summary["parameters"],
        }
        for row, (summary,) in scores
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _text(value: str | int | float | None, key: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else value
    if "SSIM" in key:
        return f"{value:.4f}"
    return f"{value:+.2f}" if key == "gain" else f"{value:.2f}"
