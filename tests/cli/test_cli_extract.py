"""`b2v extract` as a user meets it: through `main()`, on real files, with tiny networks."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import (
    JSON_KEYS,
    assert_one_line,
    frames_of,
    listing,
    names_in,
    run_process,
    write_tiny_cascade,
    write_tiny_prior,
)
from conftest import make_picture, read_clip
from PIL import Image

from b2v.cli import main
from b2v.defaults import PHOTO_MODEL, PHOTO_MODELS
from b2v.inference.images import SHARP
from b2v.media.images import read_photo, write_photo
from b2v.models import PRIOR
from b2v.models.unet import UNet
from b2v.weights.checkpoints import file_name

# What goes well


def test_photo_becomes_a_clip_beside_it(b2v, tmp_path):
    folder = tmp_path / "holiday"
    folder.mkdir()
    Path("photo.png").rename(folder / "photo.png")
    ran = b2v("extract", folder / "photo.png")
    assert ran.code == 0
    assert ran.out == f"{folder / 'photo_b2v.mp4'}\n"
    assert names_in(folder) == ["photo.png", "photo_b2v.mp4"]
    assert ran.err.startswith(f"{folder / 'photo.png'}: 7 frames of 48x32 in ")
    assert "dB" not in ran.err


@pytest.mark.parametrize("output", ["clip.mp4", "clip.MP4", "clip.gif", "clip.webp", "frames"])
@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47), (16, 17)])
def test_every_kind_of_output_holds_seven_frames_of_the_photos_size(b2v, output, height, width):
    write_photo(make_picture(height, width), "odd.png")
    ran = b2v("extract", "odd.png", "-o", output, "-q")
    assert ran == (0, f"{output}\n", "")
    clip = read_clip(output)
    assert clip.frames.shape == (7, 3, height, width)
    assert clip.fps == pytest.approx(10)


def test_frames_differ_from_each_other_and_from_the_photo(b2v):
    write_photo(make_picture(32, 48, seed=1), "sharp.png")
    b2v("extract", "photo.png", "--middle", "sharp.png", "-o", "frames")
    frames, photo = frames_of("frames"), read_photo("photo.png").pixels
    pictures = [photo, *frames]
    for i, one in enumerate(pictures):
        for other in pictures[i + 1 :]:
            assert (one - other).abs().max() > 2 / 255


def test_folder_may_have_a_dot_in_its_name_when_a_slash_follows(b2v):
    assert b2v("extract", "photo.png", "-o", "take.1/", "-q").code == 0
    assert len(names_in("take.1")) == 7


def test_fps_is_that_of_the_clip(b2v):
    b2v("extract", "photo.png", "-o", "clip.mp4", "--fps", 25)
    assert read_clip("clip.mp4").fps == pytest.approx(25)


def test_reverse_is_forward_from_the_other_end(b2v):
    b2v("extract", "photo.png", "-o", "forward")
    b2v("extract", "photo.png", "-o", "reverse", "--order", "reverse")
    assert torch.equal(frames_of("reverse"), frames_of("forward").flip(0))


def test_boomerang_goes_there_and_back_without_a_frame_twice_in_a_row(b2v):
    b2v("extract", "photo.png", "-o", "forward")
    b2v("extract", "photo.png", "-o", "boomerang", "--order", "boomerang")
    there, boomerang = frames_of("forward"), frames_of("boomerang")
    assert len(boomerang) == 12
    assert torch.equal(boomerang[:7], there)
    assert torch.equal(boomerang[7:], there[1:6].flip(0))


def test_mp4_holds_its_frames_as_often_as_it_is_played(b2v):
    b2v("extract", "photo.png", "-o", "clip.mp4", "--loop", 3)
    assert len(frames_of("clip.mp4")) == 21


def test_given_middle_picture_is_the_middle_frame(b2v):
    write_photo(make_picture(32, 48, seed=5), "sharp.png")
    assert b2v("extract", "photo.png", "-o", "frames", "--middle", "sharp.png").code == 0
    assert torch.equal(frames_of("frames")[3], read_photo("sharp.png").pixels)


def test_transparent_parts_are_laid_on_white(b2v, tmp_path):
    see_through = Image.open("photo.png").convert("RGBA")
    see_through.putalpha(128)
    see_through.save("glass.png")
    write_photo(read_photo("glass.png").on_white(), "white.png", bits=16)
    b2v("extract", "glass.png", "-o", "a.mp4", "--precision", "fp32")
    b2v("extract", "white.png", "-o", "b.mp4", "--precision", "fp32")
    assert (frames_of("a.mp4") - frames_of("b.mp4")).abs().mean() < 2 / 255  # H.264 rounds


def test_json_says_what_came_of_the_photo(b2v):
    ran = b2v("extract", "photo.png", "-o", "clip.gif", "--json", "--precision", "fp32")
    said = json.loads(ran.out)
    assert ran.code == 0
    assert ran.err == ""
    assert set(said) == set(JSON_KEYS)
    assert said["seconds"] > 0
    assert 0 < said["reblur_db"] <= 100
    model = said["model"]
    assert (model["name"], model["license"], len(model["sha256"])) == (PHOTO_MODEL, "MIT", 64)
    made = said["provenance"]
    assert (made["model"], made["sha256"]) == (PHOTO_MODEL, model["sha256"])
    assert made["note"] == "estimated, not evidence"
    varying = ("seconds", "reblur_db", "model", "provenance")
    told = {key: said[key] for key in JSON_KEYS if key not in varying}
    assert told == {
        "input": "photo.png",
        "output": "clip.gif",
        "ok": True,
        "skipped": False,
        "error": None,
        "frames": 7,
        "size": [48, 32],
        "device": "cpu",
        "precision": "fp32",
        "exposure": None,
        "notes": [f"photo.png: {SHARP}"],
        "lost": [],
    }


@pytest.mark.parametrize("quality", PHOTO_MODELS)
def test_quality_chooses_the_model_and_a_name_goes_before_it(b2v, tmp_path, monkeypatch, quality):
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(tmp_path / "own"))
    for name in (*PHOTO_MODELS.values(), "mine"):
        write_tiny_prior(tmp_path / "own", name)
    args = ("extract", "photo.png", "--quality", quality, "--json", "--overwrite")
    assert json.loads(b2v(*args).out)["model"]["name"] == PHOTO_MODELS[quality]
    assert json.loads(b2v(*args, "-m", "mine").out)["model"]["name"] == "mine"


def test_quiet_prints_the_path_alone(b2v):
    assert b2v("extract", "photo.png", "-q") == (0, "photo_b2v.mp4\n", "")


def test_overwrite_replaces_a_clip(b2v):
    b2v("extract", "photo.png", "-o", "clip.gif", "--fps", 5)
    assert b2v("extract", "photo.png", "-o", "clip.gif", "--overwrite").code == 0
    assert read_clip("clip.gif").fps == pytest.approx(10)


def test_one_network_may_come_from_another_file(b2v, tmp_path, monkeypatch):
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(tmp_path / "own"))
    write_tiny_cascade(tmp_path / "own")
    write_tiny_cascade(tmp_path / "other", "other", seed=1)
    own = ("-m", "cascade", "--weights", tmp_path / "other" / "other-pair17.safetensors")
    b2v("extract", "photo.png", "-o", "a", "-m", "cascade")
    said = json.loads(b2v("extract", "photo.png", "-o", "b", *own, "--json").out)
    assert said["model"]["name"] == "cascade with pair17 from other-pair17.safetensors"
    equal = [bool(torch.equal(*pair)) for pair in zip(frames_of("a"), frames_of("b"), strict=True)]
    assert equal == [False, True, True, True, True, True, False]


# Several photos


def test_several_photos_go_to_a_folder_that_is_made(b2v):
    write_photo(make_picture(33, 47), "second.png")
    ran = b2v("extract", "photo.png", "second.png", "-o", "clips")
    assert ran.code == 0
    assert ran.out.split() == ["clips/photo_b2v.mp4", "clips/second_b2v.mp4"]
    assert [len(frames_of(path)) for path in ran.out.split()] == [7, 7]


def test_a_bad_photo_does_not_stop_the_others(b2v):
    Path("empty.jpg").touch()
    ran = b2v("extract", "empty.jpg", "photo.png", "missing.jpg", "-o", "clips", "--json", "-q")
    assert ran.code == 4
    said = [json.loads(line) for line in ran.out.splitlines()]
    assert [(s["input"], s["ok"]) for s in said] == [
        ("empty.jpg", False),
        ("photo.png", True),
        ("missing.jpg", False),
    ]
    assert all(set(s) == set(JSON_KEYS) for s in said)
    assert [s["error"] for s in said if s["error"]] == [
        line.removeprefix("b2v: ") for line in ran.err.splitlines()
    ]
    assert names_in("clips") == ["photo_b2v.mp4"]


def test_an_output_that_exists_does_not_stop_the_others(b2v):
    write_photo(make_picture(33, 47), "second.png")
    b2v("extract", "photo.png")
    before = Path("photo_b2v.mp4").read_bytes()
    ran = b2v("extract", "photo.png", "second.png", "-q")
    assert (ran.code, ran.out) == (4, "second_b2v.mp4\n")
    assert ran.err.count("\n") == 1
    assert Path("photo_b2v.mp4").read_bytes() == before


def test_nothing_is_made_when_every_photo_is_bad(b2v):
    before = listing(".")
    ran = b2v("extract", "a.jpg", "b.jpg", "-o", "clips")
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 3)
    assert ran.err.endswith("\n0 done, 2 failed\n")
    assert listing(".") == before


@pytest.mark.parametrize("output", [(), ("-o", "clips")])
def test_two_photos_of_one_name_are_found_before_any_work(b2v, output):
    write_photo(make_picture(32, 48), "photo.jpg")
    before = listing(".")
    assert_one_line(b2v("extract", "photo.png", "photo.jpg", *output), 2, "photo.jpg")
    assert listing(".") == before


def test_two_ways_to_one_photo_are_found(b2v, tmp_path):
    ran = b2v("extract", "photo.png", f"../{tmp_path.name}/photo.png")
    assert_one_line(ran, 2, "would both be written there")


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("-o", "clip.gif"), "name a folder"),
        (("-o", "no/clips"), "does not exist"),
        (("-o", "photo.png/clips"), "is not a folder"),
        (("--middle", "photo.png"), "--middle"),
    ],
)
def test_what_cannot_be_for_several_photos_stops_them_all(b2v, more, word):
    write_photo(make_picture(32, 48), "second.png")
    before = listing(".")
    ran = b2v("extract", "photo.png", "second.png", *more)
    assert_one_line(ran, 1 if "/" in more[-1] else 2, word)
    assert listing(".") == before


# Bad input: one line, the right exit code, nothing half written


def truncated():
    write_photo(make_picture(64, 64), "whole.jpg")
    content = Path("whole.jpg").read_bytes()
    Path("whole.jpg").unlink()
    return content[: len(content) // 2]


BAD_PHOTOS = {
    "empty": (lambda: b"", "is empty"),
    "text": (lambda: b"Dear diary,\n" * 99, "not a picture"),
    "truncated": (truncated, "truncated"),
    "noise": (lambda: b"\xff\xd8\xff\xe0" + bytes(range(256)) * 9, ""),
}


@pytest.mark.parametrize("kind", BAD_PHOTOS)
@pytest.mark.parametrize("output", [(), ("-o", "clip.gif"), ("-o", "frames")])
def test_file_that_is_no_whole_picture(b2v, kind, output):
    make, word = BAD_PHOTOS[kind]
    Path("bad.jpg").write_bytes(make())
    before = listing(".")
    assert_one_line(b2v("extract", "bad.jpg", *output), 1, "bad.jpg", word)
    assert listing(".") == before


@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 64), (64, 15)])
def test_photo_that_is_too_small(b2v, height, width):
    write_photo(make_picture(64, 64)[:, :height, :width], "small.png")
    before = listing(".")
    ran = b2v("extract", "small.png")
    assert_one_line(ran, 1, "small.png", f"{width}x{height}", "16x16")
    assert listing(".") == before


@pytest.mark.parametrize("name", ["missing.jpg", "no/such/folder.jpg", "new\nline.jpg", ""])
def test_photo_that_is_not_there(b2v, name):
    before = listing(".")
    assert_one_line(b2v("extract", name), 1)
    assert listing(".") == before


def test_photo_that_may_not_be_read(b2v, monkeypatch):
    opened = Path.open

    def refuse(path, *args, **kwargs):
        if path.name == "photo.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    before = listing(".")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        ran = b2v("extract", "photo.png")
    assert_one_line(ran, 1, "photo.png", "Permission denied")
    assert listing(".") == before


@pytest.mark.parametrize(
    ("output", "code", "word"),
    [
        ("there.gif", 2, "exists already"),
        ("there", 2, "exists already"),
        ("no/clip.mp4", 1, "does not exist"),
        ("photo.png/clip.mp4", 1, "is not a folder"),
        ("clip.avi", 2, "unknown suffix"),
        ("clip.bmp", 2, "unknown suffix"),
        ("x" * 300 + ".mp4", 2, "not a name"),
        ("..", 2, "not a name"),
    ],
)
def test_output_that_cannot_be(b2v, output, code, word):
    Path("there.gif").write_text("mine")
    Path("there").mkdir()
    Path("there/000001.png").write_text("mine")
    before = listing(".")
    assert_one_line(b2v("extract", "photo.png", "-o", output), code, word)
    assert listing(".") == before


@pytest.mark.parametrize("name", ["photo.gif", "sharp.webp", "."])
def test_an_input_is_never_written_onto(b2v, name):
    Image.open("photo.png").save("photo.gif")
    Image.open("photo.png").save("sharp.webp")
    before = listing(".")
    ran = b2v("extract", "photo.gif", "--middle", "sharp.webp", "-o", name, "--overwrite")
    assert_one_line(ran, 2, name)
    assert listing(".") == before


def wrong_network(folder):
    """A model whose network is not the one that the card tells of."""
    write_tiny_prior(folder)
    path = folder / file_name(PHOTO_MODEL, PRIOR)
    path.write_bytes(path.read_bytes()[:-1] + b"!")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("-m", "nobody"), "nobody"),
        (("--weights", "nowhere"), "nowhere"),
        (("--weights", "photo.png"), "photo.png"),
        (("--weights", "empty"), "empty"),
        (("--weights", "wrong"), "sha256"),
        (("-m", f"hf://a/b@{'a' * 40}/c.json"), "hf://a/b@"),
    ],
)
def test_wrong_weights(b2v, monkeypatch, tmp_path, options, word):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    wrong_network(tmp_path / "wrong")
    before = listing(".")
    assert_one_line(b2v("extract", "photo.png", *options), 3, word)
    assert listing(".") == before


def test_middle_of_another_size(b2v):
    write_photo(make_picture(33, 47), "sharp.png")
    ran = b2v("extract", "photo.png", "--middle", "sharp.png")
    assert_one_line(ran, 1, "photo.png", "47x33", "48x32")


@pytest.mark.parametrize(
    "args",
    [
        ("extract",),
        ("extract", "photo.png", "--fps", "0"),
        ("extract", "photo.png", "--fps", "fast"),
        ("extract", "photo.png", "--order", "sideways"),
        ("extract", "photo.png", "--quality", "great"),
        ("extract", "photo.png", "--loop", "-1"),
        ("extract", "photo.png", "--loop", "21"),
        ("extract", "photo.png", "--fps", "60", "-o", "clip.gif"),
        ("extract", "photo.png", "--no-such-option"),
        ("extract", "photo.png", "--device", "abacus"),
        ("extract", "photo.png", "--precision", "fp8"),
        ("extract", "photo.png", "--precision", "fp16", "--device", "cpu"),
        ("extract", "photo.png", "-o"),
        ("extrakt", "photo.png"),
        ("--no-such-option",),
        ("eval",),
        ("weights", "nothing"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(b2v, args):
    before = listing(".")
    assert_one_line(b2v(*args), 2)
    assert listing(".") == before


# What stops a run from outside


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "x.jpg"), 1, "x.jpg: Permission"),
        (MemoryError(), 1, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_the_system_refuses_is_one_line(b2v, monkeypatch, error, code, word):
    def refuse(*_, **__):
        raise error

    before = listing(".")
    monkeypatch.setattr("b2v.inference.images.restore", refuse)
    assert_one_line(b2v("extract", "photo.png"), code, word)
    assert listing(".") == before


def test_too_little_memory_for_one_photo_does_not_stop_the_others(b2v, monkeypatch):
    forward = UNet.forward

    def small(net, *pictures):
        if pictures[0].shape[-1] > 48:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
        return forward(net, *pictures)

    write_photo(make_picture(32, 64), "wide.png")
    monkeypatch.setattr(UNet, "forward", small)
    ran = b2v("extract", "wide.png", "photo.png", "-q")
    assert (ran.code, ran.out) == (4, "photo_b2v.mp4\n")
    assert ran.err == "b2v: wide.png: not enough memory for 64x32 pixels; scale the photo down\n"


def test_bug_keeps_its_traceback(b2v, monkeypatch):
    monkeypatch.setattr("b2v.inference.images.restore", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["b2v", "extract", "photo.png"])
    with pytest.raises(ZeroDivisionError):
        main()


def test_reader_who_leaves_early_is_no_error(driver, tmp_path):
    driver.folder = tmp_path
    reading, writing = os.pipe()
    os.close(reading)
    with driver.start("--version", stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        assert process.communicate() == (b"", b"")
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_full_disk_under_the_output_is_one_line(driver):
    pipes = {"stderr": subprocess.PIPE}
    with (
        Path("/dev/full").open("w") as full,
        driver.start("--version", stdout=full, **pipes) as ran,
    ):
        assert ran.communicate() == (b"", b"b2v: No space left on device\n")
    assert ran.returncode == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text here")
def test_true_process_takes_a_name_that_is_no_text(b2v, driver, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    Path("photo.png").rename(name)
    driver.folder = tmp_path
    with driver.start("extract", name, "-q", stdout=subprocess.PIPE) as process:
        said, _ = process.communicate()
    assert (process.returncode, said) == (0, b"caf\xe9_b2v.mp4\n")
    assert len(frames_of(os.fsdecode(said[:-1]))) == 7


# The front door


def test_help_names_the_commands(b2v):
    ran = b2v("--help")
    assert (ran.code, ran.err) == (0, "")
    for command in ("extract", "demo", "eval", "train", "weights"):
        assert command in ran.out


def test_without_a_command_there_is_help(b2v):
    ran = b2v()
    assert ran.code == 2
    assert "extract" in ran.out + ran.err


def test_version_is_told_with_torch_and_the_device(b2v):
    import b2v as package
    from b2v.inference.runtime import choose

    said = f"b2v {package.__version__} (torch {torch.__version__}, {choose()})\n"
    assert b2v("--version") == (0, said, "")


@pytest.mark.parametrize("args", [["--help"], ["extract", "--help"], ["weights", "--help"]])
def test_help_does_not_import_what_is_heavy(tmp_path, args):
    script = f"""
import sys
from b2v.cli import main
sys.argv = ["b2v", *{args}]
try:
    main()
except SystemExit as stop:
    assert stop.code == 0
heavy = {{"torch", "numpy", "av", "PIL", "skimage", "safetensors", "huggingface_hub"}}
sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)
"""
    ran = run_process("-c", script, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, b"")
