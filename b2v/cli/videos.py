"""What came of a video, and how that is said."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import typer

from b2v.cli import options

PIPE = "-"


@dataclass
class Result:
    """What `--json` prints for each input; `exit_code` is for us alone.

    `frames`, `width` and `height` are those of the output; `fps` are the frames that were
    restored in one of the `seconds` that it took.
    """

    input: str
    output: str
    ok: bool = False
    skipped: bool = False
    error: str | None = None
    frames: int = 0
    width: int | None = None
    height: int | None = None
    seconds: float = 0.0
    fps: float | None = None
    device: str | None = None
    precision: str | None = None
    model: dict[str, Any] | None = None
    provenance: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    exit_code: int = 0


def show_result(result: Result, *, as_json: bool, quiet: bool) -> None:
    """Print the path, or the JSON object, of one result; say how it went.

    Where the video itself went to standard output, nothing else does.
    """
    to_stderr = result.output == PIPE
    if as_json:
        plain = asdict(result)
        del plain["exit_code"]
        typer.echo(json.dumps(plain), err=to_stderr)
    elif (result.frames or result.skipped) and not to_stderr:
        typer.echo(result.output)
    if result.frames and not as_json:
        what = f"{result.frames} frames of {result.width}x{result.height}"
        how = f"{result.device} {result.precision}, {(result.model or {}).get('name')}"
        speed = f"{result.seconds:.1f} s ({result.fps:.1f} a second; {how})"
        options.note(f"{options.one_line(result.input)}: {what} in {speed}", quiet=quiet)
        for note in result.notes:
            options.note(options.one_line(note), quiet=quiet)
    if result.error:
        options.note(f"b2v: {options.one_line(result.error)}")
