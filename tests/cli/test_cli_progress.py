"""What `b2v extract` says while it is at work, and after that: no more than there is to say."""

import json
import re

import pytest
import torch
from command_line import JSON_KEYS, plain_surroundings, run_main
from conftest import read_clip
from test_motion import of_disc, texture
from test_pyramid import CPU, Fixed, one_tile

from b2v.cli import options
from b2v.cli.options import Pace
from b2v.defaults import PHOTO_MODEL
from b2v.frames import Tiling
from b2v.inference.images import DEFOCUS, SHARP, pixels_to_run, restore, seconds_for
from b2v.inference.pyramid import planned_pixels
from b2v.media.images import read_photo, write_photo
from b2v.models import PRIOR, Blueprint, Prior
from b2v.models.motion import Motion
from b2v.models.unet import UNetConfig
from b2v.weights.checkpoints import Card, card_entry, file_name, save_network, write_card


def write_tiny_prior(folder):
    """Write a small network that gives its input back, and its card, as the default model."""
    blueprint = Blueprint("unet", UNetConfig(inputs=1, widths=(8, 8, 8), blocks=(1, 1, 1)))
    path = folder / file_name(PHOTO_MODEL, PRIOR)
    save_network(blueprint.build().state_dict(), blueprint, PRIOR, path)
    networks = {PRIOR: card_entry(path)[1]}
    write_card(Card(name=PHOTO_MODEL, license="MIT", networks=networks), folder)


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path):
    """`b2v(*args)` in a folder with `photo.png`, 224 x 160 pixels and sharp."""
    write_tiny_prior(tmp_path / "weights")
    plain_surroundings(monkeypatch, tmp_path, tmp_path / "weights")
    write_photo(texture(160, 224), "photo.png")
    return lambda *args: run_main(capsys, *args)


# How far it is


def test_progress_is_a_line_now_and_then(b2v, monkeypatch):
    monkeypatch.setattr(options.Ticker, "due", lambda _: True)
    ran = b2v("extract", "photo.png")
    first, closing, *_ = ran.err.splitlines()
    assert re.fullmatch(
        r"photo\.png: 20 %, about 0:00:\d\d left", first
    )  # the picture of half the size
    assert "7 frames" in closing  # all of it needs no line of its own
    assert b2v("extract", "photo.png", "--overwrite", "-q").err == ""


def test_no_line_comes_before_ten_seconds(b2v):
    assert "%" not in b2v("extract", "photo.png").err


