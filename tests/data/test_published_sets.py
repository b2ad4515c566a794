"""Sets of the field as they are published, and their splits, read without a manifest."""

import json

import numpy as np
import pytest
from conftest import make_picture

from b2v.data.datasets import BankConfig, SequenceConfig, draw_clip, draw_sequence, real_window
from b2v.data.footage import (
    FrameFolder,
    find_windows,
    holds_windows,
    load_sources,
    of_split,
    read_samples,
)
from b2v.data.sources import find_sequences
from b2v.errors import DatasetError
from b2v.media.images import write_photo
from b2v.metrics import psnr

SETS = {
    "GOPRO_Large": ("{split}/GOPR0384/blur/0000{n}.png", "{split}/GOPR0384/sharp/0000{n}.png"),
    "REDS": ("{split}/{split}_blur/000/000000{n}.png", "{split}/{split}_sharp/000/000000{n}.png"),
    "REDS, flat": ("{split}_blur/000/000000{n}.png", "{split}_sharp/000/000000{n}.png"),
    "BSD": ("BSD/{split}/021/Blur/RGB/0{n}.png", "BSD/{split}/021/Sharp/RGB/0{n}.png"),
    "DVD": ("{split}/IMG_0003/input/000{n}.jpg", "{split}/IMG_0003/GT/000{n}.jpg"),
    "RealBlur": ("{split}/scene001/blur/blur_{n}.png", "{split}/scene001/gt/gt_{n}.png"),
    "pairs": ("{split}/input/{n}.png", "{split}/target/{n}.jpg"),
}  # fmt: skip


def write_set(root, kind, splits=("train", "test"), count=3):
    """Write a set whose blurry pictures are darker than the sharp ones."""
    for place, split in enumerate(splits):
        for n in range(10, 10 + count):
            sharp = make_picture(32, 40, 10 * place + n)
            for pattern, picture in zip(SETS[kind], (sharp / 2, sharp), strict=True):
                path = root / pattern.format(split=split, n=n)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_photo(picture, path)
    return root


def write_frames(folder, count, seed=0):
    """Write frames of a texture that moves by two pixels."""
    scene = make_picture(48, 64 + 2 * count, seed)
    folder.mkdir(parents=True)
    for n in range(count):
        write_photo(scene[..., 2 * n : 2 * n + 64], folder / f"{n + 47:06d}.png")


@pytest.mark.parametrize("kind", SETS)
def test_every_blurry_picture_has_its_sharp_one_and_its_split(tmp_path, kind):
    windows = find_windows(write_set(tmp_path, kind))
    assert holds_windows(tmp_path)
    assert [w.split for w in windows].count("test") == len(windows) / 2 == 3
    for sample in read_samples(windows):
        assert sample.sharp.shape == (1, 3, 32, 40)
        assert psnr(2 * sample.blurry, sample.sharp[0]) > 22  # JPEG


@pytest.mark.parametrize("kind", SETS)
def test_the_test_split_is_scored_and_never_trained_on(tmp_path, kind):
    windows = find_windows(write_set(tmp_path, kind, ("train", "val", "test")))
    assert {w.split for w in of_split(windows, None)} == {"test"}
    assert {w.split for w in of_split(windows, "train")} == {"train"}
    assert len(of_split(windows, "all")) == 9
    for part in ("train", "val"):
        sources = load_sources([tmp_path], part)
        assert {w.split for s in sources.sequences for w in s} == {part}
    config = SequenceConfig(clips=1, frames=2, size=16, blur_psnr=(0, 100))
    assert draw_sequence(load_sources([tmp_path]), config, 0).shape == (2, 2, 3, 16, 16)


def test_a_set_without_test_scenes_is_scored_as_it_is(tmp_path):
    windows = find_windows(write_set(tmp_path, "DVD", ("train",)))
    assert of_split(windows, None) == windows
    with pytest.raises(DatasetError, match="no test split; it has train"):
        of_split(windows, "test")


