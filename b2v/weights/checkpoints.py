"""A network in a safetensors file, saved and strictly loaded, and the card of its model.

The file's metadata holds, under "b2v", a line of JSON with the role, kind and config of the
network, so that a file can be loaded without anything beside it. Floats are stored in half
precision unless asked otherwise and always loaded as fp32.

A model is a card `<model>.json`, which says what it is made of, where it came from and what it may
be used for, with one file per network, `<model>-<role>.safetensors` unless models share it, beside
it, or at the hub address that the card gives as its source.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from b2v.errors import B2VError, WeightsError
from b2v.files import alone, gone, hidden_part, may_never_end
from b2v.models import ALL_ROLES, Blueprint

SUFFIX = ".safetensors"
FORMAT = 1
"""Version of the metadata; a reader refuses files of a later one."""
ORDER_KNOWN = "order_known"
"""Key of a note that says whether a network has learned the true order of time, from coded blur."""


@dataclass(frozen=True)
class Header:
    """What a file says about its network; `note` is free text and numbers by the maker."""

    role: str
    blueprint: Blueprint
    note: dict[str, Any]


@dataclass(frozen=True)
class Network:
    """A loaded network: fp32, on the CPU, in eval mode, no gradients asked for."""

    module: nn.Module
    role: str
    blueprint: Blueprint
    sha256: str
    path: Path
    note: dict[str, Any]


def save_network(
    net_state: Mapping[str, Tensor],
    blueprint: Blueprint,
    role: str,
    path: Path,
    *,
    half: bool = True,
    note: dict[str, Any] | None = None,
) -> str:
    """Write the `state_dict` of a network to `path`, in place of any file, and hash it (sha256).

    Floats are stored as fp16 (`half`) or fp32, with a `note` of plain values; missing folders are
    made. Raises WeightsError where the state is not that of the blueprint, a weight is not finite
    once stored, or the file cannot be written.
    """
    if role not in ALL_ROLES:
        known = ", ".join(ALL_ROLES)
        raise WeightsError(f"no network has the role {role!r}; roles: {known}")
    _check_shapes({key: list(t.shape) for key, t in net_state.items()}, blueprint, path)
    dtype = torch.float16 if half else torch.float32
    stored = {key: _plain(tensor, dtype) for key, tensor in net_state.items()}
    _check_finite(stored, path)
    kind, config = blueprint.describe()
    about = {"format": FORMAT, "role": role, "kind": kind, "config": config, "note": note or {}}
    try:  # save_file() would let only its owner read it
        _put(path, save(stored, {"b2v": json.dumps(about, sort_keys=True)}))
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot write {path}: {error}; choose another folder") from error
    return sha256_of(path)


def load_network(path: Path) -> Network:
    """Build the network that the file `path` describes and give it the file's weights.

    Raises WeightsError where the file is missing, truncated or not safetensors, holds no
    description, lacks a key or has one too many, or a weight has another shape or is not finite.
    """
    header = inspect(path)
    try:
        with safe_open(path, framework="pt") as file:
            keys = file.keys()
            _check_shapes({k: file.get_slice(k).get_shape() for k in keys}, header.blueprint, path)
            state = {key: _plain(file.get_tensor(key), torch.float32) for key in keys}
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from error
    module = _empty(header.blueprint, path)
    for key, wanted in module.state_dict().items():  # shapes are known to fit
        found = state[key].dtype
        if wanted.is_floating_point() != found.is_floating_point or found.is_complex:
            kind = str(found).removeprefix("torch.")
            raise WeightsError(f"{path}: {key!r} is of {kind}, expected floats; use another file")
    _check_finite(state, path)
    module.load_state_dict(state, strict=True, assign=True)
    module.eval().requires_grad_(False)
    return Network(
        module, header.role, header.blueprint, sha256_of(path), path.absolute(), header.note
    )


def inspect(path: Path) -> Header:
    """Read what a file says about its network, without the weights.

    Raises WeightsError where the file is not safetensors or its description cannot be understood.
    """
    check_plain(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from error
    if "b2v" not in metadata:
        raise WeightsError(
            f"{path} does not say which network it holds (no 'b2v' metadata);"
            " it was not written by b2v, use a file that was"
        )
    try:
        about = json.loads(metadata["b2v"])
        version, role, note = about["format"], about["role"], _renamed(about.get("note", {}))
        kind, config = about["kind"], about["config"]
        if isinstance(version, int) and version > FORMAT:
            raise B2VError(f"format {version}, this b2v knows {FORMAT}: update b2v")
        if role not in ALL_ROLES:
            raise B2VError(f"role {role!r}, expected one of {', '.join(ALL_ROLES)}")
        blueprint = Blueprint.parse(kind, config)
    except (B2VError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = f"missing {error}" if isinstance(error, KeyError) else str(error)
        raise WeightsError(f"{path}: its description cannot be used: {reason}") from error
    return Header(role, blueprint, note)


def sha256_of(path: Path, *, anew: bool = False) -> str:
    """Hash a file, once as long as nobody touches it; `anew` takes no earlier result.

    Raises WeightsError where the file cannot be read.
    """
    check_plain(path)
    try:
        stat = path.stat()
        touched = stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns
        return (_digest.__wrapped__ if anew else _digest)(path.resolve(), touched)
    except OSError as error:
        raise unreadable(path, error) from error


@lru_cache(maxsize=256)
def _digest(path: Path, _touched: tuple[int, ...]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def check_plain(path: Path) -> None:
    """Refuse a pipe or a device, which could be read for ever; raises WeightsError."""
    if may_never_end(path):
        raise WeightsError(f"{path} is not a file; expected one {SUFFIX} file")


def unreadable(path: Path, error: Exception) -> WeightsError:
    """Say why a file of weights cannot be read."""
    if isinstance(error, FileNotFoundError):
        return WeightsError(f"{path} does not exist; check the path or `b2v weights list`")
    if path.is_dir():
        return WeightsError(f"{path} is a folder, expected one {SUFFIX} file")
    if path.suffix == ".pth":
        return WeightsError(f"{path} is not a {SUFFIX} file; convert it with `b2v weights import`")
    reason = str(error).removeprefix("Error while deserializing header: ")
    return WeightsError(
        f"{path} is damaged or not a {SUFFIX} file ({reason}); get or make it again"
    )


def _put(path: Path, data: bytes) -> None:
    """Write a file through a `.part` beside it, when no other run writes it."""
    part = hidden_part(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path, wait=True), gone(part):
        part.write_bytes(data)
        part.replace(path)


def _plain(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Copy a tensor to the CPU, contiguous, floats as `dtype`."""
    target = dtype if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", target, copy=True, memory_format=torch.contiguous_format)


