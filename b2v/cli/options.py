"""Options and output that several commands share."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Protocol

import typer
from rich.console import Console
from rich.text import Text

from b2v.defaults import COUNTS
from b2v.errors import B2VError, UsageError

if TYPE_CHECKING:
    from b2v.inference.model import Model as LoadedModel
    from b2v.inference.video_files import Progress as Report


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


class Chosen(NamedTuple):
    """The model that is asked for, and what it is to run on."""

    task: Literal["photo", "video"]
    model: str | None
    quality: str
    weights: Path | None
    device: str
    precision: str

    def load(self) -> "LoadedModel":
        """Load it."""
        from b2v.inference.model import load_model
        from b2v.inference.runtime import keep_large_blocks

        keep_large_blocks()
        return load_model(
            self.model,
            quality=self.quality,
            weights=self.weights,
            task=self.task,
            device=self.device,
            precision=self.precision,
        )


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


EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "extract": (
        ("b2v extract photo.jpg", "writes photo_b2v.mp4 beside the photo"),
        ("b2v extract photo.jpg -o clip.gif --order boomerang", "there and back"),
        ("b2v extract photo.jpg -o frames/", "seven PNG in a folder"),
        ("b2v extract photo.jpg -o frames/ -f tiff", "TIFF instead; 16 bits where the photo has"),
        ("b2v extract photo.jpg -o clip.mov --codec prores", "for an editor of films"),
        ("b2v extract photo.jpg -o sharp.jpg", "one sharp picture, not a clip"),
        ("b2v extract photo.jpg --still --strength 0.7", "photo_sharp.jpg, three tenths the photo"),
        ("b2v extract photo.jpg --quality best", "all three stages of MAXIM; takes longer"),
        ("b2v extract holiday -r -o clips --skip-existing", "a tree of photos; goes on"),
        ("b2v extract holiday -r -o sharp --still", "a tree of sharp pictures"),
        ("b2v extract '*.jpg' -f webp --dry-run", "what would be written where"),
        ("b2v extract holiday -r -o clips --shard 2/8", "the second of eight jobs"),
        ("b2v extract photo.jpg --preview 512", "a square of the middle, and what all would take"),
        ("b2v extract photo.jpg --middle sharp.png", "with another deblurrer's middle frame"),
    ),
    "deblur": (
        ("b2v deblur walk.mp4", "writes walk_deblurred.mp4 beside it"),
        ("b2v deblur walk.mp4 --preview 3 --compare side", "three seconds, before and after"),
        ("b2v deblur walk.mov -o walk.mkv --codec hevc --crf 18", "encoded as you like"),
        ("b2v deblur walk.mp4 --resume", "goes on with a run that was stopped"),
        ("b2v deblur films -r -o restored --skip-existing --resume", "a tree of videos"),
        ("ffmpeg -i cam.ts -f matroska - | b2v deblur - -o - | ffplay -", "in a pipe"),
    ),
    "slowmo": (
        ("b2v slowmo walk.mp4", "four times slower"),
        ("b2v slowmo walk.mp4 --slower 8 --preview 2 --sound", "two seconds of it, with sound"),
        ("b2v slowmo films -r -o slow --skip-existing", "a tree of videos; goes on"),
    ),
    "demo": (("b2v demo", "writes the clip into this folder"),),
    "eval": (
        ("b2v eval windows", "scores of the weights that b2v extract takes"),
        ("b2v eval windows --weights runs/b2v/weights --json", "of your own, for a program"),
    ),
    "synth-dataset": (
        ("b2v synth-dataset videos photos -o windows", "blurry pictures and their sharp frames"),
        ("b2v synth-dataset videos -o gopro --recipe gopro", "as the GoPro set was made"),
    ),
    "train": (
        ("b2v train --data photos --data videos --stage 1", "the middle frame"),
        ("b2v train --data photos --stage 1 --resume", "goes on, bit for bit"),
        ("b2v train -m blend --data videos --run runs/blend", "for deblur --quality fast"),
    ),
    "study": (
        (
            "b2v study coded --data photos --eval windows -o studies/coded --steps 600",
            "600 steps for each network, then a table",
        ),
    ),
    "bench": (
        ("b2v bench", "photos at each quality, a frame of video, a step of training"),
        ("b2v bench -m maxim-1 --size 4000x3000 --json", "one model on 12 MP, for a program"),
    ),
    "doctor": (
        ("b2v doctor", "a line for everything that matters"),
        ("b2v doctor --json", "for a program; exit code 1 if something fails"),
    ),
    "weights list": (("b2v weights list --json", "for a program"),),
    "weights path": (("b2v weights path unet prior", "the file of one network"),),
    "weights verify": (
        ("b2v weights verify", "all that is here"),
        ("b2v weights verify maxim-3", "one model"),
    ),
    "weights download": (
        ("b2v weights download hf://owner/repo@v1/name.json", "a card and its networks"),
        ("HF_ENDPOINT=https://mirror.example b2v weights download unet", "from a mirror"),
    ),
    "weights import": (
        ("b2v weights import center_v3.pth F35_N8.pth", "two of the authors' four files"),
        ("b2v weights import maxim.safetensors", "all stages of MAXIM-3S"),
    ),
    "weights average": (
        (
            "b2v weights average early.safetensors late.safetensors -o mean.safetensors",
            "of two times",
        ),
    ),
    "weights rm": (("b2v weights rm name --dry-run", "what would be deleted"),),
    "weights publish": (
        ("b2v weights publish runs/b2v/weights/b2v.json me/b2v -o look", "look before"),
        ("HF_TOKEN=hf_... b2v weights publish unet me/unet --private", "for yourself alone"),
    ),
}


def examples(command: str) -> str | None:
    """Write the examples of a command for the end of its help, one in a paragraph."""
    lines = [f"{line}   # {about}" for line, about in EXAMPLES[command]]
    return "\n\n".join(["Examples:", *lines]) if lines else None


@dataclass
class Pace:
    """How fast a video is restored, from its latest report."""

    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    first: int | None = None
    done: int = 0
    total: int | None = None

    def take(self, report: "Report") -> None:
        """Note how far it is."""
        self.first = report.done if self.first is None else self.first
        self.done, self.total = report.done, report.total
        self.seconds = time.monotonic() - self.started

    @property
    def fps(self) -> float:
        """Frames restored in a second, without those of the run before."""
        return (self.done - (self.first or 0)) / max(self.seconds, 1e-9)

    def __str__(self) -> str:
        of = f" of {self.total}" if self.total else ""
        said = f"{self.done}{of} frames, {self.fps:.1f} a second"
        if self.total and self.fps:
            left = timedelta(seconds=round(max(0, self.total - self.done) / self.fps))
            said += f", {left} left"
        return said


@contextmanager
def display(name: str, *, quiet: bool) -> Iterator[Callable[[Pace], None]]:
    """Give a function that shows how the video `name` gets on."""
    console, ticker = Console(stderr=True), Ticker()
    if quiet or not console.is_terminal:
        ticker.due()  # not at once

        def tell(pace: Pace) -> None:
            if ticker.due():
                note(f"{name}: {pace}", quiet=quiet)

        yield tell
        return

    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn(escape(name)), BarColumn(), TextColumn("{task.fields[pace]}")
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, pace="")

        def draw(pace: Pace) -> None:
            bars.update(task, completed=pace.done, total=pace.total, pace=str(pace))

        yield draw


@dataclass
class PhotoPace:
    """How far the network is with a photo: the pixels that it has been run on, of a total."""

    total: int
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    latest: float = 0.0

    def take(self, pixels: int) -> None:
        """Note that it has been run on more."""
        self.done += pixels
        self.latest = time.monotonic()

    @property
    def left(self) -> float | None:
        """Seconds from now, at the pace so far; None before the first pixels."""
        if not self.done:
            return None
        each = (self.latest - self.started) / self.done
        return max(0.0, each * (self.total - self.done) - (time.monotonic() - self.latest))

    def __str__(self) -> str:
        said = f"{100 * self.done // self.total} %"
        if self.left is not None and self.done < self.total:
            said += f", about {_roughly(self.left)} left"
        return said

    __rich__ = __str__


def _roughly(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


@contextmanager
def photo(name: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Give a function that is told the pixels that are done of the photo `name`, and shows them.

    Without a `total` only a terminal is shown that something goes on.
    """
    console, ticker, pace = Console(stderr=True), Ticker(), PhotoPace(total)
    if quiet or not total or not console.is_terminal:
        ticker.due()  # not at once

        def tell(pixels: int) -> None:
            pace.take(pixels)
            if pace.done < total and ticker.due():
                note(f"{name}: {pace}", quiet=quiet)

        with busy(f"{name} ...", quiet=quiet):
            yield tell
        return

    from rich.markup import escape
    from rich.progress import BarColumn, Progress, RenderableColumn, TextColumn

    columns = TextColumn(escape(name)), BarColumn(), RenderableColumn(pace)
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=total)

        def draw(pixels: int) -> None:
            pace.take(pixels)
            bars.update(task, completed=pace.done)

        yield draw
