"""Sets of windows named by a manifest, and manifests as they should not be."""

import json

import pytest
import torch
from test_evaluate import moving, write_window

from b2v.data.footage import Sample, find_windows, read_samples, set_name
from b2v.errors import DatasetError
from b2v.metrics import psnr, reblur

LINE = {
    "sequence": "walk",
    "blurry": "blur/walk/000004.png",
    "sharp": "sharp/walk/000004.png",
    "frames": [1, 7],
    "tau": 7,
    "period": 7,
    "window": 0,
}


def write_manifest(folder, *lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "manifest.jsonl").write_text(text)
    return folder / "manifest.jsonl"


@pytest.fixture
def dataset(tmp_path):
    """Folder with one window in GOPRO_7 layout and its manifest."""
    sharp = moving()
    write_window(tmp_path / "set", sharp, reblur(sharp))
    write_manifest(tmp_path / "set", LINE)
    return tmp_path / "set"


def test_a_manifest_and_its_folder_are_the_same_set(dataset):
    assert find_windows(dataset / "manifest.jsonl") == find_windows(dataset)
    assert set_name(dataset / "manifest.jsonl") == set_name(dataset) == "set"
    (window,) = find_windows(dataset)
    assert window.name == "blur/walk/000004"
    assert [path.name for path in window.sharp] == [f"{n:06d}.png" for n in range(1, 8)]
    (dataset / "manifest.jsonl").unlink()
    assert find_windows(dataset) == [window]


def test_other_numbers_of_frames_leave_the_middle_one(dataset):
    write_manifest(dataset, {**LINE, "tau": 11, "frames": [1, 11]})
    (window,) = find_windows(dataset)
    assert [path.name for path in window.sharp] == ["000004.png"]
    (sample,) = read_samples([window])
    assert sample.sharp.shape == (1, 3, 24, 32)


def test_where_one_window_has_the_middle_frame_alone_all_have(dataset):
    write_window(dataset, moving(), moving()[3], sequence="turn")
    other = {key: str(LINE[key]).replace("walk", "turn") for key in ("blurry", "sharp")}
    write_manifest(dataset, LINE, {**LINE, **other, "tau": 9, "frames": [0, 8]})
    assert [[p.name for p in w.sharp] for w in find_windows(dataset)] == [["000004.png"]] * 2


def test_only_what_the_manifest_names_is_in_the_set(dataset):
    write_window(dataset, moving(), moving()[3], sequence="half-made")
    assert [w.name for w in find_windows(dataset)] == ["blur/walk/000004"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no windows found"),
        ("{}\n", "line 1 is not of b2v synth-dataset"),
        ("[1]\n", "line 1 is not of b2v synth-dataset"),
        ("no JSON\n", "line 1 is not of b2v synth-dataset"),
        (json.dumps({**LINE, "blurry": "blur/gone.png"}), r"gone\.png: missing; line 1"),
    ],
)
def test_a_damaged_manifest_names_its_line(dataset, text, words):
    (dataset / "manifest.jsonl").write_text(text)
    with pytest.raises(DatasetError, match=words):
        find_windows(dataset)


def test_a_manifest_that_is_nowhere_or_no_text_is_named(dataset):
    with pytest.raises(DatasetError, match=r"other\.jsonl: cannot be read \(No such file"):
        find_windows(dataset / "other.jsonl")
    (dataset / "manifest.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="is no text"):
        find_windows(dataset)


def test_at_half_size_the_mean_of_the_frames_is_still_the_blurry_picture(dataset):
    """Light is averaged both ways, so the order does not matter but for the 8 bits of a file."""
    (sample,) = read_samples(find_windows(dataset), scale=0.5)
    assert sample.sharp.shape == (7, 3, 12, 16)
    assert psnr(reblur(sample.sharp), sample.blurry) > 50


def test_the_middle_of_a_sample_is_its_fourth_frame():
    sharp = moving()
    middle = Sample("x", sharp[0], sharp).middle_only()
    assert torch.equal(middle.sharp, sharp[3:4])
    assert torch.equal(middle.middle_only().sharp, middle.sharp)
