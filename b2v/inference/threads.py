"""Reading, work and writing of a video at the same time.

A thread reads ahead, the caller's works, another one writes; `WAITING` frames at most wait for
either, so memory does not grow with the video. What goes wrong in a thread is raised in the
caller's: a reader's error after the frames before it, a writer's with one of the next frames.
"""

import io
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from functools import partial
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

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


class Worker:
    """A thread that does one thing after the other, up to the first that fails.

    Threads of `concurrent.futures` would keep Python from ending while one hangs on a pipe.
    """

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, do: Callable[[], T]) -> "Future[T]":
        """Have something done after all before it; it fails as they do."""
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
