"""Many inputs: what is found, where it goes, and which part of it is whose."""

import os
import sys
from pathlib import Path

import pytest

from b2v.cli import batch
from b2v.cli.batch import Input, expand, output_folder, parse_shard, place, safe_name, take_shard
from b2v.errors import MediaError, UsageError

PICTURES = {".jpg", ".png"}
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Folder `trip` with pictures at several depths, and with what is passed over."""
    monkeypatch.chdir(tmp_path)
    inputs = [
        "trip/b.jpg",
        "trip/A.PNG",
        "trip/day1/x.jpg",
        "trip/day2/x.jpg",
        "trip/day2/deep/y.png",
    ]
    others = ["trip/notes.txt", "trip/.hidden.jpg", "trip/.thumbs/x.jpg", "trip/._b.jpg"]
    ours = ["trip/b_b2v.png", "trip/b_deblurred.jpg", "trip/c_b2v/000001.png", "trip/b_sharp.png"]
    for name in [*inputs, *others, *ours]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    return Path("trip")


def found(*names, recursive=True):
    return [one.path for one in expand(names, PICTURES, recursive=recursive)]


def outputs(names, folder, *, recursive=True):
    inputs = expand(names, PICTURES, recursive=recursive)
    return [one.output for one in place(inputs, lambda path: f"{path.stem}.gif", folder)]


def refused(kind, call, *args, **options):
    with pytest.raises(kind) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is found


def test_a_folder_gives_its_pictures_by_name_and_nothing_else(tree):
    assert found("trip", recursive=False) == ["trip/A.PNG", "trip/b.jpg"]
    assert found("trip") == [
        *("trip/A.PNG", "trip/b.jpg", "trip/day1/x.jpg"),
        *("trip/day2/deep/y.png", "trip/day2/x.jpg"),
    ]


def test_the_order_of_the_file_system_does_not_matter(tree, monkeypatch):
    before, scandir = found("trip"), os.scandir

    class Backwards(list):
        def __enter__(self):
            return iter(self)

        def __exit__(self, *_):
            pass

        def __next__(self):
            if not self:
                raise StopIteration
            return self.pop(0)

        def close(self):
            pass

    monkeypatch.setattr(os, "scandir", lambda path: Backwards(reversed(list(scandir(path)))))
    assert found("trip") == before


def test_a_file_that_is_named_is_taken_whatever_it_is_called(tree):
    names = ["trip/notes.txt", "trip/.hidden.jpg", "trip/b_b2v.png"]
    assert found(*names) == names
    assert found("trip/b_b2v.png", "trip/b.jpg") == ["trip/b.jpg"]


def test_links_to_files_are_followed_and_links_to_folders_are_not(tree):
    Path("trip/link.jpg").symlink_to("b.jpg")
    Path("trip/dangling.jpg").symlink_to("nowhere")
    Path("trip/day1/up").symlink_to("..")
    Path("trip/day2/across").symlink_to("../day1")
    assert found("trip/day1", "trip/day2") == [
        *("trip/day1/x.jpg", "trip/day2/deep/y.png", "trip/day2/x.jpg")
    ]
    assert "trip/link.jpg" in found("trip")
    assert "trip/dangling.jpg" not in found("trip")
    assert found("trip/day2/across") == ["trip/day2/across/x.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_with_the_name_of_a_picture_is_passed_over(tree):
    os.mkfifo("trip/pipe.jpg")
    assert "trip/pipe.jpg" not in found("trip")


@linux
@pytest.mark.parametrize("name", [b"new\nline.jpg", b"caf\xe9.jpg", b"tab\there.jpg", b" .jpg"])
def test_names_that_are_odd_are_taken_as_they_are(tree, name):
    (tree / os.fsdecode(name)).write_text("x")
    assert os.fsencode("trip/") + name in map(os.fsencode, found("trip"))


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tree):
    (tree / "a[1].jpg").write_text("x")
    assert found("trip/a[1].jpg") == ["trip/a[1].jpg"]


def test_what_is_found_twice_is_taken_once(tree):
    whole = found("trip")
    assert found("trip", "trip/day1", "./trip/b.jpg") == whole
    assert found("trip/b.jpg", "trip")[0] == "trip/b.jpg"
    assert sorted(found("trip/b.jpg", "trip")) == whole


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.jpg", "missing.jpg: no such file"),
        ("", "'': no such file"),
        ("x\0y", "no such file"),
        ("trip/*.bmp", "trip/*.bmp: no such file"),
        ("empty", "empty: no input in this folder (.jpg .png); use -r to"),
    ],
)
def test_a_name_that_leads_to_nothing_is_told_and_stops_no_other(tree, name, said):
    Path("empty").mkdir()
    bad, good = expand([name, "trip/b.jpg"], PICTURES, recursive=False)
    assert (good.path, good.problem) == ("trip/b.jpg", None)
    assert isinstance(bad.problem, MediaError)
    assert said in str(bad.problem)


def test_a_folder_that_cannot_be_looked_into_is_told(tree, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("day1"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    inputs = expand(["trip"], PICTURES, recursive=True)
    (closed,) = [one for one in inputs if one.problem]
    assert closed.path == "trip/day1"
    assert "Permission denied" in str(closed.problem)
    assert len(inputs) == 5


# Where it goes


def test_the_tree_is_kept_below_the_output_folder(tree):
    assert outputs(["trip"], Path("out")) == [
        *("out/A.gif", "out/b.gif", "out/day1/x.gif"),
        *("out/day2/deep/y.gif", "out/day2/x.gif"),
    ]


def test_several_folders_keep_their_names(tree):
    meant = ["out/day1/x.gif", "out/day2/deep/y.gif", "out/day2/x.gif"]
    assert outputs(["trip/day1", "trip/day2"], Path("out")) == meant


def test_without_a_folder_the_output_is_beside_the_input(tree):
    assert outputs(["trip/day2"], None) == ["trip/day2/deep/y.gif", "trip/day2/x.gif"]


@pytest.mark.parametrize(
    ("names", "folder"),
    [(["trip/b.jpg", "trip/b.png"], None), (["trip/day1/x.jpg", "trip/day2/x.jpg"], "out")],
)
def test_two_outputs_of_one_name_are_refused(tree, names, folder):
    (tree / "b.png").write_text("x")
    said = refused(UsageError, outputs, names, folder and Path(folder))
    assert f"{names[0]} and {names[1]} would both be written there" in said


def test_a_file_named_twice_is_refused(tree):
    said = refused(UsageError, outputs, ["trip/b.jpg", "./trip/b.jpg"], None)
    assert "would both be written there" in said


@pytest.mark.parametrize(
    ("system", "apart"), [("linux", True), ("darwin", False), ("win32", False)]
)
def test_names_differ_by_more_than_case_where_the_system_sees_none(monkeypatch, system, apart):
    monkeypatch.setattr(sys, "platform", system)
    inputs = [Input("a.jpg"), Input("A.png")]
    if apart:
        assert [one.output for one in place(inputs, lambda path: path.stem, None)] == ["a", "A"]
    else:
        assert "A.png would both" in refused(UsageError, place, inputs, lambda p: p.stem, None)


def test_no_output_goes_onto_an_input(tree):
    os.link("trip/b.jpg", "trip/other.gif")
    inputs = expand(["trip/b.jpg", "trip/A.PNG"], PICTURES, recursive=False)
    placed = place(inputs, lambda path: {"b": "new", "A": "other"}[path.stem] + ".gif", None)
    assert [one.problem is None for one in placed] == [True, False]
    assert "other.gif: is or contains an input" in str(placed[1].problem)


@pytest.mark.parametrize(
    ("names", "output", "inside", "folder"),
    [
        (["a.jpg"], None, False, None),
        (["a.jpg"], "out.gif", True, None),
        (["a.jpg"], "trip", False, None),
        (["a.jpg"], "trip", True, "trip"),
        (["a.jpg"], "new/", True, "new"),
        (["a.jpg", "b.jpg"], "new", False, "new"),
        (["trip"], "new", False, "new"),
        (["trip"], "v1.2/", False, "v1.2"),
        (["-"], "-", True, None),
    ],
)
def test_what_output_says(tree, names, output, inside, folder):
    assert output_folder(names, output, inside=inside) == (folder and Path(folder))


@pytest.mark.parametrize(
    ("names", "output", "said"),
    [
        (["a.jpg", "b.jpg"], "c.gif", "c.gif: one file for 2 inputs"),
        (["a.jpg", "b.jpg"], "-", "-: one file for 2 inputs"),
        (["trip"], "c.gif", "one file for possibly several"),
    ],
)
def test_one_file_cannot_hold_several_outputs(tree, names, output, said):
    assert said in refused(UsageError, output_folder, names, output, inside=False)


def test_standard_input_has_no_name(tree):
    assert "no name" in refused(UsageError, outputs, ["-"], None)
    assert "no name" in refused(UsageError, outputs, ["-"], Path("out"))


def test_folders_that_cannot_be_made_are_found_before(tree, monkeypatch):
    check = batch.check_folders
    assert check(Path("new"), Path("new/a/b/c.gif")) == Path()
    assert check(Path("trip"), Path("trip/day1/deep/c.gif")) == Path("trip/day1")
    assert "does not exist" in refused(MediaError, check, Path("no/new"), Path("no/new/c.gif"))
    where = Path("trip"), Path("trip/b.jpg/c.gif")
    assert "trip/b.jpg is not a folder" in refused(MediaError, check, *where)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "no permission" in refused(MediaError, check, Path("new"), Path("new/c.gif"))


# Names


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("walk", "walk"),
        ("Füße 2", "Füße 2"),
        ("12:30:05", "12_30_05"),
        ('a<b>"c"|d?e*f\\g', "a_b__c__d_e_f_g"),
        ("new\nline\ttab", "new_line_tab"),
        ("con", "_con"),
        ("LPT1.old", "_LPT1.old"),
        ("console", "console"),
        ("dots...", "dots.._"),
        ("space ", "space_"),
        ("x" * 300, "x" * 200),
        ("é" * 150, "é" * 100),
    ],
)
def test_names_that_we_give_can_be_had_on_windows_and_macos(name, safe):
    assert safe_name(name) == safe


def test_folders_of_a_tree_get_safe_names_too(tree):
    placed = place([Input("a.jpg", tree, Path("day: 1/aux"))], lambda path: path.stem, Path("out"))
    assert placed[0].output == str(Path("out", "day_ 1", "_aux", "a"))


# Parts


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 40])
def test_the_parts_of_a_list_have_everything_once_in_any_order(parts):
    inputs = [Input(f"{name}/{i}.jpg") for name in ("b", "a") for i in range(10)]
    whole = [take_shard(inputs, part, parts) for part in range(1, parts + 1)]
    assert sorted(one.path for part in whole for one in part) == sorted(i.path for i in inputs)
    assert max(map(len, whole)) - min(map(len, whole)) <= 1
    assert whole == [take_shard(inputs[::-1], part, parts) for part in range(1, parts + 1)]


def test_parts_are_counted_from_one():
    assert parse_shard("2/8") == (2, 8)
    for text in ("0/8", "9/8", "1", "1/0", "a/b", "-1/8", "1/8/2", "", "1/2 "):
        assert "i from 1 to n, such as 2/8" in refused(UsageError, parse_shard, text)
