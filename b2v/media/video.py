"""Video files to frames, one after the other."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from b2v.errors import MediaError
from b2v.media.clip import EXACT


def read_video(path: Path) -> Iterator[Tensor]:
    """Decode the first video stream of `path`, frame by frame.

    Yields:
        [3, H, W] uint8 RGB code values.

    Raises:
        MediaError: `path` is no video, or breaks off in the middle.

    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError(f"{path}: no video stream inside; expected a video file")
            container.streams.video[0].thread_type = "AUTO"
            for frame in container.decode(video=0):
                rgb = frame.reformat(format="rgb24", interpolation=EXACT)
                pixels = np.ascontiguousarray(rgb.to_ndarray())
                yield torch.from_numpy(pixels).permute(2, 0, 1)
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"{path}: cannot be decoded as video ({error})") from error
