"""From one blurry photo to seven frames, with nets that show what is done around them."""

import math
from importlib.resources import files

import pytest
import torch
from command_line import write_tiny_cascade, write_tiny_prior
from conftest import make_picture, read_clip
from test_direction import LEFT, filmed, torn
from torch.nn import functional as F

import b2v
from b2v.defaults import PHOTO_MODEL, PHOTO_MODELS
from b2v.errors import B2VError, MediaError, ShapeError, UsageError, WeightsError
from b2v.files import shipped_dir
from b2v.inference.images import restore, seconds_for, settle
from b2v.inference.runtime import Runtime
from b2v.media.images import read_photo, write_photo
from b2v.metrics import psnr
from b2v.models import MAXIM_STAGES, PRIOR
from b2v.weights.checkpoints import file_name
from b2v.weights.store import load_model

FP32, BF16 = (Runtime(torch.device("cpu"), precision) for precision in ("fp32", "bf16"))
SHIPPED = [file_name("unet", PRIOR), *(file_name("maxim", role) for role in MAXIM_STAGES)]
needs_shipped_weights = pytest.mark.skipif(
    not all((shipped_dir() / name).is_file() for name in SHIPPED),
    reason=f"the shipped weights are not in {shipped_dir()}",
)


class Stub:
    """Stands for a cascade: seven times what `act` makes of the blurry picture."""

    multiple, tiling = 20, None
    order_known = False

    def __init__(self, act=lambda blurry: blurry):
        self.act = act
        self.calls = 0

    def __call__(self, blurry, middle=None, frames=7):
        self.calls += 1
        assert blurry.shape[-1] % self.multiple == blurry.shape[-2] % self.multiple == 0
        assert blurry.is_contiguous(memory_format=torch.channels_last)
        frames = [self.act(blurry)] * 7
        if middle is not None:
            frames[3] = middle
        return torch.stack(frames, 1)


@pytest.mark.parametrize("size", [(16, 16), (17, 59), (40, 60), (41, 79), (16, 301), (121, 19)])
def test_no_pixel_is_lost_or_moved_at_any_size(size):
    blurry = make_picture(*size)
    frames = restore(Stub(), blurry, FP32).frames
    assert frames.shape == (7, 3, *size)
    for frame in frames:
        assert torch.equal(frame, blurry)


def test_frames_are_clamped_to_what_pictures_can_hold(picture):
    frames = restore(Stub(lambda blurry: 3 * blurry - 1), picture, FP32).frames
    assert torch.equal(frames[0], (3 * picture - 1).clamp(0, 1))
    assert (frames.min(), frames.max()) == (0, 1)


def test_frames_are_fp32_on_the_cpu_without_gradients(picture):
    frames = restore(Stub(), picture.requires_grad_(), BF16).frames
    assert (frames.dtype, frames.device.type) == (torch.float32, "cpu")
    assert not frames.requires_grad


class Torn(Stub):
    """A cascade whose left half runs against its right one."""

    def __call__(self, blurry, middle=None, frames=7):
        assert blurry.shape[-2:] == (100, 140)
        return F.pad(torn(filmed(right=1.5), LEFT), (0, 12, 0, 4))[None]


def test_an_order_of_time_that_is_known_is_left_as_it_is():
    net = Torn()
    net.order_known = True
    assert torch.equal(
        restore(net, torch.rand(3, 96, 128), FP32).frames, torn(filmed(right=1.5), LEFT)
    )


def test_all_of_a_picture_runs_in_one_direction_unless_asked_otherwise():
    truth, blurry = filmed(right=1.5), torch.rand(3, 96, 128)
    aligned, raw = (restore(Torn(), blurry, FP32, align=align).frames for align in (True, False))
    assert torch.equal(raw, torn(truth, LEFT))
    assert (aligned - truth).square().mean() < 0.25 * (raw - truth).square().mean()


def overflow_in_bf16(blurry):
    return blurry * math.inf if torch.is_autocast_enabled("cpu") else blurry


def test_what_overflows_in_bf16_is_done_again_in_fp32(picture):
    net = Stub(overflow_in_bf16)
    assert torch.equal(restore(net, picture, BF16).frames[0], picture)
    assert net.calls == 2
    assert not torch.is_autocast_enabled("cpu")


def test_what_does_not_overflow_is_done_once(picture):
    net = Stub()
    restore(net, picture, BF16)
    assert net.calls == 1


def test_frames_that_are_not_finite_in_fp32_either_are_an_error(picture):
    with pytest.raises(WeightsError, match="not finite"):
        restore(Stub(lambda blurry: blurry * math.nan), picture, BF16)


@pytest.mark.parametrize("runtime", [FP32, BF16], ids=str)
def test_given_middle_frame_is_passed_through_bit_for_bit(picture, runtime, tmp_path):
    write_tiny_cascade(tmp_path)
    net = load_model("cascade", weights=tmp_path).net
    middle = make_picture(40, 40, seed=7)
    frames, own = (
        restore(net, picture, runtime, middle=middle).frames,
        restore(net, picture, runtime).frames,
    )
    assert torch.equal(frames[3], middle)
    assert not torch.equal(frames[2], own[2])


