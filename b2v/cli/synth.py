"""`b2v synth-dataset`: blurry and sharp pictures from high-rate videos and from photographs."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from b2v.cli import options
from b2v.data.sources import Layout
from b2v.errors import UsageError

if TYPE_CHECKING:
    from b2v.data.rendering import Aperture, Recipe
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
LayoutIn = Annotated[Layout, typer.Option(help="Layout of SRC; auto detects it.")]
Write = Annotated[
    Literal["gopro7", "gopro", "reds", "bsd", "pairs"], typer.Option(help="Layout to write.")
]
Kind = Annotated[Literal["png", "jpg"], typer.Option("--format", help="Kind of picture.")]
Split = Annotated[
    str | None, typer.Option(help="Split sequences that have none: train:0.8,test:0.2.")
]
Preset = Annotated[
    Literal["jin", "kim", "reds", "gopro"],
    typer.Option(
        help="jin: 7 frames, 0.45 of the size; kim: 7 to 15 frames with gaps, within 960x540;"
        " reds: 7 frames; gopro: 7 to 13 frames. The options below override it."
    ),
]
Frames = Annotated[int | None, typer.Option(help="Frames to average, an odd number.")]
Stride = Annotated[int | None, typer.Option(help="Frames from one window to the next.")]
Scale = Annotated[str | None, typer.Option(help="Resize: a factor, 0.45, or at most 960x540.")]
Noise = Annotated[float, typer.Option(help="Noise on blurry pictures; 0.01 is 1 % of white.")]
Light = Annotated[Literal["linear", "code"], typer.Option(help="Average light, or code values.")]
Curve = Annotated[Literal["srgb", "gamma2.2"], typer.Option(help="From light to code values.")]
SubFrames = Annotated[
    str | None,
    typer.Option(
        help="Instants per frame, odd; optical flow puts them between the frames of videos. auto:"
        " as many as the motion needs  [default: the frames alone]",
        metavar="N|auto",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
PerPhoto = Annotated[int, typer.Option(help="Windows to make per photograph.", min=1)]
Size = Annotated[int, typer.Option(help="Side of windows of photographs in pixels.", min=16)]
Objects = Annotated[
    Path | None,
    typer.Option(
        help="Folder of cut-outs (with alpha) that move across photographs.", metavar="DIR"
    ),
]
Hole = Annotated[Literal["open", "coded"], typer.Option(help="coded: a phase mask, swept focus.")]
Psf = Annotated[
    Path | None, typer.Option(help="PSFs of the coded aperture, .npz with `psfs` [T, k, k, 3].")
]
Gains = Annotated[
    bool, typer.Option("--keep-psf-energy", help="Do not normalize PSFs, as in Berman 2021.")
]
Sweep = Annotated[
    Literal["forward", "backward"], typer.Option(help="Direction of the focus sweep.")
]
ShowPsf = Annotated[
    Path | None, typer.Option(help="Only draw the PSFs over the exposure.", metavar="PICTURE")
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", help="Sequences in parallel; 0: one per core.")]


def command(
    sources: Sources = None,
    output: Output = None,
    layout: LayoutIn = "auto",
    write: Write = "gopro7",
    kind: Kind = "png",
    split: Split = None,
    recipe: Preset = "jin",
    frames: Frames = None,
    stride: Stride = None,
    scale: Scale = None,
    noise: Noise = 0.0,
    light: Light = "linear",
    curve: Curve = "gamma2.2",
    sub_frames: SubFrames = None,
    seed: Seed = 0,
    per_photo: PerPhoto = 4,
    size: Size = 256,
    objects: Objects = None,
    aperture: Hole = "open",
    psf: Psf = None,
    keep_energy: Gains = False,
    sweep: Sweep = "forward",
    show_psf: ShowPsf = None,
    jobs: Jobs = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make blurry pictures with their sharp frames.

    A stopped run continues when the same command is given again. Example:
    b2v synth-dataset GOPRO_Large_all -o windows
    """
    from b2v.data.rendering import Settings
    from b2v.data.sources import find_sequences
    from b2v.data.synthesize import plan

    lens = _aperture(
        aperture, psf, keep_energy, backward=sweep == "backward", drawn=show_psf is not None
    )
    if show_psf is not None and lens is not None:
        return _draw(lens, show_psf)
    if not sources or (output is None and len(sources) > 1):
        raise UsageError("give sources, and the folder to write: b2v synth-dataset SRC -o DIR")
    if output is None:
        place = sources[0].resolve()
        output = place.with_name(f"{place.stem if place.is_file() else place.name}_b2v")
        options.note(f"writing to {output}; use -o for another folder", quiet=quiet)
    settings = Settings(
        recipe=_recipe(recipe, frames, stride, scale),
        layout=write, suffix=kind, light=light, curve=curve,
        noise=noise, sub_frames=_sub_frames(sub_frames), per_photo=per_photo, photo_size=size,
        objects=None if objects is None else str(objects), aperture=lens, seed=seed,
    )  # fmt: skip
    found = find_sequences(sources, layout, leave_out=output)
    planned = plan(found, settings, output, _splits(split))
    if scale is None and (size_of := settings.recipe.scale) < 1:
        made = f"recipe {recipe} scales pictures to {size_of:.0%}"
        options.note(f"{made}; use --scale 1 to keep their size", quiet=quiet)
    _run(planned, jobs or os.cpu_count() or 1, as_json=as_json, quiet=quiet)


