"""Videos to frames, one after the other: upright pixels with the exact time of each.

Reads what FFmpeg reads, from a file or from standard input (`-`), and never more than a few
frames at a time. A file that breaks off gives all that can be read, then `TruncatedVideoError`.
"""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from math import inf
from pathlib import Path
from typing import Literal, NamedTuple

import av
from av.container import InputContainer
from av.stream import Disposition
from torch import Tensor

from b2v.errors import MediaError, UsageError
from b2v.files import PIPE, Name, Stdin, may_never_end, one_line
from b2v.media.video_format import ToPixels, describe, missing_bytes, stated_end, stated_whole

FORMATS = (
    "mov,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,m4v,h264,hevc,ivf,obu,flv,asf,ogg,nut,mxf,dv,"
    "yuv4mpegpipe,mjpeg,apng,rm,wtv,av1,vc1,mp3,aac,wav,flac"
)
"""What is opened: no playlists, which name other files, and no text, which FFmpeg would draw."""
SOON = {"analyzeduration": "500000", "fpsprobesize": "8"}
"""What keeps FFmpeg from waiting for seconds of a live video before the first frame."""


def open_source(name: str) -> InputContainer:
    """Open a file, or standard input, with a format of `FORMATS`."""
    if name == PIPE:
        source: Stdin | str = Stdin()
    else:
        _check_file(Path(name))
        source = f"file:{Path(name).absolute()}"
    options = {"format_whitelist": FORMATS, **(SOON if name == PIPE else {})}
    try:
        return av.open(source, "r", container_options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        why = f"not a video that can be read, or cut off ({one_line(error)})"
        raise MediaError(f"{name}: {why}; expected MP4, MOV, MKV, WebM, AVI, GIF …") from error


def _check_file(path: Path) -> None:
    if may_never_end(path):
        raise MediaError(f"{path}: is not a file; pipe the video into b2v and name it -")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError(f"{path}: no such file; check the name") from None
    except IsADirectoryError:
        raise MediaError(f"{path}: is a folder; expected a video file") from None
    except OSError as error:
        raise MediaError(f"{path}: cannot be opened ({one_line(error)})") from error
    if empty:
        raise MediaError(f"{path}: is empty (0 bytes); expected a video")


def video_stream(container: InputContainer, name: str) -> av.VideoStream:
    """Choose the first stream of video that is not a picture of the cover."""
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        if container.streams.video:
            raise MediaError(f"{name}: has only a cover picture; expected a video")
        inside = ", ".join(sorted({str(stream.type) for stream in container.streams}))
        raise MediaError(f"{name}: no video stream inside, only {inside or 'nothing'}")
    stream = streams[0]
    if stream.codec_context is None:
        raise MediaError(f"{name}: its video codec is unknown to FFmpeg; convert it first")
    stream.thread_type = "SLICE" if name == PIPE else "AUTO"
    return stream


SEEK_BACK = 2
"""Seconds by which a seek goes too far back; pictures are stored in another order than shown."""
LATE = Fraction(1, 2)
"""Seconds by which a video may end before it should; the last frame may just stay."""
AHEAD = 8
"""Frames that are decoded before the time of one is settled: times that go back show by then."""
LAST_FRAME = 1
"""Seconds that the last frame may be stated to stay beyond its own duration."""


class TruncatedVideoError(MediaError):
    """The video broke off; `frames` of it were delivered."""

    def __init__(self, message: str, frames: int) -> None:
        super().__init__(message)
        self.frames = frames


class TimedFrame(NamedTuple):
    """`pixels` [3, H, W], shown from `pts` for `duration`, both in ticks of the video."""

    pixels: Tensor
    pts: int
    duration: int


class VideoReader:
    """An open video: `info` about it, and its frames by iteration, once. Use it with `with`.

    `notes` are lines for the user on what was converted or left out; complete after the end.
    """

    def __init__(self, path: Name, start: float | None, end: float | None) -> None:
        self.name, self.live = os.fspath(path), os.fspath(path) == PIPE
        if not 0 <= (start or 0) < inf or (end is not None and not (start or 0) < end):
            part = f"no part from {start} to {end} s; expected 0 <= start < end"
            raise UsageError(f"{self.name}: {part}")
        self.container = open_source(self.name)
        try:
            self.stream = video_stream(self.container, self.name)
            self._prepare(start, end)
        except BaseException:
            self.container.close()
            raise

    def _prepare(self, start: float | None, end: float | None) -> None:
        """Find the first frame that is wanted, and all that `info` tells."""
        self.count, self._damaged, self._broken, self._ended = 0, 0, "", False
        self._end = self._gone = Fraction(0)  # of the last frame, and of all packets, in seconds
        self._frames = self._decode()
        self._decoding_times = "avi" in self.container.format.name
        first = next(self._frames, None)
        if first is None:
            raise MediaError(f"{self.name}: no frame can be read ({self._broken or 'none inside'})")
        self.info = describe(self.name, self.container, self.stream, first)
        self._pixels = ToPixels(first, self.info.turn, self.info.colors, self.info.codec)
        tick = self.info.time_base
        zero = (self._first_dts if self._decoding_times else first.pts) or 0
        self._from = None if start is None else zero + round(Fraction(start) / tick)
        self._until = None if end is None else zero + round(Fraction(end) / tick)
        if start and not self.live:
            first = self._seek(first, zero) or first
        self._shown = self._timed(first)
        self._next = next(self._shown, None)
        if self._next is None:
            part = f"from {start or 0} s" + (f" to {end} s" if end else "")
            raise UsageError(f"{self.name}: has no frames {part}; it is shorter")
        self._offset = 0
        if start is not None or end is not None:
            self._offset = self._next[1]
            until = None if self._until is None else self._until * tick
            self.info = replace(self.info, frames=None, cut=(self._offset * tick, until))

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def __iter__(self) -> Iterator[TimedFrame]:
        """Yield the frames; raises TruncatedVideoError after the last where the file breaks off."""
        while self._next is not None:
            frame, pts, duration = self._next
            self.count += 1
            timed = TimedFrame(self._pixels(frame), pts - self._offset, duration)
            if self.live:
                yield timed
            self._next = next(self._shown, None)
            if not self.live:
                yield timed
        self._check_whole()

    def skip(self, count: int) -> None:
        """Pass over `count` frames, faster than by reading them."""
        while self._next is not None and count > 0:
            self._next, self.count, count = next(self._shown, None), self.count + 1, count - 1
        if count:
            raise MediaError(f"{self.name}: ends {count} frames before the point to resume from")

    @property
    def notes(self) -> list[str]:
        """Lines for the user on what was converted or left out; complete after the end."""
        info, notes = self.info, []
        if info.colors.hdr:
            notes.append(f"HDR ({info.colors.hdr}) was brought to standard range")
        if info.veiled:
            notes.append("it has transparency, which is not kept; it lies on white")
        if info.interlaced:
            notes.append("video is interlaced; its two fields are treated as one picture")
        if self._pixels.scaled:
            width, height = info.width, info.height
            notes.append(f"{self._pixels.scaled} frames were scaled to {width}x{height}")
        if self._damaged:
            notes.append(f"{self._damaged} damaged pieces of the video could not be decoded")
        return [f"{self.name}: {note}" for note in notes]

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Yield decoded frames in the order they are shown; note where the file breaks off."""
        self._held: av.Packet[av.VideoStream] | None = None  # damaged, and perhaps the last
        self._packets, self._first_dts = 0, None
        try:
            for packet in self._of_video():
                if self._first_dts is None:
                    self._first_dts = packet.dts
                self._packets += bool(packet.size)
                if self._held is not None and packet.size:
                    yield from self._decoded(self._held)
                damaged = packet.is_corrupt and bool(packet.size)
                self._held = packet if damaged else None if packet.size else self._held
                if not damaged:
                    yield from self._decoded(packet)
        except (av.FFmpegError, OSError) as error:
            self._broken = one_line(error)
        if self._held is not None:
            self._broken = "the last picture is cut"
        self._ended = True

    def _of_video(self) -> "Iterator[av.Packet[av.VideoStream]]":
        """Yield the packets of the video; note when those of any stream end."""
        for packet in self.container.demux():
            begin = packet.pts if packet.pts is not None else packet.dts
            if packet.size and begin is not None and packet.time_base:
                end = (begin + (packet.duration or 0)) * packet.time_base
                self._gone = max(self._gone, end)
            if packet.stream.index == self.stream.index:
                yield packet  # type: ignore[misc]

    def _decoded(self, packet: "av.Packet[av.VideoStream]") -> list[av.VideoFrame]:
        try:
            return packet.decode()
        except av.InvalidDataError:
            self._damaged += 1
            return []

    def _timed(self, first: av.VideoFrame) -> Iterator[tuple[av.VideoFrame, int, int]]:
        """Yield the wanted frames with their time and duration in ticks.

        The time of a frame that has none, or that goes back, is put after the frame before.
        A file is read one frame ahead, so that a frame lasts until the next one.
        """
        usual = max(1, round(self.info.frame_interval / self.info.time_base))
        waiting: tuple[av.VideoFrame, int, int] | None = None
        pts, step, lasts = None, None, usual
        for frame, found in self._dated(first):
            before = pts
            if found is None:
                pts = 0 if before is None else before + (step or lasts)
            else:
                pts = found if before is None else max(found, before + 1)
            step = step if before is None else pts - before
            lasts = frame.duration or usual
            self._end = (pts + lasts) * self.info.time_base
            if waiting is not None:
                yield waiting[0], waiting[1], pts - waiting[1]
                waiting = None
            if self._until is not None and pts >= self._until:
                return
            if self._from is None or pts >= self._from:
                waiting = (frame, pts, lasts)
                if self.live:
                    yield waiting
                    waiting = None
        if waiting is not None:
            yield waiting[0], waiting[1], self._last_duration(waiting[1], waiting[2])

    def _dated(self, first: av.VideoFrame) -> Iterator[tuple[av.VideoFrame, int | None]]:
        """Yield the frames with the time that the file gives them, None where it gives none.

        AVI has times of decoding only, and other files may have been copied from one; FFmpeg makes
        up the rest. Of both kinds that is taken which goes back less often, as players do. A frame
        is shown by so much earlier than the decoder gives it as it was late with the first one.
        """
        backs, last, waiting = {"pts": 0, "dts": 0}, dict[str, int](), deque[av.VideoFrame]()
        backs["pts"] += self._decoding_times
        late = 0
        if first.dts is not None and self._first_dts is not None:
            late = first.dts - self._first_dts

        def settled(frame: av.VideoFrame) -> tuple[av.VideoFrame, int | None]:
            if backs["pts"] > backs["dts"]:
                return frame, None if frame.dts is None else frame.dts - late
            return frame, frame.pts if frame.pts is not None else frame.dts

        for frame in chain([first], self._frames):
            for kind in backs:
                time = getattr(frame, kind)
                if time is not None:
                    backs[kind] += time <= last.get(kind, time - 1)
                    last[kind] = time
            waiting.append(frame)
            if self.live or len(waiting) > AHEAD:
                yield settled(waiting.popleft())
        yield from map(settled, waiting)

    def _last_duration(self, pts: int, usual: int) -> int:
        """How long the last frame stays: until the stated end of the video, where that fits."""
        tick, stream = self.info.time_base, self.stream
        end = stated_end(self.container, stream)
        if end is None and stream.duration is not None and stream.start_time is not None:
            end = (stream.start_time + stream.duration) * tick
        if self._broken or end is None:
            return usual
        left = round(end / tick) - pts
        return left if 0 < left <= usual + LAST_FRAME / tick else usual

    def _seek(self, first: av.VideoFrame, zero: int) -> av.VideoFrame | None:
        """Go to a key frame before the start; return the first frame from there on."""
        assert self._from is not None  # only called with a start
        back = self._from - round(SEEK_BACK / self.info.time_base)
        if back <= zero:
            return None
        with suppress(av.FFmpegError):
            self.container.seek(back, stream=self.stream, backward=True)
            self._frames = self._decode()
            landed = next(self._frames, None)
            if landed is not None and landed.pts is not None and landed.pts <= self._from:
                return landed
        self.container.close()  # cannot be sought in: read from the beginning instead
        self.container = open_source(self.name)
        self.stream = video_stream(self.container, self.name)
        self._frames = self._decode()
        return next(self._frames, None)

    def _check_whole(self) -> None:
        """Raise TruncatedVideoError if the file ends before it should."""
        if self.live or not self._ended:
            return
        missing, stated = "", stated_end(self.container, self.stream)
        if stated is None and self.info.cut is None and self.stream.frames > self._packets:
            missing = f"{self.stream.frames} are stated"
        elif stated is not None and stated - self._end > LATE:
            missing = f"{float(stated - self._end):.1f} s are missing at its end"
        elif (whole := stated_whole(self.container)) is not None and whole - self._gone > LATE:
            missing = f"{float(whole - self._gone):.1f} s are missing at its end"
        elif self.info.cut is None and (bytes_missing := missing_bytes(Path(self.name))):
            missing = f"{bytes_missing} bytes are missing at its end"
        if why := self._broken or missing:
            message = f"{self.name}: video is truncated after {self.count} frames ({why})"
            raise TruncatedVideoError(f"{message}; get a complete copy for the rest", self.count)


def open_video(path: Name, start: float | None = None, end: float | None = None) -> VideoReader:
    """Open the first video stream of a file, or of standard input for `-`.

    Only frames shown from `start` to before `end` are read, in seconds from the first frame;
    their times then count from the first of them. Raises MediaError where there is no video
    that can be decoded, UsageError where there is no such part.
    """
    return VideoReader(path, start or None, end)


def read_video(path: Path) -> Iterator[Tensor]:
    """Decode a video, frame by frame, upright, to [3, H, W] uint8; raises as `open_video`."""
    with open_video(path) as reader:
        for frame in reader:
            yield frame.pixels.mul(255).round_().byte()


NEAR = 1e-4
"""Seconds by which times that are rounded may differ."""


class Moment(NamedTuple):
    """One frame of each, [3, H, W] in [0, 1], and its time in seconds of the restored one."""

    second: float
    blurry: Tensor
    restored: Tensor


def moments(
    source: str,
    restored: str,
    frames: int,
    *,
    count: int,
    start: float | None = None,
    end: float | None = None,
    compare: Literal["side", "stack"] | None = None,
    slower: float = 1,
) -> Iterator[Moment]:
    """Read evenly spread frames of a restored video beside those that they came from.

    Args:
        source: the blurry video.
        restored: what was made of it, frame by frame.
        frames: how many there are.
        count: how many are wanted, at most.
        start: the part of the source that was restored, as `open_video` takes it.
        end: likewise.
        compare: the restored video shows both; then it alone is read.
        slower: by how many times it is played slower; frames are then put together by their times.

    Yields:
        The moments in order; fewer where the source breaks off.

    """
    steps = max(1, min(count, frames) - 1)
    wanted = sorted({round(k * (frames - 1) / steps) for k in range(min(count, frames))})
    with ExitStack() as stack:
        new = stack.enter_context(open_video(restored))
        old = None if compare else stack.enter_context(open_video(source, start, end))
        seconds, done = float(new.info.time_base), 0
        held = None if old is None or slower == 1 else _Held(old)
        for number in wanted:
            new.skip(number - done)
            if old is not None and held is None:
                old.skip(number - done)
            done = number + 1
            shown = next(iter(new))
            second = shown.pts * seconds
            if old is None:
                dim = 2 if compare == "side" else 1
                blurry, sharp = shown.pixels.chunk(2, dim)
            else:
                frame = next(iter(old)) if held is None else held.at(second / slower)
                blurry, sharp = frame.pixels, shown.pixels
            yield Moment(second, blurry, sharp)


class _Held:
    """The frames of a video by their times, each held until the next one; times only go on."""

    def __init__(self, reader: VideoReader) -> None:
        self.frames, self.tick = iter(reader), reader.info.time_base
        self.now = self.next = next(self.frames)
        self.start = self.now.pts

    def at(self, second: float) -> TimedFrame:
        """Give the frame that is shown so many seconds after the first one begins."""
        while (self.next.pts - self.start) * self.tick <= second + NEAR:
            self.now, following = self.next, next(self.frames, None)
            if following is None:
                break
            self.next = following
        return self.now
