"""Datasets of blurry and sharp pictures: what is read, what is written, and that it is right."""

import hashlib
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_picture, move
from video_samples import EVEN, UNEVEN, make_video

from b2v.color import to_encoded, to_linear
from b2v.data.exposure import FRAME_STEPS, Optics, by_frame, expose, optical_psfs, through_psfs
from b2v.data.footage import find_windows
from b2v.data.rendering import RECIPES, Recipe, Settings
from b2v.data.scenes import MotionConfig, render
from b2v.data.sources import are_frames, find_sequences, frame_files
from b2v.data.synthesize import Finished, Written, plan, synthesize
from b2v.errors import DatasetError, UsageError
from b2v.media.images import read_photo, write_photo
from b2v.metrics import psnr

WHOLE = Recipe()
"""Seven frames, no gaps, full size."""


def write_frames(folder, count=7, *, first=1, digits=6, size=(20, 24), seed=0, step=1):
    """Write numbered frames of a picture that moves by a pixel a frame."""
    wide = make_picture(size[0], size[1] + count, seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        frame = wide[..., i : i + size[1]]
        write_photo(frame, folder / f"{first + step * i:0{digits}d}.png")
    return folder


def write_flat(folder, values):
    folder.mkdir(parents=True)
    for number, value in enumerate(values, start=1):
        write_photo(torch.full((3, 16, 16), float(value)), folder / f"{number:06d}.png")
    return folder


def make(sources, out, *, settings=None, layout="auto", jobs=1):
    """Write a dataset; return what was reported."""
    settings = settings or Settings(recipe=WHOLE)
    sources = [sources] if isinstance(sources, Path) else sources
    found = find_sequences(sources, layout, leave_out=out)
    return list(synthesize(plan(found, settings, out), jobs))


def files_in(folder):
    """Every picture below `folder`, relative to it."""
    paths = (p for p in folder.rglob("*") if p.is_file() and p.suffix in (".png", ".jpg"))
    return sorted(str(p.relative_to(folder)) for p in paths)


def bytes_in(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def manifest(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def problems(reports):
    return [r.problem for r in reports if isinstance(r, Finished) and r.problem]


def found_in(*sources, layout="auto"):
    found = find_sequences(list(sources), layout)
    return [(s.name, s.kind, s.split) for s in found]


# Sources


def test_gopro_is_found_with_its_splits(tmp_path):
    for split, seq in (("train", "GOPR0372"), ("train", "GOPR0374"), ("test", "GOPR0384")):
        write_frames(tmp_path / split / seq, 2, first=47)
    expected = [("GOPR0384", "frames", "test")]
    expected += [("GOPR0372", "frames", "train"), ("GOPR0374", "frames", "train")]
    assert found_in(tmp_path) == expected
    assert found_in(tmp_path, layout="gopro") == expected
    assert found_in(tmp_path / "train") == expected[1:]


def test_reds_is_found_by_its_120_frames_a_second(tmp_path):
    for kind in ("sharp", "blur", "orig"):
        write_frames(tmp_path / "train" / f"train_{kind}" / "000", 2, first=0, digits=8)
        write_frames(tmp_path / "val" / f"val_{kind}" / "000", 2, first=0, digits=8)
    for layout in ("auto", "reds"):
        assert found_in(tmp_path, layout=layout) == [
            ("000", "frames", "train"),
            ("000", "frames", "val"),
        ]
    paths = [str(s.path) for s in find_sequences([tmp_path])]
    assert all("_orig" in path for path in paths)
    assert found_in(tmp_path / "train" / "train_orig") == [("000", "frames", "train")]


def test_reds_without_orig_is_found_by_its_sharp_frames(tmp_path):
    for kind in ("sharp", "blur"):
        write_frames(tmp_path / f"train_{kind}" / "000", 2, first=0, digits=8)
    (found,) = find_sequences([tmp_path])
    assert found.path == tmp_path / "train_sharp" / "000"


def test_bsd_is_found_by_its_sharp_camera(tmp_path):
    for camera in ("Blur", "Sharp"):
        write_frames(tmp_path / "BSD_1ms8ms" / "valid" / "021" / camera / "RGB", 2)
    for layout in ("auto", "bsd"):
        (found,) = find_sequences([tmp_path], layout)
        assert (found.name, found.kind, found.split) == ("021", "frames", "valid")
        assert found.path.parts[-2:] == ("Sharp", "RGB")


def test_a_folder_of_frames_is_one_sequence_and_folders_of_them_are_many(tmp_path):
    write_frames(tmp_path / "scenes" / "a", 3)
    write_frames(tmp_path / "scenes" / "deep" / "b", 3)
    assert found_in(tmp_path / "scenes") == [("a", "frames", None), ("deep-b", "frames", None)]
    assert found_in(tmp_path / "scenes" / "a") == [("a", "frames", None)]


def test_videos_are_found_in_folders_and_on_their_own(tmp_path):
    (tmp_path / "films").mkdir()
    for name in ("b.mp4", "a.MOV", "notes.txt"):
        (tmp_path / "films" / name).touch()
    both = [("a", "video", None), ("b", "video", None)]
    assert found_in(tmp_path / "films") == both
    assert found_in(tmp_path / "films" / "b.mp4") == both[1:]
    assert found_in(tmp_path / "films", layout="videos") == both


@pytest.mark.parametrize(
    "names",
    [
        ["beach.jpg", "house.jpg"],
        ["IMG_0001.jpg", "IMG_0002.jpg", "IMG_0003.jpg"],
        ["DSC00017.JPG", "DSC00018.JPG"],
        ["1.jpg", "20.jpg", "33.jpg"],
        ["000004.png"],
    ],
)
def test_photographs_are_told_by_their_names(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    assert {kind for _, kind, _ in found_in(tmp_path)} == {"photo"}
    assert {kind for _, kind, _ in found_in(tmp_path, layout="frames")} == {"frames"}


@pytest.mark.parametrize("pattern", ["{:06d}.png", "{}.jpg", "frame_{:03d}.png", "walk-{:04d}.png"])
def test_frames_are_told_by_their_names(pattern):
    assert are_frames([Path(pattern.format(n)) for n in range(95, 120)])
    assert are_frames([Path(pattern.format(n)) for n in range(20) if n != 7])
    assert not are_frames([Path(pattern.format(n)) for n in range(0, 100, 10)])


def test_frames_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("frame10.png", "frame9.png", "frame11.png", ".frame12.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [n for n, _ in frame_files(tmp_path)] == [9, 10, 11]


def test_pictures_of_a_layout_can_be_called_photographs(tmp_path):
    write_frames(tmp_path / "a", 3)
    assert [kind for _, kind, _ in found_in(tmp_path, layout="photos")] == 3 * ["photo"]


def test_blurry_halves_of_finished_sets_are_no_sources(tmp_path):
    for kind in ("blur", "blur_gamma", "sharp"):
        write_frames(tmp_path / "train" / "GOPR0372" / kind, 2)
    (found,) = find_sequences([tmp_path])
    assert (found.name, found.split, found.path.name) == ("GOPR0372", "train", "sharp")


def test_what_holds_nothing_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no such file or folder"):
        find_sequences([tmp_path / "nowhere"])
    for layout, said in (("auto", "sharp frames, videos or photographs"), ("reds", "reds layout")):
        with pytest.raises(DatasetError, match=said):
            find_sequences([tmp_path / "empty"], layout)
    with pytest.raises(UsageError, match="unknown layout"):
        find_sequences([tmp_path], "dvd")


def test_the_dataset_itself_and_rings_of_links_are_not_looked_into(tmp_path):
    write_frames(tmp_path / "in" / "a", 2)
    write_frames(tmp_path / "in" / "out" / "b", 2)
    (tmp_path / "in" / "ring").symlink_to(tmp_path / "in")
    found = find_sequences([tmp_path / "in"], leave_out=tmp_path / "in" / "out")
    assert [s.name for s in found] == ["a"]


# Names and splits


def test_equal_names_are_told_apart_within_a_split(tmp_path):
    for place in ("x", "y", "z"):
        write_frames(tmp_path / place / "Walk" if place != "y" else tmp_path / place / "walk", 2)
    found = find_sequences([tmp_path / p for p in "xyz"])
    assert [s.name for s in plan(found, Settings(), tmp_path / "o").sequences] == [
        "Walk",
        "walk-2",
        "Walk-3",
    ]


# Layouts written


NAMES = {
    "gopro7": [
        *("train/blur/walk/000013.png", "train/blur/walk/000020.png"),
        *(f"train/sharp/walk/{n:06d}.png" for n in range(10, 24)),
    ],
    "gopro": [
        f"train/walk/{kind}/{n:06d}.png"
        for kind in ("blur", "blur_gamma", "sharp")
        for n in (13, 20)
    ],
    "reds": [
        *(f"train/train_blur/000/{n:08d}.png" for n in (0, 1)),
        *(f"train/train_orig/000/{n:08d}.png" for n in range(14)),
        *(f"train/train_sharp/000/{n:08d}.png" for n in (0, 1)),
    ],
    "bsd": [f"train/000/{kind}/RGB/{n:08d}.png" for kind in ("Blur", "Sharp") for n in (0, 1)],
    "pairs": [f"train/{kind}/walk-{n:06d}.png" for kind in ("input", "target") for n in (13, 20)],
}


@pytest.mark.parametrize("layout", NAMES)
def test_each_layout_has_exactly_its_names(tmp_path, layout):
    source = write_frames(tmp_path / "walk", 15, first=10)
    make(source, tmp_path / "out", settings=Settings(recipe=WHOLE, layout=layout))
    assert files_in(tmp_path / "out") == NAMES[layout]
    assert not [p for p in (tmp_path / "out").rglob("*") if p.name.startswith(".")]


@pytest.mark.parametrize("layout", NAMES)
def test_sharp_is_the_middle_frame_in_each_layout(tmp_path, layout):
    source = write_frames(tmp_path / "walk", 14, first=10)
    out = tmp_path / "out"
    make(source, out, settings=Settings(recipe=WHOLE, layout=layout))
    for line, middle in zip(manifest(out), (13, 20), strict=True):
        assert torch.equal(
            read_photo(out / line["sharp"]).pixels, read_photo(source / f"{middle:06d}.png").pixels
        )
        frames = [read_photo(source / f"{n:06d}.png").pixels for n in range(middle - 3, middle + 4)]
        plain = expose(to_linear(torch.stack(frames), "gamma2.2"))
        assert (read_photo(out / line["blurry"]).pixels - plain).abs().max() < 0.51 / 255


@pytest.mark.parametrize("layout", ["reds", "bsd"])
def test_sequences_are_counted_within_their_split(tmp_path, layout):
    for split, seq in (("train", "a"), ("train", "b"), ("test", "c")):
        write_frames(tmp_path / "in" / split / seq, 7)
    make(tmp_path / "in", tmp_path / "out", settings=Settings(recipe=WHOLE, layout=layout))
    written = {line["sequence"]: line["blurry"].split("/") for line in manifest(tmp_path / "out")}
    assert {name: (parts[0], "000" in parts) for name, parts in written.items()} == {
        "a": ("train", True),
        "b": ("train", False),
        "c": ("test", True),
    }


@pytest.mark.parametrize("layout", ["reds", "bsd"])
def test_what_is_written_is_found_again(tmp_path, layout):
    source = write_frames(tmp_path / "walk", 14)
    make(source, tmp_path / "out", settings=Settings(recipe=WHOLE, layout=layout))
    (found,) = find_sequences([tmp_path / "out"])
    assert (found.name, found.kind, found.split) == ("000", "frames", "train")


def test_windows_in_gopro7_open_for_scoring(tmp_path):
    write_frames(tmp_path / "in" / "train" / "a", 15, first=40)
    write_frames(tmp_path / "in" / "test" / "b", 7)
    make(tmp_path / "in", tmp_path / "out")
    windows = find_windows(tmp_path / "out")
    assert [w.name for w in windows] == [
        "test/blur/b/000004",
        "train/blur/a/000043",
        "train/blur/a/000050",
    ]
    assert [p.stem for p in windows[1].sharp] == [f"{n:06d}" for n in range(40, 47)]


def test_jpeg_is_written_as_asked(tmp_path):
    settings = Settings(recipe=WHOLE, suffix="jpg")
    make(write_frames(tmp_path / "a"), tmp_path / "out", settings=settings)
    found = files_in(tmp_path / "out")
    assert {Path(name).suffix for name in found} == {".jpg"}
    assert (tmp_path / "out" / found[0]).read_bytes()[:2] == b"\xff\xd8"
    assert len(find_windows(tmp_path / "out")) == 1


# Light


@pytest.mark.parametrize(
    ("light", "curve", "value"),
    [("linear", "srgb", 0.735), ("linear", "gamma2.2", 0.5 ** (1 / 2.2)), ("code", "srgb", 0.5)],
)
def test_black_and_white_average_to(tmp_path, light, curve, value):
    source = write_flat(tmp_path / "a", [0, 1] * 4 + [0])
    settings = Settings(recipe=replace(WHOLE, frames=(9,)), light=light, curve=curve)
    make(source, tmp_path / "out", settings=settings)
    (line,) = manifest(tmp_path / "out")
    got = read_photo(tmp_path / "out" / line["blurry"]).pixels.unique()
    exact = {"code": 4 / 9}.get(light)
    if exact is None:
        exact = float(to_encoded(torch.tensor(4 / 9), curve))
    assert got.tolist() == pytest.approx([exact], abs=0.51 / 255)
    assert exact == pytest.approx(value, abs=0.06)  # five of nine are black
    assert line["curve"] == (curve if light == "linear" else None)


def test_half_black_half_white_is_as_bright_as_light_says():
    """The known values, without an odd frame between: 0.735 of sRGB, 0.50 of code values."""
    half = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    assert expose(half, "srgb").item() == pytest.approx(0.735, abs=5e-4)
    assert half.mean().item() == 0.5


def test_gopro_has_both_averages(tmp_path):
    source = write_flat(tmp_path / "a", [0, 1, 0, 1, 0, 1, 0])
    make(source, tmp_path / "out", settings=Settings(recipe=WHOLE, layout="gopro"))
    for kind, value in (("blur", 3 / 7), ("blur_gamma", (3 / 7) ** (1 / 2.2))):
        picture = read_photo(tmp_path / "out" / "train" / "a" / kind / "000004.png").pixels
        assert picture.unique().tolist() == pytest.approx([value], abs=0.51 / 255)


def test_pictures_are_made_smaller_as_light(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    grid = (torch.arange(40)[:, None] + torch.arange(40)) % 2
    for n in range(1, 8):
        write_photo(grid.float().expand(3, -1, -1).roll(n, -1), folder / f"{n}.png")
    for light, value in (("linear", 0.5 ** (1 / 2.2)), ("code", 0.5)):
        settings = Settings(recipe=replace(WHOLE, scale=0.5), light=light)
        make(folder, tmp_path / light, settings=settings)
        sharp = read_photo(next((tmp_path / light).rglob("sharp/a/000004.png"))).pixels
        assert sharp.shape == (3, 20, 20)
        assert sharp[:, 4:-4, 4:-4].mean().item() == pytest.approx(value, abs=0.02)


def test_noise_has_its_strength_and_is_the_same_by_seed(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    for n in range(1, 8):
        write_photo(torch.full((3, 64, 64), 0.4 + 0.02 * (n % 2)), folder / f"{n}.png")
    blurry = []
    for name, seed in (("x", 0), ("y", 0), ("z", 1)):
        settings = Settings(recipe=WHOLE, noise=0.05, seed=seed)
        make(folder, tmp_path / name, settings=settings)
        blurry.append(read_photo(next((tmp_path / name).rglob("blur/a/*.png"))).pixels)
    assert blurry[0].std().item() == pytest.approx(0.05, rel=0.05)
    assert torch.equal(blurry[0], blurry[1])
    assert not torch.equal(blurry[0], blurry[2])


# Recipes


def test_recipes_have_the_numbers_of_the_papers():
    rng = np.random.default_rng(0)
    assert RECIPES["jin"].draw(rng) == (7, 7)
    assert RECIPES["jin"].size(1280, 720) == (576, 324)
    assert RECIPES["reds"].draw(rng) == (7, 7)
    assert RECIPES["reds"].size(1280, 720) == (1280, 720)
    drawn = [RECIPES["kim"].draw(rng) for _ in range(500)]
    assert {tau for tau, _ in drawn} == {7, 9, 11, 13, 15}
    assert all(tau <= period < 2 * tau for tau, period in drawn)
    assert {period - tau for tau, period in drawn if tau == 7} == set(range(7))
    assert {RECIPES["gopro"].draw(rng) for _ in range(99)} == {(t, t) for t in (7, 9, 11, 13)}


def test_kim_brings_pictures_into_960x540_and_never_enlarges():
    size = RECIPES["kim"].size
    assert size(1280, 720) == (960, 540)
    assert size(1920, 1440) == (720, 540)
    assert size(720, 1280) == (540, 960)
    assert size(640, 360) == (640, 360)


def test_a_sequence_draws_tau_and_period_once_and_by_seed(tmp_path):
    source = write_frames(tmp_path / "walk", 90)
    for name, seed in (("x", 0), ("y", 0), ("z", 3)):
        make(source, tmp_path / name, settings=Settings(recipe=RECIPES["kim"], seed=seed))
    x, z = (manifest(tmp_path / name) for name in "xz")
    assert {(line["tau"], line["period"]) for line in x} == {(x[0]["tau"], x[0]["period"])}
    assert x[0]["tau"] <= x[0]["period"] < 2 * x[0]["tau"]
    assert [line["frames"][0] for line in x] == [1 + x[0]["period"] * n for n in range(len(x))]
    assert bytes_in(tmp_path / "x") == bytes_in(tmp_path / "y")
    assert (x[0]["tau"], x[0]["period"]) != (z[0]["tau"], z[0]["period"])


def test_windows_may_overlap(tmp_path):
    source = write_frames(tmp_path / "walk", 11)
    for layout, sharp in (("gopro7", 11), ("reds", 3 + 11)):
        out = tmp_path / layout
        make(source, out, settings=Settings(recipe=replace(WHOLE, stride=2), layout=layout))
        assert [line["frames"] for line in manifest(out)] == [[1, 7], [3, 9], [5, 11]]
        assert len(files_in(out)) == 3 + sharp


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frames": (8,)}, "8 frames have no middle one"),
        ({"frames": (-1,)}, "odd number"),
        ({"stride": 0}, "stride of 0"),
        ({"scale": 1.5}, "smaller only"),
        ({"scale": 0.0}, "smaller only"),
        ({"box": (960, 4)}, "smaller only"),
    ],
)
def test_impossible_recipes_are_refused(change, said):
    with pytest.raises(UsageError, match=said):
        replace(WHOLE, **change)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"noise": 5.0}, "percent"), ({"photo_size": 8}, "size")],
)
def test_impossible_settings_are_refused(change, said):
    with pytest.raises(UsageError, match=said):
        Settings(**change)


# Videos, and what is wrong with them


def test_a_video_gives_windows_of_its_frames(tmp_path):
    film = make_video(tmp_path / "film.mp4")
    reports = make(film, tmp_path / "out", settings=Settings(recipe=replace(WHOLE, stride=5)))
    assert problems(reports) == []
    assert [line["frames"] for line in manifest(tmp_path / "out")] == [[1, 7], [6, 12]]
    assert len(find_windows(tmp_path / "out")) == 2


def test_an_uneven_video_is_reported_and_no_window_goes_across(tmp_path):
    film = make_video(tmp_path / "film.mkv", UNEVEN, tick=Fraction(1, 1000))
    (problem,) = problems(make(film, tmp_path / "out"))
    assert problem.startswith(str(film))
    assert "uneven steps in time" in problem
    assert "1 windows left out" in problem
    assert files_in(tmp_path / "out") == []


def test_only_the_windows_across_a_gap_in_time_are_left_out(tmp_path):
    times = [time + (200 if number >= 10 else 0) for number, time in enumerate(EVEN)]
    film = make_video(tmp_path / "film.mp4", times)
    settings = Settings(recipe=replace(WHOLE, frames=(3,)))
    (problem,) = problems(make(film, tmp_path / "out", settings=settings))
    assert problem == f"{film}: 1 uneven steps in time; 1 windows left out"
    assert [line["window"] for line in manifest(tmp_path / "out")] == [0, 1, 2]


def test_repeated_frames_are_reported(tmp_path):
    source = write_frames(tmp_path / "a", 14)
    (source / "000003.png").write_bytes((source / "000002.png").read_bytes())
    (problem,) = problems(make(source, tmp_path / "out"))
    assert problem == f"{source}: 1 repeated frames; 1 windows left out"
    assert [line["frames"] for line in manifest(tmp_path / "out")] == [[8, 14]]


def test_missing_numbers_are_reported(tmp_path):
    source = write_frames(tmp_path / "a", 22)
    (source / "000012.png").unlink()
    (problem,) = problems(make(source, tmp_path / "out"))
    assert "1 gaps in the numbers of frames" in problem
    assert [line["frames"] for line in manifest(tmp_path / "out")] == [[1, 7], [16, 22]]


def test_too_few_frames_are_reported(tmp_path):
    source = write_frames(tmp_path / "a", 6)
    assert problems(make(source, tmp_path / "out")) == [f"{source}: has 6 frames; a window takes 7"]


def test_frames_of_two_sizes_are_reported(tmp_path):
    source = write_frames(tmp_path / "a", 9)
    write_photo(make_picture(20, 30), source / "000009.png", overwrite=True)
    (problem,) = problems(make(source, tmp_path / "out"))
    assert "frame 9 is 30x20, the one before 24x20" in problem
    assert len(manifest(tmp_path / "out")) == 1


def test_a_video_that_breaks_off_gives_what_it_has(tmp_path):
    film = make_video(tmp_path / "film.mkv", [20 * n for n in range(60)], options={"g": "4"})
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) * 2 // 3])
    settings = Settings(recipe=replace(WHOLE, frames=(3,)))
    (problem,) = problems(make(film, tmp_path / "out", settings=settings))
    assert problem.startswith(f"{film}: video is truncated after")
    assert 5 <= len(manifest(tmp_path / "out")) < 20


