"""Clips to and from files: MP4, GIF, WebP, or a folder of PNG, as the name says.

A clip is [T, 3, H, W], RGB, sRGB-encoded, in [0, 1]. PyAV writes, because it keeps frames that
equal their neighbour, which Pillow merges. MP4 is H.264, converted to BT.709 in TV range and
tagged so. Its yuv420p can hold even sizes only (a crop tag counts in steps of two pixels as
well), so a clip of odd width or height is written as yuv444p: every pixel is kept and FFmpeg
decodes it, but some players may not.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator
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
from torch import Tensor, stack

from b2v.errors import B2VError, MediaError, ShapeError, UsageError
from b2v.media.limits import check_size
from b2v.media.photo import one_line, picture_limits, read_photo, replacing
from b2v.media.stamp import stamp_file
from b2v.media.stills import as_png, to_codes, to_pixels
from b2v.media.tags import Tags
from b2v.media.target import check_parent


@dataclass(frozen=True)
class Coding:
    """How the frames of one kind of file are coded; `tick` in seconds counts its time.

    Players slow down rates above `max_fps`.
    """

    codec: str
    pixel_format: str
    tick: Fraction | None
    max_fps: float
    options: dict[str, str] = field(default_factory=dict)


CODINGS = {
    ".mp4": Coding("libx264", "yuv420p", None, 1000, {"crf": "16"}),
    ".gif": Coding("gif", "pal8", Fraction(1, 100), 50),
    ".webp": Coding("libwebp", "bgra", Fraction(1, 1000), 90, {"quality": "95"}),
}
FOLDER = ""
"""Stands for a folder of numbered PNG where a suffix is asked for."""
NUMBERED = re.compile(r"\d{6,}\.png")
FOLDER_FPS = 10.0
"""Rate of a clip that is read from pictures, which do not tell any."""
MIN_FPS, MAX_FPS = 0.01, 1000
MAX_NAME = 240
"""Bytes in a name: file systems take 255, and a hidden name beside it is longer."""
BT709, TV_RANGE = 1, 1
"""ISO/IEC 23091-2 code of BT.709 primaries, transfer and matrix; FFmpeg's limited range."""
TO_BT709 = "flags=bicubic+accurate_rnd+full_chroma_inp:out_color_matrix=bt709:out_range=tv"
PLACES = {"yuv420p": ":out_h_chr_pos=0:out_v_chr_pos=128"}
"""FFmpeg's conversion with exact rounding, and where H.264 has colour: on even columns."""
EXACT = Flag.BICUBIC | Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT
"""Without these flags, FFmpeg gives back RGB that is 1 to 2 code values too dark."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames [T, 3, H, W] in [0, 1] and the rate at which they are shown, in frames a second.

    `tags` are what a file is to say of itself; PNG has `bits` a colour and the `alpha` [1, H, W] of
    what lies on white. Raises ShapeError for another shape, UsageError for an impossible rate.
    """

    frames: Tensor
    fps: float
    tags: Tags | None = None
    alpha: Tensor | None = None
    bits: int = 8

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[1] != 3 or not self.frames.numel():
            shape = list(self.frames.shape)
            raise ShapeError(f"clip has shape {shape}; expected [T, 3, H, W] in RGB")
        if not MIN_FPS <= self.fps <= MAX_FPS:
            raise UsageError(f"{self.fps} frames a second; expected {MIN_FPS} to {MAX_FPS}")

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.frames)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False, loop: int = 0) -> Path:
        """Write the kind of file that `path` names, reopen and check it, and return its path.

        `loop` is how often GIF and WebP are played, 0 for ever; the others take no notice.
        Raises as `check_target` does, and MediaError when the disk or the encoder refuses;
        then nothing is left under the name.
        """
        if loop < 0:
            raise UsageError(f"{loop} loops are not possible; use 0 for ever, or how many times")
        target = check_target(path, overwrite=overwrite, fps=self.fps)
        kind, height, width = _kind(path), *self.frames.shape[2:]
        check_size(path, height, width)
        with replacing(target, overwrite=overwrite or target.is_dir()) as part:
            if kind == FOLDER:
                part.mkdir()
                for number, frame in enumerate(self.frames, 1):
                    (part / f"{number:06d}.png").write_bytes(as_png(frame, self.alpha, self.bits))
            else:
                _encode(self, part, kind, loop)
            stamp_file(part, self.tags)
            _verify(self, part, kind, target)
        return target


