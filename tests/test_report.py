"""Tables, charts and strips: what is in the files, and which pictures are kept."""

import csv

import pytest
import torch

from b2v.errors import UsageError
from b2v.media.images import read_photo
from b2v.report import (
    Chart,
    Extremes,
    chart_of,
    check_chart,
    draw_chart,
    write_csv,
)

GREY = torch.full((3, 16, 20), 0.5)


def fill(extremes, gains):
    """Offer samples named by their gains; return which were drawn."""
    drawn = []
    for gain in gains:
        extremes.offer(gain, f"{gain}", lambda g=gain: drawn.append(g) or GREY)
    return drawn


def test_the_best_and_the_worst_are_kept_and_numbered_from_the_outside(tmp_path):
    extremes = Extremes(2)
    fill(extremes, [0.5, -1.0, 3.0, 0.1, 2.0, -0.25, 0.4])
    written = [path.name for path in extremes.write(tmp_path / "strips")]
    assert written == [
        "best-1_+3.00dB_3.0.png",
        "best-2_+2.00dB_2.0.png",
        "worst-1_-1.00dB_-1.0.png".replace("_-1.0.", "_1.0."),
        "worst-2_-0.25dB_0.25.png",
    ]
    assert torch.equal(
        read_photo(tmp_path / "strips" / written[0]).pixels, (GREY * 255).round() / 255
    )


def test_strips_of_an_earlier_call_make_way(tmp_path):
    (tmp_path / "mine.png").touch()
    for gain in (1.0, 2.0):
        extremes = Extremes(1)
        fill(extremes, [gain])
        extremes.write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best-1_+2.00dB_2.0.png", "mine.png"]


def test_no_picture_is_drawn_that_is_not_kept():
    assert fill(Extremes(1), [1, 5, 3, 2, 4, 0, 6]) == [1, 5, 0, 6]


def test_of_few_samples_each_is_written_once(tmp_path):
    extremes = Extremes(3)
    fill(extremes, [2.0, 1.0, 3.0])
    names = [path.name.split("_")[0] for path in extremes.write(tmp_path)]
    assert names == ["best-1", "best-2", "worst-1"]
    assert Extremes(3).write(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_a_table_has_a_line_a_record_and_leaves_out_what_is_not_known(tmp_path):
    write_csv(tmp_path / "x.csv", [{"a": "b,c", "n": 1 / 3, "m": None}, {"a": "d", "n": 2, "m": 0}])
    assert (tmp_path / "x.csv").read_text() == 'a,n,m\n"b,c",0.333333,\nd,2,0\n'
    assert [row["a"] for row in csv.DictReader((tmp_path / "x.csv").read_text().splitlines())] == [
        "b,c",
        "d",
    ]


def test_a_chart_of_an_unknown_kind_is_refused_before_the_work(tmp_path):
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf"):
        check_chart(tmp_path / "x.jpg", overwrite=False)


def row(model, gain, **changes):
    psnr = [20.0 + gain] * 7
    return {
        **{"set": "A", "samples": 2, "model": model, "psnr": psnr, "psnr_p": [21.0 + gain] * 7},
        **{"middle": 20 + gain, "nothing": {"psnr": [20.0] * 7, "middle": 20.0, "mean": 20.0}},
        **changes,
    }


def video(model, tau, psnr):
    clips = [{"name": n, "psnr": psnr, "nothing": {"psnr": 25.0}} for n in ("a.mp4", "b.mp4")]
    about = {"set": "V", "model": model, "tau": tau, "period": tau, "psnr": psnr, "clips": clips}
    return {**about, "nothing": {"psnr": 25.0}}


def test_frames_are_charted_as_gains_in_the_better_order():
    chart = chart_of([row("one", 0.5), row("two", 1.0)])
    assert chart.places == tuple("1234567")
    assert chart.lines == {"one": (1.5,) * 7, "two": (2.0,) * 7, "nothing": (0.0,) * 7}


def test_the_middle_frame_alone_is_charted_as_one_place():
    middle = {"set": "A", "samples": 2, "model": "m", "middle": 21.0, "nothing": {"middle": 20.0}}
    chart = chart_of([middle])
    assert chart.places == ("4",)
    assert chart.lines == {"m": (1.0,), "nothing": (0.0,)}


def test_video_is_charted_over_tau_or_over_clips():
    rows = [video(m, tau, 26.0 + tau / 10) for m in ("cnn", "dtb") for tau in (15, 7)]
    chart = chart_of(rows)
    assert chart.places == ("7", "15")
    assert list(chart.lines) == ["cnn", "dtb", "nothing"]
    assert chart.lines["cnn"] == pytest.approx((26.7, 27.5))
    assert chart.lines["nothing"] == (25.0, 25.0)
    clips = chart_of([rows[0]])
    assert clips.places == ("a.mp4", "b.mp4")
    assert clips.lines["cnn"] == pytest.approx((2.5, 2.5))


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_chart_is_drawn_whole_or_not_at_all(tmp_path, suffix):
    pytest.importorskip("matplotlib")
    lines = {"a $weird_ name": (1.0, 2.0), "nothing": (0.0, 0.0)}
    chart = Chart(
        "a $title", "frame", "dB", ("1", "a very long name of a place that is cut"), lines
    )
    path = tmp_path / f"x.{suffix}"
    draw_chart(chart, path)
    assert path.stat().st_size > 4000
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(UsageError, match="exists already"):
        draw_chart(chart, path)
