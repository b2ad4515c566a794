"""A video written in closed pieces, so that a run that was stopped can go on.

The pieces lie in a hidden folder beside the target, `.<name>.b2v`. Each begins with a key
frame, has its times from zero, and its name tells its place and its first time. All runs
write them, so that one that was stopped and resumed gives the same pictures as one that was not.
"""

import hashlib
import io
import math
import re
import shutil
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import av
import torch
from torch import Tensor

from b2v.errors import MediaError, UsageError
from b2v.files import alone, one_line
from b2v.media.video_format import VideoInfo
from b2v.media.video_writer import CODECS, Encoding, VideoWriter

FRAMES_EACH = 120
"""Frames in a piece: what a stopped run loses at most."""
PIECE = re.compile(r"(\d{6})_(-?\d+)\.(mp4|mov)")
KEY, STATE = "key.txt", "state"
LOOKS, LOOK = 16, 1 << 16
"""Places of a source that are looked at to know it again, and bytes at each."""
AS_STORED = {"fflags": "nofillin+noparse"}
"""Reads packets as they are stored; FFmpeg would guess the durations of VP9 anew."""


class SegmentWriter:
    """A video in pieces, with the interface of `VideoWriter`.

    With `resume`, what an earlier run closed is taken over: go on with frame `done_frames`,
    and with `state`, what the earlier run gave when it closed its last piece; without, it is
    deleted. The closed pieces are left, with `keep`, where the block ends with an error. Under the
    name of the `target`, which it is to become, nothing is written.

    `key` is what a run must have in common with the one that it resumes, as one text; `each` are
    the frames in a piece; `save` gives what the run needs to go on after one. Raises UsageError
    where the earlier run had another `key`, MediaError where the folder cannot be written to.
    """

    def __init__(
        self,
        target: Path,
        info: VideoInfo,
        encoding: Encoding | None = None,
        *,
        each: int = FRAMES_EACH,
        key: str = "",
        resume: bool = False,
        keep: bool = False,
        save: Callable[[], bytes] | None = None,
    ) -> None:
        self.target, self.info, self.encoding = target, info, encoding or Encoding()
        self.each, self.keep, self.save = each, keep, save
        self.folder = _folder(target)
        self.timestamps, self.end = array("q"), 0
        self.pieces: list[Path] = []
        self.state: bytes | None = None
        self._open: VideoWriter | None = None
        self._first = self._in_piece = 0
        with ExitStack() as lock, self._guarded():
            lock.enter_context(alone(self.folder, name=target))
            if not (resume and left_over(target)):
                self.remove()
            self.folder.mkdir(exist_ok=True)
            lock.callback(self._remove_if_empty)
            self._check_key(f"{key}\n{self.encoding}\n{each}\n".encode(errors="surrogateescape"))
            self._take_over()
            self._lock = lock.pop_all()
        self.done_frames = len(self.timestamps)

    def read_state(self) -> dict[str, Tensor]:
        """Read what the earlier run gave when it closed its last piece.

        Raises UsageError where it is not tensors of finite numbers, two `counts` among them.
        """
        try:
            state = torch.load(io.BytesIO(self.state or b""), weights_only=True)
            whole = all(torch.isfinite(tensor).all() for tensor in state.values())
            if whole and state["counts"].shape == (2,) and not state["counts"].is_floating_point():
                return state
            error: Exception | None = None
        except Exception as caught:  # what lies on a disk may be damaged in any way
            error = caught
        what = "what an earlier run left is damaged; start over with --overwrite"
        raise UsageError(f"{self.target}: {what}, without --resume") from error

    def _remove_if_empty(self) -> None:
        if not left_over(self.target):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _check_key(self, key: bytes) -> None:
        file = self.folder / KEY
        if not file.exists():
            file.write_bytes(key)
        elif file.read_bytes() != key:
            what = "the earlier run had a different input, weights or options"
            how = "use the same, or start over with --overwrite, without --resume"
            raise UsageError(f"{self.target}: {what}; {how}")

    def _take_over(self) -> None:
        """Find the pieces that an earlier run closed, up to the first that cannot be read."""
        for file in sorted(self.folder.iterdir()):
            match = PIECE.fullmatch(file.name)
            if match is None or int(match[1]) != len(self.pieces):
                continue
            try:
                times, end = read_times(file, self.info)
            except MediaError:
                break
            self.timestamps.extend(time + int(match[2]) for time in times)
            self.end = end + int(match[2])
            self.pieces.append(file)
        saved = self.folder / f"{len(self.pieces):06d}.{STATE}"
        self.state = saved.read_bytes() if saved.exists() else None

    def __enter__(self) -> "SegmentWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._lock:
            if kind is None:
                self.close()
            else:
                self.abort()

    def write(self, pixels: Tensor, pts: int, duration: int) -> None:
        """Append `pixels` [3, H, W] in [0, 1], shown from `pts` for `duration` ticks.

        Raises as `VideoWriter.write` does.
        """
        if self.timestamps and pts <= self.timestamps[-1]:
            raise UsageError(f"{self.target}: time {pts} does not follow {self.timestamps[-1]}")
        if self._open is None:
            self._first, self._in_piece = pts, 0
            file = self.folder / f"{len(self.pieces):06d}.part"
            self._open = VideoWriter(file, self.info, self.encoding)
            self._open.name = str(self.target)
        self._open.write(pixels, pts - self._first, duration)
        self.timestamps.append(pts)
        self.end = pts + duration
        self._in_piece += 1
        if self._in_piece == self.each:
            self.close()

    def close(self) -> None:
        """Close the piece that is being written, if any."""
        if self._open is None:
            return
        writer, number, self._open = self._open, len(self.pieces), None
        writer.close()
        with self._guarded():
            if self.save is not None:
                (self.folder / f"{number + 1:06d}.{STATE}").write_bytes(self.save())
            name = f"{number:06d}_{self._first}.{CODECS[self.encoding.codec].parts}"
            self.pieces.append((self.folder / f"{number:06d}.part").rename(self.folder / name))
            (self.folder / f"{number:06d}.{STATE}").unlink(missing_ok=True)

    def abort(self) -> None:
        """Drop the piece that is being written, and all of them unless they are to be kept."""
        if self._open is not None:
            self._open.abort()
            (self.folder / f"{len(self.pieces):06d}.part").unlink(missing_ok=True)
            self._open = None
        for joined in self.folder.glob("joined.*"):
            joined.unlink()
        if not (self.keep and self.pieces):
            self.remove()

    def remove(self) -> None:
        """Delete the folder with all pieces."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)

    def join(self) -> Path:
        """Put the closed pieces together in one file in the folder, without encoding again.

        Raises MediaError where they do not fit together or the disk refuses.
        """
        self.close()
        if not self.pieces:
            raise MediaError(f"{self.target}: has no frames; nothing was written")
        joined = self.folder / f"joined.{self.pieces[0].suffix[1:]}"
        with self._guarded():
            join(self.pieces, joined, self.info.time_base)
        return joined

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (OSError, av.FFmpegError) as error:
            why = f"cannot be written by way of {self.folder.name} ({one_line(error)})"
            raise MediaError(f"{self.target}: {why}") from error


def identity_of(source: Path) -> str:
    """Identify a source for a later run: by name, size, time of change and parts of it."""
    stat, digest = source.stat(), hashlib.sha256()
    with source.open("rb") as file:
        for look in range(LOOKS):
            file.seek(max(0, stat.st_size - LOOK) * look // (LOOKS - 1))
            digest.update(file.read(LOOK))
    return f"{source.name} {stat.st_size} {stat.st_mtime_ns} {digest.hexdigest()}"


def left_over(target: Path) -> bool:
    """Tell whether a run that was stopped left closed pieces of `target`."""
    folder = _folder(target)
    return folder.is_dir() and any(PIECE.fullmatch(file.name) for file in folder.iterdir())


def _folder(target: Path) -> Path:
    return target.with_name(f".{target.name}.b2v")


def read_times(file: Path, info: VideoInfo) -> tuple[list[int], int]:
    """Read when the frames of a piece are shown and when the last one goes, in ticks of `info`.

    Raises MediaError where it cannot be read, or is not whole.
    """
    try:
        with av.open(f"file:{file.absolute()}", "r", container_options=AS_STORED) as container:
            stream = container.streams.video[0]
            found = [
                (packet.pts, packet.duration)
                for packet in container.demux(stream)
                if packet.size and packet.pts is not None and not packet.is_corrupt
            ]
            tick, stated = (stream.time_base or 1) / info.time_base, stream.frames
    except (av.FFmpegError, IndexError) as error:
        raise MediaError(f"{file}: cannot be read ({one_line(error)})") from error
    if not found or len(found) != stated:
        raise MediaError(f"{file}: holds {len(found)} frames of {stated}")
    last = found[-1][0] + (found[-1][1] or 0)
    return [round(pts * tick) for pts, _ in found], round(last * tick)


def join(pieces: list[Path], joined: Path, tick: Fraction) -> None:
    """Copy the packets of all pieces to one file, each from the time in its name on.

    That time is in units of `tick` seconds. Raises MediaError where a piece is coded otherwise.
    """
    with av.open(f"file:{pieces[0].absolute()}", "r") as first:
        template = first.streams.video[0]
        scale = movie_timescale(tick.denominator)
        options = {"movie_timescale": str(scale)}
        with av.open(f"file:{joined.absolute()}", "w", options=options) as target:
            stream = target.add_stream_from_template(template)
            stream.codec_context.codec_tag = template.codec_context.codec_tag
            for piece in pieces:
                match = PIECE.fullmatch(piece.name)
                assert match is not None  # the writer named it
                source = av.open(f"file:{piece.absolute()}", "r", container_options=AS_STORED)
                with source:
                    copied = source.streams.video[0]
                    if copied.codec_context.extradata != template.codec_context.extradata:
                        raise MediaError(f"{piece}: is coded otherwise; start without --resume")
                    for packet in source.demux(copied):
                        if packet.size and packet.pts is not None and packet.dts is not None:
                            late = round(int(match[2]) * tick / packet.time_base)
                            packet.pts, packet.dts = packet.pts + late, packet.dts + late
                            packet.stream = stream
                            target.mux(packet)


def movie_timescale(*parts: int) -> int:
    """Ticks a second in which MP4 can say exactly when a stream begins late, of such parts."""
    scale = math.lcm(*parts)
    return scale if scale < 2**31 else max(parts)
