"""Videos restored from file to file, as `b2v deblur` does it: what goes where, threads, the run.

A thread reads ahead, the caller's works, another one writes; `WAITING` frames at most wait for
either, so memory does not grow with the video. What goes wrong in a thread is raised in the
caller's: a reader's error after the frames before it, a writer's with one of the next frames.
"""

import io
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import ceil
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from b2v.errors import MediaError, ShapeError, UsageError
from b2v.files import PIPE, safe_name
from b2v.inference.slow_motion import TICK, Shown, SlowMotion, Tempo, tempo_for
from b2v.inference.videos import Deblurrer
from b2v.media.drawing import beside
from b2v.media.ffmpeg import CONTAINER, SUFFIX, stretch_sound
from b2v.media.metadata import Provenance, Tags, beside_what_is_said
from b2v.media.remux import check_video_target, finish, kept_tags
from b2v.media.segments import FRAMES_EACH, SegmentWriter, identity_of, left_over
from b2v.media.video_format import StreamInfo, VideoInfo
from b2v.media.video_reader import TimedFrame, TruncatedVideoError, VideoReader, open_video
from b2v.media.video_writer import (
    CODECS,
    LIVE,
    TARGETS,
    Encoding,
    VideoWriter,
    choose_codec,
    live_writer,
)
from b2v.weights.store import Loaded

WAITING = 3
"""Frames that wait between two threads; more would only cost memory."""
NAP = 0.1
"""Seconds after which a waiting thread looks up; Ctrl-C does not wake it on every system."""
PATIENCE = 2.0
"""Seconds that a thread may take to end while it hangs on a pipe; a file never hangs for long."""

T = TypeVar("T")


class Worker:
    """A thread that does one thing after the other, up to the first that fails.

    Threads of `concurrent.futures` would keep Python from ending while one hangs on a pipe.
    """

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, do: Callable[[], T]) -> "Future[T]":
        """Queue a task; it fails where one before it failed."""
        future: Future[T] = Future()
        self._tasks.put((future, do))
        return future

    def ends(self, *, patient: bool) -> bool:
        """Wait for what was submitted, for a while only where that may hang; tell whether it is."""
        self._tasks.put(None)
        self._thread.join(None if patient else PATIENCE)
        return not self._thread.is_alive()

    def _run(self) -> None:
        failed: BaseException | None = None
        while (task := self._tasks.get()) is not None:
            future, do = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if failed is not None:
                    raise failed
                future.set_result(do())
            except BaseException as error:
                failed = error
                future.set_exception(error)


def _result(future: "Future[T]") -> T:
    while not wait([future], NAP).done:
        pass
    return future.result()


class Reading:
    """The frames of an open video, read ahead by a thread; use it with `with`."""

    def __init__(self, reader: VideoReader) -> None:
        self.reader = reader
        self._worker = Worker("b2v-read")
        self._ahead: deque[Future[TimedFrame | None]] = deque()

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_: object) -> None:
        for future in self._ahead:
            future.cancel()
        if self._worker.ends(patient=not self.reader.live):
            self.reader.close()

    def frames(self, skip: int = 0) -> Iterator[TimedFrame]:
        """Yield the frames after the first `skip`; raises what went wrong after those before."""
        frames, skipped = iter(self.reader), self._worker.submit(partial(self.reader.skip, skip))
        for _ in range(WAITING):
            self._ahead.append(self._worker.submit(partial(next, frames, None)))
        _result(skipped)
        while (frame := _result(self._ahead.popleft())) is not None:
            self._ahead.append(self._worker.submit(partial(next, frames, None)))
            yield frame


class Finished(NamedTuple):
    """A frame to be written, and where it ends a piece what is needed to go on after it."""

    pixels: Tensor
    pts: int
    duration: int
    state: dict[str, Tensor] | None


