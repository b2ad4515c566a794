"""`b2v deblur` as a user meets it: through `main()`, on real files, with a tiny network."""

import errno
import json
import os
import shutil
import signal
import subprocess
import textwrap
import time
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import pytest
import torch
from command_line import (
    assert_one_line,
    listing,
    names_in,
    plain_surroundings,
    run_main,
    write_tiny_prior,
)
from video_samples import EVEN, FRAMES, TICK, UNEVEN, ffmpeg, make_video, packets

from b2v.cli import options
from b2v.defaults import QUALITY, VIDEO_MODELS
from b2v.inference import video_files
from b2v.inference.videos import Deblurrer
from b2v.media.video_reader import open_video
from b2v.models import VIDEO, Blueprint
from b2v.models.dtb import DTBConfig
from b2v.weights.checkpoints import Card, card_entry, file_name, save_network, write_card

JSON_KEYS = [
    *("input", "output", "ok", "skipped", "error", "frames", "slower", "width", "height"),
    *("seconds", "fps"),
    *("device", "precision", "model", "provenance", "notes", "lost"),
]
MODEL = VIDEO_MODELS[QUALITY]
"""The model that is taken where none is named."""
LONG = [20 * number for number in range(60)]
"""Two seconds."""
SLOW = textwrap.dedent("""
    import time
    from b2v.inference import video_files
    from b2v.inference.videos import Deblurrer
    from b2v.cli import main
    step = Deblurrer.step
    def slow(self, frame):
        time.sleep(0.1)
        return step(self, frame)
    video_files.FRAMES_EACH, Deblurrer.step = 5, slow
    main()
""")
"""The command line with ten frames a second, in pieces of five."""


def write_tiny_dtb(folder, name=MODEL, *, seed=0, **config):
    """Write a small network that makes its input lighter, and its card."""
    torch.manual_seed(seed)
    small = {"inputs": 5, "stem": 2, "features": 2, "encoder_blocks": 1, "decoder_blocks": 1}
    blueprint = Blueprint("dtb", DTBConfig(**{**small, **config}))
    net = blueprint.build()
    with torch.no_grad():
        net.head.weight.normal_(std=0.05)
        net.head.bias.fill_(0.1)
    path = folder / file_name(name, VIDEO)
    save_network(net.state_dict(), blueprint, VIDEO, path)
    write_card(Card(name=name, license="MIT", networks={VIDEO: card_entry(path)[1]}), folder)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Folder with a tiny network under the name of the default model."""
    folder = tmp_path_factory.mktemp("weights")
    write_tiny_dtb(folder)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Folder with videos of 64 x 48 pixels: uneven with sound, two seconds, and cut off."""
    folder = tmp_path_factory.mktemp("videos")
    make_video(folder / "a.mp4", UNEVEN, audio="aac", last=30)
    make_video(folder / "long.mp4", LONG, audio="aac")
    cut = ["-c", "copy", "-movflags", "+faststart"]
    ffmpeg("-i", folder / "long.mp4", *cut, folder / "cut.mp4")
    data = (folder / "cut.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(data[: len(data) * 7 // 10])
    return folder


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path, tiny, videos):
    """`b2v(*args)` in a folder with the videos, in pieces of five frames, in fp32."""
    plain_surroundings(monkeypatch, tmp_path, tiny)
    monkeypatch.setattr(video_files, "FRAMES_EACH", 5)
    for video in videos.iterdir():
        shutil.copy2(video, tmp_path)
    return lambda *args: run_main(capsys, *args)


@pytest.fixture
def start(driver, b2v, tmp_path):
    """`start(*args)` starts `b2v ARGS` as a process of its own, in the folder of the test."""
    driver.folder = tmp_path
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with ExitStack() as stack:
        yield lambda *args, **how: stack.enter_context(driver.start(*args, **pipes | how))


def wait_for(condition, seconds=300):
    late = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < late
        time.sleep(0.02)