def test_a_transport_stream_that_states_no_rate_is_even(tmp_path):
    film = make_video(tmp_path / "film.ts", container="mpegts", options={"bf": "0"})
    assert problems(make(film, tmp_path / "out")) == []
    assert len(find_windows(tmp_path / "out")) == 1


def test_a_broken_source_does_not_stop_the_others(tmp_path):
    write_frames(tmp_path / "in" / "a", 7)
    write_frames(tmp_path / "in" / "b", 7)
    write_frames(tmp_path / "in" / "c", 7, seed=1)
    (tmp_path / "in" / "b" / "000004.png").write_bytes(b"no picture")
    (problem,) = problems(make(tmp_path / "in", tmp_path / "out"))
    assert "000004.png: not a picture" in problem
    assert [line["sequence"] for line in manifest(tmp_path / "out")] == ["a", "c"]


def test_pictures_that_become_too_small_are_reported(tmp_path):
    settings = Settings(recipe=replace(WHOLE, scale=0.3))
    (problem,) = problems(make(write_frames(tmp_path / "a"), tmp_path / "out", settings=settings))
    assert "frames become 7x6 pixels" in problem


# Photographs


def photos_in(folder, count=2):
    folder.mkdir()
    for i, name in zip(range(count), ("beach", "house", "tree"), strict=False):
        write_photo(make_picture(120, 140, i), folder / f"{name}.png")
    return folder


