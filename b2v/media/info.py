"""What a video file says about itself: size, timing, colour, turn, and what lies beside it.

Sizes are upright, times are in seconds unless named ticks (of `time_base`), and colour codes
are those of ISO/IEC 23091-2, which FFmpeg uses as well.
"""

import struct
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.stream import Disposition

BT709, UNSPECIFIED = 1, 2
TV_RANGE, FULL_RANGE = 1, 2
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
"""Matrices from YCbCr to RGB by their code, as FFmpeg's scaler calls them."""
STATING = ("matroska", "flv")
"""Kinds of file that state the duration of the whole."""
SD_SIZE = (1279, 576)
"""Untagged video up to this stored size is taken for BT.601, above for BT.709, as players do."""


@dataclass(frozen=True)
class Turn:
    """How stored pixels [.., H, W] become upright: swap the axes, then flip rows and columns."""

    swap: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @property
    def degrees(self) -> int:
        """Counter-clockwise turn to upright, of 0, 90, 180, 270; a mirrored one is close to it."""
        if self.swap:
            return 90 if self.flip_rows else 270
        return 180 if self.flip_rows else 0


@dataclass(frozen=True)
class Colours:
    """How code values of the video are meant; nothing is left unspecified."""

    matrix: int
    full_range: bool
    primaries: int
    transfer: int

    @property
    def hdr(self) -> str | None:
        """Name of the curve of high dynamic range, `PQ` or `HLG`, None for ordinary video."""
        return HDR_TRANSFERS.get(self.transfer)


@dataclass(frozen=True)
class StreamInfo:
    """One stream of the file, by its `index`.

    `kind` is video, audio, subtitle, data or attachment; `codec` is its four-letter tag where
    no decoder is known; `cover` marks a picture of the cover; `tags` are its metadata, `flags` what
    it is there for, as FFmpeg calls it: default, forced, comment … Its packets count time in
    `tick` seconds, from `start`.
    """

    index: int
    kind: str
    codec: str
    cover: bool
    tags: dict[str, str]
    tick: Fraction
    start: Fraction
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class VideoInfo:
    """A video: what is read, by stream `index` of the file `name`, and what lies beside it.

    `width` and `height` are upright; `pixel_aspect` is the upright width of a pixel by its
    height. `frames` and `duration` (of the video stream) are as stated, None where nothing is;
    `veiled` says that it has transparency; `start` is the time of its first frame. `cut` is (first,
    end) in seconds of the file where only a part is read: frames then count their time from
    `first`.
    """

    name: str
    container: str
    index: int
    codec: str
    pix_fmt: str
    bits: int
    width: int
    height: int
    pixel_aspect: Fraction
    turn: Turn
    colours: Colours
    time_base: Fraction
    average_rate: Fraction | None
    frames: int | None
    start: Fraction
    duration: Fraction | None
    interlaced: bool
    streams: tuple[StreamInfo, ...]
    chapters: int
    tags: dict[str, str]
    cut: tuple[Fraction, Fraction | None] | None = None
    veiled: bool = False

    @property
    def frame_interval(self) -> Fraction:
        """Usual time between frames in seconds; 1/25 where the file does not tell."""
        return 1 / self.average_rate if self.average_rate else Fraction(1, 25)

    def of_kind(self, kind: str) -> list[StreamInfo]:
        """Other streams of `kind`, which is video, audio, subtitle, data or attachment."""
        return [s for s in self.streams if s.kind == kind and s.index != self.index]


