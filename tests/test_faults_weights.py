"""Hostile weights: files that would run code, fill the memory or never end; each is a line."""

import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from command_line import (
    assert_one_line,
    listing,
    plain_surroundings,
    run_main,
    write_tiny_cascade,
    write_tiny_prior,
)

from b2v.errors import WeightsError
from b2v.media.images import write_photo
from b2v.weights.checkpoints import load_network, read_card
from b2v.weights.imports import import_released

FLOATS = 1 << 24
"""Of a bomb: 64 MB, from a file of a thousandth of that."""


class Bomb:
    """Pickled as a call of `os.mkdir`."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def safetensors(path, header, data=b""):
    """Write a file with any header."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def described(config, **more):
    about = {"format": 1, "role": "middle", "kind": "unet", "config": config, **more}
    return {"__metadata__": {"b2v": json.dumps(about)}}


def zip_bomb(path):
    """Write what torch writes of a large tensor, but compressed."""
    small = path.with_suffix(".small")
    torch.save({"state_dict_G": {"conv1_B.weight": torch.zeros(8)}}, small)
    with zipfile.ZipFile(small) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("data.pkl"):
                data = data.replace(b"K\x08", b"J" + struct.pack("<i", FLOATS))
            new.writestr(name, bytes(4 * FLOATS) if name.endswith("data/0") else data)
    return path


@pytest.mark.parametrize("packed", [False, True], ids=["pickle", "torch"])
def test_a_file_that_would_run_code_is_refused_and_does_not(tmp_path, packed):
    path, proof = tmp_path / "center_v3.pth", tmp_path / "ran"
    if packed:
        torch.save({"state_dict_G": Bomb(proof)}, path)
    else:
        path.write_bytes(pickle.dumps({"state_dict_G": Bomb(proof)}))
    with pytest.raises(WeightsError, match="refused"):
        import_released([path], tmp_path / "out")
    with pytest.raises(WeightsError, match="weights import"):
        load_network(path)
    path.rename(tmp_path / "b2v-middle.safetensors")
    with pytest.raises(WeightsError, match="damaged or not"):
        load_network(tmp_path / "b2v-middle.safetensors")
    assert not proof.exists()
    assert not (tmp_path / "out").exists()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = zip_bomb(tmp_path / "center_v3.pth")
    assert path.stat().st_size < FLOATS / 100
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(WeightsError, match=r"is refused: .*it unpacks to 67 MB"):
        import_released([path], tmp_path / "out")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"__metadata__": {"b2v": "[" * 100_000}}, "description cannot be used"),
        (described({"inputs": 1, "blocks": [10**6, 1, 1]}), "'blocks'"),
        (described({"inputs": 1, "widths": [10**9] * 3}), "'widths'"),
        (described({"inputs": 1, "widths": [8] * 10**4}), "'widths'"),
        (described({"inputs": -1}), "'inputs'"),
        (described({"inputs": 1, "shuffle": 0}), "'shuffle'"),
        (described({"inputs": 1}, format="new"), "lacks"),
        (described({"inputs": "1"}), "config"),
        (described([]), "config"),
        (described({"inputs": 1}, role=["middle"]), "role"),
        (
            {
                **described({"inputs": 1}),
                "x": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]},
            },
            "damaged",
        ),
    ],
    ids=(
        "nested",
        "deep",
        "wide",
        "long",
        "none",
        "zero",
        "format",
        "text",
        "list",
        "role",
        "huge",
    ),
)
def test_descriptions_that_cannot_be_are_refused_at_once(tmp_path, header, words):
    path = safetensors(tmp_path / "evil.safetensors", header, b"0000" if "x" in header else b"")
    with pytest.raises(WeightsError, match=words) as caught:
        load_network(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 7, 2**31, 2**62, 2**64 - 1])
def test_headers_of_no_real_length_are_refused(tmp_path, length):
    path = tmp_path / "evil.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(WeightsError, match="damaged"):
        load_network(path)


def test_a_card_that_is_nested_without_an_end_is_refused(tmp_path):
    (tmp_path / "evil.json").write_text("[" * 100_000)
    with pytest.raises(WeightsError, match="not JSON"):
        read_card(tmp_path / "evil.json")


@pytest.mark.parametrize("where", ["../b2v-middle.safetensors", "/etc/passwd", "a/b.safetensors"])
def test_a_card_cannot_name_files_elsewhere(tmp_path, where):
    card = write_tiny_cascade(tmp_path)
    plain = json.loads(card.read_text())
    plain["networks"]["middle"]["file"] = where
    card.write_text(json.dumps(plain))
    with pytest.raises(WeightsError, match="plain name"):
        read_card(card)


def test_commands_say_one_line_and_write_nothing(tmp_path, capsys, monkeypatch, picture):
    write_tiny_prior(tmp_path / "weights")
    work = tmp_path / "work"
    work.mkdir()
    plain_surroundings(monkeypatch, work, tmp_path / "weights")
    write_photo(picture, work / "photo.png")
    torch.save({"state_dict_G": {"conv1_B.weight": torch.full((8,), torch.nan)}}, work / "a.pth")
    (work / "b.pth").write_bytes(pickle.dumps({"state_dict_G": Bomb(tmp_path / "ran")}, protocol=5))
    zip_bomb(work / "c.pth")
    safetensors(work / "d.safetensors", described({"inputs": 1, "blocks": [10**6, 1, 1]}))
    before = listing(work)
    for name in ("a.pth", "b.pth", "c.pth", "d.safetensors"):
        ran = run_main(capsys, "weights", "import", name, "-o", "out")
        assert_one_line(ran, 3, name)
        ran = run_main(capsys, "extract", "photo.png", "--weights", name)
        assert_one_line(ran, 3, name)
    assert listing(work) == before
    assert not (tmp_path / "ran").exists()
