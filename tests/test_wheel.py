"""The built wheel: what is in it, and that it works elsewhere, without network or repository."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import make_picture, read_clip
from test_inference import needs_shipped_weights

from b2v.media.images import write_photo
from b2v.models import MAXIM_STAGES, PRIOR, ROLES

REPOSITORY = Path(__file__).parents[1]
LARGEST = 100_000_000
"""Bytes that registries of packages take at most of one file."""
OFFLINE = """
import socket, sys

def refuse(*_):
    raise AssertionError("reached for the network")

socket.socket.connect = socket.getaddrinfo = refuse
import b2v
from b2v.weights.store import find_model
print(b2v.__file__, find_model("maxim-1").folder, file=sys.stderr)
from b2v.cli import main
sys.argv = ["b2v", "extract", "small.png", "--quality", "fast", "-o", "clip.gif", "--json"]
main()
"""

pytestmark = needs_shipped_weights


def python(*args, cwd, **environment):
    """Run `python ARGS` and return its stdout and stderr; it must succeed."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    ran = subprocess.run([sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, ran.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="hatchling builds the wheel; it comes with b2v[dev]")
    folder = tmp_path_factory.mktemp("wheel")
    python("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=REPOSITORY)
    (path,) = folder.glob("b2v-*-py3-none-any.whl")
    return path


def test_wheel_has_the_weights_the_demo_and_the_licenses(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for model, roles in (("unet", [PRIOR]), ("maxim", MAXIM_STAGES), ("cascade", ROLES)):
        assert {f"b2v/_weights/{model}-{role}.safetensors" for role in roles} <= names
    assert {"b2v/_weights/maxim-half.json", "b2v/assets/demo.jpg", "b2v/assets/CREDITS.md"} <= names
    assert {"b2v/assets/demo_video.mp4", "b2v/assets/page.css", "b2v/assets/page.js"} <= names
    assert {f"b2v/assets/{name}.html" for name in ("page", "scene", "heat")} <= names
    for license in ("LICENSE", "NOTICE", "weights/LICENSE-maxim.txt"):
        assert any(name.endswith(f"licenses/{license}") for name in names)
    assert not [name for name in names if name.startswith(("tests", "runs", "weights"))]
    assert wheel.stat().st_size < LARGEST


def test_wheel_works_in_another_folder_without_network(wheel, tmp_path):
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = ("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile")
    python(*install, "--target", str(target), str(wheel), cwd=elsewhere)
    alone = {"PYTHONPATH": str(target), "HF_HUB_OFFLINE": "1"}

    out, _ = python("-m", "b2v", "weights", "verify", cwd=elsewhere, **alone)
    assert [line.split()[0] for line in out.splitlines()] == ["ok"] * len(out.splitlines())
    assert "maxim-stage1.safetensors" in out

    write_photo(make_picture(40, 56), elsewhere / "small.png")
    out, err = python("-c", OFFLINE, cwd=elsewhere, **alone)
    assert err.split() == [str(target / "b2v" / "__init__.py"), str(target / "b2v" / "_weights")]
    said = json.loads(out)
    assert (said["ok"], said["frames"], said["model"]["name"]) == (True, 7, "maxim-half")
    assert len(read_clip(elsewhere / "clip.gif")) == 7
