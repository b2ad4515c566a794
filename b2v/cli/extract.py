"""`b2v extract`: one blurry photo to a clip of seven sharp frames."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from b2v.cli import options
from b2v.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from b2v.runtime import Runtime
    from b2v.weights import LoadedModel

PARTLY_FAILED = 4
FOLDER_ENDS = ("/", os.sep)
MAX_MP4_LOOPS = 20
"""An MP4 cannot say how often it is to be played, so it holds its frames as often."""
MAX_DB = 100.0
"""Stands for equal pictures: JSON has no infinite numbers."""


class Order(str, Enum):
    """Direction of time, which a blurry photo does not tell."""

    FORWARD = "forward"
    REVERSE = "reverse"
    BOOMERANG = "boomerang"


@dataclass
class Result:
    """What `--json` prints for each input; `exit_code` is for us alone."""

    input: str
    output: str
    ok: bool = False
    error: str | None = None
    frames: int = 0
    size: list[int] = field(default_factory=list)
    seconds: float = 0.0
    device: str | None = None
    precision: str | None = None
    model: dict[str, Any] | None = None
    reblur_db: float | None = None
    exit_code: int = 0


@dataclass(frozen=True)
class Job:
    """What is asked for, the same for every input; `folder` is to be made for the outputs."""

    fps: float
    order: Order
    loop: int
    middle: "Tensor | None"
    overwrite: bool
    folder: Path | None


Photos = Annotated[list[Path], typer.Argument(help="Blurry photos.", metavar="PHOTO")]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help=".mp4, .gif, .webp, or a folder for PNG; of several photos, one for their clips.",
    ),
]
Fps = Annotated[float, typer.Option(help="Frames a second.", min=0.1, max=240)]
Loop = Annotated[
    int, typer.Option(help="Times to play; 0: GIF and WebP for ever, MP4 once.", min=0, max=65535)
]
Middle = Annotated[
    Path | None, typer.Option(help="Sharp middle frame from another deblurrer.", metavar="PICTURE")
]


def command(
    photos: Photos,
    output: Output = None,
    fps: Fps = 10.0,
    order: Annotated[Order, typer.Option(help="Direction of time.")] = Order.FORWARD,
    loop: Loop = 0,
    middle: Middle = None,
    model: options.Model = "b2v",
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn blurry photos into clips of seven sharp frames.

    Without -o, photo.jpg becomes photo_b2v.mp4 beside it. Example:
    b2v extract photo.jpg -o clip.gif --order boomerang
    """
    from b2v.runtime import choose, keep_large_blocks
    from b2v.weights import load_model

    results = _plan(photos, output)
    folder = Path(output) if output and len(photos) > 1 else None
    job = Job(fps, order, loop, _read_middle(middle, photos), overwrite, folder)
    _refuse(results, job, [*photos, *([middle] if middle else [])])
    if any(not result.error for result in results):
        keep_large_blocks()
        runtime = choose(device, precision)
        loaded = load_model(model, weights=weights)
    for result in results:
        if not result.error:
            with options.noting(result), options.busy(f"{result.input} ...", quiet=quiet):
                _extract(loaded, runtime, job, result)
        _show(result, as_json=as_json, quiet=quiet)
    if codes := [result.exit_code for result in results if not result.ok]:
        raise typer.Exit(PARTLY_FAILED if len(codes) < len(results) else codes[0])


def _plan(photos: Sequence[Path], output: str | None) -> list[Result]:
    """Pair every photo with the file or folder that its clip goes to."""
    names = [f"{photo.stem}_b2v.mp4" for photo in photos]
    if output is None:
        targets = [str(photo.parent / name) for photo, name in zip(photos, names, strict=True)]
    elif len(photos) == 1:
        targets = [output]
    elif Path(output).is_dir() or output.endswith(FOLDER_ENDS) or not Path(output).suffix:
        targets = [str(Path(output) / name) for name in names]
    else:
        raise UsageError(f"{output}: one file for {len(photos)} photos; name a folder with -o")
    taken: dict[str, Path] = {}
    for photo, target in zip(photos, targets, strict=True):
        other = taken.setdefault(os.path.realpath(target), photo)
        if other is not photo:
            raise UsageError(f"{target}: {other} and {photo} would both go there; run them apart")
    return [Result(str(photo), target) for photo, target in zip(photos, targets, strict=True)]


