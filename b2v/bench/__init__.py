"""How fast b2v is on this machine, beside the straightforward route of the same networks.

The straightforward route is what one writes first: fp32, contiguous tensors, the allocator as it
comes, the plain forward pass of the module (for pictures: pad, run, crop, clamp). Ours is what the
commands run: `b2v.inference.restore` and `b2v.streaming.Deblurrer` with the precision and layout of
`b2v.runtime`, and its `keep_large_blocks`. On a GPU fp32 is what torch makes of it by default.

How it is measured. The allocator's setting cannot be taken back and would change the other route
as well, and times taken one after the other hide that the machine has become slower meanwhile. So
for every case each route lives in a fresh process of its own (`b2v.bench.worker`), warms up, and
is then asked in turn, A B A B: one works while the other waits, and the medians are compared. What
the processes have needed at most is the peak memory of the routes (`b2v.bench.meter`); both are
there at the same time. Times of a GPU are taken after it has finished.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from b2v.bench.machine import Ceiling, Machine, Probe
from b2v.bench.routes import TASKS, Case, Route, Setup, list_cases
from b2v.bench.worker import Worker

GIGA, MEGA = 1e9, 1e6
MOST_DB = 100.0
"""Stands for equal outputs: JSON has no infinite numbers."""


@dataclass(frozen=True)
class Row:
    """One case by both routes; `_plain` is the straightforward one.

    `seconds` are those of one picture, one frame or one training step; `ratio` is how many times
    faster ours is. `fps` are the frames a second of the network for video, `command_fps` those of
    the whole command, files and all; `megapixels_per_s` are those of pictures that come in.
    `gflop` counts two operations for a multiply-add, and `fraction_of_ceiling` is how much of the
    convolution rate of this precision ours reaches (`Ceiling`); None where that
    was not measured. `peak_memory_mb` is, on a CPU, the largest resident size of a process that
    did nothing else, with Python and torch in it (some 250 MB); on a GPU the most that torch had
    allocated there. `agreement_db` is the PSNR of the one route's frames against the other's, for
    training the signal-to-noise ratio of its gradients; 100 at most.
    """

    task: str
    size: str
    model: str
    trained: bool
    seconds_plain: float
    seconds: float
    ratio: float
    fps: float | None
    command_fps: float | None
    megapixels_per_s: float
    gflop: float
    fraction_of_ceiling: float | None
    peak_memory_mb_plain: float | None
    peak_memory_mb: float | None
    agreement_db: float


class Asked(Protocol):
    """What answers when it is asked, as a `Worker` does."""

    def ask(self, method: str) -> Any:  # noqa: ANN401 - as many types as methods
        """Run a method and return what it returns."""


def look_at(setup: Setup) -> tuple[Machine, Ceiling]:
    """Say what the machine is, and measure what it can do at best; raises B2VError."""
    with Worker(Probe, setup) as probe:
        return probe.ask("machine"), probe.ask("ceiling")


def measure(
    cases: Iterable[Case], setup: Setup, ceiling: Ceiling, *, repeats: int = 5
) -> Iterator[Row]:
    """Measure cases one after the other, both routes of each in turn.

    Args:
        cases: as of `list_cases`; each is taken when it is its turn.
        setup: device, precision of our route, threads.
        ceiling: what the machine can do (`look_at`).
        repeats: times that each route is timed after it has warmed up.

    Raises:
        B2VError: the weights cannot be loaded, or the memory is too small.

    """
    for case in cases:
        with Worker(Route, case, setup, False) as plain, Worker(Route, case, setup, True) as ours:
            decibels = agreement(plain.ask("first"), ours.ask("first"), peak=case.peak)
            seconds_plain, seconds = map(median, take_turns((plain, ours), repeats))
            peaks = [worker.ask("peak_bytes") for worker in (plain, ours)]
            operations = ours.ask("operations")
            whole = ours.ask("command_seconds") if case.task == "deblur" else None
        rate = ceiling.conv_gflops(setup.precision)
        memory_plain, memory = (None if peak is None else peak / MEGA for peak in peaks)
        yield Row(
            task=case.task,
            size=case.size,
            model=case.model,
            trained=case.trained,
            seconds_plain=seconds_plain,
            seconds=seconds,
            ratio=seconds_plain / seconds,
            fps=1 / seconds if case.task == "deblur" else None,
            command_fps=None if whole is None else 1 / whole,
            megapixels_per_s=case.batch * case.width * case.height / MEGA / seconds,
            gflop=operations / GIGA,
            fraction_of_ceiling=None if rate is None else operations / GIGA / seconds / rate,
            peak_memory_mb_plain=memory_plain,
            peak_memory_mb=memory,
            agreement_db=decibels,
        )


def take_turns(workers: Sequence[Asked], repeats: int) -> list[list[float]]:
    """Ask workers for `seconds` in turn, A B A B; the answers of each."""
    seconds: list[list[float]] = [[] for _ in workers]
    for _ in range(repeats):
        for worker, taken in zip(workers, seconds, strict=True):
            taken.append(worker.ask("seconds"))
    return seconds


def agreement(
    expected: npt.NDArray[np.float32], found: npt.NDArray[np.float32], *, peak: float | None = 1.0
) -> float:
    """Ratio of a signal to the difference of two versions of it, in dB, `MOST_DB` at most.

    Args:
        expected: one version, of any shape.
        found: the other, of the same shape.
        peak: strength of the signal, 1 for pictures; None for its own mean square.

    """
    power = np.square(expected, dtype=np.float64).mean() if peak is None else peak**2
    noise = np.square(expected - found, dtype=np.float64).mean()
    if not noise > power * 10 ** (-MOST_DB / 10):
        return MOST_DB
    return 10 * math.log10(power / noise) if power else -MOST_DB


__all__ = [
    "TASKS",
    "Asked",
    "Case",
    "Ceiling",
    "Machine",
    "Row",
    "Setup",
    "agreement",
    "list_cases",
    "look_at",
    "measure",
    "take_turns",
]
