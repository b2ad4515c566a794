"""Import of the authors' files, and parity of the cascade with the authors' own."""

import json
import math
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from b2v.errors import UsageError, WeightsError
from b2v.models import ROLES
from b2v.weights.checkpoints import load_network, read_card
from b2v.weights.imports import import_released
from b2v.weights.store import list_models, load_model

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
COUNTS = {"middle": 4_972_032, "pair35": 2 * 3_934_464, "pair26": 2_686_208, "pair17": 2_686_208}
LICENSE = "not stated by the authors"

pytestmark = pytest.mark.skipif(
    not (REFERENCE / "jin2018_state_dict_keys.json").is_file(),
    reason="the reference tensors of the authors' architecture are not beside the repository",
)


def authors_weights(net):
    """Weights under the authors' names, by the rule that the reference outputs were made with."""
    keys = json.loads((REFERENCE / "jin2018_state_dict_keys.json").read_text())[net]
    state = {}
    for key, shape in keys.items():
        rs = np.random.RandomState(zlib.crc32(f"{net}/{key}".encode()))
        a = rs.standard_normal(math.prod(shape)).reshape(shape)
        if len(shape) == 4:
            a = a / math.sqrt(math.prod(shape[1:]))
        else:
            a = 1 + 0.1 * a if key.endswith("weight") else 0.1 * a
        state[key] = torch.from_numpy(a.astype(np.float32))
    return state


def with_statistics(state):
    """Add what an older instance norm left in the files: running statistics of each norm."""
    extra = {}
    for key, weight in state.items():
        if "norm" in key and key.endswith("weight"):
            norm = key.removesuffix("weight")
            extra[norm + "running_mean"] = torch.full(weight.shape, 3.0)
            extra[norm + "running_var"] = torch.full(weight.shape, 9.0)
            extra[norm + "num_batches_tracked"] = torch.tensor(5)
    return {**state, **extra}


