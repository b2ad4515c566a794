"""The command line in tests: run as it is installed, with tiny networks, in a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conftest import read_clip

from b2v.cli import main
from b2v.defaults import PHOTO_MODEL
from b2v.models import PRIOR, ROLES, Blueprint
from b2v.models.unet import UNetConfig
from b2v.weights.checkpoints import Card, card_entry, file_name, save_network, write_card

REPOSITORY = Path(__file__).parents[1]
TINY = {
    role: Blueprint(
        "unet",
        UNetConfig(
            inputs=inputs, outputs=2 if role == "pair35" else 1, widths=(8, 8, 8), blocks=(1, 1, 1)
        ),
    )
    for role, inputs in zip(ROLES, (1, 2, 3, 3), strict=True)
}
JSON_KEYS = [
    *("input", "output", "ok", "skipped", "error", "frames", "size", "seconds", "device"),
    *("precision", "model", "reblur_db", "exposure", "provenance", "notes", "lost"),
]


class Ran(NamedTuple):
    """What a run of the command line left behind."""

    code: int
    out: str
    err: str


def run_main(capsys, *args):
    """Run `b2v ARGS` in this process, through `main()` as the installed command does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["b2v", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            main()
    return Ran(int(stop.value.code or 0), *capsys.readouterr())


def run_process(*args, cwd, stdout=subprocess.PIPE, **environment):
    """Run `python ARGS` on this source tree, from another folder; output is bytes."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, *args]
    return subprocess.run(command, cwd=cwd, env=env, stdout=stdout, stderr=subprocess.PIPE)


def write_tiny_cascade(folder, name="cascade", *, seed=0):
    """Write four small networks that change their input, and their card."""
    return write_tiny(folder, name, TINY, seed)


def write_tiny_prior(folder, name=PHOTO_MODEL, *, seed=0):
    """Write one small network that changes its input, and its card; it passes for the default."""
    return write_tiny(folder, name, {PRIOR: TINY["middle"]}, seed)


def write_tiny(folder, name, blueprints, seed):
    torch.manual_seed(seed)
    networks = {}
    for role, blueprint in blueprints.items():
        net = blueprint.build()
        with torch.no_grad():
            net.head.weight.normal_(std=0.01)
        path = folder / file_name(name, role)
        save_network(net.state_dict(), blueprint, role, path)
        networks[role] = card_entry(path)[1]
    return write_card(Card(name=name, license="MIT", networks=networks), folder)


def plain_surroundings(monkeypatch, folder, weights):
    """Work in `folder` with these weights, off any terminal."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(weights))
    monkeypatch.chdir(folder)


def listing(folder):
    """Everything below `folder`, with the bytes of its files."""
    paths = sorted(Path(folder).rglob("*"))
    return [(path, path.read_bytes() if path.is_file() else None) for path in paths]


def names_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def assert_one_line(ran, code, *words):
    """Check that a run failed as it should: one line on stderr, nothing on stdout."""
    assert ran.out == ""
    assert ran.err.startswith("b2v: ")
    assert ran.err.count("\n") == 1
    assert ran.err.endswith("\n")
    for word in words:
        assert word in ran.err
    assert ran.code == code


def frames_of(path):
    return read_clip(path).frames
