"""A video frame by frame: nothing lost, nothing late, and it can be left and gone on with."""

import math

import pytest
import torch
from conftest import make_picture
from safetensors.torch import load, save
from test_dtb import VARIANTS, every_length, every_variant, make_clip, small_net
from torch import Tensor, nn

import b2v
from b2v.errors import B2VError, ShapeError, UsageError, WeightsError
from b2v.frames import crop_back, pad_to_multiple
from b2v.inference.videos import Deblurrer, deblur
from b2v.models import VIDEO, Blueprint
from b2v.models.dtb import DTB, INPUTS, DTBConfig, VideoState, run_clip
from b2v.weights.checkpoints import Card, card_entry, save_network, write_card

ON_CPU = {"device": "cpu", "precision": "fp32"}
SIZES = [(16, 16), (16, 20), (17, 20), (18, 23), (21, 19)]


class Stub(nn.Module):
    """Stands for the network: the center frame as `act` makes it, and a count as its state."""

    multiple, look_ahead = 2, 1

    def state_shapes(self, height, width):
        return {"features": (1, height // 2, width // 2)}

    def __init__(self, act=lambda frame: frame):
        super().__init__()
        self.act, self.calls = act, 0

    def forward(self, window: Tensor, state: VideoState | None) -> tuple[Tensor, VideoState]:
        self.calls += 1
        assert window.shape[:3] == (1, 3, 3)
        before = torch.zeros(1, 1, 8, 8) if state is None else state.features
        return self.act(window[:, 1]), VideoState(features=before + 1)


def video(length: int, height: int = 16, width: int = 20, seed: int = 0) -> list[Tensor]:
    return list(make_clip(length, height, width, seed)[0]) if length else []


def restore(net: DTB, frames: list[Tensor], **settings: str) -> list[Tensor]:
    return list(deblur(frames, weights=net, **{**ON_CPU, **settings}))


@every_variant
@every_length
def test_frame_by_frame_equals_the_clip_at_once(variant, inputs):
    net, frames = small_net(variant=variant, inputs=inputs), video(9)
    at_once = run_clip(net, torch.stack(frames)[None])[0].clamp(0, 1)
    one_by_one = torch.stack(restore(net, frames))
    assert (one_by_one - at_once).abs().max() < 1e-5
    assert (one_by_one - torch.stack(frames)).abs().mean() > 0.01


@every_length
@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 8])
def test_as_many_frames_come_out_as_go_in(inputs, length):
    net, frames = small_net(inputs=inputs), video(length)
    restored = restore(net, frames)
    assert len(restored) == length
    if frames:
        at_once = run_clip(net, torch.stack(frames)[None])[0].clamp(0, 1)
        assert (torch.stack(restored) - at_once).abs().max() < 1e-5


@every_length
def test_a_frame_comes_out_when_m_more_are_in_and_the_rest_at_the_end(inputs):
    net, m, frames = DTB(DTBConfig(inputs=inputs)), inputs // 2, video(6)
    deblurrer = Deblurrer(weights=net, **ON_CPU)
    given = [deblurrer.step(frame) for frame in frames]
    assert [frame is None for frame in given] == m * [True] + (6 - m) * [False]
    rest = list(deblurrer.flush())
    assert len(rest) == m
    for blurry, restored in zip(frames, [*given[m:], *rest], strict=True):
        assert torch.equal(blurry, restored)  # the fresh network returns the center frame


def test_a_frame_asks_for_no_more_than_the_look_ahead():
    taken = []
    frames = (taken.append(n) or frame for n, frame in enumerate(video(8)))
    restored = deblur(frames, weights=small_net(inputs=5), **ON_CPU)
    assert taken == []
    for n in range(4):
        next(restored)
        assert taken == list(range(n + 3))


@pytest.mark.parametrize("size", SIZES)
def test_no_pixel_is_lost_or_moved_at_any_size(size):
    frames = video(4, *size)
    for blurry, restored in zip(frames, restore(Stub(), frames), strict=True):
        assert torch.equal(blurry, restored)
    net = small_net()
    padded = pad_to_multiple(torch.stack(frames)[None], 2)
    at_once = crop_back(run_clip(net, padded)[0], *size).clamp(0, 1)
    assert (torch.stack(restore(net, frames)) - at_once).abs().max() < 1e-5


