"""`b2v slowmo`: a blurry video to sharp slow motion."""

import json
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from b2v.cli import deblur, options
from b2v.cli.pace import Pace, display
from b2v.errors import UsageError

if TYPE_CHECKING:
    from b2v.deblurring import Settings
    from b2v.runtime import Runtime
    from b2v.weights import LoadedModel

PARTLY_FAILED = 4


@dataclass
class Result:
    """What `--json` prints; `fps` are the frames that were made in one of the `seconds`."""

    input: str
    output: str
    ok: bool = False
    error: str | None = None
    frames: int = 0
    frames_each: int = 0
    width: int | None = None
    height: int | None = None
    seconds: float = 0.0
    fps: float | None = None
    device: str | None = None
    precision: str | None = None
    model: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


Video = Annotated[str, typer.Argument(help="Blurry video.", metavar="VIDEO")]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="OUT", help=".mp4, .mov, .mkv or .webm."),
]
Fps = Annotated[
    float | None,
    typer.Option(help="Frames a second; those of the video without.", min=0.1, max=1000),
]
Duty = Annotated[
    float | None,
    typer.Option(
        help="Part of the time that the shutter was open; even steps in time without.",
        min=0.001,
        max=1,
    ),
]


def command(
    video: Video,
    output: Output = None,
    frames: options.Frames = 7,
    fps: Fps = None,
    duty: Duty = None,
    model: options.Model = "b2v",
    weights: options.Weights = None,
    codec: Annotated[deblur.Codec | None, typer.Option(help="By the suffix without.")] = None,
    crf: deblur.Crf = None,
    pix_fmt: deblur.PixFmt = None,
    start: deblur.Start = None,
    end: deblur.End = None,
    preview: deblur.Preview = None,
    resume: deblur.Resume = False,
    keep_partial: deblur.Partial = False,
    overwrite: deblur.Overwrite = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn a blurry video into sharp slow motion: seven frames of each picture.

    Without -o, walk.mp4 becomes walk_slow.mp4 beside it. Each picture runs in the
    direction of time that joins best with those beside it. Sound is left out: it
    would have to last as long. With --fps the video is played faster or slower.
    Example: b2v slowmo walk.mp4 --preview 2 --fps 60

    A run that was stopped goes on with --resume, as that of b2v deblur does.
    """
    from b2v.deblurring import Settings, check, default_name
    from b2v.runtime import choose, keep_large_blocks
    from b2v.slowmo import Tempo
    from b2v.weights import load_model

    if video == deblur.PIPE or output == deblur.PIPE:
        raise UsageError("-: slow motion is made from file to file; give names")
    settings = Settings(
        codec=None if codec is None else codec.value,
        crf=crf,
        pix_fmt=pix_fmt,
        start=start,
        end=deblur.end_of(start, end, preview),
        resume=resume,
        keep_partial=keep_partial,
        overwrite=overwrite,
    )
    tempo = Tempo(frames, duty=duty)  # what cannot be is refused before anything is loaded
    beside = Path(video).with_name(default_name(Path(video), settings.codec, "slow"))
    result = Result(video, output or str(beside), frames_each=tempo.frames)
    check(video, result.output, settings, inputs=[video])
    runtime = choose(device, precision)
    keep_large_blocks()
    loaded = load_model(model, weights=weights)
    runtime.place(loaded.net)
    with deblur.resumable(result.output):
        _make(loaded, runtime, settings, result, (fps, duty), quiet=quiet)
    _show(result, as_json=as_json, quiet=quiet)
    if not result.ok:
        raise typer.Exit(PARTLY_FAILED)


def _make(
    loaded: "LoadedModel",
    runtime: "Runtime",
    settings: "Settings",
    result: Result,
    speed: tuple[float | None, float | None],
    *,
    quiet: bool,
) -> None:
    """Make the slow motion and note in `result` what came of it; `speed` is --fps and --duty."""
    from b2v.slowmo import slow_motion

    pace, (fps, duty) = Pace(), speed
    result.device, result.precision = str(runtime.device), runtime.precision
    result.model = {"name": loaded.name, "sha256": loaded.sha256, "licence": loaded.licence}
    reports = slow_motion(
        result.input,
        result.output,
        loaded,
        runtime,
        settings,
        frames=result.frames_each,
        fps=fps,
        duty=duty,
    )
    with closing(reports), display(options.one_line(result.input), quiet=quiet) as show:
        for report in reports:
            pace.take(report)
            show(pace)
    result.frames, result.width, result.height = report.done, report.width, report.height
    result.seconds, result.fps = round(pace.seconds, 3), round(pace.fps, 2)
    if pace.first:
        result.notes.append(f"{result.output}: {pace.first} frames are from the run before")
    result.notes += report.notes
    result.ok, result.error = report.broken is None, report.broken


def _show(result: Result, *, as_json: bool, quiet: bool) -> None:
    """Print the path, or the JSON object; say how it went."""
    if as_json:
        typer.echo(json.dumps(asdict(result)))
    else:
        typer.echo(result.output)
        size = f"{result.frames} frames of {result.width}x{result.height}"
        how = f"{result.device} {result.precision}, {(result.model or {}).get('name')}"
        said = f"{size} in {result.seconds:.1f} s ({result.fps:.1f} a second; {how})"
        options.note(f"{options.one_line(result.input)}: {said}", quiet=quiet)
        for note in result.notes:
            options.note(options.one_line(note), quiet=quiet)
    if result.error:
        options.note(f"b2v: {options.one_line(result.error)}")
