"""Scores of a study's rows, through the evaluators of `b2v eval`."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from b2v.color import to_linear
from b2v.data import Aperture, coded
from b2v.defaults import FAST_MODEL
from b2v.entries import Entry, Protocol, open_entries
from b2v.errors import DatasetError
from b2v.evaluate import evaluate, summarize
from b2v.evaluate_video import evaluate_videos, find_videos, summarize_videos
from b2v.frames import FRAMES
from b2v.metrics import reblur
from b2v.models import VideoNet
from b2v.runtime import Runtime
from b2v.streaming import Deblurrer
from b2v.study.plans import Row, Study
from b2v.synth.exposure import Shutter
from b2v.weights import Card, card_entry, file_name, write_card
from b2v.windows import Sample, find_windows, read_samples, set_name


def check_set(study: Study, on: Path) -> None:
    """Check that a set is of the kind that a study is scored on, before hours of training.

    Raises DatasetError.
    """
    if study.protocol == "video":
        find_videos(on)
    elif few := [window.name for window in find_windows(on) if len(window.sharp) != FRAMES]:
        raise DatasetError(f"{on}: {few[0]} has no {FRAMES} sharp frames, which {study.name} needs")


def score_row(
    study: Study, row: Row, folder: Path, on: Path, taus: tuple[int, ...], runtime: Runtime
) -> list[dict[str, Any]]:
    """Score the network of a row; return a summary, or of video one for each exposure.

    Frames are left in the direction of time that the networks give them.
    """
    entry = open_row(study, row, folder)
    parameters = sum(weight.numel() for weight in entry.net.parameters())
    if study.protocol == "video":
        summaries = _score_video(entry, row, on, taus, runtime)
    else:
        samples: Iterable[Sample] = read_samples(find_windows(on))
        middle_net = study.protocol == "middle"
        if middle_net:
            samples = blurred_anew(samples, row.scored_on)
        net = runtime.place(entry.net)
        scores = list(evaluate(net, samples, runtime, align=False, middle_net=middle_net))
        summaries = [summarize(scores, set_name(on), row.name)]
    return [{**summary, "parameters": parameters} for summary in summaries]


def open_row(study: Study, row: Row, folder: Path) -> Entry:
    """Load the network of a row: the one it has trained, or the one that comes with the package."""
    protocol: Protocol | None = "middle" if study.protocol == "middle" else None
    if not row.stages:
        return open_entries(FAST_MODEL, [], protocol)[0]
    weights = folder / "runs" / row.net / "weights"
    return open_entries(row.stages[-1].model, [weights], protocol)[0]


def blurred_anew(samples: Iterable[Sample], aperture: Aperture) -> Iterator[Sample]:
    """Blur the seven sharp frames of each sample, through a standard or a coded aperture."""
    for sample in samples:
        if aperture == "coded":
            blurry = coded(to_linear(sample.sharp, "gamma2.2"))
        else:
            blurry = reblur(sample.sharp)
        yield replace(sample, blurry=blurry.clamp(0, 1))


def export(study: Study, folder: Path) -> Path:
    """Write the network that a study is for as weights with a card; return the card."""
    net, name = cast("tuple[str, str]", study.export)
    stage = next(row for row in study.rows if row.net == net).stages[-1]
    source = folder / "runs" / net / "weights" / file_name(stage.model, stage.role)
    target = folder / "weights" / file_name(name, stage.role)
    target.parent.mkdir(exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    part.write_bytes(source.read_bytes())
    part.replace(target)
    card = Card(
        name=name,
        licence="MIT",
        networks={stage.role: card_entry(target)[1]},
        summary="The middle frame of a photo taken through a phase-coded aperture",
        recipe=f"b2v study {study.name}",
        lineage=f"started with {stage.start}" if stage.start else "trained from scratch",
        limits="For that aperture alone (b2v.synth.aperture.Optics).",
    )
    return write_card(card, target.parent)


def _score_video(
    entry: Entry, row: Row, on: Path, taus: tuple[int, ...], runtime: Runtime
) -> list[dict[str, Any]]:
    net = cast("VideoNet", entry.net)
    deblurrer = Deblurrer(weights=net, device=str(runtime.device), precision=runtime.precision)
    videos, summaries = find_videos(on), []
    for tau in taus:
        shutter = Shutter(tau, tau)
        scores = list(evaluate_videos(deblurrer, videos, shutter))
        summaries.append(summarize_videos(scores, set_name(on), row.name, shutter))
    return summaries
