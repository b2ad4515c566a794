"""Training of video networks: loss and validation on sequences (Kim et al., ICCV 2017, Sec. 5).

A network runs through a sequence from its first frame to its last, handing on its state, and its
gradient flows back through all of them.
"""

from pathlib import Path

import torch
from torch import Tensor

from b2v.frames import crop_back, pad_to_multiple
from b2v.inference.runtime import Runtime
from b2v.losses import PixelLoss, pixel_loss
from b2v.metrics import psnr
from b2v.models.video import VideoNet, run_clip
from b2v.sequences import open_sequences

BEST_DB = 40.0
"""PSNR above which better is not worth more, as in `b2v.losses.LOG_FLOOR`: what an all but still
sequence loses beyond it nobody sees, and it would outweigh all others."""
SHOWN = 3
"""Frames of a sequence in the picture to look at."""


def video_loss(net: VideoNet, blurry: Tensor, sharp: Tensor, kind: PixelLoss) -> Tensor:
    """Compare restored sequences with sharp ones, both [B, N, 3, H, W]: the mean of frames, [B]."""
    restored = run_clip(net, blurry)
    return pixel_loss(restored, sharp, kind).mean(1)


@torch.no_grad()
def validate_video(
    net: VideoNet, validation: Path, runtime: Runtime, rows: int = 4
) -> tuple[float, Tensor]:
    """Score a network on sequences of scenes that it is not trained on.

    Returns:
        Mean gain in dB over the blurry frames, of all frames of all sequences, and a picture
        [3, h, w] to look at: the first sequences, a row each, with the first, the middle and the
        last frame of it blurry, restored and sharp.

    """
    gains: list[Tensor] = []
    strips: list[Tensor] = []
    for sequence in open_sequences(validation):
        pictures = torch.from_numpy(sequence.copy()).to(runtime.device).float() / 255
        blurry, sharp = pictures
        with runtime.autocast():
            restored = run_clip(net, pad_to_multiple(blurry, net.multiple)[None])[0]
        restored = crop_back(restored.float(), *blurry.shape[2:]).clamp(0, 1)
        before, after = (psnr(x, sharp).clamp(max=BEST_DB) for x in (blurry, restored))
        gains.append((after - before).mean())
        if len(strips) < rows:
            shown = torch.linspace(0, len(blurry) - 1, SHOWN).long().tolist()
            cells = [x[n] for n in shown for x in (blurry, restored, sharp)]
            strips.append(torch.cat(cells, dim=2))
    return float(torch.stack(gains).mean()), torch.cat(strips, dim=1).cpu()
