"""`b2v synth-dataset`: blurry and sharp pictures from high-rate videos and from photographs."""

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from b2v.cli import options
from b2v.data.sources import Layout
from b2v.errors import UsageError

if TYPE_CHECKING:
    from b2v.data.rendering import Recipe, Settings
    from b2v.data.synthesize import Finished, Plan

FAILED, PARTLY_FAILED = 1, 4

Sources = Annotated[
    list[Path] | None,
    typer.Argument(help="Datasets, folders of frames, videos, photographs.", metavar="SRC..."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Folder to write  [default: SRC_b2v beside SRC]", metavar="DIR"
    ),
]


@dataclass(frozen=True, kw_only=True)
class Making:
    """How windows are made, and how they are written."""

    layout: Annotated[Layout, typer.Option(help="Layout of SRC; auto detects it.")] = "auto"
    write: Annotated[
        Literal["gopro7", "gopro", "reds", "bsd", "pairs"], typer.Option(help="Layout to write.")
    ] = "gopro7"
    kind: Annotated[Literal["png", "jpg"], typer.Option("--format", help="Kind of picture.")] = (
        "png"
    )
    recipe: Annotated[
        Literal["jin", "kim", "reds", "gopro"],
        typer.Option(
            help="jin: 7 frames, 0.45 of the size; kim: 7 to 15 frames with gaps, within 960x540;"
            " reds: 7 frames; gopro: 7 to 13 frames. The options below override it."
        ),
    ] = "jin"
    frames: Annotated[int | None, typer.Option(help="Frames to average, an odd number.")] = None
    stride: Annotated[int | None, typer.Option(help="Frames from one window to the next.")] = None
    scale: Annotated[
        str | None, typer.Option(help="Resize: a factor, 0.45, or at most 960x540.")
    ] = None
    noise: Annotated[
        float, typer.Option(help="Noise on blurry pictures; 0.01 is 1 % of white.")
    ] = 0.0
    light: Annotated[
        Literal["linear", "code"], typer.Option(help="Average light, or code values.")
    ] = "linear"
    curve: Annotated[
        Literal["srgb", "gamma2.2"], typer.Option(help="From light to code values.")
    ] = "gamma2.2"
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0
    per_photo: Annotated[int, typer.Option(help="Windows to make per photograph.", min=1)] = 4
    size: Annotated[int, typer.Option(help="Side of windows of photographs in pixels.", min=16)] = (
        256
    )
    objects: Annotated[
        Path | None,
        typer.Option(
            help="Folder of cut-outs (with alpha) that move across photographs.", metavar="DIR"
        ),
    ] = None
    aperture: Annotated[
        Literal["standard", "coded"], typer.Option(help="coded: a phase mask, swept focus.")
    ] = "standard"

    def settings(self) -> "Settings":
        """Make the settings of a dataset; raises UsageError."""
        from b2v.data.rendering import Settings

        return Settings(
            recipe=self._recipe(),
            layout=self.write,
            suffix=self.kind,
            light=self.light,
            curve=self.curve,
            noise=self.noise,
            per_photo=self.per_photo,
            photo_size=self.size,
            objects=None if self.objects is None else str(self.objects),
            aperture=self.aperture,
            seed=self.seed,
        )

    def _recipe(self) -> "Recipe":
        """Take a recipe and change what is given."""
        from b2v.data.rendering import RECIPES

        recipe, scale = RECIPES[self.recipe], self.scale
        if self.frames is not None:
            recipe = replace(recipe, frames=(self.frames,))
        if self.stride is not None:
            recipe = replace(recipe, stride=self.stride)
        if scale is None:
            return recipe
        if match := re.fullmatch(r"(\d+)x(\d+)", scale):
            return replace(recipe, scale=1.0, box=(int(match[1]), int(match[2])))
        try:
            return replace(recipe, scale=float(scale), box=None)
        except ValueError:
            raise UsageError(f"--scale {scale}: expected a factor as 0.45, or 960x540") from None


@options.grouped
def command(
    sources: Sources = None,
    output: Output = None,
    *,
    how: Making,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", help="Sequences in parallel; 0: one per core.")
    ] = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make blurry pictures with their sharp frames.

    A stopped run continues when the same command is given again.
    """
    from b2v.data.sources import find_sequences
    from b2v.data.synthesize import plan

    if not sources or (output is None and len(sources) > 1):
        raise UsageError("give sources, and the folder to write: b2v synth-dataset SRC -o DIR")
    if output is None:
        place = sources[0].resolve()
        output = place.with_name(f"{place.stem if place.is_file() else place.name}_b2v")
        options.note(f"writing to {output}; use -o for another folder", quiet=quiet)
    settings = how.settings()
    found = find_sequences(sources, how.layout, leave_out=output)
    planned = plan(found, settings, output)
    if how.scale is None and (size_of := settings.recipe.scale) < 1:
        made = f"recipe {how.recipe} scales pictures to {size_of:.0%}"
        options.note(f"{made}; use --scale 1 to keep their size", quiet=quiet)
    _run(planned, jobs or os.cpu_count() or 1, as_json=as_json, quiet=quiet)


def _run(plan: "Plan", jobs: int, *, as_json: bool, quiet: bool) -> None:
    """Write the dataset, report progress, and exit with a code that tells how it went."""
    from b2v.data.synthesize import Finished, synthesize

    ticker, windows, ends = options.Ticker(), 0, list["Finished"]()
    for report in synthesize(plan, jobs):
        if isinstance(report, Finished):
            ends.append(report)
            if as_json:
                said = {"sequence": report.sequence.name, "input": str(report.sequence.path)}
                counts = {"windows": report.written, "before": report.before}
                typer.echo(json.dumps({**said, **counts, "error": report.problem or None}))
            if report.problem:
                options.note(f"b2v: {report.problem}")
        else:
            windows += 1
        if ticker.due():
            done = f"{len(ends)} of {len(plan.sequences)} sequences"
            options.note(f"{plan.folder}: {windows} windows, {done} done", quiet=quiet)
    before = sum(end.before for end in ends)
    there = f"; {before} already done" if before else ""
    options.note(f"{windows} windows of {len(ends)} sequences{there}", quiet=quiet)
    if any(end.problem for end in ends):
        raise typer.Exit(PARTLY_FAILED if windows + before else FAILED)
    if not as_json:
        typer.echo(plan.folder)
