"""`b2v extract`: blurry photos to clips of seven sharp frames, or to one sharp picture."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from b2v.cli import batch, options
from b2v.cli import clip_outputs as still
from b2v.cli.clip_outputs import (
    MAX_VIDEO_LOOPS,
    Format,
    Job,
    PhotoResult,
    PhotoShowing,
    Play,
    is_video,
    note_on_photo,
    show,
    write,
)
from b2v.defaults import FRAMES, GB
from b2v.errors import UsageError
from b2v.files import VIDEOS, one_line

if TYPE_CHECKING:
    from torch import Tensor

    from b2v.inference.images import Model, Restored


LONG = 20.0
"""Seconds from which a run is announced."""


def extract_one(model: "Model", job: Job, result: PhotoResult) -> tuple["Tensor", "Tensor"]:
    """Process one photo and fill in its `result`; return its frames, and the photo."""
    from b2v.frames import blend, inner
    from b2v.inference.images import remarks
    from b2v.media.images import picture_size, read_photo
    from b2v.metrics import MAX_DB, psnr, reblur

    started = time.monotonic()
    result.made_by(model)
    busy = partial(options.busy, f"{one_line(result.input)} ...", quiet=job.handling.quiet)
    with busy():
        with batch.hinting(result.input, VIDEOS, "deblur"):
            size = picture_size(result.input)
        _announce(model, size, job, result)
        photo, middle = read_photo(result.input, side=job.preview), _middle(size, job)
        blurry = photo.on_white()
        tags = job.showing.tags_for(result.input, model, strength=job.strength)
        note_on_photo(photo, result, job)
    restored = _restored(model, blurry, middle, job, result)
    with busy():
        frames = blend(restored.frames, blurry, job.strength)
        again = reblur(inner(frames))
        result.reblur_db = round(float(psnr(again, blurry, max_db=MAX_DB)), 2)
        said = remarks(restored, again, blurry)
        result.notes += [f"{result.input}: {remark}" for remark in said]
        result.provenance = tags.provenance.as_dict() if tags.provenance else None
        write(frames, photo, blurry, tags, job, result)
    result.ok, result.seconds = True, round(time.monotonic() - started, 3)
    return frames, blurry


def _restored(
    model: "Model",
    blurry: "Tensor",
    middle: "Tensor | None",
    job: Job,
    result: PhotoResult,
) -> "Restored":
    """Restore a photo, and show how that gets on."""
    from b2v.inference.images import pixels_to_run

    named, given = one_line(result.input), middle is not None
    count = max(job.play.frames, FRAMES)  # seven explain the photo
    run = partial(model.restore, blurry, middle=middle, frames=count, max_memory=job.max_memory)
    total = pixels_to_run(model.photo_net, *blurry.shape[1:], given=given)
    if not total:
        with options.busy(f"{named} ...", quiet=job.handling.quiet):
            return run()
    pace = options.Pace(total, percent=True, first=0)
    with options.progress(named, pace, quiet=job.handling.quiet) as show:

        def done(pixels: int) -> None:
            pace.take(pace.done + pixels)
            show()

        return run(done=done)


def _middle(size: tuple[int, int], job: Job) -> "Tensor | None":
    """Cut the preview out of the middle frame that was given with a photo of this size."""
    from b2v.media.images import center

    middle = job.middle
    if job.preview is None or middle is None or middle.shape[1:] != size:
        return middle  # if it does not fit, `restore` says so
    return center(middle, job.preview)


def _announce(model: "Model", size: tuple[int, int], job: Job, result: PhotoResult) -> None:
    """Refuse what cannot be written or does not fit, and announce what takes long.

    A preview tells what all of the photo would take, and is made even if that is too much.
    """
    from b2v.errors import B2VError
    from b2v.inference.images import plan_for, seconds_for
    from b2v.media.clips import check_coding

    (height, width), net, runtime = size, model.photo_net, model.runtime
    most = job.preview or max(height, width)
    check_coding(result.output, min(height, most), min(width, most), job.play.codec)
    named = one_line(result.input)
    try:
        plan = plan_for(
            net, height, width, runtime, frames=job.play.frames, max_memory=job.max_memory
        )
    except B2VError as error:
        if job.preview is None:
            raise
        options.note(f"{named}: the whole photo does not fit: {error}", quiet=job.handling.quiet)
        return
    seconds = seconds_for(net, height, width, runtime, given=job.middle is not None)
    if seconds > LONG or job.preview is not None:
        will = "will" if job.preview is None else "would"
        said = f"{max(1, seconds):.0f} s and {plan.peak / GB:.1f} GB"
        options.note(
            f"{named}: {width}x{height} pixels {will} take about {said}"
            f"{f' ({runtime})' if job.verbose else ''}",
            quiet=job.handling.quiet,
        )


Photos = Annotated[list[str], typer.Argument(help="Blurry photos, or folders.", metavar="PHOTO")]
Output = Annotated[
    str | None,
    options.in_output(
        "--output",
        "-o",
        metavar="OUT",
        help="Clip (.mp4 .mov .mkv .webm .gif .webp), folder for PNG frames, or one sharp picture"
        " (.jpg .png .tif .avif); for several photos, a folder.",
    ),
]
Kind = Annotated[
    Format | None,
    options.in_output(
        "--format",
        "-f",
        help="Kind of clip where -o is a folder or missing; png and tiff are folders of frames;"
        " with --still the kind of picture.",
    ),
]


Middle = Annotated[
    Path | None,
    options.in_model(help="Sharp middle frame from another deblurrer.", metavar="PICTURE"),
]
MaxMemory = Annotated[
    str | None,
    options.in_model(
        metavar="SIZE", help="Memory limit, such as 6G  [default: 60 % of free memory]"
    ),
]
Preview = Annotated[
    int | None,
    options.in_output(
        metavar="PIXELS",
        min=16,
        help="Restore the center square only, and estimate time and memory for the whole.",
    ),
]


@options.grouped
def command(
    photos: Photos,
    *,
    output: Output = None,
    kind: Kind = None,
    sharp: still.Still = False,
    strength: still.Strength = 1.0,
    play: Play,
    preview: Preview = None,
    shown: PhotoShowing,
    chosen: options.ModelOptions,
    middle: Middle = None,
    max_memory: MaxMemory = None,
    handling: options.BatchOptions,
    verbose: options.Verbose = False,
) -> None:
    """Turn blurry photos into sharp clips.

    Without -o, photo.jpg becomes photo_b2v.mp4 beside it; with --still, photo_sharp.jpg. The
    structure of a folder is kept below -o. Hidden files, b2v's own outputs and linked folders
    are skipped.
    """
    if not handling.as_json:
        batch.refuse_missing(photos)
    if middle is not None and batch.is_several(photos):
        raise UsageError("--middle is the middle frame of one photo; give one photo with it")
    from b2v.media.images import read_photo

    shown = replace(shown, several=batch.is_several(photos))
    one = still.is_wanted(sharp, output, kind)
    ending = "_preview_b2v" if preview is not None else "_sharp" if one else "_b2v"
    if one and kind is not None and f".{kind}" not in still.SUFFIXES:
        known = ", ".join(kind for kind in get_args(Format) if f".{kind}" in still.SUFFIXES)
        raise UsageError(f"--format {kind} is a clip, not one picture; use {known}")
    results, folder = _plan(photos, output, kind, play.codec, handling, ending, one=one)
    job = Job(
        play=play,
        showing=shown,
        handling=handling,
        folder=folder,
        middle=None if middle is None else read_photo(middle).on_white(),
        max_memory=options.parse_bytes(max_memory),
        stills="tiff" if kind == "tiff" else "png",
        still=one,
        strength=strength,
        preview=preview,
        verbose=verbose,
    )
    _refuse(results, job, [middle] if middle else [])

    def start_up() -> Callable[[PhotoResult], object]:
        return partial(extract_one, chosen.load("photo"), job)

    batch.carry_out(results, handling, start_up, partial(show, verbose=verbose))


def _plan(
    photos: Sequence[str],
    output: str | None,
    kind: Format | None,
    codec: str | None,
    handling: options.BatchOptions,
    ending: str,
    *,
    one: bool,
) -> tuple[list[PhotoResult], Path | None]:
    """Pair every photo with what its clip, or `one` picture, goes to; names get an `ending`."""
    from b2v.files import CLIPS, PHOTOS, STILLS, safe_name
    from b2v.media.video_writer import TARGETS

    stills = kind in ("png", "tiff") and not one
    usual = "mp4" if codec in (None, *TARGETS[".mp4"]) else "mkv"
    suffix = "" if stills else f".{kind or usual}"

    def namer(photo: Path) -> str:
        own = suffix
        if one and kind is None:  # the kind of the photo is kept
            own = photo.suffix if photo.suffix.lower() in still.SUFFIXES else ".jpg"
        return f"{safe_name(photo.stem)}{ending}{own}"

    inside = one or (kind is not None and not stills)
    results, folder = batch.plan(
        photos, output, PHOTOS, namer, handling, PhotoResult, inside=inside
    )
    found = Path(output or "").suffix.lower()
    if stills and found not in CLIPS:
        found = ""  # any other dot belongs to the name of the folder
    fits = found == suffix or (one and STILLS.get(found) == STILLS.get(suffix))
    if kind and output is not None and folder is None and not fits:
        raise UsageError(f"{output}: is not {kind}; leave out --format, or name a folder")
    return results, folder


def _refuse(results: Sequence[PhotoResult], job: Job, more: Sequence[Path]) -> None:
    """Find out before any work which outputs cannot be written, and note it there.

    `more` are files that are read beside the photos.
    """
    from b2v.media.clips import check_target
    from b2v.media.images import check_still

    check_output: Callable[..., object] = check_still
    if job.still and (job.showing.compare or job.play.codec):
        raise UsageError("--compare and --codec are for clips, not for one picture; leave them out")
    if not job.still:
        check_output = partial(check_target, fps=job.play.fps, codec=job.play.codec)
    for result in options.left(results):
        with options.noting(result):
            target, inputs = Path(result.output), [Path(result.input), *more]
            if job.folder is None or target.parent.is_dir():
                check_output(result.output, overwrite=job.handling.overwrite, inputs=inputs)
            else:
                there = batch.check_folders(job.folder, target)
                check_output(str(there / target.name), overwrite=True)
            if job.play.loop > MAX_VIDEO_LOOPS and is_video(result):
                raise UsageError(
                    f"{result.output}: a video can be repeated {MAX_VIDEO_LOOPS} times at most;"
                    " lower --loop, or write .gif or .webp"
                )
    job.showing.check(results, overwrite=job.handling.overwrite)
