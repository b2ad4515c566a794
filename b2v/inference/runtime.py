"""Where and how networks run: device, precision, memory, and pictures of any size in tiles.

A picture is padded, cut into the tiles of the model, run, run again in fp32 where half precision
overflows, cropped and blended.
"""

import contextlib
import ctypes
import json
import math
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from b2v.defaults import GB
from b2v.errors import B2VError, UsageError, WeightsError
from b2v.files import write_whole
from b2v.frames import Tile, Tiling, crop_back, pad_to_multiple
from b2v.metrics import MAX_DB, psnr
from b2v.models import Extractor, Prior

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
    """Settle on a device (auto, cpu, cuda, cuda:N or mps) and a precision (fp32, bf16, fp16).

    A precision of auto is bf16 where the hardware has it natively, else fp32. Raises UsageError
    where the device is not there, or one of the words is unknown.
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
    """Test half precision that was chosen by default, and take fp32 where it differs too much.

    It is tried once for each machine, release of torch and `name`; later starts read the `record`.

    Args:
        runtime: what `choose` gave; returned at once if it is not on trial.
        run: restores a small picture.
        name: of the networks.
        record: file that keeps the results; one that cannot be read or written is none.

    """
    if not runtime.on_trial:
        return runtime
    device = runtime.device
    hardware = f"{device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    if device.type == "cuda":
        hardware = torch.cuda.get_device_name(device)
    key = " ".join([name, torch.__version__, hardware, runtime.precision])
    known: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = dict(json.loads(record.read_text()))
    if not isinstance(known.get(key), float):
        known[key] = agreement(run, Runtime(runtime.device, "fp32"), runtime)
        with contextlib.suppress(OSError):
            record.parent.mkdir(parents=True, exist_ok=True)
            write_whole(record, json.dumps(known))
    return Runtime(runtime.device, runtime.precision if known[key] >= AGREES else "fp32")


def agreement(run: Callable[[Runtime], Tensor], one: Runtime, other: Runtime) -> float:
    """Compare two ways to `run`: PSNR in dB of the worst frame, 100 at most."""
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
    """Turn torch's ways to say that memory is too small for a picture into one error.

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
    """Tell whether an error of torch means that there was not enough memory."""
    return "out of memory" in str(error) or "allocate memory" in str(error)


def is_finite(values: Tensor) -> bool:
    """Look for inf and nan by a sum, which is five times faster than `isfinite` of each value."""
    return bool(values.sum(dtype=torch.float32).isfinite())


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


SHARE = 0.6
"""Part of what is free that is used when nothing else is said."""
UNKNOWN = 8e9
"""Taken to be free where the system does not tell."""
FINISH = 60
"""Bytes a pixel to turn, score and write frames one after the other, the encoder left out."""
KEPT = ((torch.float32, False), (torch.float16, False), (torch.float16, True))
"""Ways to keep frames, the best first: their type, and whether they are in a file."""


@dataclass(frozen=True)
class Plan:
    """How the frames of a picture are kept: as `dtype`, maybe in a file.

    `peak` is the most memory in bytes that the run is expected to need, with what is held already;
    not the pages of the file, which the system writes out when others need their room.
    """

    dtype: torch.dtype
    in_file: bool
    peak: float

    def store(self, frames: int, height: int, width: int) -> Tensor:
        """Make room for frames [frames, 3, H, W]; raises B2VError where the disk is full."""
        shape = (frames, 3, height, width)
        if not self.in_file:
            return torch.empty(shape, dtype=self.dtype)
        size = math.prod(shape)
        with tempfile.NamedTemporaryFile(prefix="b2v-") as file:  # its pages live on unnamed
            _reserve(Path(file.name), size * self.dtype.itemsize)
            return torch.from_file(file.name, shared=True, size=size, dtype=self.dtype).view(shape)


def make_plan(
    work: float,
    frames: int,
    height: int,
    width: int,
    *,
    device: torch.device,
    limit: float | None = None,
) -> Plan:
    """Plan a run in memory that is limited.

    Beside the frames that are kept the networks take `work` bytes, on a GPU not the process's. The
    `limit` is the most that the process may hold, in bytes, the memory of a GPU left out; without,
    what it holds now and `SHARE` of what is free. Raises B2VError, which says what is needed, where
    there is no way to keep within it.
    """
    held = resident_bytes()
    most = held + SHARE * (free_bytes() or UNKNOWN) if limit is None else limit
    pixels = height * width
    work = max(work if device.type == "cpu" else 0.0, FINISH * pixels)
    for dtype, in_file in KEPT:
        kept = 0 if in_file else 3 * frames * dtype.itemsize * pixels
        plan = Plan(dtype, in_file, held + work + kept)
        if plan.peak <= most:
            return plan
    raise B2VError(
        f"{width}x{height} pixels need {plan.peak / GB:.1f} GB of memory, and {most / GB:.1f} GB"
        " may be used; scale the photo down, close other programs, or raise --max-memory"
    )


def resident_bytes() -> float:
    """Bytes that this process holds now; 0 where the system does not tell."""
    return _field(Path("/proc/self/status"), "VmRSS") or 0.0