def check_target(
    path: str | os.PathLike[str],
    *,
    overwrite: bool,
    inputs: Iterable[str | os.PathLike[str]] = (),
    fps: float | None = None,
) -> Path:
    """Check, before any work is done, that a clip can be saved at `path`; return it as a Path.

    Raises UsageError when the suffix is unknown, something is there that may not be replaced
    (ever: one of `inputs`, or a folder that holds more than a clip), or the kind of file
    cannot show `fps`; MediaError when its folder is missing or cannot be written to.
    """
    target = Path(path)
    if target.name in ("", "..") or len(os.fsencode(target.name)) > MAX_NAME:
        raise UsageError(f"{target}: not a name for an output; give a file or a new folder")
    kind = _kind(path)
    if kind not in (FOLDER, *CODINGS):
        known = ", ".join(CODINGS)
        raise UsageError(f"{target}: unknown suffix; use {known}, or none for a folder of PNG")
    if kind != FOLDER and fps is not None and fps > CODINGS[kind].max_fps:
        most = f"players show at most {CODINGS[kind].max_fps:g} frames a second of {kind}"
        raise UsageError(f"{target}: {most}; lower --fps or write .mp4")
    for source in map(Path, inputs if target.exists() else ()):
        if source.exists() and any(map(target.samefile, (source, source.resolve().parent))):
            raise UsageError(f"{target}: is or holds the input {source}; give another name")
    check_parent(target)
    _check_replaceable(target, kind, overwrite)
    return target


def _check_replaceable(target: Path, kind: str, overwrite: bool) -> None:
    """Check that what is at `target`, if anything, may be replaced by a clip of `kind`."""
    if not os.path.lexists(target):
        return
    if target.is_dir() != (kind == FOLDER):
        what = "a folder" if target.is_dir() else "a file"
        raise UsageError(f"{target}: exists already and is {what}; give another name")
    inside = [entry.name for entry in target.iterdir()] if target.is_dir() else [""]
    if inside and not overwrite:
        raise UsageError(f"{target}: exists already; give another name or --overwrite")
    if target.is_dir() and not all(map(NUMBERED.fullmatch, inside)):
        raise UsageError(f"{target}: holds more than a clip and is not replaced; name another")


def read_clip(path: str | os.PathLike[str]) -> Clip:
    """Read MP4, GIF, WebP or a folder of pictures (at `FOLDER_FPS`) as a whole into memory.

    The rate is that of the whole: frames by duration. Raises MediaError when it cannot be read.
    """
    target, kind = Path(path), FOLDER if Path(path).is_dir() else _kind(path)
    if kind != FOLDER and kind not in CODINGS:
        raise MediaError(f"{target}: not a clip; expected {', '.join(CODINGS)} or a folder")
    if not target.exists():
        raise MediaError(f"{target}: no such file or folder; check the name")
    try:
        shown = list(_decode(target, kind))
        frames = stack([to_pixels(codes) for codes, _ in shown])
    except B2VError:
        raise
    except Exception as error:  # decoders raise errors of any type on damaged data
        raise MediaError(f"{target}: truncated or damaged clip ({one_line(error)})") from error
    return Clip(frames, len(shown) / math.fsum(seconds for _, seconds in shown))


def _kind(path: str | os.PathLike[str]) -> str:
    """Lower-case suffix of `path`, or `FOLDER`."""
    text, suffix = os.fspath(path), Path(path).suffix.lower()
    if text.endswith(("/", os.sep)) or (suffix not in CODINGS and Path(path).is_dir()):
        return FOLDER
    return suffix


