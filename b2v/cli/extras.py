"""What `b2v extract` writes: the clip or one picture, a filmstrip, a heat map, a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from b2v.cli.clips import Job, Order, PhotoResult, arrange, is_video
from b2v.defaults import FRAMES

if TYPE_CHECKING:
    from torch import Tensor

    from b2v.media import Photo
    from b2v.media.tags import Tags
    from b2v.show import Scene

WHOLE = 0.4
"""Seconds from which on an exposure time is not told as a fraction."""
GUESS = "A blurry photo does not show which way things moved: the direction of play is a guess."


def write(
    frames: "Tensor", photo: "Photo", blurry: "Tensor", tags: "Tags", job: Job, result: PhotoResult
) -> None:
    """Write all that is asked for of the `frames` of one photo, seven or more.

    `blurry` is the photo on white; `tags` are what the files are to say of themselves.
    """
    if job.folder is not None:
        Path(result.output).parent.mkdir(parents=True, exist_ok=True)
    made = (_write_still if job.still else _write_clip)(frames, photo, blurry, tags, job, result)
    result.frames, result.size = len(made), [made.shape[3], made.shape[2]]
    _write_extras(
        frames.flip(0) if job.order is Order.REVERSE else frames, blurry, tags, job, result
    )


def _write_still(
    frames: "Tensor", photo: "Photo", blurry: "Tensor", tags: "Tags", job: Job, result: PhotoResult
) -> "Tensor":
    """Write the middle one of `frames`, and say what the photo has and the file cannot have.

    Returns:
        It alone, [1, 3, H, W].

    """
    from b2v.media.picture import lost_in, write_still

    middle, path = len(frames) // 2, result.output
    write_still(
        frames[middle],
        path,
        alpha=photo.alpha,
        bits=photo.bits,
        tags=tags,
        overwrite=job.overwrite,
    )
    result.lost += [f"{path}: {lost}" for lost in lost_in(path, photo.alpha, photo.bits)]
    return frames[middle : middle + 1]


def _write_clip(
    frames: "Tensor", photo: "Photo", blurry: "Tensor", tags: "Tags", job: Job, result: PhotoResult
) -> "Tensor":
    """Write the clip; return its frames as it shows them."""
    from b2v.frames import inner
    from b2v.media import Clip
    from b2v.media.picture import lost_in
    from b2v.show import beside

    played = arrange(inner(frames, job.frames), job.order)
    if is_video(result) and job.loop > 1:
        played = played.repeat(max(1, job.loop), 1, 1, 1)
    if job.showing.compare is not None:
        played = beside(blurry, played, job.showing.compare.value)
    alpha = photo.alpha if job.showing.compare is None else None
    result.lost += [
        f"{result.output}: {lost}" for lost in lost_in(result.output, photo.alpha, photo.bits)
    ]
    clip = Clip(played, job.fps, tags, alpha, photo.bits)
    clip.save(
        result.output,
        overwrite=job.overwrite,
        loop=job.loop,
        codec=job.codec,
        stills=job.stills,
    )
    return played


def _write_extras(
    frames: "Tensor", blurry: "Tensor", tags: "Tags", job: Job, result: PhotoResult
) -> None:
    """Write what is wanted beside the clip of `frames`, seven or more in the order of the clip."""
    from b2v.frames import inner
    from b2v.media import write_photo
    from b2v.show import heat_map, strip, write_page

    showing, sheets, kept = job.showing, [], inner(frames, job.frames)
    if path := showing.strip_of(result.output):
        names = [f"frame {number}" for number in range(1, len(kept) + 1)]
        sheets.append((path, strip([[blurry, *kept]], [["blurry", *names]])))
    if path := showing.heat_of(result.output):
        sheets.append((path, heat_map(inner(frames), blurry)))
    for path, sheet in sheets:
        path.parent.mkdir(exist_ok=True)
        write_photo(sheet, path, overwrite=job.overwrite, tags=tags)
    if path := showing.page_of(result.output):
        path.parent.mkdir(exist_ok=True)
        scene = scene_of(frames, blurry, result, played=job.fps, count=job.frames)
        name = Path(result.input).name
        write_page(path, name, [scene], notes_on([tags]), overwrite=job.overwrite)


def note_on_photo(photo: "Photo", result: PhotoResult, job: Job) -> None:
    """Note in `result` what the photo tells before it is restored: its pages, its time."""
    result.lost += [f"{result.input}: {note}" for note in photo.notes]
    if photo.pages > 1:
        result.notes.append(f"{result.input}: has {photo.pages} pictures; the first one is taken")
    if photo.exposure_time is not None:
        result.exposure = timing(photo.exposure_time, job.fps)
        if not job.still:  # one picture is not played
            result.notes.append(f"{result.input}: {', '.join(told(result.exposure))}")


def timing(seconds: float, played: float) -> dict[str, float]:
    """Say to programs how fast seven frames of an exposure went by, and how they are played."""
    fps = FRAMES / seconds
    return {"seconds": round(seconds, 6), "fps": round(fps, 6), "slower": round(fps / played, 6)}


def told(exposure: dict[str, float]) -> list[str]:
    """Say it to people; short exposures as cameras do: 1/15 s."""
    seconds, slower = exposure["seconds"], exposure["slower"]
    time = f"1/{max(1, round(1 / seconds))}" if seconds < WHOLE else f"{seconds:.3g}"
    pace = f"{slower:.3g}x slower" if slower >= 1 else f"{1 / slower:.3g}x faster"
    return [f"{time} s over seven frames: {exposure['fps']:.4g} fps", f"played {pace} than life"]


def scene_of(
    frames: "Tensor", blurry: "Tensor", result: PhotoResult, *, played: float, count: int = 7
) -> "Scene":
    """Put `count` of the frames of one photo on a page, with what is known of them."""
    from b2v.frames import inner
    from b2v.media.draw import data_uri
    from b2v.show import Scene, heat_map
    from b2v.show.page import pictures, start

    kept = inner(frames, count)
    after, size = pictures(kept)
    before, _ = pictures([blurry])
    height, width = frames.shape[2:]
    facts = [f"{len(kept)} frames of {width}×{height}"]
    if size != (width, height):
        facts.append(f"shown here at {size[0]}×{size[1]}")
    seconds = None
    if result.exposure is not None:
        facts += told(timing(result.exposure["seconds"], played))
        seconds = result.exposure["seconds"] * len(kept) / FRAMES
    return Scene(
        title=Path(result.input).name,
        before=before,
        after=after,
        size=size,
        facts=facts,
        seconds=seconds,
        fps=max(1, round(played)),
        heat=data_uri(heat_map(inner(frames), blurry)),
        view=start(blurry, kept[len(kept) // 2]),
    )


def notes_on(tags: "Sequence[Tags]", *, photo: bool = True) -> list[str]:
    """Say below a page what made it, and what to keep in mind."""
    said = list(dict.fromkeys(one.sentence for one in tags if one.sentence))
    return ([GUESS] if photo else []) + said
