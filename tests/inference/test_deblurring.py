"""Videos from file to file: three threads, the right times, and runs that go on."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_dtb import small_net
from video_samples import FRAMES, UNEVEN, drawing, make_video, refused

from b2v.errors import MediaError, UsageError
from b2v.inference import video_files
from b2v.inference.video_files import (
    WAITING,
    Finished,
    Settings,
    Worker,
    Writing,
    check,
    deblur_video,
    default_name,
)
from b2v.inference.videos import Deblurrer
from b2v.media.segments import SegmentWriter, left_over
from b2v.media.video_reader import VideoReader, open_video
from b2v.weights.store import LoadedVideoModel

PLAIN = Settings(crf=8)
M = 2


@pytest.fixture
def net():
    return small_net(inputs=2 * M + 1)


@pytest.fixture
def restore(tmp_path, net, monkeypatch):
    """`restore(name, **settings)` deblurs `a.mp4` of 12 frames in pieces of 5."""
    monkeypatch.setattr(video_files, "FRAMES_EACH", 5)
    make_video(tmp_path / "a.mp4", UNEVEN, audio="aac")
    model = LoadedVideoModel("tiny", "0" * 64, "MIT", {}, net=net)
    deblurrer = Deblurrer(weights=net, device="cpu", precision="fp32")

    def restore(name="out.mp4", *, model=model, **settings):
        chosen = replace(PLAIN, **settings)
        source, target = str(tmp_path / "a.mp4"), str(tmp_path / name)
        check(source, target, chosen, inputs=[source])
        return list(deblur_video(source, target, deblurrer, model, chosen))

    return restore


def read(path):
    with open_video(path) as reader:
        return [(frame.pts, frame.pixels) for frame in reader]


def differences(one, other):
    """Say which frames of two videos differ."""
    pairs = enumerate(zip(read(one), read(other), strict=True))
    return [
        f"frame {number}: at {a} and {b}, up to {float((p - q).abs().max()):.3g} apart"
        for number, ((a, p), (b, q)) in pairs
        if a != b or not torch.equal(p, q)
    ]


def stop_at(monkeypatch, count, pieces=0, folder=Path()):
    """Interrupt with the frame after `count`, when so many pieces are closed in `folder`."""
    step, taken = Deblurrer.step, [0]

    def stopping(self, frame):
        taken[0] += 1
        if taken[0] > count:
            late = time.monotonic() + 60
            while len(list(folder.glob("*_*.mp4"))) < pieces and time.monotonic() < late:
                time.sleep(0.01)
            raise KeyboardInterrupt
        return step(self, frame)

    monkeypatch.setattr(Deblurrer, "step", stopping)


# Threads


def test_a_worker_does_one_thing_after_the_other_and_nothing_after_one_that_fails():
    worker, done = Worker("test"), []

    def fail():
        raise ValueError("broken")

    futures = [worker.submit(do) for do in (lambda: done.append(1), fail, lambda: done.append(2))]
    assert worker.ends(patient=True)
    assert done == [1]
    assert futures[0].result() is None
    for future in futures[1:]:
        with pytest.raises(ValueError, match="broken"):
            future.result()


def test_a_worker_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(video_files, "PATIENCE", 0.1)
    worker, hangs = Worker("test"), threading.Event()
    worker.submit(hangs.wait)
    assert not worker.ends(patient=False)
    hangs.set()


def test_reading_the_network_and_writing_overlap(restore, monkeypatch):
    """The reader waits in frame 9, the network in 7 and the writer in 3, until all three do."""
    together = threading.Barrier(3, timeout=60)
    calls = {"read": 0, "step": 0, "write": 0}

    def meet(where, number):
        calls[where] += 1
        if calls[where] == number:
            together.wait()

    frames, step, write = VideoReader.__iter__, Deblurrer.step, SegmentWriter.write

    def read_and_meet(self):
        for frame in frames(self):
            meet("read", 9)
            yield frame

    monkeypatch.setattr(VideoReader, "__iter__", read_and_meet)
    monkeypatch.setattr(Deblurrer, "step", lambda *args: meet("step", 7) or step(*args))
    monkeypatch.setattr(SegmentWriter, "write", lambda *args: meet("write", 3) or write(*args))
    assert restore()[-1].done == FRAMES
    assert calls == {"read": FRAMES, "step": FRAMES, "write": FRAMES}


def test_no_more_frames_are_held_than_wait_for_threads(restore, monkeypatch):
    frames, write, counts = VideoReader.__iter__, SegmentWriter.write, {"read": 0, "most": 0}

    def counted(self):
        for frame in frames(self):
            counts["read"] += 1
            yield frame

    def slow(self, *args):
        time.sleep(0.02)
        write(self, *args)
        counts["most"] = max(counts["most"], counts["read"] - len(self.timestamps))

    monkeypatch.setattr(VideoReader, "__iter__", counted)
    monkeypatch.setattr(SegmentWriter, "write", slow)
    restore()
    assert counts["most"] <= 2 * WAITING + M + 3  # and one in each hand


@pytest.mark.parametrize("where", ["read", "network", "write"])
@pytest.mark.parametrize("error", [MediaError("it burns"), ZeroDivisionError("a bug")])
def test_what_goes_wrong_in_any_thread_is_raised_here(restore, tmp_path, monkeypatch, where, error):
    def fail(*_):
        raise error

    def fail_later(self):
        yield from [self._next for _ in ()]
        raise error

    if where == "read":
        monkeypatch.setattr(VideoReader, "__iter__", fail_later)
    elif where == "network":
        monkeypatch.setattr(Deblurrer, "step", fail)
    else:
        monkeypatch.setattr(SegmentWriter, "write", fail)
    with pytest.raises(type(error), match=str(error)):
        restore()
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
    assert not [t for t in threading.enumerate() if t.name.startswith("b2v")]


def test_leaving_early_ends_the_threads(restore, tmp_path, net):
    model = LoadedVideoModel("tiny", "0" * 64, "MIT", {}, net=net)
    deblurrer = Deblurrer(weights=net, device="cpu", precision="fp32")
    source, target = str(tmp_path / "a.mp4"), str(tmp_path / "out.mp4")
    reports = deblur_video(source, target, deblurrer, model, PLAIN)
    next(reports)
    next(reports)
    reports.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("b2v")]
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


# What is written


def test_every_frame_is_what_the_network_makes_at_the_time_of_the_blurry_one(
    restore, tmp_path, net
):
    reports = restore(crf=1, pix_fmt="yuv444p")
    blurry = read(tmp_path / "a.mp4")
    meant = Deblurrer(weights=net, device="cpu", precision="fp32").run(p for _, p in blurry)
    restored = read(tmp_path / "out.mp4")
    assert [pts for pts, _ in restored] == [pts for pts, _ in blurry]
    for (_, pixels), expected in zip(restored, meant, strict=True):
        assert (pixels - expected).abs().mean() < 2 / 255
    assert (restored[5][1] - blurry[5][1]).abs().mean() > 0.01
    done = [report.done for report in reports]
    assert done == sorted(done)
    assert (done[0], done[-1], reports[0].total) == (0, FRAMES, FRAMES)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_video_shorter_than_the_look_ahead_is_whole(restore, tmp_path, count):
    make_video(tmp_path / "a.mp4", UNEVEN[:count])
    assert restore()[-1].done == count
    assert len(read(tmp_path / "out.mp4")) == count


# Going on


@pytest.mark.parametrize(
    ("stop", "compare"), [(1, None), (7, None), (8, "side"), (11, None), (11, "stack")]
)
def test_a_stopped_run_goes_on_to_the_same_video(restore, tmp_path, monkeypatch, stop, compare):
    restore("whole.mp4", compare=compare)
    pieces = max(0, stop - M) // 5
    with monkeypatch.context() as patch:
        stop_at(patch, stop, pieces, tmp_path / ".out.mp4.b2v")
        with pytest.raises(KeyboardInterrupt):
            restore(compare=compare)
    assert left_over(tmp_path / "out.mp4") == bool(pieces)
    assert not (tmp_path / "out.mp4").exists()
    reports = restore(compare=compare, resume=True)
    assert reports[0].done == 5 * pieces
    assert differences(tmp_path / "out.mp4", tmp_path / "whole.mp4") == []
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("closed", [False, True])
def test_a_run_that_stopped_before_the_last_step_goes_on(restore, tmp_path, monkeypatch, closed):
    restore("whole.mp4")

    def stop(writer, *_, **__):
        if closed:
            writer.close()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(video_files, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            restore()
    assert restore(resume=True)[0].done == (FRAMES if closed else 10)
    assert differences(tmp_path / "out.mp4", tmp_path / "whole.mp4") == []


def test_a_run_can_be_stopped_and_gone_on_with_twice(restore, tmp_path, monkeypatch):
    monkeypatch.setattr(video_files, "FRAMES_EACH", 3)
    restore("whole.mp4")
    for pieces, steps in ((1, 5), (2, 4)):
        with monkeypatch.context() as patch:
            stop_at(patch, steps, pieces, tmp_path / ".out.mp4.b2v")
            with pytest.raises(KeyboardInterrupt):
                restore(resume=pieces > 1)
    assert restore(resume=True)[0].done == 6
    assert differences(tmp_path / "out.mp4", tmp_path / "whole.mp4") == []


def test_damage_to_what_was_left_is_told(restore, tmp_path, monkeypatch):
    folder = tmp_path / ".out.mp4.b2v"
    with monkeypatch.context() as patch:
        stop_at(patch, 8, 1, folder)
        with pytest.raises(KeyboardInterrupt):
            restore()
    (state,) = folder.glob("*.state")
    for content in (b"cut", b""):
        state.write_bytes(content)
        assert "damaged; start over with --overwrite" in refused(UsageError, restore, resume=True)
    state.unlink()
    assert "damaged; start over with --overwrite" in refused(UsageError, restore, resume=True)
    assert restore(overwrite=True)[0].done == 0


# Names and places


@pytest.mark.parametrize(
    ("source", "codec", "name"),
    [
        ("walk.mp4", None, "walk_deblurred.mp4"),
        ("WALK.MOV", None, "WALK_deblurred.MOV"),
        ("walk.webm", None, "walk_deblurred.webm"),
        ("walk.webm", "h264", "walk_deblurred.mkv"),
        ("walk.avi", None, "walk_deblurred.mkv"),
        ("walk.ts", "prores", "walk_deblurred.mkv"),
        ("walk.gif", None, "walk_deblurred.mp4"),
        ("walk", None, "walk_deblurred.mkv"),
    ],
)
def test_the_name_has_the_suffix_of_the_source_where_that_can_be_written(source, codec, name):
    assert default_name(Path(source), codec) == name


@pytest.mark.parametrize(
    ("target", "settings", "said"),
    [
        ("-", {"resume": True}, "--resume is for files"),
        ("-", {"codec": "prores"}, "h264 or vp9"),
        ("b.mov", {"codec": "prores", "crf": 3}, "has no --crf"),
        ("b.webm", {"codec": "h264"}, "cannot hold h264"),
    ],
)
def test_options_that_contradict_each_other_are_refused(target, settings, said):
    assert said in refused(UsageError, check, "a.mp4", target, Settings(**settings))


def test_writing_saves_the_state_of_the_last_closed_piece(tmp_path):
    with open_video(make_video(tmp_path / "a.mp4")) as reader:
        info = reader.info
    writer = SegmentWriter(tmp_path / "b.mp4", info, each=2, keep=True)
    with Writing(writer) as writing:
        for number in range(5):
            state = {"number": torch.tensor(number)} if number % 2 else None
            writing.put(Finished(drawing(number), 256 * number, 256, state))
        assert list(writing.drain())[-1:] in ([], [5])
        assert writing.done == 5
    saved = writer.folder / "000003.state"
    assert torch.load(saved, weights_only=True) == {"number": torch.tensor(3)}
