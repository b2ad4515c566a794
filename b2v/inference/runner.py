"""A prior run on a picture of any size: pad, tile, run, run again in fp32, crop, blend."""

from collections.abc import Callable

import torch
from torch import Tensor

from b2v.errors import WeightsError
from b2v.frames import crop_back, pad_to_multiple
from b2v.inference.runtime import Runtime
from b2v.models.prior import Prior, Tile


def run_tiles(
    prior: Prior,
    picture: Tensor,
    runtime: Runtime | None,
    *,
    wanted: Callable[[Tile], bool] = lambda _: True,
    done: Callable[[int], None] = lambda _: None,
) -> tuple[Tensor, Tensor]:
    """Run a network on the tiles of a picture that are wanted.

    Args:
        prior: the network, on the runtime's device.
        picture: [3, H, W] in [0, 1], on the CPU.
        runtime: device and precision; what is not finite is run again in fp32. None where the
            caller has seen to both.
        wanted: tells which tiles are run.
        done: is told the pixels of each tile that was.

    Returns:
        What the network changes, [3, H, W], 0 where no tile was run; and the share in which tiles
        were, [1, H, W] in [0, 1].

    Raises:
        WeightsError: values are not finite in fp32, too.

    """
    height, width = picture.shape[1:]
    change, total = torch.zeros_like(picture), picture.new_zeros(1, height, width)
    for tile in prior.tiling.tiles(height, width):
        if not wanted(tile):
            continue
        part = tile.of(picture)
        weights = prior.tiling.weights(tile, height, width)
        tile.of(change).add_((_run(prior, part, runtime) - part) * weights.to(part))
        tile.of(total).add_(weights)
        done(tile.height * tile.width)
    change /= total.clamp(min=1)
    return change, total.clamp_(max=1)


def _run(prior: Prior, part: Tensor, runtime: Runtime | None) -> Tensor:
    padded = pad_to_multiple(part[None], prior.multiple)
    if runtime is None:
        return crop_back(prior.net(padded)[0].float(), *part.shape[1:])
    given = padded.to(runtime.device, memory_format=torch.channels_last)
    with runtime.autocast():
        restored = prior.net(given)[0].float()
    if not restored.isfinite().all() and runtime.precision != "fp32":
        restored = prior.net(given.float())[0]
    if not restored.isfinite().all():
        raise WeightsError("the networks give values that are not finite; use other weights")
    return crop_back(restored, *part.shape[1:]).cpu()
