"""One sharp picture from `b2v extract`: when it is meant, what it is called, what goes with it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from b2v.cli.clip_outputs import Format, Job, Order
from b2v.cli.options import OUTPUT
from b2v.defaults import FPS, FRAMES
from b2v.errors import UsageError

KINDS = {
    Format.JPG: (".jpg", ".jpeg"),
    Format.PNG: (".png",),
    Format.WEBP: (".webp",),
    Format.TIFF: (".tiff", ".tif"),
    Format.AVIF: (".avif",),
}
"""Kinds of one picture and their suffixes, the usual one first."""
SUFFIXES = tuple(suffix for suffixes in KINDS.values() for suffix in suffixes)
"""What `write_still` writes, without the second that it takes to import torch."""
ALONE = (Format.JPG, Format.AVIF)
"""Kinds that no clip has; PNG and TIFF are also folders of frames, WebP can be played."""
MANY = re.compile(r"%\d*d(?![A-Za-z])")
"""The number of a frame, as FFmpeg writes it into names."""


def _share(strength: float) -> float:
    if not 0 <= strength <= 1:  # not a number is refused as well
        raise UsageError(f"--strength {strength:g}: expected 0 to 1")
    return strength


Still = Annotated[
    bool,
    typer.Option(
        "--still",
        help="Write one sharp picture, the middle of the exposure, not a clip.",
        rich_help_panel=OUTPUT,
    ),
]
Strength = Annotated[
    float,
    typer.Option(
        callback=_share,
        help="Blend restored frames with the photo: 0 is the photo, 1 restored.",
        rich_help_panel=OUTPUT,
    ),
]


def is_wanted(asked: bool, output: str | None, kind: Format | None) -> bool:
    """Tell whether one picture is meant: `asked` for, or by a kind or a name that no clip has.

    Raises UsageError where the name has a place for the numbers of frames.
    """
    from b2v.cli.batch import names_folder

    if asked or kind in ALONE:
        return True
    if output is None or names_folder(output):
        return False
    suffix = Path(output).suffix.lower()
    if suffix not in SUFFIXES or suffix in KINDS[Format.WEBP]:
        return False
    if MANY.search(Path(output).name):
        many = "one picture has no number; for all frames name a folder (--format tiff for TIFF)"
        raise UsageError(f"{output}: {many}")
    return True


def namer(kind: Format | None, ending: str) -> Callable[[Path], str]:
    """Name pictures as their photos with `ending`; a photo's own kind is kept without `kind`."""
    from b2v.files import safe_name

    def name(photo: Path) -> str:
        own = photo.suffix if photo.suffix.lower() in SUFFIXES else ".jpg"
        return f"{safe_name(photo.stem)}{ending}{own if kind is None else KINDS[kind][0]}"

    return name


def check_kind(kind: Format | None) -> None:
    """Check that `kind`, if given, is one of a picture; raises UsageError."""
    if kind is not None and kind not in KINDS:
        known = ", ".join(one.value for one in KINDS)
        raise UsageError(f"--format {kind.value} is a clip, not one picture; use {known}")


def check_suffix(kind: Format | None, output: str) -> None:
    """Check that the file `output` is called as `kind`, if given, is; raises UsageError."""
    if kind is not None and Path(output).suffix.lower() not in KINDS[kind]:
        raise UsageError(f"{output}: is not {kind.value}; leave out --format, or name a folder")


def refuse_idle(job: Job) -> None:
    """Raise UsageError where an option would change nothing, as one picture is all that it is for.

    The filmstrip and the page show all frames, in their order; the page plays them.
    """
    page = job.showing.html is not None
    rows = page or job.showing.filmstrip is not None
    idle = {
        "--compare": job.showing.compare is not None,
        "--codec": job.codec is not None,
        "--loop": job.loop != 0,
        "--order": job.order is not Order.FORWARD and not rows,
        "--frames": job.frames != FRAMES and not rows,
        "--fps": job.fps != FPS and not page,
    }
    given = [option for option, is_given in idle.items() if is_given]
    if given:
        raise UsageError(f"{given[0]} is for clips, not for one picture; leave it out")
