"""Full and read-only disks, killed runs, two runs at once: the old state or the new one."""

import errno
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from command_line import TINY, assert_one_line, names_in, run_main, write_tiny_prior
from conftest import make_picture, read_clip
from forks import REPOSITORY, posix
from test_cli_weights import write_authors_file
from video_samples import make_video

from b2v.errors import B2VError, MediaError, UsageError, WeightsError
from b2v.files import alone, replacing
from b2v.media.clips import Clip
from b2v.media.images import read_photo, write_photo
from b2v.media.segments import SegmentWriter
from b2v.media.video_reader import open_video
from b2v.models import Blueprint
from b2v.models.unet import UNetConfig
from b2v.weights.checkpoints import load_network, save_network


def clip(seed=0, side=64):
    return Clip(torch.stack([make_picture(side, side, seed + k) for k in range(7)]), 10)


# Full and read-only disks


@pytest.fixture
def disk(tmp_path):
    """`disk(options)` mounts a file system of its own in memory; skipped where that is denied."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small disk is not permitted here")
        return place

    yield mount
    if os.name == "posix":
        subprocess.run(["umount", "-l", place], capture_output=True, check=False)


def save_weights(path):
    plan = Blueprint("unet", UNetConfig(inputs=1, widths=(32, 32, 32), blocks=(1, 1, 1)))
    save_network(plan.build().state_dict(), plan, "middle", path, half=False)


WAYS = {
    "clip.mp4": lambda path: clip(5, 256).save(path, overwrite=True),
    "clip.gif": lambda path: clip(5, 256).save(path, overwrite=True),
    "clip.webp": lambda path: clip(5, 256).save(path, overwrite=True),
    "frames": lambda path: clip(5, 256).save(path, overwrite=True),
    "photo.png": lambda path: write_photo(make_picture(256, 256, 9), path, overwrite=True),
    "net.safetensors": save_weights,
}


@posix
@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("options", ["size=40k", "size=40k,ro"], ids=["full", "read-only"])
def test_a_disk_that_refuses_leaves_what_was_there(disk, name, options):
    place = disk("size=40k")
    target = place / name
    if name == "frames":
        target.mkdir()
        write_photo(make_picture(8, 8), target / "000001.png")
    else:
        target.write_bytes(b"old")
    before = sorted((p.relative_to(place), p.is_file() and p.read_bytes()) for p in walk(place))
    if options.endswith("ro"):
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    with pytest.raises(B2VError) as caught:
        WAYS[name](target)
    assert str(target) in str(caught.value)
    assert "\n" not in str(caught.value)
    refusals = {"ro": (os.strerror(errno.EROFS), "no permission to write into")}
    refusals = refusals.get(options[-2:], (os.strerror(errno.ENOSPC),))
    assert any(said in str(caught.value) for said in refusals)
    after = sorted((p.relative_to(place), p.is_file() and p.read_bytes()) for p in walk(place))
    assert after == before


@posix
@pytest.mark.parametrize("options", ["size=24k", "size=24k,ro"], ids=["full", "read-only"])
def test_slow_motion_onto_a_disk_that_refuses_is_a_line(
    disk, tmp_path, capsys, monkeypatch, options
):
    make_video(tmp_path / "walk.mp4", [0, 20, 40, 60], size=(128, 96))
    write_tiny_prior(tmp_path / "weights", "unet")
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(tmp_path / "weights"))
    place = disk(options)
    ran = run_main(
        *(capsys, "slowmo", tmp_path / "walk.mp4", "-o", place / "slow.mp4", "--crf", 1, "-q")
    )
    words = "no permission" if options.endswith("ro") else "No space left"
    assert_one_line(ran, 1, "slow.mp4", words)
    assert not (place / "slow.mp4").exists()


def walk(folder):
    return list(Path(folder).rglob("*"))


# Two runs at once


def test_of_two_writers_the_second_is_told_and_the_first_goes_on(tmp_path):
    path = tmp_path / "out.bin"
    with replacing(path, overwrite=True) as part:
        part.write_bytes(b"first")
        with (
            pytest.raises(UsageError, match="another run of b2v is writing it"),
            replacing(path, overwrite=True),
        ):
            pytest.fail("two write at once")
    assert path.read_bytes() == b"first"
    assert names_in(tmp_path) == ["out.bin"]


def test_of_two_runs_that_resume_a_video_the_second_is_told(tmp_path):
    make_video(tmp_path / "a.mp4")
    with open_video(tmp_path / "a.mp4") as reader:
        info = reader.info
    with SegmentWriter(tmp_path / "out.mp4", info, each=2, keep=True) as writer:
        with pytest.raises(UsageError, match=r"out\.mp4: another run of b2v is writing it"):
            SegmentWriter(tmp_path / "out.mp4", info, each=2)
        writer.write(torch.zeros(3, 48, 64), 0, 20)
    with SegmentWriter(tmp_path / "out.mp4", info, each=2, resume=True) as writer:
        assert writer.done_frames == 1


def test_a_lock_is_over_with_its_holder_however_that_ended(tmp_path):
    code = f"""
