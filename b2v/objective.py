"""What a step minimises, as modules with one forward pass each, so that processes can share it.

To the losses of a stage (`b2v.stages`) come the terms that judge single frames: VGG16's features
for the middle frame (Jin et al., CVPR 2018, eq. 3), a critic for the others (Table 1).
"""

from dataclasses import dataclass

from torch import Tensor, nn

from b2v.adversary import Critic, critic_loss, deceit_loss
from b2v.frames import MIDDLE
from b2v.losses import Frames
from b2v.perceptual import Features, perceptual_loss
from b2v.recipes import TrainConfig
from b2v.stages import FRAMES_OF, Nets, compare


@dataclass(frozen=True)
class Judges:
    """What judges single frames: VGG16's features, a critic, or neither."""

    features: Features | None = None
    critic: Critic | None = None


def wants_features(config: TrainConfig) -> bool:
    """Tell whether a stage gives a middle frame that VGG16 is to look at."""
    return config.perceptual > 0 and MIDDLE in _judged(config)


def wants_critic(config: TrainConfig) -> bool:
    """Tell whether a stage gives other frames that a critic is to look at."""
    return config.adversarial > 0 and any(index != MIDDLE for index in _judged(config))


def _judged(config: TrainConfig) -> tuple[int, ...]:
    """List the frames that a stage gives; of video there are none."""
    return FRAMES_OF.get(config.role, ())


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
        """Compute the loss [B]; arguments as of `b2v.stages.stage_loss`.

        Returns:
            The loss, and restored and sharp frames for the critic, which no gradient reaches.

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


class Rivalry(nn.Module):
    """Loss of a batch for the critic."""

    def __init__(self, critic: Critic) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, restored: Frames, sharp: Frames) -> Tensor:
        """Compute the loss [B] from frames [B, 3, H, W]."""
        return critic_loss(self.critic, restored, sharp)
