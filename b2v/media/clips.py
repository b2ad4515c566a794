"""Frames of a clip to one file and back: MP4, MOV, MKV, WebM, GIF, WebP.

What is played as video is written by `b2v.media.video_writer`, which says how each codec is used.
GIF and WebP are written here, by PyAV, because it keeps frames that equal their neighbor, which
Pillow merges. Videos have colors of BT.709 in TV range and are tagged so. Color at half size
(yuv420p) can hold even sizes only (a crop tag counts in steps of two pixels as well), so H.264
and HEVC of odd width or height are written as yuv444p: every pixel is kept and FFmpeg decodes
it, but some players may not.
"""

import base64
import html
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import Interpolation as Flag
from PIL import Image, ImageSequence
from torch import Tensor

from b2v.errors import MediaError, ShapeError, UsageError
from b2v.files import (
    CLIPS,
    CONTAINERS,
    Name,
    check_free,
    check_name,
    check_parent,
    check_size,
    one_line,
    replacing,
)
from b2v.frames import to_codes
from b2v.media.images import picture_limits, read_photo, unveiled
from b2v.media.metadata import Tags, encode, stamp_animation
from b2v.media.video_format import BT709, Colors, VideoInfo
from b2v.media.video_writer import CODECS, Encoding, VideoWriter, choose_codec


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
FLAGS = {"mp4": "+faststart", "mov": "+faststart+use_metadata_tags"}
"""Headers in front; MOV has no place of its own for what a file says, but a list of names."""
UNTOLD_FPS = 10.0
"""Rate of what does not tell any."""
EXACT = Flag.BICUBIC | Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT
"""Without these flags, FFmpeg gives back RGB that is 1 to 2 code values too dark."""


def encoding_for(target: Path, kind: str, codec: str | None) -> Encoding:
    """Choose how a file of `kind` is coded; raises UsageError where it cannot hold `codec`."""
    if kind in CONTAINERS:
        return Encoding(choose_codec(target, codec))
    if codec is not None:
        raise UsageError(
            f"{target}: has no --codec; leave it out, or write {', '.join(CONTAINERS)}"
        )
    return Encoding()


def encode_video(clip: "Clip", part: Path, encoding: Encoding, target: Path) -> None:
    """Encode a clip into the video file `part`, which is to be `target`."""
    frames, kind = clip.frames, CONTAINERS[target.suffix.lower()]
    tick = 1 / Fraction(clip.fps).limit_denominator(1001)
    info = VideoInfo(
        name=target.name,
        container=kind,
        index=0,
        codec=encoding.codec,
        width=frames.shape[3],
        height=frames.shape[2],
        colors=Colors(BT709, full_range=False, primaries=BT709, transfer=BT709),
        time_base=tick,
        average_rate=1 / tick,
        frames=len(frames),
    )
    fast = {"movflags": FLAGS[kind]} if kind in FLAGS else {}
    said, name = clip.tags.video() if clip.tags else {}, str(target)
    how = part, info, encoding
    with VideoWriter(*how, container=kind, options=fast, metadata=said, name=name) as writer:
        for number, pixels in enumerate(frames):
            writer.write(pixels, number, 1)


