"""Frames of a clip to one file and back: MP4, MOV, MKV, WebM, GIF, WebP.

What is played as video is written by `b2v.media.writer`, which says how each codec is used. GIF
and WebP are written here, by PyAV, because it keeps frames that equal their neighbour, which
Pillow merges. Videos have colours of BT.709 in TV range and are tagged so. Colour at half size
(yuv420p) can hold even sizes only (a crop tag counts in steps of two pixels as well), so H.264
and HEVC of odd width or height are written as yuv444p: every pixel is kept and FFmpeg decodes
it, but some players may not.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.filter import Graph
from av.video.reformatter import Interpolation as Flag
from PIL import Image, ImageSequence
from torch import Tensor

from b2v.errors import UsageError
from b2v.media.info import BT709, Colours, Turn, VideoInfo
from b2v.media.photo import picture_limits
from b2v.media.stills import to_codes
from b2v.media.tags import Tags
from b2v.media.writer import Encoding, VideoWriter, choose_codec


@dataclass(frozen=True)
class Coding:
    """How the frames of GIF or WebP are coded; `tick` in seconds counts their time.

    Players slow down rates above `max_fps`.
    """

    codec: str
    pixel_format: str
    tick: Fraction
    max_fps: float
    options: dict[str, str] = field(default_factory=dict)


CODINGS = {
    ".gif": Coding("gif", "pal8", Fraction(1, 100), 50),
    ".webp": Coding("libwebp", "bgra", Fraction(1, 1000), 90, {"quality": "95"}),
}
VIDEOS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""Kinds of file that are played as video, and what FFmpeg calls them."""
FLAGS = {"mp4": "+faststart", "mov": "+faststart+use_metadata_tags"}
"""Headers in front; MOV has no place of its own for what a file says, but a list of names."""
UNTOLD_FPS = 10.0
"""Rate of what does not tell any."""
EXACT = Flag.BICUBIC | Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT
"""Without these flags, FFmpeg gives back RGB that is 1 to 2 code values too dark."""


def encoding_for(target: Path, kind: str, codec: str | None) -> Encoding:
    """Say how a file of `kind` is coded; raises UsageError where it cannot hold `codec`."""
    if kind in VIDEOS:
        return Encoding(choose_codec(target, codec))
    if codec is not None:
        raise UsageError(f"{target}: has no --codec; leave it out, or write {', '.join(VIDEOS)}")
    return Encoding()


def encode_video(
    frames: Tensor,
    fps: float,
    part: Path,
    encoding: Encoding,
    tags: Tags | None,
    *,
    target: Path,
) -> None:
    """Encode frames [T, 3, H, W] in [0, 1] into the video file `part`, which is to be `target`."""
    kind = VIDEOS[target.suffix.lower()]
    tick = 1 / Fraction(fps).limit_denominator(1001)
    info = VideoInfo(
        name=target.name,
        container=kind,
        index=0,
        codec=encoding.codec,
        pix_fmt="",
        bits=8,
        width=frames.shape[3],
        height=frames.shape[2],
        pixel_aspect=Fraction(1),
        turn=Turn(),
        colours=Colours(BT709, full_range=False, primaries=BT709, transfer=BT709),
        time_base=tick,
        average_rate=1 / tick,
        frames=len(frames),
        start=Fraction(0),
        duration=None,
        interlaced=False,
        streams=(),
        chapters=0,
        tags={},
    )
    fast = {"movflags": FLAGS[kind]} if kind in FLAGS else {}
    said = tags.video() if tags else {}
    with VideoWriter(
        part, info, encoding, container=kind, options=fast, metadata=said, name=str(target)
    ) as writer:
        for number, pixels in enumerate(frames):
            writer.write(pixels, number, 1)


