"""What a video file says about itself: size, timing, color, turn, and what lies beside it.

Sizes are upright, times are in seconds unless named ticks (of `time_base`), and color codes
are those of ISO/IEC 23091-2, which FFmpeg uses as well.

Frames become tensors and back: FFmpeg's scaler converts, with exact rounding and with the colors
where the format has them (between the rows, on even columns; JPEG in the middle of four pixels).
Planes of G, B, R are three times as fast as interleaved RGB.

High dynamic range (BT.2100, PQ or HLG) becomes ordinary pictures. Reference white of 203 nits
(BT.2408) and all that is darker than half of it keeps its place; what is brighter is bent below
white, up to a peak of 1000 nits, by one factor for all three colors, so that hues stay. Primaries
of BT.2020 become those of BT.709.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import av
import torch
from av.container import InputContainer
from av.filter import Graph
from av.sidedata.sidedata import SideData
from av.stream import Disposition
from av.video.plane import VideoPlane
from torch import Tensor, where

from b2v.color import to_encoded

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
class Colors:
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


@dataclass(frozen=True, kw_only=True)
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
    pix_fmt: str = ""
    bits: int = 8
    width: int
    height: int
    pixel_aspect: Fraction = Fraction(1)
    turn: Turn = Turn()
    colors: Colors
    time_base: Fraction
    average_rate: Fraction | None
    frames: int | None
    start: Fraction = Fraction(0)
    duration: Fraction | None = None
    interlaced: bool = False
    streams: tuple[StreamInfo, ...] = ()
    chapters: int = 0
    tags: dict[str, str] = field(default_factory=dict)
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


def colors_of(frame: av.VideoFrame) -> Colors:
    """Read how the code values of `frame` are meant; untagged ones as players do."""
    stored = frame.format
    matrix = frame.colorspace
    if matrix not in MATRICES:
        small = frame.width <= SD_SIZE[0] and frame.height <= SD_SIZE[1]
        matrix = 9 if frame.color_primaries == 9 else 5 if small else BT709
    full = frame.color_range == FULL_RANGE or stored.name.startswith("yuvj") or stored.is_rgb
    return Colors(matrix, full, _known(frame.color_primaries), _known(frame.color_trc))


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
    entries = stream.index_entries  # an edit list may hide some
    hidden = sum(entry.is_discard for entry in entries) if len(entries) == stream.frames else 0
    told = {key.lower(): text for key, text in stream.metadata.items()}  # by VP8 and VP9
    veiled = told.get("alpha_mode") == "1"
    if not veiled and any(part.is_alpha for part in first.format.components):
        veiled = bool((first.to_ndarray(format="rgba")[..., 3] < 255).any())
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
        colors=colors_of(first),
        time_base=time_base,
        average_rate=stream.average_rate or stream.guessed_rate or None,
        frames=(stream.frames - hidden) or None,
        start=start * time_base,
        duration=None if not stream.duration else stream.duration * time_base,
        interlaced=first.interlaced_frame,
        streams=stream_infos(container),
        chapters=len(container.chapters()),
        tags={key.lower(): value for key, value in container.metadata.items()},
        veiled=veiled,
    )


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


BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")
"""What MP4 and MOV begin with."""
EBML, SEGMENT, UNKNOWN = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", (1 << 56) - 1
"""Of Matroska: how it begins, what all of it lies in, and the size of what is sent live."""
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
SYNC, PACKETS = 0x47, ((188, 0), (192, 4), (204, 0))
"""Of MPEG-TS: the byte of each packet; bytes in a packet, and where in it that byte is."""
END_OF_GIF = b";"


def missing_bytes(path: Path) -> int:
    """Count the bytes that a file should have beyond its end; none where it does not tell.

    AVI is not looked at: it states how many frames it has.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1024)
        if head[4:8] in BOXES:
            end = max(_boxes(file), default=0)
        elif head[:4] == EBML:
            end = _segment(head)
        elif head[:16] == ASF:
            at = head.find(ASF_PROPERTIES)
            end = int.from_bytes(head[at + 40 : at + 48], "little") if at > 0 else 0
        elif head[:4] == b"GIF8":
            file.seek(max(0, size - 1024))
            end = 0 if file.read().rstrip(b"\0").endswith(END_OF_GIF) else size + 1
        else:
            end = _packets(head, size)
    return max(0, end - size)


def _boxes(file: BinaryIO) -> Iterator[int]:
    """Yield where each of the boxes of an MP4 should end, up to one of which all the rest is."""
    place = 0
    while file.seek(place) == place and len(head := file.read(16)) >= 8 and head[4:8].isalnum():
        size = int.from_bytes(head[:4], "big")
        if size == 1 and len(head) == 16:
            size = struct.unpack(">Q", head[8:])[0]
        if size < 8:
            return
        place += size
        yield place


def _segment(head: bytes) -> int:
    """Return where a Matroska should end; 0 where it does not tell."""
    length, place = _vint(head, 4)
    place += length
    if head[place : place + 4] != SEGMENT:
        return 0
    length, place = _vint(head, place + 4)
    return 0 if length == UNKNOWN or not length else place + length


