"""What is written of scores beside JSON: tables, charts, and contact sheets of samples.

This module alone uses matplotlib, which is an extra; it is imported only when a chart is drawn.
"""

import csv
import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from b2v.errors import UsageError
from b2v.files import check_free, replacing, write_text
from b2v.media.images import write_photo

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Value = str | int | float | None


def write_csv(
    path: Path, records: Sequence[Mapping[str, Value]], *, overwrite: bool = False
) -> None:
    """Write records with the same keys, a line each; None is an empty field."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({k: round(v, 6) if isinstance(v, float) else v for k, v in record.items()})
    write_text(path, text.getvalue(), overwrite=overwrite)


SUFFIXES = (".png", ".svg", ".pdf")
COLORS = ("#1b6ca8", "#d1602b", "#2e8b57", "#8557a3", "#b8860b", "#8b3a4a", "#4a7c8c", "#6b6b6b")
"""Of the lines, in turn; gray lines are what they are compared with."""
GREY = "#777777"
LONGEST, LINE = 54, 18
"""Letters of a name below the axis, and in one line of it."""


@dataclass(frozen=True)
class Line:
    """Values at each place; `color` counts through `COLORS`, None is a gray reference."""

    label: str
    values: tuple[float, ...]
    color: int | None = 0
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart: places along the bottom, `lines` over them."""

    title: str
    across: str
    up: str
    places: tuple[str, ...]
    lines: tuple[Line, ...]
    apart: bool = False
    """Whether there is nothing between the places, so that points are not joined."""


def can_draw() -> bool:
    """Tell whether charts can be drawn here."""
    return find_spec("matplotlib") is not None


