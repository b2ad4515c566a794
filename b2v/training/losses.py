"""Losses: how far restored frames are from sharp ones.

The order of time in a blurry picture cannot be told, so the losses of pairs do not depend on
it (Jin et al., CVPR 2018, Sec. 4): played backwards, the truth gives the same loss. Frames are
[B, 3, H, W]; a loss has one value a sample, [B].

The perceptual loss compares what VGG16 sees at relu2_2 and relu3_3 (eq. 3), as Johnson et al.
(2016) do: the mean squared difference of each layer's features, added up.

Jin et al. (CVPR 2018, Table 1) train all but the middle net with such a term and publish neither
its network nor its weight. Here it is a small critic of patches (Isola et al., 2017) with the
least-squares loss of Mao et al. (2017), and the optimizer that the authors' released file holds:
Adam with betas 0.5 and 0.999. It sees one frame at a time, so it knows no order of time either.
"""

from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from b2v.metrics import mse
from b2v.weights.hub import CONVOLUTIONS, find_vgg16, read_vgg16

PixelLoss = Literal["mse", "charbonnier", "log-mse"]
PairLoss = Literal["best-order", "pair", "global", "independent"]
Frames = tuple[Tensor, ...]
"""Frames [B, 3, H, W] in order of time."""

LOG_FLOOR = 1e-4
"""Added to the squared error inside the logarithm: beyond 40 dB better is not worth more."""


def pixel_loss(restored: Tensor, sharp: Tensor, kind: PixelLoss = "log-mse") -> Tensor:
    """Compare one frame with the truth.

    `mse` is the paper's (eq. 2), `charbonnier` its robust sibling (epsilon 1e-3), `log-mse`
    the logarithm of the squared error, so that PSNR itself is raised and every sample counts
    alike, hard or easy.
    """
    if kind == "mse":
        return mse(restored, sharp)
    if kind == "charbonnier":
        return ((restored - sharp).square() + 1e-6).sqrt().mean(dim=(-3, -2, -1))
    return torch.log(mse(restored, sharp) + LOG_FLOOR)


def pair_loss(restored: tuple[Tensor, Tensor], sharp: tuple[Tensor, Tensor]) -> Tensor:
    """Compare sums and absolute differences of two frames (eq. 5), which know no order."""
    (a, b), (x, y) = restored, sharp
    sums = ((a + b).abs() - (x + y).abs()).abs()
    differences = ((a - b).abs() - (x - y).abs()).abs()
    return (sums + differences).mean(dim=(-3, -2, -1))


def in_order(restored: Frames, sharp: Frames, kind: PixelLoss) -> Tensor:
    """Compare frames with as many, first with first: the mean of their pixel losses."""
    losses = [pixel_loss(r, s, kind) for r, s in zip(restored, sharp, strict=True)]
    return torch.stack(losses).mean(0)


def best_order_loss(restored: Frames, sharp: Frames, kind: PixelLoss = "log-mse") -> Tensor:
    """Compare frames with the truth in whichever order of time suits each sample better.

    Unlike eq. 5, which is free to choose anew at every pixel, this asks for one direction in
    all of the picture.
    """
    return torch.minimum(in_order(restored, sharp, kind), in_order(restored, sharp[::-1], kind))


def sum_loss(restored: Frames, sharp: Frames) -> Tensor:
    """Compare the sums of frames (eq. 4): they know no order at all."""
    difference = torch.stack(restored).sum(0) - torch.stack(sharp).sum(0)
    return difference.abs().mean(dim=(-3, -2, -1))


def frames_loss(
    restored: Frames, sharp: Frames, kind: PairLoss, pixel: PixelLoss = "log-mse"
) -> Tensor:
    """Compare frames that lie in pairs about the middle with as many sharp ones: [B].

    Args:
        restored: an even number of frames in order of time, the middle one left out.
        sharp: the truth.
        kind: `best-order`, one direction of time a sample; `pair`, eq. 5, the mean of the pairs;
            `global`, eq. 4; `independent`, the order as given, whatever it is (Sec. 7).
        pixel: how single frames are compared where they are.

    """
    if kind == "global":
        return sum_loss(restored, sharp)
    if kind == "independent":
        return in_order(restored, sharp, pixel)
    if kind == "best-order":
        return best_order_loss(restored, sharp, pixel)
    half = len(restored) // 2
    ours, theirs = (list(zip(x[:half], x[::-1], strict=False)) for x in (restored, sharp))
    losses = [pair_loss(mine, true) for mine, true in zip(ours, theirs, strict=True)]
    return torch.stack(losses).mean(0)


