"""What a run of training does: its config, and the recipe of each model."""

import math
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from torch import nn

from b2v.errors import UsageError
from b2v.frames import FRAMES
from b2v.losses import PairLoss, PixelLoss
from b2v.models import MODELS, ROLES, VIDEO, Blueprint
from b2v.models.dtb import INPUTS, DTBConfig

Init = Literal["previous", "fresh"]
Schedule = Literal["cosine", "steps"]
Optimizer = Literal["adamw", "adam"]

DECAY, DECAY_STEPS = 0.96, 10_000
"""The learning rate is multiplied by this at every so many steps (Kim et al., Sec. 5)."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What a run does; everything but `steps` is fixed once it has begun."""

    model: str = "b2v"
    stage: int = 1
    steps: int = 10_000
    batch: int = 8
    crop: int = 128
    lr: float = 5e-4
    warmup: int = 200
    """Steps in which the learning rate rises from zero."""
    schedule: Schedule = "cosine"
    """How the rate falls: by a cosine to zero, or by `DECAY` at every `DECAY_STEPS` (`steps`)."""
    optimizer: Optimizer = "adamw"
    """Whether `weight_decay` shrinks the weights (AdamW), or its product with |W|^2 is a part of
    the loss, as Kim et al. have it (Adam)."""
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 5.0
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the moving average of weights, which is what is validated and exported."""
    pixel: PixelLoss = "log-mse"
    pair: PairLoss = "best-order"
    canonical: float = 0.2
    """Part of the run in which a net that chooses the direction of time has it prescribed
    (`moves_against`), because one that starts with equal frames would never choose; then the
    better direction counts."""
    path_weight: float = 2.0
    """Weight of `path_loss` for a net that estimates paths."""
    teacher: float = 0.3
    """Part of a side net's run that sees the true x4 (teacher forcing) less and less often;
    from then on the middle net's own."""
    init: Init = "previous"
    """Where a side net of the U-Net kind starts: at the net of the stage before, which knows
    how to deblur, or at random."""
    start: str = ""
    """File of a network whose weights a net of the U-Net kind starts with, as far as they fit."""
    frames: int = 13
    """Consecutive frames of a video network's sequences, through which its gradient flows."""
    inputs: int = 3
    """Frames that a video network sees at once, 3, 5 or 7."""
    jpeg: float = 0.1
    """Share of crops whose blurry pictures are compressed."""
    discrete: float = 0.3
    """Share of crops whose blur is the light of the seven frames alone, as of averaged videos."""
    seed: int = 0
    validate_every: int = 500

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of the networks up to that of the stage, in training order."""
        return tuple(MODELS[self.model])[: self.stage]

    @property
    def role(self) -> str:
        """Role of the network that is trained."""
        return self.roles[-1]

    @property
    def blueprint(self) -> Blueprint:
        """Kind and config of the network that is trained."""
        plan = MODELS[self.model][self.role]
        if isinstance(plan.config, DTBConfig):
            return replace(plan, config=replace(plan.config, inputs=self.inputs))
        return plan


def recipe(model: str) -> TrainConfig:
    """Give the settings that a model is trained with unless others are asked for.

    Video networks have those of Kim et al. (ICCV 2017, Sec. 5); the paper does not say that the
    gradient is held, nor that weights are averaged, which `TrainConfig` does for all.
    """
    if not is_for_video(model):
        return TrainConfig(model=model)
    return TrainConfig(
        model=model,
        steps=300_000,
        lr=1e-4,
        warmup=1,
        schedule="steps",
        optimizer="adam",
        weight_decay=1e-5,
        betas=(0.9, 0.999),
        pixel="mse",
        validate_every=1000,
    )


def is_for_video(model: str) -> bool:
    """Tell whether a model restores video; an unknown one does not."""
    return VIDEO in MODELS.get(model, {})


def choose_variant(model: str, variant: str | None) -> str:
    """Name the model that is the `variant` of `model`: dtb, strcnn or cnn; None for itself.

    Raises UsageError when `model` has no such variant.
    """
    names = {"dtb": "dtb", "strcnn": "dtb-strcnn", "cnn": "dtb-cnn"}
    if variant is None:
        return model
    if not is_for_video(model):
        raise UsageError(f"model {model!r} has no variants; --variant is for -m dtb")
    if model not in ("dtb", names[variant]):
        raise UsageError(f"model {model!r} is a variant itself; take -m dtb --variant {variant}")
    return names[variant]


def check(config: TrainConfig, clip_size: int, clip_frames: int = FRAMES) -> None:
    """Check that a config can be trained on clips of so many pixels a side, and frames.

    Raises UsageError, which names what is wrong and what would do.
    """
    choices = {
        "model": (config.model, tuple(MODELS)),
        "stage": (config.stage, tuple(range(1, 1 + len(MODELS.get(config.model, ROLES))))),
        "pixel": (config.pixel, get_args(PixelLoss)),
        "pair": (config.pair, get_args(PairLoss)),
        "init": (config.init, get_args(Init)),
        "schedule": (config.schedule, get_args(Schedule)),
        "optimizer": (config.optimizer, get_args(Optimizer)),
        "inputs": (config.inputs, INPUTS),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise UsageError(f"{name} {value!r} is unknown; choose {', '.join(map(str, known))}")
    plans = MODELS[config.model]
    multiple = math.lcm(*(multiple_of(plans[role].build()) for role in config.roles))
    if config.crop % multiple:
        raise UsageError(f"crop {config.crop} does not suit; take a multiple of {multiple}")
    if config.crop > clip_size:
        raise UsageError(f"crop {config.crop} is larger than the clips: {clip_size} pixels")
    if config.role == VIDEO and not 1 <= config.frames <= clip_frames:
        raise UsageError(f"frames {config.frames} does not suit; take 1 to {clip_frames}")


def multiple_of(net: nn.Module) -> int:
    """Give the multiple of pixels that a network's pictures must have a side."""
    return cast("int", net.multiple)
