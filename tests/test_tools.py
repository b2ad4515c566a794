"""The script that trained the shipped prior on: what it draws."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from b2v.metrics import psnr

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture
def tool(monkeypatch):
    if not TOOLS.is_dir():
        pytest.skip("the folder tools is not here")
    monkeypatch.syspath_prepend(str(TOOLS))
    import train_on_maxim

    yield train_on_maxim
    sys.modules.pop("train_on_maxim")


def test_blurry_pictures_are_those_of_sharp_ones_in_motion(tool, tmp_path):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    for number, codes in enumerate(coarse):
        picture = Image.fromarray(codes).resize((600, 400), Image.Resampling.NEAREST)
        picture.save(tmp_path / f"photo-{number}.png")
    cutout = Image.new("RGBA", (80, 60), (200, 30, 30, 255))
    cutout.putpixel((0, 0), (0, 0, 0, 0))
    cutout.save(tmp_path / "cutout.png")
    scenes = tool.Scenes([tmp_path], 64, torch.device("cpu"), seed=0)
    assert (len(scenes.photos), len(scenes.cutouts)) == (2, 1)
    light, middle = scenes.rendered(12)
    assert light.shape == middle.shape == (12, 3, 64, 64)
    slopes = [x.diff(dim=-1).abs().mean((1, 2, 3)) for x in (light, middle)]
    assert (slopes[0] < 1.2 * slopes[1]).all()
    assert (slopes[0] < 0.8 * slopes[1]).sum() >= 2
    assert (light.mean((1, 2, 3)) - middle.mean((1, 2, 3))).abs().max() < 0.1
    blurry, sharp = next(scenes.batches(3))
    assert blurry.shape == sharp.shape == (3, 3, 64, 64)
    assert 0 <= min(blurry.min(), sharp.min()) <= max(blurry.max(), sharp.max()) <= 1


@pytest.mark.parametrize("quality", [60, 80, 95])
def test_compression_is_that_of_jpeg(tool, quality):
    rng = np.random.default_rng(1)
    gray = np.asarray(
        Image.fromarray(rng.integers(0, 256, (16, 24), dtype=np.uint8)).resize((96, 64))
    )
    file = io.BytesIO()
    Image.fromarray(gray).save(file, "JPEG", quality=quality)
    expected = torch.from_numpy(np.asarray(Image.open(file)) / 255).float().expand(3, -1, -1)
    picture = torch.from_numpy(gray / 255).float().expand(3, -1, -1)
    found = tool.compressed(picture[None], quality)[0]
    assert psnr(found, expected) > psnr(picture, expected) + 4
