"""What commands on videos share: options, outputs, and how it is said what came of a video."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2v.cli import batches, options
from b2v.cli.batches import PARTLY_FAILED, Handling, Result
from b2v.cli.pace import Pace, display
from b2v.errors import B2VError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

    from b2v.inference.runtime import Runtime
    from b2v.inference.video_files import Progress, Settings
    from b2v.weights import LoadedModel, LoadedVideoModel

PIPE = "-"
Work = Callable[["VideoResult"], None]

Crf = Annotated[int | None, typer.Option(help="Quality; lower is better.", min=0, max=63)]
PixFmt = Annotated[
    str | None, typer.Option(help="How pixels are stored, as FFmpeg calls it: yuv420p10le.")
]
Start = Annotated[float | None, typer.Option(help="Begin at this second.", min=0)]
End = Annotated[float | None, typer.Option(help="End before this second.", min=0)]
Preview = Annotated[
    float | None, typer.Option(help="Only so many seconds, from --start on.", min=0.001)
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with a run that was stopped, with its options.")
]
Partial = Annotated[
    bool,
    typer.Option("--keep-partial", help="Of a video that breaks off, write what can be read."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace outputs and stopped runs that exist.")
]


class StoppedError(B2VError):
    """Ctrl-C came, and what was restored waits to be resumed."""

    exit_code = 130


@dataclass
class VideoResult(Result):
    """What came of a video.

    `frames`, `width` and `height` are those of the output, which is played `slower` than life by so
    many times; `fps` are the frames that were made in one of the `seconds` that it took.
    """

    slower: float = 1
    width: int | None = None
    height: int | None = None
    fps: float | None = None


def settings_of(context: typer.Context) -> "Settings":
    """Read from the options of a command what is asked for; raises UsageError."""
    from b2v.inference.video_files import Settings

    given = context.params
    known = {f.name: given[f.name] for f in fields(Settings) if f.name in given}
    known["end"] = _end(given["start"], given["end"], given["preview"])
    return Settings(**{name: getattr(value, "value", value) for name, value in known.items()})


def _end(start: float | None, end: float | None, preview: float | None) -> float | None:
    """Say where to end, which --end and --preview both can."""
    if preview is None:
        return end
    if end is not None:
        raise UsageError("--preview and --end both say where to end; give one of them")
    return (start or 0.0) + preview


def plan(
    videos: Sequence[str],
    output: str | None,
    settings: "Settings",
    handling: Handling,
    what: str = "deblurred",
) -> list[VideoResult]:
    """Pair every video with its output, and note there which ones cannot be written.

    `what` ends the names of outputs that have none yet.
    """
    from b2v.batch import check_folders
    from b2v.inference.video_files import check, default_name
    from b2v.media.suffixes import VIDEOS

    def namer(video: Path) -> str:
        return default_name(video, settings.codec, what)

    results, folder = batches.plan(
        videos, output, VIDEOS, namer, handling, VideoResult, inside=True
    )
    for result in batches.to_do(results, Handling()):
        suffix = Path(result.output).suffix
        if result.output != output and suffix != Path(result.input).suffix:
            result.notes.append(f"{result.input}: becomes {suffix}, which can be written")
        with options.noting(result):
            new = folder is not None and not Path(result.output).parent.is_dir()
            if folder is not None and new:
                check_folders(folder, Path(result.output))
            check(result.input, result.output, settings, inputs=[result.input], new_folder=new)
    return results


def run(
    results: Sequence[VideoResult],
    handling: Handling,
    start_up: Callable[[], Work],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Do what is left to be done, say of each video how it went, and sum up.

    `start_up` loads what does one video; it is called once, if there is any to do.
    """
    if handling.dry_run:
        batches.show_plan(results, as_json=as_json)
    else:
        _run(results, handling, start_up, as_json=as_json, quiet=quiet)
    batches.finish(results, handling, quiet=quiet)


def _run(
    results: Sequence[VideoResult],
    handling: Handling,
    start_up: Callable[[], Work],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    work = start_up() if batches.to_do(results, handling) else None
    for result in batches.in_turn(results, handling):
        if work is not None and not result.error and not result.skipped:
            with _resumable(result.output), options.noting(result):
                if result.output != PIPE:
                    Path(result.output).parent.mkdir(parents=True, exist_ok=True)
                work(result)
        show_result(result, as_json=as_json, quiet=quiet)


@contextmanager
def _resumable(output: str) -> Iterator[None]:
    """Say after Ctrl-C that one can go on with `output`, if so."""
    from b2v.media.segments import left_over

    try:
        yield
    except KeyboardInterrupt:
        if output != PIPE and left_over(Path(output)):
            how = "the same command with --resume goes on"
            raise StoppedError(f"{output}: interrupted; {how}") from None
        raise


def follow(
    reports: "Generator[Progress, None, None]",
    loaded: "LoadedModel | LoadedVideoModel",
    runtime: "Runtime",
    result: VideoResult,
    *,
    quiet: bool,
) -> str | None:
    """Have one video made, show how it gets on, and note in `result` what came of it.

    Returns:
        Where the source breaks off, None where it is whole; `finish` notes that.

    """
    pace = Pace()
    result.made_by(loaded, runtime)
    with closing(reports), display(options.one_line(result.input), quiet=quiet) as show:
        for report in reports:
            pace.take(report)
            show(pace)
    result.frames, result.width, result.height = report.done, report.width, report.height
    result.seconds, result.fps = round(pace.seconds, 3), round(pace.fps, 2)
    if pace.first:
        result.notes.append(f"{result.output}: {pace.first} frames are from the run before")
    result.notes += report.notes
    result.lost += report.lost
    return report.broken


def finish(result: VideoResult, broken: str | None) -> None:
    """Note at last whether all went well: a source that is `broken` off is a part only."""
    result.ok, result.error = broken is None, broken
    result.exit_code = 0 if result.ok else PARTLY_FAILED


def show_result(result: VideoResult, *, as_json: bool, quiet: bool) -> None:
    """Print the path, or the JSON object, of one result; say how it went.

    Where the video itself went to standard output, nothing else does.
    """
    to_stderr = result.output == PIPE
    if as_json:
        typer.echo(result.as_json(), err=to_stderr)
    elif (result.frames or result.skipped) and not to_stderr:
        typer.echo(result.output)
    if result.frames and not as_json:
        many = "1 frame" if result.frames == 1 else f"{result.frames} frames"
        what = f"{many} of {result.width}x{result.height}"
        how = f"{result.device} {result.precision}, {(result.model or {}).get('name')}"
        speed = f"{result.seconds:.1f} s ({result.fps:.1f} a second; {how})"
        options.note(f"{options.one_line(result.input)}: {what} in {speed}", quiet=quiet)
    if result.frames:
        batches.tell(result, as_json=as_json, quiet=quiet)
    if result.error:
        options.note(f"b2v: {options.one_line(result.error)}")
