"""Options and output that several commands share."""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console
from rich.text import Text

from b2v.defaults import COUNTS
from b2v.errors import B2VError, UsageError

Model = Annotated[
    str, typer.Option("--model", "-m", help="Name of the weights; see `b2v weights list`.")
]
OwnModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Name of the weights, instead of --quality; see `b2v weights list`.",
    ),
]


class Quality(str, Enum):
    """How good the model is that is taken, and how long it takes: names of `b2v.defaults`."""

    FAST = "fast"
    GOOD = "good"
    BEST = "best"


Preset = Annotated[
    Quality, typer.Option("--quality", help="Which model is taken; a better one takes longer.")
]
Weights = Annotated[
    Path | None,
    typer.Option(help="Take weights from this folder, or one network from this .safetensors."),
]


def _count(frames: int) -> int:
    if frames not in COUNTS:
        raise UsageError(f"--frames {frames}: expected {', '.join(map(str, COUNTS))}")
    return frames


Frames = Annotated[
    int,
    typer.Option(
        callback=_count,
        help="Frames of each picture: 5, 7, 9, 11 or 13; more than 7 reach beyond the exposure.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE", help="Memory to keep within, such as 6G; 60 % of the free without."
    ),
]


class Codec(str, Enum):
    """How a video is encoded."""

    H264 = "h264"
    HEVC = "hevc"
    VP9 = "vp9"
    AV1 = "av1"
    PRORES = "prores"


Coding = Annotated[
    Codec | None, typer.Option("--codec", help="How the video is encoded; by the suffix without.")
]
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors still show.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Also tell the device, the model, and how well the frames explain the photo.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Recursive = Annotated[
    bool,
    typer.Option("--recursive", "-r", help="Look into the folders in a folder, too."),
]
SkipExisting = Annotated[
    bool,
    typer.Option("--skip-existing", help="Leave outputs that exist."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", "-n", help="Print input -> output; write nothing."),
]
FailFast = Annotated[
    bool,
    typer.Option("--fail-fast", help="Stop at the first that fails."),
]
Shard = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Of N equal parts of the list, do the I-th; I counts from 1."),
]


def parse_bytes(text: str | None) -> float | None:
    """Read a size such as 6G, 1.5GiB or 800M as bytes; None for None. Raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([MG])(i?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"--max-memory {text}: expected a size such as 6G, 6GiB or 800M")
    number, unit, binary = match.groups()
    return float(number) * (1024 if binary else 1000) ** (2 if unit in "mM" else 3)


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
