"""`b2v deblur`: blurry videos to sharp ones, frame by frame."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from b2v.cli import options
from b2v.cli.pace import Pace, display
from b2v.errors import B2VError, UsageError

if TYPE_CHECKING:
    from b2v.deblurring import Settings
    from b2v.streaming import Deblurrer
    from b2v.weights import LoadedVideoModel

PARTLY_FAILED = 4
PIPE = "-"


class Codec(str, Enum):
    """How the video is encoded."""

    H264 = "h264"
    HEVC = "hevc"
    VP9 = "vp9"
    AV1 = "av1"
    PRORES = "prores"


class Compare(str, Enum):
    """Where the blurry video goes in a comparison."""

    SIDE = "side"
    STACK = "stack"


class Stream(str, Enum):
    """Kinds of video on standard output."""

    MATROSKA = "matroska"
    Y4M = "y4m"


class StoppedError(B2VError):
    """Ctrl-C came, and what was restored waits to be resumed."""

    exit_code = 130


@dataclass
class Result:
    """What `--json` prints for each input; `exit_code` is for us alone.

    `frames`, `width` and `height` are those of the output; `fps` are the frames that were
    restored in one of the `seconds` that it took.
    """

    input: str
    output: str
    ok: bool = False
    error: str | None = None
    frames: int = 0
    width: int | None = None
    height: int | None = None
    seconds: float = 0.0
    fps: float | None = None
    device: str | None = None
    precision: str | None = None
    model: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    exit_code: int = 0


Videos = Annotated[
    list[str], typer.Argument(help="Blurry videos; - for standard input.", metavar="VIDEO")
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help=".mp4, .mov, .mkv, .webm, - for standard output; of several videos, a folder.",
    ),
]
Crf = Annotated[int | None, typer.Option(help="Quality; lower is better.", min=0, max=63)]
PixFmt = Annotated[
    str | None, typer.Option(help="How pixels are stored, as FFmpeg calls it: yuv420p10le.")
]
Start = Annotated[float | None, typer.Option(help="Begin at this second.", min=0)]
End = Annotated[float | None, typer.Option(help="End before this second.", min=0)]
Preview = Annotated[
    float | None, typer.Option(help="Only so many seconds, from --start on.", min=0.001)
]
To = Annotated[Stream | None, typer.Option(help="Kind of stream for -o -, matroska without.")]
Side = Annotated[
    Compare | None, typer.Option(help="Show the blurry video beside or above the restored one.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with a run that was stopped, with its options.")
]
Partial = Annotated[
    bool,
    typer.Option("--keep-partial", help="Of a video that breaks off, write what can be read."),
]
Gps = Annotated[bool, typer.Option("--keep-gps", help="Keep the place of recording.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace outputs and stopped runs that exist.")
]


def command(
    videos: Videos,
    output: Output = None,
    model: options.Model = "dtb",
    weights: options.Weights = None,
    codec: Annotated[Codec | None, typer.Option(help="By the suffix without.")] = None,
    crf: Crf = None,
    pix_fmt: PixFmt = None,
    start: Start = None,
    end: End = None,
    preview: Preview = None,
    compare: Side = None,
    to: To = None,
    resume: Resume = False,
    keep_partial: Partial = False,
    keep_gps: Gps = False,
    overwrite: Overwrite = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Restore blurry videos; sound, subtitles, times and size stay as they are.

    Without -o, walk.mp4 becomes walk_deblurred.mp4 beside it. Examples:
    b2v deblur walk.mp4 --preview 3 --compare side; ffmpeg … | b2v deblur - -o - | ffplay -

    A run that was stopped leaves what it closed in a hidden folder beside the
    output: the same command with --resume goes on, with --overwrite it begins
    anew. Of a video that breaks off nothing is written, exit code 1; with
    --keep-partial its readable part is, exit code 4.
    """
    from b2v.deblurring import Settings, load
    from b2v.runtime import keep_large_blocks
    from b2v.streaming import Deblurrer

    settings = Settings(
        codec=_word(codec),
        crf=crf,
        pix_fmt=pix_fmt,
        start=start,
        end=_end(start, end, preview),
        compare=_word(compare),
        to=_word(to),
        resume=resume,
        keep_partial=keep_partial,
        keep_gps=keep_gps,
        overwrite=overwrite,
    )
    results = _plan(videos, output, settings)
    if any(not result.error for result in results):
        keep_large_blocks()
        loaded = load(model, weights)
        deblurrer = Deblurrer(weights=loaded.net, device=device, precision=precision)
    for result in results:
        if not result.error:
            with _resumable(result), options.noting(result):
                _deblur(loaded, deblurrer, settings, result, quiet=quiet)
        _show(result, as_json=as_json, quiet=quiet)
    _finish(results, quiet=quiet)


