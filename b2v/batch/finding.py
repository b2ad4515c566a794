"""From files, folders and patterns to a list of inputs, and to parts of it.

In a folder, what has one of the wanted suffixes is taken, in the order of its name. Passed over
are hidden files and folders, what b2v made itself (`*_b2v.*`, `*_deblurred.*`), whatever is no
regular file, and folders behind symbolic links, which can lead in circles. A file that is given
by its name, or matched by a pattern as a shell would match it, is taken whatever it is called,
unless b2v made it of another input: the same command can be given again.
"""

import glob
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from b2v.errors import B2VError, MediaError, UsageError

PIPE = "-"
OURS = ("_b2v", "_deblurred")
"""How the names end that b2v gives."""
MADE = (*OURS, "_slow", "_sharp")
"""The same with endings that others may use as well."""


@dataclass(frozen=True)
class Input:
    """One input, and where its output goes.

    `root` is the folder that its place `below` the output folder counts from, None for a file
    that was named by itself. `problem` says why nothing can be done with it; then, and before
    outputs are known, `output` is empty.
    """

    path: str
    root: Path | None = None
    below: PurePath = field(default_factory=PurePath)
    output: str = ""
    problem: B2VError | None = None


def expand(names: Sequence[str], suffixes: Collection[str], *, recursive: bool) -> list[Input]:
    """Find the inputs that `names` stand for, each once, in the order of `names`.

    Args:
        names: files, folders, patterns with *, ?, [ ] or **, and `-` for standard input.
        suffixes: lower-case suffixes of the files that are taken from folders.
        recursive: look into the folders in a folder, too.

    Returns:
        What was found; a name that leads to nothing is there with its problem.

    Raises:
        UsageError: a pattern cannot be understood.

    """
    kept: list[Input] = []
    by_name: dict[Path, bool] = {}
    for name in names:
        literal = not is_pattern(name)
        for found in (_named if literal else _matched)(name, suffixes, recursive):
            named = literal and found.root is None
            place = Path(found.path).parent.resolve() / Path(found.path).name
            if place not in by_name or (named and by_name[place]):
                kept.append(found)
            by_name[place] = by_name.get(place, False) or named
    places = {(Path(found.path).parent, Path(found.path).stem) for found in kept}
    return [found for found in kept if not _is_made_of(Path(found.path), places)]


def is_pattern(name: str) -> bool:
    """Tell whether `name` is to be matched with files; an existing file is not."""
    return name != PIPE and glob.has_magic(name) and not os.path.lexists(name)


def is_several(names: Sequence[str]) -> bool:
    """Tell whether `names` can stand for more than one input, however many they are today."""
    return len(names) != 1 or is_pattern(names[0]) or (names[0] != PIPE and is_dir(names[0]))


def parse_shard(text: str) -> tuple[int, int]:
    """Parse `i/n`, the i-th of n parts, i from 1 to n; raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    part, parts = map(int, match.groups()) if match else (0, 0)
    if not 1 <= part <= parts:
        raise UsageError(f"--shard {text}: expected i/n with i from 1 to n, such as 2/8")
    return part, parts


def take_shard(inputs: Sequence[Input], part: int, parts: int) -> list[Input]:
    """Take every `parts`-th input in the order of their paths, from number `part` on.

    The parts of one list have everything once, whatever order the file system gives.
    """
    return sorted(inputs, key=lambda found: _in_order(found.path))[part - 1 :: parts]


def is_dir(name: str) -> bool:
    """Tell whether `name` is a folder; one that no file system takes is none."""
    with suppress(OSError):  # a name may be too long
        return name != "" and Path(name).is_dir()
    return False


def _named(name: str, suffixes: Collection[str], recursive: bool) -> Iterator[Input]:
    if name == PIPE:
        yield Input(name)
    elif is_dir(name):
        yield from _in_folder(name, suffixes, recursive)
    elif os.path.lexists(name):
        yield Input(name)
    else:
        problem = MediaError(f"{name or repr(name)}: no such file; check the name")
        yield Input(name, problem=problem)


def _matched(pattern: str, suffixes: Collection[str], recursive: bool) -> Iterator[Input]:
    """Match a pattern as a shell does: nothing hidden; folders stand for what is in them."""
    parts = Path(pattern).parts
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:first])
    try:
        matches = [path.relative_to(root) for path in root.glob(str(Path(*parts[first:])))]
    except (ValueError, NotImplementedError, OSError) as error:
        raise UsageError(f"{pattern}: cannot be matched ({error}); name the files") from error
    shown = [path for path in matches if not any(part.startswith(".") for part in path.parts)]
    anchor = root if first < len(parts) - 1 else None
    for path in sorted(shown, key=_in_order):
        if not (root / path).is_dir():
            below = path.parent if anchor else PurePath()
            yield Input(str(root / path), anchor, below)
            continue
        for found in _in_folder(str(root / path), suffixes, recursive):
            yield found if anchor is None else replace(found, root=root, below=path / found.below)
    if not shown:
        yield Input(pattern, problem=MediaError(f"{pattern}: matches no file; check the pattern"))


def _in_folder(name: str, suffixes: Collection[str], recursive: bool) -> Iterator[Input]:
    """Find what has the right suffix in a folder, and what cannot be looked into."""
    root, paths = Path(name), list[Path]()
    closed: list[OSError] = []
    for folder, folders, files in os.walk(name, onerror=closed.append):
        folders[:] = [one for one in folders if recursive and not _is_passed_over(one)]
        wanted = [one for one in files if Path(one).suffix.lower() in suffixes]
        paths += [Path(folder, one) for one in wanted if not _is_passed_over(Path(one).stem)]
    regular = [path.relative_to(root) for path in paths if path.is_file()]
    for path in sorted(regular, key=_in_order):
        yield Input(str(root / path), root, path.parent)
    for error in closed:
        where = str(error.filename or name)
        problem = MediaError(f"{where}: cannot be looked into ({error.strerror}); skipped")
        yield Input(where, root, problem=problem)
    if not regular and not closed:
        hint = "" if recursive else "; -r looks into its folders as well"
        known = " ".join(sorted(suffixes))
        problem = MediaError(f"{name}: no input in this folder ({known}){hint}")
        yield Input(name, root, problem=problem)


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name.endswith(OURS)


def _is_made_of(path: Path, places: Collection[tuple[Path, str]]) -> bool:
    """Tell whether b2v made the file `path` of another one, one of `places` without suffixes."""
    marks = [mark for mark in MADE if path.stem.endswith(mark)]
    return any((path.parent, path.stem.removesuffix(mark)) in places for mark in marks)


def _in_order(path: str | PurePath) -> tuple[bytes, ...]:
    return tuple(map(os.fsencode, PurePath(path).parts))