SMALL = Settings(recipe=WHOLE, photo_size=40, per_photo=2)


def test_photographs_become_windows_of_seven_frames(tmp_path):
    make(photos_in(tmp_path / "in"), tmp_path / "out", settings=SMALL)
    assert len(find_windows(tmp_path / "out")) == 4
    lines = manifest(tmp_path / "out")
    assert [(line["sequence"], line["frames"]) for line in lines] == [
        ("beach", [1, 7]),
        ("beach", [8, 14]),
        ("house", [1, 7]),
        ("house", [8, 14]),
    ]
    for line in lines:
        assert read_photo(tmp_path / "out" / line["blurry"]).pixels.shape == (3, 40, 40)
        assert line["sub_frames"] % 2 == 1


def test_photographs_move_the_same_by_seed_whatever_else_is_made(tmp_path):
    photos = photos_in(tmp_path / "in")
    make(photos, tmp_path / "x", settings=SMALL)
    make(photos / "house.png", tmp_path / "y", settings=SMALL)
    make(photos, tmp_path / "z", settings=replace(SMALL, seed=1))
    x, y, z = (
        {k: v for k, v in bytes_in(tmp_path / n).items() if "house" in str(k)} for n in "xyz"
    )
    assert len(x) == 16
    assert x == y
    assert x.keys() == z.keys()
    assert all(x[name] != z[name] for name in x)


