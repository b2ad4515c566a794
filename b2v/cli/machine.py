"""`b2v doctor`, what may be wrong on this machine, and `b2v bench`, how fast it is.

The doctor needs no network and changes nothing. Heavy packages are imported within its checks, so
that one that is broken is a finding and not the end.
"""

import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from b2v import __version__
from b2v.cli import options
from b2v.defaults import GB, MB, PHOTO_MODEL, VIDEO_MODEL
from b2v.errors import UsageError
from b2v.files import one_line

if TYPE_CHECKING:
    from b2v.bench import Row

State = Literal["ok", "warn", "fail"]
PACKAGES = ["torch", "av", "pillow", "numpy", "safetensors", "huggingface-hub"]
"""What b2v stands on."""
FAR_DB = 35.0
"""PSNR below which a way to run the networks is broken; `runtime.AGREES` is good enough."""
LITTLE_MEMORY, LITTLE_DISK = 1.5e9, 1e9


@dataclass(frozen=True)
class Finding:
    """The result of one check: what was found, and what to do unless it is ok."""

    name: str
    state: State
    said: str
    advice: str | None = None


def examine() -> Iterator[Finding]:
    """Look at everything in turn, the quickest first."""
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("versions", _versions),
        ("devices", _devices),
        ("ffmpeg", _ffmpeg),
        ("memory", _memory),
        ("disk", _disk),
        ("cache", _cache),
        ("weights", _weights),
        ("precision", _precision),
    )
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:  # whatever is broken on this machine is a finding
            said = " ".join(f"{type(error).__name__}: {error}".split())
            yield Finding(name, "fail", said, "install b2v again")


def _versions() -> Iterator[Finding]:
    system = f"{platform.system()} {platform.machine()}"
    yield Finding("b2v", "ok", f"{__version__}, Python {platform.python_version()}, {system}")
    said, absent = [], []
    for package in PACKAGES:
        try:
            said.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            absent.append(package)
    if absent:
        names = " ".join(absent)
        yield Finding("packages", "fail", f"not installed: {names}", f"pip install {names}")
    yield Finding("packages", "ok", ", ".join(said))
    try:
        yield Finding("HEIC", "ok", f"pillow-heif {version('pillow-heif')}")
    except PackageNotFoundError:
        yield Finding("HEIC", "ok", 'cannot be read; if you need it: pip install "b2v[heic]"')


def _devices() -> Iterator[Finding]:
    import torch

    from b2v.inference.runtime import choose

    chosen = choose()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = torch.get_num_threads()
    said = f"CPU with {cores} cores, {threads} threads"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
        said = f"{', '.join(names)}; {said}"
    elif torch.backends.mps.is_available():
        said = f"Apple GPU; {said}"
    elif Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
        advice = "install torch with CUDA, see https://pytorch.org, and a driver that fits it"
        yield Finding("GPU", "warn", "NVIDIA's driver is here, but torch finds no GPU", advice)
    native = "bf16 in hardware" if chosen.precision == "bf16" else "no bf16"
    yield Finding("devices", "ok", f"{said}; --device auto is {chosen.device}, {native}")


def _ffmpeg() -> Iterator[Finding]:
    from b2v.errors import MediaError
    from b2v.media.clips import missing_encoders
    from b2v.media.ffmpeg import ffmpeg_program

    try:
        path, number = ffmpeg_program()
        yield Finding("ffmpeg", "ok", f"{number}, {path}")
    except MediaError as error:
        advice = "pip install --force-reinstall imageio-ffmpeg; b2v deblur needs it"
        yield Finding("ffmpeg", "fail", str(error), advice)
    clips, videos = missing_encoders()
    advice = "pip install --force-reinstall av"
    if clips:
        yield Finding("codecs", "fail", f"cannot encode clips with {', '.join(clips)}", advice)
    if videos:
        yield Finding("codecs", "warn", f"cannot encode videos with {', '.join(videos)}", advice)
    if not clips and not videos:
        yield Finding("codecs", "ok", "H.264, HEVC, VP9, AV1, ProRes, GIF and WebP can be written")


def _memory() -> Iterator[Finding]:
    from b2v.inference.runtime import free_bytes

    if (free := free_bytes()) is None:
        yield Finding("memory", "ok", "free memory is unknown on this system")
        return
    advice = "close other programs, or use smaller pictures" if free < LITTLE_MEMORY else None
    yield Finding("memory", "warn" if advice else "ok", f"{free / GB:.1f} GB free", advice)


def _disk() -> Iterator[Finding]:
    places = {"here": Path.cwd(), "for temporary files": Path(tempfile.gettempdir())}
    for what, folder in places.items():
        free = shutil.disk_usage(folder).free
        said = f"{free / GB:.1f} GB free {what} ({folder})"
        if not os.access(folder, os.W_OK | os.X_OK):
            how = "go to another folder, or name one with -o" if what == "here" else "set TMPDIR"
            yield Finding("disk", "warn", f"no permission to write into {folder}", how)
        else:
            advice = "make room; videos take the most" if free < LITTLE_DISK else None
            yield Finding("disk", "warn" if advice else "ok", said, advice)


def _cache() -> Iterator[Finding]:
    from b2v.files import cache_dir

    folder = cache_dir()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        advice = "set B2V_CACHE to a folder that can be written; downloads go there"
        yield Finding("cache", "warn", f"{folder} cannot be written", advice)
    else:
        yield Finding("cache", "ok", f"{size / MB:.1f} MB in {folder}")