def _aperture(
    hole: str, psf: Path | None, gains: bool, *, backward: bool, drawn: bool
) -> "Aperture | None":
    """Make the coded aperture; its file is read now, so that a bad one is refused at once."""
    from b2v.data.rendering import Aperture

    if hole == "open" and not drawn:
        if psf or gains or backward:
            raise UsageError("--psf, --keep-psf-energy and --sweep need --aperture coded")
        return None
    name = None if psf is None else str(psf)
    lens = Aperture(psf=name, gains=gains, backward=backward)
    lens.psfs(1)
    return lens


def _draw(lens: "Aperture", picture: Path) -> None:
    from b2v.data.exposure import show_psf
    from b2v.media.images import write_photo

    if picture.exists():
        raise UsageError(f"{picture}: exists already; give another name")
    write_photo(show_psf(lens.psfs(7)), picture)
    typer.echo(picture)


def _recipe(name: str, frames: int | None, stride: int | None, scale: str | None) -> "Recipe":
    """Take a recipe and change what is given."""
    from b2v.data.rendering import RECIPES

    recipe = RECIPES[name]
    if frames is not None:
        recipe = replace(recipe, frames=(frames,))
    if stride is not None:
        recipe = replace(recipe, stride=stride)
    if scale is None:
        return recipe
    if match := re.fullmatch(r"(\d+)x(\d+)", scale):
        return replace(recipe, scale=1.0, box=(int(match[1]), int(match[2])))
    try:
        return replace(recipe, scale=float(scale), box=None)
    except ValueError:
        raise UsageError(f"--scale {scale}: expected a factor as 0.45, or 960x540") from None


def _sub_frames(text: str | None) -> int | Literal["auto"] | None:
    """Read a number of instants a frame."""
    if text is None:
        return None
    if text.isdecimal():
        return int(text)
    if text != "auto":
        raise UsageError(f"--sub-frames {text}: expected an odd number, or auto")
    return "auto"


def _splits(text: str | None) -> dict[str, float] | None:
    """Read shares of splits, as train:0.8,test:0.2."""
    if text is None:
        return None
    found = re.findall(r"([\w-]+):(\d*\.?\d+)(?:,|$)", text)
    if ",".join(":".join(pair) for pair in found) != text or len(dict(found)) < len(found):
        raise UsageError(f"--split {text}: expected shares as train:0.8,test:0.2")
    return {name: float(share) for name, share in found}


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
                options.note(f"b2v: {options.one_line(report.problem)}")
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
