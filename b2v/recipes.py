"""What a run of training does: its config, and the recipe of each model."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from torch import nn

from b2v.errors import UsageError
from b2v.frames import FRAMES
from b2v.losses import PairLoss, PixelLoss
from b2v.models import MAXIM_STAGES, MODELS, PRIOR, ROLES, VIDEO, Blueprint
from b2v.models.blend import BlendConfig
from b2v.models.dtb import DTBConfig
from b2v.models.unet import UNetConfig
from b2v.models.video import INPUTS

Forcing = Literal["fading", "always", "never"]
Init = Literal["previous", "fresh"]
Schedule = Literal["cosine", "steps"]
Optimizer = Literal["adamw", "adam"]

DECAY, DECAY_STEPS = 0.96, 10_000
"""The learning rate is multiplied by this at every so many steps (Kim et al., Sec. 5)."""

LIMITS = {
    **dict.fromkeys(("steps", "batch", "warmup", "validate_every"), (1, math.inf)),
    "crop": (16, math.inf),
    **dict.fromkeys(("lr", "weight_decay", "perceptual", "adversarial"), (0, math.inf)),
    **dict.fromkeys(("canonical", "teacher", "ema", "jpeg", "discrete", "rest", "soft"), (0, 1)),
}
"""Least and largest values of settings that are numbers."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What a run does; everything but `steps` is fixed once it has begun."""

    model: str = "cascade"
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
    """How a frame is compared with the truth."""
    perceptual: float = 0.0
    """Weight of the distance between VGG16's features of middle frames (Jin et al., eq. 3)."""
    pair: PairLoss = "best-order"
    """How frames whose order of time is free are compared (`b2v.losses.frames_loss`)."""
    adversarial: float = 0.0
    """Weight of what a critic of patches makes of the other frames (`b2v.adversary`)."""
    canonical: float = 0.2
    """Part of the run in which a net that chooses the direction of time has it prescribed
    (`moves_against`), because one that starts with equal frames would never choose; then the
    better direction counts."""
    forcing: Forcing = "fading"
    """Whether a side net sees the true x4 (teacher forcing): less and less often (`teacher`),
    always, as in the paper, or never."""
    teacher: float = 0.3
    """Part of a side net's run in which teacher forcing fades; from then on it sees the middle
    net's own x4."""
    see_middle: bool = True
    """Whether a net for a pair of frames sees x4 at all."""
    init: Init = "previous"
    """Where a side net of the U-Net kind starts: at the net of the stage before, which knows
    how to deblur, or at random."""
    start: str = ""
    """File of a network of the same shape that is trained on, or one of the U-Net kind by whose
    weights a net of that kind starts, as far as they fit."""
    frames: int = 13
    """Consecutive frames of a video network's sequences, through which its gradient flows."""
    inputs: int = 3
    """Frames that a video network sees at once, 3, 5 or 7."""
    jpeg: float = 0.1
    """Share of crops whose blurry pictures are compressed."""
    discrete: float = 0.3
    """Share of crops whose blur is the light of the seven frames alone, as of averaged videos."""
    rest: float = 0.0
    """Share of crops that stand still instead, a little soft."""
    soft: float = 0.0
    """Share of the other crops whose blurry picture and frames are as soft as that."""
    colours: int = 3
    """How many colours of a crop are seen; by one alone the paper's nets, which restore each by
    the same weights, are trained at half the cost."""
    recolour: bool = True
    """Whether the colours of a crop change places at random (Jin et al., Sec. 6)."""
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
        if isinstance(plan.config, BlendConfig | DTBConfig):
            return replace(plan, config=replace(plan.config, inputs=self.inputs))
        if not self.see_middle and isinstance(plan.config, UNetConfig) and plan.config.outputs == 2:
            return Blueprint("unet-alone", replace(plan.config, inputs=1))
        return plan


def recipe(model: str) -> TrainConfig:
    """Give the settings that a model is trained with unless others are asked for.

    Variants of DTB have those of Kim et al. (ICCV 2017, Sec. 5); the paper does not say that the
    gradient is held, nor that weights are averaged, which `TrainConfig` does for all.
    """
    if not is_for_video(model):
        return TrainConfig(model=model)
    if model == "blend":
        return TrainConfig(model=model, frames=5, crop=112, batch=2, lr=3e-4, warmup=50, ema=0.995)
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


