"""Writing a dataset: sequences in parallel, windows one after the other, resumably.

`dataset.json` holds the settings and sequences, so that a stopped run goes on only with the same
ones. A line is added to `manifest.jsonl` once the files of its window are in place; at the end
the lines are put in order.

Where the pictures of a window go, in the layouts that others' training code reads:

| layout | blurry | sharp |
|---|---|---|
| gopro7 | `<split>/blur/<seq>/<center>.png` | `<split>/sharp/<seq>/NNNNNN.png`, every frame |
| gopro | `<split>/<seq>/{blur,blur_gamma}/NNNNNN.png` | `<split>/<seq>/sharp/NNNNNN.png` |
| reds | `<split>/<split>_blur/000/00000000.png` | `…_sharp/…`, every frame in `…_orig/…` |
| bsd | `<split>/000/Blur/RGB/00000000.png` | `<split>/000/Sharp/RGB/00000000.png` |
| pairs | `<split>/input/<seq>-NNNNNN.png` | `<split>/target/<seq>-NNNNNN.png` |

Where only one sharp frame is kept it is the middle one. In gopro, `blur` averages code values
and `blur_gamma` light, as in GOPRO_Large; elsewhere the settings say which.
"""

import hashlib
import json
import signal
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple

import torch
from torch import Tensor

from b2v import __version__
from b2v.data.clip_cache import end_with_parent
from b2v.data.rendering import (
    Faults,
    Layout,
    Light,
    Settings,
    Window,
    load_objects,
    windows_of_photo,
    windows_of_video,
    with_noise,
)
from b2v.data.sources import MANIFEST, Sequence
from b2v.errors import B2VError, DatasetError, UsageError
from b2v.files import hidden_part, write_whole
from b2v.media.images import write_photo


class Names(NamedTuple):
    """Files of a window, relative to the dataset, without suffix."""

    blurry: dict[Light, str]
    sharp: list[tuple[int, str]]  # frame of the window, from 0, and where it goes


def names_of(layout: Layout, sequence: Sequence, window: Window) -> Names:
    """Name the files of a window of a sequence."""
    split, seq, middle = sequence.split, sequence.name, len(window.numbers) // 2
    center, place = f"{window.numbers[middle]:06d}", f"{sequence.index:03d}/{window.index:08d}"

    def blurry(name: str) -> dict[Light, str]:
        return dict.fromkeys(window.blurry, name)

    if layout == "gopro7":
        all_sharp = enumerate(window.numbers)
        sharp = [(i, f"{split}/sharp/{seq}/{number:06d}") for i, number in all_sharp]
        return Names(blurry(f"{split}/blur/{seq}/{center}"), sharp)
    if layout == "gopro":
        both: dict[Light, str] = {
            "linear": f"{split}/{seq}/blur_gamma/{center}",
            "code": f"{split}/{seq}/blur/{center}",
        }
        return Names(both, [(middle, f"{split}/{seq}/sharp/{center}")])
    if layout == "reds":
        orig = f"{split}/{split}_orig/{sequence.index:03d}"
        every = [(i, f"{orig}/{position:08d}") for i, position in enumerate(window.positions)]
        sharp = [(middle, f"{split}/{split}_sharp/{place}"), *every]
        return Names(blurry(f"{split}/{split}_blur/{place}"), sharp)
    if layout == "bsd":
        folder, name = f"{split}/{sequence.index:03d}", f"RGB/{window.index:08d}"
        return Names(blurry(f"{folder}/Blur/{name}"), [(middle, f"{folder}/Sharp/{name}")])
    pair = f"{seq}-{center}"
    return Names(blurry(f"{split}/input/{pair}"), [(middle, f"{split}/target/{pair}")])


CARD = "dataset.json"

Done = dict[tuple[str, str], set[int]]
"""Windows that are done of each sequence, by split and name."""


