"""Names and contents of files come from outside: what does not parse is one line."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from command_line import assert_one_line, plain_surroundings, run_main, write_tiny_prior
from conftest import make_picture
from safetensors import safe_open
from safetensors.torch import save_file
from test_cli_deblur import write_tiny_dtb
from video_samples import make_video

from b2v.errors import WeightsError
from b2v.files import may_never_end
from b2v.inference import video_files
from b2v.media.images import read_photo, write_photo
from b2v.media.segments import identity_of
from b2v.weights.checkpoints import load_network

LATIN_1 = os.fsdecode(b"caf\xe9")
"""A name that is not UTF-8, as old disks and archives have it."""


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path):
    """`b2v(*args)` with tiny weights for photos and videos, in pieces of five frames."""
    write_tiny_prior(tmp_path / "weights")
    plain_surroundings(monkeypatch, tmp_path, tmp_path / "weights")
    monkeypatch.setattr(video_files, "FRAMES_EACH", 5)
    return lambda *args: run_main(capsys, *args)


def test_names_that_are_not_utf_8_are_names(b2v):
    write_photo(make_picture(32, 48), f"{LATIN_1}.png")
    make_video(Path("a.mp4")).rename(f"{LATIN_1}.mp4")
    page, strip = f"{LATIN_1}.html", f"{LATIN_1}_strip.png"
    for command, suffix in (("extract", ".png"), ("deblur", ".mp4"), ("slowmo", ".mp4")):
        more = ("--html", page, "--filmstrip", strip) if command != "slowmo" else ()
        ran = b2v(command, LATIN_1 + suffix, "--overwrite", "--json", *more)
        said = json.loads(ran.out)
        assert (ran.code, ran.err, said["input"]) == (0, "", LATIN_1 + suffix)
        assert Path(said["output"]).is_file()
    assert "caf?" in Path(page).read_text(encoding="utf-8")
    assert not list(Path().glob(".*"))


def broken_off(b2v, monkeypatch):
    """Have a run broken off after its first pieces; return the folder that it leaves."""
    make_video("a.mp4", [20 * number for number in range(20)])
    real = video_files.finish
    monkeypatch.setattr(video_files, "finish", None)  # what is raised then is no error of ours
    with pytest.raises(TypeError):
        b2v("deblur", "a.mp4", "-o", "out.mp4")
    monkeypatch.setattr(video_files, "finish", real)
    return Path(".out.mp4.b2v")


STATES = {
    "text": {"counts": "five"},
    "list": [1, 2],
    "none": {},
    "one count": {"counts": torch.tensor([5])},
    "floats": {"counts": torch.tensor([5.0, 5.0])},
    "not a number": {"counts": torch.tensor([5, 5]), "window": torch.full((3,), torch.nan)},
}


@pytest.mark.parametrize("kind", STATES)
def test_a_state_that_is_something_else_is_one_line(b2v, monkeypatch, kind):
    folder = broken_off(b2v, monkeypatch)
    for state in folder.glob("*.state"):
        torch.save(STATES[kind], state)
    ran = b2v("deblur", "a.mp4", "-o", "out.mp4", "--resume", "-q")
    assert_one_line(ran, 2, "out.mp4: ", "start over with --overwrite")
    assert b2v("deblur", "a.mp4", "-o", "out.mp4", "--overwrite", "-q").code == 0


def test_a_key_that_is_no_text_is_that_of_another_run(b2v, monkeypatch):
    (broken_off(b2v, monkeypatch) / "key.txt").write_bytes(b"\xff\xfe\x00")
    ran = b2v("deblur", "a.mp4", "-o", "out.mp4", "--resume", "-q")
    assert_one_line(ran, 2, "the earlier run had a different input")


def test_another_input_of_the_same_name_size_and_time_is_noticed(b2v, monkeypatch):
    broken_off(b2v, monkeypatch)
    before, data = identity_of(Path("a.mp4")), bytearray(Path("a.mp4").read_bytes())
    stat = Path("a.mp4").stat()
    data[len(data) // 2] ^= 1
    Path("a.mp4").write_bytes(data)
    os.utime("a.mp4", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert identity_of(Path("a.mp4")) != before
    ran = b2v("deblur", "a.mp4", "-o", "out.mp4", "--resume", "-q")
    assert_one_line(ran, 2, "the earlier run had a different input")


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.uint8])
def test_weights_of_another_kind_of_number_are_refused(tmp_path, dtype):
    path = write_tiny_dtb(tmp_path)
    with safe_open(path, "pt") as file:
        metadata, state = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file({key: tensor.float().to(dtype) for key, tensor in state.items()}, path, metadata)
    with pytest.raises(WeightsError, match="expected floats; use another file"):
        load_network(path)


pipes = pytest.mark.skipif(sys.platform == "win32", reason="has no such pipes")


@pipes
def test_a_pipe_among_weights_is_refused_and_not_waited_for(b2v, tmp_path):
    write_photo(make_picture(32, 48), "photo.png")
    for name in ("b2v.json", "b2v.safetensors"):
        os.mkfifo(name)
        assert may_never_end(Path(name))
        ran = b2v("extract", "photo.png", "-q", "--weights", name)
        assert_one_line(ran, 3, name, "not a file")
    Path("more").mkdir()
    os.mkfifo("more/x-prior.safetensors")
    assert b2v("extract", "photo.png", "-q", "--weights", "more").code == 3


@pipes
def test_a_pipe_is_no_output(b2v):
    write_photo(make_picture(32, 48), "photo.png")
    make_video("a.mp4")
    for command, source, name in (("extract", "photo.png", "p.png"), ("deblur", "a.mp4", "p.mkv")):
        os.mkfifo(name)
        ran = b2v(command, source, "-o", name, "--overwrite", "-q")
        assert_one_line(ran, 2, f"{name}: is a pipe or a device")
        assert may_never_end(Path(name))
    os.mkfifo("p.gif")
    assert_one_line(
        b2v("extract", "photo.png", "-o", "p.gif", "--overwrite", "-q"), 2, "p.gif: is a pipe"
    )


@pytest.mark.parametrize("name", ["out.png", "out.mp4"])
def test_what_a_link_leads_to_is_replaced_and_the_link_stays(b2v, name):
    write_photo(make_picture(32, 48), "photo.png")
    Path("disk").mkdir()
    Path("disk", name).write_text("old")
    Path(name).symlink_to(Path("disk", name))
    assert b2v("extract", "photo.png", "-o", name, "--overwrite", "-q").code == 0
    assert Path(name).is_symlink()
    assert Path("disk", name).stat().st_size > 100
    assert [path.name for path in Path("disk").iterdir()] == [name]
    if name == "out.png":
        assert read_photo(name).pixels.shape == (3, 32, 48)


@pipes
def test_a_deleted_folder_is_one_line(b2v, tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    try:
        ran = run_main(capsys, "extract", str(tmp_path / "photo.png"))
    finally:
        os.chdir(tmp_path)
    assert_one_line(ran, 1, "the current folder was deleted; change into another")


def test_a_library_that_cannot_be_loaded_is_one_line(b2v, monkeypatch):
    write_photo(make_picture(32, 48), "photo.png")

    def refuse(*_, **__):
        raise ImportError("failed to map segment from shared object")

    monkeypatch.setattr("b2v.inference.images.load_weights", refuse)
    ran = b2v("extract", "photo.png", "-q")
    assert_one_line(ran, 1, "a library cannot be loaded (failed to map segment", "memory")
