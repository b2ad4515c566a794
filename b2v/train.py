"""The training loop: one for all stages of `b2v.stages`.

`train` is a generator of `Report`s; whoever runs it prints. A run folder holds, for each stage,
`config.json`, `metrics.csv`, `strip.png` and `last.pt`, and in `weights/` the exported networks.

Everything random is a pure function of the seed and the step, so a run that was stopped goes
on bit for bit as if it had not been.
"""

import copy
import csv
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from b2v.data import Crops
from b2v.errors import TrainingError
from b2v.media import write_photo
from b2v.recipes import DECAY, DECAY_STEPS, TrainConfig, check, is_for_video
from b2v.runtime import Runtime
from b2v.sequences import SequenceCrops
from b2v.stages import Nets, new_network, stage_loss, validate
from b2v.weights import load_network, save_network

REPORT_EVERY = 50
"""Steps between two reports."""


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


@dataclass
class _State:
    """What training changes; all of it is in a checkpoint."""

    net: nn.Module
    ema: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: float = -math.inf

    def state_dict(self) -> dict[str, Any]:
        parts = {name: getattr(self, name).state_dict() for name in ("net", "ema", "optimizer")}
        return {**parts, "step": self.step, "best": self.best}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        for name in ("net", "ema", "optimizer"):
            getattr(self, name).load_state_dict(saved[name])
        self.step, self.best = saved["step"], saved["best"]


def train(
    config: TrainConfig,
    run: Path,
    bank: Path,
    validation: Path,
    runtime: Runtime,
    *,
    resume: bool = False,
    minutes: float = math.inf,
    workers: int = 1,
) -> Iterator[Report]:
    """Train one stage, reporting every 50 steps.

    Args:
        config: what to do.
        run: folder of the run, shared by its stages.
        bank: what to train on, by `b2v.data.build_bank` or, of video, `build_sequences`.
        validation: clips of other scenes.
        runtime: device and precision.
        resume: go on from `last.pt`; else a run that has begun is refused.
        minutes: stop after this long, to be resumed later.
        workers: processes that cut crops.

    Raises:
        UsageError: the config cannot be trained on these clips.
        DatasetError: a bank is missing.
        TrainingError: nothing to resume, already begun, another config, networks of earlier
            stages missing, or the loss is no longer finite.

    """
    crops = open_crops(config, bank)
    folder = run / f"stage{config.stage}"
    earlier = _earlier(config, run, runtime)
    state = _begin(
        config, folder, runtime.place(new_network(config, earlier, _start(config))), resume
    )
    batches = iter(_loader(crops, config, state.step, workers))
    started, waited, losses = time.monotonic(), 0.0, []
    while state.step < config.steps:
        waiting = time.monotonic()
        batch = [x.to(runtime.device) for x in next(batches)]
        waited += time.monotonic() - waiting
        losses.append(_step(config, state, earlier, batch, runtime))
        seconds = time.monotonic() - started
        last = state.step == config.steps or seconds > 60 * minutes
        if state.step % REPORT_EVERY and not last:
            continue
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise TrainingError(f"{folder}: the loss is {loss} at step {state.step}; lower lr")
        lr = _learning_rate(config, state.step)
        report = Report(state.step, loss, lr, seconds, waited / seconds)
        if state.step % config.validate_every == 0 or last:
            gain = _milestone(config, state, earlier, run, validation, runtime)
            report = replace(report, gain=gain)
        _log(folder / "metrics.csv", report)
        yield report
        losses.clear()
        if last:
            return


def open_crops(config: TrainConfig, bank: Path) -> Crops | SequenceCrops:
    """Open the crops of a bank that a config is trained on.

    Raises:
        UsageError: the config cannot be trained on them.
        DatasetError: there is no bank, or it is of another kind.

    """
    if is_for_video(config.model):
        frames = config.frames
        sequences = SequenceCrops(
            bank, frames=frames, size=config.crop, seed=config.seed, jpeg=config.jpeg
        )
        check(config, sequences.sequences.shape[-1], sequences.sequences.shape[2])
        return sequences
    crops = Crops(
        bank, size=config.crop, seed=config.seed, jpeg=config.jpeg, discrete=config.discrete
    )
    check(config, crops.clips.shape[-1])
    return crops


