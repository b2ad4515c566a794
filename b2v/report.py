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
from typing import Any

from torch import Tensor

from b2v.errors import UsageError
from b2v.files import check_free, replacing, write_text
from b2v.media.images import write_photo

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
GREY = "#777777"
"""Of the line that others are compared with."""
LONGEST, LINE = 54, 18
"""Letters of a name below the axis, and in one line of it."""
NOTHING = "nothing"
Summaries = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Chart:
    """A chart: places along the bottom, and over them lines by their names."""

    title: str
    across: str
    up: str
    places: tuple[str, ...]
    lines: dict[str, tuple[float, ...]]


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
    for name, values in chart.lines.items():
        style = {"color": GREY, "linestyle": "--"} if name == NOTHING else {"marker": "o"}
        axes.plot(range(len(values)), values, label=name, **style)  # type: ignore[arg-type]
    short = (p if len(p) <= LONGEST else f"…{p[1 - LONGEST :]}" for p in chart.places)
    names = [textwrap.fill(name.replace("$", r"\$"), LINE) for name in short]
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.set_xlabel(chart.across)
    axes.set_ylabel(chart.up)
    axes.set_title(chart.title, fontsize=11, parse_math=False)
    axes.grid(alpha=0.25)
    columns = min(len(chart.lines), max(1, 96 // (max(map(len, chart.lines)) + 6)))
    legend = figure.legend(loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    with replacing(path, overwrite=overwrite) as part:
        figure.savefig(part, format=path.suffix.lower()[1:])


def chart_of(summaries: Summaries) -> Chart:
    """Chart what there is to compare: gains by frame or video, or PSNR of videos over tau.

    Gains are over doing nothing, of frames in the better order of time.
    """
    first, lines = summaries[0], dict[str, tuple[float, ...]]()
    taus = sorted({row["tau"] for row in summaries if "tau" in row})
    if len(taus) > 1:
        for row in sorted(summaries, key=lambda row: row["tau"]):
            lines[row["model"]] = (*lines.get(row["model"], ()), row["psnr"])
        blurry = {row["tau"]: row["nothing"]["psnr"] for row in summaries}
        lines[NOTHING] = tuple(blurry[tau] for tau in taus)
        title = f"{first['set']}: {len(first['clips'])} videos"
        return Chart(title, "frames averaged, tau", "PSNR (dB)", tuple(map(str, taus)), lines)
    title, across = f"{first['set']}: {first.get('samples')} samples", "frame"
    for row in summaries:
        if taus:
            pairs = [(clip["psnr"], clip["nothing"]["psnr"]) for clip in row["clips"]]
        elif "psnr" in row:
            pairs = list(zip(row["psnr_p"], row["nothing"]["psnr"], strict=True))
        else:
            pairs = [(row["middle"], row["nothing"]["middle"])]
        lines[row["model"]] = tuple(mine - nothing for mine, nothing in pairs)
    places = tuple(map(str, range(1, 8))) if "psnr" in first else ("4",)
    if taus:
        title, across = f"{first['set']}: tau {taus[0]}, period {first['period']}", "video"
        places = tuple(clip["name"] for clip in first["clips"])
    lines[NOTHING] = (0.0,) * len(places)
    return Chart(title, across, "gain over doing nothing (dB)", places, lines)


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
