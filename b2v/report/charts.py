"""Charts: values over a few named places, a line for each of what is compared."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from b2v.errors import UsageError
from b2v.media.photo import replacing
from b2v.report.tables import check_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = ("#1b6ca8", "#d1602b", "#2e8b57", "#8557a3", "#b8860b", "#8b3a4a", "#4a7c8c", "#6b6b6b")
"""Of the lines, in turn; grey lines are what they are compared with."""
GREY = "#777777"
LONGEST, LINE = 54, 18
"""Letters of a name below the axis, and in one line of it."""


@dataclass(frozen=True)
class Line:
    """Values at each place; `colour` counts through `COLOURS`, None is a grey reference."""

    label: str
    values: tuple[float, ...]
    colour: int | None = 0
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
    """Check that a chart can be drawn into a file; raises UsageError, and as `check_file`."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: unknown suffix; charts are written as {', '.join(SUFFIXES)}")
    if not can_draw():
        raise UsageError('charts are drawn by matplotlib; pip install "b2v[plot]"')
    check_file(path, overwrite=overwrite)


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
    axes.set_xticks(places, [_wrapped(place) for place in chart.places], fontsize=9)
    axes.set_xlabel(chart.across)
    axes.set_ylabel(chart.up)
    axes.set_title(chart.title, fontsize=11, parse_math=False)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    columns = min(len(chart.lines), max(1, 96 // (_widest(chart) + 6)))
    legend = figure.legend(loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    with replacing(path, overwrite=overwrite) as part:
        figure.savefig(part, format=path.suffix.lower()[1:])


def _draw_lines(axes: "Axes", lines: Sequence[Line]) -> None:
    for line in lines:
        reference = line.colour is None
        axes.plot(
            range(len(line.values)),
            line.values,
            label=line.label,
            color=_colour(line),
            linestyle="--" if line.dashed else "-",
            linewidth=1.2 if reference or line.dashed else 1.8,
            marker="" if reference else "o",
            markersize=3.5 if line.dashed else 5,
        )


def _draw_points(axes: "Axes", lines: Sequence[Line]) -> None:
    """Draw points that are not joined, each with its value beside it."""
    for line in lines:
        places = range(len(line.values))
        axes.plot(places, line.values, "o", label=line.label, color=_colour(line), markersize=8)
        for place, value in zip(places, line.values, strict=True):
            axes.annotate(
                f"{value:.2f}", (place, value), (9, -3), textcoords="offset points", fontsize=8
            )
    axes.margins(x=0.12, y=0.12)


def _colour(line: Line) -> str:
    return GREY if line.colour is None else COLOURS[line.colour % len(COLOURS)]


def _wrapped(name: str) -> str:
    """Break a name into lines that fit below the axis; of a long one, show the end."""
    plain = name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
    return textwrap.fill(plain.replace("$", r"\$"), LINE)


def _widest(chart: Chart) -> int:
    return max(len(line.label) for line in chart.lines)
