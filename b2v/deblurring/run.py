"""A video file restored, as `b2v deblur` does it: checked before, resumed, verified after.

A restored frame has the time of its blurry one, which waits while the network looks m frames
ahead. With every closed piece of the new video lies the state of the network after a frame of
it, m frames before its end at most; a run that was stopped goes on from there, and what it had
restored since is restored again, bit for bit.
"""

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from torch import Tensor

from b2v.deblurring.pipeline import Finished, Reading, Writing
from b2v.deblurring.plan import Settings, codec_for
from b2v.defaults import VIDEO_MODEL
from b2v.errors import MediaError, ShapeError, UsageError, WeightsError
from b2v.inference.videos import load_line
from b2v.media import (
    Encoding,
    SegmentWriter,
    TimedFrame,
    TruncatedVideoError,
    VideoInfo,
    VideoWriter,
    finish,
    live_writer,
    open_video,
)
from b2v.media.live import Y4MWriter
from b2v.media.pipe import PIPE
from b2v.media.segments import FRAMES_EACH, identity_of
from b2v.media.tags import Tags, beside_what_is_said
from b2v.provenance import Provenance
from b2v.show import beside
from b2v.streaming import Deblurrer
from b2v.weights import LoadedVideoModel


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


def load(model: str, weights: Path | None = None) -> LoadedVideoModel:
    """Load what restores videos, as `b2v.inference.videos.load_line` does, or say how to get it."""
    try:
        return load_line(model, weights=weights)
    except WeightsError as error:
        if weights is not None:
            raise
        how = f"give a file with --weights, or make one by `b2v train -m {VIDEO_MODEL}`"
        raise WeightsError(f"{error}; {how}") from error


def deblur_video(
    source: str, target: str, deblurrer: Deblurrer, model: LoadedVideoModel, settings: Settings
) -> Generator[Progress, None, None]:
    """Restore one video; `-` is standard input or output. Call `check` before.

    The folder of `target` is made where only it is missing. Close the generator if it is left
    early: its threads end then, and closed pieces of the video stay, to be resumed.

    Args:
        source: the blurry video.
        target: what to write.
        deblurrer: what restores it; it is reset.
        model: the network of `deblurrer`, which is named in the file.
        settings: what is asked for.

    Yields:
        How far it is: at the start, after each frame that was read, and while others are written.

    Raises:
        TruncatedVideoError: the source breaks off; nothing is under the name of `target` then,
            unless `keep_partial` asks for it.
        UsageError: the run to be resumed was another one.
        B2VError: something cannot be read, restored or written.

    """
    with Reading(open_video(source, settings.start, settings.end)) as reading:
        reader, info = reading.reader, _combined(reading.reader.info, settings.compare)
        now = Progress(0, _expected(info), info.width, info.height)
        writer = _writer(source, target, info, f"{model.sha256} {deblurrer.runtime}", settings)
        with Writing(writer) as writing:
            deblurrer.duty = duty_of(settings, info)
            run = _Run(reading, deblurrer, writing, settings)
            yield replace(now, done=writing.done)
            for _ in run.frames():
                yield replace(now, done=writing.done)
            for done in writing.drain():
                yield replace(now, done=done)
            if reader.count != writing.done:
                raise MediaError(f"{target}: {writing.done} frames came of {reader.count}")
            if run.broken is not None and not settings.keep_partial:
                raise _refused(run.broken, writer)
            lost = _put_together(writer, source, model, settings)
        lost = [*reader.notes, *lost]
    broken = None if run.broken is None else str(run.broken)
    yield replace(now, done=writing.done, lost=tuple(lost), broken=broken)


def duty_of(settings: Settings, info: VideoInfo) -> float | None:
    """Tell the share of the time in which the shutter was open, where its speed is given."""
    if settings.shutter is None:
        return None
    return min(1.0, settings.shutter / float(info.frame_interval))


