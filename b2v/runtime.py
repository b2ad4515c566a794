"""Where and how networks run: device, precision, memory layout, allocator."""

import contextlib
import ctypes
import json
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from b2v.errors import B2VError, UsageError
from b2v.metrics import MAX_DB, psnr

NetT = TypeVar("NetT", bound=nn.Module)
Precision = Literal["auto", "fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 2**31 - 1
AGREES = 45.0
"""PSNR in dB from which half precision is as good as fp32: 1.4 code values of 255, unseen."""


@dataclass(frozen=True)
class Runtime:
    """A device and the precision of convolutions on it.

    `on_trial` says that nobody has asked for this half precision: see `tried`.
    """

    device: torch.device
    precision: str
    on_trial: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Type that convolutions compute in."""
        return _DTYPES[self.precision]

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Context in which networks compute in `dtype`."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def place(self, net: NetT) -> NetT:
        """Move `net` to the device, in the layout that its convolutions are fastest in."""
        return net.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __str__(self) -> str:
        return f"{self.device} {self.precision}"


def choose(device: str = "auto", precision: str = "auto") -> Runtime:
    """Settle on a device and a precision.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto (bf16 where the hardware has it natively, else fp32), fp32, bf16, fp16.

    Raises:
        UsageError: the device is not there, or one of the words is unknown.

    """
    if precision not in ("auto", *_DTYPES):
        raise UsageError(f"unknown precision {precision!r}; choose auto, fp32, bf16 or fp16")
    chosen = _device(device)
    if precision == "auto":
        native = _has_bf16(chosen)
        return Runtime(chosen, "bf16" if native else "fp32", on_trial=native)
    if precision == "fp16" and chosen.type == "cpu":
        raise UsageError("fp16 is for GPUs; on a CPU choose --precision bf16 or fp32")
    return Runtime(chosen, precision)


def tried(runtime: Runtime, run: Callable[[Runtime], Tensor], name: str, record: Path) -> Runtime:
    """Keep half precision that nobody asked for only if it does what fp32 does; else take fp32.

    It is tried once for each machine, release of torch and `name`; later starts read the `record`.

    Args:
        runtime: what `choose` gave; returned at once if it is not on trial.
        run: restores a small picture.
        name: of the networks.
        record: file that keeps the results; one that cannot be read or written is none.

    """
    if not runtime.on_trial:
        return runtime
    key = " ".join([name, torch.__version__, _hardware(runtime.device), runtime.precision])
    known: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = dict(json.loads(record.read_text()))
    if not isinstance(known.get(key), float):
        known[key] = agreement(run, Runtime(runtime.device, "fp32"), runtime)
        part = record.with_name(f"{record.name}.{os.getpid()}.part")
        with contextlib.suppress(OSError):
            record.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(known))
            part.replace(record)
    return Runtime(runtime.device, runtime.precision if known[key] >= AGREES else "fp32")


def agreement(run: Callable[[Runtime], Tensor], one: Runtime, other: Runtime) -> float:
    """Say how near `run` comes by two ways: PSNR in dB of its worst frame, 100 at most."""
    meant = run(one)
    return round(float(psnr(run(other), meant, max_db=MAX_DB).min()), 2)


def keep_large_blocks() -> None:
    """Let glibc keep big freed blocks instead of giving them back at once; harmless elsewhere.

    Every activation would else be mapped anew, at the cost of a page fault per 4 KiB.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST)


@contextlib.contextmanager
def memory_for(height: int, width: int, what: str) -> Iterator[None]:
    """Tell in words that the memory was too small for a picture, which torch does in its own way.

    `what` is what the user could scale down. Raises B2VError instead of torch's RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            size = f"{width}x{height}"
            raise B2VError(f"not enough memory for {size} pixels; scale the {what} down") from error
        raise


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether torch says, in one of its ways, that there was not enough memory."""
    return "out of memory" in str(error) or "allocate memory" in str(error)


def release(device: torch.device) -> None:
    """Give back what torch keeps of a GPU's memory for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def is_finite(values: Tensor) -> bool:
    """Look for inf and nan by a sum, which is five times faster than `isfinite` of each value."""
    return bool(values.sum(dtype=torch.float32).isfinite())


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            f"unknown device {name!r}; choose auto, cpu, cuda, cuda:N or mps"
        ) from error
    if device.type == "cuda" and not 0 <= (device.index or 0) < torch.cuda.device_count():
        raise UsageError(f"device {name}: {torch.cuda.device_count()} CUDA devices found here")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device mps: no Apple GPU found here")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"unknown device {name!r}; choose auto, cpu, cuda, cuda:N or mps")
    return device


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Older releases of torch cannot tell, and fp32 is always right.
        found: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return False
