"""`b2v deblur`: blurry videos to sharp ones, frame by frame."""

from dataclasses import replace
from enum import Enum
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from b2v.cli import options, showing, videos
from b2v.cli.batches import Handling
from b2v.cli.video_extras import check_readable, write_video_extras
from b2v.cli.videos import VideoResult
from b2v.defaults import QUALITY, VIDEO_MODELS

if TYPE_CHECKING:
    from b2v.inference.video_files import Settings
    from b2v.inference.videos import Deblurrer
    from b2v.weights import LoadedVideoModel


class Stream(str, Enum):
    """Kinds of video on standard output."""

    MATROSKA = "matroska"
    Y4M = "y4m"


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
To = Annotated[Stream | None, typer.Option(help="Kind of stream for -o -, matroska without.")]


def seconds(text: str) -> float:
    """Read an exposure time, `1/60` or `0.02`."""
    try:
        time = float(Fraction(text.strip().removesuffix("s")))
    except (ValueError, ZeroDivisionError):
        time = 0.0
    if not 0 < time < float("inf"):
        raise typer.BadParameter(f"{text}: an exposure time in seconds, as 1/60 or 0.02")
    return time


Shutter = Annotated[
    float | None,
    typer.Option(
        parser=seconds,
        metavar="1/60",
        help="Exposure time of a frame in seconds; found from the blur without.",
    ),
]
OnlyBlurry = Annotated[
    bool,
    typer.Option("--only-blurry", help="Leave frames in which nothing moves over 3 pixels."),
]


def command(
    context: typer.Context,
    inputs: Videos,
    output: Output = None,
    quality: options.Preset = options.Quality(QUALITY),  # noqa: B008 - a member of an Enum
    model: options.OwnModel = None,
    weights: options.Weights = None,
    codec: options.Coding = None,
    crf: videos.Crf = None,
    pix_fmt: videos.PixFmt = None,
    start: videos.Start = None,
    end: videos.End = None,
    preview: videos.Preview = None,
    compare: showing.Side = None,
    filmstrip: showing.Filmstrip = None,
    html: showing.Html = None,
    to: To = None,
    shutter: Shutter = None,
    only_blurry: OnlyBlurry = False,
    resume: videos.Resume = False,
    keep_partial: videos.Partial = False,
    keep_gps: showing.Gps = False,
    strip_metadata: showing.Strip = False,
    overwrite: videos.Overwrite = False,
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
    settings, handling = videos.settings_of(context), Handling.of(context)
    shown = showing.Showing(
        compare=compare,
        filmstrip=filmstrip,
        html=html,
        strip_metadata=strip_metadata,
        keep_gps=keep_gps,
    )
    chosen = Chosen(model, weights, quality.value, device, precision)
    restore(inputs, output, settings, handling, shown, chosen, as_json=as_json, quiet=quiet)


class Chosen(NamedTuple):
    """The network that is asked for, and what it is to run on."""

    model: str | None
    weights: Path | None
    quality: str
    device: str
    precision: str


def restore(
    inputs: list[str],
    output: str | None,
    settings: "Settings",
    handling: Handling,
    shown: showing.Showing,
    chosen: Chosen,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Restore videos, in slow motion where `settings` ask for it."""
    from b2v.batch import is_several
    from b2v.inference.runtime import keep_large_blocks
    from b2v.inference.video_files import load
    from b2v.inference.videos import Deblurrer

    shown = replace(shown, several=is_several(inputs))
    check_readable(inputs, output, shown)
    what = "deblurred" if settings.slower is None else "slow"
    results = videos.plan(inputs, output, settings, handling, what)
    shown.check(results, overwrite=settings.overwrite)

    def start_up() -> videos.Work:
        keep_large_blocks()
        loaded = load(chosen.model or VIDEO_MODELS[chosen.quality], chosen.weights)
        device, precision = chosen.device, chosen.precision
        deblurrer = Deblurrer(weights=loaded.net, device=device, precision=precision)
        return partial(deblur_one, loaded, deblurrer, settings, shown, quiet=quiet)

    videos.run(results, handling, start_up, as_json=as_json, quiet=quiet)


def deblur_one(
    loaded: "LoadedVideoModel",
    deblurrer: "Deblurrer",
    settings: "Settings",
    shown: showing.Showing,
    result: VideoResult,
    *,
    quiet: bool,
) -> None:
    """Do one video and note in `result` what came of it."""
    from b2v.inference.video_files import deblur_video
    from b2v.media import PipeClosedError

    result.slower = settings.slower or 1
    reports = deblur_video(result.input, result.output, deblurrer, loaded, settings)
    try:
        broken = videos.follow(reports, loaded, deblurrer.runtime, result, quiet=quiet)
    except PipeClosedError:
        raise BrokenPipeError from None
    tags = shown.tags_for(None, loaded)
    result.provenance = tags.provenance.as_dict() if tags.provenance else None
    write_video_extras(result, shown, settings, tags)
    videos.finish(result, broken)