def test_the_blur_of_a_photograph_is_the_light_of_its_instants(tmp_path):
    settings = replace(SMALL, per_photo=1)
    make(photos_in(tmp_path / "in", 1), tmp_path / "out", settings=settings)
    (window,) = find_windows(tmp_path / "out")
    sharp = torch.stack([read_photo(path).pixels for path in window.sharp])
    blurry = read_photo(window.blurry).pixels
    frames = expose(to_linear(sharp, "gamma2.2"))  # the middle ones of many more instants
    assert psnr(frames, blurry) > psnr(sharp[3], blurry) + 6


def test_objects_fly_through_photographs(tmp_path):
    (tmp_path / "cutouts").mkdir()
    from PIL import Image

    Image.new("RGBA", (30, 30), (0, 255, 0, 255)).putalpha(128)
    cut = Image.new("RGBA", (30, 30), (0, 255, 0, 255))
    cut.putpixel((0, 0), (0, 0, 0, 0))
    cut.save(tmp_path / "cutouts" / "green.png")
    photos = photos_in(tmp_path / "in", 1)
    settings = replace(SMALL, per_photo=6)
    make(photos, tmp_path / "plain", settings=settings)
    make(photos, tmp_path / "flown", settings=replace(settings, objects=str(tmp_path / "cutouts")))

    def green(folder):
        frames = [read_photo(p).pixels for w in find_windows(folder) for p in w.sharp]
        return sum(float(((f[1] > 0.97) & (f[0] < 0.03)).float().mean()) for f in frames)

    assert green(tmp_path / "plain") == 0
    assert green(tmp_path / "flown") > 1


