"""The training loop: one for all stages of a model, and what a stage runs on.

`train` is a generator of `Report`s; whoever runs it prints. A run folder holds, for each stage,
`config.json`, `metrics.csv`, `strip.png` and the last checkpoint; in `weights/` lie the
exported networks.

Everything random is a pure function of the seed and the step, so a run that was stopped goes on
bit for bit as if it had not been, and processes that share the steps (`b2v.training.logs`) see the
batches that one alone would see.
"""

import copy
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from b2v.data.clip_cache import setting
from b2v.data.datasets import Crops, SequenceCrops
from b2v.errors import TrainingError, UsageError
from b2v.frames import MIDDLE
from b2v.inference.runtime import Runtime
from b2v.media.images import write_photo
from b2v.models import MODELS
from b2v.training import checkpoints
from b2v.training.checkpoints import State, has_begun
from b2v.training.config import DECAY, DECAY_STEPS, TrainConfig, check, is_for_video
from b2v.training.logs import ALONE, Journal, Notice, Report, Team
from b2v.training.losses import Frames, critic_loss, load_features, new_critic
from b2v.training.stages import FRAMES_OF, Judges, Nets, Objective, new_network, validate
from b2v.weights.checkpoints import (
    NOT_STATED,
    ORDER_KNOWN,
    Card,
    card_entry,
    load_network,
    read_card,
    save_network,
    write_card,
)


@dataclass(frozen=True)
class Work:
    """A stage under way: its settings, where it is done, and what a step runs through."""

    config: TrainConfig
    run: Path
    bank: Path
    """Folder of what it is trained on."""
    runtime: Runtime
    team: Team
    earlier: Nets
    state: State
    objective: nn.Module
    rival: nn.Module | None
    """The critic as all processes train it."""

    @property
    def coded(self) -> bool:
        """Whether it learns from coded blur."""
        return setting(self.bank, "aperture", "standard") == "coded"

    @property
    def folder(self) -> Path:
        """Folder of the stage."""
        return stage_folder(self.run, self.config)


def stage_folder(run: Path, config: TrainConfig) -> Path:
    """Give the folder of a stage."""
    return run / f"stage{config.stage}"


def exported_to(config: TrainConfig, run: Path, role: str) -> Path:
    """Give the file that the network of a role is exported to."""
    return run / "weights" / f"{config.model}-{role}.safetensors"


def open_crops(config: TrainConfig, bank: Path) -> Crops | SequenceCrops:
    """Open the crops of a bank that a config is trained on.

    Raises UsageError where the config cannot be trained on them; DatasetError where there is no
    bank, or it is of another kind.
    """
    if is_for_video(config.model):
        frames = config.frames
        sequences = SequenceCrops(
            bank, frames=frames, size=config.crop, seed=config.seed, jpeg=config.jpeg
        )
        check(config, sequences.sequences.shape[-1], sequences.sequences.shape[2])
        return sequences
    crops = Crops(
        bank,
        size=config.crop,
        seed=config.seed,
        jpeg=config.jpeg,
        discrete=config.discrete,
        rest=config.rest,
        soft=config.soft,
        recolour=config.recolour,
    )
    check(config, crops.clips.shape[-1])
    return crops


def check_run(config: TrainConfig, run: Path, bank: Path, *, resume: bool, compiled: bool) -> None:
    """Check, before anything is drawn, all that would stop a stage when it begins.

    Raises UsageError where its `start` does not suit, or there is no compiler; WeightsError where
    VGG16 is wanted and cannot be had; TrainingError as `train` does.
    """
    folder = stage_folder(run, config)
    if checkpoints.has_begun(folder):
        _refuse_begun(folder, resume=resume)
        checkpoints.load(folder, config, bank)
    _networks(config, run)
    if compiled:
        _find_compiler()