import os, signal, sys
from pathlib import Path
from b2v.files import alone
with alone(Path({str(tmp_path / "a")!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    held = subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert held.stdout.readline() == b"held\n"
    with pytest.raises(UsageError, match="another run"), alone(tmp_path / "a"):
        pass
    held.kill()
    held.communicate()
    with alone(tmp_path / "a"):
        pass
    assert names_in(tmp_path) == []


def test_who_waits_for_a_lock_has_it_after_the_other(tmp_path):
    order, started = [], threading.Event()

    def second():
        started.set()
        with alone(tmp_path / "a", wait=True):
            order.append("second")

    thread = threading.Thread(target=second)
    with alone(tmp_path / "a"):
        thread.start()
        started.wait()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert names_in(tmp_path) == []


def test_many_runs_on_one_cache_leave_whole_files(tmp_path):
    states = [TINY["middle"].build().state_dict() for _ in range(4)]
    path, wrong = tmp_path / "net.safetensors", []

    def run(state):
        try:
            for _ in range(5):
                save_network(state, TINY["middle"], "middle", path)
                load_network(path)
        except WeightsError as error:
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(state,)) for state in states]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert names_in(tmp_path) == ["net.safetensors"]


# Killed at any moment

COMMANDS = {
    "extract": ("extract", "photo.png", "-o", "out.mp4", "--overwrite"),
    "extract-folder": ("extract", "photo.png", "-o", "out", "--overwrite"),
    "deblur": ("deblur", "walk.mp4", "-o", "out.mp4", "--overwrite"),
    "slowmo": ("slowmo", "walk.mp4", "-o", "out.mp4", "--overwrite"),
    "import": ("weights", "import", "net.pth", "-o", "out", "--overwrite"),
}


@pytest.fixture
def work(driver, tmp_path, monkeypatch):
    """Folder with a photo, a video and weights, and a driver that works in it."""
    folder, weights = tmp_path / "work", tmp_path / "weights"
    folder.mkdir()
    write_tiny_prior(weights)
    write_tiny_prior(weights, "unet")
    write_photo(make_picture(48, 64), folder / "photo.png")
    make_video(folder / "walk.mp4", [20 * number for number in range(6)])
    write_authors_file(folder / "net.pth")
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(weights))
    driver.folder = folder
    return folder, driver


def state_of(folder):
    """All that is to be seen of an output, or None."""
    seen = [p for p in walk(folder) if not p.name.startswith(".") and p.name.startswith("out")]
    seen += [p for p in walk(folder / "out") if not any(n.startswith(".") for n in p.parts)]
    return {str(p.relative_to(folder)): p.is_file() and p.read_bytes() for p in seen}


