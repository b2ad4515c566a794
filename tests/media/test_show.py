"""Comparisons, filmstrips and heat maps: what is where, and in what color."""

import pytest
import torch
from conftest import make_picture
from video_samples import drawing

from b2v.errors import ShapeError
from b2v.media.drawing import (
    CELL,
    GAP,
    LINE,
    WORDS,
    beside,
    data_uri,
    fit,
    heat_map,
    strip,
    write_words,
)
from b2v.media.images import read_photo, write_photo
from b2v.metrics import reblur


@pytest.mark.parametrize(("way", "size"), [("side", (40, 120)), ("stack", (80, 60))])
def test_the_blurry_picture_comes_first(way, size):
    blurry, frames = torch.zeros(3, 40, 60), torch.ones(7, 3, 40, 60)
    both = beside(blurry, frames, way)
    assert both.shape == (7, 3, *size)
    first, second = both.chunk(2, -1 if way == "side" else -2)
    assert (first.max(), second.min()) == (0, 1)


def test_pictures_are_scaled_down_to_fit_and_never_up():
    assert fit(torch.zeros(2, 3, 100, 400), 200, 200).shape == (2, 3, 50, 200)
    assert fit(torch.zeros(3, 300, 100), 200, 150).shape == (3, 150, 50)
    assert fit(torch.zeros(3, 20, 30), 200, 150).shape == (3, 20, 30)
    flat = fit(torch.full((3, 90, 120), 0.3), 40, 40)
    assert (flat - 0.3).abs().max() < 1e-6


def test_a_strip_has_every_picture_in_its_place_with_words_below():
    pictures = [torch.full((3, 60, 100), k / 8) for k in range(8)]
    sheet = strip([pictures], [["blurry", *map(str, range(1, 8))]])
    assert sheet.shape == (3, GAP + 60 + LINE + GAP, 8 * (100 + GAP) + GAP)
    for k in range(8):
        left = GAP + k * (100 + GAP)
        assert torch.equal(sheet[:, GAP : GAP + 60, left : left + 100], pictures[k])
        assert sheet[:, GAP + 60 : -GAP, left : left + 100].max() > 0.6
        assert (sheet[:, :, left - GAP : left] - sheet[0, 0, 0]).abs().max() < 1e-6


def test_rows_of_a_strip_are_below_each_other_and_of_one_length():
    row = [make_picture(30, 40, k) for k in range(3)]
    sheet = strip([row, row], [["a", "b", "c"], ["d", "e", "f"]])
    assert sheet.shape[1] == 2 * (GAP + 30 + LINE) + GAP
    for rows, words in (([row, row[:2]], [["a"] * 3, ["b"] * 2]), ([row], [["a"] * 2])):
        with pytest.raises(ShapeError, match="a strip of rows"):
            strip(rows, words)
    with pytest.raises(ShapeError, match="30, 40"):
        strip([[row[0], make_picture(31, 40)]], [["a", "b"]])


def test_narrow_pictures_leave_room_for_their_words():
    sheet = strip([[torch.ones(3, 90, 10)] * 2], [["frame one", "frame two"]])
    assert sheet.shape[2] == 2 * (4 * LINE + GAP) + GAP
    assert (sheet.amin((0, 1)) == 1).sum() == 0
    assert (sheet[:, GAP : GAP + 90] == 1).all((0, 1)).sum() == 20


def test_words_grow_with_the_pictures():
    wide = strip([[torch.zeros(3, 60, CELL)]], [["frame 1"]])[:, GAP + 60 :]
    small = strip([[torch.zeros(3, 60, 100)]], [["frame 1"]])[:, GAP + 60 :]
    assert wide.shape[1] - GAP == round(WORDS * CELL) > LINE == small.shape[1] - GAP
    assert (wide > 0.6).sum() > 3 * (small > 0.6).sum()


def test_words_are_drawn_and_cut_at_the_border():
    sheet = torch.zeros(3, 30, 40)
    write_words(sheet, "a long line of words", height=24, top=10, middle=20)
    assert 0.5 < sheet[:, 10:].max() <= 1
    assert sheet[:, :10].max() == 0


def test_frames_that_explain_the_photo_leave_it_gray():
    frames = torch.stack([make_picture(80, 120, k) for k in range(7)])
    photo = reblur(frames)
    drawn = heat_map(frames, photo)
    assert (drawn.amax(0) - drawn.amin(0)).max() < 1e-5
    assert torch.allclose(drawn[0], 0.15 + 0.7 * photo.mean(0), atol=1e-5)


def test_the_map_is_hot_exactly_where_the_frames_are_wrong():
    frames = torch.full((7, 3, 120, 400), 0.5)
    photo = frames[0].clone()
    photo[:, 40:80, 100:200] += 0.1
    drawn = heat_map(frames, photo)
    assert drawn.shape == photo.shape
    red, green, blue = drawn[:, 60, 150]  # a difference of 0.1 is 20 dB
    assert red > green > 0.7 > 0.35 > blue  # yellow
    assert (drawn[:, 60, 300] == drawn[0, 60, 300]).all()


def test_large_photos_have_maps_that_are_scaled_down():
    frames = torch.full((7, 3, 20, 3300), 0.5)
    assert heat_map(frames, frames[0]).shape[2] == 1600


def test_a_picture_is_its_own_address(tmp_path):
    import base64

    head, data = data_uri(drawing(3)).split(",")
    assert head == "data:image/webp;base64"
    (tmp_path / "a.webp").write_bytes(base64.b64decode(data))
    assert (read_photo(tmp_path / "a.webp").pixels - drawing(3)).abs().mean() < 0.02


def test_strips_and_maps_can_be_written(tmp_path):
    frames = torch.stack([make_picture(48, 64, k) for k in range(7)])
    for name, sheet in (
        ("strip.png", strip([list(frames)], [[str(k) for k in range(7)]])),
        ("heat.png", heat_map(frames, make_picture(48, 64, 9))),
    ):
        write_photo(sheet, tmp_path / name)
        assert (read_photo(tmp_path / name).pixels - sheet).abs().max() < 0.51 / 255