def _word(choice: Enum | None) -> Any:  # noqa: ANN401
    return None if choice is None else choice.value


def _end(start: float | None, end: float | None, preview: float | None) -> float | None:
    if preview is None:
        return end
    if end is not None:
        raise UsageError("--preview and --end both say where to end; give one of them")
    return (start or 0.0) + preview


def _plan(videos: Sequence[str], output: str | None, settings: "Settings") -> list[Result]:
    """Pair every video with its output, and note there which ones cannot be written."""
    from b2v.deblurring import check, pair

    pairs, new_folder = pair(videos, output, settings.codec)
    results = [Result(video, target) for video, target in pairs]
    for result in results:
        suffix = Path(result.output).suffix
        if result.output != output and suffix != Path(result.input).suffix:
            result.notes.append(f"{result.input}: becomes {suffix}, which can be written")
        with options.noting(result):
            new = new_folder is not None
            check(result.input, result.output, settings, inputs=videos, new_folder=new)
    return results


@contextmanager
def _resumable(result: Result) -> Iterator[None]:
    """Say after Ctrl-C that one can go on, if so."""
    from b2v.media.segments import left_over

    try:
        yield
    except KeyboardInterrupt:
        if result.output != PIPE and left_over(Path(result.output)):
            how = "the same command with --resume goes on"
            raise StoppedError(f"{result.output}: interrupted; {how}") from None
        raise


def _deblur(
    loaded: "LoadedVideoModel",
    deblurrer: "Deblurrer",
    settings: "Settings",
    result: Result,
    *,
    quiet: bool,
) -> None:
    """Do one video and note in `result` what came of it."""
    from b2v.deblurring import deblur_video
    from b2v.media import PipeClosedError

    runtime, pace, name = deblurrer.runtime, Pace(), options.one_line(result.input)
    result.device, result.precision = str(runtime.device), runtime.precision
    result.model = {"name": loaded.name, "sha256": loaded.sha256, "licence": loaded.licence}
    reports = deblur_video(result.input, result.output, deblurrer, loaded, settings)
    try:
        with closing(reports), display(name, quiet=quiet) as show:
            for report in reports:
                pace.take(report)
                show(pace)
    except PipeClosedError:
        raise BrokenPipeError from None
    result.frames, result.width, result.height = report.done, report.width, report.height
    result.seconds, result.fps = round(pace.seconds, 3), round(pace.fps, 2)
    if pace.first:
        result.notes.append(f"{result.output}: {pace.first} frames are from the run before")
    result.notes += report.notes
    result.ok, result.error = report.broken is None, report.broken
    result.exit_code = 0 if result.ok else PARTLY_FAILED


def _show(result: Result, *, as_json: bool, quiet: bool) -> None:
    """Print the path, or the JSON object, of one result; say how it went.

    Where the video itself went to standard output, nothing else does.
    """
    to_stderr = result.output == PIPE
    if as_json:
        plain = asdict(result)
        del plain["exit_code"]
        typer.echo(json.dumps(plain), err=to_stderr)
    elif result.frames and not to_stderr:
        typer.echo(result.output)
    if result.frames and not as_json:
        what = f"{result.frames} frames of {result.width}x{result.height}"
        how = f"{result.device} {result.precision}, {(result.model or {}).get('name')}"
        speed = f"{result.seconds:.1f} s ({result.fps:.1f} a second; {how})"
        options.note(f"{options.one_line(result.input)}: {what} in {speed}", quiet=quiet)
        for note in result.notes:
            options.note(options.one_line(note), quiet=quiet)
    if result.error:
        options.note(f"b2v: {options.one_line(result.error)}")


def _finish(results: Sequence[Result], *, quiet: bool) -> None:
    """Sum up several videos; raise the exit code where not all went well."""
    codes = [result.exit_code for result in results if not result.ok]
    if len(results) > 1:
        good = len(results) - len(codes)
        options.note(f"{good} of {len(results)} videos restored", quiet=quiet)
    if codes:
        raise typer.Exit(PARTLY_FAILED if len(codes) < len(results) else codes[0])
