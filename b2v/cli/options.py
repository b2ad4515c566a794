"""Options and output that several commands share."""

import inspect
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from datetime import timedelta
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_origin, get_type_hints

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand

from b2v.defaults import COUNTS
from b2v.errors import B2VError, UsageError
from b2v.files import one_line

if TYPE_CHECKING:
    from b2v.inference.images import Model as LoadedModel


def _in(group: str) -> Callable[..., Any]:
    return partial(typer.Option, rich_help_panel=group)


in_output, in_extras, in_model = map(_in, ("Output", "Also write", "Model and machine"))
in_video, in_several, in_messages = map(_in, ("Video", "Several inputs", "Messages"))
"""`typer.Option` in the groups that help shows."""

LISTS = re.compile(r"<list\[(.*?)\]>")
"""Types of what can be given several times; they are shown as those of one."""


class Command(TyperCommand):
    """A command whose help shows its options in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - of a library's own
        """Write arguments, and options below the names of their groups."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            usual = "Arguments" if param.param_type_name == "argument" else "Options"
            if record is not None:
                group = getattr(param, "rich_help_panel", None) or usual
                shown = LISTS.sub(lambda found: f"<{found[1].lower()}>", record[0])
                shown = shown.partition(" <")[0] if usual == "Arguments" else shown
                groups.setdefault(group, []).append((shown, record[1]))
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Have the annotated fields of dataclasses among a command's parameters be its options."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, list[str]] = {}
    parameters: list[inspect.Parameter] = []
    for name, own in inspect.signature(command).parameters.items():
        if not is_dataclass(hints[name]):
            parameters.append(own.replace(kind=own.KEYWORD_ONLY, annotation=hints[name]))
            continue
        kinds = get_type_hints(hints[name], include_extras=True)
        options = [f for f in fields(hints[name]) if get_origin(kinds[f.name]) is Annotated]
        groups[name] = [option.name for option in options]
        parameters += [
            inspect.Parameter(
                option.name, own.KEYWORD_ONLY, default=option.default, annotation=kinds[option.name]
            )
            for option in options
        ]

    @wraps(command)
    def run(**given: Any) -> None:  # noqa: ANN401 - whatever the command takes
        for name, options in groups.items():
            given[name] = hints[name](**{option: given.pop(option) for option in options})
        command(**given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


Quality = Literal["fast", "good", "best"]
"""How good the model is that is taken, and how long it takes: names of `b2v.defaults`."""
Weights = Annotated[
    Path | None, in_model(help="Folder of weights, or a .safetensors file for one network.")
]
Device = Annotated[str, in_model(help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str, in_model(help="auto, fp32, bf16 or fp16.")]
Json = Annotated[bool, in_messages("--json", help="Print results as JSON.")]
Quiet = Annotated[bool, in_messages("--quiet", "-q", help="Show errors, no progress.")]
Verbose = Annotated[
    bool,
    in_messages(
        "--verbose",
        "-v",
        help="Also show device, model, and how closely the frames reproduce the photo.",
    ),
]
Overwrite = Annotated[bool, in_output("--overwrite", help="Replace existing outputs.")]


Preset = Annotated[Quality, in_model("--quality", help="Better takes longer.")]
OwnModel = Annotated[
    str | None,
    in_model("--model", "-m", help="Weights by name instead of --quality; see `b2v weights list`."),
]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The options of a model, and of the machine that it runs on."""

    quality: Preset = "good"
    model: OwnModel = None
    weights: Weights = None
    device: Device = "auto"
    precision: Precision = "auto"

    def load(self, task: Literal["photo", "video"]) -> "LoadedModel":
        """Load the model."""
        from b2v.inference.images import load_model
        from b2v.inference.runtime import keep_large_blocks

        keep_large_blocks()
        return load_model(
            self.model,
            quality=self.quality,
            weights=self.weights,
            task=task,
            device=self.device,
            precision=self.precision,
        )


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """The options of several inputs, and of messages."""

    overwrite: Overwrite = False
    recursive: Annotated[bool, in_several("--recursive", "-r", help="Include subfolders.")] = False
    skip_existing: Annotated[bool, in_several("--skip-existing", help="Keep existing outputs.")] = (
        False
    )
    dry_run: Annotated[
        bool, in_several("--dry-run", "-n", help="Print input -> output; write nothing.")
    ] = False
    fail_fast: Annotated[bool, in_several("--fail-fast", help="Stop at the first error.")] = False
    shard: Annotated[
        str | None, in_several(metavar="I/N", help="Process part I of N (1-based), such as 2/8.")
    ] = None
    as_json: Json = False
    quiet: Quiet = False

    def __post_init__(self) -> None:
        if self.overwrite and self.skip_existing:
            raise UsageError("--overwrite and --skip-existing are mutually exclusive; use one")


def check_count(frames: int) -> int:
    """Check the number of frames that is asked for; raises UsageError."""
    if frames not in COUNTS:
        raise UsageError(f"--frames {frames}: expected {', '.join(map(str, COUNTS))}")
    return frames


Coding = Annotated[
    Literal["h264", "hevc", "vp9", "av1", "prores"] | None,
    in_output("--codec", help="Video codec  [default: from the file extension]"),
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


def note(text: str, *, quiet: bool = False) -> None:
    """Print a message of one line to stderr, never to stdout."""
    if not quiet:
        sys.stderr.write(f"{' '.join(text.splitlines())}\n")  # names may have breaks in them


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

    def made_by(self, model: "LoadedModel") -> None:
        """Note which networks restore it, and where they run."""
        self.device, self.precision = str(model.device), model.precision
        self.model = {"name": model.name, "sha256": model.sha256, "license": model.license}

    def as_json(self) -> str:
        """Write it as one line of JSON."""
        plain = asdict(self)
        del plain["exit_code"]
        return json.dumps(plain)


ResultT = TypeVar("ResultT", bound=Result)


def left(results: Iterable[ResultT]) -> list[ResultT]:
    """List the results of inputs that are still to be done."""
    return [result for result in results if not result.error and not result.skipped]


def show(result: Result, handling: BatchOptions, said: str, *, piped: bool = False) -> None:
    """Print the path, or the JSON object, of one result, and what is `said` of how it went.

    Where the output itself was `piped` to standard output, nothing else goes there.
    """
    if handling.as_json:
        typer.echo(result.as_json(), err=piped)
    elif not piped and (result.ok or result.frames):
        typer.echo(result.output)
    if result.frames and not handling.as_json:
        note(said, quiet=handling.quiet)
        for line in (*result.lost, *(() if handling.quiet else result.notes)):
            note(line)
    if result.error:
        note(f"b2v: {result.error}")


INTERRUPTED = 130
"""Exit code where Ctrl-C came, which ends all."""


@contextmanager
def noting(result: Result) -> Iterator[None]:
    """Record an expected error in `result`, so that the next input can be processed."""
    try:
        yield
    except B2VError as error:
        if error.exit_code == INTERRUPTED:
            raise
        said = str(error)
        named = result.input in said or result.output in said
        result.error = one_line(said if named else f"{result.input}: {said}")
        result.exit_code = error.exit_code


@contextmanager
def busy(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Show a spinner on a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(Text(text)):
        yield


class Ticker:
    """Tells when a log is due another line: every ten seconds at most."""

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds
        self.last = -seconds

    def due(self) -> bool:
        """Tell whether enough time has passed since the last time."""
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "extract": (
        ("b2v extract photo.jpg", "photo_b2v.mp4 beside the photo"),
        ("b2v extract photo.jpg -o clip.gif --order boomerang", "there and back"),
        ("b2v extract photo.jpg -o frames/ -f tiff", "TIFF; 16 bits if the photo has"),
        ("b2v extract photo.jpg -o clip.mov --codec prores", "for video editing"),
        ("b2v extract photo.jpg -o sharp.jpg", "one sharp picture, not a clip"),
        ("b2v extract photo.jpg --quality best", "all stages of MAXIM; takes longer"),
        ("b2v extract holiday -r -o clips --skip-existing", "a tree of photos"),
        ("b2v extract holiday -r -o clips --shard 2/8", "the second of eight jobs"),
        ("b2v extract photo.jpg --preview 512", "the center, and time for the whole"),
    ),
    "deblur": (
        ("b2v deblur walk.mp4", "walk_deblurred.mp4 beside it"),
        ("b2v deblur walk.mp4 --preview 3 --compare side", "before and after"),
        ("b2v deblur walk.mov -o walk.mkv --codec hevc", "encoded as you like"),
        ("b2v deblur walk.mp4 --resume", "continues a stopped run"),
        ("b2v deblur films -r -o restored --skip-existing", "a tree of videos"),
        ("ffmpeg -i cam.ts -f matroska - | b2v deblur - -o - | ffplay -", "in a pipe"),
    ),
    "slowmo": (
        ("b2v slowmo walk.mp4", "four times slower"),
        ("b2v slowmo walk.mp4 --slower 8 --preview 2 --sound", "two seconds of it"),
        ("b2v slowmo films -r -o slow --skip-existing", "a tree of videos"),
    ),
    "demo": (("b2v demo", "writes the clip into this folder"),),
    "eval": (
        ("b2v eval bundled", "a small set, the same on every machine"),
        ("b2v eval windows", "scores of the weights that b2v extract takes"),
        ("b2v eval windows --weights runs/b2v/weights --json", "of your own"),
    ),
    "synth-dataset": (
        ("b2v synth-dataset videos photos -o windows", "with their sharp frames"),
        ("b2v synth-dataset videos -o gopro --recipe gopro", "as GoPro was made"),
    ),
    "train": (
        ("b2v train --data photos --data videos --stage 1", "the middle frame"),
        ("b2v train --data photos --stage 1 --resume", "continues, bit for bit"),
        ("b2v train -m blend --data videos --run runs/blend", "the fast one of deblur"),
    ),
    "study": (
        ("b2v study dtb-models --eval bundled-video -o studies/dtb", "as they come"),
        ("b2v study coded --data photos --eval windows -o out --steps 600", "trained"),
    ),
    "bench": (
        ("b2v bench", "photos, a video frame, a training step"),
        ("b2v bench -m maxim-1 --size 4000x3000 --json", "one model on 12 MP"),
    ),
    "doctor": (
        ("b2v doctor", "a line for everything that matters"),
        ("b2v doctor --json", "for a program; exit code 1 if something fails"),
    ),
    "weights list": (("b2v weights list --json", "for a program"),),
    "weights verify": (
        ("b2v weights verify", "all that is here"),
        ("b2v weights verify maxim-3", "one model"),
    ),
    "weights download": (
        ("b2v weights download hf://owner/repo@v1/name.json", "card and networks"),
    ),
    "weights import": (
        ("b2v weights import center_v3.pth F35_N8.pth", "two of the authors' four"),
        ("b2v weights import maxim.safetensors", "all stages of MAXIM-3S"),
    ),
    "weights publish": (
        ("b2v weights publish unet me/unet -o look --license MIT", "look before"),
        ("b2v weights publish unet me/unet --private", "for yourself alone"),
    ),
}


def examples(command: str) -> str:
    """Write the examples of a command for the end of its help, as they are typed."""
    lines = [f"  {line}   # {about}" for line, about in EXAMPLES[command]]
    return "\n".join(["\b", "Examples:", *lines])


@dataclass
class Pace:
    """How far something is, and how fast: frames of a video, or pixels of a photo.

    Frames are told by their number, pixels in percent.
    """

    total: int | None = None
    percent: bool = False
    done: int = 0
    first: int | None = None
    """What was done before this run."""
    started: float = field(default_factory=time.monotonic)
    latest: float = field(default_factory=time.monotonic)

    def take(self, done: int) -> None:
        """Note how far it is."""
        self.first = done if self.first is None else self.first
        self.done, self.latest = done, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds that it has taken so far."""
        return self.latest - self.started

    @property
    def rate(self) -> float:
        """What is done in a second, without what was done before."""
        return (self.done - (self.first or 0)) / max(self.seconds, 1e-9)

    def __str__(self) -> str:
        if self.percent:
            said = f"{100 * self.done // (self.total or 1)} %"
        else:
            of = f" of {self.total}" if self.total else ""
            said = f"{self.done}{of} frames, {self.rate:.1f} a second"
        if self.total and self.rate and self.done < self.total:
            left = (self.total - self.done) / self.rate - (time.monotonic() - self.latest)
            said += f", about {timedelta(seconds=round(max(0, left)))} left"
        return said

    __rich__ = __str__


@contextmanager
def progress(name: str, pace: Pace, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Give a function that shows the `pace`: a bar, or in a log a line every ten seconds."""
    console, ticker = Console(stderr=True), Ticker()
    if quiet or not console.is_terminal:
        ticker.due()  # not at once

        def tell() -> None:
            if pace.done != pace.total and ticker.due():
                note(f"{name}: {pace}", quiet=quiet)

        yield tell
        return

    from rich.markup import escape
    from rich.progress import BarColumn, Progress, RenderableColumn, TextColumn

    columns = TextColumn(escape(name)), BarColumn(), RenderableColumn(pace)
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=pace.total)
        yield lambda: bars.update(task, completed=pace.done, total=pace.total)
