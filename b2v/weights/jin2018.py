"""Import of the four files that the authors of the cascade released (Jin et al., CVPR 2018).

Each is a pickled dict whose `state_dict_G` holds a network under the authors' names. Which
network it is, the names tell; the name of the file does not matter. Besides the weights there
are running statistics of an older instance norm, which the network never used: those are
dropped by their names, and everything else must fit to the last key.
"""

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from b2v.errors import UsageError, WeightsError
from b2v.files import alone
from b2v.models import MODELS, Blueprint
from b2v.weights.cards import Card, CardNetwork, card_entry, file_name, read_card, write_card
from b2v.weights.checkpoints import save_network, sha256_of

FAMILY = "jin2018"
MODEL = f"{FAMILY}-released"
"""Name of what is imported; `jin2018` is what one trains oneself."""
MOST_UNPACKED = 2
"""By how many times a file may grow when it is unpacked."""
LICENCE = "not stated by the authors"
_DROPPED = ("running_mean", "running_var", "num_batches_tracked")
_PREFIXES = {
    "middle": {"": ""},
    "pair35": {"first.": "generateFrame3.", "second.": "generateFrame5."},
    "pair26": {"": "generateFrame2_6."},
    "pair17": {"": "generateFrame1_7."},
}
"""What stands before the names of a network: ours, theirs."""
_BODY = (
    (r"stem\.", "conv1_B."),
    (r"stems\.0\.", "conv1_B."),
    (r"stems\.1\.", "conv1_S1."),
    (r"stems\.2\.", "conv1_S2."),
    (r"colour_stem\.", "conv2."),
    (r"colour_block\.", "GlobalGrad.0."),
    (r"head\.norm\.", "norm3."),
    (r"head\.conv\.", "conv3."),
)
_RELEASED = {
    "33977601d6919f3af9f4fdf49397f3946594aabb415495af06b2f9989460d37a": "center_v3.pth",
    "42a390f91c4941370ab8dbe4dd6beaba4614a4f5f57437d06b2d23b63525dda6": "F35_N8.pth",
    "6039acec6363e6a9764847d70377789a713cb216cd84dab9284943ccdd07dcff": "F26_N9_from_F35_N8.pth",
    "6b1644d9d6025829a50e6c6bca29891b4d7f9eca46b848fff3277493581f1059": (
        "F17_N9_from_F26_N9_from_F35_N8.pth"
    ),
}
"""sha256 of the files as released."""


@dataclass(frozen=True)
class _Import:
    path: Path
    sha256: str
    role: str
    state: dict[str, Tensor]


def import_released(paths: Sequence[Path], out: Path, *, overwrite: bool = False) -> list[Path]:
    """Convert any of the authors' four files to `jin2018-released-<role>.safetensors`, in fp32.

    Nothing is written before all of `paths` have been read and found to be right. A card in
    `out` that has other networks already keeps them.

    Args:
        paths: the authors' `.pth` files, whatever they are called.
        out: folder for the networks and the card.
        overwrite: replace networks that are in `out` already.

    Returns:
        Paths of the networks written, in the order of `paths`, and of the card.

    Raises:
        UsageError: A network is in `out` already, or two files hold the same one.
        WeightsError: A file is not one of the authors': it cannot be unpickled safely, a key is
            missing or one too many, or a weight has another shape or is not finite.

    """
    imports: dict[str, _Import] = {}
    for path in paths:
        new = _read(path)
        if new.role in imports:
            raise UsageError(
                f"{path} and {imports[new.role].path} both hold the {new.role} network"
            )
        target = out / file_name(MODEL, new.role)
        if target.exists() and not overwrite:
            raise UsageError(f"{target} exists already; allow overwriting or choose another folder")
        imports[new.role] = new
    try:
        out.mkdir(parents=True, exist_ok=True)
        with alone(out / MODEL, wait=True):  # of two runs at once, each keeps the other's networks
            return _write(imports, out)
    except OSError as error:
        raise WeightsError(f"cannot write into {out}: {error.strerror}") from error


def _write(imports: Mapping[str, _Import], out: Path) -> list[Path]:
    """Write the networks by role, and the card of all that are in `out` then."""
    written = []
    for role, new in imports.items():
        target = out / file_name(MODEL, role)
        note = {"licence": LICENCE, "made_from": new.path.name, "made_from_sha256": new.sha256}
        save_network(new.state, MODELS[FAMILY][role], role, target, half=False, note=note)
        written.append(target)
    return [*written, write_card(_card(list(imports.values()), out), out)]


def _read(path: Path) -> _Import:
    state = _unpickle(path)
    role = _recognise(state, path)
    return _Import(path, sha256_of(path), role, _rename(state, role, path))