def test_objects_without_transparency_are_one_line(tmp_path):
    photos = photos_in(tmp_path / "in")
    for folder, said in ((photos, "no picture there has transparency"), ("nowhere", "no such")):
        with pytest.raises(DatasetError, match=said):
            make(photos, tmp_path / "out", settings=replace(SMALL, objects=str(folder)))


@pytest.mark.parametrize("seed", range(4))
def test_a_scene_is_what_move_makes_of_the_same_numbers(seed):
    photo = (make_picture(90, 90, seed) * 255).byte()
    cutout = torch.full((4, 13, 13), 255, dtype=torch.uint8)
    given = {"size": 32, "config": MotionConfig(objects=(0.2, 0.4, 0.4))}
    blurry, sharp = move(photo, [cutout], np.random.default_rng(seed), **given)
    scene = render(photo, [cutout], np.random.default_rng(seed), **given)
    assert torch.equal(expose(scene.light_lin), blurry)
    assert torch.equal(scene.sharp("gamma2.2"), sharp)


# Coded aperture


def test_a_coded_window_is_its_frames_through_the_psfs(tmp_path):
    source = write_frames(tmp_path / "walk", 7, size=(40, 48))
    settings = Settings(recipe=WHOLE, aperture="coded")
    make(source, tmp_path / "out", settings=settings)
    (line,) = manifest(tmp_path / "out")
    frames = torch.stack([read_photo(source / f"{n:06d}.png").pixels for n in range(1, 8)])
    psfs = by_frame(optical_psfs(Optics(), 7 * FRAME_STEPS), 7)
    light_lin = through_psfs(to_linear(frames, "gamma2.2"), psfs)
    blurry = read_photo(tmp_path / "out" / line["blurry"]).pixels
    assert (to_encoded(light_lin, "gamma2.2") - blurry).abs().max() < 0.51 / 255
    assert line["aperture"] == "coded"
    assert line["sub_frames"] == FRAME_STEPS


