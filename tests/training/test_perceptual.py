"""Perceptual loss: the file it needs, the layers it looks at, what it says of pictures."""

import hashlib

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from test_weights_hub import SOURCE, server  # noqa: F401
from torch.nn import functional as F

from b2v.errors import WeightsError
from b2v.training.losses import Features, load_features, perceptual_loss
from b2v.weights import hub
from b2v.weights.hub import CONVOLUTIONS, FILE, find_vgg16, read_vgg16


def vgg_state() -> dict[str, torch.Tensor]:
    """Random weights under the names that torchvision and timm have, those of the rest as well."""
    noise = torch.Generator().manual_seed(0)
    state = {"head.fc.weight": torch.rand(2, 2), "features.17.weight": torch.rand(2, 2, 3, 3)}
    for name, (outputs, inputs) in CONVOLUTIONS.items():
        weight = torch.randn(outputs, inputs, 3, 3, generator=noise)
        state[f"{name}.weight"] = weight * (2 / (9 * inputs)) ** 0.5
        state[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=noise)
    return state


@pytest.fixture(scope="module")
def state():
    return vgg_state()


@pytest.fixture
def file(tmp_path, state):
    save_file(state, tmp_path / FILE)
    return tmp_path / FILE


def test_the_layers_are_relu2_2_and_relu3_3_of_normalized_pictures(state):
    picture = torch.rand(2, 3, 16, 16)
    conv = dict(zip(range(1, 8), CONVOLUTIONS, strict=True))

    def step(x, number):
        name = conv[number]
        return F.relu(F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1))

    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (picture - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    relu2_2 = step(step(F.max_pool2d(step(step(x, 1), 2), 2), 3), 4)
    relu3_3 = step(step(step(F.max_pool2d(relu2_2, 2), 5), 6), 7)
    seen = Features(state)(picture)
    assert [list(s.shape) for s in seen] == [[2, 128, 8, 8], [2, 256, 4, 4]]
    for found, expected in zip(seen, (relu2_2, relu3_3), strict=True):
        assert torch.allclose(found, expected, atol=1e-4)


def test_equal_pictures_have_no_loss_and_the_gradient_reaches_the_restored_one_alone(state):
    features = Features(state)
    sharp = torch.rand(3, 3, 16, 16)
    shift = torch.tensor([0.0, 0.02, 0.1]).view(3, 1, 1, 1)
    restored = (sharp + shift * torch.randn_like(sharp)).requires_grad_()
    losses = perceptual_loss(features, restored, sharp)
    assert losses.shape == (3,)
    assert losses[0] == 0
    assert 0 < losses[1] < losses[2]
    expected = sum(
        (r - s).square().mean((1, 2, 3))
        for r, s in zip(features(restored), features(sharp), strict=True)
    )
    assert torch.allclose(losses, expected)
    losses.sum().backward()
    assert restored.grad[2].abs().sum() > 0
    assert not any(weight.requires_grad for weight in features.parameters())


def test_the_first_layers_are_read_and_the_rest_is_left(file, state):
    found = read_vgg16(file)
    assert len(found) == 14
    assert all(torch.equal(found[key], state[key]) for key in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.7.bias": None}, r"lacks 'features.7.bias': it does not hold a VGG16"),
        ({"features.2.weight": torch.rand(64, 3, 3, 3)}, r"\[64, 3, 3, 3\], expected \[64, 64, 3"),
    ],
)
def test_another_network_is_refused_by_name(tmp_path, state, change, message):
    wrong = {key: value for key, value in {**state, **change}.items() if value is not None}
    save_file(wrong, tmp_path / FILE)
    with pytest.raises(WeightsError, match=message):
        read_vgg16(tmp_path / FILE)
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="damaged or not safetensors"):
        read_vgg16(tmp_path / FILE)


def test_without_the_file_and_the_network_one_line_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("B2V_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError) as caught:
        load_features()
    said = str(caught.value)
    assert "VGG16 for perceptual > 0 is not here" in said
    assert "HF_HUB_OFFLINE is set" in said
    assert "timm/vgg16.tv_in1k@b8d8aa2d" in said
    assert f"put the file as {FILE} into {tmp_path}, or train with perceptual = 0" in said
    assert "\n" not in said


def test_a_file_of_one_s_own_is_taken_first(monkeypatch, tmp_path, file):
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(file.parent))
    assert find_vgg16() == file
    monkeypatch.delenv("B2V_WEIGHTS_DIR")
    monkeypatch.setenv("B2V_CACHE", str(tmp_path))
    assert find_vgg16() == file


def test_it_is_downloaded_once_and_verified(server, file, monkeypatch):  # noqa: F811
    content = file.read_bytes()
    file.unlink()
    server.files[FILE] = content
    right = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(hub, "VGG16", (f"{SOURCE}/{FILE}", right))
    path = find_vgg16()
    assert path.read_bytes() == content
    asked = len(server.seen)
    assert find_vgg16() == path
    assert len(server.seen) == asked
    path.unlink()
    monkeypatch.setattr(hub, "VGG16", (f"{SOURCE}/{FILE}", "0" * 64))
    with pytest.raises(WeightsError, match="expected 000000000000"):
        find_vgg16()
