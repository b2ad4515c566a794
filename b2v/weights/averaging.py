"""The mean of networks of one shape, which is often better than any of them.

Networks along one training run, or trained on from one of it, lie in one valley (Izmailov et al.,
Averaging Weights Leads to Wider Optima, 2018; Wortsman et al., Model Soups, 2022).
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from b2v.errors import UsageError, WeightsError
from b2v.weights.files import load_network, save_network, sha256_of


def average(paths: Sequence[Path], out: Path, shares: Sequence[float] | None = None) -> None:
    """Write the mean of networks to the file `out`, with a note of what it is the mean of.

    Args:
        paths: files of two networks or more.
        out: file to write.
        shares: weight of each network, not negative, whatever they sum up to; equal without.

    Raises:
        UsageError: there are too few networks, or the shares do not suit.
        WeightsError: a file cannot be read, the networks are not of one shape, or `out` cannot be
            written.

    """
    parts = [1.0] * len(paths) if shares is None else list(shares)
    if len(paths) < 2:
        raise UsageError("a mean takes two networks at least; name more files")
    if len(parts) != len(paths) or min(parts) < 0 or not sum(parts) > 0:
        raise UsageError(f"{len(paths)} networks take as many shares, none below 0, not all 0")
    first, *others = networks = [load_network(path) for path in paths]
    for other in others:
        if (other.role, other.blueprint) != (first.role, first.blueprint):
            raise WeightsError(f"{other.path}: is of another shape than {first.path}; take its own")
    states = [network.module.state_dict() for network in networks]
    total = sum(parts)
    mean = {
        name: torch.stack([p / total * s[name] for p, s in zip(parts, states, strict=True)]).sum(0)
        for name in states[0]
    }
    made = {sha256_of(path)[:12]: part / total for path, part in zip(paths, parts, strict=True)}
    save_network(mean, first.blueprint, first.role, out, note={"mean_of": made})