class Writing:
    """A thread that writes what is `put`; use it with `with`, which closes the `writer` too.

    The writer of pieces saves with each the latest state that came with a frame.
    """

    def __init__(self, writer: SegmentWriter | VideoWriter) -> None:
        self.writer, self.live = writer, not isinstance(writer, SegmentWriter)
        if isinstance(writer, SegmentWriter):
            writer.save = self._saved
        self._worker = Worker("b2v-write")
        self._waiting: deque[Future[None]] = deque()
        self._state: dict[str, Tensor] = {}

    def __enter__(self) -> "Writing":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for future in self._waiting:
            future.cancel()
        if self._worker.ends(patient=not self.live):
            self.writer.__exit__(kind, error, trace)

    @property
    def done(self) -> int:
        """Frames that are written, those of the run before included."""
        return len(self.writer.timestamps)

    def put(self, frame: Finished) -> None:
        """Hand over a frame; raises what went wrong with one before."""
        self._waiting.append(self._worker.submit(partial(self._write, frame)))
        while len(self._waiting) > WAITING or (self._waiting and self._waiting[0].done()):
            _result(self._waiting.popleft())

    def drain(self) -> Iterator[int]:
        """Wait until all is written; yield `done` meanwhile. Raises what went wrong."""
        while self._waiting:
            if wait([self._waiting[0]], NAP).done:
                self._waiting.popleft().result()
            yield self.done

    def _write(self, frame: Finished) -> None:
        self._state = frame.state or self._state
        self.writer.write(frame.pixels, frame.pts, frame.duration)

    def _saved(self) -> bytes:
        file = io.BytesIO()
        torch.save(self._state, file)
        return file.getvalue()


LIKE_MP4 = (".m4v", ".3gp", ".3g2", ".qt", ".f4v", ".gif", ".apng", ".y4m", ".h264", ".hevc")
"""Kinds of file that are not written, and of which an MP4 can hold all there is."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The request: the part of the video in seconds, how to encode it, what to keep.

    None is the usual value. `compare` puts the blurry frame beside or above the restored one;
    `shutter` is the exposure time in seconds; with
    `only_blurry` frames in which little moved are left as they are. For slow motion, `slower` is by
    how many times, `fps` the frames a second of the new video, and `sound` is whether it is kept,
    stretched.
    """

    codec: str | None = None
    crf: int | None = None
    pix_fmt: str | None = None
    start: float | None = None
    end: float | None = None
    compare: Literal["side", "stack"] | None = None
    shutter: float | None = None
    only_blurry: bool = False
    slower: float | None = None
    fps: float | None = None
    sound: bool = False
    resume: bool = False
    keep_partial: bool = False
    keep_gps: bool = False
    strip_metadata: bool = False
    overwrite: bool = False


def default_name(source: Path, codec: str | None = None, what: str = "deblurred") -> str:
    """Name the restored video: `walk_deblurred.mp4`; .mkv holds what the source's suffix cannot."""
    suffix = source.suffix
    if suffix.lower() not in TARGETS:
        suffix = ".mp4" if suffix.lower() in LIKE_MP4 else ".mkv"
    if codec is not None and codec not in TARGETS[suffix.lower()]:
        suffix = ".mkv"
    return f"{safe_name(source.stem)}_{what}{suffix}"


def check(
    source: str,
    target: str,
    settings: Settings,
    *,
    inputs: Sequence[str] = (),
    new_folder: bool = False,
) -> None:
    """Check before any work whether `target` can be written; `inputs` are all that is read.

    With `new_folder`, the folder of `target` is to be made. Raises UsageError and MediaError as
    `check_video_target` does, and UsageError where options contradict each other, or a run
    before left a part of the video that would be lost.
    """
    if settings.resume and PIPE in (source, target):
        raise UsageError("-: a pipe cannot be read or written again; --resume is for files")
    if target == PIPE:
        if settings.codec not in (None, *LIVE):
            raise UsageError(f"-: {settings.codec} is not for streams; use {' or '.join(LIVE)}")
    elif not new_folder:
        files = [name for name in inputs if name != PIPE]
        check_video_target(target, codec=settings.codec, overwrite=settings.overwrite, inputs=files)
        if left_over(Path(target)) and not (settings.resume or settings.overwrite):
            how = "continue with --resume, or start over with --overwrite"
            raise UsageError(f"{target}: an earlier run was interrupted; {how}")
    codec = codec_for(target, settings)
    if settings.crf is not None and CODECS[codec].crf is None:
        raise UsageError(f"{target}: {codec} has no --crf; leave it out")


