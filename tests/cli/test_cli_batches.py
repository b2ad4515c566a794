"""Many inputs at once, through `main()`: folders, parts, and what goes wrong."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from command_line import (
    assert_one_line,
    listing,
    plain_surroundings,
    run_main,
    write_tiny_prior,
)
from conftest import make_picture, read_clip
from video_samples import EVEN, make_video

from b2v.media.images import write_photo

PLACES = ["a", "day1/b", "day2/deep/c"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_tiny_prior(folder)
    return folder


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A small photo and a small video."""
    folder = tmp_path_factory.mktemp("samples")
    write_photo(make_picture(16, 24), folder / "photo.png")
    make_video(folder / "video.mp4", EVEN[:4])
    return folder


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path, weights, samples):
    """`b2v(*args)` beside `trip`, with three photos, and `films`, with three videos."""
    plain_surroundings(monkeypatch, tmp_path, weights)
    for place in PLACES:
        for folder, sample in (("trip", "photo.png"), ("films", "video.mp4")):
            target = Path(folder, place).with_suffix(Path(sample).suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(samples / sample, target)
    return lambda *args: run_main(capsys, *args)


def files_in(folder):
    return sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())


COMMANDS = [
    ("extract", "trip", "_b2v.mp4", ".png"),
    ("deblur", "films", "_deblurred.mp4", ".mp4"),
]
both = pytest.mark.parametrize(("command", "folder", "end", "suffix"), COMMANDS)


@both
def test_a_folder_becomes_a_tree_of_the_same_shape(b2v, command, folder, end, suffix):
    ran = b2v(command, folder, "-r", "-o", "out")
    meant = [f"out/{place}{end}" for place in PLACES]
    assert (ran.code, ran.out.split()) == (0, meant)
    assert files_in("out") == meant
    assert ran.err.endswith("\n3 done, 0 failed\n")


@both
def test_what_was_made_beside_its_input_is_not_made_again(b2v, command, folder, end, suffix):
    meant = [f"{folder}/{place}{end}" for place in PLACES]
    assert b2v(command, folder, "-r", "-q").out.split() == meant
    before = listing(".")
    again = b2v(command, folder, "-r", "--skip-existing", "--json")
    said = [json.loads(line) for line in again.out.splitlines()]
    assert [(s["output"], s["ok"], s["skipped"]) for s in said] == [(m, True, True) for m in meant]
    assert again.err == "0 done, 0 failed, 3 skipped\n"
    assert listing(".") == before


@both
def test_a_dry_run_tells_where_everything_goes_and_writes_nothing(
    b2v, monkeypatch, command, folder, end, suffix
):
    monkeypatch.setenv("B2V_WEIGHTS_DIR", "nowhere")
    Path(f"{folder}/a{end}").touch()
    before = listing(".")
    ran = b2v(command, f"{folder}/a{suffix}", f"{folder}/day2", "-r", "-n", "--skip-existing")
    lines = [f"{folder}/a{suffix} -> {folder}/a{end} (exists, skipped)"]
    lines += [f"{folder}/day2/deep/c{suffix} -> {folder}/day2/deep/c{end}"]
    assert (ran.code, ran.out.splitlines(), ran.err) == (0, lines, "")
    ran = b2v(command, folder, "missing", "-r", "--dry-run", "--json")
    said = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 4
    assert [s["input"] for s in said if not s["error"]] == [
        f"{folder}/{place}{suffix}" for place in PLACES[1:]
    ]
    assert [s["error"].split(":")[0] for s in said if s["error"]] == [f"{folder}/a{end}", "missing"]
    assert listing(".") == before


@both
def test_one_bad_input_of_several_is_told_and_stops_no_other(b2v, command, folder, end, suffix):
    Path(f"{folder}/day1/b{suffix}").write_bytes(b"nonsense" * 99)
    ran = b2v(command, folder, "-r", "-o", "out")
    assert (ran.code, ran.out.split()) == (4, [f"out/a{end}", f"out/day2/deep/c{end}"])
    assert ran.err.endswith("\n2 done, 1 failed\n")
    assert [f"{folder}/day1/b{suffix}" in line for line in ran.err.splitlines()].count(True) == 1
    assert files_in("out") == ran.out.split()