def _networks(config: TrainConfig, run: Path) -> tuple[Nets, nn.Module, Judges]:
    """Make the networks of a stage: earlier ones, that which is trained, and what judges it."""
    earlier = {}
    for role in config.roles[:-1]:
        path = exported_to(config, run, role)
        if not path.exists():
            raise TrainingError(f"{path}: missing; train the stages before stage {config.stage}")
        earlier[role] = load_network(path).module
    start = load_network(Path(config.start)).module if config.start else None
    net = new_network(config, earlier, start)
    given = {*FRAMES_OF.get(config.role, ())}
    features = load_features() if config.perceptual > 0 and MIDDLE in given else None
    critic = new_critic(config.seed) if config.adversarial > 0 and given - {MIDDLE} else None
    return earlier, net, Judges(features, critic)


def prepare(
    config: TrainConfig,
    run: Path,
    bank: Path,
    runtime: Runtime,
    team: Team,
    *,
    resume: bool,
    compiled: bool,
) -> tuple[Work, str]:
    """Set up a stage: its networks, state and loss; return a notice about resuming, if any."""
    earlier, net, judges = _networks(config, run)
    net, critic = runtime.place(net), judges.critic
    for other in filter(None, (*earlier.values(), critic, judges.features)):
        runtime.place(other)
    state = checkpoints.new_state(config, net, critic)
    notice = _begin(state, config, stage_folder(run, config), bank, resume=resume, leads=team.leads)
    fast = _compiled if compiled else dict
    nets = fast({**earlier, config.role: net})
    objective = Objective(config, nets.pop(config.role), nets, judges)
    rival = team.share(critic) if critic else None
    # The state of a recurrent net is handed on, and so looked at, from the second frame on.
    shared = team.share(objective, partly=is_for_video(config.model) and config.frames == 1)
    return Work(config, run, bank, runtime, team, earlier, state, shared, rival), notice


def _refuse_begun(folder: Path, *, resume: bool) -> None:
    if not resume:
        raise TrainingError(f"{folder}: holds a run already; --resume it or name another folder")


def _begin(
    state: State, config: TrainConfig, folder: Path, bank: Path, *, resume: bool, leads: bool
) -> str:
    """Begin a run, or load the state of a stopped one; return a notice about that, if any."""
    notice = ""
    if resume and not checkpoints.has_begun(folder):
        notice = f"{folder}: nothing to resume; the run begins"
    elif resume:
        try:
            state.load_state_dict(checkpoints.load(folder, config, bank))
        except TrainingError:
            raise
        except Exception as error:  # a checkpoint is a file that may hold anything
            why = " ".join(str(error).split())[:200]
            what = f"its checkpoint is not of such a run ({type(error).__name__}: {why})"
            raise TrainingError(f"{folder}: {what}; move the folder away") from error
    elif checkpoints.has_begun(folder):
        _refuse_begun(folder, resume=resume)
    if leads:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(checkpoints.plain(config), indent=1))
    return notice


def _compiled(nets: Nets) -> Nets:
    """Compile copies of networks for training, which share their weights."""
    _find_compiler()
    quick = {role: copy.copy(net) for role, net in nets.items()}  # of the same weights
    for net in quick.values():
        net.compile()
    return quick


def _find_compiler() -> None:
    compilers = (os.environ.get("CXX", ""), "g++", "clang++", "c++", "cl")
    if not any(map(shutil.which, filter(None, compilers))):
        raise UsageError("compile = true needs a C++ compiler, and none is here; install g++")


def open_loader(
    crops: Dataset[Any], config: TrainConfig, step: int, part: range, workers: int
) -> DataLoader[tuple[Tensor, ...]]:
    """Load `part` of the batch of each step from `step` on."""
    firsts = range(step * config.batch, config.steps * config.batch, config.batch)
    batches: list[Any] = [range(first + part.start, first + part.stop) for first in firsts]
    return DataLoader(
        crops,
        batch_sampler=batches,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_single_thread,
    )


def _single_thread(_: int) -> None:
    torch.set_num_threads(1)