def test_frames_are_clamped_fp32_and_may_be_changed_by_their_owner():
    frames = [frame.double().requires_grad_() for frame in video(3)]
    for blurry, restored in zip(frames, restore(Stub(lambda x: 3 * x - 1), frames), strict=True):
        assert torch.equal(restored, (3 * blurry.detach().float() - 1).clamp(0, 1))
        assert (restored.dtype, restored.device.type) == (torch.float32, "cpu")
        assert not restored.requires_grad
        assert not restored.is_inference()
        restored.mul_(255)


def test_the_caller_keeps_gradients_between_frames():
    for _ in deblur(video(4), weights=small_net(), **ON_CPU):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_a_buffer_may_be_used_for_every_frame_again():
    net, frames, buffer = small_net(), video(5), torch.empty(3, 16, 20)
    again = deblur((buffer.copy_(frame) for frame in frames), weights=net, **ON_CPU)
    for one, other in zip(restore(net, frames), again, strict=True):
        assert torch.equal(one, other)


def test_memory_does_not_grow_with_the_video():
    deblurrer, kept = Deblurrer(weights=small_net(inputs=5), **ON_CPU), []
    for frame in video(20):
        deblurrer.step(frame)
        kept.append(sum(tensor.numel() for tensor in deblurrer.state_dict().values()))
    assert len(set(kept[4:])) == 1
    assert kept[-1] == 4 + 5 * 3 * 16 * 20 + (8 + 4) * 8 * 10


def test_another_video_may_follow_the_end_of_one():
    net, first, second = small_net(), video(4), video(3, 18, 16, seed=20)
    deblurrer = Deblurrer(weights=net, **ON_CPU)
    list(deblurrer.run(first))
    assert list(deblurrer.flush()) == []
    for one, other in zip(deblurrer.run(second), restore(net, second), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@every_variant
@every_length
def test_a_video_left_anywhere_goes_on_bit_for_bit_elsewhere(variant, inputs, precision):
    net, frames = small_net(variant=variant, inputs=inputs), video(6, 17, 20)
    settings = {"weights": net, "device": "cpu", "precision": precision}
    whole = list(deblur(frames, **settings))
    for cut in range(len(frames) + 1):
        first, second = Deblurrer(**settings), Deblurrer(**settings)
        given = [out for frame in frames[:cut] if (out := first.step(frame)) is not None]
        second.load_state_dict(load(save(first.state_dict())))
        given += second.run(frames[cut:])
        assert len(given) == len(whole)
        assert all(torch.equal(one, other) for one, other in zip(given, whole, strict=True))


def test_a_saved_state_is_a_copy():
    deblurrer = Deblurrer(weights=small_net(), **ON_CPU)
    for frame in video(3):
        deblurrer.step(frame)
    state = deblurrer.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    for frame in video(3, seed=9):
        deblurrer.step(frame)
    assert all(torch.equal(state[name], before[name]) for name in before)
    assert set(state) == {"counts", "size", "window", "blended", "features"}


@pytest.mark.parametrize("other", [{"variant": "cnn"}, {"inputs": 5}, {"features": 6}])
def test_the_state_of_another_network_is_refused_and_changes_nothing(other):
    theirs = Deblurrer(weights=small_net(**other), **ON_CPU)
    ours, frames = Deblurrer(weights=small_net(), **ON_CPU), video(6)
    for frame in frames[:4]:
        theirs.step(frame)
        ours.step(frame)
    before = ours.state_dict()
    with pytest.raises(ShapeError, match=r"the state is of another network.*expected .*blended"):
        ours.load_state_dict(theirs.state_dict())
    with pytest.raises(ShapeError, match="the state has no counts and no size"):
        ours.load_state_dict({})
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())


def test_a_frame_of_another_size_is_refused_and_the_video_can_go_on():
    net, frames = small_net(), video(5)
    deblurrer, given = Deblurrer(weights=net, **ON_CPU), []
    for frame in frames:
        given.append(deblurrer.step(frame))
        with pytest.raises(ShapeError, match="is 20x18 pixels and those before it 20x16"):
            deblurrer.step(make_picture(18, 20))
    given += deblurrer.flush()
    for one, other in zip(given[1:], restore(net, frames), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (torch.zeros(3, 15, 40), "frame 2 is 40x15 pixels; at least 16x16"),
        (torch.zeros(4, 16, 20), "frame 2 has shape"),
        (torch.full((3, 16, 20), 200), "frame 2 has values outside"),
    ],
)
def test_what_is_no_frame_is_refused_with_its_number(frame, said):
    deblurrer = Deblurrer(weights=Stub(), **ON_CPU)
    deblurrer.step(make_picture(16, 20))
    with pytest.raises(ShapeError, match=said):
        deblurrer.step(frame)


