"""The four stages of training the cascade (Jin et al., CVPR 2018, Sec. 5-6).

Stage 1 trains the middle net, stage 2 frames 3 and 5, stage 3 frames 2 and 6, stage 4 frames
1 and 7; each stands on the frozen networks of the stages before it. This page has what a run
is made of: its config, what a stage computes, and its loss.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from b2v.data import open_clips
from b2v.errors import UsageError
from b2v.frames import MIDDLE, crop_back, pad_to_multiple
from b2v.losses import (
    PairLoss,
    PixelLoss,
    best_order_loss,
    in_order,
    moves_against,
    pair_loss,
    pixel_loss,
    runs_backwards,
)
from b2v.metrics import psnr
from b2v.models import CASCADES, ROLES
from b2v.models.unet import UNet
from b2v.runtime import Runtime

Pair = tuple[Tensor, Tensor]
Init = Literal["previous", "fresh"]
Nets = dict[str, nn.Module]
"""Networks by role."""


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
    """Steps in which the learning rate rises from zero; then it falls to zero by a cosine."""
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 5.0
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the moving average of weights, which is what is validated and exported."""
    pixel: PixelLoss = "log-mse"
    pair: PairLoss = "best-order"
    canonical: float = 0.2
    """Part of stage 2 in which the direction of time is prescribed (`moves_against`), because
    a net that starts with two equal frames would never choose one; then the better one counts."""
    teacher: float = 0.3
    """Part of a side net's run that sees the true x4 (teacher forcing) less and less often;
    from then on the middle net's own."""
    init: Init = "previous"
    """Where a side net of the U-Net kind starts: at the net of the stage before, which knows
    how to deblur, or at random."""
    seed: int = 0
    validate_every: int = 500


