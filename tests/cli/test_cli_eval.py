"""`b2v eval` through `main()`, on two windows of 32 x 24 pixels."""

import csv
import json
import sys
from types import SimpleNamespace

import pytest
from command_line import (
    assert_one_line,
    plain_surroundings,
    run_main,
    write_tiny_cascade,
    write_tiny_prior,
)
from conftest import make_picture
from test_evaluate import moving, write_window

from b2v.data.footage import find_windows, read_samples
from b2v.defaults import PHOTO_MODEL, PHOTO_MODELS
from b2v.media.images import read_photo, write_photo
from b2v.metrics import psnr, reblur
from b2v.models import PRIOR
from b2v.weights.checkpoints import file_name


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path):
    """`b2v(*args)` in a folder with the set `set[1]`."""
    write_tiny_prior(tmp_path / "weights")
    plain_surroundings(monkeypatch, tmp_path, tmp_path / "weights")
    monkeypatch.setattr("b2v.metrics.find_spec", lambda _: None)  # whether lpips is there or not
    sharp = moving()
    write_window(tmp_path / "set[1]", sharp, sharp.mean(0), sequence="walk", suffix=".jpg")
    write_window(tmp_path / "set[1]", sharp * 0.5, sharp.mean(0), sequence="turn", center=40)
    return lambda *args: run_main(capsys, *args)


def test_json_has_the_scores_and_those_of_doing_nothing(b2v):
    ran = b2v("eval", "set[1]", "--json", "-q")
    said = json.loads(ran.out)
    assert (ran.code, ran.err, ran.out.count("\n")) == (0, "", 1)
    keys = {"set", "samples", "model", "psnr", "psnr_p", "mean_p", "middle", "ssim_middle"}
    assert set(said) == keys | {"shifted_middle", "reblur", "motion", "nothing"}
    assert set(said["nothing"]) == {"psnr", "mean", "middle", "shifted_middle"}
    assert said["shifted_middle"] >= said["middle"]
    assert (said["set"], said["samples"], said["model"]) == ("set[1]", 2, PHOTO_MODEL)
    assert [len(said[key]) for key in ("psnr", "psnr_p")] == [7, 7]
    assert len(said["nothing"]["psnr"]) == 7
    assert said["mean_p"] >= sum(said["psnr"]) / 7
    assert 0 < said["ssim_middle"] <= 1


def test_doing_nothing_is_the_blurry_picture_against_every_frame(b2v, tmp_path):
    said = json.loads(b2v("eval", "set[1]", "--json").out)["nothing"]
    for frame in range(7):
        scores = [
            float(psnr(read_photo(w.blurry).pixels, read_photo(w.sharp[frame]).pixels))
            for w in find_windows(tmp_path / "set[1]")
        ]
        assert said["psnr"][frame] == pytest.approx(sum(scores) / 2, abs=1e-4)


def test_offset_of_26_code_values_scores_what_it_must(b2v, tmp_path):
    sharp = (make_picture(24, 32) * 200).round() / 255
    write_window(tmp_path / "flat", [sharp] * 7, sharp + 26 / 255)
    said = json.loads(b2v("eval", "flat", "--json").out)
    assert said["nothing"]["psnr"] == pytest.approx([19.832] * 7, abs=1e-3)  # 20 log10(255 / 26)


def test_table_shows_the_model_beside_doing_nothing(b2v):
    ran = b2v("eval", "set[1]")
    assert ran.code == 0
    for word in ("set[1]: 2 samples", "nothing", f"{PHOTO_MODEL} p", "SSIM", "re-blur"):
        assert word in ran.out
    assert ran.err.startswith("1 of 2: ")


def test_set_is_named_after_its_folder(b2v, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path / "set[1]")
    assert json.loads(b2v("eval", ".", "--json").out)["set"] == "set[1]"


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("nowhere", "no such file or folder"),
        ("weights", "no windows found"),
        ("set[1]/sharp", "has 7 frames; one exposure of tau 11 needs 11"),
    ],
)
def test_folder_without_windows_is_one_line(b2v, folder, said):
    assert_one_line(b2v("eval", folder), 1, said)


def test_missing_frame_is_one_line(b2v, tmp_path):
    (tmp_path / "set[1]" / "sharp" / "turn" / "000043.png").unlink()
    assert_one_line(b2v("eval", "set[1]"), 1, "000043.png", "missing")


def test_frame_of_another_size_is_one_line(b2v, tmp_path):
    frame = tmp_path / "set[1]" / "sharp" / "turn" / "000043.png"
    write_photo(make_picture(24, 33), frame, overwrite=True)
    assert_one_line(b2v("eval", "set[1]", "-q"), 1, "000043.png", "size")


def test_wrong_weights_are_one_line(b2v):
    assert_one_line(b2v("eval", "set[1]", "-m", "nobody"), 3, "nobody")


