"""Charts of scores, from the summaries that `b2v.evaluate` and `b2v.evaluate_video` make."""

from collections.abc import Mapping, Sequence
from typing import Any

from b2v.report.charts import Chart, Line

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