@dataclass(frozen=True)
class Plan:
    """A dataset to write; every sequence has its split, name and index."""

    folder: Path
    settings: Settings
    sequences: tuple[Sequence, ...]

    def card(self) -> str:
        """Describe the dataset in JSON."""
        listed = [
            {"split": s.split, "name": s.name, "kind": s.kind, "source": str(s.path)}
            for s in self.sequences
        ]
        about = {"version": __version__, "settings": asdict(self.settings), "sequences": listed}
        return json.dumps(about, indent=1) + "\n"


def open_dataset(plan: Plan) -> Done:
    """Make the folder of a dataset, or go on with one; list the windows that are done.

    Raises UsageError where the folder holds something else, or a dataset made in another way.
    """
    card, manifest = plan.folder / CARD, plan.folder / MANIFEST
    if card.exists():
        if card.read_text() != plan.card():
            raise UsageError(
                f"{plan.folder}: holds a dataset of other settings or sources; name another folder"
            )
    else:
        left = hidden_part(card)  # of a run that was killed as it began
        there = plan.folder.exists()
        if there and not (plan.folder.is_dir() and {*plan.folder.iterdir()} <= {left}):
            raise UsageError(f"{plan.folder}: exists and holds no dataset; name a new folder")
        plan.folder.mkdir(parents=True, exist_ok=True)
        write_whole(card, plan.card())
    done: Done = {}
    kept = _whole_lines(plan.folder) if manifest.exists() else []
    for record in kept:
        done.setdefault((record["split"], record["sequence"]), set()).add(record["window"])
    write_whole(manifest, _text(kept))
    return done


def write_window(
    folder: Path, sequence: Sequence, window: Window, settings: Settings, written: set[str]
) -> dict[str, Any]:
    """Write the pictures of a window and return its line of the manifest.

    Sharp frames in `written` are there already, from a window before; new ones are added to it.
    """
    names, suffix = names_of(settings.layout, sequence, window), settings.suffix
    for frame, name in names.sharp:
        if name not in written:
            _write(window.sharp[frame], folder / f"{name}.{suffix}")
    written.update(name for _, name in names.sharp)
    for kind, pixels in window.blurry.items():
        _write(pixels, folder / f"{names.blurry[kind]}.{suffix}")
    blurry = f"{names.blurry[settings.light]}.{suffix}"
    middle = len(window.numbers) // 2
    return {
        "split": sequence.split,
        "sequence": sequence.name,
        "window": window.index,
        "source": str(sequence.path),
        "frames": [window.numbers[0], window.numbers[-1]],
        "tau": len(window.numbers),
        "period": window.period,
        "sub_frames": window.sub_frames,
        "light": settings.light,
        "curve": settings.curve if settings.light == "linear" else None,
        "scale": round(window.scale, 6),
        "noise": settings.noise,
        "seed": settings.seed,
        "aperture": settings.aperture,
        "blurry": blurry,
        "sharp": next(f"{name}.{suffix}" for frame, name in names.sharp if frame == middle),
        "sha256": hashlib.sha256((folder / blurry).read_bytes()).hexdigest(),
        "version": __version__,
    }


