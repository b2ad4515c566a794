"""Networks: frozen configs and modules that know nothing but tensors.

This page lists them: which kinds of network there are, and which make up each model.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from torch import Tensor, nn

from b2v.errors import B2VError, WeightsError
from b2v.frames import Tiling
from b2v.models.cascade import (
    Alone,
    Apart,
    Cascade,
    JinMiddle,
    JinMiddleConfig,
    JinPair,
    JinSide,
    JinSideConfig,
    Pairs,
)
from b2v.models.dtb import DTB, BlendConfig, BlendNet, DTBConfig, VideoNet
from b2v.models.maxim import Maxim, MaximConfig, MaximStage
from b2v.models.unet import UNet, UNetConfig


class Prior(nn.Module):
    """A network from blurry pictures [B, 3, H, W] to sharp ones, with the tiles it is run in.

    One that `knows_sharp` leaves sharp places as they are; what others change where nothing moved
    is not taken. It never sees a photo larger than halved `halvings` times: each takes a quarter of
    the time.
    """

    def __init__(
        self, net: nn.Module, tiling: Tiling, *, knows_sharp: bool = False, halvings: int = 0
    ) -> None:
        super().__init__()
        self.net, self.tiling, self.knows_sharp = net, tiling, knows_sharp
        self.halvings = halvings
        self.multiple = cast("int", net.multiple)

    def forward(self, blurry: Tensor) -> Tensor:
        """Restore one tile."""
        return cast("Tensor", self.net(blurry))


Config = BlendConfig | DTBConfig | JinMiddleConfig | JinSideConfig | MaximConfig | UNetConfig

Extractor = Apart | Cascade | Prior
"""Whatever gives the frames of one blurry picture."""

ROLES = ("middle", "pair35", "pair26", "pair17")
"""What the four networks of a cascade do, in the order of the training stages 1 to 4."""

MAXIM_STAGES = ("stage1", "stage2", "stage3")
"""The stages of MAXIM in order; one may stop after any of them."""

MAXIM_TILES = Tiling(384, 64)
"""Tiles of MAXIM in pixels."""

PRIOR = "prior"
"""What a network does that makes one sharp picture of one blurry one, and is a model alone."""

PRIOR_TILES = Tiling(512, 64)
"""Tiles of such a network in pixels."""

SEVEN = "seven"
"""What a network does that gives all seven frames alone."""

VIDEO = "video"
"""What a network does that restores a video frame by frame."""

ALL_ROLES = (*ROLES, SEVEN, VIDEO, *MAXIM_STAGES, PRIOR)
"""Whatever a network can be for."""

_KINDS: dict[str, tuple[type[Config], type[nn.Module]]] = {
    "jin-middle": (JinMiddleConfig, JinMiddle),
    "jin-pair": (JinSideConfig, JinPair),
    "jin-side": (JinSideConfig, JinSide),
    "unet": (UNetConfig, UNet),
    "dtb": (DTBConfig, DTB),
    "blend": (BlendConfig, BlendNet),
    "apart": (UNetConfig, Apart),
    "unet-alone": (UNetConfig, Alone),
    "maxim": (MaximConfig, MaximStage),
}

MOST_BLOCKS, MOST_CHANNELS = 64, 4096
"""Numbers in a config beyond these would take hours to build, or all memory."""
_BLOCKS = ("blocks", "outer", "encoder_blocks", "decoder_blocks", "groups", "bottlenecks")


@dataclass(frozen=True)
class Blueprint:
    """Kind and config of one network: all it takes to build it without weights."""

    kind: str
    config: Config

    @classmethod
    def parse(cls, kind: str, config: dict[str, Any]) -> "Blueprint":
        """Rebuild a blueprint from what `describe` gave; raises B2VError when it is not one."""
        if kind not in _KINDS:
            raise B2VError(f"unknown kind of network {kind!r}; known: {', '.join(_KINDS)}")
        try:
            plan = cls(kind, _KINDS[kind][0](**cast("Any", _tuples(config))))
            wrong = [key for key, value in config.items() if not _is_buildable(key, value)]
        except (TypeError, ValueError, RecursionError) as error:
            raise B2VError(f"config of a {kind} network does not fit: {error}") from error
        if wrong:
            raise B2VError(f"config of a {kind} network is of no real one: {wrong[0]!r}")
        return plan

    def describe(self) -> tuple[str, dict[str, Any]]:
        """Kind and config as plain values that JSON can hold."""
        return self.kind, asdict(self.config)

    def build(self) -> nn.Module:
        """Make the network with fresh weights."""
        network: Any = _KINDS[self.kind][1]
        return network(self.config)


MODELS: dict[str, dict[str, Blueprint]] = {
    "apart": {SEVEN: Blueprint("apart", UNetConfig(inputs=1))},
    "blend": {VIDEO: Blueprint("blend", BlendConfig())},
    "cascade": {
        "middle": Blueprint("unet", UNetConfig(inputs=1)),
        "pair35": Blueprint("unet", UNetConfig(inputs=2, outputs=2)),
        "pair26": Blueprint("unet", UNetConfig(inputs=3)),
        "pair17": Blueprint("unet", UNetConfig(inputs=3)),
    },
    "dtb": {VIDEO: Blueprint("dtb", DTBConfig())},
    "dtb-cnn": {VIDEO: Blueprint("dtb", DTBConfig(variant="cnn"))},
    "dtb-strcnn": {VIDEO: Blueprint("dtb", DTBConfig(variant="strcnn"))},
    "jin2018": {
        "middle": Blueprint("jin-middle", JinMiddleConfig()),
        "pair35": Blueprint("jin-pair", JinSideConfig()),
        "pair26": Blueprint("jin-side", JinSideConfig(outer=2)),
        "pair17": Blueprint("jin-side", JinSideConfig(outer=2)),
    },
    "maxim-1": {"stage1": Blueprint("maxim", MaximConfig(stage=1))},
    "maxim-3": {
        "stage1": Blueprint("maxim", MaximConfig(stage=1)),
        "stage2": Blueprint("maxim", MaximConfig(stage=2)),
        "stage3": Blueprint("maxim", MaximConfig(stage=3, ends=True)),
    },
    "pairs": {
        "middle": Blueprint("unet", UNetConfig(inputs=1)),
        "pair35": Blueprint("unet", UNetConfig(inputs=2, outputs=2)),
        "pair26": Blueprint("unet", UNetConfig(inputs=2, outputs=2)),
        "pair17": Blueprint("unet", UNetConfig(inputs=2, outputs=2)),
    },
    "unet": {PRIOR: Blueprint("unet", UNetConfig(inputs=1))},
}
"""Blueprints of the networks of each model, by the model's name and the role, in training order."""