@pytest.mark.parametrize("quality", PHOTO_MODELS)
def test_quality_chooses_the_model_and_a_name_goes_before_it(b2v, tmp_path, quality):
    for name in (*PHOTO_MODELS.values(), "mine"):
        write_tiny_prior(tmp_path / "weights", name)
    args = ("eval", "set[1]", "--quality", quality, "--protocol", "middle", "--json", "-q")
    assert json.loads(b2v(*args).out)["model"] == PHOTO_MODELS[quality]
    assert json.loads(b2v(*args, "-m", "mine").out)["model"] == "mine"


def test_several_weights_are_rows_named_by_their_paths(b2v, tmp_path):
    write_tiny_prior(tmp_path / "other", seed=1)
    both = ("--weights", "weights", "--weights", "other")
    said = json.loads(b2v("eval", "set[1]", *both, "--json", "-q").out)
    assert list(said) == ["set", "rows"]
    assert [row["model"] for row in said["rows"]] == ["weights", "other"]
    alone = json.loads(b2v("eval", "set[1]", "--weights", "other", "--json", "-q").out)
    assert {**said["rows"][1], "model": PHOTO_MODEL} == alone
    assert said["rows"][0]["psnr"] != said["rows"][1]["psnr"]
    table = b2v("eval", "set[1]", *both, "-q").out
    for word in ("weights p", "other p", "weights: middle", "other: middle"):
        assert word in table


def test_the_middle_frame_alone_is_scored_as_within_the_seven(b2v):
    seven = json.loads(b2v("eval", "set[1]", "--no-align", "--json", "-q").out)
    said = json.loads(b2v("eval", "set[1]", "--protocol", "middle", "--json", "-q").out)
    about = {"set", "samples", "model"}
    assert set(said) == about | {"middle", "shifted_middle", "ssim_middle", "nothing"}
    assert said["middle"] == pytest.approx(seven["middle"], abs=1e-4)
    assert said["ssim_middle"] == pytest.approx(seven["ssim_middle"], abs=1e-4)
    assert said["nothing"]["middle"] == seven["nothing"]["middle"]
    file = file_name(PHOTO_MODEL, PRIOR)
    args = ("eval", "set[1]", "--weights", f"weights/{file}", "--protocol", "middle", "-q")
    alone = json.loads(b2v(*args, "--json").out)
    assert {**alone, "model": PHOTO_MODEL} == said
    table = b2v(*args).out
    for word in (
        "middle frame",
        "nothing",
        file.removesuffix(".safetensors"),
        "SSIM",
        "gain",
        "within 2 px",
    ):
        assert word in table


def test_a_folder_with_a_middle_net_alone_needs_no_option(b2v, tmp_path):
    (tmp_path / "own").mkdir()
    write_tiny_cascade(tmp_path / "cascade")
    source = tmp_path / "cascade" / "cascade-middle.safetensors"
    (tmp_path / "own" / source.name).write_bytes(source.read_bytes())
    said = json.loads(b2v("eval", "set[1]", "--weights", "own", "--json", "-q").out)
    assert said["nothing"].keys() == {"middle", "shifted_middle", "ssim_middle"}


def test_at_a_smaller_scale_the_pictures_are_made_smaller_first(b2v, tmp_path):
    sharp = moving(height=48, width=64)
    write_window(tmp_path / "big", sharp, reblur(sharp))
    full, half = (
        json.loads(b2v("eval", "big", "--scale", scale, "--json", "-q").out) for scale in (1, 0.5)
    )
    assert "scale" not in full
    assert half["scale"] == 0.5
    (small,) = read_samples(find_windows(tmp_path / "big"), scale=0.5)
    assert small.blurry.shape == (3, 24, 32)
    assert half["nothing"]["psnr"] == pytest.approx(psnr(small.blurry, small.sharp).tolist())


def test_scores_of_each_sample_are_written_as_a_table(b2v, tmp_path):
    said = json.loads(b2v("eval", "set[1]", "--csv", "out.csv", "--json", "-q").out)
    lines = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [(x["set"], x["model"], x["sample"]) for x in lines] == [
        ("set[1]", PHOTO_MODEL, "blur/turn/000040"),
        ("set[1]", PHOTO_MODEL, "blur/walk/000004"),
    ]
    for frame in range(7):
        for key, values in (("psnr", said["psnr"]), ("p", said["psnr_p"])):
            mean = sum(float(x[f"{key}_{frame + 1}"]) for x in lines) / 2
            assert mean == pytest.approx(values[frame], abs=1e-5)
    assert lines[0]["lpips_middle"] == ""