@pytest.mark.parametrize(
    ("blurry", "middle", "said"),
    [
        (torch.zeros(3, 15, 40), None, "40x15"),
        (torch.zeros(1, 40, 40), None, "RGB"),
        (torch.full((3, 40, 40), 200.0), None, "outside"),
        (torch.zeros(3, 40, 40), torch.zeros(3, 40, 41), "41x40 pixels and the photo 40x40"),
        (torch.zeros(3, 40, 40), torch.full((3, 40, 40), math.nan), "middle frame"),
        (torch.zeros(3, 40, 40), torch.zeros(40, 40), "middle frame"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(blurry, middle, said):
    with pytest.raises(ShapeError, match=said):
        restore(Stub(), blurry, FP32, middle=middle)


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 9.00 GiB",
        "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_too_little_memory_is_told_with_the_size_of_the_photo(picture, said):
    def refuse(_):
        raise RuntimeError(said)

    with pytest.raises(B2VError, match="not enough memory for 40x40 pixels"):
        restore(Stub(refuse), picture, FP32)


def test_other_failures_of_a_net_are_bugs_and_keep_their_class(picture):
    def fail(_):
        raise RuntimeError("sizes do not match")

    with pytest.raises(RuntimeError, match="sizes do not match"):
        restore(Stub(fail), picture, FP32)


def test_python_does_what_the_command_does(tmp_path):
    write_tiny_prior(tmp_path / "weights")
    write_photo(make_picture(33, 47), tmp_path / "photo.png")
    clip = b2v.extract(tmp_path / "photo.png", weights=tmp_path / "weights", fps=12)
    assert clip.frames.shape == (7, 3, 33, 47)
    saved = clip.save(tmp_path / "clip.gif")
    assert saved == tmp_path / "clip.gif"
    assert len(read_clip(saved)) == 7
    assert clip.fps == 12


def test_quality_chooses_the_model_and_a_name_goes_before_it(tmp_path, monkeypatch):
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(tmp_path))
    for seed, name in enumerate((*PHOTO_MODELS.values(), "mine")):
        write_tiny_prior(tmp_path, name, seed=seed)
    photo = make_picture(33, 47)
    assert _made_by(b2v.extract(photo, model="mine", quality="best")) == "mine"
    for quality, name in PHOTO_MODELS.items():
        assert _made_by(b2v.extract(photo, quality=quality)) == name
    assert _made_by(b2v.extract(photo)) == PHOTO_MODEL
    with pytest.raises(UsageError, match="quality 'great' is unknown; choose fast, good, best"):
        b2v.extract(photo, quality="great")


def _made_by(clip: b2v.Clip) -> str:
    assert clip.tags is not None
    assert clip.tags.provenance is not None
    return clip.tags.provenance.model


def test_a_prior_takes_a_given_middle_frame_as_it_is_and_moves_it(picture, tmp_path):
    write_tiny_prior(tmp_path)
    net = load_model(weights=tmp_path).net
    middle = make_picture(40, 40, seed=7)
    frames, own = (
        restore(net, picture, FP32, middle=middle).frames,
        restore(net, picture, FP32).frames,
    )
    assert (frames[3] - middle).abs().max() < 1e-5  # what moves the frames moves it by nothing
    assert not torch.equal(frames[2], own[2])
    still = restore(
        net, picture, FP32, middle=picture
    ).frames  # nothing moved if the photo is sharp
    assert (still - picture).abs().max() < 1e-5


def test_a_tensor_is_as_good_as_a_file(tmp_path, monkeypatch):
    write_tiny_prior(tmp_path)
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(tmp_path))
    codes = (make_picture(33, 47) * 255).round()
    write_photo(codes / 255, tmp_path / "photo.png")
    from_file = b2v.extract(str(tmp_path / "photo.png"), middle=tmp_path / "photo.png")
    from_tensor = b2v.extract(codes / 255, middle=codes / 255)
    assert torch.equal(from_file.frames, from_tensor.frames)


def test_extract_names_the_file_that_is_no_photo(tmp_path):
    write_tiny_prior(tmp_path)
    (tmp_path / "diary.jpg").write_text("Dear diary")
    with pytest.raises(MediaError, match=r"diary\.jpg: not a picture"):
        b2v.extract(tmp_path / "diary.jpg", weights=tmp_path)


@needs_shipped_weights
def test_bf16_is_as_good_as_fp32_on_the_shipped_weights():
    """45 dB is a mean error of 1.4 code values of 255, below what is seen."""
    net = load_model("unet").net
    blurry = read_photo(files("b2v") / "assets" / "demo.jpg").pixels[:, 100:228, 100:260]
    half, full = restore(net, blurry, BF16).frames, restore(net, blurry, FP32).frames
    assert psnr(half, full).min() >= 45


def test_what_does_not_fit_is_told_before_the_networks_run(picture):
    net = Stub()
    with pytest.raises(B2VError, match=r"40x40 pixels need .* GB of memory.*--max-memory"):
        restore(net, picture, FP32, max_memory=1e6)
    assert net.calls == 0


def test_time_is_estimated_for_large_pictures_alone(monkeypatch):
    net = Stub()
    assert seconds_for(net, 100, 100, FP32) == 0
    assert net.calls == 0
    monkeypatch.setattr("b2v.inference.images.PROBED", 0)
    clock = iter([10.0, 12.0])
    monkeypatch.setattr("b2v.inference.images.time.perf_counter", lambda: next(clock))
    assert seconds_for(net, 256, 1280, FP32) == 2.0 * 2 * 10
    assert net.calls == 2  # one to warm up


def test_half_precision_that_nobody_asked_for_is_tried_once(tmp_path, monkeypatch):
    write_tiny_prior(tmp_path / "weights")
    monkeypatch.setenv("B2V_CACHE", str(tmp_path / "cache"))
    loaded = load_model(weights=tmp_path / "weights")
    on_trial = Runtime(torch.device("cpu"), "bf16", on_trial=True)
    assert settle(on_trial, loaded) == BF16
    assert (tmp_path / "cache" / "records" / "precision.json").is_file()
    monkeypatch.setattr("b2v.inference.images.run_tiles", None)
    assert settle(on_trial, loaded) == BF16
    assert settle(FP32, loaded) == FP32