def codec_for(target: str, settings: Settings) -> str:
    """Name the codec for a file or, as for MP4, for a stream."""
    return choose_codec(Path("-.mp4" if target == PIPE else target), settings.codec)


@dataclass(frozen=True)
class Progress:
    """How far a video is: frames `done` of `total`, as far as that is known, and their size.

    The last one also has `notes` for the user, says what of the source is `lost`, and where it is
    `broken` off.
    """

    done: int
    total: int | None
    width: int
    height: int
    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    broken: str | None = None


def deblur_video(
    source: str,
    target: str,
    deblurrer: Deblurrer,
    model: Loaded,
    settings: Settings,
) -> Generator[Progress, None, None]:
    """Restore one video; `-` is standard input or output. Call `check` before.

    The file says that it was made by the `model`, of which `deblurrer`, which is reset, has the
    network. The folder of `target` is made where only it is missing. Close the generator if it is
    left early: its threads end then, and closed pieces of the video stay, to be resumed.

    Yields how far it is: at the start, after each frame that was read, and while others are
    written. Raises TruncatedVideoError where the source breaks off; nothing is under the name of
    `target` then, unless `keep_partial` asks for it; UsageError where the run to be resumed was
    another one; B2VError where something cannot be read, restored or written.
    """
    with Reading(open_video(source, settings.start, settings.end)) as reading:
        reader, slower, shutter = reading.reader, settings.slower, settings.shutter
        rate = reader.info.average_rate
        tempo = None if slower is None else tempo_for(slower, settings.fps, rate)
        info = _written(reader.info, settings, tempo)
        now = Progress(0, _expected(reader.info, tempo), info.width, info.height)
        writer = _writer(source, target, info, f"{model.sha256} {deblurrer.runtime}", settings)
        with Writing(writer) as writing:
            interval = float(reader.info.frame_interval)
            deblurrer.duty = None if shutter is None else min(1.0, shutter / interval)
            deblurrer.only_blurry = settings.only_blurry
            run = _Run(reading, deblurrer, writing, settings, tempo)
            yield replace(now, done=writing.done)
            for _ in run.frames():
                yield replace(now, done=writing.done)
            for done in writing.drain():
                yield replace(now, done=done)
            if reader.count != run.restored or run.given != writing.done:
                raise MediaError(f"{target}: {writing.done} frames came of {reader.count}")
            if run.broken is not None and not settings.keep_partial:
                raise _refused(run.broken, writer)
            lost = _put_together(writer, source, reader.info, model, settings)
        lost = [*reader.notes, *lost]
    broken = None if run.broken is None else str(run.broken)
    played = [] if tempo is None else [f"{source}: played {float(tempo.slower):.3g} times slower"]
    yield replace(now, done=writing.done, notes=tuple(played), lost=tuple(lost), broken=broken)


