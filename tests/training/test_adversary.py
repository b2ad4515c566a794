"""The critic of patches: its loss by hand, what it sees, and that it learns."""

import pytest
import torch
from conftest import make_picture
from torch import nn

from b2v.training.losses import critic_loss, deceit_loss, new_critic


class Marks(nn.Module):
    """A critic that gives the mean of a frame as its mark."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.mean((1, 2, 3), keepdim=True)


def flat(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)


def test_the_losses_are_least_squares_by_sample():
    restored, sharp = (flat(0.2, 1.0), flat(0.4, 1.0)), (flat(1.0, 0.0), flat(0.8, 0.0))
    deceit = deceit_loss(Marks(), restored)
    assert deceit.tolist() == pytest.approx([(0.64 + 0.36) / 2, 0.0])
    loss = critic_loss(Marks(), restored, sharp)
    first = ((0.04 + 0.0) / 2 + (0.16 + 0.04) / 2) / 2
    assert loss.tolist() == pytest.approx([first, 1.0])


def test_frames_are_judged_one_by_one_so_their_order_does_not_count():
    critic = new_critic(0)
    one, two = torch.rand(2, 4, 3, 16, 16)
    assert torch.allclose(deceit_loss(critic, (one, two)), deceit_loss(critic, (two, one)))


def test_a_mark_is_of_a_patch_of_38_pixels():
    critic = new_critic(0)
    frames = torch.rand(1, 3, 96, 96, requires_grad=True)
    marks = critic(frames)
    assert marks.shape == (1, 1, 12, 12)
    marks[0, 0, 6, 6].backward()
    seen = frames.grad.abs().sum((0, 1)).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [38, 38]


def test_a_critic_is_drawn_from_the_seed():
    one, again, other = new_critic(3), new_critic(3), new_critic(4)
    assert torch.equal(one.head.weight, again.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)


def test_a_critic_learns_to_tell_smooth_from_sharp():
    critic = new_critic(0)
    sharp = torch.stack([make_picture(16, 16, seed) for seed in range(4)])
    smooth = nn.functional.avg_pool2d(sharp, 5, 1, 2)
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3)
    losses = []
    for _ in range(30):
        loss = critic_loss(critic, (smooth,), (sharp,)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert (deceit_loss(critic, (smooth,)) > deceit_loss(critic, (sharp,)) + 0.3).all()
