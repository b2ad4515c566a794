"""Options and output that several commands share."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console
from rich.text import Text

from b2v.errors import B2VError

Model = Annotated[
    str, typer.Option("--model", "-m", help="Name of the weights; see `b2v weights list`.")
]
Weights = Annotated[
    Path | None,
    typer.Option(help="Take weights from this folder, or one network from this .safetensors."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors still show.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]


def one_line(text: object) -> str:
    """Put `text` into one line: names of files may have line breaks in them."""
    return " ".join(str(text).split())


def note(text: str, *, quiet: bool = False) -> None:
    """Say something to the person at the terminal; never on stdout."""
    if not quiet:
        sys.stderr.write(f"{text}\n")


class Noted(Protocol):
    """What came of one input among several."""

    input: str
    output: str
    error: str | None
    exit_code: int


@contextmanager
def noting(result: Noted) -> Iterator[None]:
    """Note in `result` what goes wrong with its input, so that the next one has its turn."""
    try:
        yield
    except B2VError as error:
        said = str(error)
        named = result.input in said or result.output in said
        result.error = one_line(said if named else f"{result.input}: {said}")
        result.exit_code = error.exit_code


@contextmanager
def busy(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Show on a terminal that something goes on."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(Text(text)):
        yield


class Ticker:
    """Says that time has come for another line in a log: every ten seconds at most."""

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds
        self.last = -seconds

    def due(self) -> bool:
        """Tell whether enough time has passed since it was last due."""
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True
