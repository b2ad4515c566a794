"""Slow motion: even steps of time, whatever the times of the source, also after a stop."""

from fractions import Fraction
from itertools import pairwise
from statistics import median

import av
import pytest
import torch
from test_deblurring import differences, stop_at
from test_interpolation import seen
from torch import nn
from video_samples import FRAMES, UNEVEN, make_video, refused

from b2v.errors import MediaError, UsageError
from b2v.frames import Tiling
from b2v.inference import video_files
from b2v.inference.slow_motion import TICK, SlowMotion, Tempo, tempo_for
from b2v.inference.video_files import Settings, check, deblur_video
from b2v.inference.videos import Deblurrer, Line
from b2v.media.video_reader import TimedFrame, TruncatedVideoError, open_video
from b2v.models import Prior
from b2v.weights.store import LoadedVideoModel

MS = Fraction(1, 1000)


def timed(pixels, pts):
    return TimedFrame(pixels=pixels, pts=pts, duration=40)


def slowed(pictures, tempo, times=None):
    slow = SlowMotion(tempo, MS)
    times = times or [40 * n for n in range(len(pictures))]
    frames = (slow.frames(p, timed(p, t)) for p, t in zip(pictures, times, strict=True))
    return [shown.pixels for some in frames for shown in some]


def pan(count, step=6.0):
    return [seen(step * n, 0).clamp(0, 1) for n in range(count)]


# Times


def test_frames_follow_each_other_without_a_drift():
    tempo = Tempo(Fraction(7), Fraction(30000, 1001))
    ends = [sum(tempo.shown(number)) for number in range(5000)]
    assert [tempo.shown(number)[0] for number in range(1, 5000)] == ends[:-1]
    assert ends[-1] * TICK == 5000 / tempo.rate


@pytest.mark.parametrize(("slower", "frames"), [(2, 9), (4, 17), (2.5, 11), (1, 5), (10, 41)])
def test_any_number_of_times_slower_gives_frames_from_the_first_to_the_last(slower, frames):
    tempo = tempo_for(slower, None, Fraction(25))
    assert len(slowed(pan(5, 1.0), tempo)) == frames


def test_a_rate_changes_how_many_frames_there_are_and_not_how_long_it_lasts():
    tempo = tempo_for(4, 50, Fraction(25))
    assert tempo.slower == 4
    assert len(slowed(pan(3, 1.0), tempo)) == 17


@pytest.mark.parametrize(("slower", "fps"), [(0.5, None), (2000, None), (4, 0.0)])
def test_tempos_that_cannot_be_are_refused(slower, fps):
    refused(UsageError, tempo_for, slower, fps, Fraction(25))


# Motion


def test_every_step_is_like_any_other():
    """A pan of even speed moves as far across the frames of the source as between them."""
    frames = slowed(pan(6), Tempo(Fraction(5), Fraction(25)))
    steps = [float((a - b).abs().mean()) for a, b in pairwise(frames)]
    seams = [s for n, s in enumerate(steps) if n % 5 in (0, 4)]
    within = [s for n, s in enumerate(steps) if n % 5 not in (0, 4)]
    assert median(seams) < 1.5 * median(within)
    assert max(steps) < 2 * median(steps)


def test_frames_of_uneven_times_move_evenly():
    times = [0, 40, 120, 160]
    pictures = [seen(0.15 * t, 0).clamp(0, 1) for t in times]
    even = slowed(pan(5), Tempo(Fraction(2), Fraction(25)))
    uneven = slowed(pictures, Tempo(Fraction(2), Fraction(25)), times)
    assert len(uneven) == len(even) == 9
    inside = (..., slice(24, -24), slice(32, -32))
    for one, other in zip(even, uneven, strict=True):
        assert (one - other)[inside].abs().mean() < 0.02


def test_a_frame_is_held_up_to_a_cut():
    one = seen(0, 0).clamp(0, 1)
    other = (1 - one.flip(2).roll(71, 1)) ** 3
    frames = slowed([one, other], Tempo(Fraction(4), Fraction(25)))
    assert all(torch.equal(frame, one) for frame in frames[:4])
    assert torch.equal(frames[4], other)


def test_what_was_kept_goes_on_bit_for_bit():
    pictures, tempo = pan(4), Tempo(Fraction(5, 2), Fraction(25))
    whole = slowed(pictures, tempo)
    first, second = SlowMotion(tempo, MS), SlowMotion(tempo, MS)
    found = [s for n in (0, 1) for s in first.frames(pictures[n], timed(pictures[n], 40 * n))]
    second.load_state_dict(first.state_dict())
    found += [s for n in (2, 3) for s in second.frames(pictures[n], timed(pictures[n], 40 * n))]
    assert all(torch.equal(a, b.pixels) for a, b in zip(whole, found, strict=True))


