"""`b2v demo`: the bundled photo becomes a clip in the folder where it is typed."""

from importlib.resources import files
from pathlib import Path

import pytest
from test_cli_extract import (
    assert_one_line,
    listing,
    names_in,
    plain_surroundings,
    run_main,
    write_tiny_cascade,
)
from test_inference import needs_shipped_weights

from b2v.media import read_clip, read_photo

MADE = ["b2v_demo.jpg", "b2v_demo.mp4"]


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path):
    """`b2v(*args)` in an empty folder."""
    write_tiny_cascade(tmp_path / "weights")
    (tmp_path / "here").mkdir()
    plain_surroundings(monkeypatch, tmp_path / "here", tmp_path / "weights")
    return lambda *args: run_main(capsys, *args)


def test_demo_makes_a_clip_and_leaves_the_photo_beside_it(b2v):
    ran = b2v("demo")
    assert (ran.code, ran.out) == (0, "b2v_demo.mp4\n")
    assert "they explain the photo to" in ran.err
    assert names_in(".") == MADE
    photo = read_photo("b2v_demo.jpg").pixels
    assert read_clip("b2v_demo.mp4").frames.shape == (7, *photo.shape)


def test_demo_overwrites_only_when_asked(b2v):
    b2v("demo")
    Path("b2v_demo.jpg").write_bytes(b"mine")
    before = listing(".")
    assert_one_line(b2v("demo"), 2, "b2v_demo.mp4", "exists already")
    assert listing(".") == before
    assert b2v("demo", "--overwrite").code == 0
    assert len(read_photo("b2v_demo.jpg").pixels) == 3


def test_demo_leaves_nothing_half_done(b2v):
    Path("b2v_demo.mp4").write_text("mine")
    before = listing(".")
    assert_one_line(b2v("demo"), 2, "exists already")
    assert listing(".") == before


def test_bundled_photo_is_small_and_credited():
    assets = files("b2v") / "assets"
    assert len((assets / "demo.jpg").read_bytes()) < 100_000
    assert "demo.jpg" in (assets / "CREDITS.md").read_text()


@needs_shipped_weights
def test_demo_explains_its_photo_with_the_shipped_weights(b2v, monkeypatch):
    monkeypatch.delenv("B2V_WEIGHTS_DIR")
    ran = b2v("demo")
    assert (ran.code, names_in(".")) == (0, MADE)
    assert float(ran.err.split()[-2]) > 25
    frames = read_clip("b2v_demo.mp4").frames
    assert (frames[0] - frames[-1]).abs().mean() > 0.01