def encode_animation(clip: "Clip", part: Path, kind: str, loop: int) -> None:
    """Encode a clip into the GIF or WebP `part`, played `loop` times.

    The delays add up to the exact duration.
    """
    frames = clip.frames
    if kind == ".webp" and len(frames) == 1:  # which is no animation
        part.write_bytes(encode(to_codes(frames[0]), "WEBP", tags=clip.tags))
        return
    coding, rate = CODINGS[kind], Fraction(clip.fps).limit_denominator(1001)
    times = [round(number / rate / coding.tick) for number in range(len(frames) + 1)]
    header = {"loop": str(loop)}
    if kind == ".gif" and loop:  # counts how often it is repeated, -1 for not at all
        header["loop"] = str(loop - 1 or -1)
    with av.open(str(part.absolute()), "w", format=kind[1:], options=header) as container:
        stream = container.add_stream(coding.codec, rate=rate, options=dict(coding.options))
        assert isinstance(stream, av.VideoStream)  # every codec of the table is one of pictures
        stream.height, stream.width = frames.shape[2:]
        stream.pix_fmt, stream.codec_context.time_base = coding.pixel_format, coding.tick
        for number, picture in enumerate(_converted(frames, coding.pixel_format)):
            picture.pts, picture.time_base = times[number], coding.tick
            container.mux(_timed(stream.encode(picture), times))
        container.mux(_timed(stream.encode(None), times))
    stamp_animation(part, clip.tags)


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


STILLS = ("png", "tiff")
"""Kinds of pictures that a folder can have."""
FOLDER = ""
"""Stands for a folder of numbered pictures where a suffix is asked for."""
NUMBERED = re.compile(r"\d{6,}\.(png|tiff)")
MIN_FPS, MAX_FPS = 0.01, 1000


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames [T, 3, H, W] in [0, 1] and the rate at which they are shown, in frames a second.

    `tags` are what a file is to say of itself; PNG and TIFF have `bits` a color and the `alpha`
    [1, H, W] of what lies on white. Raises ShapeError for another shape, UsageError for a rate
    that cannot be.
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

    def __repr__(self) -> str:
        height, width = self.frames.shape[2:]
        return f"<Clip of {len(self)} frames of {width}x{height} at {self.fps:g} a second>"

    def _repr_html_(self) -> str:
        """Play the clip in a notebook."""
        with TemporaryDirectory() as folder:
            data = self.save(Path(folder, "clip.webp")).read_bytes()
        source = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
        return f'<img alt="{html.escape(repr(self))}" src="{source}">'

    def save(
        self,
        path: Name,
        *,
        overwrite: bool = False,
        loop: int = 0,
        codec: str | None = None,
        stills: str = "png",
    ) -> Path:
        """Write the kind of file that `path` names, reopen and check it, and return its path.

        `loop` is how often GIF and WebP are played, 0 for ever; `codec` is for videos, H.264 or
        what else is usual without; `stills` are the pictures of a folder, png or tiff.
        Raises as `check_target` and `check_coding` do, and MediaError when the disk or the encoder
        refuses; then nothing is left under the name.
        """
        if loop < 0:
            raise UsageError(f"{loop} loops are not possible; use 0 for ever, or how many times")
        if stills not in STILLS:
            raise UsageError(f"{stills}: not a kind of pictures for a folder; use png or tiff")
        target = check_target(path, overwrite=overwrite, fps=self.fps, codec=codec)
        kind, height, width = _kind(path), *self.frames.shape[2:]
        encoding = check_coding(path, height, width, codec)
        replace = overwrite or target.is_dir()
        with replacing(target, overwrite=replace, failures=(OSError, av.FFmpegError)) as part:
            if kind == FOLDER:
                part.mkdir()
                for number, frame in enumerate(self.frames, 1):
                    codes = to_codes(unveiled(frame, self.alpha), self.bits)
                    file = part / f"{number:06d}.{stills}"
                    file.write_bytes(encode(codes, stills.upper(), tags=self.tags))
            elif kind in CONTAINERS:
                encode_video(self, part, encoding, target)
            else:
                encode_animation(self, part, kind, loop)
            _verify(self, part, kind, target)
        return target


