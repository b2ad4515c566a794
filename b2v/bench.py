"""How fast b2v is on this machine, and how much of what the machine can do it uses.

Each case runs in a fresh process, so that its peak memory is its own: once to warm up, while its
operations are counted, then a few times for the median of its seconds. The machine's matrix rate
is that of large matrix products in the precision that the networks run in.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from b2v.defaults import MB, PHOTO_MODELS, VIDEO_MODELS
from b2v.errors import B2VError, UsageError, WeightsError
from b2v.evaluate import restore_middle
from b2v.frames import FRAMES
from b2v.inference.images import restore
from b2v.inference.runtime import Runtime, choose, keep_large_blocks, peak_bytes
from b2v.inference.videos import Deblurrer, load_line
from b2v.models import MODELS, ROLES, Cascade, Extractor, assemble
from b2v.training.config import TrainConfig, is_for_video
from b2v.training.stages import compare, new_network
from b2v.weights.store import load_model

PHOTO_TASKS = ("extract", "middle")
TASKS = (*PHOTO_TASKS, "deblur", "train")
USUAL = ("extract", "deblur", "train")
"""What is measured unless something else is asked for; `middle` is the middle frame alone."""
SIZES = {
    **dict.fromkeys(PHOTO_TASKS, ((512, 320), (1280, 720))),
    "deblur": ((640, 480), (1280, 720)),
}
"""Width and height of what is measured unless another size is asked for."""
CROP, CROPS = 128, 4
"""Side and number of the crops of a training step."""
LONG = 60.0
"""Seconds after which a case is not timed again."""
SHIFT = 2
"""Pixels a frame by which the made-up pictures move."""
MATRIX, PRODUCTS = 2048, 5
"""Side of the matrices whose product tells the machine's rate, and how often it is taken."""
FAST = 8
"""Pixels that the picture of a video moves from frame to frame: less blurs next to nothing, and is
left as it is."""

Run = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A task on pictures of a size, by a model."""

    task: str
    model: str
    width: int
    height: int

    @property
    def pictures(self) -> int:
        """Pictures that it takes at once."""
        return CROPS if self.task == "train" else 1


@dataclass(frozen=True)
class Machine:
    """The machine of a measurement; `cores` are the processors that this process may use."""

    cpu: str
    cores: int
    threads: int
    torch: str
    device: str
    gpu: str | None
    precision: str
    matrix_gflops: float
    """10^9 operations a second, two for a multiply-add."""


@dataclass(frozen=True)
class Row:
    """A case as it was measured: seconds a photo, a frame, or a training step.

    `peak_memory_mb` is, on a CPU, the largest resident size of a process that did nothing else,
    with Python and torch in it; on a GPU the most that torch had allocated there.
    """

    task: str
    model: str
    size: str
    seconds: float
    megapixels_per_s: float
    peak_memory_mb: float | None
    gflop: float
    share_of_rate: float


def list_cases(
    tasks: Sequence[str] = USUAL,
    model: str | None = None,
    sizes: Sequence[tuple[int, int]] = (),
) -> list[Case]:
    """List what is to be measured: some of `TASKS`, by one model or those of all qualities.

    `sizes` are widths and heights of pictures, instead of `SIZES`. Raises UsageError where the
    model does none of the tasks.
    """
    models = dict.fromkeys(PHOTO_TASKS, tuple(PHOTO_MODELS.values()))
    models["deblur"] = tuple(VIDEO_MODELS.values())
    if model is not None:
        video = is_for_video(model) or tuple(tasks) == ("deblur",)
        own = ("deblur",) if video else PHOTO_TASKS
        tasks, models = [task for task in tasks if task in own], dict.fromkeys(own, (model,))
        if not tasks:
            raise UsageError(f"{model} is for --task {' or '.join(own)}")
    cases = [
        Case(task, name, *pixels)
        for task in TASKS[:3]
        if task in tasks
        for pixels in sizes or SIZES[task]
        for name in models[task]
    ]
    return cases + ([Case("train", TrainConfig().model, CROP, CROP)] if "train" in tasks else [])


def look_at(runtime: Runtime) -> Machine:
    """Describe this machine, and measure its rate."""
    device = runtime.device
    may_use = getattr(os, "sched_getaffinity", None)
    return Machine(
        cpu=cpu_name(),
        cores=len(may_use(0)) if may_use else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        device=str(device),
        gpu=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        precision=runtime.precision,
        matrix_gflops=matrix_rate(runtime) / 1e9,
    )


def matrix_rate(runtime: Runtime, side: int = MATRIX) -> float:
    """Measure the most operations a second of products of square matrices."""
    one, other = torch.rand(2, side, side, device=runtime.device, dtype=runtime.dtype)
    seconds = [_seconds(lambda: one @ other, runtime.device) for _ in range(PRODUCTS)]
    return 2.0 * side**3 / min(seconds)


def measure(
    cases: Sequence[Case], runtime: Runtime, machine: Machine, *, repeats: int = 3
) -> Iterator[Row]:
    """Measure cases one after the other, each in a process of its own.

    Raises B2VError where weights cannot be loaded, or the memory is too small.
    """
    how = str(runtime.device), runtime.precision, torch.get_num_threads(), repeats
    for case in cases:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            try:
                seconds, peak, operations = pool.submit(run_case, case, *how).result()
            except BrokenProcessPool as error:
                raise B2VError(
                    f"the process that measured {case.task} was ended; was there too little memory?"
                ) from error
        pixels = case.pictures * case.width * case.height
        size = f"{case.width}x{case.height}"
        yield Row(
            task=case.task,
            model=case.model,
            size=size if case.pictures == 1 else f"{case.pictures}x{size}",
            seconds=seconds,
            megapixels_per_s=pixels / 1e6 / seconds,
            peak_memory_mb=None if peak is None else peak / MB,
            gflop=operations / 1e9,
            share_of_rate=operations / 1e9 / seconds / machine.matrix_gflops,
        )


def run_case(
    case: Case, device: str, precision: str, threads: int, repeats: int
) -> tuple[float, int | None, int]:
    """Run a case in the process at hand: median seconds, peak bytes, operations."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    keep_large_blocks()
    runtime = choose(device, precision)
    tasks = {"extract": _photo, "middle": _photo, "deblur": _deblur, "train": _train}
    run = tasks[case.task](case, runtime)
    with FlopCounterMode(display=False) as counter:
        run()
    taken: list[float] = []
    while len(taken) < repeats and (not taken or sum(taken) < LONG):
        taken.append(_seconds(run, runtime.device))
    return median(taken), peak_bytes(runtime.device), counter.get_total_flops()


