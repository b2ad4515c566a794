"""Where output goes."""

import os
from collections.abc import Iterable
from pathlib import Path

from b2v.errors import MediaError, UsageError
from b2v.locks import may_never_end

MAX_NAME = 240
"""Bytes in a name: file systems take 255, and a hidden name beside it is longer."""


def check_name(target: Path) -> None:
    """Check that an output can have the name of `target`; raises UsageError."""
    if target.name in ("", "..") or len(os.fsencode(target.name)) > MAX_NAME:
        raise UsageError(f"{target}: not a name for an output; give another")


def check_parent(target: Path) -> None:
    """Check that the folder of `target` can be written to; raises MediaError."""
    parent = target.parent
    if not parent.is_dir():
        what = "is not a folder" if parent.exists() else "does not exist; create it first"
        raise MediaError(f"{target}: output folder {parent} {what}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise MediaError(f"{target}: no permission to write into {parent}; choose another folder")


def check_free(target: Path, inputs: Iterable[str | os.PathLike[str]], *, overwrite: bool) -> None:
    """Check that a file can be written at `target`.

    Raises UsageError where something is there that may not be replaced, and where it is one of
    `inputs`; MediaError where its folder is missing or not writable.
    """
    for source in map(Path, inputs if target.exists() else ()):
        if source.exists() and target.samefile(source):
            raise UsageError(f"{target}: is the input {source}; give another name")
    check_parent(target)
    if target.is_dir():
        raise UsageError(f"{target}: exists already and is a folder; give another name")
    if may_never_end(target):
        raise UsageError(f"{target}: is a pipe or a device, no file; write to - and pipe it on")
    if os.path.lexists(target) and not overwrite:
        raise UsageError(f"{target}: exists already; give another name or --overwrite")
