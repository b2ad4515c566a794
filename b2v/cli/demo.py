"""`b2v demo`: the bundled blurry photo and the bundled blurry video are restored and shown."""

import os
import sys
import webbrowser
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2v.cli import options, video
from b2v.cli.clip_outputs import PAGES, Job, PhotoResult, Showing, notes_on, scene_of, show
from b2v.cli.extract import extract_one
from b2v.cli.video import VideoResult, deblur_one, video_scene
from b2v.defaults import FPS
from b2v.errors import WeightsError

if TYPE_CHECKING:
    from b2v.html_page import Scene
    from b2v.media.metadata import Tags

BUNDLED = {"b2v_demo.jpg": "demo.jpg", "b2v_demo_video.mp4": "demo_video.mp4"}
"""Names that the bundled files have for the user, and in the package."""
PHOTO, VIDEO = BUNDLED
CLIP, RESTORED, PAGE = "b2v_demo.mp4", "b2v_demo_video_deblurred.mp4", "b2v_demo.html"

Shut = Annotated[bool, typer.Option("--no-open", help="Do not open the page in the browser.")]


def command(no_open: Shut = False, overwrite: options.Overwrite = False) -> None:
    """Try b2v on a bundled photo and video.

    The page that shows it opens in the browser where there is one. No network is needed.
    """
    from b2v.html_page import write_page
    from b2v.media.clips import check_target
    from b2v.media.images import check_file
    from b2v.media.remux import check_video_target

    check_target(CLIP, overwrite=overwrite)
    check_video_target(RESTORED, overwrite=overwrite)
    check_file(PAGE, PAGES, overwrite=overwrite)
    for name, bundled in BUNDLED.items():
        if overwrite or not Path(name).exists():
            Path(name).write_bytes((files("b2v") / "assets" / bundled).read_bytes())
    shown = [_photo(overwrite=overwrite)]
    try:
        shown.append(_video(overwrite=overwrite))
    except WeightsError as error:
        options.note(f"b2v: {VIDEO}: skipped: {error}")
    notes = notes_on([tags for _, tags in shown])
    scenes = [scene for scene, _ in shown]
    page = Path(PAGE)
    write_page(page, "What was inside the blur", scenes, notes, overwrite=overwrite)
    typer.echo(PAGE)
    if not no_open and _has_desktop():
        webbrowser.open(page.resolve().as_uri())


def _photo(*, overwrite: bool) -> tuple["Scene", "Tags"]:
    """Make a clip of the photo; return what the page shows of it, and what made it."""
    model = options.ModelOptions().load("photo")
    result, job = PhotoResult(PHOTO, CLIP), Job(handling=options.BatchOptions(overwrite=overwrite))
    frames, blurry = extract_one(model, job, result)
    show(result, job.handling)
    return scene_of(frames, blurry, result, played=FPS), job.showing.tags_for(None, model)


def _video(*, overwrite: bool) -> tuple["Scene", "Tags"]:
    """Do the same for the video; raises WeightsError where there are no weights for it."""
    from b2v.inference.video_files import Settings

    model = options.ModelOptions(quality="fast").load("video")
    settings, showing = Settings(overwrite=overwrite), Showing()
    result = VideoResult(VIDEO, RESTORED)
    handling = options.BatchOptions(overwrite=overwrite)
    deblur_one(model, model.stream(), settings, showing, handling, result)
    video.show(result, handling)
    return video_scene(result, settings), showing.tags_for(None, model)


def _has_desktop() -> bool:
    """Tell whether this is an interactive terminal on a machine that can show a page."""
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        return False
    screens = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in screens)