def test_photographs_have_the_same_frames_through_either_aperture(tmp_path):
    photos = photos_in(tmp_path / "in", 1)
    make(photos, tmp_path / "open", settings=SMALL)
    make(photos, tmp_path / "coded", settings=replace(SMALL, aperture="coded"))
    for a, b in zip(*(find_windows(tmp_path / n) for n in ("open", "coded")), strict=True):
        assert [p.read_bytes() for p in a.sharp] == [p.read_bytes() for p in b.sharp]
        assert a.blurry.read_bytes() != b.blurry.read_bytes()


# Manifest and going on


def test_the_manifest_says_how_each_window_was_made(tmp_path):
    source = write_frames(tmp_path / "walk", 16, first=47, size=(40, 60))
    settings = Settings(recipe=replace(WHOLE, scale=0.5), noise=0.01, seed=5)
    make(source, tmp_path / "out", settings=settings)
    first, second = manifest(tmp_path / "out")
    blurry = tmp_path / "out" / "train" / "blur" / "walk" / "000050.png"
    assert first == {
        "split": "train",
        "sequence": "walk",
        "window": 0,
        "source": str(source),
        "frames": [47, 53],
        "tau": 7,
        "period": 7,
        "sub_frames": 1,
        "light": "linear",
        "curve": "gamma2.2",
        "scale": 0.5,
        "noise": 0.01,
        "seed": 5,
        "aperture": "standard",
        "blurry": "train/blur/walk/000050.png",
        "sharp": "train/sharp/walk/000050.png",
        "sha256": hashlib.sha256(blurry.read_bytes()).hexdigest(),
        "version": "0.1.0",
    }
    assert second["frames"] == [54, 60]


