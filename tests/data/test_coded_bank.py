"""Banks whose blur is seen through a coded aperture, and what may be done to their crops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_picture

from b2v.color import to_linear
from b2v.data.datasets import BankConfig, Crops, coded, draw_clip
from b2v.data.exposure import Optics, optical_psfs
from b2v.data.footage import Sources
from b2v.data.scenes import MotionConfig
from b2v.errors import UsageError

CONFIG = BankConfig(
    clips=6,
    size=16,
    blur_psnr=(0.0, float("inf")),
    motion=MotionConfig(speed=(0.5, 2.0), shrink=(1.0, 1.0)),
)


def test_a_coded_bank_has_the_same_frames_behind_another_blur(tmp_path):
    photo = (make_picture(90, 90) * 255).byte()
    video = torch.stack([(make_picture(40, 40, n) * 255).byte() for n in range(9)])
    sources = Sources([photo], [], [video])
    for index in range(6):
        plain = draw_clip(sources, replace(CONFIG, real=0.5), index)
        seen = draw_clip(sources, replace(CONFIG, real=0.5, aperture="coded"), index)
        assert torch.equal(plain[1:], seen[1:])
        assert 0.5 < (plain[0].float() - seen[0].float()).abs().mean() < 60


def test_a_coded_exposure_of_a_still_scene_is_the_mean_of_its_psfs():
    """Seven frames that stand still, and as much light as before."""
    point = torch.zeros(7, 3, 40, 40)
    point[..., 20, 20] = 1
    seen = to_linear(coded(point), "gamma2.2")
    psfs = optical_psfs(Optics(), 63).mean(0)
    torch.testing.assert_close(seen[:, 7:34, 7:34], psfs, atol=2e-5, rtol=0.02)
    flat = torch.full((7, 3, 40, 40), 0.25)
    torch.testing.assert_close(to_linear(coded(flat), "gamma2.2"), flat[0], atol=1e-4, rtol=0)


def test_crops_of_a_coded_bank_keep_their_colors_and_their_blur(tmp_path, tiny_bank):
    (tiny_bank / "bank.json").write_text('{"aperture": "coded"}')
    plain = {"recolour": False, "discrete": 0, "rest": 0}
    for changes in ({"recolour": True}, {"discrete": 0.1}, {"rest": 0.1}, {"soft": 0.1}):
        with pytest.raises(UsageError, match="coded aperture"):
            Crops(tiny_bank, size=16, seed=0, **{**plain, **changes})
    crops = Crops(tiny_bank, size=24, seed=0, noise=0, jpeg=0, recolour=False, discrete=0)
    known = {tuple(clip[4].mean((1, 2)).round(3)) for clip in crops.clips.astype(float) / 255}
    for index in range(8):
        _, sharp = crops[index]
        assert tuple(sharp[3].mean((1, 2)).double().numpy().round(3)) in known
    crops.clips = crops.clips * 0 + np.arange(8, dtype=np.uint8)[:, None, None, None]
    assert all(crops[n][1].mean((1, 2, 3)).diff().min() > 0 for n in range(8))  # in order of time
