"""What a stage of training runs on: data, networks and state, made ready before its first step."""

import copy
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from b2v import checkpoints
from b2v.adversary import new_critic
from b2v.checkpoints import State
from b2v.data import Crops
from b2v.errors import TrainingError, UsageError
from b2v.inference.runtime import Runtime
from b2v.objective import Judges, Objective, Rivalry, wants_critic, wants_features
from b2v.parallel import Team
from b2v.perceptual import load_features
from b2v.recipes import TrainConfig, check, is_for_video
from b2v.sequences import SequenceCrops
from b2v.stages import Nets, new_network
from b2v.weights import load_network


@dataclass(frozen=True)
class Work:
    """A stage under way: its settings, where it is done, and what a step runs through."""

    config: TrainConfig
    run: Path
    runtime: Runtime
    team: Team
    earlier: Nets
    state: State
    objective: nn.Module
    rivalry: nn.Module | None

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
        bank,
        size=config.crop,
        seed=config.seed,
        jpeg=config.jpeg,
        discrete=config.discrete,
        rest=config.rest,
        soft=config.soft,
        colours=config.colours,
        recolour=config.recolour,
    )
    check(config, crops.clips.shape[-1])
    return crops


def prepare(
    config: TrainConfig, run: Path, runtime: Runtime, team: Team, *, resume: bool, compiled: bool
) -> tuple[Work, str]:
    """Make all that the steps of a stage run through, and say if anything is to be noticed."""
    earlier = _earlier(config, run, runtime)
    start = load_network(Path(config.start)).module if config.start else None
    net = runtime.place(new_network(config, earlier, start))
    critic = runtime.place(new_critic(config.seed)) if wants_critic(config) else None
    features = runtime.place(load_features()) if wants_features(config) else None
    state = checkpoints.new_state(config, net, critic)
    notice = _begin(state, config, stage_folder(run, config), resume=resume, leads=team.leads)
    fast = _compiled if compiled else dict
    nets = fast({**earlier, config.role: net})
    objective = Objective(config, nets.pop(config.role), nets, Judges(features, critic))
    rivalry = team.share(Rivalry(critic)) if critic else None
    # The state of a recurrent net is handed on, and so looked at, from the second frame on.
    shared = team.share(objective, partly=is_for_video(config.model) and config.frames == 1)
    return Work(config, run, runtime, team, earlier, state, shared, rivalry), notice


def _begin(state: State, config: TrainConfig, folder: Path, *, resume: bool, leads: bool) -> str:
    """Begin a run, or bring `state` to where a stopped one was; return what is to be noticed."""
    notice = ""
    if resume and not checkpoints.has_begun(folder):
        notice = f"{folder}: nothing to resume; the run begins"
    elif resume:
        saved, notice = checkpoints.load(folder, config)
        try:
            state.load_state_dict(saved)
        except Exception as error:  # a checkpoint is a file that may hold anything
            why = " ".join(str(error).split())[:200]
            what = f"its checkpoint is not of such a run ({type(error).__name__}: {why})"
            raise TrainingError(f"{folder}: {what}; move the folder away") from error
    elif checkpoints.has_begun(folder):
        raise TrainingError(f"{folder}: holds a run already; --resume it or name another folder")
    if leads:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(checkpoints.plain(config), indent=1))
        if notice:  # it must not take the place of the one that is whole
            (folder / checkpoints.LAST).unlink(missing_ok=True)
    return notice


def _compiled(nets: Nets) -> Nets:
    """Have networks compiled for training; the ones given, and their names, stay as they are."""
    compilers = (os.environ.get("CXX", ""), "g++", "clang++", "c++", "cl")
    if not any(map(shutil.which, filter(None, compilers))):
        raise UsageError("compile = true needs a C++ compiler, and none is here; install g++")
    quick = {role: copy.copy(net) for role, net in nets.items()}  # of the same weights
    for net in quick.values():
        net.compile()
    return quick


def _earlier(config: TrainConfig, run: Path, runtime: Runtime) -> Nets:
    """Load the networks that the stages before this one have exported."""
    nets = {}
    for role in config.roles[:-1]:
        path = exported_to(config, run, role)
        if not path.exists():
            raise TrainingError(f"{path}: missing; train the stages before stage {config.stage}")
        nets[role] = runtime.place(load_network(path).module)
    return nets


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


__all__ = [
    "Work",
    "exported_to",
    "open_crops",
    "open_loader",
    "prepare",
    "stage_folder",
]
