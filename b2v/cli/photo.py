"""One photo of `b2v extract`: announced, restored, and noted."""

import time
from functools import partial
from typing import TYPE_CHECKING

from b2v.cli import options, pace
from b2v.cli.clips import Job, PhotoResult
from b2v.cli.extras import note_on_photo, write
from b2v.defaults import GB

if TYPE_CHECKING:
    from torch import Tensor

    from b2v.inference.images import Restored
    from b2v.inference.runtime import Runtime
    from b2v.models import Extractor
    from b2v.weights import LoadedModel

LONG = 20.0
"""Seconds from which a run is announced."""


def extract_one(
    loaded: "LoadedModel", runtime: "Runtime", job: Job, result: PhotoResult
) -> tuple["Tensor", "Tensor"]:
    """Do one photo and note in `result` what came of it; return its frames, and the photo."""
    from b2v.frames import blend, inner
    from b2v.inference.images import remarks
    from b2v.media import read_photo
    from b2v.media.photo import picture_size
    from b2v.metrics import MAX_DB, psnr, reblur

    started = time.monotonic()
    result.made_by(loaded, runtime)
    busy = partial(options.busy, f"{options.one_line(result.input)} ...", quiet=job.quiet)
    with busy():
        size, net = picture_size(result.input), runtime.place(loaded.net)
        _announce(net, size, runtime, job, result)
        photo, middle = read_photo(result.input, side=job.preview), _middle(size, job)
        blurry = photo.on_white()
        tags = job.showing.tags_for(result.input, loaded, strength=job.strength)
        note_on_photo(photo, result, job)
    restored = _restored(net, blurry, middle, runtime, job, result)
    with busy():
        frames = blend(restored.frames, blurry, job.strength)
        again = reblur(inner(frames))
        result.reblur_db = round(float(psnr(again, blurry, max_db=MAX_DB)), 2)
        result.notes += [f"{result.input}: {said}" for said in remarks(restored, again, blurry)]
        result.provenance = tags.provenance.as_dict() if tags.provenance else None
        write(frames, photo, blurry, tags, job, result)
    result.ok, result.seconds = True, round(time.monotonic() - started, 3)
    return frames, blurry


def _restored(
    net: "Extractor",
    blurry: "Tensor",
    middle: "Tensor | None",
    runtime: "Runtime",
    job: Job,
    result: PhotoResult,
) -> "Restored":
    """Restore a photo, and show how that gets on."""
    from b2v.frames import FRAMES
    from b2v.inference.images import pixels_to_run, restore_photo

    total = pixels_to_run(net, *blurry.shape[1:], given=middle is not None)
    with pace.photo(options.one_line(result.input), total, quiet=job.quiet) as done:
        return restore_photo(
            net,
            blurry,
            runtime,
            middle=middle,
            frames=max(job.frames, FRAMES),  # seven explain the photo
            max_memory=job.max_memory,
            done=done,
        )


def _middle(size: tuple[int, int], job: Job) -> "Tensor | None":
    """Take the part that is asked for of the middle frame that comes with a photo of a size."""
    from b2v.media.photo import centre

    middle = job.middle
    if job.preview is None or middle is None or middle.shape[1:] != size:
        return middle  # if it does not fit, `restore` says so
    return centre(middle, job.preview)


def _announce(
    net: "Extractor", size: tuple[int, int], runtime: "Runtime", job: Job, result: PhotoResult
) -> None:
    """Refuse what cannot be written or does not fit, and say what takes more than a while.

    A preview tells what all of the photo would take, and is made even if that is too much.
    """
    from b2v.errors import B2VError
    from b2v.inference.images import plan_for, seconds_for
    from b2v.media.clip import check_coding

    height, width = size
    most = job.preview or max(height, width)
    check_coding(result.output, min(height, most), min(width, most), job.codec)
    named = options.one_line(result.input)
    try:
        plan = plan_for(net, height, width, runtime, frames=job.frames, max_memory=job.max_memory)
    except B2VError as error:
        if job.preview is None:
            raise
        options.note(f"{named}: the whole does not fit: {error}", quiet=job.quiet)
        return
    seconds = seconds_for(net, height, width, runtime, given=job.middle is not None)
    if seconds > LONG or job.preview is not None:
        will = "will" if job.preview is None else "would"
        said = f"{max(1, seconds):.0f} s and {plan.peak / GB:.1f} GB"
        options.note(
            f"{named}: {width}x{height} pixels {will} take about {said}"
            f"{f' ({runtime})' if job.verbose else ''}",
            quiet=job.quiet,
        )
