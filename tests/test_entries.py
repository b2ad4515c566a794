"""What is scored, by names and paths."""

import pytest
from test_cli_extract import write_tiny_cascade
from test_evaluate_video import SMALL

from b2v.entries import open_entries
from b2v.errors import UsageError, WeightsError
from b2v.models import VIDEO, Blueprint, Cascade
from b2v.models.dtb import DTB, DTBConfig
from b2v.models.unet import UNet
from b2v.weights import file_name, save_network


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two cascades of one name, and a network for video."""
    write_tiny_cascade(tmp_path / "a")
    write_tiny_cascade(tmp_path / "b", seed=1)
    plan = Blueprint("dtb", DTBConfig(**SMALL))
    path = tmp_path / "v" / file_name("dtb", VIDEO)
    save_network(plan.build().state_dict(), plan, VIDEO, path)
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(tmp_path / "a"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_weights_it_is_the_model_itself(folder):
    (entry,) = open_entries("b2v", [])
    assert (entry.name, entry.protocol) == ("b2v", "seven")
    assert isinstance(entry.net, Cascade)


def test_equal_names_become_paths_and_others_stay(folder):
    names = [e.name for e in open_entries("b2v", [folder / "a", folder / "b"])]
    assert names == [str(folder / "a"), str(folder / "b")]
    (named,) = open_entries("b2v", [folder / "b"])
    assert named.name == "b2v"


def test_a_middle_net_is_taken_out_of_its_cascade(folder):
    file = folder / "a" / "b2v-middle.safetensors"
    for weights in ([folder / "a"], [file], []):
        (entry,) = open_entries("b2v", weights, "middle")
        assert entry.protocol == "middle"
        assert isinstance(entry.net, UNet)
    (whole,) = open_entries("b2v", [file])
    assert (whole.name, whole.protocol) == ("b2v with middle from b2v-middle.safetensors", "seven")


def test_video_is_told_by_the_weights(folder):
    for weights in (folder / "v", folder / "v" / "dtb-video.safetensors"):
        (entry,) = open_entries("dtb", [weights])
        assert entry.protocol == "video"
        assert isinstance(entry.net, DTB)


def test_what_does_not_belong_together_is_refused(folder):
    with pytest.raises(UsageError, match="cannot be compared"):
        open_entries("b2v", [folder / "a", folder / "v" / "dtb-video.safetensors"])
    with pytest.raises(UsageError, match="--protocol is for photos"):
        open_entries("dtb", [folder / "v"], "middle")
    with pytest.raises(UsageError, match="is the pair17 network"):
        open_entries("b2v", [folder / "a" / "b2v-pair17.safetensors"], "middle")
    with pytest.raises(WeightsError, match="nobody"):
        open_entries("nobody", [])