def needed_roles(networks: Collection[str]) -> tuple[str, ...]:
    """List the roles that a model is made of which has some networks."""
    for role in (SEVEN, PRIOR):
        if role in networks:
            return (role,)
    if stages := [number for number, role in enumerate(MAXIM_STAGES, 1) if role in networks]:
        return MAXIM_STAGES[: stages[-1]]
    return (VIDEO,) if set(networks) == {VIDEO} else ROLES


def missing_roles(networks: Collection[str]) -> list[str]:
    """List the roles that networks by role lack to give seven frames, or to restore video."""
    return [role for role in needed_roles(networks) if role not in networks]


def assemble(networks: Mapping[str, nn.Module], *, halvings: int = 0) -> Extractor:
    """Make of networks by role what gives the seven frames; `halvings` is for priors.

    Raises WeightsError where stages of MAXIM do not go together, or a prior is none.
    """
    if SEVEN in networks:
        return cast("Apart", networks[SEVEN])
    if PRIOR in networks:
        net = networks[PRIOR]
        if not (isinstance(net, UNet) and net.config.inputs == net.config.outputs == 1):
            what = f"the network for {PRIOR} is no U-Net of one picture"
            raise WeightsError(f"{what}; use another file")
        return Prior(net, PRIOR_TILES, halvings=halvings)
    if MAXIM_STAGES[0] in networks:
        net = Maxim(*_in_order(networks))
        return Prior(net, MAXIM_TILES, knows_sharp=True, halvings=halvings)
    kind = Pairs if gives_pair(networks["pair26"]) else Cascade
    return kind(**{role: networks[role] for role in ROLES})


def gives_pair(net: nn.Module) -> bool:
    """Tell whether a side net gives both frames of its pair at once, from y and x4."""
    return isinstance(net, JinPair) or (isinstance(net, UNet) and net.config.outputs == 2)


def _in_order(networks: Mapping[str, nn.Module]) -> list[MaximStage]:
    """List the stages of MAXIM; each must be of its place, and all of one width."""
    stages: list[MaximStage] = []
    roles = needed_roles(networks)
    for number, role in enumerate(roles, 1):
        stage, ends = networks[role], number == len(roles)
        if not isinstance(stage, MaximStage):
            raise WeightsError(f"the network for {role} is no stage of MAXIM; use another file")
        first = stages[0].config if stages else stage.config
        fitting = replace(first, stage=number, ends=stage.config.ends and ends)
        if stage.config != fitting:
            raise WeightsError(
                f"the network for {role} is {stage.config}, expected {fitting}; use another file"
            )
        stages.append(stage)
    return stages


def _is_buildable(key: str, value: object) -> bool:
    """Tell whether a field of a config, from anywhere, is of a network that a machine can build."""
    if isinstance(value, list | tuple):
        return len(value) <= MOST_BLOCKS and all(_is_buildable(key, item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return 0 <= value <= MOST_BLOCKS if key in _BLOCKS else 1 <= value <= MOST_CHANNELS
    return True


def _tuples(value: object) -> object:
    """Turn JSON's lists back into the tuples that the configs hold."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


__all__ = ["Cascade", "Maxim", "VideoNet"]
"""What others have from here that is not of here."""
