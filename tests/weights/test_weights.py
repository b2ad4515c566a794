"""Files, cards, and the order in which weights are looked for."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from b2v.errors import WeightsError
from b2v.files import cache_dir
from b2v.models import ROLES, Blueprint
from b2v.models.unet import UNetConfig
from b2v.weights.checkpoints import (
    Card,
    card_entry,
    file_name,
    inspect,
    load_network,
    read_card,
    save_network,
    write_card,
)
from b2v.weights.hub import sha256_of
from b2v.weights.store import download, list_models, load_model, verify

TINY = {
    role: Blueprint(
        "unet",
        UNetConfig(
            inputs=inputs, outputs=2 if role == "pair35" else 1, widths=(4, 8), blocks=(1, 1)
        ),
    )
    for role, inputs in zip(ROLES, (1, 2, 3, 3), strict=True)
}
MIDDLE = TINY["middle"]


def state_of(blueprint, seed=0):
    """Weights away from the start, where most of them are zero."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: 0.1 * torch.randn(tensor.shape, generator=generator)
        for key, tensor in blueprint.build().state_dict().items()
    }


def make_model(folder, name="tiny", *, seed=0, card=True, **fields):
    """Write the four networks of a model, and its card."""
    networks = {}
    for role, blueprint in TINY.items():
        path = folder / file_name(name, role)
        save_network(state_of(blueprint, seed), blueprint, role, path)
        networks[role] = card_entry(path)[1]
    if card:
        write_card(Card(name=name, license="MIT", networks=networks, **fields), folder)
    return networks


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Empty places to look in: nothing of the user's or the repository's plays a part."""
    monkeypatch.setenv("B2V_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("B2V_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr("b2v.files.shipped_dir", lambda: tmp_path / "shipped")
    return tmp_path


def test_half_precision_file_gives_back_the_weights_rounded_once(tmp_path):
    state, path = state_of(MIDDLE), tmp_path / "a" / "x.safetensors"
    digest = save_network(state, MIDDLE, "middle", path, note={"step": 7})
    network = load_network(path)
    for key, weight in network.module.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, state[key].half().float())
    assert (network.role, network.blueprint, network.note) == ("middle", MIDDLE, {"step": 7})
    assert network.sha256 == digest == sha256_of(path)
    assert not network.module.training
    assert not any(p.requires_grad for p in network.module.parameters())
    assert [p.name for p in path.parent.iterdir()] == ["x.safetensors"]


def test_fp32_file_is_exact_and_saving_it_twice_gives_the_same_bytes(tmp_path):
    state = {k: v.to(memory_format=torch.contiguous_format) for k, v in state_of(MIDDLE).items()}
    state["stem.weight"] = state["stem.weight"].to(memory_format=torch.channels_last)
    digests = {
        save_network(state, MIDDLE, "middle", tmp_path / f"{i}.safetensors", half=False)
        for i in range(2)
    }
    assert len(digests) == 1
    loaded = load_network(tmp_path / "0.safetensors").module.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_loading_draws_no_random_numbers(tmp_path):
    save_network(state_of(MIDDLE), MIDDLE, "middle", tmp_path / "x.safetensors")
    before = torch.get_rng_state()
    load_network(tmp_path / "x.safetensors")
    assert torch.equal(before, torch.get_rng_state())


def spoil(path, how):
    """Write a good file, then put it wrong in one way."""
    state, about = state_of(MIDDLE), {"format": 1, "role": "middle", "note": {}}
    about["kind"], about["config"] = MIDDLE.describe()
    metadata = {"b2v": json.dumps(about)}
    if how == "missing key":
        del state["head.bias"]
    elif how == "extra key":
        state["tail.weight"] = torch.ones(2)
    elif how == "wrong shape":
        state["stem.bias"] = torch.ones(5)
    elif how == "nan":
        state["stem.bias"][2] = float("nan")
    elif how == "no metadata":
        metadata = {}
    elif how == "broken metadata":
        metadata = {"b2v": "{"}
    elif how == "later format":
        metadata = {"b2v": json.dumps({**about, "format": 2})}
    elif how == "unknown role":
        metadata = {"b2v": json.dumps({**about, "role": "left"})}
    elif how == "unknown kind":
        metadata = {"b2v": json.dumps({**about, "kind": "vit"})}
    elif how == "impossible config":
        metadata = {"b2v": json.dumps({**about, "config": {"inputs": 1, "widths": []}})}
    save_file(state, path, metadata)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    elif how == "text":
        path.write_text("hello, this is no file of weights")
    elif how == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing key", "lacks 'head.bias' of shape [12]"),
        ("extra key", "has 'tail.weight', which a unet network has not"),
        ("wrong shape", "'stem.bias' has shape [5], expected [4]"),
        ("nan", "'stem.bias' has 1 weights that are not finite"),
        ("no metadata", "does not say which network it holds"),
        ("broken metadata", "its description cannot be used"),
        ("later format", "format 2, this b2v knows 1: update b2v"),
        ("unknown role", "role 'left', expected one of middle"),
        ("unknown kind", "unknown kind of network 'vit'"),
        ("impossible config", "no network can be built from its config"),
        ("truncated", "is damaged or not a .safetensors file"),
        ("text", "is damaged or not a .safetensors file"),
        ("empty", "is damaged or not a .safetensors file"),
    ],
)
def test_spoilt_file_is_refused_in_one_line_that_names_it(tmp_path, how, words):
    path = tmp_path / "x.safetensors"
    spoil(path, how)
    with pytest.raises(WeightsError) as caught:
        load_network(path)
    message = str(caught.value)
    assert str(path) in message
    assert words in message
    assert "\n" not in message
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.safetensors", "does not exist"),
        ("folder", "is a folder"),
        ("a.pth", "convert it with `b2v weights import`"),
    ],
)
def test_what_is_no_file_of_ours_is_named_for_what_it_is(tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.pth").write_bytes(b"x" * 100)
    with pytest.raises(WeightsError, match=words):
        load_network(tmp_path / name)


def test_weight_that_fp16_cannot_hold_is_refused_and_nothing_is_written(tmp_path):
    state = state_of(MIDDLE)
    state["stem.bias"][0] = 1e5
    with pytest.raises(WeightsError, match=r"'stem.bias' has 1 weights that are not finite in f"):
        save_network(state, MIDDLE, "middle", tmp_path / "x.safetensors")
    assert list(tmp_path.glob("*.safetensors*")) == []


def test_file_that_cannot_be_written_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="cannot write"):
        save_network(state_of(MIDDLE), MIDDLE, "middle", tmp_path / "file" / "x.safetensors")


def test_card_comes_back_as_it_was_written(tmp_path):
    networks = make_model(tmp_path, card=False)
    card = Card(
        name="tiny",
        license="MIT",
        networks=networks,
        summary="Für den Test",
        commands=("b2v train --stage 1", "b2v train --stage 2"),
        hours=1.5,
        scores={"A": {"psnr": [1.0, 2.0]}},
        source="hf://someone/tiny@v1",
    )
    assert read_card(write_card(card, tmp_path)) == card


def test_a_card_and_a_file_of_the_old_spelling_are_read_as_new_ones_are(tmp_path):
    make_model(tmp_path)
    path = tmp_path / "tiny.json"
    card = read_card(path)
    text = path.read_text()
    path.write_text(text.replace('"license"', '"licence"'))
    assert path.read_text() != text
    assert read_card(path) == card
    one = tmp_path / "one.safetensors"
    save_network(state_of(MIDDLE), MIDDLE, "middle", one, note={"licence": "CC0", "steps": 1})
    assert inspect(one).note == {"license": "CC0", "steps": 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"license": None}, "'license' has the wrong type"),
        ({"license": ""}, "'license' is missing or empty"),
        ({"color": "red"}, "unknown field 'color'"),
        ({"name": "other"}, "expected 'tiny'"),
        ({"hours": "two"}, "'hours' has the wrong type, str"),
        ({"halvings": -1}, "'halvings' is -1, expected 0 or more"),
        ({"source": "https://x"}, "expected hf://owner/repo@revision"),
        ({"networks": {"left": {}}}, "unknown role 'left'"),
        ({"networks": {"middle": {"file": "x"}}}, "'sha256' of middle is missing"),
        ({"networks": {"middle": {"file": "../x.safetensors"}}}, "expected the plain name"),
        ({"networks": {"middle": {"sha256": "12"}}}, "expected 64 hexadecimal digits"),
        ({"networks": {"middle": {"kind": "vit"}}}, "unknown kind of network 'vit'"),
    ],
)
def test_wrong_card_is_refused_with_the_name_of_the_field(tmp_path, change, words):
    make_model(tmp_path)
    path = tmp_path / "tiny.json"
    plain = json.loads(path.read_text())
    entry = change.get("networks", {}).get("middle")
    if entry and words != "'sha256' of middle is missing":
        change = {"networks": {"middle": {**plain["networks"]["middle"], **entry}}}
    path.write_text(json.dumps({**plain, **change}))
    with pytest.raises(WeightsError) as caught:
        read_card(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_loaded_cascade_turns_a_picture_into_seven_frames(places):
    make_model(places / "shipped")
    loaded = load_model("tiny")
    with torch.inference_mode():
        frames = loaded.net(torch.rand(1, 3, 16, 16))
    assert frames.shape == (1, 7, 3, 16, 16)
    assert (loaded.name, loaded.license) == ("tiny", "MIT")
    assert list(loaded.networks) == list(ROLES)
    again = load_model("tiny")
    assert again.sha256 == loaded.sha256
    assert len(loaded.sha256) == 64


def test_places_are_tried_in_order(places, monkeypatch):
    """The argument, then B2V_WEIGHTS_DIR, then the shipped weights, then the cache."""
    tried = []
    folders = [places / name for name in ("cache", "shipped", "env", "argument")]
    for seed, folder in enumerate(folders):
        make_model(folder, seed=seed)
        if folder.name == "env":
            monkeypatch.setenv("B2V_WEIGHTS_DIR", str(folder))
        weights = folder if folder.name == "argument" else None
        tried.append(load_model("tiny", weights=weights).networks["middle"].path.parent.name)
    assert tried == ["cache", "shipped", "env", "argument"]
    assert [(m.where, m.shadowed) for m in list_models()] == [
        ("environment", False),
        ("shipped", True),
        ("cache", True),
    ]


def test_folder_without_a_card_will_do(places, monkeypatch):
    make_model(places / "run", card=False)
    assert load_model("b2v", weights=places / "run").name == "run"
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(places / "run"))
    assert load_model("tiny").license == "not stated"


def test_card_can_be_given_by_its_path(places):
    make_model(places / "else")
    path = places / "else" / "tiny.json"
    assert load_model(str(path)).sha256 == load_model("b2v", weights=path).sha256


def test_single_file_takes_the_place_of_the_network_of_its_role(places):
    make_model(places / "shipped")
    own = places / "best.safetensors"
    digest = save_network(state_of(TINY["pair26"], 9), TINY["pair26"], "pair26", own)
    loaded, plain = load_model("tiny", weights=own), load_model("tiny")
    assert loaded.networks["pair26"].sha256 == digest
    assert loaded.networks["middle"].sha256 == plain.networks["middle"].sha256
    assert loaded.sha256 != plain.sha256
    assert loaded.name == "tiny with pair26 from best.safetensors"
    assert loaded.license == "MIT; pair26: not stated"


def test_file_that_differs_from_its_card_is_not_used(places):
    make_model(places / "shipped")
    path = places / "shipped" / "tiny-pair17.safetensors"
    save_network(state_of(TINY["pair17"], 5), TINY["pair17"], "pair17", path)
    with pytest.raises(WeightsError, match=r"tiny-pair17.safetensors is not what its card says"):
        load_model("tiny")
    checks = {check.role: check.problem for check in verify("tiny")}
    assert [role for role, problem in checks.items() if problem] == ["pair17"]
    (model,) = list_models()
    assert not model.verified
    assert "tiny-pair17.safetensors has another sha256" in (model.problem or "")


def test_file_with_the_wrong_network_is_not_used(places):
    networks = make_model(places / "shipped")
    swapped = {**networks, "pair17": networks["pair26"]}
    write_card(Card(name="tiny", license="MIT", networks=swapped), places / "shipped")
    with pytest.raises(WeightsError, match="holds a unet network for pair26"):
        load_model("tiny")


def test_missing_file_is_named(places):
    make_model(places / "shipped")
    (places / "shipped" / "tiny-pair35.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"tiny-pair35.safetensors, the pair35 network of tiny"):
        load_model("tiny")
    assert [check.problem is None for check in verify("tiny")] == [True, False, True, True]


def test_card_of_part_of_a_cascade_is_completed_by_a_file(places):
    networks = make_model(places / "shipped")
    del networks["pair17"]
    write_card(Card(name="tiny", license="MIT", networks=networks), places / "shipped")
    (model,) = list_models()
    assert (model.complete, model.verified) == (False, True)
    with pytest.raises(WeightsError, match="has no pair17 network, only middle, pair35, pair26"):
        load_model("tiny")
    rest = places / "shipped" / "tiny-pair17.safetensors"
    assert load_model("tiny", weights=rest).networks["pair17"].path == rest


@pytest.mark.parametrize("name", ["nothing", "jin2018-released"])
def test_unknown_model_is_answered_with_those_there_are(places, name):
    make_model(places / "shipped")
    with pytest.raises(WeightsError, match=f"no model '{name}'; known: tiny") as caught:
        load_model(name)
    assert ("b2v weights import" in str(caught.value)) == (name == "jin2018-released")


@pytest.mark.parametrize(
    ("weights", "words"),
    [("nowhere", "does not exist"), ("bare", "has no model 'tiny'"), ("x.pth", "weights import")],
)
def test_weights_argument_that_leads_nowhere_is_refused(places, weights, words):
    (places / "bare").mkdir()
    (places / "x.pth").write_bytes(b"x" * 20)
    with pytest.raises(WeightsError, match=words):
        load_model("tiny", weights=places / weights)


def test_folder_with_two_networks_of_one_role_is_refused(places):
    for name in "ab":
        path = places / "two" / f"{name}.safetensors"
        save_network(state_of(MIDDLE), MIDDLE, "middle", path)
    with pytest.raises(WeightsError, match=r"two middle networks, a.safetensors and b.safetensors"):
        load_model("tiny", weights=places / "two")


def test_weights_dir_that_is_no_folder_is_an_error(places, monkeypatch):
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(places / "nowhere"))
    with pytest.raises(WeightsError, match=r"B2V_WEIGHTS_DIR is .*nowhere, which is no folder"):
        load_model("tiny")


def test_list_tells_size_and_license_and_goes_on_past_a_broken_card(places):
    make_model(places / "shipped", summary="Small")
    (places / "shipped" / "broken.json").write_text("{")
    broken, good = list_models()
    assert "is not JSON" in (broken.problem or "")
    assert (good.name, good.where, good.license, good.summary) == (
        "tiny",
        "shipped",
        "MIT",
        "Small",
    )
    assert good.bytes == sum(p.stat().st_size for p in good.folder.glob("*.safetensors"))
    assert (good.complete, good.verified, good.problem) == (True, True, None)


def test_a_network_for_the_middle_frame_alone_lacks_nothing_that_it_should_have(places):
    networks = make_model(places / "shipped")
    for kept, said in (("middle", "the middle frame alone"), ("pair26", "no network for middle")):
        card = Card(name="tiny", license="MIT", networks={kept: networks[kept]})
        write_card(card, places / "shipped")
        (model,) = list_models()
        assert said in (model.problem or "")
        assert not model.complete


def test_download_of_what_is_here_needs_no_network(places):
    make_model(places / "shipped")
    names = [path.name for path in download("tiny")]
    assert names == ["tiny.json", *(f"tiny-{role}.safetensors" for role in ROLES)]


def test_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.delenv("B2V_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_dir() == Path("/somewhere/b2v")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_dir() == Path("/home/me/.cache/b2v")


def test_a_user_without_a_home_has_the_shipped_weights(places, monkeypatch):
    """Containers run as users that the system does not know."""
    make_model(places / "shipped")

    def homeless(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert verify("tiny")[0].path.is_file()
    for name in ("B2V_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert verify("tiny")[0].path.is_file()
    assert cache_dir().is_absolute()
    assert "~" in cache_dir().parts
    monkeypatch.setenv("B2V_WEIGHTS_DIR", "~nobody/weights")
    with pytest.raises(WeightsError, match="is ~nobody/weights, which is no folder"):
        verify("tiny")


def test_header_is_read_without_the_weights(tmp_path):
    path = tmp_path / "x.safetensors"
    save_network(state_of(MIDDLE), MIDDLE, "middle", path)
    assert load_file(path)["stem.weight"].dtype == torch.float16
    header = inspect(path)
    assert (header.role, header.blueprint) == ("middle", replace(MIDDLE))


def test_a_written_file_can_be_read_by_whoever_the_umask_allows(tmp_path):
    blueprint = Blueprint("unet", UNetConfig(inputs=1, widths=(8, 8), blocks=(1, 1)))
    path = tmp_path / "net.safetensors"
    save_network(blueprint.build().state_dict(), blueprint, "middle", path)
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_file_is_hashed_once_and_again_when_it_has_been_touched(tmp_path, monkeypatch):
    hashed = []
    real = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda *data: hashed.append(data) or real(*data))
    path = tmp_path / "some.safetensors"
    path.write_bytes(b"weights")
    for _ in range(2):
        assert sha256_of(path) == real(b"weights").hexdigest()
    assert len(hashed) == 1
    sha256_of(path, anew=True)
    assert len(hashed) == 2
    before = path.stat()
    path.write_bytes(b"WEIGHTS")  # of the same size, and made to look as old
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sha256_of(path) == real(b"WEIGHTS").hexdigest()
