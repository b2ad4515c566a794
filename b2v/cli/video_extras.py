"""What `b2v deblur` writes beside a video: a filmstrip and a page of moments of it."""

from pathlib import Path
from typing import TYPE_CHECKING

from b2v.cli.videos import PIPE
from b2v.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from b2v.cli.showing import Showing
    from b2v.cli.videos import VideoResult
    from b2v.inference.video_files import Settings
    from b2v.media.tags import Tags
    from b2v.show import Scene
    from b2v.show.video import Moment
    from b2v.show.view import View

MOMENTS, CELLS = 24, 6
"""Pairs of frames on a page, and columns of a filmstrip."""


def check_readable(videos: list[str], output: str | None, showing: "Showing") -> None:
    """Refuse to show a video that cannot be read again; raises UsageError."""
    if PIPE in (*videos, output) and (showing.filmstrip or showing.html):
        raise UsageError("-: a pipe cannot be read again; --filmstrip and --html are for files")


def write_video_extras(
    result: "VideoResult", showing: "Showing", settings: "Settings", tags: "Tags"
) -> None:
    """Write what is wanted beside a restored video, by reading it and its source again."""
    from b2v.cli.extras import notes_on
    from b2v.media import write_photo
    from b2v.show import strip, write_page

    if path := showing.strip_of(result.output):
        seen = list(_moments(result, settings, CELLS))
        rows = [[moment.blurry for moment in seen], [moment.restored for moment in seen]]
        times = [f"{moment.second:.2f} s" for moment in seen]
        words = [[f"blurry, {time}" for time in times], [f"restored, {time}" for time in times]]
        path.parent.mkdir(exist_ok=True)
        write_photo(strip(rows, words), path, overwrite=settings.overwrite, tags=tags)
    if path := showing.page_of(result.output):
        path.parent.mkdir(exist_ok=True)
        scene, name = video_scene(result, settings), Path(result.input).name
        notes = notes_on([tags], photo=False)
        write_page(path, name, [scene], notes, overwrite=settings.overwrite)


def video_scene(result: "VideoResult", settings: "Settings") -> "Scene":
    """Put moments of a restored video on a page, each beside the blurry one."""
    from b2v.show import Scene
    from b2v.show.page import pictures, start

    before: list[str] = []
    after: list[str] = []
    views: list[View] = []
    for moment in _moments(result, settings, MOMENTS):
        one, size = pictures([moment.blurry, moment.restored])
        before.append(one[0])
        after.append(one[1])
        views.append(start(moment.blurry, moment.restored))
        last = moment.second
    facts = [f"{result.frames} frames of {size_of(result, settings)}"]
    if len(after) < result.frames:
        facts.append(f"{len(after)} shown here, over {last:.1f} s")
    name = Path(result.input).name
    view = views[len(views) // 2]  # the frame that the page shows first
    return Scene(title=name, before=before, after=after, size=size, facts=facts, view=view)


def size_of(result: "VideoResult", settings: "Settings") -> str:
    """Say how large the restored frames are, without the blurry ones beside them."""
    width, height = result.width or 0, result.height or 0
    width //= 2 if settings.compare == "side" else 1
    height //= 2 if settings.compare == "stack" else 1
    return f"{width}×{height}"


def _moments(result: "VideoResult", settings: "Settings", count: int) -> "Iterator[Moment]":
    from b2v.show.video import moments

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
