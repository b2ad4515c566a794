"""Frames to a video file, one after the other, at the exact time of each.

H.264 unless asked otherwise, converted to BT.709 in TV range and tagged so. No B-frames: what
is stored is in the order shown, so that every container keeps every timestamp, and a killed
run loses nothing that was closed. H.264, HEVC and AV1 hold odd sizes only where color is not
subsampled (yuv444p); VP9 holds them always.

A video to standard output gives each frame as soon as it is there: Matroska, which keeps every time
to a millisecond, without sound.
"""

import os
import re
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import av
from torch import Tensor

from b2v.errors import MediaError, ShapeError, UsageError
from b2v.files import Stdout, one_line
from b2v.media.video_format import BT709, TV_RANGE, FromPixels, VideoInfo


@dataclass(frozen=True)
class Codec:
    """A way to encode: FFmpeg's `encoder`, its quality (lower is better) and other options.

    `odd` says that odd sizes go with color at half size. `parts` is the container of
    unfinished files, one that keeps timestamps exactly.
    """

    encoder: str
    pix_fmt: str
    odd: bool
    crf: int | None
    options: dict[str, str] = field(default_factory=dict)
    parts: str = "mp4"


CODECS = {
    "h264": Codec("libx264", "yuv420p", False, 16, {"preset": "medium", "bf": "0"}),
    "hevc": Codec("libx265", "yuv420p", False, 18, {"x265-params": "bframes=0:log-level=0"}),
    "vp9": Codec("libvpx-vp9", "yuv420p", True, 20, {"row-mt": "1", "cpu-used": "3"}),
    "av1": Codec("libsvtav1", "yuv420p", False, 20, {"preset": "8"}),
    "prores": Codec("prores_ks", "yuv422p10le", True, None, {"profile": "3"}, "mov"),
}
TARGETS = {
    ".mp4": ("h264", "hevc", "av1", "vp9"),
    ".mov": ("h264", "hevc", "prores"),
    ".mkv": ("h264", "hevc", "av1", "vp9", "prores"),
    ".webm": ("vp9", "av1"),
}
"""Codecs that each kind of file takes; the first is the usual one."""
PLAIN = re.compile(r"yuv4\d\dp(\d\dle)?")
"""Pixel formats that may be asked for."""
LIVE = {"h264": {"preset": "veryfast", "tune": "zerolatency", "g": "60"}}
LIVE["vp9"] = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "g": "60"}
"""Options with which an encoder gives every frame away at once."""


def choose_codec(target: Path, codec: str | None = None) -> str:
    """Name the codec for a file: `codec`, or the usual one of its suffix.

    Raises UsageError for a suffix that is not known, or that cannot hold `codec`.
    """
    known = TARGETS.get(target.suffix.lower())
    if known is None:
        names = ", ".join(TARGETS)
        raise UsageError(f"{target}: unknown suffix; videos are written as {names}")
    if codec is not None and codec not in known:
        raise UsageError(f"{target}: cannot hold {codec}; use {', '.join(known)}")
    return codec or known[0]


@dataclass(frozen=True)
class Encoding:
    """How frames are to be encoded; None is the usual value of the codec.

    `crf` is the quality, lower is better. `live` gives every frame away at once.
    """

    codec: str = "h264"
    crf: int | None = None
    pix_fmt: str | None = None
    live: bool = False

    def for_size(self, width: int, height: int) -> str:
        """Name the pixel format for frames of this size.

        Raises UsageError where the codec has no such format or no way to keep the size.
        """
        codec = CODECS[self.codec]
        wanted = self.pix_fmt or codec.pix_fmt
        formats = [str(f.name) for f in av.Codec(codec.encoder, "w").video_formats or ()]
        known = [name for name in formats if PLAIN.fullmatch(name)]
        if wanted not in known:
            raise UsageError(f"{self.codec} cannot store {wanted}; use {', '.join(known)}")
        layout = av.VideoFormat(wanted)
        even = layout.chroma_width(width) * 2 != width + 1
        if codec.odd or (even and layout.chroma_height(height) * 2 != height + 1):
            return wanted
        whole = f"yuv444p{wanted[7:]}"
        if whole not in known:
            size = f"{width}x{height}"
            raise UsageError(f"{self.codec} cannot keep the odd size {size}; use h264 or vp9")
        return whole


class PipeClosedError(MediaError):
    """Who read the output has closed it; often on purpose."""


