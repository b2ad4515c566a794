"""The checkpoint of a stage: all that training changes, written whole or not at all.

`last.pt` is written beside its place, secured on the disk and renamed. It is a zip archive, whose
checksums tell whether it is whole.
"""

import copy
import json
import math
import os
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from b2v.errors import TrainingError
from b2v.files import may_never_end
from b2v.training.config import TrainConfig
from b2v.training.losses import BETAS, Critic

LAST = "last.pt"


@dataclass
class State:
    """What training changes; all of it is in a checkpoint."""

    net: nn.Module
    ema: nn.Module
    optimizer: torch.optim.Optimizer
    critic: Critic | None = None
    critic_optimizer: torch.optim.Optimizer | None = None
    step: int = 0
    best: float = -math.inf

    def _parts(self) -> dict[str, Any]:
        names = ("net", "ema", "optimizer", "critic", "critic_optimizer")
        parts = {name: getattr(self, name) for name in names}
        return {name: part for name, part in parts.items() if part is not None}

    def state_dict(self) -> dict[str, Any]:
        """Give all values as plain ones and tensors."""
        states = {name: part.state_dict() for name, part in self._parts().items()}
        return {**states, "step": self.step, "best": self.best}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; errors of any type where it is something else."""
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        self.step, self.best = saved["step"], saved["best"]


def new_state(config: TrainConfig, net: nn.Module, critic: Critic | None) -> State:
    """Make the state in which a run begins."""
    average = copy.deepcopy(net).requires_grad_(False)
    state = State(net, average, new_optimizer(config, net), critic)
    if critic is not None:
        state.critic_optimizer = torch.optim.Adam(critic.parameters(), lr=config.lr, betas=BETAS)
    return state


def new_optimizer(config: TrainConfig, net: nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer of a network."""
    kind: type[torch.optim.Adam | torch.optim.AdamW] = torch.optim.AdamW
    decay = config.weight_decay
    if config.optimizer == "adam":  # the gradient of decay * |W|^2 is 2 * decay * W
        kind, decay = torch.optim.Adam, 2 * decay
    return kind(net.parameters(), lr=config.lr, betas=config.betas, weight_decay=decay)


def has_begun(folder: Path) -> bool:
    """Tell whether a stage's folder holds a checkpoint."""
    return (folder / LAST).exists()


def save(folder: Path, state: State, config: TrainConfig, bank: Path) -> None:
    """Write the checkpoint of a stage in place of the one before."""
    part = folder / f"{LAST}.part"
    with part.open("wb") as file:
        about = {"config": plain(config), "bank": bank.parent.name}
        torch.save({**state.state_dict(), **about}, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / LAST)


def load(folder: Path, config: TrainConfig, bank: Path) -> dict[str, Any]:
    """Read what `save` wrote of a stage that has begun; `bank` is what it is trained on.

    Raises TrainingError where it is not whole, or was begun with other settings or on other data.
    """
    saved = _read(folder / LAST)
    if saved is None:
        raise TrainingError(f"{folder / LAST}: is damaged; move the folder away")
    begun, wanted = saved["config"], plain(config)
    changed = [n for n in wanted if n != "steps" and begun.get(n) != wanted[n]]
    if changed:
        name = changed[0]
        raise TrainingError(
            f"{folder}: was begun with other settings than these: {name} was {begun.get(name)!r},"
            f" not {wanted[name]!r}"
        )
    if (before := saved.get("bank", bank.parent.name)) != bank.parent.name:
        what = f"was begun on other data: bank {before}, not {bank.parent.name}"
        raise TrainingError(
            f"{folder}: {what}; give the --data and --clips of then, or a new --run"
        )
    return saved


def plain(config: TrainConfig) -> dict[str, Any]:
    """Give a config as JSON would hold it."""
    return dict(json.loads(json.dumps(asdict(config))))


def _read(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint, or nothing when it is not whole, or is something else."""
    try:
        if may_never_end(path):
            return None
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        saved = dict(torch.load(path, map_location="cpu", weights_only=True))
        known = saved["config"], saved["step"], float(saved["best"])
        return saved if isinstance(known[0], dict) and known[1] >= 0 else None
    except Exception:  # what lies on a disk may be anything
        return None
