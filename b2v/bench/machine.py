"""What the machine is, and what it can do at best: convolutions and copies, nothing around them."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional as F

from b2v.bench.meter import seconds_of
from b2v.bench.routes import Setup
from b2v.runtime import choose, keep_large_blocks

CHANNELS = (48, 64, 96, 128, 160)
"""Those of the networks' 3x3 convolutions."""
MAP = (180, 320)
"""Height and width of the maps: a quarter of 720P, where the networks do most of their work."""
LAYOUTS = (torch.channels_last, torch.contiguous_format)
COPIED = 256 * 2**20
"""Bytes of the block that is copied: more than any cache holds."""
PROBES = 3


@dataclass(frozen=True)
class Machine:
    """Where it was measured; `cores` are the processors that the process may use.

    `precision` is that of our route; the straightforward one computes in fp32.
    """

    cpu: str
    cores: int
    threads: int
    torch: str
    device: str
    gpu: str | None
    precision: str


@dataclass(frozen=True)
class Ceiling:
    """Best rates: convolutions 3x3 over channel counts and layouts, and copies.

    The former in 10^9 operations a second, two for a multiply-add: fp32; bf16 where the hardware
    has it natively; fp16 where it was chosen. `copy_gb_s` counts what is read and what is written,
    in 10^9 bytes a second.
    """

    conv_fp32_gflops: float
    conv_bf16_gflops: float | None
    conv_fp16_gflops: float | None
    copy_gb_s: float

    def conv_gflops(self, precision: str) -> float | None:
        """Rate of convolutions in fp32, bf16 or fp16; None where it was not measured."""
        rates = {
            "fp32": self.conv_fp32_gflops,
            "bf16": self.conv_bf16_gflops,
            "fp16": self.conv_fp16_gflops,
        }
        return rates[precision]


class Probe:
    """Looks at the machine, from a process of its own."""

    def __init__(self, setup: Setup) -> None:
        setup.use_threads()
        keep_large_blocks()
        self._setup = setup
        self._runtime = choose(setup.device, setup.precision)

    def machine(self) -> Machine:
        """Say what it is."""
        device = self._runtime.device
        may_use = getattr(os, "sched_getaffinity", None)
        return Machine(
            cpu=cpu_name(),
            cores=len(may_use(0)) if may_use else os.cpu_count() or 1,
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            device=str(device),
            gpu=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
            precision=self._runtime.precision,
        )

    def ceiling(self) -> Ceiling:
        """Measure its best rates."""
        native = choose(self._setup.device, "auto").precision == "bf16"
        return Ceiling(
            conv_fp32_gflops=self._convolve("fp32"),
            conv_bf16_gflops=self._convolve("bf16") if native else None,
            conv_fp16_gflops=self._convolve("fp16") if self._setup.precision == "fp16" else None,
            copy_gb_s=self._copy(),
        )

    def _convolve(self, precision: str) -> float:
        """Best rate of 3x3 convolutions, in GFLOP/s."""
        device, dtype = self._runtime.device, choose(self._setup.device, precision).dtype
        batch = 1 if device.type == "cpu" else 8  # enough work to hide that it is handed over
        height, width = (16, 16) if self._setup.quick else MAP
        rates = []
        for channels, layout in product(CHANNELS, LAYOUTS):
            maps = torch.randn(batch, channels, height, width, device=device, dtype=dtype)
            weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
            maps, weight = (x.contiguous(memory_format=layout) for x in (maps, weight))
            operations = 2 * 9 * channels**2 * batch * height * width
            seconds = self._median(partial(F.conv2d, maps, weight, padding=1))
            rates.append(operations / seconds / 1e9)
        return max(rates)

    def _copy(self) -> float:
        """Rate of copies, in GB/s read and written."""
        size = COPIED // 256 if self._setup.quick else COPIED
        source = torch.ones(size, dtype=torch.uint8, device=self._runtime.device)
        target = torch.empty_like(source)
        return 2 * size / self._median(lambda: target.copy_(source)) / 1e9

    @torch.no_grad()
    def _median(self, run: Callable[[], object]) -> float:
        """Median seconds of a run, after one to warm up."""
        run()
        shortest = self._setup.shortest / 2
        return median(seconds_of(run, self._runtime.device, shortest) for _ in range(PROBES))


def cpu_name(table: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the processor as its maker gives it, or as near to it as the system knows."""
    if table.is_file():
        for line in table.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"
