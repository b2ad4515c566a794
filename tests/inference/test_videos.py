"""The line of a video: its frames sharpened, and light taken back along the neighbors' flow."""

from collections.abc import Callable

import pytest
import torch
from test_motion import sharpened, texture
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.color import to_encoded, to_linear
from b2v.frames import Tiling
from b2v.inference.videos import Deblurrer, Line, line_of
from b2v.metrics import psnr
from b2v.models import Prior
from b2v.models.dtb import DTB, BlendConfig, BlendNet, DTBConfig
from b2v.models.neighbors import Exposure, Passing, learned, passing, unknown

CPU = {"device": "cpu", "precision": "fp32"}
HEIGHT, WIDTH = 160, 224
SPEED = (9.0, 4.0)
"""Pixels, right and down, from frame to frame."""
INSIDE = (..., slice(24, -24), slice(32, -32))


class Crisper(nn.Module):
    """Stands for a network that sharpens all that it sees."""

    multiple = 8

    def __init__(self, act: Callable[[Tensor], Tensor] = sharpened) -> None:
        super().__init__()
        self.act = act

    def forward(self, picture: Tensor) -> Tensor:
        return self.act(picture[0])[None]


def prior(act: Callable[[Tensor], Tensor] = lambda picture: picture) -> Prior:
    return Prior(Crisper(act), Tiling(1024, 64))


