"""Networks: frozen configs and modules that know nothing but tensors.

This page lists them: which kinds of network there are, and which make up each model.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from torch import nn

from b2v.errors import B2VError
from b2v.models.cascade import (
    Cascade,
    JinMiddle,
    JinMiddleConfig,
    JinPair,
    JinSide,
    JinSideConfig,
)
from b2v.models.dtb import DTB, DTBConfig
from b2v.models.unet import UNet, UNetConfig
from b2v.models.unroll import Unroll, UnrollConfig

Config = DTBConfig | JinMiddleConfig | JinSideConfig | UNetConfig | UnrollConfig

ROLES = ("middle", "pair35", "pair26", "pair17")
"""What the four networks of a cascade do, in the order of the training stages 1 to 4."""

SEVEN = "seven"
"""What a network does that gives all seven frames alone."""

VIDEO = "video"
"""What a network does that restores a video frame by frame."""

ALL_ROLES = (*ROLES, SEVEN, VIDEO)
"""Whatever a network can be for."""

_KINDS: dict[str, tuple[type[Config], type[nn.Module]]] = {
    "jin-middle": (JinMiddleConfig, JinMiddle),
    "jin-pair": (JinSideConfig, JinPair),
    "jin-side": (JinSideConfig, JinSide),
    "unet": (UNetConfig, UNet),
    "unroll": (UnrollConfig, Unroll),
    "dtb": (DTBConfig, DTB),
}


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
            return cls(kind, _KINDS[kind][0](**cast("Any", _tuples(config))))
        except (TypeError, ValueError) as error:
            raise B2VError(f"config of a {kind} network does not fit: {error}") from error

    def describe(self) -> tuple[str, dict[str, Any]]:
        """Kind and config as plain values that JSON can hold."""
        return self.kind, asdict(self.config)

    def build(self) -> nn.Module:
        """Make the network with fresh weights."""
        network: Any = _KINDS[self.kind][1]
        return network(self.config)


MODELS: dict[str, dict[str, Blueprint]] = {
    "b2v": {
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
    "unroll": {SEVEN: Blueprint("unroll", UnrollConfig())},
}
"""Blueprints of the networks of each model, by the model's name and the role, in training order."""


def needed_roles(networks: Collection[str]) -> tuple[str, ...]:
    """List the roles that a model is made of which has some networks: one alone, or four."""
    if SEVEN in networks:
        return (SEVEN,)
    return (VIDEO,) if set(networks) == {VIDEO} else ROLES


def missing_roles(networks: Collection[str]) -> list[str]:
    """List the roles that networks by role lack to give seven frames, or to restore video."""
    return [role for role in needed_roles(networks) if role not in networks]


def assemble(networks: Mapping[str, nn.Module]) -> "Cascade | Unroll":
    """Make of networks by role what gives the seven frames: one of them alone, or four."""
    if SEVEN in networks:
        return cast("Unroll", networks[SEVEN])
    return Cascade(**{role: networks[role] for role in ROLES})


def _tuples(value: object) -> object:
    """Turn JSON's lists back into the tuples that the configs hold."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


__all__ = [
    "ALL_ROLES",
    "DTB",
    "MODELS",
    "ROLES",
    "SEVEN",
    "VIDEO",
    "Blueprint",
    "Cascade",
    "Config",
    "Unroll",
    "assemble",
    "missing_roles",
    "needed_roles",
]
