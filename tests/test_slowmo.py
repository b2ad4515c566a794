"""Slow motion: pictures that run on, frames at the right times, runs that go on."""

import random
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from test_deblurring import same
from test_direction import LEFT, filmed
from video_samples import FRAMES, UNEVEN, make_video, refused

from b2v.errors import UsageError
from b2v.inference import slow_motion as run
from b2v.inference.runtime import Runtime
from b2v.inference.slow_motion import (
    Neighbours,
    Tempo,
    join,
    slow_motion,
    tempo_for,
    with_neighbours,
)
from b2v.inference.video_files import Settings, check
from b2v.media import TruncatedVideoError, open_video
from b2v.media.segments import left_over
from b2v.metrics import reblur
from b2v.weights import LoadedModel

FP32 = Runtime(torch.device("cpu"), "fp32")


def film(pictures, **motion):
    """Sharp frames [pictures, 7, 3, 96, 128] of a scene that moves on without a stop."""
    return filmed(frames=7 * pictures, **motion)[: 7 * pictures].unflatten(0, (pictures, 7))


def joined(sharp, guesses):
    """Join what was guessed of each picture; the pictures are the light of the sharp frames."""
    blurry = [reblur(seven) for seven in sharp]
    around = (Neighbours(*near) for near in with_neighbours(blurry))
    return torch.stack([join(g, near) for g, near in zip(guesses, around, strict=True)])


def wrong(frames, truth):
    return (frames - truth).square().mean() / (truth.flip(1) - truth).square().mean()


# Directions


def test_each_picture_is_seen_between_its_neighbours():
    assert list(with_neighbours("abc")) == [(None, "a", "b"), ("a", "b", "c"), ("b", "c", None)]
    assert list(with_neighbours("a")) == [(None, "a", None)]
    assert list(with_neighbours("")) == []


@pytest.mark.parametrize(
    "motion",
    [{"right": 0.8}, {"right": -0.3, "down": 0.5}, {"roll": 0.01}, {"zoom": 0.01}],
    ids=str,
)
def test_pictures_that_run_backwards_are_turned_round(motion):
    truth, guess = film(5, **motion), random.Random(1)
    guesses = [seven.flip(0) if guess.random() < 0.5 else seven for seven in truth]
    assert wrong(torch.stack(guesses), truth) > 0.3
    assert wrong(joined(truth, guesses), truth) < 0.05


def test_parts_of_a_picture_are_turned_on_their_own():
    left, right = film(3, right=0.8), film(3, right=-0.8, seed=5)
    truth = torch.where(LEFT, left, right)
    guesses = torch.where(LEFT, left, right.flip(1))
    assert wrong(joined(truth, guesses), truth) < 0.15 * wrong(guesses, truth)


def test_frames_that_show_too_little_motion_are_turned_too():
    """Networks under-estimate motion: a tenth of it is enough to tell its direction."""
    truth = film(3, right=0.8)
    little = truth[:, 3:4] + 0.1 * (truth - truth[:, 3:4])
    turned_round = joined(truth, little.flip(1))
    assert wrong(turned_round, truth) < wrong(little.flip(1), truth)
    assert (turned_round - little).abs().mean() < 0.1 * (little.flip(1) - little).abs().mean()


def test_a_change_of_light_between_pictures_does_not_matter():
    truth = film(3, right=0.8)
    light = torch.tensor([0.7, 0.85, 1.0])[:, None, None, None]
    blurry = torch.stack([reblur(seven) for seven in truth]) * light
    around = Neighbours(*blurry)
    frames = light[1] * truth[1]
    assert wrong(join(frames.flip(0), around)[None], frames[None]) < 0.1


@pytest.mark.parametrize("side", [0, 2])
def test_a_neighbour_across_a_cut_does_not_count(side):
    truth = film(3, right=0.5)
    blurry = [reblur(seven) for seven in truth]
    blurry[side] = 1 - blurry[side].flip(-1)
    assert wrong(join(truth[1].flip(0), Neighbours(*blurry))[None], truth[1:2]) < 0.1


def test_a_picture_alone_is_left_as_it_is():
    frames = filmed(right=1.0)
    assert join(frames, Neighbours(None, reblur(frames), None)) is frames


# Times


def test_frames_follow_each_other_at_even_steps_without_a_drift():
    tick, rate = Fraction(1, 30000), Fraction(30000, 1001)
    tempo = tempo_for(rate, 7, None)
    ends = 0
    for number in range(2000):
        times = tempo.times(1001 * number, 1001, tick)
        assert times[0][0] == ends
        assert {lasts for _, lasts in times} == {4004}
        ends = sum(times[-1])
    assert ends * run.TICK == 2000 * 7 / rate


