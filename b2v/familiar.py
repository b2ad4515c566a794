"""Whether a photo is like those that the networks were trained on.

Eight figures of its grey values are compared with those of training pictures: how much changes
from pixel to pixel at four sizes (blur leaves little at the finest one, noise leaves much), how
unevenly these changes are spread, how much is exactly flat, how few grey values hold most of the
picture (drawings, text, screens), and its contrast. The distance from the mean of the training
pictures in units of their scatter (Mahalanobis) is the score. It is taken of tiles of the size of
the training pictures, those with most texture, and the median counts, so that neither the size
of a photo nor its sky matters.

The figures come from 2,500 blurry pictures of the training split, worn by noise and JPEG as in
training. The limit is set by 576 tiles of scenes that training holds out (6 photographs and 2
videos): 0.5 % of them are above it, those being tiles of real frames with hardly any texture, as
are 0.6 % of the training pictures and 1 of 96 other held-out ones. Of 76 whole held-out pictures
none is, so that fewer than 4 in 100 are (95 % confidence). Noise, text, drawings and plain
colours score 8 to 16.

What it cannot tell: a sharp photo scores low, and so does one scaled down to a thumbnail, because
photographs have the same statistics at every size, and training has pictures that hardly move. The
46 photographs of the training folder score 3.3 in the median as they are, 3.2 at a third and 3.1 at
a tenth of their size, blurry training pictures 2.4; of the photographs 2 in 100 are above the
limit, of their thumbnails 7. Nor would another rule do: a linear one on 21 figures (these, and
growth of differences with distance in eight directions), fitted to tell thumbnails from training
pictures, finds 7 % of those of held-out photographs at a limit that 0.5 % of the training pictures
are above, one with all products of two figures 49 %, but it calls 3 % of the held-out blurry
pictures unlike.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LIMIT = 6.0
"""Score above which a photo is called unlike the training pictures."""
FALSE_ALARMS = 0.01
"""At most this share of tiles of held-out scenes is above `LIMIT`; of whole photos, fewer."""
TILE = 192
"""Side of a tile in pixels."""
SMALLEST = 48
"""Pixels a side below which a photo is too small to be judged."""
GRID, BEST = 5, 9
"""Tiles a side at most, and how many of them count."""
BINS, FULLEST = 32, 4
"""Bins of grey values, and how many of the fullest are counted."""
MEAN = (1.4024, 1.7786, 2.1293, 2.4489, 2.8333, -1.9609, -0.1714, 3.6870)
"""Mean of the figures of the training pictures."""
WHITEN = (
    (16.614, -32.412, 22.593, -4.580, -0.106, 1.927, -0.500, -1.833),
    (0.000, 14.337, -25.531, 13.795, 0.166, 0.791, -0.134, -1.732),
    (0.000, 0.000, 8.129, -8.831, 0.431, 0.773, -0.352, 0.527),
    (0.000, 0.000, 0.000, 4.316, 0.323, 0.748, 0.761, -3.071),
    (0.000, 0.000, 0.000, 0.000, 2.007, -1.004, -0.550, -1.076),
    (0.000, 0.000, 0.000, 0.000, 0.000, 1.632, -0.944, -0.854),
    (0.000, 0.000, 0.000, 0.000, 0.000, 0.000, 2.005, 2.290),
    (0.000, 0.000, 0.000, 0.000, 0.000, 0.000, 0.000, 2.499),
)
"""Turns differences from it into ones of variance 1 that do not depend on each other."""


def unlike(photo: Tensor) -> bool:
    """Tell whether a photo [3, H, W] in [0, 1] lies far outside what training has seen."""
    return score(photo) > LIMIT


def score(photo: Tensor) -> float:
    """Score a photo [3, H, W] in [0, 1]: its distance from the training pictures.

    Zero where it is too small to be judged.
    """
    height, width = photo.shape[1:]
    if min(height, width) < SMALLEST:
        return 0.0
    tiles = [photo[:, y : y + TILE, x : x + TILE] for y in _places(height) for x in _places(width)]
    measured = torch.stack([figures(tile) for tile in tiles])  # [N, 8]
    count = min(BEST, (len(tiles) + 1) // 2)
    textured = measured[measured[:, 0].topk(count).indices] - measured.new_tensor(MEAN)
    distances = (textured @ measured.new_tensor(WHITEN).T).norm(dim=1)
    return float(distances.median())


def _places(side: int) -> list[int]:
    """Where tiles begin along a side, evenly spaced."""
    room = side - TILE
    count = min(GRID, max(1, side // TILE))
    return [0] if room <= 0 else [round(room * (k + 0.5) / count) for k in range(count)]


def figures(pixels: Tensor) -> Tensor:
    """Measure a tile [3, H, W] in [0, 1]: eight figures, float64 [8]."""
    grey = (pixels * pixels.new_tensor([0.2126, 0.7152, 0.0722]).view(3, 1, 1)).sum(0)
    codes = grey.double() * 255
    found, small = [], codes
    for _ in range(4):
        dx, dy = small.diff(dim=1).flatten(), small.diff(dim=0).flatten()
        steps = torch.cat([dx, dy])
        found.append((steps.abs().mean() + 0.05).log())
        if len(found) == 1:
            fourth = steps.pow(4).mean() / (steps.square().mean().square() + 1e-3)
            flat = (steps.abs() < 0.25).double().mean()
        small = F.avg_pool2d(small[None], 2)[0]
    counts = torch.histc(codes, BINS, 0, 255)
    few = counts.topk(FULLEST).values.sum() / counts.sum()
    found += [(fourth + 1).log(), (flat + 0.02).log(), (few / (1.02 - few)).log()]
    return torch.stack([*found, (codes.std() + 1).log()])
