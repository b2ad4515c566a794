"""A blurry video to slow motion, from file to file: all frames of all its pictures, joined.

    pictures -> frames of each (b2v.inference.images) -> directions of time (joining) -> file

Every frame of a picture is shown for a part of the time of that picture, stretched. As with
`b2v.inference.video_files`, closed pieces of the new video stay when a run is stopped; the next one
goes on after them.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from b2v import __version__
from b2v.errors import MediaError, UsageError
from b2v.frames import COUNTS, FRAMES
from b2v.inference.images import restore
from b2v.inference.joining import Neighbours, join, with_neighbours
from b2v.inference.runtime import Runtime
from b2v.inference.video_files import Finished, Progress, Reading, Settings, Writing, codec_for
from b2v.media import (
    Encoding,
    SegmentWriter,
    TimedFrame,
    TruncatedVideoError,
    VideoInfo,
    finish,
    open_video,
)
from b2v.media.segments import FRAMES_EACH, identity_of
from b2v.weights import LoadedModel

TICK = Fraction(1, 120_000)
"""Seconds; a whole number of them are in a frame at 24, 25, 30, 50, 60 and the rates of NTSC."""
KEPT_TAGS = ("title", "creation_time", "date", "copyright", "artist", "description")
"""Metadata of the source that holds for its slow motion too."""


@dataclass(frozen=True)
class Tempo:
    """When the frames of a picture are shown.

    `frames` of each picture; `slower` is by how many times it is played slower than life; of the
    time from a picture to the next, `duty` is the part in which the shutter was open, None for
    frames at even steps until the next picture.
    """

    frames: int = FRAMES
    slower: Fraction = Fraction(FRAMES)
    duty: float | None = None

    def __post_init__(self) -> None:
        if self.frames not in COUNTS:
            raise UsageError(f"{self.frames} frames; expected {', '.join(map(str, COUNTS))}")
        if self.duty is not None and not 0 < self.duty <= FRAMES / self.frames + 1e-3:
            most = f"{FRAMES / self.frames:.2g} at most with {self.frames} frames"
            raise UsageError(f"--duty {self.duty:g}: a part of the time, {most}; lower it")

    def times(self, pts: int, duration: int, tick: Fraction) -> list[tuple[int, int]]:
        """When each frame of a picture is shown, and for how long, both in `TICK`s.

        `pts` and `duration` of the picture are in ticks of `tick` seconds.
        """
        step = Fraction(1, self.frames)
        if self.duty is not None:
            step = min(step, Fraction(self.duty).limit_denominator(1000) / FRAMES)
        scale = self.slower * tick / TICK
        starts = [round((pts + k * step * duration) * scale) for k in range(self.frames)]
        ends = [*starts[1:], round((pts + duration) * scale)]
        return [(start, end - start) for start, end in zip(starts, ends, strict=True)]


def tempo_for(
    rate: Fraction | None, frames: int, fps: float | None, duty: float | None = None
) -> Tempo:
    """Say how slow a video of `rate` pictures a second is played for `fps` frames a second.

    Without `fps`, a second of it shows as many frames as one of the source: it is slower by the
    number of frames of a picture. Raises UsageError for what cannot be.
    """
    if fps is None:
        return Tempo(frames, Fraction(frames), duty)
    return Tempo(frames, frames * (rate or 25) / Fraction(fps).limit_denominator(1001), duty)


def slow_motion(
    source: str,
    target: str,
    model: LoadedModel,
    runtime: Runtime,
    settings: Settings,
    *,
    frames: int = FRAMES,
    fps: float | None = None,
    duty: float | None = None,
) -> Generator[Progress, None, None]:
    """Write the slow motion of one video; call `b2v.inference.video_files.check` before.

    Close the generator if it is left early. What is read, asked for and raised is as in
    `video_files.deblur_video`; `compare` and streams of `settings` are not for slow motion.

    Args:
        source: the blurry video, a file.
        target: what to write.
        model: a model for photos; its network lies on the runtime's device.
        runtime: device and precision.
        settings: the part to read, how to encode, whether to resume.
        frames: of each picture, one of `b2v.frames.COUNTS`.
        fps: frames a second of the new video; None for those of the source.
        duty: part of the time for which the shutter was open; None for even steps.

    Yields:
        How far it is, in frames of the new video: at the start and after each picture.

    """
    with Reading(open_video(source, settings.start, settings.end)) as reading:
        reader = reading.reader
        tempo = tempo_for(reader.info.average_rate, frames, fps, duty)
        info = _slowed(reader.info, tempo)
        now = Progress(0, info.frames, info.width, info.height)
        key = f"{model.sha256} {runtime} {tempo} {identity_of(Path(source))}"
        key += f" {settings.start} {settings.end}"
        writer = _writer(target, info, key, settings, each=frames * max(1, FRAMES_EACH // frames))
        with Writing(writer) as writing:
            run = _Run(reading, model, runtime, writing, tempo)
            yield replace(now, done=writing.done)
            for _ in run.pictures():
                yield replace(now, done=writing.done)
            for done in writing.drain():
                yield replace(now, done=done)
            if run.given * frames != writing.done or reader.count < run.given:
                raise MediaError(f"{target}: {writing.done} frames came of {reader.count} pictures")
            if run.broken is not None and not settings.keep_partial:
                raise _refused(run.broken, writer)
            said = {} if settings.strip_metadata else _said(reader.info, model, frames)
            lost = finish(writer, None, overwrite=settings.overwrite, metadata=said)
        played, *left_out = _left_out(reader.info, tempo)
        lost = [*reader.notes, *left_out, *lost]
    broken = None if run.broken is None else str(run.broken)
    now = replace(now, done=writing.done, notes=(played,), lost=tuple(lost))
    yield replace(now, broken=broken)


class _Run:
    """The way of the pictures to frames, from where the run before had come to."""

    def __init__(
        self,
        reading: Reading,
        model: LoadedModel,
        runtime: Runtime,
        writing: Writing,
        tempo: Tempo,
    ) -> None:
        self.reading, self.net, self.runtime = reading, model.net, runtime
        self.writing, self.tempo = writing, tempo
        self.tick = reading.reader.info.time_base
        self.broken: TruncatedVideoError | None = None
        writer = writing.writer
        assert isinstance(writer, SegmentWriter)  # slow motion is no stream
        self.given, self.start = _go_on(writer, tempo.frames)

    def pictures(self) -> Iterator[None]:
        """Take all pictures apart; yield after each. `broken` says where the source breaks off."""
        again = min(self.given, 1)  # the last one of the run before is a neighbour
        self.reading.begin(self.given - again)
        for number, (before, this, after) in enumerate(with_neighbours(self._read())):
            if number < again:
                continue
            near = (None if picture is None else picture.pixels for picture in (before, after))
            around = Neighbours(next(near), this.pixels, next(near))
            frames = restore(self.net, this.pixels, self.runtime, frames=self.tempo.frames)
            self._hand_on(this, join(frames, around))
            yield

    def _read(self) -> Iterator[TimedFrame]:
        try:
            yield from self.reading.lane
        except TruncatedVideoError as error:
            self.broken = error

    def _hand_on(self, picture: TimedFrame, frames: Tensor) -> None:
        """Have the frames of a picture written, with what to go on from after them."""
        self.given += 1
        self.start = picture.pts if self.start is None else self.start
        times = self.tempo.times(picture.pts - self.start, picture.duration, self.tick)
        state = {"counts": torch.tensor([self.given, self.start])}
        for number, (pixels, (pts, lasts)) in enumerate(zip(frames, times, strict=True), 1):
            last = number == len(frames)
            self.writing.put(Finished(pixels, pts, lasts, state if last else None))


def _go_on(writer: SegmentWriter, frames: int) -> tuple[int, int | None]:
    """Find what the run before had given: how many pictures, and the time of the first."""
    if not writer.done_frames:
        return 0, None
    given, start = writer.read_state()["counts"].tolist()
    if given * frames != writer.done_frames:
        what = "what the run before left does not fit together; begin anew with --overwrite"
        raise UsageError(f"{writer.target}: {what}, without --resume")
    return given, start


def _slowed(info: VideoInfo, tempo: Tempo) -> VideoInfo:
    """Describe the new video, which has nothing of the source but its pictures."""
    rate = info.average_rate
    return replace(
        info,
        time_base=TICK,
        average_rate=None if rate is None else tempo.frames * rate / tempo.slower,
        frames=None if info.frames is None else info.frames * tempo.frames,
        start=Fraction(0),
        duration=None,
        streams=tuple(stream for stream in info.streams if stream.index == info.index),
        chapters=0,
        tags={},
        cut=None,
    )


def _writer(
    target: str, info: VideoInfo, key: str, settings: Settings, *, each: int
) -> SegmentWriter:
    encoding = Encoding(codec_for(target, settings), settings.crf, settings.pix_fmt)
    encoding.for_size(info.width, info.height)
    return SegmentWriter(
        Path(target), info, encoding, each=each, key=key, resume=settings.resume, keep=True
    )


def _said(info: VideoInfo, model: LoadedModel, frames: int) -> dict[str, str]:
    """Say in the new video what it is of and what made it."""
    made = f"slow motion by b2v {__version__} with {model.name} {model.sha256[:12]}"
    said = {key: value for key, value in info.tags.items() if key in KEPT_TAGS}
    return said | {"comment": f"{made}; {frames} frames a picture, estimates and no evidence"}


def _refused(error: TruncatedVideoError, writer: SegmentWriter) -> TruncatedVideoError:
    """Say how to have the part of a video that could be read; what is closed stays for that."""
    writer.close()
    return TruncatedVideoError(f"{error}; --keep-partial --resume takes these", error.frames)


def _left_out(info: VideoInfo, tempo: Tempo) -> list[str]:
    """Say what of the source slow motion does not have, and how slow it is."""
    notes = [f"played {float(tempo.slower):.3g} times slower than life"]
    kinds = {stream.kind for stream in info.streams if stream.index != info.index}
    names = {"audio": "sound", "subtitle": "subtitles"}
    lost = [name for kind, name in names.items() if kind in kinds]
    lost += ["chapters"] if info.chapters else []
    if lost:
        notes.append(f"{' and '.join(lost)} left out: slow motion has other times")
    return [f"{info.name}: {note}" for note in notes]


__all__ = ["Neighbours", "Tempo", "join", "slow_motion", "tempo_for", "with_neighbours"]
