"""The whole of `b2v deblur` on a file: decoding, the network, encoding, checking."""

import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from b2v.deblurring import deblur_video
from b2v.deblurring.plan import Settings
from b2v.defaults import VIDEO_MODEL
from b2v.media import Clip
from b2v.models import VideoNet
from b2v.runtime import Runtime
from b2v.streaming import Deblurrer
from b2v.weights import LoadedVideoModel

RATE = 30.0
"""Frames a second of the file."""


def seconds_a_frame(net: VideoNet, frames: list[Tensor], runtime: Runtime) -> float:
    """Measure the seconds that a file of such frames takes, for each of them.

    Args:
        net: network for video, on the device.
        frames: [3, H, W] each, in [0, 1].
        runtime: device and precision.

    """
    model = LoadedVideoModel(name=VIDEO_MODEL, sha256="", licence="", networks={}, net=net)
    deblurrer = Deblurrer(weights=net, device=str(runtime.device), precision=runtime.precision)
    with tempfile.TemporaryDirectory(prefix="b2v-bench-") as folder:
        source, target = Path(folder, "blurry.mp4"), Path(folder, "restored.mp4")
        Clip(torch.stack(frames), RATE).save(source)
        started = time.perf_counter()
        for _ in deblur_video(str(source), str(target), deblurrer, model, Settings()):
            pass
        return (time.perf_counter() - started) / len(frames)