def in_half() -> bool:
    return torch.is_autocast_enabled("cpu")


def test_what_overflows_in_half_precision_is_done_again_from_the_state_before():
    net = Stub(lambda frame: frame * math.inf if in_half() and net.calls in (2, 5) else frame)
    deblurrer = Deblurrer(weights=net, device="cpu", precision="bf16")
    frames = video(6, 16, 16)
    given = [deblurrer.step(frame) for frame in frames]
    for blurry, restored in zip(frames, given[1:], strict=False):
        assert torch.equal(blurry, restored)
    assert net.calls == 5 + 2
    assert (deblurrer.state_dict()["features"] == 5).all()
    assert not in_half()


def test_a_state_that_overflows_is_not_handed_on():
    class Overflowing(Stub):
        def forward(self, window, state):
            frame, after = super().forward(window, state)
            return frame, VideoState(features=after.features * (math.inf if in_half() else 1))

    deblurrer = Deblurrer(weights=Overflowing(), device="cpu", precision="bf16")
    list(map(deblurrer.step, video(4, 16, 16)))
    assert (deblurrer.state_dict()["features"] == 3).all()


@pytest.mark.parametrize(("precision", "calls"), [("bf16", 2), ("fp32", 1)])
def test_frames_that_are_not_finite_in_fp32_either_are_an_error(precision, calls):
    net = Stub(lambda frame: frame * math.nan)
    with pytest.raises(WeightsError, match="values that are not finite; use other weights"):
        restore(net, video(3, 16, 16), precision=precision)
    assert net.calls == calls


def test_bf16_is_close_to_fp32_over_a_long_video():
    """A decayed memory: errors of the half precision do not pile up."""
    net, frames = small_net(gain=0.7), video(40)
    full = torch.stack(restore(net, frames))
    error = (torch.stack(restore(net, frames, precision="bf16")) - full).abs().amax((1, 2, 3))
    assert error.max() < 0.02
    assert error[20:].mean() < 2 * error[2:20].mean()


def test_too_little_memory_is_told_with_the_size_and_the_frame_can_be_tried_again():
    said = ["CUDA out of memory. Tried to allocate 9.00 GiB", "sizes do not match"]

    def fail(frame):
        if said:
            raise RuntimeError(said.pop(0))
        return frame

    deblurrer, frames = Deblurrer(weights=Stub(fail), **ON_CPU), video(4, 16, 16)
    deblurrer.step(frames[0])
    with pytest.raises(B2VError, match="not enough memory for 16x16 pixels; scale the video down"):
        deblurrer.step(frames[1])
    with pytest.raises(RuntimeError, match="sizes do not match"):  # a bug keeps its class
        deblurrer.step(frames[1])
    given = [deblurrer.step(frame) for frame in frames[1:]] + list(deblurrer.flush())
    assert all(torch.equal(one, other) for one, other in zip(given, frames, strict=True))


def test_weights_are_found_by_name_and_path_and_refused_at_once(tmp_path, monkeypatch):
    net, frames, folder = small_net(), video(3), tmp_path / "weights"
    path = folder / "mine-video.safetensors"
    save_network(net.state_dict(), Blueprint("dtb", net.config), VIDEO, path, half=False)
    write_card(Card(name="mine", license="MIT", networks=dict([card_entry(path)])), folder)
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(folder))
    expected = restore(net, frames)
    for weights in ("mine", folder, str(folder), path, str(path), folder / "mine.json"):
        given = b2v.deblur(frames, weights=weights, **ON_CPU)
        assert all(torch.equal(one, other) for one, other in zip(given, expected, strict=True))
    monkeypatch.chdir(folder)
    assert len(list(b2v.deblur(frames, weights=path.name, **ON_CPU))) == 3
    with pytest.raises(WeightsError, match=r"no model 'yours'; known: .*mine"):
        b2v.deblur(frames, weights="yours")
    with pytest.raises(UsageError, match="unknown precision 'fp8'"):
        b2v.Deblurrer(weights="mine", precision="fp8")


def test_the_python_names_are_those_of_the_package():
    assert b2v.Deblurrer is Deblurrer
    assert b2v.deblur is deblur
    assert {"Deblurrer", "deblur"} <= set(b2v.__all__)
    assert (VARIANTS, INPUTS) == (("cnn", "strcnn", "dtb"), (3, 5, 7))