def test_progress_is_a_bar_on_a_terminal(b2v, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    ran = b2v("extract", "photo.png")
    assert "━" in ran.err
    assert "100 %" in ran.err
    assert "\x1b[3" not in ran.err  # moves of the cursor, but no colors
    assert ran.out == "photo_b2v.mp4\n"
    assert b2v("extract", "photo.png", "--overwrite", "-q").err == ""


def test_time_left_follows_the_pace_so_far(monkeypatch):
    clock = iter([100.0, 110.0])
    monkeypatch.setattr("b2v.cli.options.time.monotonic", lambda: next(clock))
    pace = Pace(1000, percent=True, first=0, started=90.0)
    assert str(pace) == "0 %"
    pace.take(250)  # at 100: 10 s for a quarter
    assert str(pace) == "25 %, about 0:00:20 left"  # at 110, 10 s later


def test_frames_of_an_earlier_run_took_no_time(monkeypatch):
    clock = iter([90.0, 100.0, 100.0])
    monkeypatch.setattr("b2v.cli.options.time.monotonic", lambda: next(clock))
    pace = Pace(1000, started=90.0)
    pace.take(500)
    pace.take(550)
    assert str(pace) == "550 of 1000 frames, 5.0 a second, about 0:01:30 left"


@pytest.mark.parametrize(("height", "width"), [(100, 130), (150, 210), (130, 480), (40, 40)])
def test_network_is_run_on_no_more_pixels_than_planned(height, width):
    prior, run = Prior(Fixed(), Tiling(96, 32)), []
    restore(prior, of_disc(texture(height, width), 2.0), CPU, done=run.append)
    assert 0 < sum(run) <= planned_pixels(prior, height, width)


def test_planned_are_the_tiles_of_all_levels():
    prior = one_tile(Fixed())
    assert planned_pixels(prior, 40, 40) == 40 * 40
    assert planned_pixels(prior, 160, 224) == 160 * 224 + 80 * 112
    assert planned_pixels(Prior(Fixed(), Tiling(100, 20)), 100, 150) == 2 * 100 * 100
    assert pixels_to_run(prior, 160, 224) == planned_pixels(prior, 160, 224)
    assert pixels_to_run(prior, 160, 224, given=True) == 0


# How long it will take


def test_time_of_a_pixel_is_measured_once_and_counts_for_all_levels(monkeypatch):
    monkeypatch.setattr("b2v.inference.images.PROBED", 0)
    clock = iter([10.0, 12.0])
    monkeypatch.setattr("b2v.inference.images.time.perf_counter", lambda: next(clock))
    net = Fixed()
    prior, each = one_tile(net), 2.0 / 128**2
    assert seconds_for(prior, 160, 224, CPU) == each * (160 * 224 + 80 * 112)
    assert seconds_for(prior, 300, 1100, CPU) == each * planned_pixels(prior, 300, 1100)
    assert net.seen == [(128, 128)] * 2  # one to warm up


def test_small_photos_and_given_middle_frames_take_no_time_worth_telling(monkeypatch):
    prior = one_tile(Fixed())
    assert seconds_for(prior, 400, 600, CPU) == 0
    monkeypatch.setattr("b2v.inference.images.PROBED", 1)
    assert seconds_for(prior, 4000, 6000, CPU, given=True) == 0
    assert prior.net.seen == []


def test_announcement_names_the_device_only_when_asked(b2v, monkeypatch):
    monkeypatch.setattr("b2v.inference.images.seconds_for", lambda *_, **__: 83.4)
    told = "photo.png: 224x160 pixels will take about 83 s and "
    ran = b2v("extract", "photo.png", "--precision", "fp32")
    assert re.fullmatch(rf"{told}[\d.]+ GB", ran.err.splitlines()[0])
    ran = b2v("extract", "photo.png", "--precision", "fp32", "--overwrite", "-v")
    assert re.fullmatch(rf"{told}[\d.]+ GB \(cpu fp32\)", ran.err.splitlines()[0])


# What came of it


def test_closing_line_is_plain_and_verbose_tells_by_what(b2v):
    ran = b2v("extract", "photo.png", "--precision", "fp32")
    closing, note = ran.err.splitlines()
    assert re.fullmatch(r"photo\.png: 7 frames of 224x160 in [\d.]+ s", closing)
    assert note == f"photo.png: {SHARP}"
    for flag in ("-v", "--verbose"):
        ran = b2v("extract", "photo.png", "--precision", "fp32", "--overwrite", flag)
        assert f"s (cpu fp32, {PHOTO_MODEL}); they reproduce the photo to " in ran.err
        assert " dB\n" in ran.err


def test_json_has_all_its_keys_and_the_notes(b2v):
    ran = b2v("extract", "photo.png", "--json", "-v")
    assert ran.err == ""
    said = json.loads(ran.out)
    assert set(said) == set(JSON_KEYS)
    assert said["notes"] == [f"photo.png: {SHARP}"]
    assert said["reblur_db"] > 40


def test_photo_out_of_focus_comes_back_as_it_is(b2v, monkeypatch):
    monkeypatch.setattr(Motion, "is_defocus", lambda _: True)
    ran = b2v("extract", "photo.png", "-o", "frames/")
    assert f"photo.png: {DEFOCUS}\n" in ran.err
    photo, frames = read_photo("photo.png").pixels, read_clip("frames").frames
    assert torch.equal(frames, photo.expand(7, -1, -1, -1))
