"""Several inputs for one command: which there are, in what order they go, how it went."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from b2v.cli import options
from b2v.errors import UsageError

if TYPE_CHECKING:
    from b2v.inference.runtime import Runtime
    from b2v.weights import LoadedModel, LoadedVideoModel

PARTLY_FAILED = 4


@dataclass
class Result:
    """What came of one input among several; `error` is set where it failed.

    `lost` are lines on what the output does not have of the input; they are told even with
    `--quiet`, as `notes` are not. `--json` prints all of it but `exit_code`, which is for us alone.
    """

    input: str
    output: str
    ok: bool = False
    skipped: bool = False
    error: str | None = None
    frames: int = 0
    seconds: float = 0.0
    device: str | None = None
    precision: str | None = None
    model: dict[str, Any] | None = None
    provenance: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    exit_code: int = 0

    def made_by(self, loaded: "LoadedModel | LoadedVideoModel", runtime: "Runtime") -> None:
        """Note which networks restore it, and where they run."""
        self.device, self.precision = str(runtime.device), runtime.precision
        self.model = {"name": loaded.name, "sha256": loaded.sha256, "licence": loaded.licence}

    def as_json(self) -> str:
        """Write it as one line of JSON."""
        plain = asdict(self)
        del plain["exit_code"]
        return json.dumps(plain)


def tell(result: Result, *, as_json: bool, quiet: bool) -> None:
    """Say what there is to say about a result that is there, unless it is in its JSON."""
    for line in () if as_json else (*result.lost, *(() if quiet else result.notes)):
        options.note(options.one_line(line))


ResultT = TypeVar("ResultT", bound=Result)


@dataclass(frozen=True, kw_only=True)
class Handling:
    """How several inputs are gone through, as the options of that name say."""

    recursive: bool = False
    overwrite: bool = False
    skip_existing: bool = False
    dry_run: bool = False
    fail_fast: bool = False
    shard: str | None = None

    @classmethod
    def of(cls, context: typer.Context) -> "Handling":
        """Read it from the options of a command that has all of them."""
        return cls(**{option.name: context.params[option.name] for option in fields(cls)})

    def __post_init__(self) -> None:
        if self.overwrite and self.skip_existing:
            raise UsageError("--overwrite and --skip-existing exclude each other; give one")


def plan(
    names: Sequence[str],
    output: str | None,
    suffixes: Collection[str],
    namer: Callable[[Path], str],
    handling: Handling,
    make: Callable[[str, str], ResultT],
    *,
    inside: bool,
) -> tuple[list[ResultT], Path | None]:
    """Find all inputs and their outputs; note what can be skipped and what cannot be done.

    Args:
        names: as given on the command line.
        output: what `-o` says.
        suffixes: of the files that are taken from folders.
        namer: name of the output of a file.
        handling: what of it is wanted.
        make: makes the result for an input and an output.
        inside: the output of a single input goes into a folder that `-o` names.

    Returns:
        Results to be filled in, and the folder that the outputs go to, if one was named.

    Raises:
        UsageError: two outputs would have one name, or options contradict each other.
        MediaError: the folder cannot be made.

    """
    from b2v import batch

    folder = batch.output_folder(names, output, inside=inside)
    inputs = batch.expand(names, suffixes, recursive=handling.recursive)
    if output is None or folder is not None:
        inputs = batch.place(inputs, namer, folder)
    else:
        inputs = [batch.to_file(found, output) for found in inputs]
    if folder is not None:
        batch.check_folders(folder, folder / "x")
    if handling.shard is not None:
        inputs = batch.take_shard(inputs, *batch.parse_shard(handling.shard))
    results = []
    for found in inputs:
        result = make(found.path, found.output)
        if found.problem is None and handling.skip_existing and batch.is_there(found.output):
            result.ok = result.skipped = True
        with options.noting(result):
            if found.problem is not None:
                raise found.problem
        results.append(result)
    return results, folder


def to_do(results: Sequence[ResultT], handling: Handling) -> list[ResultT]:
    """List what is left to be done; nothing where one that failed stops the others."""
    if handling.fail_fast and any(result.error for result in results):
        return []
    return [result for result in results if not result.error and not result.skipped]


def in_turn(results: Sequence[ResultT], handling: Handling) -> Iterator[ResultT]:
    """Give one result after the other, up to one that fails where that stops the others."""
    failed = [result for result in results if result.error]
    if handling.fail_fast and failed:
        yield from failed
        return
    for result in results:
        yield result
        if handling.fail_fast and result.error:
            return


def show_plan(results: Sequence[Result], *, as_json: bool) -> None:
    """Print where every output would go."""
    for result in results:
        if as_json:
            said = {key: getattr(result, key) for key in ("input", "output", "skipped", "error")}
            typer.echo(json.dumps(said))
        elif not result.error:
            why = " (exists, skipped)" if result.skipped else ""
            typer.echo(
                f"{options.one_line(result.input)} -> {options.one_line(result.output)}{why}"
            )
        if result.error:
            options.note(f"b2v: {result.error}")


def finish(results: Sequence[Result], handling: Handling, *, quiet: bool) -> None:
    """Sum up several inputs; raise the exit code where not all went well."""
    failed = [result for result in results if result.error]
    skipped = sum(result.skipped for result in results)
    done = sum(result.ok for result in results) - skipped
    if len(results) > 1 and not handling.dry_run:
        counts = {"done": done, "failed": len(failed), "skipped": skipped}
        counts["not begun"] = len(results) - sum(counts.values())
        said = [f"{n} {what}" for what, n in counts.items() if n or what in ("done", "failed")]
        options.note(", ".join(said), quiet=quiet)
    if failed:
        well = len(results) - len(failed) if handling.dry_run else done + skipped
        raise typer.Exit(PARTLY_FAILED if well else failed[0].exit_code)