class _Run:
    """The way of the frames through the network, from where the run before had come to.

    So many were `taken` of the source, `restored`, and `given` to be written.
    """

    def __init__(
        self,
        reading: Reading,
        deblurrer: Deblurrer,
        writing: Writing,
        settings: Settings,
        tempo: Tempo | None,
    ) -> None:
        self.reading, self.deblurrer, self.writing = reading, deblurrer, writing
        writer, self.compare = writing.writer, settings.compare
        self.each = writer.each if isinstance(writer, SegmentWriter) else 0
        self.waiting: deque[TimedFrame] = deque()
        self.broken: TruncatedVideoError | None = None
        self.written = writing.done
        self.slow = SlowMotion(tempo, reading.reader.info.time_base) if tempo else None
        self.taken, self.restored = _go_on(deblurrer, writer, self.slow)
        self.given = self.slow.count if self.slow else self.restored

    def frames(self) -> Iterator[None]:
        """Restore all frames; yield after each. `broken` says where the source breaks off."""
        seen = self.restored
        try:
            for frame in self.reading.frames(skip=seen):
                self.waiting.append(frame)
                seen += 1
                if seen > self.taken:  # else the network has it from the run before
                    restored = self.deblurrer.step(frame.pixels)
                    if restored is not None:
                        self._hand_on(restored)
                yield
        except TruncatedVideoError as error:
            self.broken = error
        state = self._state() if self.each else None
        for restored in self.deblurrer.flush():
            self._hand_on(restored, state)
            yield

    def _hand_on(self, pixels: Tensor, state: dict[str, Tensor] | None = None) -> None:
        """Queue a frame to be written; in slow motion, those before it first."""
        blurry = self.waiting.popleft()
        self.restored += 1
        alone = iter((Shown(pixels, blurry.pixels),))
        shown = self.slow.frames(pixels, blurry, self.written) if self.slow else alone
        for frame in shown:
            self.given += 1
            if self.given > self.written:  # else the run before has had it written
                self._write(frame, blurry, state)

    def _write(self, frame: Shown, source: TimedFrame, state: dict[str, Tensor] | None) -> None:
        """Queue a frame, with the state to resume from where a piece may end."""
        if self.slow is None:
            pts, duration, ends = source.pts, source.duration, self.given % (self.each or 1) == 0
        else:
            pts, duration = self.slow.tempo.shown(self.given - 1)
            ends = self.given == self.slow.count
        if state is None and self.each and ends:
            state = self._state()
        pixels = beside(frame.blurry, frame.pixels, self.compare) if self.compare else frame.pixels
        self.writing.put(Finished(pixels, pts, duration, state))

    def _state(self) -> dict[str, Tensor]:
        return self.deblurrer.state_dict() | (self.slow.state_dict() if self.slow else {})


def _go_on(deblurrer: Deblurrer, writer: object, slow: SlowMotion | None) -> tuple[int, int]:
    """Load the state of the run before; return how many frames it took and restored."""
    deblurrer.reset()
    if not isinstance(writer, SegmentWriter) or not writer.done_frames:
        return 0, 0
    state = writer.read_state()
    try:
        if slow is not None:
            slow.load_state_dict(state)
        deblurrer.load_state_dict({k: v for k, v in state.items() if k not in SlowMotion.KEYS})
    except (ShapeError, LookupError, ValueError) as error:
        raise UsageError(f"{writer.target}: {error}; start over with --overwrite") from error
    taken, given = state["counts"].tolist()
    return taken, given


def _writer(
    source: str, target: str, info: VideoInfo, work: str, settings: Settings
) -> SegmentWriter | VideoWriter:
    """Open what the frames go to; a run with another `work`, source or settings is another run."""
    live = target == PIPE
    encoding = Encoding(codec_for(target, settings), settings.crf, settings.pix_fmt, live=live)
    encoding.for_size(info.width, info.height)
    if live:
        return live_writer(info, encoding)
    Path(target).parent.mkdir(exist_ok=True)
    key = work
    if source != PIPE:
        key += f" {identity_of(Path(source))}"
    key += f" {settings.start} {settings.end} {settings.compare} {settings.shutter}"
    key += f" {settings.only_blurry}"
    key += f" {settings.slower} {settings.fps}" if settings.slower else ""
    resume, keep = settings.resume, source != PIPE
    return SegmentWriter(
        Path(target), info, encoding, each=FRAMES_EACH, key=key, resume=resume, keep=keep
    )


