"""`b2v slowmo`, and `--frames` of `b2v extract`, through `main()` on real files."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import (
    assert_one_line,
    names_in,
    plain_surroundings,
    run_main,
    write_tiny_prior,
)
from conftest import read_clip
from video_samples import make_video

from b2v.cli import options
from b2v.defaults import QUALITY, VIDEO_MODELS
from b2v.frames import COUNTS
from b2v.media.images import write_photo
from b2v.media.video_reader import open_video

SHOWN = [0, 20, 40, 60]


@pytest.fixture
def b2v(capsys, monkeypatch, tmp_path):
    write_tiny_prior(tmp_path / "weights")
    write_tiny_prior(tmp_path / "weights", "unet")
    (tmp_path / "work").mkdir()
    plain_surroundings(monkeypatch, tmp_path / "work", tmp_path / "weights")
    make_video("walk.mp4", SHOWN, audio="aac")
    return lambda *args: run_main(capsys, *args)


def test_a_blurry_video_becomes_slow_motion_beside_it(b2v):
    ran = b2v("slowmo", "walk.mp4")
    assert (ran.code, ran.out) == (0, "walk_slow.mp4\n")
    assert "13 frames of 64x48" in ran.err
    assert "4 times slower" in ran.err
    assert "--sound" in ran.err
    with open_video("walk_slow.mp4") as video:
        assert video.info.average_rate == 30
        assert len(list(video)) == 13
    assert names_in(".") == ["walk.mp4", "walk_slow.mp4"]


def test_its_speed_rate_and_part_can_be_asked_for(b2v):
    ran = b2v(
        *("slowmo", "walk.mp4", "-o", "out.mkv", "--slower", 2.5, "--fps", 60, "--preview", 0.1),
        *("--codec", "vp9", "--sound", "--json"),
    )
    said = json.loads(ran.out)
    assert (said["ok"], said["frames"], said["slower"], said["lost"]) == (True, 11, 2.5, [])
    assert said["model"]["name"] == said["provenance"]["model"] == VIDEO_MODELS[QUALITY]
    assert any("played 2.5 times slower" in note for note in said["notes"])
    with open_video("out.mkv") as video:
        times = [float(frame.pts * video.info.time_base) for frame in video]
        assert video.info.codec == "vp9"
        assert [s.kind for s in video.info.streams] == ["video", "audio"]
    assert times == pytest.approx([n / 60 for n in range(11)], abs=1e-3)


def test_a_comparison_a_strip_and_a_page_are_written_beside_it(b2v):
    ran = b2v(
        *("slowmo", "walk.mp4", "-o", "out.mp4", "--slower", 3, "--compare", "stack"),
        *("--filmstrip", "strip.png", "--html", "page.html", "-q"),
    )
    assert ran.code == 0
    with open_video("out.mp4") as video:
        assert (video.info.width, video.info.height) == (64, 96)
    assert names_in(".") == ["out.mp4", "page.html", "strip.png", "walk.mp4"]
    assert b2v("slowmo", "walk.mp4", "-o", "b.mp4", "--html", "b.html", "-q").code == 0
    assert "13 frames of 64×48" in Path("b.html").read_text()


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("none.mp4",), 1, ["none.mp4", "no such file"]),
        (("walk.mp4", "--slower", "0.5"), 2, ["--slower", "equal to 1"]),
        (("walk.mp4", "-o", "walk.mp4"), 2, ["is the input"]),
        (("walk.mp4", "-o", "walk.gif"), 2, ["unknown suffix"]),
        (("-",), 2, ["from file to file"]),
        (("walk.mp4", "-o", "-"), 2, ["from file to file"]),
        (("walk.mp4", "--end", "1", "--preview", "1"), 2, ["--preview and --end"]),
        (("walk.mp4", "-m", "none"), 3, ["none"]),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_in_a_line_and_leaves_nothing(b2v, args, code, words):
    assert_one_line(b2v("slowmo", *args), code, *words)
    assert names_in(".") == ["walk.mp4"]


def test_what_exists_is_replaced_only_on_request(b2v):
    assert b2v("slowmo", "walk.mp4", "-q").code == 0
    assert_one_line(b2v("slowmo", "walk.mp4"), 2, "walk_slow.mp4", "--overwrite")
    with open_video("walk_slow.mp4") as video:
        assert "not evidence" in video.info.tags["comment"]
    ran = b2v("slowmo", "walk.mp4", "--overwrite", "-q", "--strip-metadata")
    assert (ran.code, ran.err) == (0, "walk.mp4: sound left out; --sound keeps it, stretched\n")
    with open_video("walk_slow.mp4") as video:
        assert "comment" not in video.info.tags


def test_a_folder_of_videos_becomes_one_of_slow_motion(b2v):
    Path("films/deep").mkdir(parents=True)
    for name in ("a.mp4", "deep/b.mp4"):
        shutil.copy("walk.mp4", Path("films", name))
    Path("films/c.mp4").write_text("no video")
    meant = ["slow/a_slow.mp4", "slow/deep/b_slow.mp4"]
    ran = b2v("slowmo", "films", "-r", "-o", "slow", "-q")
    assert (ran.code, ran.out.split()) == (4, meant)
    assert "c.mp4" in ran.err
    Path("films/c.mp4").unlink()
    assert b2v("slowmo", "films/a.mp4", "-q").out == "films/a_slow.mp4\n"
    ran = b2v("slowmo", "films", "-r", "-o", "slow", "--skip-existing", "--json")
    said = [json.loads(line) for line in ran.out.splitlines()]
    assert [(one["output"], one["skipped"]) for one in said] == [(path, True) for path in meant]
    ran = b2v("slowmo", "films", "-r", "--shard", "2/2", "-n")
    assert ran.out == "films/deep/b.mp4 -> films/deep/b_slow.mp4\n"


@pytest.mark.parametrize("count", COUNTS)
def test_as_many_frames_as_asked_for_come_of_a_photo(b2v, picture, count):
    write_photo(picture, "photo.png")
    seven = json.loads(b2v("extract", "photo.png", "-o", "7.mp4", "--json").out)
    said = json.loads(
        b2v("extract", "photo.png", "-o", "out.webp", "--frames", count, "--json").out
    )
    assert said["frames"] == len(read_clip("out.webp")) == count
    assert said["reblur_db"] == pytest.approx(seven["reblur_db"], abs=0.02)


def test_the_numbers_of_frames_of_commands_are_those_of_the_core(b2v, picture):
    assert options.COUNTS == COUNTS
    write_photo(picture, "photo.png")
    assert_one_line(b2v("extract", "photo.png", "--frames", 8), 2, "--frames 8", "5, 7, 9, 11, 13")
