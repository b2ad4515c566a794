"""`b2v slowmo`: blurry videos to sharp slow motion."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from b2v.cli import extract, options, showing, videos
from b2v.cli.batches import Handling
from b2v.cli.videos import PIPE, VideoResult
from b2v.defaults import PHOTO_MODELS
from b2v.errors import UsageError

if TYPE_CHECKING:
    from b2v.inference.runtime import Runtime
    from b2v.inference.slow_motion import Tempo
    from b2v.inference.video_files import Settings
    from b2v.weights import LoadedModel

Videos = Annotated[
    list[str], typer.Argument(help="Blurry videos, folders, or patterns.", metavar="VIDEO")
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help=".mp4, .mov, .mkv or .webm; of several videos, a folder.",
    ),
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
    context: typer.Context,
    inputs: Videos,
    output: Output = None,
    frames: options.Frames = 7,
    fps: Fps = None,
    duty: Duty = None,
    quality: options.Preset = options.Quality.FAST,
    model: options.OwnModel = None,
    weights: options.Weights = None,
    codec: options.Coding = None,
    crf: videos.Crf = None,
    pix_fmt: videos.PixFmt = None,
    start: videos.Start = None,
    end: videos.End = None,
    preview: videos.Preview = None,
    resume: videos.Resume = False,
    keep_partial: videos.Partial = False,
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
    """Turn blurry videos into sharp slow motion: seven frames of each picture.

    Without -o, walk.mp4 becomes walk_slow.mp4 beside it. Each picture runs in the
    direction of time that joins best with those beside it. Sound is left out: it
    would have to last as long. With --fps the video is played faster or slower.

    A run that was stopped goes on with --resume, as that of b2v deblur does.
    """
    from b2v.inference.slow_motion import Tempo

    if PIPE in (*inputs, output):
        raise UsageError("-: slow motion is made from file to file; give names")
    settings, handling = videos.settings_of(context), Handling.of(context)
    tempo = Tempo(frames, duty=duty)  # what cannot be is refused before anything is loaded
    results = videos.plan(inputs, output, settings, handling, "slow")

    def start_up() -> videos.Work:
        name = model or PHOTO_MODELS[quality.value]
        loaded, runtime = extract.load(name, weights, device, precision)
        runtime.place(loaded.net)
        return partial(_slow_down, loaded, runtime, settings, tempo, fps, quiet=quiet)

    videos.run(results, handling, start_up, as_json=as_json, quiet=quiet)


def _slow_down(
    loaded: "LoadedModel",
    runtime: "Runtime",
    settings: "Settings",
    tempo: "Tempo",
    fps: float | None,
    result: VideoResult,
    *,
    quiet: bool,
) -> None:
    """Do one video and note in `result` what came of it."""
    from b2v.inference.slow_motion import slow_motion

    result.frames_each = tempo.frames
    tags = showing.Showing(strip_metadata=settings.strip_metadata).tags_for(None, loaded)
    result.provenance = tags.provenance.as_dict() if tags.provenance else None
    reports = slow_motion(
        result.input,
        result.output,
        loaded,
        runtime,
        settings,
        frames=tempo.frames,
        fps=fps,
        duty=tempo.duty,
    )
    videos.finish(result, videos.follow(reports, loaded, runtime, result, quiet=quiet))