def check_chart(path: Path, *, overwrite: bool) -> None:
    """Check that a chart can be drawn into a file; raises UsageError, and as `check_free`."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: unknown suffix; charts are written as {', '.join(SUFFIXES)}")
    if not can_draw():
        raise UsageError('charts are drawn by matplotlib; pip install "b2v[plot]"')
    check_free(path, (), overwrite=overwrite)


def draw_chart(chart: Chart, path: Path, *, overwrite: bool = False) -> None:
    """Draw a chart into a file of the kind that its suffix names.

    Raises UsageError where the file exists, MediaError when the disk refuses.
    """
    # The object API has no windows and no state of its own, which pyplot has.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    places = range(len(chart.places))
    (_draw_points if chart.apart else _draw_lines)(axes, chart.lines)
    short = (p if len(p) <= LONGEST else f"…{p[1 - LONGEST :]}" for p in chart.places)
    names = [textwrap.fill(name.replace("$", r"\$"), LINE) for name in short]
    axes.set_xticks(places, names, fontsize=9)
    axes.set_xlabel(chart.across)
    axes.set_ylabel(chart.up)
    axes.set_title(chart.title, fontsize=11, parse_math=False)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    widest = max(len(line.label) for line in chart.lines)
    columns = min(len(chart.lines), max(1, 96 // (widest + 6)))
    legend = figure.legend(loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    with replacing(path, overwrite=overwrite) as part:
        figure.savefig(part, format=path.suffix.lower()[1:])


def _draw_lines(axes: "Axes", lines: Sequence[Line]) -> None:
    for line in lines:
        reference = line.color is None
        axes.plot(
            range(len(line.values)),
            line.values,
            label=line.label,
            color=_color(line),
            linestyle="--" if line.dashed else "-",
            linewidth=1.2 if reference or line.dashed else 1.8,
            marker="" if reference else "o",
            markersize=3.5 if line.dashed else 5,
        )


def _draw_points(axes: "Axes", lines: Sequence[Line]) -> None:
    """Draw points that are not joined, each with its value beside it."""
    for line in lines:
        places = range(len(line.values))
        axes.plot(places, line.values, "o", label=line.label, color=_color(line), markersize=8)
        for place, value in zip(places, line.values, strict=True):
            axes.annotate(
                f"{value:.2f}", (place, value), (9, -3), textcoords="offset points", fontsize=8
            )
    axes.margins(x=0.12, y=0.12)


def _color(line: Line) -> str:
    return GREY if line.color is None else COLORS[line.color % len(COLORS)]


GAIN = "gain over doing nothing (dB)"
FEW = 3
"""Models whose frames are drawn in the order as given, too."""
Summaries = Sequence[Mapping[str, Any]]


def chart_of(summaries: Summaries) -> Chart:
    """Draw what there is to compare: gains by frame or sample, of video PSNR over tau."""
    first = summaries[0]
    if "tau" not in first:
        return gain_by_frame(summaries) if "psnr" in first else middle_by_model(summaries)
    taus = {summary["tau"] for summary in summaries}
    return psnr_over_tau(summaries) if len(taus) > 1 else gain_by_clip(summaries)


def gain_by_frame(summaries: Summaries) -> Chart:
    """Show what each model gains over doing nothing in each frame, in the better order of time.

    Dashed is the order as given, of few models.
    """
    lines = []
    for n, row in enumerate(summaries):
        nothing = row["nothing"]["psnr"]
        lines.append(Line(row["model"], _minus(row["psnr_p"], nothing), n))
        if len(summaries) <= FEW:
            name = f"{row['model']}, order as given"
            lines.append(Line(name, _minus(row["psnr"], nothing), n, dashed=True))
    places = tuple(str(k + 1) for k in range(len(lines[0].values)))
    lines.append(Line("nothing", (0.0,) * len(places), None))
    return Chart(_title(summaries), "frame", GAIN, places, tuple(lines))


def middle_by_model(summaries: Summaries) -> Chart:
    """Show the PSNR of the middle frame alone, beside that of the blurry picture."""
    places = tuple(row["model"] for row in summaries)
    blurry = Line("blurry", tuple(row["nothing"]["middle"] for row in summaries), None)
    restored = Line("restored", tuple(row["middle"] for row in summaries))
    return Chart(
        _title(summaries),
        "",
        "PSNR of the middle frame (dB)",
        places,
        (blurry, restored),
        apart=True,
    )


def psnr_over_tau(summaries: Summaries) -> Chart:
    """Show the PSNR of blurry and restored videos for each number of frames averaged."""
    taus = sorted({summary["tau"] for summary in summaries})
    models = list(dict.fromkeys(summary["model"] for summary in summaries))
    rows = {(s["model"], s["tau"]): s for s in summaries}
    lines = [
        Line(model, tuple(rows[model, tau]["psnr"] for tau in taus), n)
        for n, model in enumerate(models)
    ]
    blurry = tuple(rows[models[0], tau]["nothing"]["psnr"] for tau in taus)
    lines.append(Line("blurry", blurry, None))
    places = tuple(map(str, taus))
    title = f"{summaries[0]['set']}: {len(summaries[0]['clips'])} videos"
    return Chart(title, "frames averaged, tau", "PSNR (dB)", places, tuple(lines))


def gain_by_clip(summaries: Summaries) -> Chart:
    """Show what each model gains over the blurry frames of each video."""
    first = summaries[0]
    lines = [
        Line(
            row["model"],
            _minus([c["psnr"] for c in row["clips"]], [c["nothing"]["psnr"] for c in row["clips"]]),
            n,
        )
        for n, row in enumerate(summaries)
    ]
    places = tuple(clip["name"] for clip in first["clips"])
    lines.append(Line("nothing", (0.0,) * len(places), None))
    title = f"{first['set']}: tau {first['tau']}, period {first['period']}"
    return Chart(title, "video", "gain over the blurry frames (dB)", places, tuple(lines))


def _title(summaries: Summaries) -> str:
    return f"{summaries[0]['set']}: {summaries[0]['samples']} samples"


def _minus(values: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    return tuple(a - b for a, b in zip(values, others, strict=True))


class Extremes:
    """Keeps the pictures of the best and the worst of many samples, and no others."""

    def __init__(self, count: int = 3) -> None:
        """Keep `count` of the best, and as many of the worst."""
        self.count = count
        self._kept: list[tuple[float, str, Tensor]] = []  # best first

    def offer(self, gain: float, name: str, draw: Callable[[], Tensor]) -> None:
        """Look at a sample; its picture [3, H, W] in [0, 1] is drawn only if it is to be kept."""
        place = sum(gain <= other for other, _, _ in self._kept)
        after = len(self._kept) - place
        if place >= self.count and after >= self.count:
            return
        self._kept.insert(place, (gain, name, (draw() * 255).round().byte()))
        if len(self._kept) > 2 * self.count:
            del self._kept[self.count]

    def write(self, folder: Path) -> list[Path]:
        """Write `best-N…` and `worst-N…` into a folder, 1 the furthest out; return the files.

        A sample is written once: of few, the better half is best. Those that an earlier call has
        left there are removed. Raises MediaError when the disk refuses.
        """
        for old in [*folder.glob("best-*_*dB_*.png"), *folder.glob("worst-*_*dB_*.png")]:
            old.unlink()
        half = min(self.count, (len(self._kept) + 1) // 2)
        best, worst = self._kept[:half], self._kept[half:][::-1]
        written = []
        for kind, samples in (("best", best), ("worst", worst)):
            for place, (gain, name, codes) in enumerate(samples, 1):
                plain = re.sub(r"[^\w.-]+", "-", name).strip("-")
                path = folder / f"{kind}-{place}_{gain:+.2f}dB_{plain}.png"
                folder.mkdir(parents=True, exist_ok=True)
                written.append(write_photo(codes.float() / 255, path, overwrite=True))
        return written