def _photo(case: Case, runtime: Runtime) -> Run:
    """Restore a photo, or its middle frame alone."""
    net, blurry = _photo_net(case.model, runtime), moving_picture(case.width, case.height).mean(0)
    if case.task == "extract":
        return lambda: restore(net, blurry, runtime)
    middle = net.middle if isinstance(net, Cascade) else net
    return lambda: restore_middle(middle, blurry, runtime)


def _photo_net(model: str, runtime: Runtime) -> Extractor:
    """Load a model for photos; a cascade that has no weights here is as fast with random ones."""
    try:
        return runtime.place(load_model(model).net)
    except WeightsError:
        if tuple(MODELS.get(model, ())) != ROLES:
            raise
    return runtime.place(assemble({role: plan.build() for role, plan in MODELS[model].items()}))


def _deblur(case: Case, runtime: Runtime) -> Run:
    """Restore the next frame of an endless video; the first ones, which have no past, are done."""
    net = load_line(case.model).net
    device, precision = str(runtime.device), runtime.precision
    deblurrer = Deblurrer(weights=net, device=device, precision=precision, duty=1.0)
    frames = moving_picture(case.width, case.height, FAST)
    restored = deblurrer.run(cycle([*frames, *frames[1:-1].flip(0)]))
    for _ in range(net.look_ahead + 1):
        next(restored)
    return lambda: next(restored)


def _train(case: Case, runtime: Runtime) -> Run:
    """Compute the gradients of one batch."""
    config = TrainConfig(model=case.model, batch=CROPS, crop=case.width)
    net = runtime.place(new_network(config, {}))
    clips = [moving_picture(case.width, case.height) for _ in range(CROPS)]
    sharp = torch.stack(clips).to(runtime.device)

    def run() -> None:
        net.zero_grad(set_to_none=True)
        with runtime.autocast():
            loss = compare(config, {config.role: net}, sharp.mean(1), sharp, 0).loss.mean()
        torch.autograd.backward(loss)

    return run


def moving_picture(width: int, height: int, shift: int = SHIFT) -> Tensor:
    """Draw a textured picture that moves right by `shift` a frame, [7, 3, H, W] in [0, 1]."""
    wide = width + shift * (FRAMES - 1)
    coarse = torch.rand(1, 3, height // 8 + 2, wide // 8 + 2)
    soft = F.interpolate(coarse, (height, wide), mode="bicubic", align_corners=False)[0]
    picture = (0.8 * soft + 0.2 * torch.rand_like(soft)).clamp(0, 1)
    starts = range(wide - width, -1, -shift)
    return torch.stack([picture[..., start : start + width] for start in starts])


def cpu_name(table: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the processor as its maker gives it, or as near to it as the system knows."""
    if table.is_file():
        for line in table.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def _seconds(run: Run, device: torch.device) -> float:
    """Measure a run until the device has finished."""
    _finish(device)
    started = time.perf_counter()
    run()
    _finish(device)
    return time.perf_counter() - started


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