def _unpickle(path: Path) -> dict[str, Any]:
    """Read `state_dict_G` without running any code of the file; the dropped keys are gone."""
    try:
        _check_packing(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd about the file is said in one line
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path} does not exist; check the path") from error
    except Exception as error:  # a stranger's file may fail in any way
        line = " ".join(str(error).split())
        called = re.search(r"GLOBAL ([\w.]+)", line)
        reason = f"it wants to call {called[1]}" if called else line[:100] or type(error).__name__
        raise WeightsError(
            f"{path} is refused: it is no file of plain tensors ({reason});"
            " get the authors' file again, and trust no other source"
        ) from error
    state = content.get("state_dict_G") if isinstance(content, dict) else None
    if not isinstance(state, Mapping):
        raise WeightsError(
            f"{path} has no 'state_dict_G', where the authors' files keep the network;"
            " use center_v3.pth, F35_N8.pth, F26_N9….pth or F17_N9….pth"
        )
    keys = {str(key).removeprefix("module."): value for key, value in state.items()}
    return {key: value for key, value in keys.items() if key.split(".")[-1] not in _DROPPED}


def _check_packing(path: Path) -> None:
    """Refuse a zip file that unpacks to far more than it is; torch itself does not compress."""
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as packed:
        whole = sum(entry.file_size for entry in packed.infolist())
        if whole > MOST_UNPACKED * path.stat().st_size:
            raise ValueError(f"it unpacks to {whole / 1e6:.0f} MB")


def _recognise(state: Mapping[str, Any], path: Path) -> str:
    """Tell the role by the prefixes of the names; the middle net's names have none."""
    for role in ("pair35", "pair26", "pair17"):
        if any(key.startswith(tuple(_PREFIXES[role].values())) for key in state):
            return role
    if any(key in state for key in _names("middle").values()):
        return "middle"
    raise WeightsError(
        f"{path} holds none of the four networks: its keys are"
        f" {', '.join(map(repr, list(state)[:3])) or 'none'}…, expected 'conv1_B.weight' or"
        " 'generateFrame….conv1_B.weight'; use one of the authors' files"
    )


def _rename(state: Mapping[str, Any], role: str, path: Path) -> dict[str, Tensor]:
    """Give the weights our names; each must be there, in shape and finite, and nothing else."""
    names = _names(role)
    shapes = _shapes(MODELS[FAMILY][role])
    hint = f"it is not the authors' {role} network, get the file again"
    if extra := sorted(set(state) - set(names.values())):
        raise WeightsError(f"{path} has {extra[0]!r}, which is not expected there; {hint}")
    renamed = {}
    for ours, theirs in names.items():
        if theirs not in state:
            raise WeightsError(f"{path} lacks {theirs!r}; {hint}")
        weight = state[theirs]
        if not isinstance(weight, Tensor) or not weight.is_floating_point():
            raise WeightsError(f"{path}: {theirs!r} is not a tensor of floats; {hint}")
        if list(weight.shape) != shapes[ours]:
            raise WeightsError(
                f"{path}: {theirs!r} has shape {list(weight.shape)},"
                f" expected {shapes[ours]}; {hint}"
            )
        if not torch.isfinite(weight).all():
            raise WeightsError(f"{path}: {theirs!r} has weights that are not finite; {hint}")
        renamed[ours] = weight
    return renamed


def _names(role: str) -> dict[str, str]:
    """Our names of a network's weights, and the authors'."""
    names = {}
    for ours in _shapes(MODELS[FAMILY][role]):
        for own, prefix in _PREFIXES[role].items():
            if ours.startswith(own):
                names[ours] = prefix + _their_name(ours.removeprefix(own))
    return names


def _their_name(name: str) -> str:
    """Translate a name within one network: groups.0.2.x to LocalGrad1.2.x, and so on."""
    name = re.sub(r"^groups\.(\d+)\.", lambda m: f"LocalGrad{int(m[1]) + 1}.", name)
    name = re.sub(r"^taps\.(\d+)\.", lambda m: f"fuse{int(m[1]) + 1}.0.", name)
    for ours, theirs in _BODY:
        name = re.sub(f"^{ours}", theirs, name)
    return name


def _shapes(blueprint: Blueprint) -> dict[str, list[int]]:
    with torch.device("meta"):
        return {key: list(t.shape) for key, t in blueprint.build().state_dict().items()}


def _card(imports: Sequence[_Import], out: Path) -> Card:
    """Card for the networks in `out`: those just written, and those of a card that was there."""
    networks: dict[str, CardNetwork] = {}
    lineage: list[str] = []
    if (out / f"{MODEL}.json").is_file():
        old = read_card(out / f"{MODEL}.json")
        networks.update(old.networks)
        lines = old.lineage.split("\n")
        roles = tuple(f"{new.role}: " for new in imports)
        lineage += [line for line in lines if line and not line.startswith(roles)]
    for new in imports:
        role, networks[new.role] = card_entry(out / file_name(MODEL, new.role))
        released = _RELEASED.get(new.sha256)
        same = f"{released} as released" if released else "not byte for byte a released file"
        lineage.append(f"{role}: converted from {new.path.name}, sha256 {new.sha256} ({same})")
    return Card(
        name=MODEL,
        licence=LICENCE,
        networks=networks,
        summary="The cascade of Jin, Meishvili and Favaro, CVPR 2018, with their weights",
        data="GoPro and the authors' own videos, as the paper has it",
        recipe="Paper, Sec. 6; converted without any change of the weights",
        lineage="\n".join(lineage),
        limits="For study: who wants more must ask the authors for a licence",
    )
