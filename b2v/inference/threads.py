"""Reading, work and writing of a video at the same time.

    reader (a thread) -> lane -> work (the caller's thread) -> lane -> writer (a thread)

On a lane wait `WAITING` frames at most, so memory does not grow with the video. What goes wrong
in a thread is raised in the caller's: a reader's error after the frames before it, a writer's
with the next frame for it.
"""

import io
from collections import deque
from collections.abc import Iterator
from threading import Condition, Thread
from types import TracebackType
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from b2v.media.segments import SegmentWriter
from b2v.media.video_reader import TimedFrame, VideoReader
from b2v.media.video_writer import VideoWriter

WAITING = 3
"""Frames that wait between two threads; more would only cost memory."""
NAP = 0.1
"""Seconds after which a waiting thread looks up; Ctrl-C does not wake it on every system."""
PATIENCE = 2.0
"""Seconds that a thread may take to end while it hangs on a pipe; a file never hangs for long."""

T = TypeVar("T")


class LeftError(Exception):
    """Nobody takes what is put on a lane."""


class Lane(Generic[T]):
    """A few items on their way from one thread to another; both ends can end it."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._ended = self._left = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Add an item when there is room; raises why the taker left, or LeftError."""
        with self._changed:
            while len(self._items) >= WAITING and not self._left:
                self._changed.wait(NAP)
            if self._left:
                raise self._error or LeftError
            self._items.append(item)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Add nothing more; the taker gets `error` after the last item."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def leave(self, error: BaseException | None = None) -> None:
        """Take nothing more; the next `put` raises `error`."""
        with self._changed:
            self._left, self._error = True, error
            self._items.clear()
            self._changed.notify_all()

    def check(self) -> None:
        """Raise what ended the lane, if it was an error."""
        if self._error is not None:
            raise self._error

    def __iter__(self) -> Iterator[T]:
        """Take the items until the lane ends; raises the error that it ended with."""
        while True:
            with self._changed:
                while not (self._items or self._ended or self._left):
                    self._changed.wait(NAP)
                if not self._items:
                    break
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
        if not self._left:
            self.check()


class Reading:
    """The frames of an open video on a `lane`, read ahead by a thread; use it with `with`."""

    def __init__(self, reader: VideoReader) -> None:
        self.reader = reader
        self.lane: Lane[TimedFrame] = Lane()
        self._thread: Thread | None = None

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_: object) -> None:
        self.lane.leave()
        if _is_over(self._thread, patient=not self.reader.live):
            self.reader.close()

    def begin(self, skip: int = 0) -> None:
        """Start to read, after the first `skip` frames."""
        self._thread = Thread(target=self._run, args=(skip,), name="b2v-read", daemon=True)
        self._thread.start()

    def _run(self, skip: int) -> None:
        try:
            self.reader.skip(skip)
            for frame in self.reader:
                self.lane.put(frame)
        except LeftError:
            return
        except BaseException as error:
            self.lane.end(error)
        else:
            self.lane.end()


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
        self._lane: Lane[Finished] = Lane()
        self._state: dict[str, Tensor] = {}
        self._thread = Thread(target=self._run, name="b2v-write", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Writing":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lane.leave()
        if _is_over(self._thread, patient=not self.live):
            self.writer.__exit__(kind, error, trace)

    @property
    def done(self) -> int:
        """Frames that are written, those of the run before included."""
        return len(self.writer.timestamps)

    def put(self, frame: Finished) -> None:
        """Hand over a frame; raises what went wrong with one before."""
        self._lane.put(frame)

    def drain(self) -> Iterator[int]:
        """Wait until all is written; yield `done` meanwhile. Raises what went wrong."""
        self._lane.end()
        while self._thread.is_alive():
            self._thread.join(NAP)
            yield self.done
        self._lane.check()

    def _run(self) -> None:
        try:
            for pixels, pts, duration, state in self._lane:
                self._state = state or self._state
                self.writer.write(pixels, pts, duration)
        except BaseException as error:
            self._lane.leave(error)

    def _saved(self) -> bytes:
        file = io.BytesIO()
        torch.save(self._state, file)
        return file.getvalue()


def _is_over(thread: Thread | None, *, patient: bool) -> bool:
    """Wait for a thread to end, for a while only where it may hang; tell whether it has."""
    if thread is not None:
        thread.join(None if patient else PATIENCE)
    return thread is None or not thread.is_alive()