def check_target(
    path: Name,
    *,
    overwrite: bool,
    inputs: Iterable[Name] = (),
    fps: float | None = None,
    codec: str | None = None,
) -> Path:
    """Check, before any work is done, that a clip can be saved at `path`; return it as a Path.

    Raises UsageError when the suffix is unknown, something is there that may not be replaced
    (ever: one of `inputs`, or a folder that holds more than a clip), or the kind of file
    cannot show `fps` or hold `codec`; MediaError when its folder is missing or cannot be
    written to.
    """
    target = Path(path)
    check_name(target)
    kind = _kind(path)
    if kind not in (FOLDER, *CLIPS):
        known = ", ".join(CLIPS)
        more = "or none for a folder of PNG or, with --format tiff, TIFF"
        raise UsageError(f"{target}: unknown suffix; use {known}, {more}")
    if codec is not None:
        encoding_for(target, kind, codec)
    if kind in CODINGS and fps is not None and fps > CODINGS[kind].max_fps:
        most = f"players show at most {CODINGS[kind].max_fps:g} frames a second of {kind}"
        raise UsageError(f"{target}: {most}; lower --fps or write .mp4")
    if kind == FOLDER:
        _check_folder(target, inputs, overwrite)
    else:
        check_free(target, inputs, overwrite=overwrite)
    return target


def check_coding(path: Name, height: int, width: int, codec: str | None = None) -> Encoding:
    """Choose how a clip of a size is coded at `path`; raises UsageError where it cannot be."""
    check_size(path, height, width)
    encoding = encoding_for(Path(path), _kind(path), codec)
    if _kind(path) in CONTAINERS:
        try:
            encoding.for_size(width, height)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
    return encoding


def _check_folder(target: Path, inputs: Iterable[Name], overwrite: bool) -> None:
    """Check that a folder of pictures can be written; as `check_free` does of a file."""
    check_parent(target)
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise UsageError(f"{target}: exists already and is a file; give another name")
    sources = [path for path in map(Path, inputs) if path.exists()]
    if any(target.samefile(source.resolve().parent) for source in sources):
        raise UsageError(f"{target}: contains an input; choose another name")
    inside = [entry.name for entry in target.iterdir()]
    if inside and not overwrite:
        raise UsageError(f"{target}: exists already; give another name or --overwrite")
    if not all(map(NUMBERED.fullmatch, inside)):
        raise UsageError(f"{target}: holds more than a clip and is not replaced; name another")


def _kind(path: Name) -> str:
    """Lower-case suffix of `path`, or `FOLDER`."""
    text, suffix = os.fspath(path), Path(path).suffix.lower()
    known = suffix in CLIPS
    if text.endswith(("/", os.sep)) or (not known and Path(path).is_dir()):
        return FOLDER
    return suffix


def decode(path: Path, kind: str) -> Iterator[tuple[np.ndarray, float]]:
    """Yield each frame of a file or folder as [H, W, 3] uint8, with the seconds it is shown."""
    if kind == FOLDER:
        for name in sorted(path.glob("[!.]*")):
            yield to_codes(read_photo(name).pixels), 1 / UNTOLD_FPS
    elif kind in CONTAINERS:
        demuxer = "matroska" if kind == ".webm" else CONTAINERS[kind]
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


def _verify(clip: Clip, part: Path, kind: str, target: Path) -> None:
    """Check by reopening that `part` holds as many frames as `clip`, of its size."""
    expected = [(*clip.frames.shape[2:], 3)] * len(clip)
    try:
        found = [codes.shape for codes, _ in decode(part, kind)]
    except (ValueError, EOFError, SyntaxError) as error:
        raise MediaError(f"{target}: was not written whole ({one_line(error)})") from error
    if found != expected:
        wrong = f"{len(found)} frames of {sorted(set(found))} instead of {len(clip)}"
        raise MediaError(f"{target}: reading it back gave {wrong}; write another kind of file")


def missing_encoders() -> tuple[list[str], list[str]]:
    """List the encoders that are not here: those of clips, and those of videos alone."""
    clips = {coding.codec for coding in CODINGS.values()} | {CODECS["h264"].encoder}
    videos = {codec.encoder for codec in CODECS.values()} - clips
    return sorted(clips - av.codecs_available), sorted(videos - av.codecs_available)