def moves_against(pair: tuple[Tensor, Tensor]) -> Tensor:
    """Tell which samples move up and to the left from the first frame to the second: [B] bool.

    The mean motion is estimated by least squares from the brightness constancy of pictures at
    a quarter of their size (Lucas and Kanade, 1981). Turning such samples round gives all of
    them one canonical direction of time; its edge lies on the diagonal, where motion is rarest.
    """
    first, second = (F.avg_pool2d(x.mean(1, keepdim=True), 4)[:, 0] for x in pair)  # [B, h, w]
    middle = (first + second) / 2
    gx = (middle[:, 1:-1, 2:] - middle[:, 1:-1, :-2]).flatten(1)
    gy = (middle[:, 2:, 1:-1] - middle[:, :-2, 1:-1]).flatten(1)
    change = (second - first)[:, 1:-1, 1:-1].flatten(1)
    xx, yy, xy = (gx * gx).sum(1), (gy * gy).sum(1), (gx * gy).sum(1)
    tx, ty = -(gx * change).sum(1), -(gy * change).sum(1)
    # Motion (x, y) solves [[xx, xy], [xy, yy]] (x, y) = (tx, ty); its determinant is positive.
    return (yy * tx - xy * ty) + (xx * ty - xy * tx) < 0


def runs_backwards(restored: Frames, sharp: Frames) -> Tensor:
    """Tell for which samples the restored frames fit the truth better when swapped: [B] bool."""
    return in_order(restored, sharp[::-1], "mse") < in_order(restored, sharp, "mse")


WIDTHS = (48, 96, 192)
BETAS = (0.5, 0.999)
"""Of the critic's Adam."""


class Critic(nn.Module):
    """Frames [B, 3, H, W] to marks [B, 1, H/8, W/8], each of a patch of 38 pixels: 1 is real."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *WIDTHS)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)
        )
        self.head = nn.Conv2d(WIDTHS[-1], 1, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        """Mark patches."""
        x = 2 * frames - 1
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
        return self.head(x)


def new_critic(seed: int) -> Critic:
    """Make a critic whose weights are drawn from the seed."""
    torch.manual_seed(seed + 1)  # the network that it judges is drawn from the seed itself
    return Critic()


def deceit_loss(critic: nn.Module, restored: Frames) -> Tensor:
    """Compute the loss of restored frames that the critic takes for restored: [B].

    The critic itself is to get no gradient of it (`requires_grad_`).
    """
    marks = critic(torch.cat(restored)).float()
    return (marks - 1).square().mean((1, 2, 3)).unflatten(0, (len(restored), -1)).mean(0)


def critic_loss(critic: nn.Module, restored: Frames, sharp: Frames) -> Tensor:
    """Compute the loss of a critic that tells restored frames from as many sharp ones: [B]."""
    marks = critic(torch.cat([*restored, *sharp])).float()
    fake, real = marks.chunk(2)
    wrong = (fake.square() + (real - 1).square()).mean((1, 2, 3)) / 2
    return wrong.unflatten(0, (len(restored), -1)).mean(0)


POOLED_AFTER = ("features.2", "features.7")
LOOKED_AT = ("features.7", "features.14")
"""Convolutions before relu2_2 and relu3_3."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, by which VGG16's pictures are normalised."""


class Features(nn.Module):
    """VGG16 up to relu3_3, frozen: pictures [B, 3, H, W] in [0, 1] to two maps of features."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleDict()
        for name, (outputs, inputs) in CONVOLUTIONS.items():
            conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            conv.load_state_dict({key: state[f"{name}.{key}"] for key in ("weight", "bias")})
            self.convolutions[name.replace(".", "-")] = conv
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Compute relu2_2 [B, 128, H/2, W/2] and relu3_3 [B, 256, H/4, W/4]."""
        x = (pictures - cast("Tensor", self.mean)) / cast("Tensor", self.std)
        seen = []
        for name in CONVOLUTIONS:
            x = F.relu(self.convolutions[name.replace(".", "-")](x))
            if name in LOOKED_AT:
                seen.append(x)
            if name in POOLED_AFTER:
                x = F.max_pool2d(x, 2)
        return seen


def load_features() -> Features:
    """Make VGG16's first layers with its weights, which are downloaded if they are nowhere.

    Raises WeightsError when that is not possible.
    """
    return Features(read_vgg16(find_vgg16()))


def perceptual_loss(features: Features, restored: Tensor, sharp: Tensor) -> Tensor:
    """Compare pictures [B, 3, H, W] by their features: [B]."""
    with torch.no_grad():
        expected = features(sharp)
    pairs = zip(features(restored), expected, strict=True)
    return torch.stack([(r.float() - s.float()).square().mean((1, 2, 3)) for r, s in pairs]).sum(0)