def test_a_part_of_a_set_is_still_that_part(tmp_path):
    write_set(tmp_path, "GOPRO_Large")
    assert {w.split for w in find_windows(tmp_path / "test")} == {"test"}
    with pytest.raises(DatasetError, match="test: holds no scenes to train on"):
        load_sources([tmp_path / "test"])
    (tmp_path / "test").rename(tmp_path / "mine")
    assert load_sources([tmp_path / "mine"]).sequences


def test_blur_of_code_values_is_preferred_to_that_of_light(tmp_path):
    write_set(tmp_path, "GOPRO_Large", ("test",))
    folder = tmp_path / "test" / "GOPR0384"
    (folder / "blur_gamma").mkdir()
    write_photo(make_picture(32, 40), folder / "blur_gamma" / "000010.png")
    assert len(find_windows(tmp_path)) == 3
    (folder / "blur").rename(folder / "other")
    assert [w.blurry.parent.name for w in find_windows(tmp_path)] == ["blur_gamma"]


def test_lists_beside_a_set_say_which_scenes_are_for_testing(tmp_path):
    write_set(tmp_path, "RealBlur", ("J",))
    lines = "J/scene001/gt/gt_{0}.png J/scene001/blur/blur_{0}.png\n"
    (tmp_path / "RealBlur_J_train_list.txt").write_text(lines.format(10) + lines.format(11))
    (tmp_path / "RealBlur_J_test_list.txt").write_text(lines.format(12))
    found = {w.blurry.stem: w.split for w in find_windows(tmp_path)}
    assert found == {"blur_10": "train", "blur_11": "train", "blur_12": "test"}


def test_a_blurry_picture_without_a_sharp_one_is_named(tmp_path):
    write_set(tmp_path, "BSD", ("test",))
    next(tmp_path.rglob("Sharp/RGB/011.png")).unlink()
    with pytest.raises(DatasetError, match=r"Sharp.RGB.011\.png: missing; .*Blur.RGB.011\.png"):
        find_windows(tmp_path)


def test_the_split_of_a_manifest_is_honored(tmp_path):
    write_set(tmp_path, "pairs", ("a",))
    lines = [
        {"split": split, "sequence": split, "blurry": f"a/input/{n}.png"}
        | {"sharp": f"a/target/{n}.jpg", "frames": [1, 9], "tau": 9, "period": 9, "window": 0}
        for n, split in ((10, "train"), (11, "test"), (12, "train"))
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "manifest.jsonl").write_text(text)
    assert [w.split for w in find_windows(tmp_path)] == ["train", "test", "train"]
    names = [w.blurry.name for s in load_sources([tmp_path]).sequences for w in s]
    assert names == ["10.png", "12.png"]


def test_frames_of_high_rate_are_trained_on_from_disk(tmp_path):
    for split, seq, seed in (("train", "a", 1), ("train", "b", 2), ("test", "c", 3)):
        write_frames(tmp_path / split / seq, 9, seed)
    sources = load_sources([tmp_path])
    assert [type(v) for v in sources.videos] == [FrameFolder, FrameFolder]
    assert sources.photos == []
    blurry, sharp = real_window(sources, np.random.default_rng(0), BankConfig(size=24))
    assert (blurry.shape, sharp.shape) == ((3, 24, 24), (7, 3, 24, 24))
    assert draw_clip(sources, BankConfig(size=24), 3).shape == (8, 3, 24, 24)
    config = SequenceConfig(clips=1, frames=2, size=24, real=1.0)
    assert draw_sequence(sources, config, 0).shape == (2, 2, 3, 24, 24)


def test_numbered_photographs_are_no_frames(tmp_path):
    for n in range(8):
        write_photo(make_picture(32, 40, n).round(), tmp_path / f"{n:04d}.png")
    sources = load_sources([tmp_path])
    assert (len(sources.photos), sources.videos) == (8, [])


@pytest.mark.parametrize("kind", SETS)
def test_blur_is_made_of_the_sharp_halves(tmp_path, kind):
    write_set(tmp_path, kind)
    found = find_sequences([tmp_path])
    assert sorted(str(s.split) for s in found) == ["test", "train"]
    assert all(s.path.name.lower() not in ("blur", "input") for s in found)