def _vint(head: bytes, place: int) -> tuple[int, int]:
    """Read a number of EBML, `UNKNOWN` of any length as of 8 bytes; return it and its end."""
    first = head[place] if place < len(head) else 0
    size = 9 - first.bit_length()
    number = int.from_bytes(head[place : place + size], "big") & ((1 << 7 * size) - 1)
    return UNKNOWN if number == (1 << 7 * size) - 1 else number, place + size


def _packets(head: bytes, size: int) -> int:
    """Round the size of a file of packets of one size up to whole ones; 0 for other files."""
    for each, at in PACKETS:
        if len(head) > 4 * each and all(head[at + n * each] == SYNC for n in range(4)):
            return -(-size // each) * each
    return 0


WHITE, PEAK = 203.0, 1000.0
"""Nits of reference white, and of the brightest light that stays apart."""
KNEE = 0.5
"""Light, of reference white, up to which nothing is changed."""
BT2020 = 9
TO_BT709 = (
    (1.660491, -0.587641, -0.072850),
    (-0.124550, 1.132900, -0.008349),
    (-0.018151, -0.100579, 1.118730),
)
"""From linear BT.2020 to linear BT.709 (BT.2087, inverse of table 4)."""
LUMA = (0.2627, 0.6780, 0.0593)


class ToneMap:
    """Brings pixels [3, H, W] of HDR, coded in [0, 1], to sRGB-encoded ones in [0, 1]."""

    def __init__(self, colors: Colors) -> None:
        self.curve = colors.hdr
        wide = colors.primaries == BT2020
        self.matrix = torch.tensor(TO_BT709) if wide else torch.eye(3)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Convert one picture."""
        light_lin = pq_to_light(pixels) if self.curve == "PQ" else hlg_to_light(pixels)
        light_lin = torch.einsum("ij,jhw->ihw", self.matrix, light_lin).clamp_(min=0)
        brightest = light_lin.amax(0).clamp_(min=1e-6)
        return to_encoded(light_lin * (bend(brightest) / brightest))


def bend(light_lin: Tensor) -> Tensor:
    """Bend light above `KNEE` so that `PEAK` becomes 1; smooth, of slope 1 at the knee."""
    most = (PEAK / WHITE - KNEE) / (1 - KNEE)
    over = ((light_lin - KNEE) / (1 - KNEE)).clamp(0, most)
    bent = KNEE + (1 - KNEE) * over * (1 + over / most**2) / (1 + over)
    return where(light_lin < KNEE, light_lin, bent)


def pq_to_light(coded: Tensor) -> Tensor:
    """Decode PQ (SMPTE ST 2084) to light in units of reference white."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = coded.clamp(0, 1) ** (1 / m2)
    return ((power - c1).clamp(min=0) / (c2 - c3 * power)) ** (1 / m1) * (10000 / WHITE)


def hlg_to_light(coded: Tensor) -> Tensor:
    """Decode HLG (BT.2100) as a display of 1000 nits does, in units of reference white."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    coded = coded.clamp(0, 1)
    scene_lin = where(coded <= 0.5, coded**2 / 3, (((coded - c) / a).exp() + b) / 12)
    luma = torch.einsum("j,jhw->hw", torch.tensor(LUMA), scene_lin)
    return scene_lin * luma.clamp(min=1e-6) ** 0.2 * (1000 / WHITE)


GBR = (1, 2, 0)
"""Channel of RGB that each plane of FFmpeg's planar RGB holds."""
DEEP_WHITE = 255 * 256
"""White in FFmpeg's 16-bit RGB where it comes from or goes to YCbCr; measured, and tested."""
CENTERED = ("mjpeg", "mjpegb", "jpegls", "mpeg1video")
"""Codecs that put a color value in the middle of the four pixels it is for."""
EXACT = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"


class ToPixels:
    """Converts the frames of one video to [3, H, W] float32: upright RGB, sRGB-encoded, in [0, 1].

    Frames of another size than the first are scaled to it. What is transparent becomes white;
    HDR is tone-mapped.
    """

    def __init__(self, first: av.VideoFrame, turn: Turn, colors: Colors, codec: str) -> None:
        self.size = first.width, first.height
        self.turn, self.colors, self.centered = turn, colors, codec in CENTERED
        self.tone_map = ToneMap(colors) if colors.hdr else None
        self.layout: tuple[str, int, int] | None = None
        self.graph: Graph | None = None
        self.scaled = 0
        """How many frames were of another size."""

    def __call__(self, frame: av.VideoFrame) -> Tensor:
        """Convert one frame."""
        self.scaled += (frame.width, frame.height) != self.size
        planar, white = self._planar(frame)
        pixels = _read_planes(planar, white, self.turn)
        if len(pixels) == 4:
            pixels = 1 - (1 - pixels[:3]) * pixels[3:]
        return pixels if self.tone_map is None else self.tone_map(pixels)

    def _planar(self, frame: av.VideoFrame) -> tuple[av.VideoFrame, float]:
        """Convert to planes of G, B, R (and alpha); return them and their code of white."""
        stored = frame.format
        bits = max(part.bits for part in stored.components)
        alpha = stored.has_palette or any(part.is_alpha for part in stored.components)
        if stored.name.startswith("gbrp") and not stored.is_big_endian and not alpha:
            target, white = stored.name, 2.0**bits - 1  # as it is, unless the size differs
        elif bits > 8:
            target = "gbrap16le" if alpha else "gbrp16le"
            white = 2.0**16 - 1 if stored.is_rgb else DEEP_WHITE
        else:
            target, white = "gbrap" if alpha else "gbrp", 255
        if (frame.width, frame.height) == self.size and target == stored.name:
            return frame, white
        layout = (stored.name, frame.width, frame.height)
        if self.graph is None or self.layout != layout:
            self.graph, self.layout = self._build(*layout, target), layout
        frame.pts = frame.pts or 0
        self.graph.vpush(frame)
        return self.graph.vpull(), white

    def _build(self, stored: str, width: int, height: int, target: str) -> Graph:
        """Make the filter that brings frames of this layout to planes of `self.size`."""
        steps = f"{self.size[0]}:{self.size[1]}:{EXACT}"
        if not av.VideoFormat(stored).is_rgb:
            whole = "pc" if self.colors.full_range else "tv"
            steps += f":in_color_matrix={MATRICES[self.colors.matrix]}:in_range={whole}"
            steps += _color_places("in", stored, centered=self.centered)
        return _graph(f"video_size={width}x{height}:pix_fmt={stored}", steps, target)


class FromPixels:
    """Converts tensors [3, H, W] in [0, 1] to frames of `pix_fmt`, in TV range."""

    def __init__(self, width: int, height: int, pix_fmt: str, matrix: int = BT709) -> None:
        self.width, self.height, self.pix_fmt = width, height, pix_fmt
        bits = max(part.bits for part in av.VideoFormat(pix_fmt).components)
        self.planar, self.white = ("gbrp", 255) if bits == 8 else ("gbrp16le", DEEP_WHITE)
        steps = f"{EXACT}:out_color_matrix={MATRICES[matrix]}:out_range=tv"
        steps += _color_places("out", pix_fmt)
        self.graph = _graph(f"video_size={width}x{height}:pix_fmt={self.planar}", steps, pix_fmt)

    def __call__(self, pixels: Tensor) -> av.VideoFrame:
        """Convert one picture, which may lie on any device."""
        codes = pixels.detach().float().clamp(0, 1).mul_(self.white).round_().cpu()
        frame = av.VideoFrame(self.width, self.height, self.planar)
        for plane, channel in zip(frame.planes, GBR, strict=True):
            _plane(plane, self.width, self.height, deep=self.white > 255).copy_(codes[channel])
        frame.pts = 0
        self.graph.vpush(frame)
        return self.graph.vpull()


def _color_places(side: str, pix_fmt: str, *, centered: bool = False) -> str:
    """Give FFmpeg the places of color values, in 1/256 of a pixel, on axes where there are fewer.

    Said for an axis where each pixel has its own, it would shift them.
    """
    layout = av.VideoFormat(pix_fmt)
    places = f":{side}_h_chr_pos={128 if centered else 0}" if layout.chroma_width(8) < 8 else ""
    return places + (f":{side}_v_chr_pos=128" if layout.chroma_height(8) < 8 else "")


def _graph(source: str, steps: str, target: str) -> Graph:
    graph = Graph()
    chain = [graph.add("buffer", f"{source}:time_base=1/1000"), graph.add("scale", steps)]
    chain += [graph.add("format", target), graph.add("buffersink")]
    for left, right in pairwise(chain):
        left.link_to(right)
    graph.configure()
    return graph


def _read_planes(frame: av.VideoFrame, white: float, turn: Turn) -> Tensor:
    """Copy the planes G, B, R (and alpha), upright, to [3 or 4, H, W] float32, `white` at 1."""
    height, width = frame.height, frame.width
    pixels = torch.empty(len(frame.planes), *((width, height) if turn.swap else (height, width)))
    flips = [axis for axis, yes in enumerate((turn.flip_rows, turn.flip_columns)) if yes]
    for plane, channel in zip(frame.planes, (*GBR, 3), strict=False):
        codes = _plane(plane, width, height, deep=white > 255)
        codes = codes.T if turn.swap else codes
        pixels[channel] = codes.flip(flips) if flips else codes
    pixels.div_(white)
    return pixels.clamp_(max=1) if white == DEEP_WHITE else pixels


def _plane(plane: VideoPlane, width: int, height: int, *, deep: bool) -> Tensor:
    """See a plane as [H, W]; its rows are padded in memory."""
    codes = torch.frombuffer(plane, dtype=torch.uint16 if deep else torch.uint8)
    stride = plane.line_size // codes.element_size()
    return codes[: height * stride].view(height, stride)[:, :width]