def _refused(error: TruncatedVideoError, writer: object) -> TruncatedVideoError:
    """Add to the error how to keep the part that could be read; what is restored stays."""
    hint = "; --keep-partial takes these"
    if isinstance(writer, SegmentWriter) and writer.keep:
        writer.close()
        hint = "; --keep-partial --resume takes these"
    return TruncatedVideoError(f"{error}{hint}", error.frames)


def _put_together(
    writer: object,
    source: str,
    info: VideoInfo,
    model: Loaded,
    settings: Settings,
) -> list[str]:
    """Make the file of its pieces and of what else the source has; return notes on what is lost."""
    if not isinstance(writer, SegmentWriter):
        return []
    made = Provenance(model=model.name, sha256=model.sha256, license=model.license)
    said = {} if settings.strip_metadata else Tags(made).video()
    said = beside_what_is_said(said, writer.info.tags)
    how = partial(
        finish,
        writer,
        overwrite=settings.overwrite,
        keep_gps=settings.keep_gps,
        strip_metadata=settings.strip_metadata,
    )
    if settings.slower is None:
        return how(None if source == PIPE else source, metadata=said)
    tags = {} if settings.strip_metadata else kept_tags(info, keep_gps=settings.keep_gps)
    sound, lost = writer.folder / f"sound{SUFFIX}", _left_out(info, settings)
    found: tuple[StreamInfo, ...] = ()
    if settings.sound and info.of_kind("audio"):
        slower = Fraction(settings.slower).limit_denominator(1000)
        try:
            found = stretch_sound(Path(source), info, slower, sound, writer.target.suffix)
        except MediaError as error:
            lost.append(f"{error}; it was left out")
    writer.info = replace(writer.info, streams=(*writer.info.streams, *found))
    return [*lost, *how(sound if found else None, metadata=tags | said)]


def _written(info: VideoInfo, settings: Settings, tempo: Tempo | None) -> VideoInfo:
    """Describe the video that is written: twice as wide or high for a comparison.

    Slow motion has nothing of the source but its pictures and what is said of them; beside those
    can lie streams of a file of sound.
    """
    width, height = info.width, info.height
    width *= 2 if settings.compare == "side" else 1
    height *= 2 if settings.compare == "stack" else 1
    info = replace(info, width=width, height=height)
    if tempo is None:
        return info
    own = next(stream for stream in info.streams if stream.index == info.index)
    return replace(
        info,
        container=CONTAINER,
        index=-1,
        time_base=TICK,
        average_rate=tempo.rate,
        start=Fraction(0),
        duration=None,
        streams=(replace(own, index=-1),),
        chapters=0,
        cut=None,
    )


def _left_out(info: VideoInfo, settings: Settings) -> list[str]:
    """List what slow motion does not keep of the source."""
    kinds = {stream.kind for stream in info.streams if stream.index != info.index}
    lost = ["subtitles"] if "subtitle" in kinds else []
    lost += ["chapters"] if info.chapters else []
    notes = [f"{' and '.join(lost)} left out: slow motion has other times"] if lost else []
    if "audio" in kinds and not settings.sound:
        notes.append("sound left out; --sound keeps it, stretched")
    return [f"{info.name}: {note}" for note in notes]


def _expected(info: VideoInfo, tempo: Tempo | None) -> int | None:
    """How many frames there should be, for a bar; None where the file does not tell."""
    count = info.frames
    if not count:
        first, end = info.cut or (info.start, None)
        ends = [] if info.duration is None else [info.start + info.duration]
        ends += [] if end is None else [end]
        count = max(1, ceil((min(ends) - first) / info.frame_interval)) if ends else None
    if tempo is None or count is None:
        return count
    return tempo.count((count - 1) * info.frame_interval)
