"""What is scored, by names and paths."""

import pytest
from command_line import write_tiny_cascade, write_tiny_prior
from test_evaluate_video import SMALL

from b2v.defaults import PHOTO_MODEL
from b2v.errors import UsageError, WeightsError
from b2v.evaluate import open_entries
from b2v.models import PRIOR, VIDEO, Blueprint, Cascade, Prior
from b2v.models.dtb import DTB, DTBConfig
from b2v.models.unet import UNet
from b2v.weights.checkpoints import file_name, save_network


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
    (entry,) = open_entries("cascade", [])
    assert (entry.name, entry.protocol) == ("cascade", "seven")
    assert isinstance(entry.net, Cascade)


def test_equal_names_become_paths_and_others_stay(folder):
    names = [e.name for e in open_entries("cascade", [folder / "a", folder / "b"])]
    assert names == [str(folder / "a"), str(folder / "b")]
    (named,) = open_entries("cascade", [folder / "b"])
    assert named.name == "cascade"


def test_a_middle_net_is_taken_out_of_its_cascade(folder):
    file = folder / "a" / "cascade-middle.safetensors"
    for weights in ([folder / "a"], [file], []):
        (entry,) = open_entries("cascade", weights, "middle")
        assert entry.protocol == "middle"
        assert isinstance(entry.net, UNet)
    (whole,) = open_entries("cascade", [file])
    assert whole.name == "cascade with middle from cascade-middle.safetensors"
    assert whole.protocol == "seven"


def test_a_prior_gives_the_middle_frame_alone_too(folder):
    write_tiny_prior(folder / "p")
    file = folder / "p" / file_name(PHOTO_MODEL, PRIOR)
    for weights in ([folder / "p"], [file]):
        for protocol in ("middle", "seven"):
            (entry,) = open_entries("cascade", weights, protocol)
            assert entry.protocol == protocol
            assert isinstance(entry.net, Prior)
    assert entry.name == file.stem


def test_video_is_told_by_the_weights(folder):
    for weights in (folder / "v", folder / "v" / "dtb-video.safetensors"):
        (entry,) = open_entries("dtb", [weights])
        assert entry.protocol == "video"
        assert isinstance(entry.net, DTB)


def test_what_does_not_belong_together_is_refused(folder):
    with pytest.raises(UsageError, match="cannot be compared"):
        open_entries("cascade", [folder / "a", folder / "v" / "dtb-video.safetensors"])
    with pytest.raises(UsageError, match="--protocol is for photos"):
        open_entries("dtb", [folder / "v"], "middle")
    with pytest.raises(UsageError, match="is the pair17 network"):
        open_entries("cascade", [folder / "a" / "cascade-pair17.safetensors"], "middle")
    with pytest.raises(WeightsError, match="nobody"):
        open_entries("nobody", [])
