"""The stages of training: what each computes, its loss, and how it is validated.

The cascade is trained in four stages (Jin et al., CVPR 2018, Sec. 5-6): stage 1 the middle net,
stage 2 frames 3 and 5, stage 3 frames 2 and 6, stage 4 frames 1 and 7; each stands on the frozen
networks of the stages before it. A model of one network has one stage.

A network for video runs through a sequence from its first frame to its last, handing on its state,
and its gradient flows back through all of them (Kim et al., ICCV 2017, Sec. 5).

To the losses of a stage come the terms that judge single frames: VGG16's features for the middle
frame (Jin et al., eq. 3), a critic for the others (Table 1).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from b2v.data.clip_cache import open_array
from b2v.data.datasets import BankConfig, SequenceConfig
from b2v.errors import UsageError
from b2v.frames import FRAMES, MIDDLE, crop_back, pad_to_multiple
from b2v.inference.runtime import Runtime
from b2v.metrics import psnr
from b2v.models import MAXIM_STAGES, PRIOR, ROLES, SEVEN, VIDEO, gives_pair
from b2v.models.cascade import Apart, JinPair
from b2v.models.dtb import VideoNet, run_clip
from b2v.models.unet import Hourglass, UNet
from b2v.training.config import TrainConfig, multiple_of
from b2v.training.losses import (
    Critic,
    Features,
    Frames,
    deceit_loss,
    frames_loss,
    in_order,
    moves_against,
    perceptual_loss,
    pixel_loss,
    runs_backwards,
)

BEST_DB = 40.0
"""PSNR above which better is not worth more, as in `losses.LOG_FLOOR`: what an all but still
sequence loses beyond it nobody sees, and it would outweigh all others."""
SHOWN = 3
"""Frames of a sequence in the picture to look at."""


Nets = dict[str, nn.Module]
"""Networks by role."""


class Outcome(NamedTuple):
    """The result of a batch: a loss for each sample, [B], and the frames that were compared.

    The latter are for terms that judge single frames; of video there are none.
    """

    loss: Tensor
    restored: Frames
    sharp: Frames


MIDDLES = ROLES[0], PRIOR, MAXIM_STAGES[0]
"""Roles of networks that give the middle frame."""

FRAMES_OF: dict[str, tuple[int, ...]] = {
    SEVEN: tuple(range(FRAMES)),
    **dict.fromkeys(MIDDLES, (MIDDLE,)),
    **{role: tuple(sorted({MIDDLE - k, MIDDLE + k})) for k, role in enumerate(ROLES)},
}
"""Indices of the frames that the network of a role gives, in order of time."""


def new_network(config: TrainConfig, earlier: Nets, start: nn.Module | None = None) -> nn.Module:
    """Make the network that a stage trains, its random weights drawn from the seed.

    It may start at one of the `earlier` stages', or at `start`, that of `config.start`; raises
    UsageError where that is not of a kind from which it can.
    """
    torch.manual_seed(config.seed)
    net = config.blueprint.build()
    if gives_pair(net) and config.pair != "best-order":  # two equal frames have no gradient apart
        head = net.first.head.conv if isinstance(net, JinPair) else cast("UNet", net).head
        nn.init.normal_(head.weight, std=1e-3)
    if config.init == "previous" and earlier and isinstance(net, UNet):
        previous = earlier[config.roles[-2]]
        if isinstance(previous, UNet):
            net.adopt(previous)
    if start is not None and _alike(start, net):
        net.load_state_dict(start.state_dict())
        return net
    if start is not None:
        if not isinstance(net, Hourglass | Apart) or not isinstance(start, Hourglass):
            raise UsageError(
                f"{config.start}: only a network of the same shape, or a U-Net for a U-Net"
            )
        net.adopt(start)
    return net


def _alike(one: nn.Module, other: nn.Module) -> bool:
    """Tell whether two networks have the same weights, but for their values."""
    shapes = ({name: w.shape for name, w in net.state_dict().items()} for net in (one, other))
    return type(one) is type(other) and next(shapes) == next(shapes)


def restore_frames(
    role: str, nets: Nets, blurry: Tensor, x4: Tensor | None = None
) -> tuple[Frames, Frames]:
    """Estimate the frames of a role; the networks of earlier stages are frozen.

    Args:
        role: whose frames.
        nets: networks by role, up to and with this one.
        blurry: [B, 3, H, W].
        x4: the true middle frame for teacher forcing of side nets, or None for the middle net's
            own.

    Returns:
        The role's frames (`FRAMES_OF`), and of a side net the frames that show the direction of
        time: (3, 5), by which stage 2 has chosen it, or its own pair when it is free to choose.

    """
    if role == SEVEN:
        return nets[SEVEN](blurry).unbind(1), ()
    if role in MIDDLES:
        frame = nets[role](blurry)  # a stage of MAXIM gives features for the next one, too
        return (frame[0] if isinstance(frame, tuple) else frame,), ()
    with torch.no_grad():
        x4 = nets["middle"](blurry) if x4 is None else x4
    if role == "pair35" or gives_pair(nets[role]):
        pair = nets[role](blurry, x4)
        return pair, pair
    with torch.no_grad():
        inner = nets["pair35"](blurry, x4)
    # Both ends of the exposure in one batch: the outer nets are shared between them.
    twice, near, x4 = blurry.repeat(2, 1, 1, 1), torch.cat(inner), x4.repeat(2, 1, 1, 1)
    if role == "pair26":
        outer = nets["pair26"](twice, x4, near)
    else:
        with torch.no_grad():
            far = nets["pair26"](twice, x4, near)
        outer = nets["pair17"](twice, near, far)
    return tuple(outer.chunk(2)), inner


def compare(config: TrainConfig, nets: Nets, blurry: Tensor, sharp: Tensor, step: int) -> Outcome:
    """Restore the frames of a stage and compare them.

    Args:
        config: which stage, and which losses.
        nets: networks by role, up to and with that of the stage.
        blurry: [B, 3, H, W]; of video, [B, N, 3, H, W].
        sharp: [B, 7, 3, H, W]; of video, [B, N, 3, H, W].
        step: steps taken so far, on which teacher forcing and the direction of time depend.

    """
    role = config.role
    if role == VIDEO:
        frames = run_clip(cast("VideoNet", nets[VIDEO]), blurry)
        return Outcome(pixel_loss(frames, sharp, config.pixel).mean(1), (), ())  # mean of frames
    if role == SEVEN and isinstance(nets[SEVEN], Apart):
        return _compare_apart(config, nets, blurry, sharp)
    forced = config.forcing == "always"
    if config.forcing == "fading":
        chance = np.random.default_rng((config.seed, step)).random()
        forced = chance * config.teacher * config.steps > step
    x4 = sharp[:, MIDDLE] if forced else None
    restored, inner = restore_frames(role, nets, blurry, x4)
    truth = frames_of(role, sharp)
    if role in MIDDLES:
        return Outcome(pixel_loss(restored[0], truth[0], config.pixel), restored, truth)
    if restored is not inner and config.pair in ("best-order", "global"):
        # The outer ones follow what was chosen for each sample.
        backwards = runs_backwards(inner, frames_of("pair35", sharp))
    elif config.pair == "best-order" and step < config.canonical * config.steps:
        backwards = moves_against((sharp[:, MIDDLE - 1], sharp[:, MIDDLE + 1]))
    else:  # eq. 5 has no order: the inner frames, which the outer nets see, hand it on
        loss = frames_loss(restored, truth, config.pair, config.pixel)
        return Outcome(loss, restored, truth)
    turned = torch.where(backwards[:, None, None, None, None], sharp.flip(1), sharp)
    truth = frames_of(role, turned)
    return Outcome(in_order(restored, truth, config.pixel), restored, truth)


def _compare_apart(config: TrainConfig, nets: Nets, blurry: Tensor, sharp: Tensor) -> Outcome:
    """Compare the middle frame by itself and the six others together (Sec. 5.1 and 7)."""
    restored, _ = restore_frames(SEVEN, nets, blurry)
    truth = frames_of(SEVEN, sharp)
    (x4, sides), (y4, others) = (
        (frames[MIDDLE], frames[:MIDDLE] + frames[MIDDLE + 1 :]) for frames in (restored, truth)
    )
    middle = pixel_loss(x4, y4, config.pixel)
    loss = middle + frames_loss(sides, others, config.pair, config.pixel)
    return Outcome(loss, restored, truth)


def frames_of(role: str, sharp: Tensor) -> Frames:
    """Pick of [B, 7, 3, H, W] the frames that a role's network gives."""
    return tuple(sharp[:, index] for index in FRAMES_OF[role])


