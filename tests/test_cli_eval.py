"""`b2v eval` through `main()`, on two windows of 32 x 24 pixels."""

import json

import pytest
from conftest import make_picture
from test_cli_extract import assert_one_line, plain_surroundings, run_main, write_tiny_cascade
from test_evaluate import moving, write_window

from b2v.evaluate import find_windows
from b2v.media import read_photo, write_photo
from b2v.metrics import psnr


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path):
    """`b2v(*args)` in a folder with the set `set[1]`."""
    write_tiny_cascade(tmp_path / "weights")
    plain_surroundings(monkeypatch, tmp_path, tmp_path / "weights")
    sharp = moving()
    write_window(tmp_path / "set[1]", sharp, sharp.mean(0), sequence="walk", suffix=".jpg")
    write_window(tmp_path / "set[1]", sharp * 0.5, sharp.mean(0), sequence="turn", centre=40)
    return lambda *args: run_main(capsys, *args)


def test_json_has_the_scores_and_those_of_doing_nothing(b2v):
    ran = b2v("eval", "set[1]", "--json", "-q")
    said = json.loads(ran.out)
    assert (ran.code, ran.err, ran.out.count("\n")) == (0, "", 1)
    keys = {"set", "samples", "model", "psnr", "psnr_p", "mean_p", "middle", "ssim_middle"}
    assert set(said) == keys | {"reblur", "motion", "nothing"}
    assert set(said["nothing"]) == {"psnr", "mean", "middle"}
    assert (said["set"], said["samples"], said["model"]) == ("set[1]", 2, "b2v")
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
    for word in ("set[1]: 2 samples", "nothing", "b2v p", "SSIM", "re-blur"):
        assert word in ran.out
    assert ran.err.startswith("1 of 2: ")


def test_set_is_named_after_its_folder(b2v, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path / "set[1]")
    assert json.loads(b2v("eval", ".", "--json").out)["set"] == "set[1]"


@pytest.mark.parametrize("folder", ["nowhere", "weights", "set[1]/sharp"])
def test_folder_without_windows_is_one_line(b2v, folder):
    assert_one_line(b2v("eval", folder), 1, "no windows found")


def test_missing_frame_is_one_line(b2v, tmp_path):
    (tmp_path / "set[1]" / "sharp" / "turn" / "000043.png").unlink()
    assert_one_line(b2v("eval", "set[1]"), 1, "000043.png", "missing")


def test_frame_of_another_size_is_one_line(b2v, tmp_path):
    frame = tmp_path / "set[1]" / "sharp" / "turn" / "000043.png"
    write_photo(make_picture(24, 33), frame, overwrite=True)
    assert_one_line(b2v("eval", "set[1]", "-q"), 1, "000043.png", "size")


def test_wrong_weights_are_one_line(b2v):
    assert_one_line(b2v("eval", "set[1]", "-m", "nobody"), 3, "nobody")
