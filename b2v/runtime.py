"""Where and how networks run: device, precision, memory layout, allocator."""

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import nn

from b2v.errors import B2VError, UsageError

NetT = TypeVar("NetT", bound=nn.Module)
Precision = Literal["auto", "fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Runtime:
    """A device and the precision of convolutions on it."""

    device: torch.device
    precision: str

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
        precision = "bf16" if _has_bf16(chosen) else "fp32"
    if precision == "fp16" and chosen.type == "cpu":
        raise UsageError("fp16 is for GPUs; on a CPU choose --precision bf16 or fp32")
    return Runtime(chosen, precision)


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
        if "out of memory" in str(error) or "allocate memory" in str(error):
            size = f"{width}x{height}"
            raise B2VError(f"not enough memory for {size} pixels; scale the {what} down") from error
        raise


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
