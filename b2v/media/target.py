"""Where output goes."""

import os
from pathlib import Path

from b2v.errors import MediaError


def check_parent(target: Path) -> None:
    """Check that the folder of `target` can be written to; raises MediaError."""
    parent = target.parent
    if not parent.is_dir():
        what = "is not a folder" if parent.exists() else "does not exist; create it first"
        raise MediaError(f"{target}: output folder {parent} {what}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise MediaError(f"{target}: no permission to write into {parent}; choose another folder")