def _decode(path: Path, kind: str) -> Iterator[tuple[np.ndarray, float]]:
    """Yield each frame of the file as [H, W, 3] uint8, with the seconds that it is shown."""
    if kind == ".mp4":
        with av.open(str(path.absolute()), "r", format="mp4") as container:
            rate = container.streams.video[0].average_rate
            for frame in container.decode(video=0):
                rgb8 = frame.reformat(format="rgb24", interpolation=EXACT).to_ndarray()
                yield rgb8, float(1 / rate) if rate else 1 / FOLDER_FPS
    elif kind == FOLDER:
        for name in sorted(path.glob("[!.]*")):
            yield to_codes(read_photo(name).pixels), 1 / FOLDER_FPS
    else:
        with picture_limits(), Image.open(path, formats=[kind[1:].upper()]) as image:
            for page in ImageSequence.Iterator(image):
                rgb8 = np.asarray(page.convert("RGB"))
                yield rgb8, page.info.get("duration", 0) / 1000 or 1 / FOLDER_FPS


def _verify(clip: Clip, part: Path, kind: str, target: Path) -> None:
    """Check by reopening that `part` holds as many frames as `clip`, of its size."""
    expected = [(*clip.frames.shape[2:], 3)] * len(clip)
    try:
        found = [codes.shape for codes, _ in _decode(part, kind)]
    except (ValueError, EOFError, SyntaxError) as error:
        raise MediaError(f"{target}: was not written whole ({one_line(error)})") from error
    if found != expected:
        wrong = f"{len(found)} frames of {sorted(set(found))} instead of {len(clip)}"
        raise MediaError(f"{target}: reading it back gave {wrong}; write another kind of file")


def _encode(clip: Clip, part: Path, kind: str, loop: int) -> None:
    """Encode all frames into the file `part`; the delays add up to the exact duration."""
    rate = Fraction(clip.fps).limit_denominator(1001)
    tick = CODINGS[kind].tick or 1 / rate
    times = [round(number / rate / tick) for number in range(len(clip) + 1)]
    header = {"movflags": "+faststart"} if kind == ".mp4" else {"loop": str(loop)}
    if kind == ".gif" and loop:  # counts how often it is repeated, -1 for not at all
        header["loop"] = str(loop - 1 or -1)
    with av.open(str(part.absolute()), "w", format=kind[1:], options=header) as container:
        container.metadata.update(clip.tags.video() if clip.tags else {})
        stream = _add_stream(container, clip, kind, rate)
        stream.codec_context.time_base = tick
        for number, picture in enumerate(_converted(clip, str(stream.pix_fmt))):
            picture.pts, picture.time_base = times[number], tick
            container.mux(_timed(stream.encode(picture), times))
        container.mux(_timed(stream.encode(None), times))


def _add_stream(
    container: OutputContainer, clip: Clip, kind: str, rate: Fraction
) -> av.VideoStream:
    """Add the stream for the frames of `clip`, coded and tagged as `CODINGS` has it."""
    coding = CODINGS[kind]
    stream = container.add_stream(coding.codec, rate=rate, options=dict(coding.options))
    assert isinstance(stream, av.VideoStream)  # every codec of the table is one of pictures
    stream.height, stream.width = clip.frames.shape[2:]
    stream.pix_fmt = coding.pixel_format
    if kind == ".mp4":
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = TV_RANGE
        if stream.height % 2 or stream.width % 2:
            stream.pix_fmt = "yuv444p"
    return stream


def _timed(
    packets: "list[av.Packet[av.VideoStream]]", times: list[int]
) -> "list[av.Packet[av.VideoStream]]":
    """Give each packet its duration, which encoders drop and GIF and WebP then guess."""
    for packet in packets:
        number = times.index(packet.pts or 0)
        packet.duration = times[number + 1] - times[number]
    return packets


def _converted(clip: Clip, pixel_format: str) -> Iterator[av.VideoFrame]:
    """Yield the frames of `clip` as the encoder takes them.

    Where it takes a palette, one is made from all frames, which are then dithered in it.
    """
    height, width = clip.frames.shape[2:]
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
        scale = graph.add("scale", TO_BT709 + PLACES.get(pixel_format, ""))
        last = graph.add("format", pixel_format)
        source.link_to(scale)
        scale.link_to(last)
    last.link_to(graph.add("buffersink"))
    graph.configure()
    for number, pixels in enumerate((*clip.frames, None)):
        picture = None
        if pixels is not None:
            picture = av.VideoFrame.from_ndarray(to_codes(pixels), format="rgb24")
            picture.pts = number
        graph.vpush(picture)
        with suppress(BlockingIOError, EOFError):  # nothing more for now, or for good
            while True:
                yield graph.vpull()
