"""Import of MAXIM under its authors' names, and two models that share its first stage."""

import math
import zlib

import numpy as np
import pytest
import torch
from command_line import assert_one_line, run_main
from safetensors.torch import load_file, save_file

from b2v.errors import UsageError, WeightsError
from b2v.models import MAXIM_STAGES, Maxim
from b2v.weights.checkpoints import load_network, read_card
from b2v.weights.imports import import_maxim, of_stage
from b2v.weights.store import list_models, load_model, verify

EVERY = [p for role in MAXIM_STAGES for p in of_stage(role)]
FILES = [*(f"maxim-{role}.safetensors" for role in MAXIM_STAGES), "maxim-1.json", "maxim-3.json"]
FIRST = "stage_0_encoder_block_0/Conv_0/kernel"


def rule_made():
    """Weights under the authors' names, each drawn by a rule from its name."""
    state = {}
    for p in EVERY:
        rs = np.random.RandomState(zlib.crc32(p.theirs.encode()))
        a = rs.standard_normal(math.prod(p.stored)).reshape(p.stored)
        if len(p.stored) > 1:
            a = a / math.sqrt(math.prod(p.stored[:-1]))
        else:
            a = 0.1 * a + p.theirs.endswith("scale")
        state[p.theirs] = torch.from_numpy(a.astype(np.float32))
    return state


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Beside another busy program, two threads take ten times as long as one here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "maxim.safetensors"
    save_file(rule_made(), path)
    return path


@pytest.fixture(scope="module")
def imported(exported):
    """Folder that was imported into."""
    out = exported.parent / "out"
    assert import_maxim(exported, out) == [out / name for name in FILES]
    return out


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("B2V_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("b2v.files.shipped_dir", lambda: tmp_path / "shipped")
    return lambda *args: run_main(capsys, "weights", *args)


def test_names_and_shapes_are_all_those_of_the_authors_file():
    """The number stands for the 2,750 sorted lines of the file that was exported."""
    lines = sorted(f"{p.theirs} {list(p.stored)}" for p in EVERY)
    assert len(set(lines)) == 2750
    assert sum(math.prod(p.stored) for p in EVERY) == 22_207_605
    assert zlib.crc32("\n".join(lines).encode()) == 0x94FA34F2


@pytest.mark.parametrize(
    ("role", "ours", "theirs"),
    [
        ("stage1", "inputs.2.bias", "stage_0_input_conv_2/bias"),
        ("stage1", "encoders.0.enter.weight", FIRST),
        (
            "stage2",
            "fuse.1.weights_y.grid.weight",
            "stage_1_input_fuse_sam_1/SplitHeadMultiAxisGating_y/Dense_0/kernel",
        ),
        (
            "stage3",
            "encoders.1.gate.leave_x.bias",
            "stage_2_encoder_block_1/cross_gating_block/out_project_x/bias",
        ),
        ("stage1", "downs.2.weight", "stage_0_encoder_block_2/Conv_1/kernel"),
        (
            "stage1",
            "bottlenecks.1.attentions.0.first.weight",
            "stage_0_global_block_1/channel_attention_block_1_0/channel_mixing/Dense_0/kernel",
        ),
        ("stage1", "bottlenecks.0.enter.weight", "stage_0_global_block_0/input_proj/kernel"),
        ("stage1", "gates.2.up.weight", "stage_0_cross_gating_block_2/ConvTranspose_0/kernel"),
        ("stage1", "ups.0.weight", "stage_0_decoder_block_0/ConvTranspose_0/kernel"),
        (
            "stage1",
            "decoders.0.mlps.1.block.gate_norm.weight",
            "stage_0_decoder_block_0/UNetEncoderBlock_0/SplitHeadMultiAxisGmlpLayer_1/"
            "BlockGmlpLayer/BlockGatingUnit/intermediate_layernorm/scale",
        ),
        (
            "stage1",
            "decoders.2.attentions.1.attention.excite.weight",
            "stage_0_decoder_block_2/UNetEncoderBlock_0/channel_attention_block_11/"
            "channel_attention/Conv_1/kernel",
        ),
        ("stage2", "attention.0.mask.bias", "stage_1_supervised_attention_module_0/Conv_2/bias"),
        ("stage1", "encoder_mixes.2.project.0.bias", "UpSampleRatio_0/Conv_0/bias"),
        ("stage1", "decoder_mixes.0.project.2.bias", "UpSampleRatio_17/Conv_0/bias"),
        ("stage3", "encoder_mixes.1.project.1.weight", "UpSampleRatio_40/Conv_0/kernel"),
        ("stage3", "output.weight", "stage_2_output_conv_0/kernel"),
    ],
)
def test_each_of_our_weights_has_the_authors_name(role, ours, theirs):
    assert {p.ours: p.theirs for p in of_stage(role)}[ours] == theirs


@pytest.mark.parametrize("role", MAXIM_STAGES)
def test_a_loaded_stage_has_the_weights_of_the_file_rounded_once(exported, imported, role):
    theirs, stage = load_file(exported), load_network(imported / f"maxim-{role}.safetensors")
    ours = stage.module.state_dict()
    assert (stage.role, len(ours)) == (role, len(of_stage(role)))
    for p in of_stage(role):
        weight = theirs[p.theirs].half().float().numpy()
        if weight.ndim == 4:  # [h, w, in, out] to [out, in, h, w], as of transposed ones
            weight = np.moveaxis(weight, (3, 2), (0, 1))
        elif weight.ndim == 2:
            weight = weight.T
        assert np.array_equal(ours[p.ours].numpy().reshape(weight.shape), weight)


def test_a_file_in_half_precision_gives_the_same_weights(exported, imported, tmp_path):
    half = {name: weight.half() for name, weight in load_file(exported).items()}
    save_file(half, tmp_path / "half.safetensors")
    import_maxim(tmp_path / "half.safetensors", tmp_path)
    for name in FILES[:3]:
        one, other = load_file(imported / name), load_file(tmp_path / name)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_only_the_exported_file_itself_is_called_free_and_the_authors(exported, imported):
    card = read_card(imported / "maxim-3.json")
    assert card.license == "not stated"
    assert card.lineage.startswith(f"{exported.name}, sha256 ")


def test_two_models_share_the_first_stage_and_both_are_whole(imported, monkeypatch):
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(imported))
    one, three = list_models()[:2]
    assert [(m.name, m.complete, m.verified, m.problem) for m in (one, three)] == [
        ("maxim-1", True, True, None),
        ("maxim-3", True, True, None),
    ]
    first = [verify(name)[0].path for name in ("maxim-1", "maxim-3")]
    assert first == [imported / FILES[0]] * 2
    assert [c.problem for name in ("maxim-1", "maxim-3") for c in verify(name)] == [None] * 4
    loaded = [load_model(model) for model in ("maxim-1", "maxim-3")]
    assert [list(model.networks) for model in loaded] == [["stage1"], [*MAXIM_STAGES]]
    assert [len(model.net.net.stages) for model in loaded] == [1, 3]
    assert all(isinstance(model.net.net, Maxim) for model in loaded)
    assert loaded[0].networks["stage1"].sha256 == loaded[1].networks["stage1"].sha256