def _read_middle(middle: Path | None, photos: Sequence[Path]) -> "Tensor | None":
    from b2v.media import read_photo

    if middle is None:
        return None
    if len(photos) > 1:
        raise UsageError("--middle is the middle frame of one photo; give one photo with it")
    return read_photo(middle).on_white()


def _refuse(results: Sequence[Result], job: Job, inputs: Sequence[Path]) -> None:
    """Find out before any work which outputs cannot be written, and note it there.

    Raises what stands against the request as a whole.
    """
    from b2v.media import check_target

    if job.folder is not None and not job.folder.is_dir():
        check_target(f"{job.folder}{os.sep}", overwrite=False)
        return
    for result in results:
        with options.noting(result):
            check_target(result.output, overwrite=job.overwrite, inputs=inputs, fps=job.fps)
            if job.loop > MAX_MP4_LOOPS and _is_mp4(result):
                raise UsageError(
                    f"{result.output}: an MP4 can be repeated {MAX_MP4_LOOPS} times at most;"
                    " lower --loop, or write .gif or .webp"
                )


def _extract(loaded: "LoadedModel", runtime: "Runtime", job: Job, result: Result) -> None:
    """Do one photo and note in `result` what came of it."""
    from b2v.inference import restore
    from b2v.media import Clip, read_photo
    from b2v.metrics import psnr, reblur

    started = time.monotonic()
    result.device, result.precision = str(runtime.device), runtime.precision
    result.model = {"name": loaded.name, "sha256": loaded.sha256, "licence": loaded.licence}
    blurry = read_photo(result.input).on_white()
    frames = restore(runtime.place(loaded.net), blurry, runtime, middle=job.middle)
    result.reblur_db = round(min(float(psnr(reblur(frames), blurry)), MAX_DB), 2)
    played = _arrange(frames, job.order)
    if _is_mp4(result):
        played = played.repeat(max(1, job.loop), 1, 1, 1)
    if job.folder is not None:
        job.folder.mkdir(exist_ok=True)
    Clip(played, job.fps).save(result.output, overwrite=job.overwrite, loop=job.loop)
    result.frames, result.size = len(played), [frames.shape[3], frames.shape[2]]
    result.ok, result.seconds = True, round(time.monotonic() - started, 3)


def _arrange(frames: "Tensor", order: Order) -> "Tensor":
    """Put seven frames into the order they are played in; a boomerang has twelve."""
    import torch

    if order is Order.REVERSE:
        return frames.flip(0)
    if order is Order.BOOMERANG:
        return torch.cat([frames, frames[1:-1].flip(0)])
    return frames


def _is_mp4(result: Result) -> bool:
    return result.output.lower().endswith(".mp4")


def _show(result: Result, *, as_json: bool, quiet: bool) -> None:
    """Print the path, or the JSON object, of one result; say how it went."""
    if as_json:
        plain = asdict(result)
        del plain["exit_code"]
        typer.echo(json.dumps(plain))
    elif result.ok:
        typer.echo(result.output)
    if result.error:
        options.note(f"b2v: {result.error}")
    elif not as_json and result.model:
        options.note(
            f"{options.one_line(result.input)}: {result.frames} frames of "
            f"{result.size[0]}x{result.size[1]} in {result.seconds:.1f} s "
            f"({result.device} {result.precision}, {result.model['name']}); "
            f"they explain the photo to {result.reblur_db:.1f} dB",
            quiet=quiet,
        )