def _step(
    config: TrainConfig,
    state: _State,
    earlier: Nets,
    batch: list[Tensor],
    runtime: Runtime,
) -> Tensor:
    """Take one step on a batch of items of `open_crops`; returns the loss before it."""
    nets = {**earlier, config.role: state.net}
    blurry, sharp, *ways = batch
    with runtime.autocast():
        way = ways[0] if ways else None
        loss = stage_loss(config, nets, blurry, sharp, way, state.step).mean()
    for group in state.optimizer.param_groups:
        group["lr"] = _learning_rate(config, state.step)
    state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(state.net.parameters(), config.clip)
    state.optimizer.step()
    state.step += 1
    decay = min(config.ema, state.step / (state.step + 10))
    with torch.no_grad():
        for average, weight in zip(state.ema.parameters(), state.net.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
    return loss.detach()


def _learning_rate(config: TrainConfig, step: int) -> float:
    rise = min(1.0, (step + 1) / config.warmup)
    if config.schedule == "steps":
        return config.lr * rise * DECAY ** (step // DECAY_STEPS)
    return config.lr * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.steps)))


def _begin(config: TrainConfig, folder: Path, net: nn.Module, resume: bool) -> _State:
    """Make the state of a new run, or load that of one which was stopped."""
    state = _State(net, copy.deepcopy(net).requires_grad_(False), _optimizer(config, net))
    text = json.dumps(asdict(config), indent=1)
    if resume:
        if not (folder / "last.pt").exists():
            raise TrainingError(f"{folder}: nothing to resume; start without --resume")
        saved = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)
        # A setting that is younger than the run had its default value then.
        begun = {**json.loads(json.dumps(asdict(TrainConfig()))), **saved["config"]}
        if {**begun, "steps": 0} != {**json.loads(text), "steps": 0}:
            raise TrainingError(f"{folder}: was begun with other settings than these")
        state.load_state_dict(saved)
    elif (folder / "last.pt").exists():
        raise TrainingError(f"{folder}: holds a run already; --resume it or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(text)
    _forget(folder / "metrics.csv", state.step)
    return state


def _optimizer(config: TrainConfig, net: nn.Module) -> torch.optim.Optimizer:
    kind: type[torch.optim.Adam | torch.optim.AdamW] = torch.optim.AdamW
    decay = config.weight_decay
    if config.optimizer == "adam":  # the gradient of decay * |W|^2 is 2 * decay * W
        kind, decay = torch.optim.Adam, 2 * decay
    return kind(net.parameters(), lr=config.lr, betas=config.betas, weight_decay=decay)


def _earlier(config: TrainConfig, run: Path, runtime: Runtime) -> Nets:
    """Load the networks that the stages before this one have exported."""
    nets = {}
    for role in config.roles[:-1]:
        path = _exported(config, run, role)
        if not path.exists():
            raise TrainingError(f"{path}: missing; train the stages before stage {config.stage}")
        nets[role] = runtime.place(load_network(path).module)
    return nets


def _start(config: TrainConfig) -> nn.Module | None:
    return load_network(Path(config.start)).module if config.start else None


def _exported(config: TrainConfig, run: Path, role: str) -> Path:
    return run / "weights" / f"{config.model}-{role}.safetensors"


def _milestone(
    config: TrainConfig,
    state: _State,
    earlier: Nets,
    run: Path,
    validation: Path,
    runtime: Runtime,
) -> float:
    """Validate, write the checkpoint, and export the average weights when they are the best."""
    role = config.role
    gain, strip = validate(role, {**earlier, role: state.ema}, validation, runtime)
    if gain >= state.best:
        state.best = gain
        path = _exported(config, run, role)
        path.parent.mkdir(exist_ok=True)
        save_network(state.ema.state_dict(), config.blueprint, role, path)
    folder = run / f"stage{config.stage}"
    write_photo(strip, folder / "strip.png", overwrite=True)
    part = folder / "last.pt.part"
    torch.save({**state.state_dict(), "config": json.loads(json.dumps(asdict(config)))}, part)
    part.replace(folder / "last.pt")
    return gain


def _loader(
    crops: Dataset[Any], config: TrainConfig, step: int, workers: int
) -> DataLoader[tuple[Tensor, ...]]:
    indices = range(step * config.batch, config.steps * config.batch)
    return DataLoader(
        crops,
        batch_size=config.batch,
        sampler=indices,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_single_thread,
    )


def _single_thread(_: int) -> None:
    torch.set_num_threads(1)


def _forget(path: Path, step: int) -> None:
    """Drop lines of the table after `step`: they are of steps that will be done again."""
    if path.exists():
        head, *lines = path.read_text().splitlines(keepends=True)
        path.write_text(head + "".join(x for x in lines if int(x.split(",")[0]) <= step))


def _log(path: Path, report: Report) -> None:
    """Append a line to the table of reports."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(report)))
        if new:
            writer.writeheader()
        writer.writerow(asdict(report))
