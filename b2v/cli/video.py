"""`b2v deblur` and `b2v slowmo`: blurry videos to sharp ones, frame by frame, or to slow motion."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from b2v.cli import batch, options
from b2v.cli.clip_outputs import Showing
from b2v.cli.options import Pace, Result, progress
from b2v.errors import B2VError, UsageError
from b2v.files import PHOTOS, PIPE, VIDEOS, one_line

if TYPE_CHECKING:
    from b2v.html_page import Scene, View
    from b2v.inference.images import Model
    from b2v.inference.video_files import Settings
    from b2v.inference.videos import Deblurrer
    from b2v.media.metadata import Tags
    from b2v.media.video_reader import Moment


MOMENTS, CELLS = 24, 6
"""Pairs of frames on a page, and columns of a filmstrip."""


def write_video_extras(
    result: "VideoResult", showing: Showing, settings: "Settings", tags: "Tags"
) -> None:
    """Write what is wanted beside a restored video, by reading it and its source again."""
    from b2v.cli.clip_outputs import notes_on
    from b2v.html_page import write_page
    from b2v.media.drawing import strip
    from b2v.media.images import write_photo

    if path := showing.place("filmstrip", result.output):
        seen = list(_moments(result, settings, CELLS))
        rows = [[moment.blurry for moment in seen], [moment.restored for moment in seen]]
        times = [f"{moment.second:.2f} s" for moment in seen]
        words = [[f"blurry, {time}" for time in times], [f"restored, {time}" for time in times]]
        path.parent.mkdir(exist_ok=True)
        write_photo(strip(rows, words), path, overwrite=settings.overwrite, tags=tags)
    if path := showing.place("html", result.output):
        path.parent.mkdir(exist_ok=True)
        scene, name = video_scene(result, settings), Path(result.input).name
        notes = notes_on([tags], photo=False)
        write_page(path, name, [scene], notes, overwrite=settings.overwrite)


def video_scene(result: "VideoResult", settings: "Settings") -> "Scene":
    """Describe moments of a restored video for a page, each with its blurry frame."""
    from b2v.html_page import Scene, opening, pictures

    before: list[str] = []
    after: list[str] = []
    views: list[View] = []
    for moment in _moments(result, settings, MOMENTS):
        one, size = pictures([moment.blurry, moment.restored])
        before.append(one[0])
        after.append(one[1])
        views.append(opening(moment.blurry, moment.restored))
        last = moment.second
    width = (result.width or 0) // (2 if settings.compare == "side" else 1)
    height = (result.height or 0) // (2 if settings.compare == "stack" else 1)
    facts = [f"{result.frames} frames of {width}×{height}"]
    if len(after) < result.frames:
        facts.append(f"{len(after)} shown here, over {last:.1f} s")
    name = Path(result.input).name
    view = views[len(views) // 2]  # the frame that the page shows first
    return Scene(title=name, before=before, after=after, size=size, facts=facts, view=view)


def _moments(result: "VideoResult", settings: "Settings", count: int) -> Iterator["Moment"]:
    from b2v.media.video_reader import moments

    return moments(
        result.input,
        result.output,
        result.frames,
        count=count,
        start=settings.start,
        end=settings.end,
        compare=settings.compare,
        slower=settings.slower or 1,
    )


Work = Callable[["VideoResult"], None]


class StoppedError(B2VError):
    """The run was interrupted, and can be resumed."""

    exit_code = options.INTERRUPTED


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


def seconds(text: str) -> float:
    """Read an exposure time, `1/60` or `0.02`."""
    try:
        time = float(Fraction(text.strip().removesuffix("s")))
    except (ValueError, ZeroDivisionError):
        time = 0.0
    if not 0 < time < float("inf"):
        raise typer.BadParameter(f"{text}: an exposure time in seconds, as 1/60 or 0.02")
    return time


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """What commands on videos have in common: the part, its motion, how it is encoded."""

    codec: options.Coding = None
    crf: Annotated[
        int | None, options.in_output(help="Quality; lower is better.", min=0, max=63)
    ] = None
    pix_fmt: Annotated[
        str | None, options.in_output(help="Pixel format as FFmpeg calls it: yuv420p10le.")
    ] = None
    start: Annotated[float | None, options.in_video(help="Begin at this second.", min=0)] = None
    end: Annotated[float | None, options.in_video(help="End before this second.", min=0)] = None
    preview: Annotated[
        float | None,
        options.in_video(help="Process only this many seconds, from --start.", min=0.001),
    ] = None
    shutter: Annotated[
        float | None,
        options.in_video(
            parser=seconds,
            metavar="1/60",
            help="Exposure time of a frame in seconds  [default: estimated from the blur]",
        ),
    ] = None
    only_blurry: Annotated[
        bool,
        options.in_video(
            "--only-blurry", help="Leave frames unchanged if nothing moves over 3 pixels."
        ),
    ] = False
    resume: Annotated[
        bool, options.in_video("--resume", help="Continue a stopped run with its options.")
    ] = False
    keep_partial: Annotated[
        bool, options.in_video("--keep-partial", help="Keep what can be read of a truncated video.")
    ] = False

    def settings(
        self,
        shown: Showing,
        handling: options.BatchOptions,
        **more: Any,  # noqa: ANN401
    ) -> "Settings":
        """Make the settings of a run; `more` are those of one command alone."""
        from b2v.inference.video_files import Settings

        end = self.end
        if self.preview is not None:
            if end is not None:
                raise UsageError("--preview and --end both say where to end; give one of them")
            end = (self.start or 0.0) + self.preview
        own = {key: value for key, value in vars(self).items() if key != "preview"}
        return Settings(
            **own | {"end": end},
            compare=shown.compare,
            keep_gps=shown.keep_gps,
            strip_metadata=shown.strip_metadata,
            overwrite=handling.overwrite,
            **more,
        )


def plan(
    videos: Sequence[str],
    output: str | None,
    settings: "Settings",
    handling: options.BatchOptions,
) -> list[VideoResult]:
    """Pair every video with its output, and note there which ones cannot be written."""
    from b2v.inference.video_files import check, default_name

    def namer(video: Path) -> str:
        what = "deblurred" if settings.slower is None else "slow"
        return default_name(video, settings.codec, what)

    results, folder = batch.plan(videos, output, VIDEOS, namer, handling, VideoResult, inside=True)
    for result in options.left(results):
        suffix = Path(result.output).suffix
        if result.output != output and suffix != Path(result.input).suffix:
            result.notes.append(f"{result.input}: becomes {suffix}, which can be written")
        with options.noting(result):
            new = folder is not None and not Path(result.output).parent.is_dir()
            if folder is not None and new:
                batch.check_folders(folder, Path(result.output))
            check(result.input, result.output, settings, inputs=[result.input], new_folder=new)
    return results


def show(result: VideoResult, handling: options.BatchOptions) -> None:
    """Print what came of a video."""
    many = "1 frame" if result.frames == 1 else f"{result.frames} frames"
    how = f"{result.device} {result.precision}, {(result.model or {}).get('name')}"
    said = f"{result.input}: {many} of {result.width}x{result.height} in {result.seconds:.1f} s"
    said += f" ({result.fps or 0:.1f} a second; {how})"
    options.show(result, handling, said, piped=result.output == PIPE)


Videos = Annotated[
    list[str],
    typer.Argument(help="Blurry videos, or folders; - is standard input.", metavar="VIDEO"),
]
Output = Annotated[
    str | None,
    options.in_output(
        "--output",
        "-o",
        metavar="OUT",
        help=".mp4 .mov .mkv .webm, or - for standard output (Matroska); for several videos, a"
        " folder.",
    ),
]


@options.grouped
def deblur(
    inputs: Videos,
    *,
    output: Output = None,
    shown: Showing,
    video: VideoOptions,
    chosen: options.ModelOptions,
    handling: options.BatchOptions,
) -> None:
    """Sharpen blurry videos; sound and subtitles stay.

    Without -o, walk.mp4 becomes walk_deblurred.mp4 beside it. The structure of a folder is kept
    below -o.

    A stopped run leaves what it finished in a hidden folder beside the output: the same command
    with --resume continues, with --overwrite starts again. Of a truncated video nothing is written
    (exit code 1), or with --keep-partial what can be read (exit code 4).
    """
    restore(inputs, output, video, shown, chosen, handling)


def restore(
    inputs: list[str],
    output: str | None,
    video: VideoOptions,
    shown: Showing,
    chosen: options.ModelOptions,
    handling: options.BatchOptions,
    **slow: Any,  # noqa: ANN401 - as of `Settings`
) -> None:
    """Restore videos, in slow motion if that is wanted."""
    if not handling.as_json:
        batch.refuse_missing(inputs)
    shown = replace(shown, several=batch.is_several(inputs))
    if PIPE in (*inputs, output) and (shown.filmstrip or shown.html):
        raise UsageError("-: a pipe cannot be read again; --filmstrip and --html are for files")
    settings = video.settings(shown, handling, **slow)
    results = plan(inputs, output, settings, handling)
    shown.check(results, overwrite=settings.overwrite)

    def start_up() -> Work:
        model = chosen.load("video")
        return partial(deblur_one, model, model.stream(), settings, shown, handling)

    batch.carry_out(results, handling, start_up, show)


def deblur_one(
    model: "Model",
    deblurrer: "Deblurrer",
    settings: "Settings",
    shown: Showing,
    handling: options.BatchOptions,
    result: VideoResult,
) -> None:
    """Process one video and fill in its `result`."""
    from b2v.inference.video_files import deblur_video
    from b2v.media.segments import left_over
    from b2v.media.video_writer import PipeClosedError

    result.made_by(model)
    result.slower, pace = settings.slower or 1, Pace()
    shown_as, hint = one_line(result.input), (result.input, PHOTOS, "extract")
    reports = deblur_video(result.input, result.output, deblurrer, model.loaded, settings)
    if result.output != PIPE:
        Path(result.output).parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            batch.hinting(*hint),
            closing(reports),
            progress(shown_as, pace, quiet=handling.quiet) as tell,
        ):
            for report in reports:
                pace.total = report.total
                pace.take(report.done)
                tell()
    except PipeClosedError:
        raise BrokenPipeError from None
    except KeyboardInterrupt:
        if result.output != PIPE and left_over(Path(result.output)):
            how = "run the same command with --resume to continue"
            raise StoppedError(f"{result.output}: interrupted; {how}") from None
        raise
    result.frames, result.width, result.height = report.done, report.width, report.height
    result.seconds, result.fps = round(pace.seconds, 3), round(pace.rate, 2)
    if pace.first:
        result.notes.append(f"{result.output}: {pace.first} frames are from an earlier run")
    result.notes += report.notes
    result.lost += report.lost
    tags = shown.tags_for(None, model)
    result.provenance = tags.provenance.as_dict() if tags.provenance else None
    write_video_extras(result, shown, settings, tags)
    result.ok, result.error = report.broken is None, report.broken
    result.exit_code = 0 if result.ok else batch.PARTLY_FAILED


@options.grouped
def slowmo(
    inputs: Videos,
    *,
    output: Output = None,
    slower: Annotated[float, typer.Option(help="How many times slower.", min=1, max=1000)] = 4,
    fps: Annotated[
        float | None,
        typer.Option(help="Frames per second  [default: those of the video]", min=0.1, max=1000),
    ] = None,
    sound: Annotated[
        bool, typer.Option("--sound", help="Keep the sound, stretched at its pitch.")
    ] = False,
    shown: Showing,
    video: VideoOptions,
    chosen: options.ModelOptions,
    handling: options.BatchOptions,
) -> None:
    """Turn blurry videos into sharp slow motion.

    Frames are restored as by b2v deblur, and new ones put between them at even steps of time.
    Without -o, walk.mp4 becomes walk_slow.mp4 beside it. --resume continues a stopped run.
    """
    if PIPE in (*inputs, output):
        raise UsageError("-: slow motion is made from file to file; give names")
    slow = {"slower": slower, "fps": fps, "sound": sound}
    restore(inputs, output, video, shown, chosen, handling, **slow)