def stopped_after(sources, out, windows, settings):
    """Start writing and stop after so many windows, as a killed run does."""
    reports = synthesize(plan(find_sequences(sources), settings, out))
    while windows:
        windows -= isinstance(next(reports), Written)
    reports.close()


@pytest.mark.parametrize("layout", ["gopro7", "reds"])
@pytest.mark.parametrize("stride", [3, 7, 9])
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path, stride, layout):
    film = make_video(tmp_path / "film.mp4", [20 * n for n in range(24)])
    sources = [write_frames(tmp_path / "walk", 30), film]
    settings = Settings(recipe=replace(WHOLE, stride=stride), noise=0.01, layout=layout)
    make(sources, tmp_path / "whole", settings=settings)
    stopped_after(sources, tmp_path / "stopped", 2, settings)
    with (tmp_path / "stopped" / "manifest.jsonl").open("a") as file:
        file.write('{"split": "tra')  # half a line
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "stopped").rglob("*blur*/*/*.png")}
    assert len(before) == 2
    reports = make(sources, tmp_path / "stopped", settings=settings)
    assert bytes_in(tmp_path / "stopped") == bytes_in(tmp_path / "whole")
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert [r.before for r in reports if isinstance(r, Finished)] == [2, 0]


def test_photographs_go_on_as_well(tmp_path):
    photos = photos_in(tmp_path / "in")
    make(photos, tmp_path / "whole", settings=SMALL)
    stopped_after([photos], tmp_path / "stopped", 3, SMALL)
    make(photos, tmp_path / "stopped", settings=SMALL)
    assert bytes_in(tmp_path / "stopped") == bytes_in(tmp_path / "whole")


