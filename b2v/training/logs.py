"""What a run writes down of itself, and the processes that share its steps.

A run has a table. Several processes, as `torchrun` starts them, take an equal part of every batch
each, and `DistributedDataParallel` averages the gradients, so the numbers are those of one process
with the whole batch, up to the order in which floating point adds. The folders of the run and of
its banks must be seen by all hosts.
"""

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from b2v.errors import TrainingError, UsageError
from b2v.files import write_whole

TABLE = "metrics.csv"


@dataclass(frozen=True)
class Report:
    """What happened up to a step; validation values are None between validations."""

    step: int
    loss: float
    lr: float
    seconds: float
    waiting: float
    """Part of the time that was spent waiting for data."""
    gain: float | None = None
    """Validation: PSNR in dB over the blurry picture, mean of this stage's frames in the
    better of both orders; of video, of all frames over the blurry ones."""
    steps: int = 0
    """Steps of the stage."""
    left: float = 0.0
    """Seconds to its end, or to that of the minutes, at the pace so far."""


@dataclass(frozen=True)
class Notice:
    """A message for whoever watches the run; `passing` ones may be skipped."""

    text: str
    passing: bool = False


class Journal:
    """Table in a stage's folder, from a step on.

    Its lines after that are of steps that will be done again; they are dropped, and so is a line
    that a killed run did not finish.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.table = folder / TABLE
        text = self.table.read_text(errors="replace") if self.table.exists() else ""
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        if not lines:
            self.table.unlink(missing_ok=True)
            return
        steps = [line.split(",")[0] for line in lines[1:]]
        if not all(map(str.isdecimal, steps)):
            raise TrainingError(f"{self.table}: is damaged; move it away, a new one is begun")
        kept = [line for line, at in zip(lines[1:], steps, strict=True) if int(at) <= step]
        write_whole(self.table, lines[0] + "".join(kept))

    def add(self, report: Report) -> None:
        """Append a report."""
        values = {name: x for name, x in asdict(report).items() if name not in ("steps", "left")}
        new = not self.table.exists()
        with self.table.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(values))
            if new:
                writer.writeheader()
            writer.writerow(values)


PATIENCE = timedelta(hours=2)
"""How long the others wait for the process that validates and writes."""


@dataclass(frozen=True)
class Team:
    """Which process this is, and how many there are; `rank` 0 leads: it alone writes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Tell whether this process is the one that writes and prints."""
        return self.rank == 0

    def part(self, batch: int) -> range:
        """Give the places in each batch that are this process's.

        Raises UsageError when the batch cannot be divided evenly.
        """
        if batch % self.size:
            raise UsageError(
                f"batch {batch} does not suit {self.size} processes; take a multiple of {self.size}"
            )
        each = batch // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def share(self, module: nn.Module, *, partly: bool = False) -> nn.Module:
        """Have the gradients of a module's backward pass averaged over all processes.

        `partly` says that a pass may leave some of its weights out.
        """
        if self.size == 1:
            return module
        return DistributedDataParallel(module, find_unused_parameters=partly)

    def mean(self, values: Tensor) -> Tensor:
        """Average values over all processes."""
        if self.size == 1:
            return values
        values = values.clone()
        distributed.all_reduce(values)
        return values / self.size

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Team()


def place_in_team() -> Team:
    """Tell which process this is, as `torchrun` has set it; without that there is one."""
    return Team(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def own_device(device: str) -> str:
    """Name the device of this process: of several CUDA devices of a host each takes its own."""
    if place_in_team().size > 1 and device in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return device


@contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """Join the group of processes, by gloo on a CPU and nccl on CUDA; leave it at the end."""
    team = place_in_team()
    if team.size == 1:
        yield team
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield team
    finally:
        distributed.destroy_process_group()
