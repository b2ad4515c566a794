"""Writing a dataset: sequences in parallel, windows one after the other, resumably."""

import signal
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple

import torch
from numpy.random import default_rng

from b2v.errors import B2VError, UsageError
from b2v.orphans import end_with_parent
from b2v.synthesis.manifest import Plan, append, open_dataset, put_in_order, write_window
from b2v.synthesis.reading import Faults, load_objects
from b2v.synthesis.recipe import Settings
from b2v.synthesis.sources import Sequence, with_own_names
from b2v.synthesis.windows import windows_of, with_noise

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


def plan(
    sequences: list[Sequence],
    settings: Settings,
    folder: Path,
    splits: dict[str, float] | None = None,
) -> Plan:
    """Settle the split, the name and the index of every sequence.

    Whole sequences are dealt out by the shares in `splits`, at random by the seed, and each
    split gets one at least where there are enough; None leaves them in the splits of their
    sources, or in `DEFAULT_SPLIT`.

    Raises:
        UsageError: shares do not add up to 1.

    """
    if splits is None:
        dealt = [replace(s, split=s.split or DEFAULT_SPLIT) for s in sequences]
    else:
        dealt = _deal(sequences, settings.seed, splits)
    counts: dict[str | None, int] = {}
    numbered = []
    for sequence in with_own_names(dealt):
        index = counts.setdefault(sequence.split, 0)
        counts[sequence.split] = index + 1
        numbered.append(replace(sequence, index=index))
    return Plan(folder, settings, tuple(numbered))


def _deal(sequences: list[Sequence], seed: int, splits: dict[str, float]) -> list[Sequence]:
    if not splits or min(splits.values()) <= 0 or abs(sum(splits.values()) - 1) > 1e-3:
        raise UsageError("shares of splits must be above 0 and add up to 1: train:0.8,test:0.2")
    count, names = len(sequences), list(splits)
    if count < len(names):
        raise UsageError(f"{count} sequences cannot be dealt out to {', '.join(names)}")
    ends: list[int] = []
    total = 0.0
    for place, name in enumerate(names, start=1):
        total += splits[name]
        least = ends[-1] + 1 if ends else 1
        ends.append(min(max(round(total * count), least), count - (len(names) - place)))
    ends[-1] = count
    order = default_rng(seed).permutation(count)
    which = {int(i): sum(rank >= end for end in ends) for rank, i in enumerate(order)}
    return [replace(s, split=names[which[i]]) for i, s in enumerate(sequences)]


def synthesise(plan: Plan, jobs: int = 1) -> Iterator[Report]:
    """Write all windows of a plan that are not there yet, `jobs` sequences at a time.

    What is wrong with a sequence is reported with its end, and the others go on.

    Raises:
        UsageError: the folder holds something else.
        B2VError: pictures cannot be written, or objects not be read.

    """
    load_objects(plan.settings.objects)  # fails here, once, rather than in every sequence
    done = open_dataset(plan)
    tasks = [
        Task(plan.folder, plan.settings, s, frozenset(done.get((str(s.split), s.name), ())))
        for s in plan.sequences
    ]
    jobs = min(jobs, len(tasks))
    reports = _in_parallel(tasks, jobs) if jobs > 1 else _one_by_one(tasks)
    try:
        for report in reports:
            if isinstance(report, Written):
                append(plan.folder, report.record)
            yield report
    finally:
        reports.close()
    put_in_order(plan.folder)


def _one_by_one(tasks: list[Task]) -> Generator[Report, None, None]:
    objects = load_objects(tasks[0].settings.objects)
    for task in tasks:
        yield from _do(task, objects)


def _do(task: Task, objects: list[torch.Tensor]) -> Iterator[Report]:
    """Write the windows of one sequence; errors of reading it end it, those of writing pass."""
    faults, written, names = Faults(), 0, set[str]()
    windows = windows_of(task.sequence, task.settings, objects, task.done, faults)
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
                _raise_errors(futures)
                continue
            left -= isinstance(report, Finished)
            yield report
    except BrokenProcessPool as error:
        raise B2VError("a worker died, perhaps for lack of memory; lower -j and go on") from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _raise_errors(futures: "list[Future[None]]") -> None:
    for future in futures:
        if future.done():
            future.result()