@pytest.mark.parametrize("stride", [3, 7, 9])
def test_a_finished_dataset_is_left_alone(tmp_path, stride):
    source = write_frames(tmp_path / "walk", 16)
    settings = Settings(recipe=replace(WHOLE, stride=stride))
    make(source, tmp_path / "out", settings=settings)
    before = bytes_in(tmp_path / "out")
    (end,) = make(source, tmp_path / "out", settings=settings)
    assert isinstance(end, Finished)
    assert (end.written, end.problem) == (0, "")
    assert end.before == len(manifest(tmp_path / "out")) > 0
    assert bytes_in(tmp_path / "out") == before


def test_a_lost_picture_is_made_again(tmp_path):
    source = write_frames(tmp_path / "walk", 21)
    make(source, tmp_path / "out")
    before = bytes_in(tmp_path / "out")
    (tmp_path / "out" / "train" / "blur" / "walk" / "000011.png").unlink()
    make(source, tmp_path / "out")
    assert bytes_in(tmp_path / "out") == before


def test_two_at_a_time_write_the_same_bytes(tmp_path):
    sources = [write_frames(tmp_path / name, 15, seed=i) for i, name in enumerate("abc")]
    sources.append(write_frames(tmp_path / "short", 3))
    one = make(sources, tmp_path / "one", jobs=1)
    two = make(sources, tmp_path / "two", jobs=2)
    assert bytes_in(tmp_path / "one") == bytes_in(tmp_path / "two")
    assert sorted(problems(one)) == sorted(problems(two))
    assert len(problems(two)) == 1
    assert sum(isinstance(r, Written) for r in two) == 6


def test_another_dataset_or_folder_is_not_touched(tmp_path):
    source = write_frames(tmp_path / "walk", 7)
    make(source, tmp_path / "out")
    with pytest.raises(UsageError, match="other settings or sources"):
        make(source, tmp_path / "out", settings=Settings(recipe=WHOLE, seed=1))
    with pytest.raises(UsageError, match="other settings or sources"):
        make([source, write_frames(tmp_path / "b")], tmp_path / "out")
    with pytest.raises(UsageError, match="is the folder to write"):
        make(source, source)
    with pytest.raises(UsageError, match="holds no dataset"):
        make(source, tmp_path / "b")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="holds no dataset"):
        make(source, tmp_path / "file")


def test_a_damaged_manifest_is_one_line(tmp_path):
    source = write_frames(tmp_path / "walk", 7)
    make(source, tmp_path / "out")
    (tmp_path / "out" / "manifest.jsonl").write_text("nonsense\n")
    with pytest.raises(DatasetError, match=r"manifest.jsonl: is damaged"):
        make(source, tmp_path / "out")
