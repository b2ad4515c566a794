"""`b2v doctor`: what it looks at, what it finds, and what it advises."""

import json
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from command_line import run_main, write_tiny_prior

from b2v.cli import machine
from b2v.cli.machine import Finding, examine
from b2v.defaults import PHOTO_MODEL
from b2v.errors import MediaError
from b2v.files import shipped_dir
from b2v.models import PRIOR
from b2v.weights.checkpoints import file_name

Disk = namedtuple("Disk", "total used free")
NAMES = [
    *("b2v", "packages", "HEIC", "devices", "ffmpeg", "codecs", "memory", "disk", "disk", "cache"),
    "weights",
]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Doctor where the shipped weights are a tiny prior; gives their folder."""
    write_tiny_prior(tmp_path / "shipped")
    monkeypatch.setattr("b2v.files.shipped_dir", lambda: tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shipped"


def found(check):
    return list(getattr(machine, f"_{check}")())


def states(findings):
    return {finding.name: finding.state for finding in findings}


def test_a_machine_in_order_has_no_failure(tiny, capsys):
    ran = run_main(capsys, "doctor")
    lines = [line for line in ran.out.splitlines() if not line.startswith(" ")]
    assert ran.code == 0
    assert [line.split()[1] for line in lines if "`b2v deblur`" not in line] == [
        *NAMES,
        "precision",
    ]
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    assert ran.err.endswith(", 0 fail\n")


def test_all_that_is_not_ok_comes_with_advice(tiny):
    for finding in examine():
        assert (finding.advice is None) == (finding.state == "ok"), finding


def test_json_says_the_same(tiny, capsys, monkeypatch):
    bad = Finding("memory", "fail", "none", "buy some")
    monkeypatch.setattr(machine, "_memory", lambda: iter([bad]))
    monkeypatch.setattr(machine, "_precision", lambda: iter([]))
    ran = run_main(capsys, "doctor", "--json")
    said = json.loads(ran.out)
    assert (ran.code, ran.err, said["ok"]) == (1, "", False)
    entry = {"name": "memory", "state": "fail", "said": "none", "advice": "buy some"}
    assert entry in said["findings"]


def test_the_shipped_weights_are_whole_and_precise(tmp_path, monkeypatch):
    assert (shipped_dir() / f"{PHOTO_MODEL}.json").is_file()
    monkeypatch.chdir(tmp_path)
    assert states(found("weights"))["weights"] in ("ok", "warn")
    assert any(f.state == "ok" and "shipped" in f.said for f in found("weights"))


def test_a_self_check_tells_in_db_how_near_half_precision_comes(tiny):
    (finding,) = found("precision")
    agreement = float(finding.said.split(" dB")[0].split()[-1])
    assert finding.state == "ok"
    assert 35 < agreement < 100


@pytest.mark.parametrize(("error", "state"), [(0.002, "ok"), (0.01, "warn"), (0.1, "fail")])
def test_a_precision_that_is_off_is_found(tiny, monkeypatch, error, state):
    from b2v.inference import images as inference
    from b2v.inference.runtime import Runtime, choose

    run_tiles = inference.run_tiles

    def spoilt(prior, picture, runtime):
        change, share = run_tiles(prior, picture, Runtime(runtime.device, "fp32"))
        return change + error * (runtime.precision == "bf16"), share

    def half(device="auto", precision="auto"):
        return choose(device, "bf16" if precision == "auto" else precision)

    monkeypatch.setattr(inference, "run_tiles", spoilt)
    monkeypatch.setattr("b2v.inference.runtime.choose", half)
    (finding,) = found("precision")
    assert finding.state == state
    assert (finding.advice or "--precision fp32").startswith(
        "use --precision fp32"
    ) or state == "ok"


def test_damaged_weights_fail_and_missing_ones_are_told(tiny):
    path = tiny / file_name(PHOTO_MODEL, PRIOR)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    first = found("weights")[0]
    assert (first.state, "sha256" in first.said) == ("fail", True)
    assert "install b2v again" in (first.advice or "")
    shutil.rmtree(tiny)
    tiny.mkdir()
    assert [(f.state, "no model" in f.said) for f in found("weights")] == [
        ("fail", True),
        ("warn", True),
    ]


@pytest.mark.parametrize(
    ("free", "memory", "disk"), [(100e9, "ok", "ok"), (1e9, "warn", "ok"), (0.5e9, "warn", "warn")]
)
def test_little_room_is_told(monkeypatch, free, memory, disk):
    monkeypatch.setattr("b2v.inference.runtime.free_bytes", lambda: free)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Disk(1, 1, free))
    assert states(found("memory")) == {"memory": memory}
    assert states(found("disk")) == {"disk": disk}


def test_folders_that_cannot_be_written_are_told(tiny, monkeypatch):
    monkeypatch.setattr(machine.os, "access", lambda *_: False)
    assert [f.state for f in [*found("disk"), *found("cache")]] == ["warn"] * 3
    assert "B2V_CACHE" in (found("cache")[0].advice or "")


def test_a_cache_that_is_a_file_is_told(tiny, monkeypatch):
    Path("file").touch()
    monkeypatch.setenv("B2V_CACHE", "file")
    assert states(found("cache")) == {"cache": "warn"}


def test_missing_media_tools_are_told(monkeypatch):
    def refuse():
        raise MediaError("FFmpeg's program does not run")

    monkeypatch.setattr("b2v.media.ffmpeg.ffmpeg_program", refuse)
    monkeypatch.setattr("b2v.media.clips.missing_encoders", lambda: (["gif"], ["libx265"]))
    assert [(f.name, f.state) for f in found("ffmpeg")] == [
        ("ffmpeg", "fail"),
        ("codecs", "fail"),
        ("codecs", "warn"),
    ]


def test_ffmpeg_is_where_it_says_and_nothing_is_missing():
    from b2v.media import clips
    from b2v.media import ffmpeg as tools

    path, number = tools.ffmpeg_program()
    assert Path(path).is_file()
    assert number != "unknown"
    assert clips.missing_encoders() == ([], [])


def test_packages_that_are_not_installed_are_told(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", [*machine.PACKAGES, "no-such-package"])
    finding = found("versions")[1]
    assert (finding.state, finding.advice) == ("fail", "pip install no-such-package")


def test_a_package_that_is_broken_is_a_finding_and_not_the_end(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "b2v.media.ffmpeg", None)
    monkeypatch.setattr(machine, "_precision", lambda: iter([]))
    findings = list(examine())
    (broken,) = [finding for finding in findings if finding.state == "fail"]
    assert broken.name == "ffmpeg"
    assert "ModuleNotFoundError" in broken.said
    assert findings[-1].name == "weights"
