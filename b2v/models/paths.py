"""One network that reads the motion off the blur: for every pixel the path it was smeared along.

What motion does to a picture is seen in its autocorrelation: along the path, the derivative of a
blurred edge comes again with the opposite sign a path's length away, and a row of ghosts comes
again at every step (Yitzhaky and Kopeika, Identification of Blur Parameters from Motion Blurred
Images, 1997). So local autocorrelations, in a few directions and at a few lengths, stand beside
the picture at the entrance of a small U-Net at an eighth of the size.

Blur does not tell which way time ran, so a path is given by its length and its direction up to
the sign: in angle doubling (Granlund, 1978), opposite directions are one vector. The sign is
chosen for the whole picture by `b2v.models.camera`.

Pictures are [B, 3, H, W], sRGB-encoded in [0, 1]; sides are multiples of `multiple`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.models.unet import blocks_of

CELL = 8
"""Pixels a side of what has one set of autocorrelations."""
AROUND = 5
"""Cells a side over which autocorrelations are averaged too: steadier, less local."""
BAND = 512
"""Rows of a picture that are looked at together, a multiple of `CELL`."""
NOISE = 1e-5
"""Energy of gradients that is nothing yet."""


@dataclass(frozen=True, kw_only=True)
class PathsConfig:
    """Shape of the network."""

    directions: int = 12
    """Directions of half a turn that are looked along."""
    lengths: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 11, 15, 20, 27)
    """Shifts in pixels at which a picture is compared with itself."""
    colours: int = 48
    """Channels of what is seen of the picture itself."""
    widths: tuple[int, int] = (96, 128)
    """Channels at an eighth and at a sixteenth of the size."""
    blocks: tuple[int, int] = (2, 4)
    """Residual blocks there; at the eighth twice, on the way down and on the way up."""
    reach: float = 8.0
    """Pixels of path for an output of one."""


class Paths(nn.Module):
    """Doubled paths (`double`) in pixels, [B, 3, H/8, W/8], from blurry pictures [B, 3, H, W]."""

    multiple = 2 * CELL

    def __init__(self, config: PathsConfig) -> None:
        super().__init__()
        self.config = config
        kinds = config.directions * (len(config.lengths) + 1)
        c, (fine, coarse), (some, more) = config.colours, config.widths, config.blocks
        self.look = nn.Sequential(
            nn.Conv2d(3 * 16, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 2, stride=2)
        )
        self.stem = nn.Conv2d(2 * (kinds + 1) + c, fine, 1)
        self.encoder = blocks_of(fine, some)
        self.down = nn.Conv2d(fine, coarse, 2, stride=2)
        self.bottom = blocks_of(coarse, more)
        self.up = nn.Conv2d(coarse, 4 * fine, 1)
        self.decoder = blocks_of(fine, some)
        self.head = nn.Conv2d(fine, 3, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, blurry: Tensor) -> Tensor:
        """Estimate the doubled paths of cells of `CELL` pixels a side."""
        x = self.encoder(self._seen(blurry))  # [B, C, H/8, W/8]
        x = self.decoder(x + F.pixel_shuffle(self.up(self.bottom(self.down(x))), 2))
        return self.config.reach * self.head(x).float()

    def _seen(self, blurry: Tensor) -> Tensor:
        """Look at pictures, wherever they are, band by band: what is left of a band is small."""
        halo = CELL * (math.ceil((max(self.config.lengths) + 1) / CELL) + AROUND // 2)
        bands = []
        for top in range(0, blurry.shape[2], BAND):
            above = min(halo, top)
            band = blurry[:, :, top - above : top + BAND + halo].to(self.stem.weight.device)
            with torch.no_grad(), torch.autocast(band.device.type, enabled=False):
                known = autocorrelations(band, self.config)
            seen = self.look(F.pixel_unshuffle(band - 0.5, CELL // 2))
            cells = self.stem(torch.cat([known, seen], 1))[:, :, above // CELL :]
            bands.append(cells[:, :, : BAND // CELL])
        return torch.cat(bands, 2) if len(bands) > 1 else bands[0]


def spread(cells: Tensor, top: int = 0, bottom: int | None = None) -> Tensor:
    """Interpolate what is known of cells [B, C, h, w] at rows of pixels: [B, C, rows, 8 w]."""
    bottom = CELL * cells.shape[2] if bottom is None else bottom
    first = max(0, top // CELL - 1)
    near = cells[:, :, first : -(-bottom // CELL) + 1]
    fine = F.interpolate(near, scale_factor=CELL, mode="bilinear", align_corners=False)
    return fine[:, :, top - CELL * first : bottom - CELL * first]


def double(way: Tensor) -> Tensor:
    """Turn ways [B, 2, H, W] into what opposite ones have in common: [B, 3, H, W].

    That is the length, and the vector of that length at twice the angle.
    """
    length = way.norm(dim=1).clamp(min=1e-6)
    x, y = way.unbind(1)
    return torch.stack([length, (x * x - y * y) / length, 2 * x * y / length], 1)


def halve(doubled: Tensor) -> Tensor:
    """Turn [B, 3, H, W] of `double` into ways [B, 2, H, W], one of both signs."""
    angle = torch.atan2(doubled[:, 2], doubled[:, 1]) / 2
    return doubled[:, :1].clamp(min=0) * torch.stack([angle.cos(), angle.sin()], 1)


def autocorrelations(pictures: Tensor, config: PathsConfig) -> Tensor:
    """Compare each neighbourhood of a picture with itself, shifted along a few directions.

    For each direction, the derivative of the luma along it is multiplied by itself shifted that
    way, averaged over a cell and over the cells around, and divided by its energy.

    Returns:
        [B, 2 * (directions * (lengths + 1) + 1), H/8, W/8].

    """
    gradient = _gradient(pictures.float())
    height, width = gradient.shape[2:]
    far = max(config.lengths)
    alike, energy = [], []
    for number in range(config.directions):
        angle = math.pi * number / config.directions
        along = gradient[:, :1] * math.cos(angle) + gradient[:, 1:] * math.sin(angle)
        padded = F.pad(along, (far,) * 4)
        products = [along * along]
        for length in config.lengths:
            y, x = far + round(length * math.sin(angle)), far + round(length * math.cos(angle))
            products.append(along * padded[..., y : y + height, x : x + width])
        pooled = F.avg_pool2d(torch.cat(products, 1), CELL)
        energy.append(pooled[:, :1])
        alike.append(pooled[:, 1:])
    cells = torch.stack(alike, 1), torch.cat(energy, 1)  # [B, D, L, h, w], [B, D, h, w]
    around = [_around(part.flatten(1, -3)).view_as(part) for part in cells]
    parts = [_normalised(*cells), _normalised(*around)]
    for of_direction in (cells[1], around[1]):
        mean = of_direction.mean(1, keepdim=True) + NOISE
        parts += [of_direction / mean, mean.log() / 4]
    return torch.cat(parts, 1).contiguous(memory_format=torch.channels_last)


def _gradient(pictures: Tensor) -> Tensor:
    """Derive the luma in x and y by Scharr's filter, [B, 2, H, W]."""
    luma = (pictures * pictures.new_tensor([0.3, 0.4, 0.3]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    scharr = luma.new_tensor([[-3.0, 0, 3], [-10, 0, 10], [-3, 0, 3]]) / 32
    kernels = torch.stack([scharr, scharr.T])[:, None]
    return F.conv2d(F.pad(luma, (1, 1, 1, 1), "replicate"), kernels)


def _around(cells: Tensor) -> Tensor:
    return F.avg_pool2d(cells, AROUND, 1, AROUND // 2, count_include_pad=False)


def _normalised(alike: Tensor, energy: Tensor) -> Tensor:
    return (alike / (energy[:, :, None] + NOISE)).clamp(-2, 2).flatten(1, 2)
