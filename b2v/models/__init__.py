"""Networks: frozen configs and modules that know nothing but tensors.

This page lists them: which kinds of network there are, and which four make up a cascade.
"""

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
from b2v.models.unet import UNet, UNetConfig

Config = JinMiddleConfig | JinSideConfig | UNetConfig

ROLES = ("middle", "pair35", "pair26", "pair17")
"""What the four networks of a cascade do, in the order of the training stages 1 to 4."""

_KINDS: dict[str, tuple[type[Config], type[nn.Module]]] = {
    "jin-middle": (JinMiddleConfig, JinMiddle),
    "jin-pair": (JinSideConfig, JinPair),
    "jin-side": (JinSideConfig, JinSide),
    "unet": (UNetConfig, UNet),
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
        except TypeError as error:
            raise B2VError(f"config of a {kind} network does not fit: {error}") from error

    def describe(self) -> tuple[str, dict[str, Any]]:
        """Kind and config as plain values that JSON can hold."""
        return self.kind, asdict(self.config)

    def build(self) -> nn.Module:
        """Make the network with fresh weights."""
        network: Any = _KINDS[self.kind][1]
        return network(self.config)


CASCADES: dict[str, dict[str, Blueprint]] = {
    "b2v": {
        "middle": Blueprint("unet", UNetConfig(inputs=1)),
        "pair35": Blueprint("unet", UNetConfig(inputs=2, outputs=2)),
        "pair26": Blueprint("unet", UNetConfig(inputs=3)),
        "pair17": Blueprint("unet", UNetConfig(inputs=3)),
    },
    "jin2018": {
        "middle": Blueprint("jin-middle", JinMiddleConfig()),
        "pair35": Blueprint("jin-pair", JinSideConfig()),
        "pair26": Blueprint("jin-side", JinSideConfig(outer=2)),
        "pair17": Blueprint("jin-side", JinSideConfig(outer=2)),
    },
}
"""Blueprints of the four networks of each cascade, by the cascade's name and the role."""


def _tuples(value: object) -> object:
    """Turn JSON's lists back into the tuples that the configs hold."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


__all__ = ["CASCADES", "ROLES", "Blueprint", "Cascade", "Config"]