@torch.no_grad()
def validate(
    role: str, nets: Nets, validation: Path, runtime: Runtime, rows: int = 4
) -> tuple[float, Tensor]:
    """Score a network on samples of scenes that it is not trained on.

    Returns:
        Mean gain in dB over the blurry pictures, of photos in the better order of time a sample,
        and a picture [3, h, w] to look at, a row for each of the first samples: of a photo blurry,
        then restored and sharp of the role's first frame and its last; of a video the first, the
        middle and the last frame blurry, restored and sharp.

    """
    video = role == VIDEO
    gains: list[Tensor] = []
    strips: list[Tensor] = []
    for sample in open_array(validation, (SequenceConfig if video else BankConfig).FILE):
        pictures = torch.from_numpy(sample.copy()).to(runtime.device).float() / 255
        gain, cells = (_judge_video if video else _judge_photo)(role, nets, pictures, runtime)
        gains.append(gain)
        if len(strips) < rows:
            strips.append(torch.cat(cells, dim=2))
    return float(torch.stack(gains).mean()), torch.cat(strips, dim=1).cpu()


def _judge_video(
    role: str, nets: Nets, pictures: Tensor, runtime: Runtime
) -> tuple[Tensor, list[Tensor]]:
    """Score a sequence [2, N, 3, H, W]: its gain, and what there is to look at."""
    net, (blurry, sharp) = cast("VideoNet", nets[role]), pictures
    with runtime.autocast():
        restored = run_clip(net, pad_to_multiple(blurry, net.multiple)[None])[0]
    restored = crop_back(restored.float(), *blurry.shape[2:]).clamp(0, 1)
    before, after = (psnr(x, sharp).clamp(max=BEST_DB) for x in (blurry, restored))
    shown = torch.linspace(0, len(blurry) - 1, SHOWN).long().tolist()
    return (after - before).mean(), [x[n] for n in shown for x in (blurry, restored, sharp)]