def frames_of(path):
    with open_video(path) as reader:
        return [(frame.pts * reader.info.time_base, frame.pixels) for frame in reader]


def times_of(path):
    return [moment for moment, _ in frames_of(path)]


def same(one, other):
    pairs = zip(frames_of(one), frames_of(other), strict=True)
    return all(a == b and torch.equal(p, q) for (a, p), (b, q) in pairs)


def clean(folder="."):
    return not [name for name in names_in(folder) if name.startswith(".")]


# What goes well


def test_video_becomes_a_restored_one_beside_it(b2v, tmp_path):
    folder = tmp_path / "holiday"
    folder.mkdir()
    Path("a.mp4").rename(folder / "a.mp4")
    ran = b2v("deblur", folder / "a.mp4")
    target = folder / "a_deblurred.mp4"
    assert (ran.code, ran.out) == (0, f"{target}\n")
    assert "12 frames of 64x48 in" in ran.err
    assert names_in(folder) == ["a.mp4", "a_deblurred.mp4"]
    assert times_of(target) == times_of(folder / "a.mp4") == [time * TICK for time in UNEVEN]
    assert packets(target) == packets(folder / "a.mp4")
    with open_video(target) as reader, open_video(folder / "a.mp4") as source:
        assert reader.info.duration == source.info.duration
    with av.open(str(target)) as file:
        assert file.metadata["comment"].startswith("estimated, not evidence: made by b2v")
    pairs = zip(frames_of(target), frames_of(folder / "a.mp4"), strict=True)
    assert min((one - other).abs().max() for (_, one), (_, other) in pairs) > 0.01


def test_json_says_what_came_of_the_video(b2v):
    ran = b2v("deblur", "a.mp4", "-o", "b.mkv", "--json", "--precision", "fp32")
    said = json.loads(ran.out)
    assert (ran.code, ran.err) == (0, "")
    assert set(said) == set(JSON_KEYS)
    assert said["seconds"] > 0
    assert said["fps"] == pytest.approx(FRAMES / said["seconds"], rel=0.2)
    model = said["model"]
    assert (model["name"], model["license"], len(model["sha256"])) == (MODEL, "MIT", 64)
    assert said["provenance"]["sha256"] == model["sha256"]
    varying = ("seconds", "fps", "model", "provenance", "notes", "lost")
    told = {key: said[key] for key in JSON_KEYS if key not in varying}
    assert told == {
        **{"input": "a.mp4", "output": "b.mkv", "ok": True, "skipped": False},
        "error": None,
        **{"frames": 12, "slower": 1, "width": 64, "height": 48},
        **{"device": "cpu", "precision": "fp32"},
    }


def test_quiet_prints_the_path_alone(b2v):
    assert b2v("deblur", "a.mp4", "-q") == (0, "a_deblurred.mp4\n", "")


def test_a_kind_of_file_that_is_not_written_becomes_another_and_that_is_said(b2v):
    ffmpeg("-i", "a.mp4", "-c:v", "mpeg4", "-c:a", "mp3", "b.avi")
    ran = b2v("deblur", "b.avi")
    assert (ran.code, ran.out) == (0, "b_deblurred.mkv\n")
    assert "b.avi: becomes .mkv" in ran.err
    assert [len(stream) for stream in packets("b_deblurred.mkv")] == [
        len(stream) for stream in packets("b.avi")
    ]


