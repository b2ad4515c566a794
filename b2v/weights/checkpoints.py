"""One network in one safetensors file: saving, strict loading, hashing.

The file's metadata holds, under "b2v", a line of JSON with the role, kind and config of the
network, so that a file can be loaded without anything beside it. Floats are stored in half
precision unless asked otherwise and always loaded as fp32.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from b2v.errors import B2VError, WeightsError
from b2v.files import alone, cache_dir, gone, may_never_end
from b2v.models import ALL_ROLES, Blueprint, refuse_gone

FORMAT = 1
"""Version of the metadata; a reader refuses files of a later one."""
SUFFIX = ".safetensors"
RECORD = "records/verified.json"
"""File in the cache folder that keeps the digests of files."""
SETTLED = 2_000_000_000
"""Nanoseconds after its last change from which a file's digest is kept."""
_CHUNK = 1 << 20


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
    """Write the state of a network to `path`, through a `.part` file beside it.

    Args:
        net_state: what `state_dict` of the network gives, on any device.
        blueprint: kind and config of the network.
        role: one of `ALL_ROLES`.
        path: file to write; an existing one is replaced, missing folders are made.
        half: store floats as fp16, else as fp32.
        note: plain values to be kept with the weights.

    Returns:
        The file's sha256.

    Raises:
        WeightsError: The state is not that of the blueprint, a weight is not finite once
            stored, or the file cannot be written.

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
    _write(stored, {"b2v": json.dumps(about, sort_keys=True)}, path)
    return sha256_of(path)


def load_network(path: Path) -> Network:
    """Build the network that the file `path` describes and give it the file's weights.

    Raises:
        WeightsError: The file is missing, truncated or not safetensors, holds no description,
            lacks a key or has one too many, or a weight has another shape or is not finite.

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
    _check_kinds(state, module, path)
    _check_finite(state, path)
    module.load_state_dict(state, strict=True, assign=True)
    module.eval().requires_grad_(False)
    return Network(
        module, header.role, header.blueprint, sha256_of(path), path.absolute(), header.note
    )


def inspect(path: Path) -> Header:
    """Read what a file says about its network, without the weights.

    Raises:
        WeightsError: The file is not safetensors or its description cannot be understood.

    """
    _check_file(path)
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
        version, role, note = about["format"], about["role"], about.get("note", {})
        kind, config = about["kind"], about["config"]
        if isinstance(version, int) and version > FORMAT:
            raise B2VError(f"format {version}, this b2v knows {FORMAT}: update b2v")
        refuse_gone(role)
        if role not in ALL_ROLES:
            raise B2VError(f"role {role!r}, expected one of {', '.join(ALL_ROLES)}")
        blueprint = Blueprint.parse(kind, config)
    except (B2VError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = f"missing {error}" if isinstance(error, KeyError) else str(error)
        raise WeightsError(f"{path}: its description cannot be used: {reason}") from error
    return Header(role, blueprint, note)


def _check_file(path: Path) -> None:
    """Refuse a pipe or a device, which could be read for ever; raises WeightsError."""
    if may_never_end(path):
        raise WeightsError(f"{path} is not a file; expected one {SUFFIX} file")


def sha256_of(path: Path, *, anew: bool = False) -> str:
    """Hash a file, once as long as nobody touches it; `anew` takes no earlier result.

    Results are kept in the cache folder, with the file's size, number and times of change.

    Raises:
        WeightsError: The file cannot be read.

    """
    _check_file(path)
    try:
        stat = path.stat()
        of = [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]
        if anew:
            return _digest(path)
        return _kept_digest(path.resolve(), cache_dir() / RECORD, tuple(of))
    except OSError as error:
        raise unreadable(path, error) from error


@lru_cache(maxsize=256)
def _kept_digest(path: Path, record: Path, of: tuple[int, ...]) -> str:
    """Look a digest up in the record, or work it out and add it there."""
    known = _read_record(record)
    entry = known.get(str(path))
    if isinstance(entry, list) and entry[:-1] == list(of) and isinstance(entry[-1], str):
        return entry[-1]
    digest = _digest(path)
    if time.time_ns() - max(of[2:]) > SETTLED:  # a clock that is coarse could miss a change
        part = record.with_name(f"{record.name}.{os.getpid()}.part")
        with suppress(OSError):
            record.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(_read_record(record) | {str(path): [*of, digest]}))
            part.replace(record)
    return digest


def _read_record(record: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, TypeError):
        return dict(json.loads(record.read_text()))
    return {}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _write(stored: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path, wait=True), gone(part):
            part.write_bytes(save(stored, metadata))  # save_file() would let only its owner read it
            part.replace(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot write {path}: {error}; choose another folder") from error


def _plain(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Copy to the CPU, contiguous, floats as `dtype`."""
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


def _check_kinds(state: Mapping[str, Tensor], net: nn.Module, path: Path) -> None:
    """Check that weights are floats where the network's are, whose shapes are known to fit."""
    for key, wanted in net.state_dict().items():
        found = state[key].dtype
        if wanted.is_floating_point() != found.is_floating_point or found.is_complex:
            kind = str(found).removeprefix("torch.")
            raise WeightsError(f"{path}: {key!r} is of {kind}, expected floats; use another file")


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