def test_import_overwrites_only_when_told_to(exported, imported):
    before = (imported / FILES[0]).stat().st_mtime_ns
    with pytest.raises(UsageError, match=r"maxim-stage1.safetensors exists already"):
        import_maxim(exported, imported)
    assert (imported / FILES[0]).stat().st_mtime_ns == before


def test_import_by_the_command_line(b2v, exported, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    ran = b2v("import", exported)
    assert (ran.code, ran.out.split()) == (0, [str(cache / name) for name in FILES])
    assert ran.err == "use it with: b2v extract PHOTO -m maxim-3\n"
    assert_one_line(b2v("import", exported), 2, "exists already")
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "maxim-3.json").write_bytes((cache / "maxim-3.json").read_bytes())
    written = [cache / name for name in FILES]
    monkeypatch.setattr("b2v.weights.imports", lambda *_args, **_options: written)
    ran = b2v("import", exported, "--overwrite")
    assert ran.err == f"use it with: b2v extract PHOTO -m maxim-3 --weights {cache}\n"
    assert b2v("verify", cache / "maxim-1.json").out == f"ok     {cache / FILES[0]}\n"
    assert_one_line(b2v("import", exported, "F35_N8.pth"), 2, "is imported alone")


def spoil(state, how):
    if how == "missing":
        del state[FIRST]
    elif how == "two missing":
        del state[FIRST], state["UpSampleRatio_17/Conv_0/bias"]
    elif how == "extra":
        state["stage_3_output_conv_0/bias"] = torch.zeros(3)
    elif how == "wrong shape":
        state[FIRST] = torch.zeros(1, 1, 32, 64)
    elif how == "whole numbers":
        state[FIRST] = torch.zeros(1, 1, 64, 32, dtype=torch.int32)
    elif how == "nan":
        state[FIRST] = torch.full((1, 1, 64, 32), math.nan)
    elif how == "too large":
        state[FIRST] = torch.full((1, 1, 64, 32), 1e5)
    elif how == "another network":
        state = {"conv1.weight": torch.zeros(2)}
    elif how == "empty":
        state = {}
    return state


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", f"lacks '{FIRST}'; expected the 2,750 weights"),
        ("two missing", "lacks 'UpSampleRatio_17/Conv_0/bias' and 1 more; expected"),
        ("extra", "has, beside what belongs there, 'stage_3_output_conv_0/bias'; expected"),
        ("wrong shape", f"'{FIRST}' has shape [1, 1, 32, 64], expected"),
        ("whole numbers", f"'{FIRST}' is not a tensor of floats"),
        ("nan", f"'{FIRST}' has weights that are not finite in float16"),
        ("too large", f"'{FIRST}' has weights that are not finite in float16"),
        ("another network", "has, beside what belongs there, 'conv1.weight'"),
        ("empty", "and 2,749 more; expected"),
        ("truncated", "is damaged or not a .safetensors file"),
        ("text", "is damaged or not a .safetensors file"),
        ("absent", "does not exist"),
    ],
)
def test_wrong_file_is_refused_by_name_before_anything_is_written(tmp_path, how, words):
    path = tmp_path / "maxim.safetensors"
    state = spoil({p.theirs: torch.zeros(p.stored, dtype=torch.float16) for p in EVERY}, how)
    if how == "wrong shape":
        state[FIRST] = state[FIRST].half()
    if how == "text":
        path.write_text("no weights")
    elif how != "absent":
        save_file(state, path)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(WeightsError) as caught:
        import_maxim(path, tmp_path / "out")
    message = str(caught.value)
    assert str(path) in message
    assert words in message
    assert "\n" not in message
    assert not (tmp_path / "out").exists()