LATEST = "latest.safetensors"
"""Name of the average weights of the last validation, the best or not, in a stage's folder."""
REPORT_EVERY = 50
"""Steps between two reports."""


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
    team: Team = ALONE,
    compiled: bool = False,
) -> Iterator[Report | Notice]:
    """Train one stage, reporting every 50 steps and wherever it validates.

    Args:
        config: what to do.
        run: folder of the run, shared by its stages.
        bank: folder of what to train on, by `b2v.data.datasets.build_bank`.
        validation: as `bank`, of other scenes.
        runtime: device and precision.
        resume: go on from the last checkpoint; else a run that has begun is refused.
        minutes: stop after this long, to be resumed later.
        workers: processes that cut crops.
        team: the processes that share each step; it writes where it leads.
        compiled: run the networks through `torch.compile`.

    Raises:
        UsageError: the config cannot be trained on these clips, or by so many processes.
        DatasetError: a bank is missing.
        WeightsError: VGG16 is wanted and cannot be had.
        TrainingError: nothing to resume, already begun, other settings, networks of earlier
            stages missing, or the loss is no longer finite.

    """
    part = team.part(config.batch)
    crops = open_crops(config, bank)
    work, notice = prepare(config, run, bank, runtime, team, resume=resume, compiled=compiled)
    if notice:
        yield Notice(notice)
    state, losses, waited, started = work.state, [], 0.0, time.monotonic()
    first = state.step
    batches = iter(open_loader(crops, config, first, part, workers))
    journal = Journal(work.folder, first) if team.leads else None
    while state.step < config.steps:
        waiting = time.monotonic()
        batch = [x.to(runtime.device) for x in next(batches)]
        waited += time.monotonic() - waiting
        late = time.monotonic() - started > 60 * minutes
        loss, late = _step(work, batch, late)
        losses.append(loss)
        last = state.step == config.steps or late
        validating = state.step % config.validate_every == 0 or last
        if state.step % REPORT_EVERY and not validating:
            continue
        seconds = time.monotonic() - started
        mean, rate = sum(losses) / len(losses), learning_rate(config, state.step)
        pace = seconds / (state.step - first)
        left = max(0.0, min(pace * (config.steps - state.step), 60 * minutes - seconds))
        report = Report(state.step, mean, rate, seconds, waited / seconds)
        report = replace(report, steps=config.steps, left=left)
        if validating and team.leads:
            report = replace(report, gain=_milestone(work, validation))
        if journal is not None:
            journal.add(report)
        if validating and team.leads:  # last: what is told beyond it is dropped by --resume
            checkpoints.save(work.folder, state, config, bank)
        yield report
        losses.clear()
        if last:
            break
    team.wait()  # what stands on this stage needs its file


def learning_rate(config: TrainConfig, step: int) -> float:
    """Give the rate at a step, counted from 0."""
    rise = min(1.0, (step + 1) / config.warmup)
    if config.schedule == "steps":
        return config.lr * rise * DECAY ** (step // DECAY_STEPS)
    return config.lr * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.steps)))


