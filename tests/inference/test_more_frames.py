"""Five, nine, eleven and thirteen frames of one photo."""

import pytest
import torch
from conftest import make_picture
from test_direction import LEFT, filmed, torn
from test_models import Recorder, tiny_cascade

from b2v.errors import UsageError
from b2v.frames import COUNTS, inner
from b2v.inference.images import restore
from b2v.inference.runtime import Runtime
from b2v.models import MODELS, SEVEN, Cascade
from b2v.motion import in_one_direction

FP32 = Runtime(torch.device("cpu"), "fp32")


@pytest.mark.parametrize("family", ["cascade", "jin2018"])
@pytest.mark.parametrize("count", COUNTS)
def test_the_inner_frames_are_those_of_seven_bit_for_bit(family, count):
    net, blurry = tiny_cascade(family), make_picture(45, 60)
    seven, frames = (
        restore(net, blurry, FP32).frames,
        restore(net, blurry, FP32, frames=count).frames,
    )
    assert frames.shape == (count, 3, 45, 60)
    assert torch.equal(inner(frames, min(count, 7)), inner(seven, min(count, 7)))
    assert (frames[1:] - frames[:-1]).abs().amax((1, 2, 3)).min() > 1e-4  # each is another one


def test_the_outermost_net_goes_on_with_its_own_frames():
    y, *x = torch.arange(10.0)[:, None, None, None, None].expand(-1, 1, 3, 4, 4)  # x[4] is middle
    nets = {
        "middle": Recorder(x[4]),
        "pair35": Recorder((x[3], x[5])),
        "pair26": Recorder(x[2], x[6]),
        "pair17": Recorder(x[1], x[0], x[7], x[8]),
    }
    frames = Cascade(**nets)(y, frames=9)
    assert frames[0, :, 0, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    seen = [[int(p.mean()) for p in pictures] for pictures in nets["pair17"].calls]
    assert seen == [[0, 4, 3], [0, 3, 2], [0, 6, 7], [0, 7, 8]]
    assert len(nets["pair26"].calls) == 2


def test_beyond_seven_frames_too_all_of_a_picture_runs_in_one_direction():
    truth = filmed(right=1.0, frames=9)
    mended = in_one_direction(torn(truth, LEFT))
    assert (mended - truth).square().mean() < 0.25 * (torn(truth, LEFT) - truth).square().mean()
    assert torch.equal(inner(mended), in_one_direction(torn(inner(truth), LEFT)))


@pytest.mark.parametrize("count", [0, 1, 3, 6, 8, 15])
def test_other_numbers_of_frames_are_refused(count):
    with pytest.raises(UsageError, match="5, 7, 9, 11, 13"):
        restore(tiny_cascade("cascade"), make_picture(20, 20), FP32, frames=count)


def test_a_model_that_gives_seven_at_once_gives_the_inner_five_and_refuses_more():
    net = MODELS["apart"][SEVEN].build().eval()
    blurry = make_picture(32, 32)
    assert restore(net, blurry, FP32, frames=5).frames.shape == (5, 3, 32, 32)
    with pytest.raises(UsageError, match="7 frames at most, not 9"):
        restore(net, blurry, FP32, frames=9)