def check(config: TrainConfig, clip_size: int) -> None:
    """Check that a config can be trained on clips of so many pixels a side.

    Raises UsageError, which names what is wrong and what would do.
    """
    choices = {
        "model": (config.model, tuple(CASCADES)),
        "stage": (config.stage, (1, 2, 3, 4)),
        "pixel": (config.pixel, get_args(PixelLoss)),
        "pair": (config.pair, get_args(PairLoss)),
        "init": (config.init, get_args(Init)),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise UsageError(f"{name} {value!r} is unknown; choose {', '.join(map(str, known))}")
    roles = ROLES[: config.stage]
    multiple = math.lcm(*(_multiple(CASCADES[config.model][role].build()) for role in roles))
    if config.crop % multiple:
        raise UsageError(f"crop {config.crop} does not suit; take a multiple of {multiple}")
    if config.crop > clip_size:
        raise UsageError(f"crop {config.crop} is larger than the clips: {clip_size} pixels")


def _multiple(net: nn.Module) -> int:
    return cast("int", net.multiple)


def new_network(config: TrainConfig, earlier: Nets) -> nn.Module:
    """Make the network that a stage trains, its random weights drawn from the seed."""
    torch.manual_seed(config.seed)
    net = CASCADES[config.model][ROLES[config.stage - 1]].build()
    if config.stage == 2 and isinstance(net, UNet) and config.pair == "pair":
        nn.init.normal_(net.head.weight, std=1e-3)  # two equal frames have no gradient apart
    if config.init == "previous" and earlier and isinstance(net, UNet):
        previous = earlier[ROLES[config.stage - 2]]
        if isinstance(previous, UNet):
            net.adopt(previous)
    return net


def restore_pair(
    stage: int, nets: Nets, blurry: Tensor, x4: Tensor | None = None
) -> tuple[Pair, Pair]:
    """Estimate the two frames of stages 2 to 4; the networks of earlier stages are frozen.

    Args:
        stage: 2, 3 or 4.
        nets: networks by role, up to and with that of the stage.
        blurry: [B, 3, H, W].
        x4: the true middle frame for teacher forcing, or None for the middle net's own.

    Returns:
        The stage's frames (k, 8 - k), and frames (3, 5), which show the direction of time
        that stage 2 has chosen.

    """
    with torch.no_grad():
        x4 = nets["middle"](blurry) if x4 is None else x4
    if stage == 2:
        inner = nets["pair35"](blurry, x4)
        return inner, inner
    with torch.no_grad():
        inner = nets["pair35"](blurry, x4)
    # Both ends of the exposure in one batch: the outer nets are shared between them.
    twice, near, x4 = blurry.repeat(2, 1, 1, 1), torch.cat(inner), x4.repeat(2, 1, 1, 1)
    if stage == 3:
        outer = nets["pair26"](twice, x4, near)
    else:
        with torch.no_grad():
            far = nets["pair26"](twice, x4, near)
        outer = nets["pair17"](twice, near, far)
    return tuple(outer.chunk(2)), inner


def stage_loss(config: TrainConfig, nets: Nets, blurry: Tensor, sharp: Tensor, step: int) -> Tensor:
    """Loss of a stage on a batch.

    Args:
        config: which stage, and which losses.
        nets: networks by role, up to and with that of the stage.
        blurry: [B, 3, H, W].
        sharp: [B, 7, 3, H, W].
        step: steps taken so far, on which teacher forcing and the direction of time depend.

    Returns:
        [B].

    """
    if config.stage == 1:
        return pixel_loss(nets["middle"](blurry), sharp[:, MIDDLE], config.pixel)
    chance = np.random.default_rng((config.seed, step)).random()
    forced = chance * config.teacher * config.steps > step
    restored, inner = restore_pair(config.stage, nets, blurry, sharp[:, MIDDLE] if forced else None)
    if config.stage == 2:
        target = pair_of(sharp, 1)
        if config.pair == "pair":
            return pair_loss(restored, target)
        if step >= config.canonical * config.steps:
            return best_order_loss(restored, target, config.pixel)
        sharp = _turned(sharp, moves_against(target))
        return in_order(restored, pair_of(sharp, 1), config.pixel)
    # Stages 3 and 4 follow the direction that stage 2 chose for each sample.
    sharp = _turned(sharp, runs_backwards(inner, pair_of(sharp, 1)))
    return in_order(restored, pair_of(sharp, config.stage - 1), config.pixel)


def _turned(sharp: Tensor, backwards: Tensor) -> Tensor:
    """Play those samples of [B, 7, 3, H, W] backwards for which [B] is true."""
    return torch.where(backwards[:, None, None, None, None], sharp.flip(1), sharp)


def pair_of(sharp: Tensor, distance: int) -> Pair:
    """Pick the frames so many intervals before and after the middle one."""
    return sharp[:, MIDDLE - distance], sharp[:, MIDDLE + distance]


@torch.no_grad()
def validate(
    stage: int, nets: Nets, validation: Path, runtime: Runtime, rows: int = 4
) -> tuple[float, Tensor]:
    """Score a stage on clips of scenes that it is not trained on.

    Returns:
        Mean gain in dB over the blurry picture, in the better order of time a sample, and a
        picture [3, h, w] to look at: the first clips, a row each, blurry, then restored and
        sharp of either frame.

    """
    gains: list[Tensor] = []
    strips: list[Tensor] = []
    multiple = math.lcm(*(_multiple(net) for net in nets.values()))
    for clip in open_clips(validation):
        pictures = torch.from_numpy(clip.copy()).to(runtime.device).float() / 255
        blurry, truth = pictures[:1], pair_of(pictures[None, 1:], stage - 1)
        padded = pad_to_multiple(blurry, multiple)
        with runtime.autocast():
            pair = (
                2 * (nets["middle"](padded),)
                if stage == 1
                else restore_pair(stage, nets, padded)[0]
            )
        restored = crop_back(torch.cat(pair).float(), *blurry.shape[2:]).clamp(0, 1)
        forwards, backwards = (
            psnr(restored, torch.cat(order)).mean() for order in (truth, truth[::-1])
        )
        gains.append(torch.maximum(forwards, backwards) - psnr(blurry, torch.cat(truth)).mean())
        if len(strips) < rows:
            first, second = restored
            strips.append(torch.cat([blurry[0], first, truth[0][0], second, truth[1][0]], dim=2))
    return float(torch.stack(gains).mean()), torch.cat(strips, dim=1).cpu()
