"""Between code values and light."""

import pytest
import torch

from b2v.color import to_encoded, to_linear

both_curves = pytest.mark.parametrize("curve", ["srgb", "gamma2.2"])


@both_curves
def test_code_values_survive_the_way_to_light_and_back(curve):
    codes = torch.linspace(0, 1, 256)
    back = to_encoded(to_linear(codes, curve), curve)
    assert (back - codes).abs().max() < 1e-6


@both_curves
def test_light_survives_the_way_to_code_values_and_back(curve):
    light_lin = torch.linspace(0, 1, 1001)
    back = to_linear(to_encoded(light_lin, curve), curve)
    assert (back - light_lin).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("curve", "code", "light"),
    [
        ("srgb", 0.0, 0.0),
        ("srgb", 0.02, 0.02 / 12.92),  # the straight piece near black
        ("srgb", 0.5, 0.214041),
        ("srgb", 1.0, 1.0),
        ("gamma2.2", 0.0, 0.0),
        ("gamma2.2", 0.5, 0.217638),
        ("gamma2.2", 1.0, 1.0),
    ],
)
def test_known_code_values_have_their_known_light(curve, code, light):
    assert to_linear(torch.tensor(code), curve).item() == pytest.approx(light, abs=1e-6)
    assert to_encoded(torch.tensor(light), curve).item() == pytest.approx(code, abs=2e-6)


def test_the_exact_curve_is_the_default():
    assert to_linear(torch.tensor(0.5)).item() == pytest.approx(0.214041, abs=1e-6)
    assert to_encoded(torch.tensor(0.214041)).item() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(("curve", "gray"), [("srgb", 0.7354), ("gamma2.2", 0.7297)])
def test_black_and_white_average_in_light_to_a_bright_gray(curve, gray):
    average_lin = to_linear(torch.tensor([0.0, 1.0]), curve).mean()
    assert to_encoded(average_lin, curve).item() == pytest.approx(gray, abs=1e-4)


@both_curves
def test_both_curves_rise_without_a_jump(curve):
    codes = torch.linspace(0, 1, 4096)
    steps = to_linear(codes, curve).diff()
    assert (steps >= 0).all()
    assert steps.max() < 3 / 4096


@both_curves
def test_values_outside_the_range_are_cut(curve):
    wild = torch.tensor([-0.3, 1.7])
    assert to_linear(wild, curve).tolist() == [0, 1]
    assert to_encoded(wild, curve).tolist() == pytest.approx([0, 1], abs=1e-6)


def test_gradients_of_the_exact_curve_are_finite_at_black():
    light_lin = torch.zeros(3, requires_grad=True)
    to_encoded(light_lin).sum().backward()
    assert light_lin.grad.tolist() == pytest.approx([12.92] * 3, rel=1e-4)
