"""`b2v synth-dataset` as a user meets it: through `main()`, on real files."""

import json
import signal
import time
from pathlib import Path

import pytest
from command_line import assert_one_line, run_main
from conftest import make_picture
from test_synth_dataset import bytes_in, files_in, manifest, photos_in, write_frames
from video_samples import UNEVEN, make_video

from b2v.data.footage import find_windows
from b2v.media.images import read_photo, write_photo

FULL = ("--recipe", "reds", "-j", 1)
"""Seven frames at full size, one sequence at a time."""


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path):
    """`b2v synth-dataset ARGS` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *args: run_main(capsys, "synth-dataset", *args)


def test_frames_become_windows_and_the_folder_is_said(b2v):
    write_frames(Path("walk"), 15)
    ran = b2v("walk", "-o", "out", *FULL)
    assert (ran.code, ran.out) == (0, "out\n")
    assert ran.err.endswith("2 windows of 1 sequences\n")
    assert [w.name for w in find_windows(Path("out"))] == [
        "train/blur/walk/000004",
        "train/blur/walk/000011",
    ]


def test_without_an_output_it_is_beside_the_source_and_the_smaller_size_is_said(b2v, tmp_path):
    write_frames(Path("gopro/train/walk"), 14, size=(40, 60))
    write_frames(Path("gopro/test/turn"), 7, size=(40, 60))
    ran = b2v("gopro/", "-j", 1)
    assert (ran.code, ran.out) == (0, f"{tmp_path}/gopro_b2v\n")
    assert f"writing to {tmp_path}/gopro_b2v; use -o for another folder" in ran.err
    assert "recipe jin scales pictures to 45%; use --scale 1 to keep their size" in ran.err
    assert {w.split for w in find_windows(Path("gopro_b2v"))} == {"train", "test"}
    assert_one_line(b2v("gopro", "gopro", "-q"), 2, "-o DIR")


def test_splits_of_the_sources_are_kept(b2v):
    for name in ("in/test/a", "in/b", "in/c"):
        write_frames(Path(name), 7)
    assert b2v("in", "-o", "out", "-q", *FULL).code == 0
    splits = {line["sequence"]: line["split"] for line in manifest(Path("out"))}
    assert splits == {"a": "test", "b": "train", "c": "train"}


def test_quiet_is_quiet(b2v):
    write_frames(Path("walk"), 7)
    assert b2v("walk", "-o", "out", "-q", *FULL) == (0, "out\n", "")


def test_without_options_it_is_the_recipe_of_jin(b2v):
    write_frames(Path("walk"), 14, size=(40, 60))
    assert b2v("walk", "-o", "out", "-q", "-j", 1).code == 0
    (first, second) = manifest(Path("out"))
    assert (first["tau"], first["period"], first["scale"]) == (7, 7, 0.45)
    assert (first["light"], first["curve"], first["seed"]) == ("linear", "gamma2.2", 0)
    assert second["frames"] == [8, 14]
    assert read_photo(Path("out") / first["blurry"]).pixels.shape == (3, 18, 27)


def test_every_number_of_a_recipe_can_be_set(b2v):
    write_frames(Path("walk"), 20, size=(80, 120))
    ran = b2v(
        *("walk", "-o", "out", "-q", "-j", 1, "--recipe", "kim", "--frames", 5, "--stride", 6),
        *("--scale", "60x40", "--noise", 0.02, "--light", "code", "--seed", 3, "--format", "jpg"),
        *("--write", "pairs"),
    )
    assert ran.code == 0
    lines = manifest(Path("out"))
    assert [line["frames"] for line in lines] == [[1, 5], [7, 11], [13, 17]]
    wanted = {"tau": 5, "period": 6, "scale": 0.5, "noise": 0.02, "light": "code", "seed": 3}
    assert {key: lines[0][key] for key in wanted} == wanted
    assert lines[0]["curve"] is None
    assert files_in(Path("out"))[0] == "train/input/walk-000003.jpg"


def test_broken_sources_are_said_and_the_rest_is_there(b2v):
    write_frames(Path("in/good"), 7)
    write_frames(Path("in/short"), 3)
    make_video(Path("in/uneven.mp4"), UNEVEN)
    Path("in/broken.mp4").write_bytes(b"no video")
    ran = b2v("in", "-o", "out", *FULL)
    assert ran.code == 4
    assert ran.out == ""
    said = [line for line in ran.err.splitlines() if line.startswith("b2v: ")]
    assert len(said) == 3
    for name, word in (
        ("broken.mp4", "not a video"),
        ("short", "has 3 frames"),
        ("uneven", "step"),
    ):
        assert sum(name in line and word in line for line in said) == 1
    assert [line["sequence"] for line in manifest(Path("out"))] == ["good"]
    assert len(find_windows(Path("out"))) == 1


def test_each_sequence_is_an_object_of_json_when_asked_for(b2v):
    write_frames(Path("in/good"), 15)
    write_frames(Path("in/short"), 3)
    ran = b2v("in", "-o", "out", "--json", *FULL)
    good, short = sorted(map(json.loads, ran.out.splitlines()), key=lambda end: end["sequence"])
    assert good == {
        "sequence": "good",
        "input": "in/good",
        "windows": 2,
        "before": 0,
        "error": None,
    }
    assert short["windows"] == 0
    assert "has 3 frames" in short["error"]
    assert ran.code == 4


def test_a_mended_source_is_made_on_the_next_run(b2v):
    write_frames(Path("in/a"), 7)
    write_frames(Path("in/b"), 5)
    assert b2v("in", "-o", "out", *FULL).code == 4
    write_photo(make_picture(20, 24, 7), Path("in/b/000006.png"))
    write_photo(make_picture(20, 24, 8), Path("in/b/000007.png"))
    ran = b2v("in", "-o", "out", *FULL)
    assert (ran.code, ran.err.splitlines()[-1]) == (0, "1 windows of 2 sequences; 1 already done")
    assert len(find_windows(Path("out"))) == 2


def test_nothing_but_broken_sources_has_failed(b2v):
    write_frames(Path("short"), 3)
    assert_one_line(b2v("short", "-o", "out", "-q", *FULL), 1, "has 3 frames; a window takes 7")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ((), 2, "SRC -o DIR"),
        (("walk", "walk"), 2, "SRC -o DIR"),
        (("-o", "out"), 2, "SRC -o DIR"),
        (("nowhere", "-o", "out"), 1, "no such file"),
        (("empty", "-o", "out"), 1, "holds nothing"),
        (("walk", "-o", "walk"), 2, "folder to write"),
        (("walk", "-o", "full"), 2, "holds no dataset"),
        (("walk", "-o", "out", "--frames", 8), 2, "odd number"),
        (("walk", "-o", "out", "--stride", 0), 2, "stride"),
        (("walk", "-o", "out", "--scale", "half"), 2, "0.45, or 960x540"),
        (("walk", "-o", "out", "--scale", "2"), 2, "smaller only"),
        (("walk", "-o", "out", "--scale", "nan"), 2, "smaller only"),
        (("walk", "-o", "out", "--noise", -1), 2, "noise"),
        (("walk", "-o", "out", "--layout", "dvd"), 2, "dvd"),
        (("walk", "-o", "out", "--layout", "reds"), 1, "reds layout"),
        (("walk", "-o", "out", "--recipe", "mine"), 2, "mine"),
        (("walk", "-o", "out", "--objects", "nowhere"), 1, "no such folder"),
    ],
)
def test_bad_input_is_one_line(b2v, args, code, said):
    write_frames(Path("walk"), 7)
    Path("empty").mkdir()
    Path("full").mkdir()
    write_photo(make_picture(16, 16), "full/x.png")
    assert_one_line(b2v(*args, "-q"), code, said)
    assert not Path("out").exists()


def test_photographs_and_cutouts_become_windows(b2v, tmp_path):
    photos_in(tmp_path / "photos")
    ran = b2v("photos", "-o", "out", "--per-photo", 3, "--size", 32, "-q", "-j", 1)
    assert ran == (0, "out\n", "")
    assert len(find_windows(Path("out"))) == 6
    assert read_photo(find_windows(Path("out"))[0].blurry).pixels.shape == (3, 32, 32)


def test_coded_windows_say_so(b2v):
    write_frames(Path("walk"), 7)
    assert b2v("walk", "-o", "out", "-q", *FULL, "--aperture", "coded").code == 0
    assert manifest(Path("out"))[0]["aperture"] == "coded"


def test_a_killed_run_goes_on_to_the_same_bytes(b2v, driver, tmp_path):
    for seed, name in enumerate("ab"):
        write_frames(Path("in") / name, 63, size=(120, 160), seed=seed)
    args = ("in", "-o", "out", "-q", *FULL, "--noise", 0.01)
    assert b2v(*["whole" if a == "out" else a for a in args]).code == 0
    driver.folder = tmp_path
    with driver.start("synth-dataset", *args) as process:
        until = time.monotonic() + 60
        while not len(files_in(Path("out"))) > 20 and time.monotonic() < until:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    there = len(Path("out/manifest.jsonl").read_text().splitlines())
    assert 1 <= there < 18
    ran = b2v(*[a for a in args if a != "-q"])
    assert ran.code == 0
    assert ran.err.endswith(f"{18 - there} windows of 2 sequences; {there} already done\n")
    assert bytes_in(Path("out")) == bytes_in(Path("whole"))


def test_lines_of_the_manifest_are_one_each(b2v):
    write_frames(Path("a walk\nwith breaks"), 14)
    assert b2v("a walk\nwith breaks", "-o", "out", "-q", *FULL).code == 0
    lines = Path("out/manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["window"] for line in lines] == [0, 1]
