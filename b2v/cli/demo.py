"""`b2v demo`: the bundled blurry photo becomes a clip."""

from importlib.resources import files
from pathlib import Path

from b2v.cli import extract, options

BUNDLED = "demo.jpg"
PHOTO, CLIP = "b2v_demo.jpg", "b2v_demo.mp4"


def command(overwrite: options.Overwrite = False) -> None:
    """Try b2v on the bundled blurry photo; the clip is written to this folder."""
    from b2v.media import check_target

    check_target(CLIP, overwrite=overwrite)
    if overwrite or not Path(PHOTO).exists():
        Path(PHOTO).write_bytes((files("b2v") / "assets" / BUNDLED).read_bytes())
    extract.command([Path(PHOTO)], CLIP, overwrite=overwrite)
