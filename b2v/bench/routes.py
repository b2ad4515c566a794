"""What is measured: each task by the straightforward route and by ours, in the process at hand."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.bench.command import seconds_a_frame
from b2v.bench.meter import peak_bytes, seconds_of
from b2v.defaults import FAST_MODEL, VIDEO_MODEL
from b2v.errors import UsageError, WeightsError
from b2v.frames import FRAMES, crop_back, pad_to_multiple
from b2v.inference import restore
from b2v.models import MODELS, VIDEO, Extractor, Prior, VideoNet, assemble
from b2v.recipes import TrainConfig, is_for_video
from b2v.runtime import Runtime, choose, keep_large_blocks
from b2v.stages import new_network, stage_loss
from b2v.streaming import Deblurrer
from b2v.weights import list_models, load_model, load_video_model, path_of

TASKS = ("extract", "deblur", "train")
SIZES = {
    "extract": ((568, 320), (854, 480), (1280, 720)),
    "deblur": ((640, 480), (1280, 720)),
    "train": ((128, 128),),
}
"""Width and height. The first are 320P, 480P and 720P of the papers at 16:9."""
QUICK_SIZES = {"extract": (70, 50), "deblur": (71, 49), "train": (32, 32)}
CROPS = 4
"""Crops of a training step."""
COMMAND_SECONDS = 30.0
"""For so long the whole command is timed, if that is within `COMMAND_FRAMES`."""
COMMAND_FRAMES = 8, 60
"""Fewest and most frames of the file that the whole command is timed with."""
PIXELS_A_FRAME = 2
"""By which the made-up pictures move."""

Run = Callable[[], Sequence[Tensor]]
"""Does a case once; what comes of it."""


@dataclass(frozen=True)
class Case:
    """What is to be done; `batch` pictures of a size at once, by a network."""

    task: str
    width: int
    height: int
    model: str
    trained: bool
    batch: int = 1

    @property
    def size(self) -> str:
        """Width and height in words, and the number of pictures where there are several."""
        size = f"{self.width}x{self.height}"
        return size if self.batch == 1 else f"{self.batch}x{size}"

    @property
    def peak(self) -> float | None:
        """Largest value of what comes of it; None for gradients, which have none."""
        return None if self.task == "train" else 1.0


@dataclass(frozen=True)
class Setup:
    """On what: device and precision of our route as `Runtime` has them, threads, how thoroughly."""

    device: str
    precision: str
    threads: int | None = None
    quick: bool = False

    @property
    def shortest(self) -> float:
        """Seconds that a time is taken over at least; what is shorter is repeated."""
        return 0.0 if self.quick else 0.2

    def use_threads(self) -> None:
        """Let torch use as many threads as are asked for, in this process."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)


def list_cases(
    tasks: Iterable[str] = TASKS, *, model: str = FAST_MODEL, quick: bool = False
) -> list[Case]:
    """List what is to be measured.

    Args:
        tasks: of `TASKS`.
        model: name of the model for photos that `extract` runs; the default one for video
            restores, and the one that `b2v train` takes is trained.
        quick: small sizes, one a task, that say whether it works and not how fast it is.

    Raises:
        UsageError: a task is unknown, or the model is for video.
        WeightsError: there is no model of that name.

    """
    wanted = set(tasks)
    if unknown := wanted - set(TASKS):
        raise UsageError(f"unknown task {min(unknown)!r}; choose {', '.join(TASKS)}")
    models = {"extract": model, "deblur": VIDEO_MODEL, "train": TrainConfig().model}
    cases = []
    for task in (task for task in TASKS if task in wanted):
        trained = task != "train" and is_trained(models[task])
        if task == "extract" and is_for_video(model):
            raise UsageError(f"{model} is for video, and -m names a model for photos")
        batch = CROPS if task == "train" else 1
        for width, height in (QUICK_SIZES[task],) if quick else SIZES[task]:
            cases.append(Case(task, width, height, models[task], trained, batch))
    return cases


def is_trained(model: str) -> bool:
    """Tell whether there are weights of a model here, or only what the network looks like.

    Raises WeightsError for a model that nobody knows, or that has a card which cannot be used.
    """
    try:
        path_of(model)
    except WeightsError:
        if model not in MODELS or any(found.name == model for found in list_models()):
            raise
        return False
    return True


