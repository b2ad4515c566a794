"""A video to standard output, each frame as soon as it is there.

Matroska with H.264 keeps every time to a millisecond; Y4M is uncompressed, and knows one rate
only. Neither carries sound.
"""

from array import array
from collections.abc import Iterable

import av
from torch import Tensor

from b2v.errors import ShapeError, UsageError
from b2v.media.info import VideoInfo, usual_matrix
from b2v.media.pipe import Stdout
from b2v.media.pixels import FromPixels
from b2v.media.writer import Encoding, PipeClosedError, Sink, VideoWriter

LIVE_KINDS = ("matroska", "y4m")
FLUSHED = {"live": "1", "cluster_time_limit": "0", "flush_packets": "1"}
"""Matroska as a stream: a cluster for every frame, and no return to what is written."""


class Y4MWriter:
    """Writes frames as Y4M, with the interface of `VideoWriter`; times are only counted.

    Y4M cannot name its matrix: it is the one that players take for the size.
    """

    def __init__(self, sink: Sink, info: VideoInfo) -> None:
        self.sink, self.info, self.name = sink, info, sink.name
        self.timestamps, self.end = array("q"), 0
        width, height = info.width, info.height
        self._convert = FromPixels(width, height, "yuv420p", usual_matrix(width, height))
        rate, aspect = 1 / info.frame_interval, info.pixel_aspect
        header = f"YUV4MPEG2 W{width} H{height} F{rate.numerator}:{rate.denominator} Ip"
        header += f" A{aspect.numerator}:{aspect.denominator} C420mpeg2 XCOLORRANGE=LIMITED\n"
        self._send([header.encode()])

    def __enter__(self) -> "Y4MWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, pixels: Tensor, pts: int, duration: int) -> None:
        """Append `pixels` [3, H, W] in [0, 1]; `pts` and `duration` are in ticks."""
        size = (3, self.info.height, self.info.width)
        if tuple(pixels.shape) != size:
            raise ShapeError(f"frame has shape {list(pixels.shape)}; expected {list(size)}")
        self._send([b"FRAME\n", *_plane_bytes(self._convert(pixels))])
        self.timestamps.append(pts)
        self.end = pts + duration

    def close(self) -> None:
        """Nothing is held back, so there is nothing to do."""

    def _send(self, parts: Iterable[bytes]) -> None:
        try:
            self.sink.write(b"".join(parts))
        except BrokenPipeError:
            count = len(self.timestamps)
            raise PipeClosedError(f"{self.name}: nobody reads on after {count} frames") from None


def _plane_bytes(frame: av.VideoFrame) -> Iterable[bytes]:
    """Give the bytes of each plane without the padding of its rows."""
    for plane in frame.planes:
        data, stride = memoryview(plane), plane.line_size
        yield b"".join(data[row * stride :][: plane.width] for row in range(plane.height))


def live_writer(
    info: VideoInfo,
    kind: str = "matroska",
    encoding: Encoding | None = None,
    sink: Sink | None = None,
) -> VideoWriter | Y4MWriter:
    """Open standard output (or `sink`) for a video of one of `LIVE_KINDS`.

    Writing raises PipeClosedError when nobody reads on. Raises UsageError for another kind, and
    where standard output is the terminal.
    """
    if kind not in LIVE_KINDS:
        raise UsageError(f"-: cannot be written as {kind}; use {' or '.join(LIVE_KINDS)}")
    sink = sink or Stdout()
    if kind == "y4m":
        return Y4MWriter(sink, info)
    encoding = encoding or Encoding(live=True)
    return VideoWriter(sink, info, encoding, container="matroska", options=FLUSHED)