def _write(pixels: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_photo(pixels, path, overwrite=True)


def _whole_lines(folder: Path) -> list[dict[str, Any]]:
    """Read the manifest, but for a last line that a killed run did not finish."""
    lines = (folder / MANIFEST).read_text().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        del lines[-1]
    try:
        records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    except ValueError as error:
        raise DatasetError(f"{folder / MANIFEST}: is damaged; delete its bad lines") from error
    return [record for record in records if (folder / record["blurry"]).exists()]


def _text(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


DEFAULT_SPLIT = "train"
POLL = 0.2
"""Seconds between two looks at whether a worker has died."""


@dataclass(frozen=True)
class Written:
    """A window is in place; `record` is its line of the manifest."""

    record: dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """A sequence has come to its end: windows written now, those there before, what was wrong."""

    sequence: Sequence
    written: int
    before: int
    problem: str


Report = Written | Finished


class Task(NamedTuple):
    """One sequence to do, but for the windows `done`."""

    folder: Path
    settings: Settings
    sequence: Sequence
    done: frozenset[int]


def plan(sequences: list[Sequence], settings: Settings, folder: Path) -> Plan:
    """Settle the split, the name and the index of every sequence.

    Sequences stay in the splits of their sources; others are put into `DEFAULT_SPLIT`.
    """
    taken: dict[str | None, set[str]] = {}
    numbered = []
    for sequence in sequences:
        split, name, count = sequence.split or DEFAULT_SPLIT, sequence.name, 1
        names = taken.setdefault(split, set())
        while name.casefold() in names:  # street, street-2 and so on
            count += 1
            name = f"{sequence.name}-{count}"
        numbered.append(replace(sequence, split=split, name=name, index=len(names)))
        names.add(name.casefold())
    return Plan(folder, settings, tuple(numbered))


def synthesize(plan: Plan, jobs: int = 1) -> Iterator[Report]:
    """Write all windows of a plan that are not there yet, `jobs` sequences at a time.

    What is wrong with a sequence is reported with its end, and the others go on.

    Raises UsageError where the folder holds something else; B2VError where pictures cannot be
    written, or objects not be read.
    """
    objects = load_objects(plan.settings.objects)
    done = open_dataset(plan)
    tasks = [
        Task(plan.folder, plan.settings, s, frozenset(done.get((str(s.split), s.name), ())))
        for s in plan.sequences
    ]
    jobs = min(jobs, len(tasks))
    alone = (report for task in tasks for report in _do(task, objects))
    with closing(_in_parallel(tasks, jobs) if jobs > 1 else alone) as reports:
        for report in reports:
            if isinstance(report, Written):  # its files are in place
                with (plan.folder / MANIFEST).open("a") as file:
                    file.write(_text([report.record]))
            yield report
    records = _whole_lines(plan.folder)  # in whatever order they were made
    records.sort(key=lambda r: (r["split"], r["sequence"], r["window"]))
    write_whole(plan.folder / MANIFEST, _text(records))


def _do(task: Task, objects: list[torch.Tensor]) -> Iterator[Report]:
    """Write the windows of one sequence; errors of reading it end it, those of writing pass."""
    faults, written, names = Faults(), 0, set[str]()
    what = task.sequence, task.settings
    if task.sequence.kind == "photo":
        windows = windows_of_photo(*what, objects, task.done)
    else:
        windows = windows_of_video(*what, task.done, faults)
    problem = ""
    while True:
        try:
            window = next(windows, None)
        except B2VError as error:
            problem = str(error)
            break
        if window is None:
            break
        noisy = with_noise(window, task.sequence, task.settings)
        record = write_window(task.folder, task.sequence, noisy, task.settings, names)
        written += 1
        yield Written(record)
    found = "; ".join(filter(None, [problem, str(faults)]))
    path = str(task.sequence.path)
    found = found if not found or path in found else f"{path}: {found}"
    yield Finished(task.sequence, written, len(task.done), found)


class _Worker:
    """What a worker process was started with."""

    queue: "Queue[Report]"
    stop: Event


def _start(queue: "Queue[Report]", stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    end_with_parent()
    queue.cancel_join_thread()
    torch.set_num_threads(1)
    _Worker.queue, _Worker.stop = queue, stop


def _work(task: Task) -> None:
    for report in _do(task, load_objects(task.settings.objects)):
        _Worker.queue.put(report)
        if _Worker.stop.is_set():
            return


def _in_parallel(tasks: list[Task], jobs: int) -> Generator[Report, None, None]:
    context = get_context("spawn")
    queue: Queue[Report] = context.Queue()
    stop = context.Event()
    pool = ProcessPoolExecutor(jobs, context, _start, (queue, stop))
    try:
        futures = [pool.submit(_work, task) for task in tasks]
        left = len(tasks)
        while left:
            try:
                report = queue.get(timeout=POLL)
            except Empty:
                for future in futures:
                    if future.done():
                        future.result()  # raises what ended the worker
                continue
            left -= isinstance(report, Finished)
            yield report
    except BrokenProcessPool as error:
        raise B2VError("a worker died, perhaps for lack of memory; lower -j and go on") from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