def _weights() -> Iterator[Finding]:
    from b2v.errors import WeightsError
    from b2v.weights.store import list_models, verify

    models = list_models()
    for model in models:
        shipped = model.where == "shipped"
        try:
            checks = verify(str(model.folder / f"{model.name}.json"))
            problem = next((check.problem for check in checks if check.problem), None)
        except WeightsError as error:
            problem = str(error)
        said = f"{model.name} ({model.where}, {model.folder})"
        if problem is None:
            yield Finding("weights", "ok", f"{said}: complete and intact")
            continue
        again = "install b2v again" if shipped else "b2v weights download or import"
        state: State = "fail" if shipped else "warn"
        yield Finding("weights", state, f"{said}: {problem}", f"get them again: {again}")
    for name, verb, state in ((PHOTO_MODEL, "extract", "fail"), (VIDEO_MODEL, "deblur", "warn")):
        if name not in [model.name for model in models]:
            advice = f"name a file with --weights, or make one; see `b2v {verb} --help`"
            yield Finding("weights", state, f"no model {name} for `b2v {verb}`", advice)


def _precision() -> Iterator[Finding]:
    """Restore a small picture as it would be done here, and in fp32 on the CPU; compare."""
    from functools import partial

    from b2v.inference.images import trial
    from b2v.inference.runtime import AGREES, agreement, choose
    from b2v.weights.store import load_model

    chosen, full = choose(), choose("cpu", "fp32")
    other = chosen if chosen != full else choose("cpu", "bf16")
    near = agreement(partial(trial, load_model()), full, other)
    said = f"{other} and fp32 on the CPU agree to {near:.1f} dB"
    if other is not chosen:
        yield Finding("precision", "ok", f"fp32 is used; {said}")
    elif near >= AGREES:
        yield Finding("precision", "ok", said)
    else:
        state: State = "warn" if near >= FAR_DB else "fail"
        yield Finding("precision", state, said, "use --precision fp32, or --device cpu")


NEXT_LINE = " " * 17 + "-> "


def doctor(as_json: options.Json = False) -> None:
    """Check the installation and suggest fixes.

    Versions, devices, codecs, memory, disk, cache, weights, and a small picture restored in
    the precision that is used here and in fp32. Exit code 1 if something fails.
    """
    findings: list[Finding] = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            said = one_line(finding.said)
            typer.echo(f"{finding.state:5} {finding.name:10} {said}")
            if finding.advice:
                typer.echo(f"{NEXT_LINE}{finding.advice}")
    states = [finding.state for finding in findings]
    if as_json:
        report = {"ok": "fail" not in states, "findings": [asdict(one) for one in findings]}
        typer.echo(json.dumps(report))
    else:
        counts = [f"{states.count(state)} {state}" for state in ("ok", "warn", "fail")]
        options.note(", ".join(counts))
    if "fail" in states:
        raise typer.Exit(1)


DIGITS = 4
"""Significant ones; a clock does not tell more."""


class Task(str, Enum):
    """What can be measured; typer takes no list of literals."""

    EXTRACT = "extract"
    MIDDLE = "middle"
    DEBLUR = "deblur"
    TRAIN = "train"


def bench(
    task: Annotated[
        list[Task] | None,
        typer.Option("--task", help="Measure this task; repeatable  [default: all but middle]"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Measure only this model  [default: one per quality]"),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="WxH", help="Pixels, such as 4000x3000 (12 MP); repeatable."),
    ] = None,
    repeats: Annotated[
        int, typer.Option(help="Timed runs of each; long ones run once.", min=1)
    ] = 3,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure speed and memory on this machine.

    Seconds are medians of a photo, its middle frame alone, a frame of a video or a training step,
    files left out.
    """
    from b2v.bench import USUAL, list_cases, look_at, measure
    from b2v.inference.runtime import choose

    cases = list_cases([t.value for t in task or ()] or USUAL, model, [*map(_pixels, size or ())])
    runtime = choose(device, precision)
    machine = look_at(runtime)
    if not as_json:
        where = f"{machine.gpu}, " if machine.gpu else ""
        typer.echo(
            f"{where}{machine.cpu}, {machine.cores} cores, {machine.threads} threads, torch"
            f" {machine.torch}, {machine.device} {machine.precision}, matrix products"
            f" {machine.matrix_gflops:.0f} GFLOP/s"
        )
    rows: list[Row] = []
    for case in cases:
        options.note(f"{case.task} {case.model} {case.width}x{case.height} ...", quiet=quiet)
        rows += measure([case], runtime, machine, repeats=repeats)
    if as_json:
        report = {"machine": asdict(machine), "rows": [asdict(row) for row in rows]}
        typer.echo(json.dumps(_rounded(report)))
    else:
        _print_table(rows)


def _pixels(size: str) -> tuple[int, int]:
    """Read a size such as 1280x720; raises UsageError."""
    match = re.fullmatch(r"(\d{2,5})x(\d{2,5})", size)
    if match is None or min(pixels := (int(match[1]), int(match[2]))) < 16:
        raise UsageError(f"--size {size}: expected width and height, 16 or more, such as 1280x720")
    return pixels


def _rounded(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Round all numbers that are not whole."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _print_table(rows: "list[Row]") -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("task", "model", "size"):
        table.add_column(name, no_wrap=True)
    for name in ("s", "MP/s", "MB", "GFLOP", "of rate"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        memory = "-" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}"
        figures = f"{row.seconds:.3g}", f"{row.megapixels_per_s:.3g}", memory, f"{row.gflop:.4g}"
        table.add_row(row.task, Text(row.model), row.size, *figures, f"{row.share_of_rate:.0%}")
    Console().print(table)
