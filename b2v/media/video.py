"""Video files to frames, one after the other, in whole code values."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from b2v.media.reader import open_video


def read_video(path: Path) -> Iterator[Tensor]:
    """Decode the video stream of `path`, frame by frame, upright.

    Yields:
        [3, H, W] uint8 RGB code values.

    Raises:
        MediaError: `path` is no video, or breaks off in the middle.

    """
    with open_video(path) as reader:
        for frame in reader:
            yield frame.pixels.mul(255).round_().byte()
