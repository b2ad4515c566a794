"""Pictures moved along what their pixels do."""

import torch
from torch import Tensor
from torch.nn import functional as F


def move_along(picture: Tensor, shift: Tensor, top: int = 0) -> Tensor:
    """Move a picture by a shift for every pixel, bilinearly, its border repeated.

    Args:
        picture: [B, C, H, W].
        shift: [B, N, 2, h, W], x and y in pixels by which the content arrives at each pixel of
            h rows of the picture, all of them usually.
        top: the first of these rows.

    Returns:
        [B, N, C, h, W]; `out[p] = picture[p - shift[p]]`.

    """
    batch, moments, _, height, width = shift.shape
    y, x = torch.meshgrid(
        torch.arange(top, top + height, device=shift.device),
        torch.arange(width, device=shift.device),
        indexing="ij",
    )
    sources = torch.stack([x - shift[:, :, 0], y - shift[:, :, 1]], dim=-1)  # [B, N, H, W, 2]
    grid = (2 * sources + 1) / sources.new_tensor([width, picture.shape[2]]) - 1
    # The moments of one picture lie below each other, so that it need not be copied for them.
    moved = F.grid_sample(
        picture.float(), grid.flatten(1, 2), padding_mode="border", align_corners=False
    )
    return moved.reshape(batch, -1, moments, height, width).movedim(2, 1)
