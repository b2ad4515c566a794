"""What work takes of time and of memory, in the process at hand."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch


def seconds_of(run: Callable[[], object], device: torch.device, shortest: float = 0.0) -> float:
    """Measure the seconds that a run takes until the device has finished.

    Args:
        run: the work.
        device: where its results are made.
        shortest: seconds that are measured at least: a short run is repeated for so long, and
            the mean is given.

    """
    _finish(device)
    started, runs = time.perf_counter(), 0
    while True:
        run()
        _finish(device)
        runs += 1
        if (passed := time.perf_counter() - started) >= shortest:
            return passed / runs


def peak_bytes(device: torch.device) -> int | None:
    """Most memory so far: that torch had allocated on a CUDA device, else of this process.

    The latter is the largest resident size, with Python and torch in it. None where the system
    does not tell. On Linux it is not asked for by `getrusage`, which begins with the size of the
    process that this one was started from.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _finish(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
