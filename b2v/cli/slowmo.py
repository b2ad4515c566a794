"""`b2v slowmo`: blurry videos to sharp slow motion."""

from typing import Annotated

import typer

from b2v.cli import options, showing, videos
from b2v.cli.batches import Handling
from b2v.cli.deblur import Chosen, OnlyBlurry, Output, Shutter, restore
from b2v.cli.videos import PIPE
from b2v.defaults import QUALITY
from b2v.errors import UsageError

Videos = Annotated[
    list[str], typer.Argument(help="Blurry videos, folders, or patterns.", metavar="VIDEO")
]
Slower = Annotated[
    float, typer.Option(help="Play it so many times slower than life.", min=1, max=1000)
]
Fps = Annotated[
    float | None,
    typer.Option(help="Frames a second; those of the video without.", min=0.1, max=1000),
]
Sound = Annotated[bool, typer.Option("--sound", help="Keep the sound, stretched at its pitch.")]


def command(
    context: typer.Context,
    inputs: Videos,
    output: Output = None,
    slower: Slower = 4,
    fps: Fps = None,
    sound: Sound = False,
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
    """Turn blurry videos into sharp slow motion that flows.

    Each frame is restored as by b2v deblur, and frames are put between them at even
    steps of time. Without -o, walk.mp4 becomes walk_slow.mp4 beside it.

    A run that was stopped goes on with --resume, as that of b2v deblur does.
    """
    if PIPE in (*inputs, output):
        raise UsageError("-: slow motion is made from file to file; give names")
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