def encode_animation(
    frames: Tensor, fps: float, part: Path, kind: str, loop: int, tags: Tags | None
) -> None:
    """Encode frames [T, 3, H, W] in [0, 1] into the GIF or WebP `part`, played `loop` times.

    The delays add up to the exact duration.
    """
    coding, rate = CODINGS[kind], Fraction(fps).limit_denominator(1001)
    times = [round(number / rate / coding.tick) for number in range(len(frames) + 1)]
    header = {"loop": str(loop)}
    if kind == ".gif" and loop:  # counts how often it is repeated, -1 for not at all
        header["loop"] = str(loop - 1 or -1)
    with av.open(str(part.absolute()), "w", format=kind[1:], options=header) as container:
        container.metadata.update(tags.video() if tags else {})
        stream = _add_stream(container, coding, rate, *frames.shape[2:])
        for number, picture in enumerate(_converted(frames, coding.pixel_format)):
            picture.pts, picture.time_base = times[number], coding.tick
            container.mux(_timed(stream.encode(picture), times))
        container.mux(_timed(stream.encode(None), times))


def decode(path: Path, kind: str) -> Iterator[tuple[np.ndarray, float]]:
    """Yield each frame of a file as [H, W, 3] uint8, with the seconds that it is shown."""
    if kind in VIDEOS:
        demuxer = "matroska" if kind == ".webm" else VIDEOS[kind]
        with av.open(str(path.absolute()), "r", format=demuxer) as container:
            rate = container.streams.video[0].average_rate
            for frame in container.decode(video=0):
                rgb8 = frame.reformat(format="rgb24", interpolation=EXACT).to_ndarray()
                yield rgb8, float(1 / rate) if rate else 1 / UNTOLD_FPS
    else:
        with picture_limits(), Image.open(path, formats=[kind[1:].upper()]) as image:
            for page in ImageSequence.Iterator(image):
                rgb8 = np.asarray(page.convert("RGB"))
                yield rgb8, page.info.get("duration", 0) / 1000 or 1 / UNTOLD_FPS


def _add_stream(
    container: OutputContainer, coding: Coding, rate: Fraction, height: int, width: int
) -> av.VideoStream:
    stream = container.add_stream(coding.codec, rate=rate, options=dict(coding.options))
    assert isinstance(stream, av.VideoStream)  # every codec of the table is one of pictures
    stream.height, stream.width, stream.pix_fmt = height, width, coding.pixel_format
    stream.codec_context.time_base = coding.tick
    return stream


def _timed(
    packets: "list[av.Packet[av.VideoStream]]", times: list[int]
) -> "list[av.Packet[av.VideoStream]]":
    """Give each packet its duration, which encoders drop and GIF and WebP then guess."""
    for packet in packets:
        number = times.index(packet.pts or 0)
        packet.duration = times[number + 1] - times[number]
    return packets


def _converted(frames: Tensor, pixel_format: str) -> Iterator[av.VideoFrame]:
    """Yield `frames` as the encoder takes them.

    Where it takes a palette, one is made from all frames, which are then dithered in it.
    """
    height, width = frames.shape[2:]
    graph = Graph()
    source = graph.add("buffer", f"video_size={width}x{height}:pix_fmt=rgb24:time_base=1/100")
    if pixel_format == "pal8":
        split, palette = graph.add("split"), graph.add("palettegen")
        last = graph.add("paletteuse", "dither=sierra2_4a")
        source.link_to(split)
        split.link_to(palette, 0, 0)
        split.link_to(last, 1, 0)
        palette.link_to(last, 0, 1)
    else:
        last = graph.add("format", pixel_format)
        source.link_to(last)
    last.link_to(graph.add("buffersink"))
    graph.configure()
    for number, pixels in enumerate((*frames, None)):
        picture = None
        if pixels is not None:
            picture = av.VideoFrame.from_ndarray(to_codes(pixels), format="rgb24")
            picture.pts = number
        graph.vpush(picture)
        with suppress(BlockingIOError, EOFError):  # nothing more for now, or for good
            while True:
                yield graph.vpull()
