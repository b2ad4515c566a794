"""The training loop: one for all stages of `b2v.stages`.

`train` is a generator of `Report`s; whoever runs it prints. A run folder holds, for each stage,
`config.json`, `metrics.csv`, `strip.png`, the last two checkpoints and, where TensorBoard is
installed, its curves; in `weights/` lie the exported networks.

Everything random is a pure function of the seed and the step, so a run that was stopped goes
on bit for bit as if it had not been, and processes that share the steps (`b2v.parallel`) see the
batches that one alone would see.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from b2v import checkpoints
from b2v.errors import TrainingError
from b2v.inference.runtime import Runtime
from b2v.journal import Journal, Notice, Report, stop
from b2v.losses import Frames
from b2v.media import write_photo
from b2v.parallel import ALONE, Team
from b2v.recipes import DECAY, DECAY_STEPS, TrainConfig
from b2v.stages import validate
from b2v.weights import save_network
from b2v.work import Work, exported_to, open_crops, open_loader, prepare

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
        bank: what to train on, by `b2v.data.build_bank` or, of video, `build_sequences`.
        validation: clips of other scenes.
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
            stages missing, or the loss is no longer finite: `stopped.json` has its batch.

    """
    part = team.part(config.batch)
    crops = open_crops(config, bank)
    work, notice = prepare(config, run, runtime, team, resume=resume, compiled=compiled)
    if notice:
        yield Notice(notice)
    state, losses, waited, started = work.state, [], 0.0, time.monotonic()
    batches = iter(open_loader(crops, config, state.step, part, workers))
    with _journal(work) as journal:
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
            report = Report(state.step, mean, rate, seconds, waited / seconds)
            if validating and team.leads:
                report = replace(report, gain=_milestone(work, validation))
            if journal is not None:
                journal.add(report)
            if validating and team.leads:  # last: what is told beyond it is dropped by --resume
                checkpoints.save(work.folder, state, config)
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

    Returns:
        The loss of the whole batch before it, and whether time is up for any of the team.

    Raises:
        TrainingError: the loss or its gradient is not finite; nothing has been changed then.

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
            raise _stopped(work, f"the {what} is {value}", losses)
    state.optimizer.step()
    if work.rivalry is not None:
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
    if state.critic is None or state.critic_optimizer is None or work.rivalry is None:
        return
    state.critic.requires_grad_(True)
    with work.runtime.autocast():
        losses = work.rivalry(restored, sharp)
    for group in state.critic_optimizer.param_groups:
        group["lr"] = learning_rate(work.config, state.step)
    state.critic_optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(losses.mean())
    state.critic_optimizer.step()


def _stopped(work: Work, what: str, losses: Tensor) -> TrainingError:
    """Write down the batch that cannot be learned from; make the error that says so."""
    config, step = work.config, work.state.step
    values = work.team.gather(losses.detach().float()).tolist()
    items = range(step * config.batch, (step + 1) * config.batch)
    pairs = list(zip(items, values, strict=True))
    if not work.team.leads:
        return TrainingError(f"{work.folder}: {what} at step {step + 1}")
    return stop(work.folder, step + 1, what, {"seed": config.seed}, pairs)


def _milestone(work: Work, validation: Path) -> float:
    """Validate, export the average weights when they are the best, and keep them as the latest."""
    config, state, role = work.config, work.state, work.config.role
    gain, strip = validate(role, {**work.earlier, role: state.ema}, validation, work.runtime)
    places = [work.folder / LATEST]
    if gain >= state.best:
        state.best = gain
        places.append(exported_to(config, work.run, role))
    for path in places:
        save_network(state.ema.state_dict(), config.blueprint, role, path)
    write_photo(strip, work.folder / "strip.png", overwrite=True)
    return gain


@contextmanager
def _journal(work: Work) -> Iterator[Journal | None]:
    """Keep a journal where this process leads."""
    if not work.team.leads:
        yield None
        return
    journal = Journal(work.folder, work.state.step)
    try:
        yield journal
    finally:
        journal.close()


__all__ = ["REPORT_EVERY", "Notice", "Report", "TrainConfig", "learning_rate", "train"]