def _step(work: Work, batch: list[Tensor], late: bool) -> tuple[float, bool]:
    """Take one step on this process's part of a batch.

    Returns the loss of the whole batch before it, and whether time is up for any of the team.
    Raises TrainingError where the loss or its gradient is not finite; nothing has been changed
    then.
    """
    config, state, team = work.config, work.state, work.team
    if state.critic is not None:
        state.critic.requires_grad_(False)
    with work.runtime.autocast():
        losses, restored, sharp = work.objective(state.step, *batch)
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(config, state.step)
    state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(losses.mean())
    norm = nn.utils.clip_grad_norm_(state.net.parameters(), config.clip)
    mean = losses.detach().float().mean()
    loss, norms, lates = team.mean(
        torch.stack([mean, norm.float(), mean.new_tensor(late)])
    ).tolist()
    for what, value in (("loss", loss), ("gradient", norms)):
        if not math.isfinite(value):
            where = f"{work.folder}: the {what} is {value} at step {state.step + 1}"
            raise TrainingError(f"{where}; lower lr, or look at the data")
    state.optimizer.step()
    if work.rival is not None:
        _train_critic(work, restored, sharp)
    state.step += 1
    decay = min(config.ema, state.step / (state.step + 10))
    with torch.no_grad():
        for average, weight in zip(state.ema.parameters(), state.net.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
    return loss, lates > 0


def _train_critic(work: Work, restored: Frames, sharp: Frames) -> None:
    """Have the critic learn from the frames of a step."""
    state = work.state
    if state.critic is None or state.critic_optimizer is None or work.rival is None:
        return
    state.critic.requires_grad_(True)
    with work.runtime.autocast():
        losses = critic_loss(work.rival, restored, sharp)
    for group in state.critic_optimizer.param_groups:
        group["lr"] = learning_rate(work.config, state.step)
    state.critic_optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(losses.mean())
    state.critic_optimizer.step()


def _milestone(work: Work, validation: Path) -> float:
    """Validate, export the average weights when they are the best, and keep them as the latest."""
    config, state, role = work.config, work.state, work.config.role
    gain, strip = validate(role, {**work.earlier, role: state.ema}, validation, work.runtime)
    places = [work.folder / LATEST]
    if gain >= state.best:
        state.best = gain
        places.append(exported_to(config, work.run, role))
    note = {ORDER_KNOWN: work.coded and config.pair == "independent"}
    for path in places:
        save_network(state.ema.state_dict(), config.blueprint, role, path, note=note)
    if len(places) > 1:
        _write_card(work, gain)
    write_photo(strip, work.folder / "strip.png", overwrite=True)
    return gain


def _write_card(work: Work, gain: float) -> None:
    """Write the card of a run beside its networks, so that they can be published."""
    config, folder = work.config, work.run / "weights"
    path = folder / f"{config.model}.json"
    card = (
        read_card(path)
        if path.exists()
        else Card(name=config.model, license=NOT_STATED, networks={})
    )
    files = (exported_to(config, work.run, role) for role in MODELS[config.model])
    about = f"{config.role}: step {work.state.step} of {config.steps}, batch {config.batch}"
    about += ", coded blur" if work.coded else ""
    others = [line for line in card.recipe.splitlines() if not line.startswith(f"{config.role}: ")]
    scores = {f"{config.role}, validation gain in dB": round(gain, 3)}
    write_card(
        replace(
            card,
            networks=dict(card_entry(file) for file in files if file.exists()),
            recipe="\n".join([*others, f"{about}, crops of {config.crop}; see config.json"]),
            hardware=f"{work.runtime.device}, {work.runtime.precision}",
            scores=card.scores | scores,
        ),
        folder,
    )


def train_stages(
    configs: Sequence[TrainConfig],
    run: Path,
    bank: Path,
    validation: Path,
    runtime: Runtime,
    *,
    minutes: float = math.inf,
    workers: int = 1,
    team: Team = ALONE,
    compiled: bool = False,
) -> Iterator[Report | Notice]:
    """Train stages in order, going on where an earlier call stopped.

    The minutes are divided evenly between the stages that are not at their end; what one of them
    leaves over goes to the next ones. Each takes one step at least, so that there are networks of
    all stages in the end. Arguments and errors as of `b2v.training.loop.train`.
    """

    def is_done(config: TrainConfig) -> bool:
        folder = stage_folder(run, config)
        return has_begun(folder) and checkpoints.load(folder, config, bank)["step"] >= config.steps

    todo = [config for config in configs if not is_done(config)]
    team.wait()  # before anyone writes
    end = time.monotonic() + 60 * minutes
    for count, config in zip(range(len(todo), 0, -1), todo, strict=True):
        yield Notice(f"stage {config.stage}: {config.role}, {config.steps} steps")
        left = max(0.0, end - time.monotonic()) / 60
        yield from train(
            config,
            run,
            bank,
            validation,
            runtime,
            resume=has_begun(stage_folder(run, config)),
            minutes=left / count,
            workers=workers,
            team=team,
            compiled=compiled,
        )