def test_what_is_shown_at_uneven_times_stays_uneven():
    times = Tempo(5, Fraction(5)).times(100, 40, Fraction(1, 600))
    assert [start * run.TICK for start, _ in times] == [
        Fraction(500 + 40 * k, 600) for k in range(5)
    ]


@pytest.mark.parametrize(("frames", "duty", "last"), [(7, 0.5, 8), (9, 7 / 9, 1), (5, 1.0, 3)])
def test_the_time_that_the_shutter_is_shut_is_left_to_the_last_frame(frames, duty, last):
    times = Tempo(frames, Fraction(1), duty).times(0, 840, Fraction(1, 25200))
    steps = [lasts for _, lasts in times]
    assert max(steps[:-1]) - min(steps[:-1]) <= 1
    assert steps[-1] / steps[0] == pytest.approx(last, abs=0.02)
    assert sum(steps) * run.TICK == pytest.approx(1 / 30, abs=1e-5)


def test_a_rate_says_how_slow_it_is():
    assert tempo_for(Fraction(30), 7, 210).slower == 1
    assert tempo_for(Fraction(30), 9, None).slower == 9
    assert tempo_for(None, 7, 25).slower == 7


@pytest.mark.parametrize(("frames", "duty"), [(8, None), (9, 0.8), (7, 0.0)])
def test_times_that_cannot_be_are_refused(frames, duty):
    refused(UsageError, Tempo, frames, Fraction(1), duty)


# Files


class Rolled:
    """A net whose frames are the picture, moved to the side."""

    multiple = 4

    def __call__(self, blurry, *, frames=7):
        return torch.stack([blurry.roll(k, -1) for k in range(-(frames // 2), frames // 2 + 1)], 1)


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """`slow(name, **settings)` slows `a.mp4` of 12 pictures down, in pieces of 2 of them."""
    monkeypatch.setattr(run, "FRAMES_EACH", 15)
    make_video(tmp_path / "a.mp4", UNEVEN, audio="aac", metadata={"title": "a walk"})
    model = LoadedModel(name="tiny", sha256="0" * 64, licence="MIT", networks={}, net=Rolled())

    def slow(name="out.mp4", *, frames=7, fps=None, **settings):
        chosen = Settings(crf=8, **settings)
        source, target = str(tmp_path / "a.mp4"), str(tmp_path / name)
        check(source, target, chosen, inputs=[source])
        return list(slow_motion(source, target, model, FP32, chosen, frames=frames, fps=fps))

    return slow


def test_a_video_becomes_seven_times_as_long_and_loses_only_its_sound(slow, tmp_path):
    last = slow()[-1]
    assert (last.done, last.width, last.height) == (7 * FRAMES, 64, 48)
    assert any("7 times slower" in note for note in last.notes)
    assert any("sound left out" in line for line in last.lost)
    with open_video(tmp_path / "out.mp4") as reader:
        times = [frame.pts * reader.info.time_base for frame in reader]
        assert [s.kind for s in reader.info.streams] == ["video"]
        assert reader.info.tags["title"] == "a walk"
        assert "estimates and no evidence" in reader.info.tags["comment"]
    assert times[::7] == [Fraction(7 * time, 600) for time in UNEVEN]
    steps = [b - a for a, b in pairwise(times[:8])]
    assert max(steps) - min(steps) <= run.TICK
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("stopped_at", [3, 9])
def test_a_run_that_was_stopped_goes_on_to_the_same_video(slow, tmp_path, monkeypatch, stopped_at):
    slow("whole.mp4")
    calls, work = [0], run.restore

    def stop(*args, **options):
        calls[0] += 1
        if calls[0] > stopped_at:
            raise KeyboardInterrupt
        return work(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(run, "restore", stop)
        with pytest.raises(KeyboardInterrupt):
            slow()
    assert left_over(tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    assert "stopped on its way" in refused(UsageError, slow)
    assert "other options" in refused(UsageError, slow, resume=True, frames=9)
    reports = slow(resume=True)
    assert reports[0].done >= 14 * ((stopped_at - 2) // 2)
    assert same(tmp_path / "out.mp4", tmp_path / "whole.mp4")


def test_a_video_that_breaks_off_is_kept_only_on_request(slow, tmp_path):
    make_video(tmp_path / "a.mkv", [100 * number for number in range(FRAMES)])
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    assert "--keep-partial --resume" in refused(TruncatedVideoError, slow)
    last = slow(resume=True, keep_partial=True)[-1]
    assert "breaks off" in last.broken
    assert 0 < last.done < 7 * FRAMES
    assert last.done % 7 == 0