ABLATION: dict[str, dict[str, Any]] = {
    "independent": {"model": "apart", "pair": "independent", "pixel": "mse"},
    "global": {"model": "apart", "pair": "global", "pixel": "mse"},
    "pair": {"model": "pairs", "pair": "pair", "pixel": "mse", "see_middle": False},
    "pair + middle": {"model": "pairs", "pair": "pair", "pixel": "mse", "forcing": "never"},
    "sequential": {"model": "cascade", "pair": "pair", "pixel": "mse", "forcing": "never"},
    "teacher forcing": {"model": "cascade", "pair": "pair", "pixel": "mse", "forcing": "always"},
}
"""What the schemes that Jin et al. compare (Sec. 7, Fig. 4) change in a recipe."""

FOR_PHOTOS = (
    *("perceptual", "pair", "adversarial", "canonical", "forcing", "teacher"),
    *("see_middle", "init", "discrete", "rest", "soft", "recolour"),
)
FOR_VIDEO = ("frames", "inputs")
"""Settings that have a meaning for one kind of model alone."""


def is_for_video(model: str) -> bool:
    """Tell whether a model restores video; an unknown one does not."""
    return VIDEO in MODELS.get(model, {})


def check(config: TrainConfig, clip_size: int, clip_frames: int = FRAMES) -> None:
    """Check that a config can be trained on clips of so many pixels a side, and frames.

    Raises UsageError, which names what is wrong and what would do.
    """
    _check_choices(config)
    for name, (least, most) in LIMITS.items():
        value = getattr(config, name)
        if not least <= value <= most:
            upto = f" to {most:g}" if math.isfinite(most) else " or more"
            raise UsageError(f"{name} {value:g} does not suit; take {least:g}{upto}")
    plans = MODELS[config.model]
    if config.colours == 1 and not plans[config.role].kind.startswith("jin-"):
        raise UsageError(f"colours 1 is for the nets of jin2018, not those of {config.model}")
    multiple = math.lcm(*(multiple_of(plans[role].build()) for role in config.roles))
    if config.crop % multiple:
        raise UsageError(f"crop {config.crop} does not suit; take a multiple of {multiple}")
    if config.crop > clip_size:
        raise UsageError(f"crop {config.crop} is larger than the clips: {clip_size} pixels")
    if config.role == VIDEO and not 1 <= config.frames <= clip_frames:
        raise UsageError(f"frames {config.frames} does not suit; take 1 to {clip_frames}")
    if not config.see_middle and not any(_is_blind(config, role) for role in plans):
        raise UsageError(f"see_middle = false is for pairs by a U-Net, which {config.model} lacks")


def _check_choices(config: TrainConfig) -> None:
    choices = {
        "model": (config.model, _trainable()),
        "stage": (config.stage, tuple(range(1, 1 + len(MODELS.get(config.model, ROLES))))),
        "pixel": (config.pixel, get_args(PixelLoss)),
        "pair": (config.pair, get_args(PairLoss)),
        "forcing": (config.forcing, get_args(Forcing)),
        "init": (config.init, get_args(Init)),
        "schedule": (config.schedule, get_args(Schedule)),
        "optimizer": (config.optimizer, get_args(Optimizer)),
        "inputs": (config.inputs, INPUTS),
        "colours": (config.colours, (1, 3)),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise UsageError(f"{name} {value!r} is unknown; choose {', '.join(map(str, known))}")


def _trainable() -> tuple[str, ...]:
    """List the models that there are training stages for: priors come trained."""
    return tuple(
        model for model, plans in MODELS.items() if not {MAXIM_STAGES[0], PRIOR} & {*plans}
    )


def _is_blind(config: TrainConfig, role: str) -> bool:
    stage = 1 + list(MODELS[config.model]).index(role)
    return replace(config, stage=stage).blueprint.kind == "unet-alone"


def multiple_of(net: nn.Module) -> int:
    """Give the multiple of pixels that a network's pictures must have a side."""
    return cast("int", net.multiple)