@pytest.mark.parametrize(
    ("part", "count", "first"),
    [
        (("--preview", 0.5), 15, 0),
        (("--start", 0.5, "--end", 1), 15, 15),
        (("--start", 1.5, "--preview", 9), 15, 45),
    ],
)
def test_a_part_is_restored_with_its_sound(b2v, part, count, first):
    assert b2v("deblur", "long.mp4", "-o", "b.mp4", *part).code == 0
    assert times_of("b.mp4") == [20 * number * TICK for number in range(count)]
    (whole,), (kept,) = packets("long.mp4"), packets("b.mp4")
    begin = first * 20 * TICK
    meant = [content for moment, content in whole if begin <= moment < begin + count * 20 * TICK]
    assert [content for _, content in kept if content in meant] == meant


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
@pytest.mark.parametrize(("how", "axis"), [("side", 2), ("stack", 1)])
def test_a_comparison_shows_the_blurry_video_and_the_restored_one(b2v, size, how, axis):
    make_video("b.mkv", EVEN, size=size, codec="ffv1", pix_fmt="yuv444p")
    assert b2v("deblur", "b.mkv", "-o", "alone.mkv", "--crf", 1).code == 0
    assert b2v("deblur", "b.mkv", "--compare", how, "--crf", 1).code == 0
    blurry, shown, alone = (frames_of(name) for name in ("b.mkv", "b_deblurred.mkv", "alone.mkv"))
    height, width = size[1] * (axis == 1) + size[1], size[0] * (axis == 2) + size[0]
    assert [moment for moment, _ in shown] == [moment for moment, _ in blurry]
    for (_, before), (_, both), (_, after) in zip(blurry, shown, alone, strict=True):
        assert both.shape == (3, height, width)
        left, right = both.split([before.shape[axis]] * 2, dim=axis)
        assert (left - before).abs().mean() < 0.01
        assert (right - after).abs().mean() < 0.01
        assert (after - before).abs().mean() > 0.05


@pytest.mark.parametrize(
    ("options", "codec", "pix_fmt"),
    [
        (("-o", "b.mkv", "--codec", "hevc", "--pix-fmt", "yuv420p10le"), "hevc", "yuv420p10le"),
        (("-o", "b.webm"), "vp9", "yuv420p"),
        (("-o", "b.mov", "--codec", "prores"), "prores", "yuv422p10le"),
    ],
)
def test_the_video_is_encoded_as_asked_for(b2v, options, codec, pix_fmt):
    ran = b2v("deblur", "a.mp4", *options)
    assert ran.code == 0
    with open_video(options[1]) as reader:
        assert (reader.info.codec, reader.info.pix_fmt) == (codec, pix_fmt)
    assert ("cannot be kept in .webm" in ran.err) == options[1].endswith("webm")


def test_overwrite_replaces_a_video(b2v):
    Path("b.mp4").write_text("mine")
    assert b2v("deblur", "a.mp4", "-o", "b.mp4", "--overwrite").code == 0
    assert len(frames_of("b.mp4")) == FRAMES


def test_progress_is_a_line_now_and_then_or_a_bar(b2v, monkeypatch):
    monkeypatch.setattr(options.Ticker, "due", lambda _: True)
    ran = b2v("deblur", "a.mp4")
    assert " of 12 frames, " in ran.err
    assert " a second" in ran.err
    assert " left\n" in ran.err
    assert "\x1b" not in ran.err
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    ran = b2v("deblur", "a.mp4", "--overwrite")
    assert "━" in ran.err
    assert " of 12 frames" in ran.err
    assert "\x1b[3" not in ran.err  # moves of the cursor, but no colors


# Several videos


def test_a_bad_video_does_not_stop_the_others(b2v):
    Path("empty.mp4").touch()
    ran = b2v("deblur", "empty.mp4", "a.mp4", "missing.mp4", "-o", "clips", "--json")
    assert ran.code == 4
    said = [json.loads(line) for line in ran.out.splitlines()]
    assert [(s["input"], s["ok"]) for s in said] == [
        ("empty.mp4", False),
        ("a.mp4", True),
        ("missing.mp4", False),
    ]
    assert all(set(s) == set(JSON_KEYS) for s in said)
    assert "1 done, 2 failed\n" in ran.err
    assert names_in("clips") == ["a_deblurred.mp4"]