@both
def test_fail_fast_stops_at_the_first(b2v, command, folder, end, suffix):
    Path(f"{folder}/day1/b{suffix}").write_bytes(b"nonsense" * 99)
    ran = b2v(command, folder, "-r", "-o", "out", "--fail-fast")
    assert (ran.code, ran.out.split()) == (4, [f"out/a{end}"])
    assert ran.err.endswith("\n1 done, 1 failed, 1 not started\n")
    assert files_in("out") == [f"out/a{end}"]


@both
def test_fail_fast_begins_nothing_where_something_cannot_be(b2v, command, folder, end, suffix):
    before = listing(".")
    ran = b2v(command, folder, "missing", "-r", "-o", "out", "--fail-fast", "-q")
    assert_one_line(ran, 1, "missing: no such file")
    assert listing(".") == before


@both
def test_parts_of_a_list_add_up_whatever_is_done_already(b2v, command, folder, end, suffix):
    common = (command, folder, "-r", "-o", "out", "--skip-existing", "-q")
    done = [b2v(*common, "--shard", f"{part}/2").out.split() for part in (1, 2)]
    assert [len(part) for part in done] == [2, 1]
    assert sorted(done[0] + done[1]) == files_in("out") == [f"out/{p}{end}" for p in PLACES]
    assert b2v(*common, "--shard", "1/2", "-n").out.count("(exists, skipped)") == 2


@both
@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("-o", "one.mp4"), 2, "one file for possibly several inputs"),
        (("--shard", "0/2"), 2, "i from 1 to n"),
        (("--overwrite", "--skip-existing"), 2, "are mutually exclusive"),
        (("-o", "no/out"), 1, "no does not exist"),
        (("-o", "README"), 1, "README is not a folder"),
    ],
)
def test_what_cannot_be_is_found_before_anything_runs(
    b2v, command, folder, end, suffix, more, code, said
):
    Path("README").touch()
    before = listing(".")
    assert_one_line(b2v(command, folder, "-r", *more), code, said)
    assert listing(".") == before


def test_clashes_in_a_tree_are_found_before_anything_runs(b2v):
    shutil.copy("trip/day2/deep/c.png", "trip/day2/deep/c.bmp")
    before = listing(".")
    ran = b2v("extract", "trip", "-r", "-o", "out")
    assert_one_line(ran, 2, "out/day2/deep/c_b2v.mp4", "c.bmp", "c.png", "would both be")
    assert listing(".") == before


def test_an_output_within_the_inputs_is_no_input_of_the_next_run(b2v):
    assert b2v("deblur", "films", "-r", "-o", "films/new", "-q").code == 0
    again = b2v("deblur", "films", "-r", "-o", "films/new", "-q", "--skip-existing")
    assert len(again.out.splitlines()) == 3


@pytest.mark.parametrize(("kind", "end"), [("gif", ".gif"), ("webp", ".webp"), ("png", "")])
def test_clips_of_several_photos_are_of_the_kind_that_is_asked_for(b2v, kind, end):
    ran = b2v("extract", "trip", "-r", "-o", "out", "-f", kind, "-q")
    assert ran.out.split() == [f"out/{place}_b2v{end}" for place in PLACES]
    assert [read_clip(path).frames.shape[0] for path in ran.out.split()] == [7, 7, 7]
    again = b2v("extract", "trip", "-r", "-o", "out", "-f", kind, "--skip-existing", "--json")
    assert [json.loads(line)["skipped"] for line in again.out.splitlines()] == [True] * 3


def test_the_kind_of_a_single_clip(b2v):
    Path("there").mkdir()
    assert b2v("extract", "trip/a.png", "-f", "gif", "-q").out == "trip/a_b2v.gif\n"
    assert b2v("extract", "trip/a.png", "-f", "gif", "-o", "there", "-q").out == "there/a_b2v.gif\n"
    assert_one_line(b2v("extract", "trip/a.png", "-f", "gif", "-o", "b.mp4"), 2, "is not gif")


def test_a_rate_that_cannot_be_shown_is_found_before_the_tree_is_made(b2v):
    before = listing(".")
    ran = b2v("extract", "trip", "-r", "-o", "out", "-f", "gif", "--fps", "60", "-q")
    assert (ran.code, ran.out, ran.err.count("lower --fps")) == (2, "", 3)
    assert listing(".") == before


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_names_that_are_odd_elsewhere_become_plain_ones(b2v):
    Path("trip/a.png").rename("trip/12:30\n?.png")
    ran = b2v("extract", "trip", "-o", "out")
    assert (ran.code, ran.out) == (0, "out/12_30___b2v.mp4\n")
    assert ran.err.startswith("trip/12:30 ?.png: 7 frames")