def turn_of(frame: av.VideoFrame) -> Turn:
    """Read how `frame` is shown from its display matrix, to the nearest right angle.

    The matrix (ISO/IEC 14496-12, 8.3.2) takes a stored (x, y) to (a x + c y, b x + d y).
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return Turn()
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    if abs(b) > abs(a):
        return Turn(swap=True, flip_rows=b < 0, flip_columns=c < 0)
    return Turn(flip_rows=d < 0, flip_columns=a < 0)


def colours_of(frame: av.VideoFrame) -> Colours:
    """Settle how the code values of `frame` are meant, untagged ones as players do."""
    stored = frame.format
    matrix = frame.colorspace
    if matrix not in MATRICES:
        matrix = usual_matrix(frame.width, frame.height)
        matrix = 9 if frame.color_primaries == 9 else matrix
    full = frame.color_range == FULL_RANGE or stored.name.startswith("yuvj") or stored.is_rgb
    return Colours(matrix, full, _known(frame.color_primaries), _known(frame.color_trc))


def usual_matrix(width: int, height: int) -> int:
    """Say what players take for the matrix of untagged video: BT.601 up to `SD_SIZE`."""
    return 5 if width <= SD_SIZE[0] and height <= SD_SIZE[1] else BT709


def _known(code: int) -> int:
    """Take what is unspecified or reserved for BT.709."""
    return BT709 if code in (0, UNSPECIFIED, 3) else code


def stream_infos(container: InputContainer) -> tuple[StreamInfo, ...]:
    """Describe all streams of an open file."""
    found = []
    for stream in container.streams:
        context = stream.codec_context
        flags = tuple(str(flag.name) for flag in Disposition if stream.disposition & flag)
        cover = not {"attached_pic", "timed_thumbnails"}.isdisjoint(flags)
        codec = context.codec.canonical_name if context is not None else ""
        if not codec:
            with suppress(AttributeError):
                codec = stream.codec_tag.replace("\\x00", "").strip("\0 ")
        tags = {key.lower(): value for key, value in stream.metadata.items()}
        tick = stream.time_base or Fraction(1, av.time_base)
        start, kind = (stream.start_time or 0) * tick, str(stream.type)
        named = codec or "unknown"
        found.append(StreamInfo(stream.index, kind, named, cover, tags, tick, start, flags))
    return tuple(found)


def describe(
    name: str, container: InputContainer, stream: av.VideoStream, first: av.VideoFrame
) -> VideoInfo:
    """Describe an open file from its header and the `first` frame of its video `stream`."""
    turn, aspect = turn_of(first), stream.sample_aspect_ratio or Fraction(1)
    width, height = first.width, first.height
    time_base = stream.time_base or Fraction(1, av.time_base)
    start = stream.start_time if stream.start_time is not None else first.pts or 0
    return VideoInfo(
        name=name,
        container=container.format.name,
        index=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        pix_fmt=first.format.name,
        bits=max(part.bits for part in first.format.components),
        width=height if turn.swap else width,
        height=width if turn.swap else height,
        pixel_aspect=1 / aspect if turn.swap else aspect,
        turn=turn,
        colours=colours_of(first),
        time_base=time_base,
        average_rate=stream.average_rate or stream.guessed_rate or None,
        frames=stated_frames(stream),
        start=start * time_base,
        duration=None if not stream.duration else stream.duration * time_base,
        interlaced=first.interlaced_frame,
        streams=stream_infos(container),
        chapters=len(container.chapters()),
        tags={key.lower(): value for key, value in container.metadata.items()},
        veiled=_is_veiled(stream, first),
    )


def _is_veiled(stream: av.VideoStream, first: av.VideoFrame) -> bool:
    """Tell whether a video has transparency, by its first frame; VP8 and VP9 state theirs."""
    told = any(key.lower() == "alpha_mode" and text == "1" for key, text in stream.metadata.items())
    if told or not any(part.is_alpha for part in first.format.components):
        return told
    return bool((first.to_ndarray(format="rgba")[..., 3] < 255).any())


def stated_frames(stream: av.VideoStream) -> int | None:
    """How many frames the file says that it shows, without those that an edit list hides."""
    entries = stream.index_entries
    hidden = sum(entry.is_discard for entry in entries) if len(entries) == stream.frames else 0
    return (stream.frames - hidden) or None


def stated_end(container: InputContainer, stream: av.VideoStream) -> Fraction | None:
    """When a Matroska or AVI file says that its video ends, in seconds; None for other files.

    They state how many frames there are, which says more. AVI states its length in ticks, those
    of frames that it leaves out included; FFmpeg works out a duration from what is there.
    """
    if "avi" in container.format.name and stream.time_base:
        length = stream.frames or stream.duration
        return ((stream.start_time or 0) + length) * stream.time_base if length else None
    if "matroska" not in container.format.name:
        return None
    tags = {key.upper(): value for key, value in stream.metadata.items()}
    with suppress(KeyError, ValueError):
        hours, minutes, seconds = tags["DURATION"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds[:12])
    if len(container.streams) > 1 or container.duration is None:
        return None
    return Fraction(container.duration, av.time_base)


def stated_whole(container: InputContainer) -> Fraction | None:
    """When a file says that the last of its streams ends, in seconds; None where it does not."""
    if container.duration is None or not any(kind in container.format.name for kind in STATING):
        return None
    return Fraction(container.duration, av.time_base)
