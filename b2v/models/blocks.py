"""Building blocks of the cascade (Jin et al., CVPR 2018, supplement).

All blocks are pre-activated (norm, ReLU, convolution), keep height and width, and have no
bias in any convolution. IN is instance norm with learned scale and shift, whose statistics
always come from the whole picture at hand.
"""

from torch import Tensor, nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    """Make a convolution without bias that keeps height and width by zero padding."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)


def instance_norm(channels: int) -> nn.InstanceNorm2d:
    """Make an affine instance norm without running statistics (eps 1e-5)."""
    return nn.InstanceNorm2d(channels, eps=1e-5, affine=True, track_running_stats=False)


class FusionBlock(nn.Module):
    """`conv1x1(relu(IN1 x)) + conv3x3(relu(IN2 x))`: [B, inputs, h, w] to [B, outputs, h, w]."""

    def __init__(self, *, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = instance_norm(inputs)
        self.norm2 = instance_norm(inputs)
        self.conv1 = conv(inputs, outputs, 1)
        self.conv2 = conv(inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Fuse `x`."""
        return self.conv1(F.relu(self.norm1(x))) + self.conv2(F.relu(self.norm2(x)))


class ResidualBlock(nn.Module):
    """`x + conv1x1(relu(IN1 x)) + conv3x3(relu(IN4(conv3x3(relu(IN2 x)))))`, [B, C, h, w].

    `dilation` is that of the first and of the second 3x3 convolution. The norms are numbered
    as in the authors' files, which have no third one here.
    """

    def __init__(self, *, channels: int, dilation: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self.norm1 = instance_norm(channels)
        self.norm2 = instance_norm(channels)
        self.norm4 = instance_norm(channels)
        self.conv1 = conv(channels, channels, 1)
        self.conv2 = conv(channels, channels, 3, dilation[0])
        self.conv4 = conv(channels, channels, 3, dilation[1])

    def forward(self, x: Tensor) -> Tensor:
        """Add the two branches to `x`."""
        short = self.conv1(F.relu(self.norm1(x)))
        long = self.conv4(F.relu(self.norm4(self.conv2(F.relu(self.norm2(x))))))
        return x + short + long


def fold_colours(x: Tensor) -> Tensor:
    """Fold R, G and B into the batch: [B, 3, H, W] to [3B, 1, H, W]."""
    return x.flatten(0, 1).unsqueeze(1)


def unfold_colours(x: Tensor, count: int = 3) -> Tensor:
    """Undo `fold_colours`: [3B, 1, H, W] to [B, 3, H, W]; `count` = 1 colour is repeated."""
    return x.view(-1, count, *x.shape[-2:]).expand(-1, 3, -1, -1)