def test_a_chart_is_drawn_and_nothing_is_overwritten_unasked(b2v, tmp_path):
    pytest.importorskip("matplotlib")
    ran = b2v("eval", "set[1]", "--plot", "gain.png", "--csv", "x.csv", "--strips", "strips")
    assert ran.code == 0
    assert "written: gain.png" in ran.err
    chart = read_photo(tmp_path / "gain.png").pixels
    assert chart.shape == (3, 660, 1080)
    assert 0.01 < (chart < 0.9).float().mean() < 0.2  # lines and letters on white
    assert len(list((tmp_path / "strips").iterdir())) == 2
    before = [(p, p.read_bytes()) for p in sorted(tmp_path.rglob("*")) if p.is_file()]
    for option, name in (("--plot", "gain.png"), ("--csv", "x.csv"), ("--strips", "strips")):
        assert_one_line(b2v("eval", "set[1]", option, name), 2, name, "exists already")
    after = [(p, p.read_bytes()) for p in sorted(tmp_path.rglob("*")) if p.is_file()]
    assert after == before
    assert b2v("eval", "set[1]", "--plot", "gain.png", "--overwrite", "-q").code == 0


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--plot", "gain.bmp"), 2, ["gain.bmp", ".png, .svg, .pdf"]),
        (("--csv", "no/x.csv"), 1, ["no/x.csv", "does not exist"]),
        (("--csv", "weights"), 2, ["weights: exists already and is a folder"]),
        (("--scale", 0), 2, ["scale"]),
        (("--scale", 0.1), 1, ["pixels"]),
        (("--protocol", "nine"), 2, ["nine"]),
        (("--weights", "cascade-pair35.safetensors", "--protocol", "middle"), 2, ["pair35"]),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work_begins(b2v, tmp_path, args, code, words):
    write_tiny_cascade(tmp_path)
    assert_one_line(b2v("eval", "set[1]", *args, "-q"), code, *words)


def test_without_matplotlib_a_chart_names_the_extra(b2v, monkeypatch):
    monkeypatch.setattr("b2v.report.find_spec", lambda _: None)
    assert_one_line(b2v("eval", "set[1]", "--plot", "x.png"), 2, 'pip install "b2v[plot]"')


def test_lpips_is_reported_where_it_is_installed(b2v, monkeypatch):
    def distance(a, b, normalize):
        assert normalize
        return (a - b).abs().mean()

    def build(net, verbose):
        return SimpleNamespace(eval=lambda: distance)

    module = SimpleNamespace(LPIPS=build)
    monkeypatch.setitem(sys.modules, "lpips", module)
    monkeypatch.setattr("b2v.metrics.find_spec", lambda _: True)
    said = json.loads(b2v("eval", "set[1]", "--json", "-q").out)
    assert 0 < said["lpips_middle"] < 1
    assert 0 < said["nothing"]["lpips_middle"] < 1
    assert "LPIPS" in b2v("eval", "set[1]", "-q").out


def test_lpips_without_its_weights_is_left_out_and_said(b2v, monkeypatch):
    def fail(net, verbose):
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=fail))
    monkeypatch.setattr("b2v.metrics.find_spec", lambda _: True)
    ran = b2v("eval", "set[1]", "--json")
    assert "lpips_middle" not in json.loads(ran.out)
    assert "left out: LPIPS: its weights cannot be loaded (no network)" in ran.err


def test_a_manifest_is_a_set_in_whatever_layout(b2v, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for n, frame in enumerate(moving(14)):
        write_photo(frame, frames / f"{n + 1:06d}.png")
    scores = {}
    for layout in ("gopro7", "reds", "pairs"):
        args = ("synth-dataset", frames, "-o", layout, "--recipe", "reds", "--write", layout)
        assert b2v(*args, "-j", 1, "-q").code == 0
        scores[layout] = json.loads(b2v("eval", layout, "--json", "-q").out)
        named = json.loads(b2v("eval", f"{layout}/manifest.jsonl", "--json", "-q").out)
        assert named == scores[layout]
        assert named["samples"] == 2
        assert named["set"] == layout
    assert scores["reds"]["psnr"] == scores["gopro7"]["psnr"]
    refused = b2v("eval", "pairs", "--protocol", "seven")
    assert_one_line(refused, 2, "pairs: has the middle frames alone", "--protocol middle")
    assert "psnr" not in scores["pairs"]  # one sharp frame is all that this layout keeps
    assert scores["pairs"]["nothing"]["middle"] == scores["gopro7"]["nothing"]["middle"]


def test_the_test_split_is_scored_unless_told_otherwise(b2v, tmp_path):
    for split, darker in (("train", 0.5), ("test", 0.25), ("val", 0.125)):
        sharp = make_picture(24, 32)
        for half, picture in (("blur", darker * sharp), ("sharp", sharp)):
            folder = tmp_path / "set" / split / "scene" / half
            folder.mkdir(parents=True)
            write_photo(picture, folder / "000001.png")
    usual, other, every = (
        b2v("eval", "set", "-m", "maxim-1", "--protocol", "middle", "--json", *more)
        for more in ((), ("--split", "val"), ("--split", "all"))
    )
    assert "the 1 windows of its test split are scored; others by --split" in usual.err
    found = [json.loads(ran.out) for ran in (usual, other, every)]
    assert [scores["samples"] for scores in found] == [1, 1, 3]
    assert found[0]["nothing"]["middle"] > found[1]["nothing"]["middle"]
    assert_one_line(b2v("eval", "set[1]", "--split", "val", "-q"), 1, "no val split; it has train")