def _empty(blueprint: Blueprint, path: Path) -> nn.Module:
    """Build the network without memory for its weights and without drawing random numbers."""
    try:
        with torch.device("meta"):
            return blueprint.build()
    except Exception as error:  # a config from a file may be nonsense in any way
        reason = str(error) or type(error).__name__
        raise WeightsError(f"{path}: no network can be built from its config: {reason}") from error


def _check_shapes(found: Mapping[str, list[int]], blueprint: Blueprint, path: Path) -> None:
    expected = {key: list(t.shape) for key, t in _empty(blueprint, path).state_dict().items()}
    kind = blueprint.kind
    hint = f"it is not of the {kind} network that it should be for, use another file"
    for key in expected:
        if key not in found:
            raise WeightsError(f"{path} lacks {key!r} of shape {expected[key]}; {hint}")
    for key, shape in found.items():
        if key not in expected:
            raise WeightsError(f"{path} has {key!r}, which a {kind} network has not; {hint}")
        if list(shape) != expected[key]:
            raise WeightsError(
                f"{path}: {key!r} has shape {list(shape)}, expected {expected[key]}; {hint}"
            )


def _check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    for key, tensor in state.items():
        if not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise WeightsError(
                f"{path}: {key!r} has {bad} weights that are not finite in"
                f" {str(tensor.dtype).removeprefix('torch.')}; use weights of an earlier step"
            )


NOT_STATED = "not stated"
OLD_KEYS = {"licence": "license"}
"""Keys of older files and cards, and what they are called now."""
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
    """The card of a model.

    `networks` are by role: `SEVEN` or `VIDEO` alone, stages of MAXIM from the first on, or those of
    a cascade, not always all four. What makes one sharp picture of a photo may be given photos that
    are halved `halvings` times at least.
    """

    name: str
    license: str
    networks: dict[str, CardNetwork]
    halvings: int = 0
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
    "halvings": (int,),
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

    Raises WeightsError where the file is not one of ours.
    """
    header: Header = inspect(path)
    return header.role, CardNetwork(
        path.name, sha256_of(path), path.stat().st_size, header.blueprint
    )


def write_card(card: Card, folder: Path) -> Path:
    """Write `card` as `<name>.json` into `folder`, replacing an older one.

    Raises WeightsError where the file cannot be written.
    """
    plain = asdict(card)
    for role, network in card.networks.items():
        kind, config = network.blueprint.describe()
        entry = {"file": network.file, "sha256": network.sha256, "bytes": network.bytes}
        plain["networks"][role] = {**entry, "kind": kind, "config": config}
    path = folder / f"{card.name}.json"
    try:
        _put(path, f"{json.dumps(plain, indent=2, ensure_ascii=False)}\n".encode())
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {error.strerror}") from error
    return path


def read_card(path: Path) -> Card:
    """Read a card and check every field of it.

    Raises WeightsError where the file cannot be read, is not JSON, or a field is missing, unknown
    or of the wrong kind.
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


def _renamed(plain: dict[str, Any]) -> dict[str, Any]:
    return {OLD_KEYS.get(key, key): value for key, value in plain.items()}


def _parse(plain: object) -> Card:
    if not isinstance(plain, dict):
        raise B2VError("it is not a JSON object")
    plain, known = _renamed(plain), [f.name for f in fields(Card)]
    for key, value in plain.items():
        if key not in known:
            raise B2VError(f"unknown field {key!r}; known: {', '.join(known)}")
        if not isinstance(value, _TYPES.get(key, (str,))) or isinstance(value, bool):
            raise B2VError(f"field {key!r} has the wrong type, {type(value).__name__}")
    for key in ("name", "license", "networks"):
        if not plain.get(key):
            raise B2VError(f"field {key!r} is missing or empty")
    if not _NAME.fullmatch(plain["name"]):
        raise B2VError(f"'name' {plain['name']!r} has other than letters, digits, '.', '_', '-'")
    if plain.get("source") and not _SOURCE.fullmatch(plain["source"]):
        raise B2VError(
            f"'source' is {plain['source']!r}, expected hf://owner/repo@revision[/folder]"
        )
    if plain.get("halvings", 0) < 0:
        raise B2VError(f"'halvings' is {plain['halvings']}, expected 0 or more")
    networks = {role: _parse_network(role, entry) for role, entry in plain["networks"].items()}
    return Card(**{**plain, "networks": networks, "commands": tuple(plain.get("commands", ()))})


def _parse_network(role: str, entry: object) -> CardNetwork:
    wanted = {"file": str, "sha256": str, "bytes": int, "kind": str, "config": dict}
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