def peak_bytes(device: torch.device) -> int | None:
    """Most memory so far: that torch had allocated on a CUDA device, else of this process.

    The latter is the largest resident size, with Python and torch in it. None where the system
    does not tell. On Linux it is not asked for by `getrusage`, which begins with the size of the
    process that this one was started from.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    largest = _field(Path("/proc/self/status"), "VmHWM")
    if largest is not None:
        return int(largest)
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def free_bytes(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Bytes that can be had without harm to others: of the machine, and of the control group.

    None where the system does not tell.
    """
    free = [_field(proc / "meminfo", "MemAvailable")]
    for line in _text(proc / "self" / "cgroup").splitlines():
        number, controllers, name = line.split(":", 2)
        if number == "0":
            free += _rooms(groups, name, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            free += _rooms(groups / "memory", name, *names)
    known = [room for room in free if room is not None]
    return max(0.0, min(known)) if known else None


def _rooms(root: Path, name: str, limit: str, usage: str) -> list[float | None]:
    """List what is left in a control group and in each that it is part of."""
    below = Path(name.lstrip("/"))
    return [_room(root / part, limit, usage) for part in (below, *below.parents)]


def _room(group: Path, limit: str, usage: str) -> float | None:
    most, used = _text(group / limit).strip(), _text(group / usage).strip()
    if not most.isdigit() or not used.isdigit():
        return None
    cached = 0
    for line in _text(group / "memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if key in ("inactive_file", "total_inactive_file"):
            cached = int(value)
    return float(most) - float(used) + cached  # files that are kept in memory make room when asked


def _field(table: Path, name: str) -> float | None:
    """Value in bytes of a line `name:  123 kB`; None where there is none."""
    for line in _text(table).splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return 1024.0 * int(value.split()[0])
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _reserve(path: Path, size: int) -> None:
    """Make a file of a size whose room on the disk is certain; to a full disk nobody can write."""
    try:
        with path.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    except OSError as error:
        raise B2VError(
            f"no room for {size / GB:.1f} GB in {path.parent} ({error.strerror}); set TMPDIR to a"
            " larger disk, or scale the photo down"
        ) from error


Call = Callable[..., Tensor]
"""A network: pictures [1, 3, h, w] in, what it makes of them [1, ..., h, w] out."""


def run_tiles(
    prior: Prior,
    picture: Tensor,
    runtime: Runtime | None,
    *,
    wanted: Callable[[Tile], bool] = lambda _: True,
    done: Callable[[int], None] = lambda _: None,
) -> tuple[Tensor, Tensor]:
    """Run a prior on the tiles of a picture that are wanted.

    Args:
        prior: the network, on the runtime's device.
        picture: [3, H, W] in [0, 1], on the CPU.
        runtime: device and precision; what is not finite is run again in fp32. None where the
            caller has seen to both.
        wanted: tells which tiles are run.
        done: is told the pixels of each tile that was.

    Returns:
        What the network changes, [3, H, W], 0 where no tile was run; and the share in which tiles
        were, [1, H, W] in [0, 1].

    Raises:
        WeightsError: values are not finite in fp32, too.

    """
    change, share = torch.zeros_like(picture), picture.new_zeros(1, *picture.shape[1:])
    for tile in prior.tiling.tiles(*picture.shape[1:]):
        if wanted(tile):
            part = tile.of(picture)
            found = run(prior.net, [part], prior.multiple, runtime) - part
            _add(change, share, found, tile, prior.tiling)
            done(tile.height * tile.width)
    change /= share.clamp(min=1)
    return change, share.clamp_(max=1)


def run_frames(
    net: Extractor,
    pictures: Sequence[Tensor],
    runtime: Runtime,
    store: Tensor,
    *,
    done: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Run a model that gives all frames at once, in its tiles or on the whole picture.

    Args:
        net: the model, on the runtime's device.
        pictures: the blurry photo [3, H, W] and, if there is one, its middle frame.
        runtime: device and precision; what is not finite is run again in fp32.
        store: [frames, 3, H, W], to be filled; more than seven go on at both ends.
        done: is told the pixels of each tile.

    Returns:
        `store`, not clamped.

    Raises:
        WeightsError: values are not finite in fp32, too.

    """
    frames, _, height, width = store.shape
    share = torch.zeros(1, height, width)
    store.zero_()
    for tile in tiles_of(net, height, width):
        parts = [tile.of(picture) for picture in pictures]
        found = run(lambda *given: net(*given, frames=frames), parts, net.multiple, runtime)
        _add(store, share, found, tile, net.tiling)
        done(tile.height * tile.width)
    return store.div_(share)


def tiles_of(net: Extractor, height: int, width: int) -> list[Tile]:
    """List the tiles that a model is run on; the whole picture is one where it has none."""
    if net.tiling is None:
        return [Tile(0, 0, height, width)]
    return list(net.tiling.tiles(height, width))


def _add(whole: Tensor, share: Tensor, found: Tensor, tile: Tile, tiling: Tiling | None) -> None:
    """Add what was found in a tile, less towards the tiles beside it."""
    height, width = whole.shape[-2:]
    weights = tiling.weights(tile, height, width) if tiling else torch.ones(height, width)
    tile.of(whole).add_(found.mul_(weights))
    tile.of(share).add_(weights)


def run(net: Call, parts: list[Tensor], multiple: int, runtime: Runtime | None) -> Tensor:
    """Run a network on parts [3, h, w] of pictures: [..., h, w] in fp32, on the CPU."""
    padded = [pad_to_multiple(part[None], multiple) for part in parts]
    size = parts[0].shape[1:]
    if runtime is None:
        return crop_back(net(*padded)[0].float(), *size)
    given = [x.to(runtime.device, memory_format=torch.channels_last) for x in padded]
    with runtime.autocast():
        restored = net(*given)[0].float()
    if not restored.isfinite().all() and runtime.precision != "fp32":
        restored = net(*(x.float() for x in given))[0]
    if not restored.isfinite().all():
        raise WeightsError("the networks give values that are not finite; use other weights")
    return crop_back(restored, *size).cpu()
