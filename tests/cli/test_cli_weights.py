"""`b2v weights` through `main()`: what is there, whether it is sound, how to get more."""

import json
import pickle
from dataclasses import replace

import pytest
import torch
from command_line import (
    assert_one_line,
    listing,
    plain_surroundings,
    run_main,
    write_tiny_cascade,
)
from conftest import make_picture

from b2v.media.images import write_photo
from b2v.models import MODELS, ROLES
from b2v.weights import imports
from b2v.weights.checkpoints import read_card, write_card

REVISION = "a" * 40


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("B2V_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("b2v.files.shipped_dir", lambda: tmp_path / "shipped")
    return tmp_path / "cache"


@pytest.fixture
def own(tmp_path):
    """Folder of the user's with one model, `mine`."""
    write_tiny_cascade(tmp_path / "own", "mine")
    return tmp_path / "own"


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path, cache, own):
    plain_surroundings(monkeypatch, tmp_path, own)
    return lambda *args: run_main(capsys, "weights", *args)


@pytest.fixture
def bare(b2v, monkeypatch):
    """`b2v weights` where there are no weights at all."""
    monkeypatch.delenv("B2V_WEIGHTS_DIR")
    return b2v


def damage(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)


def write_authors_file(path, role="pair26"):
    """Write a network of the 2018 cascade as its authors' files have it."""
    state = MODELS["jin2018"][role].build().state_dict()
    names = {weight.ours: weight.theirs for weight in imports.of_cascade(role)}
    torch.save({"state_dict_G": {names[key]: value for key, value in state.items()}}, path)


# list


def test_list_shows_name_place_size_license_and_state(b2v, cache):
    write_tiny_cascade(cache, "other")
    ran = b2v("list")
    assert (ran.code, ran.err) == (0, "")
    for word in ("mine", "environment", "other", "cache", " MB", "MIT", "complete"):
        assert word in ran.out


def test_list_says_what_is_wrong(b2v, own):
    damage(own / "mine-pair17.safetensors")
    assert "another sha256" in " ".join(b2v("list").out.replace("│", " ").split())


def test_list_as_json(b2v, own, cache):
    write_tiny_cascade(cache, "mine", seed=1)
    (cache / "mine-middle.safetensors").unlink()
    ran = b2v("list", "--json")
    mine, hidden = json.loads(ran.out)
    size = sum(path.stat().st_size for path in own.glob("*.safetensors"))
    assert (ran.code, ran.err) == (0, "")
    assert mine == {
        "name": "mine",
        "where": "environment",
        "folder": str(own),
        "bytes": size,
        "license": "MIT",
        "summary": "",
        "complete": True,
        "verified": True,
        "shadowed": False,
        "problem": None,
    }
    assert (hidden["where"], hidden["shadowed"], hidden["verified"]) == ("cache", True, False)
    assert hidden["problem"] == "mine-middle.safetensors is not here"


def test_list_of_nothing_says_how_to_get_weights(bare):
    ran = bare("list")
    assert (ran.code, ran.out) == (0, "")
    assert "b2v weights download" in ran.err
    assert bare("list", "--json") == (0, "[]\n", "")


def test_list_with_a_folder_that_is_none(b2v, monkeypatch):
    monkeypatch.setenv("B2V_WEIGHTS_DIR", "nowhere")
    assert_one_line(b2v("list"), 3, "B2V_WEIGHTS_DIR", "nowhere")


# verify


@pytest.mark.parametrize("name", [(), ("mine",)])
def test_verify_has_a_line_for_every_file(b2v, own, name):
    ran = b2v("verify", *name)
    files = [own / f"mine-{role}.safetensors" for role in ROLES]
    assert ran == (0, "".join(f"ok     {path}\n" for path in files), "")


@pytest.mark.parametrize("name", [(), ("mine",)])
def test_verify_finds_what_is_damaged_and_what_is_missing(b2v, own, name):
    damage(own / "mine-middle.safetensors")
    (own / "mine-pair17.safetensors").unlink()
    ran = b2v("verify", *name)
    states = [line.split()[0] for line in ran.out.splitlines()]
    assert states == ["WRONG", "ok", "ok", "WRONG"]
    assert "sha256" in ran.out.splitlines()[0]
    assert "does not exist" in ran.out.splitlines()[3]
    assert (ran.code, ran.err.count("\n")) == (3, 1)
    assert "2 wrong" in ran.err


def test_verify_looks_at_every_model_also_beside_a_broken_card(b2v, own, cache):
    write_tiny_cascade(cache, "other")
    (own / "broken.json").write_text("{")
    ran = b2v("verify")
    assert (ran.code, ran.out.count("ok  "), ran.out.count("WRONG")) == (3, 8, 1)
    assert "broken.json is not JSON" in ran.out