def _judge_photo(
    role: str, nets: Nets, pictures: Tensor, runtime: Runtime
) -> tuple[Tensor, list[Tensor]]:
    """Score a clip [8, 3, H, W], the blurry picture first: as `_judge_video`."""
    multiple = math.lcm(*(multiple_of(net) for net in nets.values()))
    blurry, truth = pictures[:1], torch.cat(frames_of(role, pictures[None, 1:]))
    with runtime.autocast():
        frames, _ = restore_frames(role, nets, pad_to_multiple(blurry, multiple))
    restored = crop_back(torch.cat(frames).float(), *blurry.shape[2:]).clamp(0, 1)
    forwards, backwards = (psnr(restored, t).mean() for t in (truth, truth.flip(0)))
    gain = torch.maximum(forwards, backwards) - psnr(blurry, truth).mean()
    return gain, [blurry[0], restored[0], truth[0], restored[-1], truth[-1]]


@dataclass(frozen=True)
class Judges:
    """What judges single frames: VGG16's features, a critic, or neither."""

    features: Features | None = None
    critic: Critic | None = None


class Objective(nn.Module):
    """Loss of a batch for the network that a stage trains; it alone is a part of the module."""

    def __init__(
        self, config: TrainConfig, net: nn.Module, earlier: Nets, judges: Judges | None = None
    ) -> None:
        super().__init__()
        self.net = net
        self.config = config
        # In a tuple, so that they do not become parts: they are frozen, or others train them.
        self._others = (earlier, judges or Judges())

    def forward(self, step: int, blurry: Tensor, sharp: Tensor) -> tuple[Tensor, Frames, Frames]:
        """Compute the loss [B]; arguments as of `compare`.

        Returns the loss, and restored and sharp frames for the critic, which no gradient reaches.
        """
        config, (earlier, judges) = self.config, self._others
        nets = {**earlier, config.role: self.net}
        loss, restored, truth = compare(config, nets, blurry, sharp, step)
        indices = FRAMES_OF.get(config.role, ())
        frames = list(zip(indices, restored, truth, strict=False))
        if judges.features is not None:
            ((x4, y4),) = [(r, s) for index, r, s in frames if index == MIDDLE]
            loss = loss + config.perceptual * perceptual_loss(judges.features, x4, y4)
        sides = [(r, s) for index, r, s in frames if index != MIDDLE]
        if judges.critic is None or not sides:
            return loss, (), ()
        ours, theirs = (tuple(side) for side in zip(*sides, strict=True))
        loss = loss + config.adversarial * deceit_loss(judges.critic, ours)
        return loss, tuple(frame.detach() for frame in ours), theirs
