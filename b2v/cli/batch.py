"""Several inputs for one command: which there are, where each output goes, how it went.

In a folder, what has one of the wanted suffixes is taken, in the order of its name. Passed over
are hidden files and folders, what b2v made itself (`*_b2v.*`, `*_deblurred.*`), whatever is no
regular file, and folders behind symbolic links, which can lead in circles. A file that is given
by its name is taken whatever it is called, unless b2v made it of another input: the same command,
with a pattern that the shell matches, can be given again.
"""

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

import typer

from b2v.cli import options
from b2v.cli.options import BatchOptions, Result, ResultT
from b2v.errors import B2VError, MediaError, UsageError
from b2v.files import PIPE, is_dir, names_folder, one_line, safe_name

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
        names: files, folders, and `-` for standard input.
        suffixes: lower-case suffixes of the files that are taken from folders.
        recursive: look into the folders in a folder, too.

    Returns:
        What was found; a name that leads to nothing is there with its problem.

    """
    kept: list[Input] = []
    by_name: dict[Path, bool] = {}
    for name in names:
        for found in _named(name, suffixes, recursive):
            named = found.root is None
            place = Path(found.path).parent.resolve() / Path(found.path).name
            if place not in by_name or (named and by_name[place]):
                kept.append(found)
            by_name[place] = by_name.get(place, False) or named
    places = {(Path(found.path).parent, Path(found.path).stem) for found in kept}
    return [found for found in kept if not _is_made_of(Path(found.path), places)]


def is_several(names: Sequence[str]) -> bool:
    """Tell whether `names` can stand for more than one input, however many they are today."""
    return len(names) != 1 or (names[0] != PIPE and is_dir(names[0]))


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


def _in_folder(name: str, suffixes: Collection[str], recursive: bool) -> Iterator[Input]:
    """Find what has the right suffix in a folder, and the folders that cannot be read."""
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
        problem = MediaError(f"{where}: cannot read directory ({error.strerror}); skipped")
        yield Input(where, root, problem=problem)
    if not regular and not closed:
        hint = "" if recursive else "; use -r to include subfolders"
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


def place(
    inputs: Sequence[Input], namer: Callable[[Path], str], folder: Path | None
) -> list[Input]:
    """Name the output of every input: below `folder`, in the same subfolder, or beside the input.

    Of several roots each becomes a folder of its own; `namer` names the output of a file. Raises
    UsageError where two outputs would have one name, or one has none.
    """
    roots = {found.root for found in inputs if found.root is not None}
    placed = []
    for found in inputs:
        if found.problem is not None:
            placed.append(found)
            continue
        if found.path == PIPE:
            raise UsageError("-: standard input has no name; name the output with -o FILE or -o -")
        parent = Path(found.path).parent
        if folder is not None:
            own = [found.root.resolve().name] if found.root and len(roots) > 1 else []
            parent = folder.joinpath(*map(safe_name, (*own, *found.below.parts)))
        placed.append(replace(found, output=str(parent / namer(Path(found.path)))))
    taken: dict[str, Input] = {}
    for found in filter(lambda found: found.output, placed):
        key = os.path.realpath(found.output)
        if sys.platform in ("darwin", "win32"):  # their file systems see no difference
            key = unicodedata.normalize("NFC", key).casefold()
        if (other := taken.setdefault(key, found)) is not found:
            both = f"{other.path} and {found.path} would both be written there"
            raise UsageError(f"{found.output}: {both}; process them separately, or rename one")
    kept = set()  # files and folders that must stay: all inputs, and the folders they are in
    for found in placed:
        for path in (Path(found.path), Path(os.path.realpath(found.path)).parent):
            with suppress(OSError, ValueError):
                kept.add(_identity(path))
    for number, found in enumerate(placed):
        with suppress(OSError, ValueError):
            if found.output and _identity(Path(found.output)) in kept:
                why = UsageError(f"{found.output}: is or contains an input; choose another name")
                placed[number] = replace(found, problem=why)
    return placed


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def output_folder(names: Sequence[str], output: str | None, *, inside: bool) -> Path | None:
    """Name the folder that `output` says; None where it is a file, a pipe or nothing.

    With `inside`, the output of a single input goes into a folder that is there, or that is
    meant by a slash at the end.

    Raises UsageError where there are several inputs for one file.
    """
    if output is None:
        return None
    several, is_folder = is_several(names), names_folder(output)
    if several and (output == PIPE or not (is_folder or not Path(output).suffix)):
        many = f"{len(names)} inputs" if len(names) > 1 else "possibly several inputs"
        raise UsageError(f"{output}: one file for {many}; name a folder with -o")
    return Path(output) if several or (inside and is_folder and output != PIPE) else None


def check_folders(folder: Path, target: Path) -> Path:
    """Check that what is missing of the folders of `target`, from `folder` on, can be made.

    Returns the nearest folder that is there. Raises MediaError where the parent of `folder` is not
    there, or something is in the way.
    """
    if not os.path.lexists(folder.parent):
        raise MediaError(f"{target}: folder {folder.parent} does not exist; create it first")
    there = next(parent for parent in target.parents if os.path.lexists(parent))
    if not there.is_dir():
        raise MediaError(f"{target}: {there} is not a folder; name another with -o")
    if not os.access(there, os.W_OK | os.X_OK):
        raise MediaError(f"{target}: no permission to write into {there}; choose another folder")
    return there


PARTLY_FAILED = 4


def plan(
    names: Sequence[str],
    output: str | None,
    suffixes: Collection[str],
    namer: Callable[[Path], str],
    handling: BatchOptions,
    make: Callable[[str, str], ResultT],
    *,
    inside: bool,
) -> tuple[list[ResultT], Path | None]:
    """Find all inputs and their outputs; note what can be skipped and what cannot be done.

    From folders, files of some `suffixes` are taken; `namer` names the output of a file, and `make`
    makes the result to be filled in, of an input and an output. With `inside`, the output of a
    single input goes into a folder that `output`, which is `-o`, names; the folder is returned.

    Raises UsageError where two outputs would have one name, or options contradict each other;
    MediaError where the folder cannot be made.
    """
    folder = output_folder(names, output, inside=inside)
    inputs = expand(names, suffixes, recursive=handling.recursive)
    if output is None or folder is not None:
        inputs = place(inputs, namer, folder)
    else:
        inputs = [found if found.problem else replace(found, output=output) for found in inputs]
    if folder is not None:
        check_folders(folder, folder / "x")
    if handling.shard is not None:
        inputs = take_shard(inputs, *parse_shard(handling.shard))
    results = []
    for found in inputs:
        results.append(result := make(found.path, found.output))
        with options.noting(result):
            if found.problem is not None:
                raise found.problem
            there = found.output != PIPE and os.path.lexists(found.output)
            if is_dir(found.output):
                there = any(Path(found.output).iterdir())  # an empty folder is no output
            result.ok = result.skipped = handling.skip_existing and there
    return results, folder


def refuse_missing(names: Sequence[str]) -> None:
    """Raise MediaError at once where one input is named and is not there."""
    if len(names) == 1 and names[0] != PIPE:
        with suppress(OSError, ValueError):  # of names that no file can have
            if not Path(names[0]).exists():
                raise MediaError(f"{names[0]}: no such file; check the name")


@contextmanager
def hinting(source: str, suffixes: Collection[str], command: str) -> Iterator[None]:
    """Suggest the right command for an unreadable input whose suffix is of the other kind."""
    try:
        yield
    except MediaError as error:
        if Path(source).suffix.lower() not in suffixes:
            raise
        raise MediaError(f"{error}; try `b2v {command} {source}`") from error


def carry_out(
    results: Sequence[ResultT],
    handling: BatchOptions,
    start_up: Callable[[], Callable[[ResultT], object]],
    show: Callable[[ResultT, BatchOptions], None],
) -> None:
    """Process the remaining inputs, `show` the result of each, and print a summary.

    `start_up` loads what does one input; it is called once, if there is any to do.
    """
    if handling.dry_run:
        show_plan(results, as_json=handling.as_json)
    else:
        doomed = handling.fail_fast and any(result.error for result in results)
        work = start_up() if options.left(results) and not doomed else None
        for result in [result for result in results if result.error or not doomed]:
            if work is not None and not result.error and not result.skipped:
                with options.noting(result):
                    work(result)
            show(result, handling)
            if handling.fail_fast and result.error and not doomed:
                break
    finish(results, handling)


def show_plan(results: Sequence[Result], *, as_json: bool) -> None:
    """Print where every output would go."""
    for result in results:
        if as_json:
            said = {key: getattr(result, key) for key in ("input", "output", "skipped", "error")}
            typer.echo(json.dumps(said))
        elif not result.error:
            why = " (exists, skipped)" if result.skipped else ""
            typer.echo(f"{one_line(result.input)} -> {one_line(result.output)}{why}")
        if result.error:
            options.note(f"b2v: {result.error}")


def finish(results: Sequence[Result], handling: BatchOptions) -> None:
    """Print a summary of several inputs; exit with their code where one failed."""
    failed = [result for result in results if result.error]
    skipped = sum(result.skipped for result in results)
    done = sum(result.ok for result in results) - skipped
    if len(results) > 1 and not handling.dry_run:
        counts = {"done": done, "failed": len(failed), "skipped": skipped}
        counts["not started"] = len(results) - sum(counts.values())
        said = [f"{n} {what}" for what, n in counts.items() if n or what in ("done", "failed")]
        options.note(", ".join(said), quiet=handling.quiet)
    if failed:
        well = len(results) - len(failed) if handling.dry_run else done + skipped
        raise typer.Exit(PARTLY_FAILED if well else failed[0].exit_code)