def test_verify_of_nothing_fails(bare, b2v):
    assert_one_line(bare("verify"), 3, "b2v weights download")
    assert_one_line(b2v("verify", "nobody"), 3, "nobody")


# download


def test_download_of_what_is_here_prints_its_files(b2v, own):
    ran = b2v("download", "mine")
    names = ["mine.json", *(f"mine-{role}.safetensors" for role in ROLES)]
    assert (ran.code, ran.out.split()) == (0, [str(own / name) for name in names])
    assert ran.err == "use it with: b2v extract PHOTO -m mine\n"
    assert b2v("download", "mine", "-q").err == ""


@pytest.mark.parametrize(
    ("target", "code", "word"),
    [
        ("nobody", 3, "nobody"),
        ("hf://owner/repo/file.json", 2, "revision"),
        ("hf://owner/repo@main/file.json", 2, "revision"),
        ("hf://owner", 2, "hf://owner/repo@revision/file"),
        (f"hf://owner/repo@{REVISION}/card.json", 3, "HF_HUB_OFFLINE"),
        (f"hf://owner/repo@{REVISION}/net.safetensors", 3, "HF_HUB_OFFLINE"),
    ],
)
def test_download_that_cannot_be(b2v, monkeypatch, target, code, word):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert_one_line(b2v("download", target), code, word)


def test_download_without_a_connection_is_one_line(b2v, own, monkeypatch):
    card = read_card(own / "mine.json")
    write_card(replace(card, source=f"hf://owner/repo@{REVISION}"), own)
    (own / "mine-middle.safetensors").unlink()
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the tries of the hub's client
    assert_one_line(b2v("download", "mine"), 3, "cannot download", "check the connection")


def test_import_goes_to_the_cache_and_says_what_is_still_missing(b2v, cache):
    write_authors_file("anything.pth")
    ran = b2v("import", "anything.pth")
    written = [cache / "jin2018-released-pair26.safetensors", cache / "jin2018-released.json"]
    assert (ran.code, ran.out.split()) == (0, [str(path) for path in written])
    assert (
        ran.err
        == "jin2018-released still lacks middle, pair35, pair17: import those files as well\n"
    )
    assert sorted(cache.iterdir()) == sorted(written)
    assert_one_line(b2v("import", "anything.pth"), 2, "exists already")
    assert b2v("import", "anything.pth", "--overwrite", "-q").err == ""


@pytest.mark.parametrize(("output", "hint"), [((), ""), (("-o", "new/own"), " --weights new/own")])
def test_import_says_how_to_use_what_it_wrote(b2v, monkeypatch, output, hint):
    def pretend(paths, out, *, overwrite):
        return [*sorted(out.glob("*.safetensors")), write_tiny_cascade(out, "jin2018-released")]

    monkeypatch.setattr("b2v.weights.imports.import_released", pretend)
    ran = b2v("import", "a.pth", *output)
    assert ran.err == f"use it with: b2v extract PHOTO -m jin2018-released{hint}\n"


def test_what_import_advises_works(b2v, capsys, monkeypatch, tmp_path, cache):
    monkeypatch.delenv("B2V_WEIGHTS_DIR")
    name = "jin2018-released"
    write_photo(make_picture(16, 16), tmp_path / "photo.png")
    write_tiny_cascade(cache, name)
    write_tiny_cascade(tmp_path / "elsewhere", name, seed=1)
    used = [
        json.loads(run_main(capsys, "extract", "photo.png", "-o", f"{i}.gif", "--json", *how).out)
        for i, how in enumerate([("-m", name), ("-m", name, "--weights", "elsewhere")])
    ]
    assert [said["ok"] for said in used] == [True, True]
    assert used[0]["model"]["sha256"] != used[1]["model"]["sha256"]


class Bomb:
    """Calls `eval` when it is unpickled."""

    def __reduce__(self):
        return eval, ("open('boom', 'w')",)


def test_import_refuses_what_is_not_the_authors(b2v, tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"state_dict_G": Bomb()}))
    torch.save({"state_dict_G": {"conv1_B.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    before = listing(tmp_path)
    for name in ("missing.pth", "text.pth", "bomb.pth", "other.pth", "own"):
        assert_one_line(b2v("import", name), 3, name)
    assert_one_line(b2v("import"), 2, "FILE")
    assert listing(tmp_path) == before


def test_weights_without_a_word_more_shows_help(b2v):
    ran = b2v()
    assert ran.code == 2
    for command in ("list", "verify", "download", "import", "publish"):
        assert command in ran.out + ran.err
