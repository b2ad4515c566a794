"""The mean of several networks."""

import pytest
import torch
from test_cli_extract import assert_one_line, run_main
from test_weights import MIDDLE, TINY, state_of

from b2v.weights import load_network, save_network


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        save_network(state_of(MIDDLE, seed), MIDDLE, "middle", tmp_path / f"{name}.safetensors")
    save_network(state_of(TINY["pair35"]), TINY["pair35"], "pair35", tmp_path / "c.safetensors")
    (tmp_path / "d.safetensors").write_text("nothing of the kind")
    return tmp_path


@pytest.fixture
def b2v(capsys, files):
    return lambda *args: run_main(capsys, "weights", "average", *args)


@pytest.mark.parametrize(("given", "share"), [((), 0.5), (("--share", 1, "--share", 3), 0.25)])
def test_the_mean_lies_between_its_networks(b2v, files, given, share):
    ran = b2v("a.safetensors", "b.safetensors", "-o", "m.safetensors", *given)
    assert (ran.code, ran.out) == (0, "m.safetensors\n")
    a, b, mean = (load_network(files / f"{name}.safetensors") for name in "abm")
    assert (mean.role, mean.blueprint) == (a.role, a.blueprint)
    assert sorted(mean.note["mean_of"].values()) == sorted((share, 1 - share))
    states = (net.module.state_dict() for net in (a, b, mean))
    first, second, found = states
    for name, weight in found.items():
        expected = share * first[name] + (1 - share) * second[name]
        assert torch.allclose(weight, expected, atol=2e-4)
    assert not torch.equal(found["stem.weight"], first["stem.weight"])


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("a",), 2, "two networks at least"),
        (("a", "b", "--share", 1), 2, "2 networks take as many shares"),
        (("a", "b", "--share", 1, "--share", -1), 2, "none below 0"),
        (("a", "b", "--share", 0, "--share", 0), 2, "not all 0"),
        (("a", "c"), 3, "c.safetensors: is of another shape than"),
        (("a", "d"), 3, "d.safetensors"),
        (("a", "gone"), 3, "gone.safetensors does not exist"),
    ],
)
def test_what_has_no_mean_is_one_line(b2v, files, args, code, said):
    named = [
        f"{arg}.safetensors" if isinstance(arg, str) and "-" not in arg else arg for arg in args
    ]
    assert_one_line(b2v(*named, "-o", "m.safetensors"), code, said)
    assert not (files / "m.safetensors").exists()


def test_what_is_there_stays_unless_it_is_to_be_replaced(b2v, files):
    args = "a.safetensors", "b.safetensors", "-o", "a.safetensors"
    before = (files / "a.safetensors").read_bytes()
    assert_one_line(b2v(*args), 2, "a.safetensors: exists already")
    assert (files / "a.safetensors").read_bytes() == before
    assert b2v(*args, "--overwrite").code == 0
    assert (files / "a.safetensors").read_bytes() != before
    assert_one_line(b2v(*args[:2], "-o", "mean.pt"), 2, "mean.pt: networks go to files ending")
