"""Cards: what a model is made of, where it came from and what it may be used for.

A model is a card `<model>.json` with one file per network, `<model>-<role>.safetensors` unless
models share it, beside it, or at the hub address that the card gives as its source.
"""

import json
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from b2v.errors import B2VError, WeightsError
from b2v.files import alone, gone, may_never_end
from b2v.models import ALL_ROLES, Blueprint, refuse_gone
from b2v.weights.checkpoints import SUFFIX, Header, inspect, sha256_of

NOT_STATED = "not stated"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SOURCE = re.compile(r"hf://[\w.-]+/[\w.-]+@[\w.-]+(/[\w.-]+)*")


@dataclass(frozen=True)
class CardNetwork:
    """One network of a card; an empty `sha256` means that none was recorded."""

    file: str
    sha256: str
    bytes: int
    blueprint: Blueprint


@dataclass(frozen=True, kw_only=True)
class Card:
    """All there is to know about a model.

    `networks` are by role: `SEVEN` or `VIDEO` alone, stages of MAXIM from the first on, or those of
    a cascade, not always all four.
    """

    name: str
    licence: str
    networks: dict[str, CardNetwork]
    summary: str = ""
    data: str = ""
    recipe: str = ""
    commands: tuple[str, ...] = ()
    hardware: str = ""
    hours: float | None = None
    scores: dict[str, Any] = field(default_factory=dict)
    lineage: str = ""
    limits: str = ""
    source: str | None = None


_TYPES: dict[str, tuple[type, ...]] = {
    "networks": (dict,),
    "commands": (list,),
    "hours": (int, float, type(None)),
    "scores": (dict,),
    "source": (str, type(None)),
}
"""JSON types of the fields of a card; the others are text."""


def file_name(model: str, role: str) -> str:
    """Name of the file that holds the network `role` of `model`."""
    return f"{model}-{role}{SUFFIX}"


def card_entry(path: Path) -> tuple[str, CardNetwork]:
    """Describe the file `path` for a card: its role, and the entry under that role.

    Raises:
        WeightsError: The file is not one of ours.

    """
    header: Header = inspect(path)
    return header.role, CardNetwork(
        path.name, sha256_of(path), path.stat().st_size, header.blueprint
    )


def write_card(card: Card, folder: Path) -> Path:
    """Write `card` as `<name>.json` into `folder`, replacing an older one.

    Raises:
        WeightsError: The file cannot be written.

    """
    plain = asdict(card)
    for role, network in card.networks.items():
        kind, config = network.blueprint.describe()
        entry = {"file": network.file, "sha256": network.sha256, "bytes": network.bytes}
        plain["networks"][role] = {**entry, "kind": kind, "config": config}
    path = folder / f"{card.name}.json"
    part = path.with_name(path.name + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(path, wait=True), gone(part):
            text = json.dumps(plain, indent=2, ensure_ascii=False)
            part.write_text(f"{text}\n", encoding="utf-8")
            part.replace(path)
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {error.strerror}") from error
    return path


def read_card(path: Path) -> Card:
    """Read a card and check every field of it.

    Raises:
        WeightsError: The file cannot be read, is not JSON, or a field is missing, unknown or
            of the wrong kind.

    """
    if may_never_end(path):
        raise WeightsError(f"the card {path} is not a file; name another")
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"cannot read the card {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"the card {path} is not JSON: {error}; get it again") from error
    try:
        card = _parse(plain)
        if card.name != path.stem:
            raise B2VError(f"'name' is {card.name!r}, expected {path.stem!r} as the file has it")
    except B2VError as error:
        raise WeightsError(f"the card {path} cannot be used: {error}") from error
    return card


def _parse(plain: object) -> Card:
    if not isinstance(plain, dict):
        raise B2VError("it is not a JSON object")
    known = [f.name for f in fields(Card)]
    for key, value in plain.items():
        if key not in known:
            raise B2VError(f"unknown field {key!r}; known: {', '.join(known)}")
        if not isinstance(value, _TYPES.get(key, (str,))) or isinstance(value, bool):
            raise B2VError(f"field {key!r} has the wrong type, {type(value).__name__}")
    for key in ("name", "licence", "networks"):
        if not plain.get(key):
            raise B2VError(f"field {key!r} is missing or empty")
    if not _NAME.fullmatch(plain["name"]):
        raise B2VError(f"'name' {plain['name']!r} has other than letters, digits, '.', '_', '-'")
    if plain.get("source") and not _SOURCE.fullmatch(plain["source"]):
        raise B2VError(
            f"'source' is {plain['source']!r}, expected hf://owner/repo@revision[/folder]"
        )
    networks = {role: _parse_network(role, entry) for role, entry in plain["networks"].items()}
    return Card(**{**plain, "networks": networks, "commands": tuple(plain.get("commands", ()))})


def _parse_network(role: str, entry: object) -> CardNetwork:
    wanted = {"file": str, "sha256": str, "bytes": int, "kind": str, "config": dict}
    refuse_gone(role)
    if role not in ALL_ROLES:
        raise B2VError(f"unknown role {role!r}; roles: {', '.join(ALL_ROLES)}")
    if not isinstance(entry, dict):
        raise B2VError(f"the entry of {role} is not a JSON object")
    for key, kind in wanted.items():
        if not isinstance(entry.get(key), kind):
            raise B2VError(f"{key!r} of {role} is missing or not {kind.__name__}")
    name, sha256 = entry["file"], entry["sha256"]
    # A card may come from anywhere: the name must not lead out of the card's folder.
    if not _NAME.fullmatch(name) or not name.endswith(SUFFIX):
        raise B2VError(f"'file' of {role} is {name!r}, expected the plain name of a {SUFFIX} file")
    if sha256 and not _SHA256.fullmatch(sha256):
        raise B2VError(f"'sha256' of {role} is {sha256!r}, expected 64 hexadecimal digits")
    return CardNetwork(
        name, sha256, entry["bytes"], Blueprint.parse(entry["kind"], entry["config"])
    )
