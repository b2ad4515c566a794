"""The alarm for pictures unlike those of training: what it calls so, and how seldom in error."""

from importlib.resources import files
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from b2v.color import to_linear
from b2v.familiar import FALSE_ALARMS, LIMIT, TILE, figures, score, unlike
from b2v.media import read_photo
from b2v.media.video import read_video
from b2v.synth.exposure import expose

SIDE = 400


def drawn(image):
    return torch.from_numpy(np.array(image)).movedim(-1, 0).float() / 255


def text():
    """A page of text, black on white."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(image)
    for line in range(26):
        pen.text((6, 4 + 15 * line), "the quick brown fox jumps over the lazy dog " * 2, "black")
    return drawn(image)


def drawing():
    """Shapes of plain colours."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(image)
    pen.ellipse((30, 30, 250, 250), fill="red", outline="black", width=5)
    pen.rectangle((120, 200, 380, 380), fill="blue", outline="black", width=5)
    pen.polygon([(10, 390), (200, 90), (390, 390)], outline="green", width=7)
    return drawn(image)


def noise(amount=1.0, base=0.5):
    generator = torch.Generator().manual_seed(1)
    grain = torch.rand(3, SIDE, SIDE, generator=generator) - 0.5
    return (base + amount * grain).clamp(0, 1)


@pytest.fixture(scope="module")
def blurry():
    return read_photo(files("b2v") / "assets" / "demo.jpg").pixels


def test_a_blurry_photo_is_familiar(blurry):
    assert score(blurry) < 4
    assert not unlike(blurry)
    assert not unlike(blurry.flip(-1))
    assert not unlike(blurry.flip(0))


@pytest.mark.parametrize(
    "strange", [text(), drawing(), noise(), noise(0.5), torch.full((3, 300, 300), 0.4)]
)
def test_text_drawings_noise_and_plain_colour_are_not(strange):
    assert score(strange) > LIMIT + 1.5
    assert unlike(strange)


def test_a_photo_in_strong_noise_is_not_and_in_weak_noise_is(blurry):
    grain = torch.randn(blurry.shape, generator=torch.Generator().manual_seed(0))
    assert unlike((blurry + 0.15 * grain).clamp(0, 1))
    assert not unlike((blurry + 0.01 * grain).clamp(0, 1))


def test_the_size_of_a_photo_and_its_sky_do_not_matter(blurry):
    large = blurry.repeat(1, 3, 4)
    assert score(large) == pytest.approx(score(blurry), abs=1)
    sky = torch.full((3, 2 * TILE, 2 * TILE), 0.8)
    framed = torch.cat([sky, blurry[:, :, : 2 * TILE]], dim=1)
    assert not unlike(framed)


def test_what_is_too_small_is_not_judged():
    assert score(noise()[:, :30, :300]) == 0


def test_figures_of_a_plain_tile_are_finite():
    for value in (0.0, 0.5, 1.0):
        assert figures(torch.full((3, 60, 60), value)).isfinite().all()


def test_a_photo_scaled_down_scores_as_it_did_which_the_module_says(shared):
    """Statistics of photographs are alike at every size: no limit on them finds thumbnails."""
    photos = sorted((shared / "data" / "train" / "photos").glob("*.jpg"))[4::8]
    if not photos:
        pytest.skip("no photographs to train on")
    rises, alarms = [], 0
    for path in photos:
        with Image.open(path) as image:
            whole = image.convert("RGB")
        small = drawn(whole.resize((whole.width // 8, whole.height // 8), Image.Resampling.BOX))
        rises.append(score(small) - score(drawn(whole)))
        alarms += unlike(small)
    assert abs(float(np.median(rises))) < 1
    assert alarms <= len(photos) // 4


def test_false_alarms_on_held_out_scenes_are_as_rare_as_stated(shared):
    """On windows of seven frames of videos that training holds out, whole and in tiles.

    The tiles overlap and some have no texture, which training avoids: more of them may alarm.
    """
    videos = sorted((shared / "data" / "train" / "video").glob("*.mp4"))[4::8]
    if not videos:
        pytest.skip("no videos to train on")
    alarms = tiles = 0
    for path in videos:
        window = [frame.float() / 255 for frame in islice(read_video(path), 7)]
        photo = expose(to_linear(torch.stack(window), "gamma2.2"), "gamma2.2")
        assert not unlike(photo)
        for y in range(0, photo.shape[1] - TILE + 1, TILE // 3):
            for x in range(0, photo.shape[2] - TILE + 1, TILE // 3):
                alarms += unlike(photo[:, y : y + TILE, x : x + TILE])
                tiles += 1
    assert tiles >= 40
    assert alarms <= 10 * FALSE_ALARMS * tiles
