"""Networks run on pictures of any size: pad, tile, run, run again in fp32, crop, blend."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from b2v.errors import WeightsError
from b2v.frames import crop_back, pad_to_multiple
from b2v.inference.runtime import Runtime
from b2v.models import Extractor
from b2v.models.prior import Prior, Tile, Tiling

Call = Callable[..., Tensor]
"""A network: pictures [1, 3, h, w] in, what it makes of them [1, ..., h, w] out."""


def run_tiles(
    prior: Prior,
    picture: Tensor,
    runtime: Runtime | None,
    *,
    wanted: Callable[[Tile], bool] = lambda _: True,
    done: Callable[[int], None] = lambda _: None,
) -> tuple[Tensor, Tensor]:
    """Run a prior on the tiles of a picture that are wanted.

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
    change, share = torch.zeros_like(picture), picture.new_zeros(1, *picture.shape[1:])
    for tile in prior.tiling.tiles(*picture.shape[1:]):
        if wanted(tile):
            part = tile.of(picture)
            found = _run(prior.net, [part], prior.multiple, runtime) - part
            _add(change, share, found, tile, prior.tiling)
            done(tile.height * tile.width)
    change /= share.clamp(min=1)
    return change, share.clamp_(max=1)


def run_frames(
    net: Extractor,
    pictures: Sequence[Tensor],
    runtime: Runtime,
    store: Tensor,
    *,
    done: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Run a model that gives all frames at once, in its tiles or on the whole picture.

    Args:
        net: the model, on the runtime's device.
        pictures: the blurry photo [3, H, W] and, if there is one, its middle frame.
        runtime: device and precision; what is not finite is run again in fp32.
        store: [frames, 3, H, W], to be filled; more than seven go on at both ends.
        done: is told the pixels of each tile.

    Returns:
        `store`, not clamped.

    Raises:
        WeightsError: values are not finite in fp32, too.

    """
    frames, _, height, width = store.shape
    share = torch.zeros(1, height, width)
    store.zero_()
    for tile in tiles_of(net, height, width):
        parts = [tile.of(picture) for picture in pictures]
        found = _run(lambda *given: net(*given, frames=frames), parts, net.multiple, runtime)
        _add(store, share, found, tile, net.tiling)
        done(tile.height * tile.width)
    return store.div_(share)


def tiles_of(net: Extractor, height: int, width: int) -> list[Tile]:
    """List the tiles that a model is run on; the whole picture is one where it has none."""
    if net.tiling is None:
        return [Tile(0, 0, height, width)]
    return list(net.tiling.tiles(height, width))


def _add(whole: Tensor, share: Tensor, found: Tensor, tile: Tile, tiling: Tiling | None) -> None:
    """Add what was found in a tile, less towards the tiles beside it."""
    height, width = whole.shape[-2:]
    weights = tiling.weights(tile, height, width) if tiling else torch.ones(height, width)
    tile.of(whole).add_(found.mul_(weights))
    tile.of(share).add_(weights)


def _run(net: Call, parts: list[Tensor], multiple: int, runtime: Runtime | None) -> Tensor:
    """Run a network on parts [3, h, w] of pictures: [..., h, w] in fp32, on the CPU."""
    padded = [pad_to_multiple(part[None], multiple) for part in parts]
    size = parts[0].shape[1:]
    if runtime is None:
        return crop_back(net(*padded)[0].float(), *size)
    given = [x.to(runtime.device, memory_format=torch.channels_last) for x in padded]
    with runtime.autocast():
        restored = net(*given)[0].float()
    if not restored.isfinite().all() and runtime.precision != "fp32":
        restored = net(*(x.float() for x in given))[0]
    if not restored.isfinite().all():
        raise WeightsError("the networks give values that are not finite; use other weights")
    return crop_back(restored, *size).cpu()