def check_kills(work, name, moments):
    """Kill a command at so many moments: old or new each time, and at last it still works."""
    folder, driver = work
    command, chance = COMMANDS[name], random.Random(name)
    seconds = driver.run(*command)
    new = state_of(folder)
    assert new
    for _ in range(moments):
        for path in [p for p in folder.iterdir() if p.name in ("out", "out.mp4")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        old = old_state(folder, name, random.Random(chance.random()))
        driver.kill(chance.uniform(0.05, 1.1) * seconds, *command)
        found = state_of(folder)
        assert found in (old, new) or is_partly_new(found, old, new, name)
    driver.run(*command)
    assert state_of(folder) == new
    hidden = [p.name for p in folder.iterdir() if p.name.startswith(".")]
    assert [n for n in hidden if not n.endswith(".lock")] == []


def old_state(folder, name, chance):
    """Put something in the place of the output, or nothing."""
    if name == "extract-folder":
        (folder / "out").mkdir()
        write_photo(make_picture(8, 8), folder / "out" / "000001.png")
    elif name != "import" and chance.random() < 0.7:
        (folder / "out.mp4").write_bytes(b"old")
    return state_of(folder)


def is_partly_new(found, old, new, name):
    """Weights are several files; each is whole, and the card, written last, tells of all."""
    return name == "import" and all(new.get(path) == content for path, content in found.items())


@posix
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_leaves_the_old_state_or_the_new_one(work, name):
    check_kills(work, name, 2)


@posix
@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_killed_at_twenty_moments_leaves_the_old_state_or_the_new_one(work, name):
    check_kills(work, name, 20)


def test_a_folder_that_was_taken_away_by_a_kill_comes_back(tmp_path):
    """Between the two renames that exchange folders, the old one has a hidden name."""
    clip().save(tmp_path / "frames")
    (tmp_path / "frames").rename(tmp_path / ".frames.old")
    with pytest.raises(UsageError, match="exists already"):
        clip(1).save(tmp_path / "frames", overwrite=False)
    with pytest.raises(MediaError), replacing(tmp_path / "frames", overwrite=True):
        raise OSError(errno.EIO, "broken")
    assert len(read_clip(tmp_path / "frames")) == 7
    assert names_in(tmp_path) == ["frames"]


# Names


@posix
@pytest.mark.parametrize(
    "name",
    [b"two\nlines", b"tab\tand \x1b[31m", "ä ö 𝄞 ".encode(), b"-o"],
    ids=["lines", "escapes", "unicode", "option"],
)
def test_files_of_any_name_are_read_and_written(tmp_path, capsys, monkeypatch, name):
    write_tiny_prior(tmp_path / "weights")
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(tmp_path / "weights"))
    photo = tmp_path / os.fsdecode(name + b".png")
    write_photo(make_picture(32, 32), photo)
    ran = run_main(capsys, "extract", photo, "-q")
    assert (ran.code, ran.err) == (0, "")
    (made,) = [path for path in tmp_path.iterdir() if path.suffix == ".mp4"]
    assert len(read_clip(made)) == 7
    assert read_photo(photo).pixels.shape == (3, 32, 32)


@posix
def test_a_loop_of_links_is_no_picture_and_no_video(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    for read in (read_photo, open_video):
        with pytest.raises(MediaError, match=r"a\.png: .*(symbolic|links)"):
            read(tmp_path / "a.png")


@posix
@pytest.mark.parametrize("read", [read_photo, open_video])
def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path, read):
    path, said = tmp_path / "a.png", []
    os.mkfifo(path)

    def attempt():
        try:
            read(path)
        except MediaError as error:
            said.append(str(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(5)
    if thread.is_alive():
        path.open("wb").close()  # what it waits for
        pytest.fail("it waits")
    assert f"{path}: is not a file" in said[0]


@posix
@pytest.mark.parametrize("read", [read_photo, open_video])
def test_a_device_that_never_ends_is_no_file(read):
    with pytest.raises(MediaError, match="/dev/zero: is not a file"):
        read(Path("/dev/zero"))