def crisp(seed: int = 0) -> Tensor:
    """Make a picture as crisp as a camera's, wide enough to pan over."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, (HEIGHT + 120) // 2, (WIDTH + 200) // 2, generator=generator)
    wide = F.interpolate(small, scale_factor=2.0, mode="bicubic")[0] * 0.5
    return (wide + 0.5 * texture(*wide.shape[1:], seed=seed)).clamp(0.02, 0.98)


def pan(count: int, duty: float, scene: Tensor | None = None) -> tuple[list[Tensor], list[Tensor]]:
    """Film a picture with a camera that moves: blurry frames, and the sharp ones behind them."""
    wide = texture(HEIGHT + 120, WIDTH + 200) if scene is None else scene
    light, sharp = [], []
    for n in range(count):
        steps = [n + duty * (k / 16 - 0.5) for k in range(17)]
        seen = [to_linear(_look(wide, time), "gamma2.2") for time in steps]
        light.append(to_encoded(torch.stack(seen).mean(0), "gamma2.2"))
        sharp.append(_look(wide, n))
    return light, sharp


def _look(wide: Tensor, time: float) -> Tensor:
    x, y = 20 + SPEED[0] * time, 20 + SPEED[1] * time
    left, top = int(x), int(y)
    part = wide[:, top : top + HEIGHT + 1, left : left + WIDTH + 1]
    part = torch.lerp(part[..., :-1], part[..., 1:], x - left)
    return torch.lerp(part[:, :-1], part[:, 1:], y - top)


def gains(restored: list[Tensor], blurry: list[Tensor], sharp: list[Tensor]) -> list[float]:
    return [
        float(psnr(r[INSIDE], s[INSIDE]) - psnr(b[INSIDE], s[INSIDE]))
        for r, b, s in zip(restored, blurry, sharp, strict=True)
    ]


def run(net: Prior | Line, frames: list[Tensor], duty: float | None = None) -> list[Tensor]:
    return list(Deblurrer(weights=net, duty=duty, **CPU).run(frames))


def test_light_is_taken_back_along_the_flow_to_the_neighbors() -> None:
    blurry, sharp = pan(6, 1.0)
    found = gains(run(prior(), blurry, 1.0), blurry, sharp)
    assert min(found[1:-1]) > 1
    assert min(found) > 0  # the first and the last have one neighbor alone


@pytest.mark.parametrize("larger", [1, 5])
@pytest.mark.parametrize("duty", [0.6, 0.8, 1.0])
def test_the_duty_cycle_is_found_from_the_blur(duty: float, larger: int) -> None:
    """In larger frames everything moves further than edges say something at the finest size."""
    blurry = pan(5, duty)[0]
    blurry = list(F.interpolate(torch.stack(blurry), scale_factor=larger, mode="bilinear"))
    exposure = unknown()
    for n in range(1, 4):
        window = torch.stack(blurry[n - 1 : n + 2])
        exposure = learned(exposure, passing(window), window[1])
    assert exposure.duty == pytest.approx(duty, abs=0.2)


def test_what_it_finds_by_itself_is_as_good_as_what_it_is_told() -> None:
    blurry, sharp = pan(8, 0.8)
    told, found = (gains(run(prior(), blurry, duty), blurry, sharp) for duty in (0.8, None))
    assert sum(found[2:-1]) > 0.8 * sum(told[2:-1]) > 0


def test_motion_is_found_alike_in_half_precision() -> None:
    blurry = torch.stack(pan(3, 1.0)[0])
    with torch.autocast("cpu", torch.bfloat16):
        found = passing(blurry)
    assert torch.equal(found.path, passing(blurry).path)


def test_still_clip_comes_back_as_it_is() -> None:
    frames = [texture(HEIGHT, WIDTH)] * 4
    for restored in run(prior(sharpened), frames):
        assert psnr(restored, frames[0]) > 80


def test_sharp_clip_of_a_moving_camera_comes_back() -> None:
    _, sharp = pan(6, 0.0, crisp())
    for restored, frame in zip(run(prior(sharpened), sharp), sharp, strict=True):
        assert psnr(restored, frame) > 40


def test_a_cut_and_a_repeated_frame_do_no_harm() -> None:
    blurry, sharp = pan(4, 1.0)
    others = pan(4, 1.0, texture(HEIGHT + 120, WIDTH + 200, seed=7))
    frames, truth = blurry + others[0], sharp + others[1]
    assert min(gains(run(prior(), frames, 1.0), frames, truth)) > -0.1
    twice = [frame for frame in blurry for _ in range(2)]
    found = gains(run(prior(), twice, 1.0), twice, [s for s in sharp for _ in range(2)])
    assert min(found) > -0.01
    assert max(found) > 0.5


def test_nothing_is_handed_on_over_a_cut() -> None:
    torch.manual_seed(1)
    net = BlendNet(BlendConfig(widths=(8, 8, 8), blocks=(1, 1, 1))).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    one, _ = pan(4, 1.0)
    other, _ = pan(4, 1.0, texture(HEIGHT + 120, WIDTH + 200, seed=7))
    joined, alone = run(line_of(net), one + other, 1.0), run(line_of(net), other, 1.0)
    assert max(float((a - b).abs().max()) for a, b in zip(joined[4:], alone, strict=True)) < 1e-6
    apart = run(line_of(net), one, 1.0)
    assert max(float((a - b).abs().max()) for a, b in zip(joined, apart, strict=False)) < 1e-6


def test_only_blurry_frames_are_changed_where_that_is_asked_for() -> None:
    slow, _ = pan(5, 0.2)
    fast, _ = pan(5, 1.0)
    for frames, changes in ((slow, False), (fast, True)):
        deblurrer = Deblurrer(
            weights=line_of(prior(sharpened)), duty=0.2 if frames is slow else 1.0
        )
        deblurrer.only_blurry = True
        same = [torch.equal(a, b) for a, b in zip(deblurrer.run(frames), frames, strict=True)]
        assert not any(same) if changes else all(same)


def test_flash_does_no_harm() -> None:
    blurry, sharp = pan(5, 1.0)
    lit = [(frame * 0.3 + 0.7) if n == 2 else frame for n, frame in enumerate(blurry)]
    truth = [(frame * 0.3 + 0.7) if n == 2 else frame for n, frame in enumerate(sharp)]
    assert min(gains(run(prior(), lit, 1.0), lit, truth)) > -0.05


@pytest.mark.parametrize("count", [1, 2])
def test_shortest_videos_are_whole(count: int) -> None:
    blurry, _ = pan(count, 1.0)
    restored = run(prior(), blurry)
    assert len(restored) == count
    assert all(frame.isfinite().all() for frame in restored)
    if count == 1:
        assert psnr(restored[0], blurry[0]) > 80


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (131, 150)])
def test_any_size_comes_back(size: tuple[int, int]) -> None:
    frames = [texture(*size, seed=n) for n in range(3)]
    assert [frame.shape for frame in run(prior(), frames)] == [(3, *size)] * 3


def test_a_video_left_anywhere_goes_on_bit_for_bit() -> None:
    torch.manual_seed(0)
    net = BlendNet(BlendConfig(widths=(8, 8, 8), blocks=(1, 1, 1))).eval()
    blurry, _ = pan(7, 1.0)
    whole = run(line_of(net), blurry)
    first, second = (Deblurrer(weights=line_of(net), **CPU) for _ in range(2))
    given = [first.step(frame) for frame in blurry[:4]]
    second.load_state_dict(first.state_dict())
    given += [second.step(frame) for frame in blurry[4:]]
    given = [*given[1:], *second.flush()]
    assert all(torch.equal(a, b) for a, b in zip(whole, given, strict=True))


def test_the_network_of_the_paper_stays_alone() -> None:
    net = DTB(DTBConfig())
    assert line_of(net) is net


@pytest.mark.parametrize(
    ("length", "sizes"),
    [(0, []), (8, [(128, 160), (256, 320)]), (30, [(128, 160)]), (80, [(64, 80)])],
)
def test_motion_says_at_which_sizes_a_network_is_run(monkeypatch, length, sizes) -> None:
    seen: list[tuple[int, ...]] = []

    def note(picture: Tensor) -> Tensor:
        seen.append(tuple(picture.shape[1:]))
        return picture

    path = torch.tensor([length / 2, 0.0]).view(2, 1, 1).expand(2, 128, 160)
    known = Passing(path, torch.zeros_like(path), torch.ones_like(path[:1]))
    monkeypatch.setattr("b2v.inference.videos.passing", lambda _: known)
    line = Line(prior(note), both=True)
    line.duty = 1.0
    still = torch.stack([texture(256, 320)] * 3)
    restored, _ = line(still[None])
    assert seen == sizes
    if not seen:
        assert torch.equal(restored[0], still[1])


def test_exposure_that_nothing_tells_is_the_usual_one() -> None:
    assert unknown().duty == 0.5
    assert isinstance(
        learned(unknown(), passing(torch.zeros(3, 3, 64, 64)), torch.zeros(3, 64, 64)), Exposure
    )
