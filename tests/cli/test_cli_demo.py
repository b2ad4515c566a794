"""`b2v demo`: the bundled photo and video, restored in the folder where it is typed, and shown."""

from importlib.resources import files
from pathlib import Path

import av
import pytest
from command_line import (
    assert_one_line,
    listing,
    names_in,
    plain_surroundings,
    run_main,
    write_tiny_prior,
)
from conftest import read_clip
from test_cli_deblur import write_tiny_dtb
from test_inference import needs_shipped_weights
from video_samples import FRAMES, make_video

from b2v.cli import demo
from b2v.defaults import VIDEO_MODEL
from b2v.media.images import center, read_photo, write_photo
from b2v.metrics import psnr, reblur

INPUTS = ["b2v_demo.jpg", "b2v_demo_video.mp4"]
SIDE = 192
MADE = sorted([*INPUTS, "b2v_demo.mp4", "b2v_demo.html"])


@pytest.fixture
def opened(monkeypatch):
    """What is opened in the browser."""
    addresses = []
    monkeypatch.setattr(demo.webbrowser, "open", addresses.append)
    return addresses


@pytest.fixture
def small(monkeypatch, tmp_path):
    """What is bundled, but smaller: the middle of the photo, and a video of a few frames."""
    assets = tmp_path / "package" / "assets"
    assets.mkdir(parents=True)
    photo = read_photo(files("b2v") / "assets" / "demo.jpg").pixels
    write_photo(center(photo, SIDE), assets / "demo.jpg")
    make_video(assets / "demo_video.mp4")
    monkeypatch.setattr(demo, "files", lambda _: tmp_path / "package")


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path, opened, small):
    """`b2v(*args)` in an empty folder, with weights for photos and none for videos."""
    write_tiny_prior(tmp_path / "weights")
    (tmp_path / "here").mkdir()
    plain_surroundings(monkeypatch, tmp_path / "here", tmp_path / "weights")
    return lambda *args: run_main(capsys, *args)


@pytest.fixture
def _no_weights_for_videos(monkeypatch, tmp_path):
    folders = [("environment", tmp_path / "weights")]
    monkeypatch.setattr("b2v.weights.store.card_folders", lambda: folders)


@pytest.mark.usefixtures("_no_weights_for_videos")
def test_demo_makes_a_clip_and_a_page_and_leaves_the_inputs_beside_them(b2v, opened):
    ran = b2v("demo")
    assert (ran.code, ran.out) == (0, "b2v_demo.mp4\nb2v_demo.html\n")
    assert "b2v_demo.jpg: 7 frames of 192x192 in " in ran.err
    assert names_in(".") == MADE
    photo = read_photo("b2v_demo.jpg").pixels
    assert read_clip("b2v_demo.mp4").frames.shape == (7, *photo.shape)
    page = Path("b2v_demo.html").read_text()
    assert (page.count('class="scene"'), page.count('class="after"')) == (1, 7)
    assert opened == []  # nobody sits at a terminal here
    lines = ran.err.splitlines()  # without weights for videos, that is said in one
    assert sum("b2v_demo_video.mp4" in line for line in lines) == 1
    assert "no model 'blend'" in lines[-1]


def test_with_weights_for_videos_the_video_is_restored_and_shown_too(b2v, tmp_path):
    write_tiny_dtb(tmp_path / "weights", VIDEO_MODEL)
    ran = b2v("demo")
    restored = "b2v_demo_video_deblurred.mp4"
    assert (ran.code, ran.out) == (0, f"b2v_demo.mp4\n{restored}\nb2v_demo.html\n")
    assert names_in(".") == sorted([*MADE, restored])
    assert len(read_clip(restored)) == FRAMES
    with av.open(restored) as file:
        assert file.metadata["comment"].startswith("estimated, not evidence")
    page = Path("b2v_demo.html").read_text()
    assert page.count('class="scene"') == 2
    assert page.count('class="after"') == 7 + FRAMES
    assert page.count('class="before"') == 1 + FRAMES


@pytest.mark.usefixtures("_no_weights_for_videos")
def test_the_page_is_opened_at_a_terminal_with_a_screen_only(b2v, monkeypatch, opened):
    monkeypatch.setattr(demo, "_has_desktop", lambda: True)
    assert b2v("demo").code == 0
    assert opened == [Path("b2v_demo.html").resolve().as_uri()]


@pytest.mark.parametrize(("screen", "terminal"), [(True, True), (True, False), (False, True)])
def test_a_desktop_is_a_terminal_and_a_screen(monkeypatch, screen, terminal):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if screen:
        monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    monkeypatch.setattr(demo.sys, "platform", "linux")
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(getattr(demo.sys, stream), "isatty", lambda: terminal)
    assert demo._has_desktop() == (screen and terminal)


@pytest.mark.parametrize("name", ["b2v_demo.mp4", "b2v_demo.html", "b2v_demo_video_deblurred.mp4"])
def test_demo_leaves_nothing_half_done(b2v, name):
    Path(name).write_text("mine")
    before = listing(".")
    assert_one_line(b2v("demo"), 2, name, "exists already")
    assert listing(".") == before


@pytest.mark.usefixtures("_no_weights_for_videos")
def test_demo_overwrites_and_opens_only_as_it_is_asked(b2v, monkeypatch, opened):
    monkeypatch.setattr(demo, "_has_desktop", lambda: True)
    Path("b2v_demo.jpg").write_bytes(b"mine")
    assert b2v("demo").code == 1
    assert Path("b2v_demo.jpg").read_bytes() == b"mine"
    assert b2v("demo", "--overwrite", "--no-open").code == 0
    assert opened == []
    assert len(read_photo("b2v_demo.jpg").pixels) == 3


def test_bundled_files_are_small_and_credited():
    assets = files("b2v") / "assets"
    assert read_photo(assets / "demo.jpg").pixels.shape == (3, 400, 400)
    credits_ = (assets / "CREDITS.md").read_text()
    for name, most in (("demo.jpg", 100_000), ("demo_video.mp4", 150_000)):
        assert len((assets / name).read_bytes()) < most
        assert f"`{name}`" in credits_


@needs_shipped_weights
def test_demo_explains_its_photo_with_the_shipped_weights(b2v, tmp_path):
    for path in (tmp_path / "weights").iterdir():
        path.unlink()
    write_tiny_dtb(tmp_path / "weights", VIDEO_MODEL)  # the photo alone is what this is about
    ran = b2v("demo")
    assert ran.code == 0
    assert set(MADE) <= set(names_in("."))
    frames = read_clip("b2v_demo.mp4").frames
    assert psnr(reblur(frames), read_photo("b2v_demo.jpg").pixels) > 25
    assert (frames[0] - frames[-1]).abs().mean() > 0.01