def test_an_output_that_exists_does_not_stop_the_others(b2v):
    Path("a_deblurred.mp4").write_text("mine")
    ran = b2v("deblur", "a.mp4", "long.mp4", "--preview", 0.2, "-q")
    assert (ran.code, ran.out, ran.err.count("\n")) == (4, "long_deblurred.mp4\n", 1)
    assert Path("a_deblurred.mp4").read_text() == "mine"


def test_nothing_is_made_when_every_video_is_bad(b2v):
    before = listing(".")
    ran = b2v("deblur", "x.mp4", "y.mp4", "-o", "clips", "-q")
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 2)
    assert listing(".") == before


@pytest.mark.parametrize("more", [(), ("-o", "there"), ("-o", "b.mp4"), ("-o", "-")])
def test_what_cannot_be_for_several_videos_is_found_before_any_work(b2v, more):
    before = listing(".")
    second = "./a.mp4"
    assert_one_line(b2v("deblur", "a.mp4", second, *more), 2)
    assert listing(".") == before


# Bad input: one line, the right exit code, nothing half written


def without_index(videos):
    data = (videos / "long.mp4").read_bytes()
    return data[: len(data) // 2]


def sound_alone(videos):
    ffmpeg("-i", videos / "a.mp4", "-vn", "-c", "copy", "sound.mp4")
    data = Path("sound.mp4").read_bytes()
    Path("sound.mp4").unlink()
    return data


BAD_VIDEOS = {
    "empty": (lambda _: b"", "is empty"),
    "text": (lambda _: b"Dear diary,\n" * 99, "not a video"),
    "no index": (without_index, "bad.mp4"),
    "no video": (sound_alone, "no video stream"),
    "no frames": (lambda _: b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\n", "no frame"),
    "tiny frames": (lambda _: b"YUV4MPEG2 W8 H8 F25:1 C420jpeg\nFRAME\n" + bytes(96), "16x16"),
}


@pytest.mark.parametrize("kind", BAD_VIDEOS)
def test_file_that_is_no_whole_video(b2v, videos, kind):
    make, word = BAD_VIDEOS[kind]
    Path("bad.mp4").write_bytes(make(videos))
    before = listing(".")
    assert_one_line(b2v("deblur", "bad.mp4"), 1, "bad.mp4", word)
    assert listing(".") == before


@pytest.mark.parametrize("name", ["missing.mp4", "no/such/folder.mp4", "new\nline.mp4"])
def test_video_that_is_not_there(b2v, name):
    before = listing(".")
    assert_one_line(b2v("deblur", name), 1)
    assert listing(".") == before


@pytest.mark.parametrize(
    ("target", "code", "word"),
    [
        ("there.mp4", 2, "exists already"),
        ("a.mp4", 2, "is the input"),
        ("no/clip.mp4", 1, "does not exist"),
        ("a.mp4/clip.mp4", 1, "is not a folder"),
        ("clip.avi", 2, "unknown suffix"),
        ("clip", 2, "unknown suffix"),
        ("x" * 300 + ".mp4", 2, "not a name"),
    ],
)
def test_output_that_cannot_be(b2v, target, code, word):
    Path("there.mp4").write_text("mine")
    before = listing(".")
    more = ["--overwrite"] if target == "a.mp4" else []
    assert_one_line(b2v("deblur", "a.mp4", "-o", target, *more), code, word)
    assert listing(".") == before


def test_folder_that_may_not_be_written_to(b2v, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    assert_one_line(b2v("deblur", "a.mp4"), 1, "no permission")


def test_without_weights_the_command_says_what_to_do(b2v, monkeypatch):
    monkeypatch.delenv("B2V_WEIGHTS_DIR")
    monkeypatch.setattr("b2v.weights.store.card_folders", list)
    before = listing(".")
    ran = b2v("deblur", "a.mp4")
    assert_one_line(ran, 3, f"there is no model '{MODEL}'", "known: none")
    assert listing(".") == before


@pytest.mark.parametrize("options", [("-m", "photo"), ("--weights", "photo-prior.safetensors")])
def test_a_network_for_photos_restores_a_video_too(b2v, monkeypatch, options):
    write_tiny_prior(Path(), "photo")
    monkeypatch.setenv("B2V_WEIGHTS_DIR", ".")
    ran = b2v("deblur", "a.mp4", "--shutter", "1/50", *options, "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["frames"] == FRAMES


@pytest.mark.parametrize("text", ["soon", "0", "-1/60", "1/0"])
def test_what_is_no_exposure_time_is_refused(b2v, text):
    assert_one_line(b2v("deblur", "a.mp4", "--shutter", text), 2, "1/60")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--weights", "nowhere"), "nowhere"),
        (("--weights", "a.mp4"), "a.mp4"),
    ],
)
def test_wrong_weights(b2v, options, word):
    before = listing(".")
    assert_one_line(b2v("deblur", "a.mp4", *options), 3, word)
    assert listing(".") == before


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("a.mp4", "--preview", "2", "--end", "3"),
        ("a.mp4", "--start", "3", "--end", "2"),
        ("a.mp4", "--start", "30"),
        ("a.mp4", "--preview", "0"),
        ("a.mp4", "--codec", "wmv"),
        ("a.mp4", "--pix-fmt", "yuv999p"),
        ("a.mp4", "--compare", "diagonal"),
        ("a.mp4", "--precision", "fp8"),
        ("a.mp4", "-o", "-", "--resume"),
        ("-",),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(b2v, args):
    before = listing(".")
    assert_one_line(b2v("deblur", *args), 2)
    assert listing(".") == before


@pytest.fixture
def small_disk(b2v, tmp_path):
    """Folder on a file system of 40 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_can_be_gone_on_with(b2v, small_disk, tmp_path):
    ran = b2v("deblur", "long.mp4", "-o", small_disk / "b.mp4", "--crf", 0)
    assert_one_line(ran, 1, "b.mp4: cannot be written", "No space left")
    assert not (small_disk / "b.mp4").exists()
    assert not list(small_disk.glob(".*/*.part"))


# A video that breaks off


def test_a_video_that_breaks_off_is_written_on_request_only(b2v):
    ran = b2v("deblur", "cut.mp4")
    assert_one_line(ran, 1, "cut.mp4: video is truncated after ", "--keep-partial --resume")
    assert not Path("cut_deblurred.mp4").exists()
    ran = b2v("deblur", "cut.mp4", "--keep-partial", "--resume", "--json")
    said = json.loads(ran.out)
    assert (ran.code, said["ok"]) == (4, False)
    assert f"video is truncated after {said['frames']} frames" in said["error"]
    assert 20 < said["frames"] < len(LONG)
    readable = times_of("cut_deblurred.mp4")
    assert readable == [20 * number * TICK for number in range(said["frames"])]
    assert clean()


def test_what_can_be_read_is_what_a_whole_video_begins_with(b2v):
    assert b2v("deblur", "cut.mp4", "--keep-partial", "-q").code == 4
    assert b2v("deblur", "long.mp4", "-q").code == 0
    whole, part = frames_of("long_deblurred.mp4"), frames_of("cut_deblurred.mp4")
    worst = [(a - b).abs().max() for (_, a), (_, b) in zip(part, whole, strict=False)]
    assert max(worst[:-10]) < 0.02  # the last ones lack frames ahead, and end another piece


# Stopped runs


@pytest.fixture
def stopped(start):
    """`stopped(*args)` runs the command until three pieces are closed, and stops it."""
    return partial(run_until_stopped, start)


def run_until_stopped(start, *args, stop=signal.SIGKILL):
    """Return the exit code, and what it said."""
    process = start("deblur", *args, script=SLOW)
    folder = Path(".b.mp4.b2v")
    wait_for(lambda: len(list(folder.glob("*_*.mp4"))) >= 3 or process.poll() is not None)
    process.send_signal(stop)
    out, err = process.communicate()
    return process.returncode, out.decode(), err.decode()


def test_a_killed_run_goes_on_to_the_same_video(b2v, stopped):
    args = ("long.mp4", "-o", "b.mp4", "--precision", "fp32")
    assert stopped(*args)[0] == -signal.SIGKILL
    assert not Path("b.mp4").exists()
    assert_one_line(b2v("deblur", *args), 2, "--resume", "--overwrite")
    ran = b2v("deblur", *args, "--resume")
    assert ran.code == 0
    assert "frames are from an earlier run" in ran.err
    assert clean()
    Path("b.mp4").rename("resumed.mp4")
    assert b2v("deblur", *args).code == 0
    assert same("resumed.mp4", "b.mp4")
    assert packets("resumed.mp4") == packets("long.mp4")


def test_ctrl_c_stops_at_once_and_leaves_what_can_be_gone_on_with(b2v, stopped):
    args = ("long.mp4", "-o", "b.mp4", "--precision", "fp32")
    code, out, err = stopped(*args, stop=signal.SIGINT)
    assert (code, out) == (130, "")
    assert err == "b2v: b.mp4: interrupted; run the same command with --resume to continue\n"
    assert names_in(".") == [".b.mp4.b2v", "a.mp4", "cut.mp4", "long.mp4"]
    before = listing(".")
    for more in (("--crf", 30), ("--end", 1.5), ("--compare", "side"), ("--precision", "bf16")):
        ran = b2v("deblur", *args, "--resume", *more)
        assert_one_line(ran, 2, "b.mp4: the earlier run had a different input")
    write_tiny_dtb(Path("..") / Path.cwd().name, "other", seed=1)
    ran = b2v("deblur", *args, "--resume", "--weights", "other-video.safetensors")
    assert_one_line(ran, 2, "weights or options")
    os.utime("long.mp4", (0, 0))
    assert_one_line(b2v("deblur", *args, "--resume"), 2, "a different input")
    assert [entry for entry in listing(".") if entry in before] == before
    assert b2v("deblur", *args, "--overwrite").code == 0
    assert clean()


def test_ctrl_c_before_anything_is_done_leaves_nothing(b2v, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    before = listing(".")
    monkeypatch.setattr(Deblurrer, "step", stop)
    assert_one_line(b2v("deblur", "a.mp4"), 130, "interrupted")
    assert listing(".") == before


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (MemoryError(), "out of memory"),
    ],
)
def test_what_the_system_refuses_in_a_thread_is_one_line(b2v, monkeypatch, error, word):
    def refuse(*_):
        raise error

    before = listing(".")
    monkeypatch.setattr("b2v.media.segments.SegmentWriter.write", refuse)
    assert_one_line(b2v("deblur", "a.mp4"), 1, word)
    assert listing(".") == before


# Pipes


def stream(name):
    """A video as it comes from a camera, in Matroska."""
    ffmpeg("-i", name, "-c", "copy", "-f", "matroska", f"{name}.live")
    return Path(f"{name}.live").read_bytes()


def test_frames_go_out_while_others_come_in(start):
    make_video("plain.mp4", LONG, options={"bf": "0"})
    data = stream("plain.mp4")
    with Path("out").open("wb") as file:
        process = start("deblur", "-", "-o", "-", stdin=subprocess.PIPE, stdout=file)
        process.stdin.write(data[: len(data) * 3 // 4])
        process.stdin.flush()
        wait_for(lambda: Path("out").stat().st_size > 5000 or process.poll() is not None)
        assert process.poll() is None
        _, err = process.communicate(data[len(data) * 3 // 4 :])
    assert process.returncode == 0
    assert b"-: 60 frames of 64x48 in" in err
    found = times_of("out")
    assert len(found) == len(LONG)
    off = [abs(a - b * TICK) for a, b in zip(found, LONG, strict=True)]
    assert max(off) <= Fraction(1, 1000)


def test_a_stream_goes_to_a_file_without_what_cannot_be_read_again(start):
    data = stream("a.mp4")
    process = start("deblur", "-", "-o", "b.mp4", stdin=subprocess.PIPE)
    out, err = process.communicate(data)
    assert (process.returncode, out) == (0, b"b.mp4\n")
    assert b"cannot be kept from a pipe" in err
    found = times_of("b.mp4")
    assert len(found) == FRAMES
    assert max(abs(a - b * TICK) for a, b in zip(found, UNEVEN, strict=True)) <= Fraction(1, 1000)


def test_a_reader_who_leaves_early_ends_the_run_quietly(start):
    reading, writing = os.pipe()
    process = start("deblur", "long.mp4", "-o", "-", "-q", stdout=writing)
    os.close(writing)
    os.read(reading, 5000)
    os.close(reading)
    _, err = process.communicate()
    assert (process.returncode, err) == (1, b"")


def test_ctrl_c_stops_a_run_that_waits_for_a_stream(start):
    data = stream("long.mp4")
    with Path("out").open("wb") as file:
        process = start("deblur", "-", "-o", "-", stdin=subprocess.PIPE, stdout=file)
        process.stdin.write(data[: len(data) // 2])
        process.stdin.flush()
        wait_for(lambda: Path("out").stat().st_size > 1000 or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        err = process.stderr.read()
    assert err == b"b2v: interrupted; no partial output is left\n"


# Real videos

REAL = [
    ("gopro-with-audio.mp4", 0.2, (848, 480)),
    ("phone-portrait-hevc.mov", 0.1, (1080, 1920)),
]


@pytest.mark.parametrize(("name", "seconds", "size"), REAL)
def test_real_videos_keep_all_but_the_blur(b2v, tmp_path, shared, name, seconds, size):
    source = shared / "data" / "real-blur" / name
    if not source.exists():
        pytest.skip(f"no video: {source} is not there")
    write_tiny_dtb(tmp_path, "smaller", inputs=3, stem=1, features=1)
    target = tmp_path / f"out{source.suffix}"
    args = ["--weights", "smaller-video.safetensors", "--crf", 30, "--json"]
    ran = b2v("deblur", source, "-o", target, "--preview", seconds, *args)
    said = json.loads(ran.out)
    assert (ran.code, said["ok"], said["width"], said["height"]) == (0, True, *size)
    with open_video(source, None, seconds) as reader, open_video(target) as restored:
        tick, tick_new = reader.info.time_base, restored.info.time_base
        times = [(f.pts * tick, f.duration * tick) for f in reader]
        found = [(f.pts * tick_new, f.duration * tick_new) for f in restored]
        assert (restored.info.width, restored.info.height) == size
        assert restored.info.turn.degrees == 0
    assert said["frames"] == len(times) == len(found)
    slack = max(tick, tick_new)
    assert max(abs(a - b) for (a, _), (b, _) in zip(times, found, strict=True)) <= slack
    assert abs(sum(times[-1]) - sum(found[-1])) <= 2 * slack
    for stored, kept in zip(packets(source), packets(target), strict=True):
        contents, found = [content for _, content in stored], [content for _, content in kept]
        assert any(contents[i : i + len(found)] == found for i in range(len(contents)))
    before, after = read_first(source), read_first(target)
    near = (before - after).abs().mean()
    assert near < 0.12  # the network makes it lighter by 0.1
    assert (before.flip(1, 2) - after).abs().mean() > near


def read_first(path):
    with open_video(path) as reader:
        return next(iter(reader)).pixels


def test_one_frame_is_not_called_frames(b2v):
    make_video("one.mp4", [0])
    assert "one.mp4: 1 frame of 64x48 in " in b2v("deblur", "one.mp4").err