def write_pth(state, path, **options):
    """Write a file as the authors' are: the network under `state_dict_G`, and other things."""
    content = {"state_dict_G": state, "epoch": 74, "optimizer_G": {"betas": (0.5, 0.999)}}
    torch.save(content, path, **options)
    return path


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Beside another busy program, two threads take ten times as long as one here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The four files, named so that the name tells nothing, and what they became."""
    folder = tmp_path_factory.mktemp("released")
    paths = []
    for i, net in enumerate(ROLES):
        state = with_statistics(authors_weights(net))
        if net == "pair26":  # as trained on several GPUs
            state = {"module." + key: weight for key, weight in state.items()}
        legacy = net == "pair17"  # the format of PyTorch before 1.6
        paths.append(
            write_pth(state, folder / f"{i}.pth", _use_new_zipfile_serialization=not legacy)
        )
    out = folder / "out"
    return paths, out, import_released(paths, out)


@pytest.fixture(scope="module")
def cascade(imported):
    return load_model("jin2018-released", weights=imported[1])


@pytest.fixture(scope="module")
def middle():
    return authors_weights("middle")


@pytest.mark.parametrize("case", ["random_40x60", "gopro_walk_80x120"])
def test_imported_cascade_gives_what_the_authors_gives(cascade, case):
    """Within 2e-4: fp32 differs from fp64 by up to 5e-5 in either implementation."""
    with np.load(REFERENCE / "jin2018_outputs.npz") as reference:
        blurry = torch.from_numpy(reference[f"{case}__blurry"])
        expected = torch.from_numpy(reference[f"{case}__frames"])
    with torch.inference_mode():
        frames = cascade.net(blurry)[0]
    assert (frames - expected).abs().max() < 2e-4


def test_imported_networks_have_the_papers_number_of_parameters(cascade):
    counts = {
        role: sum(p.numel() for p in network.module.parameters())
        for role, network in cascade.networks.items()
    }
    assert counts == COUNTS


def test_import_writes_fp32_files_and_a_card(imported, monkeypatch):
    paths, out, written = imported
    names = [*(f"jin2018-released-{role}.safetensors" for role in ROLES), "jin2018-released.json"]
    assert written == [out / name for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    card = read_card(out / "jin2018-released.json")
    assert card.license == LICENSE
    assert list(card.networks) == list(ROLES)
    assert f"middle: converted from {paths[0].name}, sha256" in card.lineage
    assert card.networks["middle"].bytes > 4 * COUNTS["middle"]
    assert load_network(written[0]).note["license"] == LICENSE
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(out))
    first = list_models()[0]
    assert (first.name, first.complete, first.verified) == ("jin2018-released", True, True)


def test_networks_of_later_imports_join_the_card(imported, tmp_path):
    paths = imported[0]
    for count, path in enumerate(paths[2:], start=1):
        import_released([path], tmp_path)
        card = read_card(tmp_path / "jin2018-released.json")
        assert list(card.networks) == list(ROLES[2 : 2 + count])
        assert len(card.lineage.split("\n")) == count
    with pytest.raises(WeightsError, match="has no middle network, only pair26, pair17"):
        load_model("jin2018-released", weights=tmp_path)


def test_import_overwrites_only_when_told_to(imported, tmp_path):
    path = imported[0][3]
    import_released([path], tmp_path)
    with pytest.raises(UsageError, match="exists already"):
        import_released([path], tmp_path)
    import_released([path], tmp_path, overwrite=True)
    assert len(read_card(tmp_path / "jin2018-released.json").lineage.split("\n")) == 1


def test_two_files_of_one_network_are_refused(imported, tmp_path):
    path = imported[0][3]
    with pytest.raises(UsageError, match="both hold the pair17 network"):
        import_released([path, path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def spoil(state, how):
    """Put one thing wrong in the weights of the middle net."""
    key = "LocalGrad2.1.conv2.weight"
    if how == "missing key":
        del state[key]
    elif how == "extra key":
        state["LocalGrad5.0.norm1.weight"] = torch.ones(144)
    elif how == "unknown statistic":
        state["norm3.running_max"] = torch.ones(64)
    elif how == "wrong shape":
        state[key] = torch.ones(144, 144, 1, 1)
    elif how == "nan":
        state[key] = torch.full_like(state[key], float("inf"))
    elif how == "no tensor":
        state[key] = "weights"
    elif how == "other network":
        state = {"layer1.0.weight": torch.ones(3)}
    elif how == "empty":
        state = {}
    elif how == "no network":
        state = "weights"
    elif how == "bomb":
        state["norm3.bias"] = Bomb()
    return state


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing key", "lacks 'LocalGrad2.1.conv2.weight'"),
        ("extra key", "has, beside what belongs there, 'LocalGrad5.0.norm1.weight'"),
        ("unknown statistic", "has, beside what belongs there, 'norm3.running_max'"),
        (
            "wrong shape",
            "'LocalGrad2.1.conv2.weight' has shape [144, 144, 1, 1], expected [144, 144, 3, 3]",
        ),
        ("nan", "'LocalGrad2.1.conv2.weight' has weights that are not finite"),
        ("no tensor", "'LocalGrad2.1.conv2.weight' is not a tensor of floats"),
        ("other network", "none of the four networks: its keys are 'layer1.0.weight'"),
        ("empty", "none of the four networks: its keys are none"),
        ("no network", "has no 'state_dict_G'"),
        ("bomb", "is refused: it is no file of plain tensors (it wants to call"),
        ("bomb of old", "is refused: it is no file of plain tensors (it wants to call"),
        ("truncated", "is refused: it is no file of plain tensors"),
        ("text", "is refused: it is no file of plain tensors"),
        ("nothing", "is refused: it is no file of plain tensors"),
        ("list", "has no 'state_dict_G'"),
        ("absent", "does not exist"),
    ],
)
def test_wrong_or_hostile_file_is_refused_by_name_and_key(
    middle, tmp_path, monkeypatch, how, words
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "center_v3.pth"
    old = how == "bomb of old"
    state = spoil(dict(middle), how.removesuffix(" of old"))
    if how in ("text", "nothing"):
        path.write_text("no weights" if how == "text" else "")
    elif how == "list":
        torch.save([1, 2], path)
    elif how != "absent":
        write_pth(state, path, _use_new_zipfile_serialization=not old)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(WeightsError) as caught:
        import_released([path], tmp_path / "out")
    message = str(caught.value)
    assert str(path) in message
    assert words in message
    assert "\n" not in message
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "exploded").exists()
