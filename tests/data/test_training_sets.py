"""Training on finished sets of blurry pictures with their sharp frames."""

import json
from dataclasses import replace
from itertools import chain

import pytest
import torch
from command_line import run_main
from conftest import make_picture
from test_evaluate import write_window

from b2v.data.datasets import (
    BankConfig,
    Crops,
    SequenceConfig,
    build_bank,
    draw_clip,
    draw_sequence,
)
from b2v.data.footage import Sources, load_sources
from b2v.errors import DatasetError
from b2v.media.images import write_photo

CLIPS = BankConfig(clips=2, size=24, blur_psnr=(0, 100))
SEQUENCES = SequenceConfig(clips=2, frames=3, size=24, blur_psnr=(0, 100))


def codes(picture: torch.Tensor) -> torch.Tensor:
    return (picture * 255).round().byte()


@pytest.fixture
def windows(tmp_path):
    """Set of three sequences with two windows each; nothing blurry is the mean of its frames."""
    for name in ("fall", "turn", "walk"):
        for center in (4, 11):
            seed = sum(map(ord, name)) + 10 * center
            sharp = torch.stack([make_picture(24, 24, seed + n) for n in range(8)])
            write_window(tmp_path / "set", sharp[:7], sharp[7], sequence=name, center=center)
    return tmp_path / "set"


def test_windows_are_listed_by_sequence_and_split_by_it(windows):
    sources = load_sources([windows])
    assert [[w.name for w in windows] for windows in sources.sequences] == [
        [f"blur/{name}/{center:06d}" for center in (4, 11)] for name in ("fall", "turn", "walk")
    ]
    assert not sources.pictures
    kept, out = sources.split()
    assert kept.sequences + out.sequences == sources.sequences
    assert len(out.sequences) == 1


def test_a_clip_of_a_set_is_a_window_as_it_is(windows):
    sources = load_sources([windows])
    known = {}
    for window in chain(*sources.sequences):
        name, center = window.blurry.parent.name, int(window.blurry.stem)
        seed = sum(map(ord, name)) + 10 * center
        known[window.name] = torch.stack([make_picture(24, 24, seed + n) for n in range(8)])
    found = set()
    for index in range(24):
        clip = draw_clip(sources, CLIPS, index)
        (name,) = [k for k, v in known.items() if torch.equal(clip[0], codes(v[7]))]
        assert torch.equal(clip[1:], codes(known[name][:7]))
        found.add(name)
    assert found == set(known)


def test_sets_and_pictures_are_drawn_from_both(windows, tmp_path):
    (tmp_path / "photos").mkdir()
    write_photo(torch.ones(3, 60, 60), tmp_path / "photos" / "white.png")
    sources = load_sources([tmp_path / "photos", windows])
    assert (len(sources.photos), len(sources.sequences)) == (1, 3)
    white = [bool((draw_clip(sources, CLIPS, index) == 255).all()) for index in range(40)]
    assert 0.4 < sum(white) / 40 < 0.9  # 65 % of clips are not real windows


def test_windows_smaller_or_larger_than_a_clip_are_brought_to_its_size(windows):
    sources = load_sources([windows])
    for size in (16, 48):
        clip = draw_clip(sources, replace(CLIPS, size=size), 0)
        assert clip.shape == (8, 3, size, size)


def test_a_sequence_of_a_set_is_its_windows_in_order(windows):
    sources = load_sources([windows])
    blurry, sharp = draw_sequence(sources, SEQUENCES, 0)
    (name,) = [
        n
        for n in ("fall", "turn", "walk")
        if torch.equal(blurry[0], codes(make_picture(24, 24, sum(map(ord, n)) + 47)))
    ]
    seed = sum(map(ord, name))
    for place, center in enumerate((4, 11, 4)):  # to and fro
        assert torch.equal(blurry[place], codes(make_picture(24, 24, seed + 10 * center + 7)))
        assert torch.equal(sharp[place], codes(make_picture(24, 24, seed + 10 * center + 3)))


@pytest.fixture
def middles(windows):
    """The same set, of whose sharp frames the middle ones are kept alone."""
    for path in (windows / "sharp").rglob("*.png"):
        if int(path.stem) not in (4, 11):
            path.unlink()
    lines = [
        {"sequence": name, "blurry": f"blur/{name}/{center:06d}.png"}
        | {"sharp": f"sharp/{name}/{center:06d}.png", "frames": [0, 8]}
        | {"tau": 9, "period": 9, "window": number}
        for name in ("fall", "turn", "walk")
        for number, center in enumerate((4, 11))
    ]
    (windows / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return windows


def test_windows_with_the_middle_frame_alone_are_for_video_and_middle_nets(middles):
    sources = load_sources([middles])
    assert draw_sequence(sources, SEQUENCES, 1).shape == (2, 3, 3, 24, 24)
    blurry, *sharp = draw_clip(sources, replace(CLIPS, sides=False), 0)
    assert len(sharp) == 7
    assert all(torch.equal(frame, sharp[3]) for frame in sharp)
    assert not torch.equal(blurry, sharp[3])


def test_the_blur_of_a_set_is_kept_where_its_middle_frames_are_alone(middles, tmp_path):
    sources = load_sources([middles])
    list(build_bank(sources, replace(CLIPS, clips=2, sides=False), tmp_path / "bank"))
    crops = Crops(tmp_path / "bank", size=16, seed=0, noise=0.0, jpeg=0.0, discrete=1.0)
    for index in range(4):
        blurry, sharp = crops[index]
        assert not torch.allclose(blurry, sharp[3], atol=0.05)


def test_a_window_whose_pictures_differ_in_size_is_named(windows):
    write_photo(torch.rand(3, 20, 24), windows / "sharp" / "fall" / "000003.png", overwrite=True)
    (fall,) = [s for s in load_sources([windows]).sequences if "fall" in s[0].name]
    with pytest.raises(DatasetError, match=r"000003\.png: is not of the same size as"):
        draw_clip(Sources([], [], [], [fall[:1]]), CLIPS, 0)


@pytest.mark.parametrize("model", ["cascade", "dtb"])
def test_what_synth_dataset_writes_is_trained_on(tmp_path, monkeypatch, capsys, model):
    monkeypatch.chdir(tmp_path)
    for name in ("fall", "walk"):
        (tmp_path / "frames" / name).mkdir(parents=True)
        scene = make_picture(200, 240, len(name))
        for n in range(14):
            frame = scene[..., 2 * n : 2 * n + 200]
            write_photo(frame, tmp_path / "frames" / name / f"{n:06d}.png")

    assert run_main(capsys, "synth-dataset", "frames", "-o", "set", "--scale", 1, "-q").code == 0
    small = ("--clips", 2, "--steps", 1, "--batch", 1, "--crop", 16, "--set", "workers=0")
    video = ("--set", "frames=2") if model == "dtb" else ()
    ran = run_main(capsys, "train", "-m", model, "--data", "set", *small, *video)
    assert (ran.code, ran.out) == (0, f"runs/{model}/weights\n"), ran.err
