"""The model object of the Python API."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import make_picture
from PIL import Image

import b2v
from b2v.media.images import write_photo
from b2v.models import Prior

PUBLIC = {
    *("Clip", "Deblurrer", "Model", "ModelInfo"),
    *("deblur", "extract", "list_models", "load_model", "__version__"),
    *("B2VError", "DatasetError", "MediaError", "ShapeError", "UsageError", "WeightsError"),
}
ON_CPU = {"device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def fast():
    return b2v.load_model(quality="fast", **ON_CPU)


def test_the_public_names_are_just_these():
    assert set(b2v.__all__) == set(dir(b2v)) == PUBLIC
    for name in PUBLIC:
        assert getattr(b2v, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'load'"):
        b2v.load  # noqa: B018


def test_importing_b2v_takes_no_torch():
    said = "import sys, b2v; b2v.__version__; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False"]


def test_a_picture_of_any_kind_gives_the_same_frames(fast, tmp_path):
    path = write_photo(make_picture(40, 56), tmp_path / "photo.png")
    codes = np.array(Image.open(path))
    tensor = torch.from_numpy(codes).permute(2, 0, 1) / 255
    kinds = [path, str(path), codes, Image.open(path), tensor, tensor.permute(1, 2, 0).numpy()]
    clips = [fast.extract(kind) for kind in kinds]
    assert clips[0].frames.shape == (7, 3, 40, 56)
    assert all(torch.allclose(c.frames, clips[0].frames, atol=1e-5) for c in clips[1:])
    assert fast.extract(codes[..., 0]).frames.shape == (7, 3, 40, 56)


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (np.zeros((20, 20, 4), np.uint8), r"shape \[20, 20, 4\]; expected \[H, W, 3\]"),
        (np.zeros((20, 20, 3), np.int64), "is of int64; expected uint8, uint16 or floats"),
        (torch.zeros(20, 20, 3), r"expected \[3, H, W\]"),
    ],
)
def test_what_is_no_picture_is_refused_with_what_was_expected(fast, picture, said):
    with pytest.raises(b2v.ShapeError, match=said):
        fast.extract(picture)


def test_a_batch_gives_the_frames_of_each_picture(fast):
    batch = torch.stack([make_picture(32, 48, seed) for seed in range(2)])
    frames = fast(batch)
    assert frames.shape == (2, 7, 3, 32, 48)
    assert torch.equal(frames[1], fast.extract(batch[1]).frames)
    with pytest.raises(b2v.ShapeError, match=r"expected \[B, 3, H, W\]"):
        fast(batch[0])


def test_flow_is_the_motion_over_the_exposure(fast):
    """A pan by 12 pixels, whose sign cannot be known."""
    sharp = make_picture(160, 208)
    blurry = torch.stack([sharp[:, :, k : k + 192] for k in range(13)]).mean(0)
    flow = fast.flow(blurry)
    assert flow.shape == (2, 160, 192)
    assert float(flow[0].abs().median()) == pytest.approx(12, abs=4)
    assert float(flow[1].abs().median()) < 2


def test_one_model_restores_photos_and_videos(fast):
    assert isinstance(fast.net, Prior)
    video = [make_picture(32, 48, seed) for seed in range(3)]
    assert [frame.shape for frame in fast.deblur(video)] == [(3, 32, 48)] * 3
    stream = fast.stream()
    given = [stream.step(frame) for frame in video]
    assert given[0] is None
    assert len([*(frame for frame in given if frame is not None), *stream.flush()]) == 3


def test_a_model_for_videos_says_so_of_photos_and_the_other_way_round():
    blend, cascade = (b2v.load_model(name, **ON_CPU) for name in ("blend", "cascade"))
    assert repr(blend) == "<b2v model blend for videos on cpu fp32>"
    assert repr(cascade) == "<b2v model cascade for photos on cpu fp32>"
    with pytest.raises(b2v.WeightsError, match="blend is for videos; load maxim-1 for photos"):
        blend.extract(make_picture(32, 32))
    with pytest.raises(b2v.WeightsError, match="cascade is for photos; load blend for videos"):
        cascade.stream()
    with pytest.raises(b2v.UsageError, match="cascade seeks no motion; load one of maxim-half"):
        cascade.flow(make_picture(32, 32))


def test_a_model_tells_what_it_is(fast):
    assert (fast.name, fast.license, fast.precision) == ("maxim-half", "Apache-2.0", "fp32")
    assert fast.device == torch.device("cpu")
    assert fast.size_multiple == 64
    assert len(fast.sha256) == 64
    assert any(found.name == "maxim-half" and found.verified for found in b2v.list_models())


def test_a_file_is_a_model_too(tmp_path):
    from b2v.files import shipped_dir

    path = shipped_dir() / "unet-prior.safetensors"
    assert b2v.load_model(path, **ON_CPU).name == "unet-prior"
    assert b2v.load_model(str(path), **ON_CPU).name == "unet-prior"
    with pytest.raises(b2v.WeightsError, match=r"missing\.safetensors does not exist"):
        b2v.load_model(tmp_path / "missing.safetensors")
    with pytest.raises(b2v.WeightsError, match="there is no model 'nobody'"):
        b2v.load_model("nobody")
