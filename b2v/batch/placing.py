"""Where the output of each input goes, and whether it can go there.

Names that come from inputs are such that Windows and macOS take them as well.
"""

import os
import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from b2v.batch.finding import PIPE, Input, is_dir, is_several
from b2v.errors import MediaError, UsageError

FOLDER_ENDS = ("/", os.sep)
MAX_STEM = 200
"""Bytes of a name that come from the input; file systems take 255 in all."""
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices, whatever their suffix."""


def place(
    inputs: Sequence[Input], namer: Callable[[Path], str], folder: Path | None
) -> list[Input]:
    """Give every input its output: below `folder` where it lies below its root, else beside it.

    Of several roots each becomes a folder of its own.

    Args:
        inputs: what `expand` found.
        namer: name of the output of a file.
        folder: where all outputs go, None for beside the inputs.

    Raises:
        UsageError: two outputs would have one name, or one has none.

    """
    roots = {found.root for found in inputs if found.root is not None}
    placed = []
    for found in inputs:
        if found.problem is not None:
            placed.append(found)
            continue
        if found.path == PIPE:
            raise UsageError("-: standard input has no name; say where to by -o FILE or -o -")
        parent = Path(found.path).parent
        if folder is not None:
            own = [found.root.resolve().name] if found.root and len(roots) > 1 else []
            parent = folder.joinpath(*map(safe_name, (*own, *found.below.parts)))
        placed.append(replace(found, output=str(parent / namer(Path(found.path)))))
    refuse_clashes(placed)
    kept = _identities(placed)
    return [_not_onto(found, kept) for found in placed]


def to_file(found: Input, output: str) -> Input:
    """Give a single input the output that was named for it."""
    return found if found.problem else replace(found, output=output)


def refuse_clashes(inputs: Sequence[Input]) -> None:
    """Raise UsageError where two inputs have one output."""
    taken: dict[str, Input] = {}
    for found in inputs:
        if found.output and found.output != PIPE:
            key = os.path.realpath(found.output)
            if sys.platform in ("darwin", "win32"):  # their file systems see no difference
                key = unicodedata.normalize("NFC", key).casefold()
            other = taken.setdefault(key, found)
            if other is not found:
                both = f"{other.path} and {found.path} would both go there"
                raise UsageError(f"{found.output}: {both}; run them apart, or rename one")


def output_folder(names: Sequence[str], output: str | None, *, inside: bool) -> Path | None:
    """Name the folder that `output` says; None where it is a file, a pipe or nothing.

    With `inside`, the output of a single input goes into a folder that is there, or that is
    meant by a slash at the end.

    Raises:
        UsageError: there are several inputs for one file.

    """
    if output is None:
        return None
    several, is_folder = is_several(names), names_folder(output)
    if several and (output == PIPE or not (is_folder or not Path(output).suffix)):
        many = f"{len(names)} inputs" if len(names) > 1 else "what may be several inputs"
        raise UsageError(f"{output}: one file for {many}; name a folder with -o")
    return Path(output) if several or (inside and is_folder and output != PIPE) else None


def names_folder(output: str) -> bool:
    """Tell whether `output` is a folder that is there, or meant as one by a slash at the end."""
    return output.endswith(FOLDER_ENDS) or is_dir(output)


def check_folders(folder: Path, target: Path) -> Path:
    """Check that what is missing of the folders of `target`, from `folder` on, can be made.

    Returns:
        The nearest folder that is there.

    Raises:
        MediaError: the parent of `folder` is not there, or something is in the way.

    """
    if not os.path.lexists(folder.parent):
        raise MediaError(f"{target}: folder {folder.parent} does not exist; create it first")
    there = next(parent for parent in target.parents if os.path.lexists(parent))
    if not there.is_dir():
        raise MediaError(f"{target}: {there} is not a folder; name another with -o")
    if not os.access(there, os.W_OK | os.X_OK):
        raise MediaError(f"{target}: no permission to write into {there}; choose another folder")
    return there


def is_there(output: str) -> bool:
    """Tell whether there is an output already; an empty folder is none."""
    if is_dir(output):
        return any(Path(output).iterdir())
    return output != PIPE and os.path.lexists(output)


def safe_name(name: str) -> str:
    """Make of `name` one that Windows and macOS take as well, of `MAX_STEM` bytes at most."""
    name = FORBIDDEN.sub("_", name)
    while len(os.fsencode(name)) > MAX_STEM:
        name = name[:-1]
    if name.endswith((".", " ")):
        name = f"{name[:-1]}_"
    return f"_{name}" if DEVICES.fullmatch(name) else name


def _identities(inputs: Sequence[Input]) -> set[tuple[int, int]]:
    """Which files and folders must stay as they are: all inputs, and the folders they are in."""
    found = set()
    for one in inputs:
        for path in (Path(one.path), Path(os.path.realpath(one.path)).parent):
            with suppress(OSError, ValueError):
                stat = path.stat()
                found.add((stat.st_dev, stat.st_ino))
    return found


def _not_onto(found: Input, kept: Collection[tuple[int, int]]) -> Input:
    """Note a problem where the output of an input is an input itself, or holds one."""
    with suppress(OSError, ValueError):
        stat = Path(found.output).stat()
        if found.output and (stat.st_dev, stat.st_ino) in kept:
            why = UsageError(f"{found.output}: is or holds an input; give another name")
            return replace(found, problem=why)
    return found
