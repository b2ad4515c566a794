"""`b2v deblur`: blurry videos to sharp ones, frame by frame."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from b2v.cli import batches, options, showing
from b2v.cli.batches import PARTLY_FAILED, Handling
from b2v.cli.pace import Pace, display
from b2v.cli.video_extras import check_readable, write_video_extras
from b2v.cli.videos import PIPE as PIPE
from b2v.cli.videos import Result, show_result
from b2v.errors import B2VError, UsageError

if TYPE_CHECKING:
    from b2v.deblurring import Settings
    from b2v.streaming import Deblurrer
    from b2v.weights import LoadedVideoModel


class Codec(str, Enum):
    """How the video is encoded."""

    H264 = "h264"
    HEVC = "hevc"
    VP9 = "vp9"
    AV1 = "av1"
    PRORES = "prores"


class Stream(str, Enum):
    """Kinds of video on standard output."""

    MATROSKA = "matroska"
    Y4M = "y4m"


class StoppedError(B2VError):
    """Ctrl-C came, and what was restored waits to be resumed."""

    exit_code = 130


Videos = Annotated[
    list[str],
    typer.Argument(
        help="Blurry videos, folders, or patterns; - for standard input.", metavar="VIDEO"
    ),
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
    compare: showing.Side = None,
    filmstrip: showing.Filmstrip = None,
    html: showing.Html = None,
    to: To = None,
    resume: Resume = False,
    keep_partial: Partial = False,
    keep_gps: showing.Gps = False,
    strip_metadata: showing.Strip = False,
    overwrite: Overwrite = False,
    recursive: options.Recursive = False,
    skip_existing: options.SkipExisting = False,
    dry_run: options.DryRun = False,
    fail_fast: options.FailFast = False,
    shard: options.Shard = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Restore blurry videos; sound, subtitles, times and size stay as they are.

    Without -o, walk.mp4 becomes walk_deblurred.mp4 beside it. Of a folder, its videos are
    taken, and below -o the new ones lie as they do below the folder.

    A run that was stopped leaves what it closed in a hidden folder beside the
    output: the same command with --resume goes on, with --overwrite it begins
    anew. Of a video that breaks off nothing is written, exit code 1; with
    --keep-partial its readable part is, exit code 4.
    """
    from b2v.batch import is_several
    from b2v.deblurring import Settings, load
    from b2v.runtime import keep_large_blocks
    from b2v.streaming import Deblurrer

    settings = Settings(
        codec=_word(codec),
        crf=crf,
        pix_fmt=pix_fmt,
        start=start,
        end=end_of(start, end, preview),
        compare=_word(compare),
        to=_word(to),
        resume=resume,
        keep_partial=keep_partial,
        keep_gps=keep_gps,
        strip_metadata=strip_metadata,
        overwrite=overwrite,
    )
    handling = Handling(
        recursive=recursive,
        overwrite=overwrite,
        skip_existing=skip_existing,
        dry_run=dry_run,
        fail_fast=fail_fast,
        shard=shard,
    )
    shown = showing.Showing(
        compare=compare,
        filmstrip=filmstrip,
        html=html,
        strip_metadata=strip_metadata,
        keep_gps=keep_gps,
        several=is_several(videos),
    )
    check_readable(videos, output, shown)
    results, folder = _plan(videos, output, settings, handling)
    shown.check(results, overwrite=overwrite)
    if dry_run:
        batches.show_plan(results, as_json=as_json)
    else:
        if batches.to_do(results, handling):
            keep_large_blocks()
            loaded = load(model, weights)
            deblurrer = Deblurrer(weights=loaded.net, device=device, precision=precision)
        for result in batches.in_turn(results, handling):
            if not result.error and not result.skipped:
                with resumable(result.output), options.noting(result):
                    if folder is not None:
                        Path(result.output).parent.mkdir(parents=True, exist_ok=True)
                    deblur_one(loaded, deblurrer, settings, shown, result, quiet=quiet)
            show_result(result, as_json=as_json, quiet=quiet)
    batches.finish(results, handling, quiet=quiet)


def _word(choice: Enum | None) -> Any:  # noqa: ANN401
    return None if choice is None else choice.value


def end_of(start: float | None, end: float | None, preview: float | None) -> float | None:
    """Say where to end, which --end and --preview both can; raises UsageError for both."""
    if preview is None:
        return end
    if end is not None:
        raise UsageError("--preview and --end both say where to end; give one of them")
    return (start or 0.0) + preview


def _plan(
    videos: Sequence[str], output: str | None, settings: "Settings", handling: Handling
) -> tuple[list[Result], Path | None]:
    """Pair every video with its output, and note there which ones cannot be written."""
    from b2v.batch import check_folders
    from b2v.deblurring import check, default_name
    from b2v.media.suffixes import VIDEOS

    def namer(video: Path) -> str:
        return default_name(video, settings.codec)

    results, folder = batches.plan(videos, output, VIDEOS, namer, handling, Result, inside=True)
    for result in results:
        if result.error or result.skipped:
            continue
        suffix = Path(result.output).suffix
        if result.output != output and suffix != Path(result.input).suffix:
            result.notes.append(f"{result.input}: becomes {suffix}, which can be written")
        with options.noting(result):
            new = folder is not None and not Path(result.output).parent.is_dir()
            if folder is not None and new:
                check_folders(folder, Path(result.output))
            check(result.input, result.output, settings, inputs=[result.input], new_folder=new)
    return results, folder


@contextmanager
def resumable(output: str) -> Iterator[None]:
    """Say after Ctrl-C that one can go on with `output`, if so."""
    from b2v.media.segments import left_over

    try:
        yield
    except KeyboardInterrupt:
        if output != PIPE and left_over(Path(output)):
            how = "the same command with --resume goes on"
            raise StoppedError(f"{output}: interrupted; {how}") from None
        raise


def deblur_one(
    loaded: "LoadedVideoModel",
    deblurrer: "Deblurrer",
    settings: "Settings",
    shown: showing.Showing,
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
    tags = shown.tags_for(None, loaded)
    result.provenance = tags.provenance.as_dict() if tags.provenance else None
    write_video_extras(result, shown, settings, tags)
    result.ok, result.error = report.broken is None, report.broken
    result.exit_code = 0 if result.ok else PARTLY_FAILED