class Route:
    """A case by one of the two routes, in the process at hand."""

    def __init__(self, case: Case, setup: Setup, ours: bool) -> None:
        """Load the network; the allocator stays as it will be.

        Raises:
            B2VError: the weights or the device are not as they should be.

        """
        setup.use_threads()
        if ours:
            keep_large_blocks()
        torch.manual_seed(0)
        self._case, self._setup, self._shortest = case, setup, setup.shortest
        self._runtime = runtime = choose(setup.device, setup.precision if ours else "fp32")
        self._device = runtime.device
        self._run: Run = {"extract": _extract, "deblur": _deblur, "train": _train}[case.task](
            case, runtime, ours
        )

    def first(self) -> npt.NDArray[np.float32]:
        """Do it once, which warms up; all that comes of it, in one row."""
        outputs = [output.detach().float().flatten().cpu() for output in self._run()]
        return torch.cat(outputs).numpy()

    def seconds(self) -> float:
        """Seconds that it takes."""
        return seconds_of(self._run, self._device, self._shortest)

    def peak_bytes(self) -> int | None:
        """Most memory so far (`b2v.bench.meter.peak_bytes`)."""
        return peak_bytes(self._device)

    def command_seconds(self) -> float:
        """Seconds that a frame takes by the whole command, files and all (`b2v.bench.command`)."""
        net, (fewest, most) = cast("VideoNet", _network(self._case)), COMMAND_FRAMES
        wanted = 4 if self._setup.quick else max(fewest, COMMAND_SECONDS / self.seconds())
        count = min(most, round(wanted))
        frames = islice(cycle(_moving(self._case)), count)
        return seconds_a_frame(net, list(frames), self._runtime)

    def operations(self) -> int:
        """Count what it computes, two for a multiply-add; this takes memory of its own."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self._run()
        return counter.get_total_flops()


def _extract(case: Case, runtime: Runtime, ours: bool) -> Run:
    """Restore a photo, without the direction of time (`b2v.direction`): both would do the same."""
    net, blurry = cast("Extractor", _network(case)), _moving(case).mean(0)
    net = runtime.place(net) if ours else net.to(runtime.device)
    if ours or isinstance(net, Prior):  # whose scales and tiles are part of what it does
        return lambda: (restore(net, blurry, runtime, align=False),)

    @torch.no_grad()
    def run() -> Sequence[Tensor]:
        padded = pad_to_multiple(blurry[None], net.multiple).to(runtime.device)
        return (crop_back(net(padded)[0], case.height, case.width).clamp(0, 1).cpu(),)

    return run


def _deblur(case: Case, runtime: Runtime, ours: bool) -> Run:
    """Restore the next frame of an endless video; the first ones, which have no past, are done."""
    net, frames = cast("VideoNet", _network(case)), cycle(_moving(case))
    if ours:
        deblurrer = Deblurrer(weights=net, device=str(runtime.device), precision=runtime.precision)
        restored = deblurrer.run(frames)
    else:
        restored = _deblur_plainly(net.to(runtime.device), frames, runtime.device)
    for _ in range(net.look_ahead + 1):
        next(restored)
    return lambda: (next(restored),)


def _deblur_plainly(
    net: VideoNet, frames: Iterator[Tensor], device: torch.device
) -> Iterator[Tensor]:
    window: list[Tensor] = []
    state = None
    for frame in frames:
        padded = pad_to_multiple(frame, net.multiple).to(device)
        window = [*(window or [padded] * net.look_ahead), padded][-net.inputs :]
        if len(window) < net.inputs:
            continue
        with torch.no_grad():  # left at every yield, or it would leak into the caller
            restored, state = net(torch.stack(window)[None], state)
            cropped = crop_back(restored[0], *frame.shape[1:]).clamp(0, 1).cpu()
        yield cropped


def _train(case: Case, runtime: Runtime, ours: bool) -> Run:
    """Compute the gradients of one batch; a step of the optimizer is the same by both routes."""
    config = TrainConfig(model=case.model, batch=case.batch, crop=case.width)
    net = _awake(new_network(config, {}))
    net = runtime.place(net) if ours else net.to(runtime.device)
    sharp = torch.stack([_moving(case) for _ in range(case.batch)]).to(runtime.device)
    blurry = sharp.mean(1)

    def run() -> Sequence[Tensor]:
        net.zero_grad(set_to_none=True)
        with runtime.autocast():
            loss = stage_loss(config, {config.role: net}, blurry, sharp, 0).mean()
        torch.autograd.backward(loss)
        return [weight.grad for weight in net.parameters() if weight.grad is not None]

    return run


def _network(case: Case) -> nn.Module:
    """Network of a case on the CPU, in fp32: loaded, or made with random weights."""
    video = case.task == "deblur"
    if case.trained:
        return (load_video_model if video else load_model)(case.model).net
    nets: dict[str, Any] = {
        role: _awake(plan.build()).eval() for role, plan in MODELS[case.model].items()
    }
    return nets[VIDEO] if video else assemble(nets)


@torch.no_grad()
def _awake(net: nn.Module) -> nn.Module:
    """Make small random weights of those that start at zero, which hand the input on unchanged."""
    for weight in net.parameters():
        if weight.ndim > 1 and not weight.any():
            weight.normal_(std=0.01)
    return net


def _moving(case: Case) -> Tensor:
    """Draw a textured picture that moves to the right, [7, 3, H, W] in [0, 1]."""
    wide = case.width + PIXELS_A_FRAME * (FRAMES - 1)
    coarse = torch.rand(1, 3, case.height // 8 + 2, wide // 8 + 2)
    soft = F.interpolate(coarse, (case.height, wide), mode="bicubic", align_corners=False)[0]
    picture = (0.8 * soft + 0.2 * torch.rand_like(soft)).clamp(0, 1)
    starts = range(wide - case.width, -1, -PIXELS_A_FRAME)
    return torch.stack([picture[..., start : start + case.width] for start in starts])