# Files


class Same(nn.Module):
    multiple = 8

    def forward(self, picture):
        return picture


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """`slow(name, **settings)` plays `a.mp4` of 12 frames 3 times slower, in pieces of 8."""
    monkeypatch.setattr(video_files, "FRAMES_EACH", 8)
    make_video(tmp_path / "a.mp4", UNEVEN, audio="aac", metadata={"title": "a walk"})
    line = Line(Prior(Same(), Tiling(512, 32)))
    model = LoadedVideoModel("tiny", "0" * 64, "MIT", {}, net=line)
    deblurrer = Deblurrer(weights=line, device="cpu", precision="fp32")

    def slow(name="out.mp4", *, slower=3, **settings):
        chosen = Settings(crf=8, slower=slower, **settings)
        source, target = str(tmp_path / "a.mp4"), str(tmp_path / name)
        check(source, target, chosen, inputs=[source])
        return list(deblur_video(source, target, deblurrer, model, chosen))

    return slow


def streams_of(path):
    with av.open(str(path)) as file:
        return {s.type: float(s.duration * s.time_base) for s in file.streams}


def test_a_video_lasts_longer_and_its_frames_come_at_even_steps(slow, tmp_path):
    last = slow()[-1]
    assert any("3 times slower" in note for note in last.notes)
    assert any("--sound" in line for line in last.lost)
    with open_video(tmp_path / "out.mp4") as reader:
        info = reader.info
        times = [frame.pts * info.time_base for frame in reader]
    assert [s.kind for s in info.streams] == ["video"]
    assert info.tags["title"] == "a walk"
    assert "not evidence" in info.tags["comment"]
    steps = [b - a for a, b in pairwise(times)]
    assert max(steps) - min(steps) <= TICK
    assert float(times[-1]) == pytest.approx(3 * UNEVEN[-1] / 600, abs=float(steps[0]))
    assert len(times) == last.done
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov", "out.webm"])
def test_sound_is_stretched_where_it_is_asked_for(slow, tmp_path, name):
    slow("silent.mp4")
    last = slow(name, sound=True)[-1]
    assert not any("sound" in line for line in last.lost)
    with av.open(str(tmp_path / name)) as file:
        assert [s.type for s in file.streams] == ["video", "audio"]
        (sound,) = file.streams.audio
        samples = sum(frame.samples for frame in file.decode(sound))
        lasts = samples / sound.codec_context.sample_rate
    with av.open(str(tmp_path / "a.mp4")) as file:
        (sound,) = file.streams.audio
        meant = sum(f.samples for f in file.decode(sound)) / sound.codec_context.sample_rate
    assert lasts == pytest.approx(3 * meant, rel=0.1)


def test_sound_that_cannot_be_stretched_is_told_and_costs_no_frame(slow, tmp_path, monkeypatch):
    def fail(*_):
        raise MediaError("a.mp4: the sound could not be stretched (no such filter)")

    monkeypatch.setattr(video_files, "stretch_sound", fail)
    last = slow(sound=True)[-1]
    assert any("could not be stretched" in line for line in last.lost)
    assert set(streams_of(tmp_path / "out.mp4")) == {"video"}


def test_the_blurry_frame_is_held_beside_it(slow, tmp_path):
    last = slow(compare="side")[-1]
    assert last.width == 128
    with open_video(tmp_path / "out.mp4") as reader:
        assert sum(1 for _ in reader) == last.done


@pytest.mark.parametrize("stopped_at", [7, 10])
def test_a_run_that_was_stopped_goes_on_to_the_same_video(slow, tmp_path, monkeypatch, stopped_at):
    slow("whole.mp4")
    with monkeypatch.context() as patch:
        stop_at(patch, stopped_at)
        with pytest.raises(KeyboardInterrupt):
            slow()
    assert not (tmp_path / "out.mp4").exists()
    assert "was interrupted" in refused(UsageError, slow)
    assert "weights or options" in refused(UsageError, slow, resume=True, slower=2)
    reports = slow(resume=True)
    assert reports[0].done % 8 == 0
    assert differences(tmp_path / "out.mp4", tmp_path / "whole.mp4") == []


def test_a_video_that_breaks_off_is_kept_only_on_request(slow, tmp_path):
    make_video(tmp_path / "a.mkv", [100 * number for number in range(FRAMES)])
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    assert "--keep-partial --resume" in refused(TruncatedVideoError, slow)
    last = slow(resume=True, keep_partial=True)[-1]
    assert "truncated after" in last.broken
    assert last.done > 0