class VideoWriter:
    """A video that is being written; use it with `with`, or call `close` or `abort`.

    `timestamps` are those written so far, in ticks of the source's time base.
    """

    def __init__(
        self,
        file: Path | Stdout,
        info: VideoInfo,
        encoding: Encoding | None = None,
        *,
        container: str | None = None,
        options: dict[str, str] | None = None,
        metadata: dict[str, str] | None = None,
        name: str | None = None,
    ) -> None:
        self.encoding = encoding or Encoding()
        self.name = name or (str(file) if isinstance(file, Path) else file.name)
        self.info, self.timestamps = info, array("q")
        self.end = 0
        """When the last frame that was written goes, in ticks."""
        self.pix_fmt = self.encoding.for_size(info.width, info.height)
        self._convert = FromPixels(info.width, info.height, self.pix_fmt)
        self._durations: dict[int, int] = {}
        kind = container or CODECS[self.encoding.codec].parts
        os.environ.setdefault("SVT_LOG", "1")  # else SVT-AV1 writes of itself to stderr
        target = f"file:{file.absolute()}" if isinstance(file, Path) else file
        codec, how = CODECS[self.encoding.codec], self.encoding
        coding = dict(codec.options) | (LIVE.get(how.codec, {}) if how.live else {})
        if codec.crf is not None:
            coding["crf"] = str(codec.crf if how.crf is None else how.crf)
        with self._guarded():
            self._container = av.open(target, "w", format=kind, options=options or {})
            self._container.metadata.update(metadata or {})
            rate = info.average_rate or 25
            stream = self._container.add_stream(codec.encoder, rate=rate, options=coding)
            assert isinstance(stream, av.VideoStream)  # every codec of the table is of pictures
            stream.width, stream.height, stream.pix_fmt = info.width, info.height, self.pix_fmt
            context, colors, self._stream = stream.codec_context, info.colors, stream
            context.time_base = info.time_base
            if how.codec == "hevc":
                context.codec_tag = "hvc1"  # Apple's players take no other
            if info.pixel_aspect != 1:
                context.sample_aspect_ratio = info.pixel_aspect
            context.color_range, context.colorspace = TV_RANGE, BT709
            context.color_primaries = BT709 if colors.hdr else colors.primaries
            context.color_trc = BT709 if colors.hdr else colors.transfer

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, pixels: Tensor, pts: int, duration: int) -> None:
        """Append `pixels` [3, H, W] in [0, 1], shown from `pts` for `duration` ticks.

        Raises ShapeError for another size, UsageError where time goes back, MediaError when
        the encoder or the disk refuses.
        """
        size = (3, self.info.height, self.info.width)
        if tuple(pixels.shape) != size:
            raise ShapeError(f"frame has shape {list(pixels.shape)}; expected {list(size)}")
        if self.timestamps and pts <= self.timestamps[-1]:
            raise UsageError(f"{self.name}: time {pts} does not follow {self.timestamps[-1]}")
        frame = self._convert(pixels)
        frame.pts, frame.time_base = pts, self.info.time_base
        context = self._stream.codec_context
        frame.color_primaries, frame.color_trc = context.color_primaries, context.color_trc
        self._durations[pts] = duration
        with self._guarded():
            self._mux(frame)
        self.timestamps.append(pts)
        self.end = pts + duration

    def close(self) -> None:
        """Write what the encoder still holds, and the end of the file."""
        with self._guarded():
            if self.timestamps:
                self._mux(None)
            self._container.close()

    def abort(self) -> None:
        """Close the file as it is; it may be incomplete."""
        with suppress(av.FFmpegError, OSError):
            self._container.close()

    def _mux(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            packet.duration = self._durations.pop(packet.pts or 0, packet.duration)
            self._container.mux(packet)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn what the encoder, the muxer or the disk says into one line."""
        try:
            yield
        except BrokenPipeError:
            self.abort()
            count = len(self.timestamps)
            raise PipeClosedError(f"{self.name}: output pipe closed after {count} frames") from None
        except (av.FFmpegError, OSError, ValueError) as error:
            if hasattr(self, "_container"):
                self.abort()
            raise MediaError(f"{self.name}: cannot be written ({one_line(error)})") from error


FLUSHED = {"live": "1", "cluster_time_limit": "0", "flush_packets": "1"}
"""Matroska as a stream: a cluster for every frame, and no return to what is written."""


def live_writer(
    info: VideoInfo, encoding: Encoding | None = None, sink: Stdout | None = None
) -> VideoWriter:
    """Open standard output (or `sink`) for a video in Matroska.

    Writing raises PipeClosedError when nobody reads on. Raises UsageError where standard output is
    the terminal.
    """
    encoding = encoding or Encoding(live=True)
    return VideoWriter(sink or Stdout(), info, encoding, container="matroska", options=FLUSHED)