class _Run:
    """The way of the frames through the network, from where the run before had come to."""

    def __init__(
        self, reading: Reading, deblurrer: Deblurrer, writing: Writing, settings: Settings
    ) -> None:
        self.reading, self.deblurrer, self.writing = reading, deblurrer, writing
        writer, self.compare = writing.writer, settings.compare
        self.each = writer.each if isinstance(writer, SegmentWriter) else 0
        self.waiting: deque[TimedFrame] = deque()
        self.broken: TruncatedVideoError | None = None
        self.written = writing.done
        self.taken, self.given = _go_on(deblurrer, writer)

    def frames(self) -> Iterator[None]:
        """Restore all frames; yield after each. `broken` says where the source breaks off."""
        self.reading.begin(self.given)
        seen = self.given
        try:
            for frame in self.reading.lane:
                self.waiting.append(frame)
                seen += 1
                if seen > self.taken:  # else the network has it from the run before
                    restored = self.deblurrer.step(frame.pixels)
                    if restored is not None:
                        self._hand_on(restored)
                yield
        except TruncatedVideoError as error:
            self.broken = error
        state = self.deblurrer.state_dict() if self.each else None
        for restored in self.deblurrer.flush():
            self._hand_on(restored, state)
            yield

    def _hand_on(self, pixels: Tensor, state: dict[str, Tensor] | None = None) -> None:
        """Have a frame written, unless the run before has; at the end of a piece with the state."""
        blurry = self.waiting.popleft()
        self.given += 1
        if self.given <= self.written:
            return
        if self.compare is not None:
            pixels = beside(blurry.pixels, pixels, self.compare)
        if state is None and self.each and self.given % self.each == 0:
            state = self.deblurrer.state_dict()
        self.writing.put(Finished(pixels, blurry.pts, blurry.duration, state))


def _go_on(deblurrer: Deblurrer, writer: object) -> tuple[int, int]:
    """Bring `deblurrer` to where the run before had come; return how many it took and gave."""
    deblurrer.reset()
    if not isinstance(writer, SegmentWriter) or not writer.done_frames:
        return 0, 0
    state = writer.read_state()
    try:
        deblurrer.load_state_dict(state)
    except (ShapeError, LookupError, ValueError) as error:
        raise UsageError(f"{writer.target}: {error}; begin anew with --overwrite") from error
    taken, given = state["counts"].tolist()
    return taken, given


def _writer(
    source: str, target: str, info: VideoInfo, work: str, settings: Settings
) -> SegmentWriter | VideoWriter | Y4MWriter:
    """Open what the frames go to; a run with another `work`, source or settings is another run."""
    live = target == PIPE
    encoding = Encoding(codec_for(target, settings), settings.crf, settings.pix_fmt, live=live)
    encoding.for_size(info.width, info.height)
    if live:
        return live_writer(info, settings.to or "matroska", encoding)
    Path(target).parent.mkdir(exist_ok=True)
    key = work
    if source != PIPE:
        key += f" {identity_of(Path(source))}"
    key += f" {settings.start} {settings.end} {settings.compare} {settings.shutter}"
    resume, keep = settings.resume, source != PIPE
    return SegmentWriter(
        Path(target), info, encoding, each=FRAMES_EACH, key=key, resume=resume, keep=keep
    )


def _refused(error: TruncatedVideoError, writer: object) -> TruncatedVideoError:
    """Say how to have the part of a video that could be read; what is restored stays for that."""
    hint = "; --keep-partial takes these"
    if isinstance(writer, SegmentWriter) and writer.keep:
        writer.close()
        hint = "; --keep-partial --resume takes these"
    return TruncatedVideoError(f"{error}{hint}", error.frames)


def _put_together(
    writer: object, source: str, model: LoadedVideoModel, settings: Settings
) -> list[str]:
    """Make the file of its pieces and of what else the source has; return notes on what is lost."""
    if not isinstance(writer, SegmentWriter):
        return []
    made = Provenance(model=model.name, sha256=model.sha256, licence=model.licence)
    said = {} if settings.strip_metadata else Tags(made).video()
    return finish(
        writer,
        None if source == PIPE else source,
        overwrite=settings.overwrite,
        keep_gps=settings.keep_gps,
        strip_metadata=settings.strip_metadata,
        metadata=beside_what_is_said(said, writer.info.tags),
    )


def _combined(info: VideoInfo, compare: str | None) -> VideoInfo:
    """Describe the video that is written: of double width or height for a comparison."""
    if compare == "side":
        return replace(info, width=2 * info.width)
    return replace(info, height=2 * info.height) if compare == "stack" else info


def _expected(info: VideoInfo) -> int | None:
    """How many frames there should be, for a bar; None where the file does not tell."""
    if info.frames:
        return info.frames
    first, end = info.cut or (info.start, None)
    ends = [] if info.duration is None else [info.start + info.duration]
    ends += [] if end is None else [end]
    return max(1, ceil((min(ends) - first) / info.frame_interval)) if ends else None
