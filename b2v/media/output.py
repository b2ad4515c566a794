"""The last steps of a restored video: put together, checked by reopening, renamed into place."""

import os
from array import array
from collections.abc import Collection, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from b2v.errors import MediaError
from b2v.media.info import (
    StreamInfo,
    Turn,
    VideoInfo,
    stated_end,
    stream_infos,
    turn_of,
)
from b2v.media.photo import one_line, replacing
from b2v.media.remux import Plan, plan_remux, remux, told_places
from b2v.media.segments import SegmentWriter
from b2v.media.target import check_free, check_name
from b2v.media.tools import ffmpeg_program
from b2v.media.writer import Encoding, choose_codec


def check_video_target(
    path: str | os.PathLike[str],
    *,
    codec: str | None = None,
    overwrite: bool = False,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> Path:
    """Check, before any work is done, that a video can be written at `path`; return it.

    Raises UsageError when the suffix is unknown or cannot hold `codec`, when something is
    there that may not be replaced, and when it is one of `inputs`; MediaError when its folder
    is missing or cannot be written to, or the program that puts it together does not run.
    """
    target = Path(path)
    check_name(target)
    choose_codec(target, codec)
    check_free(target, inputs, overwrite=overwrite)
    ffmpeg_program()
    return target


def finish(
    video: SegmentWriter,
    source: str | os.PathLike[str] | None,
    *,
    overwrite: bool = False,
    keep_gps: bool = False,
    strip_metadata: bool = False,
    metadata: dict[str, str] | None = None,
) -> list[str]:
    """Turn what `video` holds into its target, with all else that the `source` has.

    `source` is None where it cannot be read again, as standard input; `metadata` is added, and
    with `strip_metadata` none of the source's is taken over but languages and chapters.
    The pieces are deleted at the end. Returns lines for the user on what could not be kept.
    Raises MediaError, and leaves nothing under the name of the target, where a step fails or
    the file differs from what was meant.
    """
    target, info = video.target, video.info
    origin = None if source is None else Path(source)
    first: MediaError | None = None
    with replacing(target, overwrite=overwrite) as part:
        joined = video.join()
        for damaged, tolerant in _attempts(info if origin else None):
            plan = plan_remux(
                info,
                target,
                keep_gps=keep_gps,
                readable=origin is not None,
                strip_metadata=strip_metadata,
                damaged=damaged,
            )
            try:
                remux(joined, origin, part, info, plan, metadata=metadata, tolerant=tolerant)
            except MediaError as error:
                first = first or error
                continue
            break
        else:
            assert first is not None  # there is one attempt at least
            raise first
        wrong = verify(part, info, video.timestamps, video.end, plan.kept)
        wrong += [] if keep_gps else [f"it tells {key}" for key in told_places(part)]
        if wrong:
            raise MediaError(f"{target}: was not written as meant: {'; '.join(wrong)}")
        notes = lost_in_coding(info, video.encoding) + plan.lost + changed_flags(part, plan)
        notes += [] if origin is None or first else compare_audio(part, origin, info)
        notes += ["damaged packets of other streams were left out"] if tolerant else []
    video.remove()
    return [f"{target}: {note}" for note in notes]


def lost_in_coding(info: VideoInfo, encoding: Encoding) -> list[str]:
    """Say what the pixels of a video lose: bits of each color, and colors of each pixel."""
    pix_fmt = encoding.for_size(info.width, info.height)
    kept, lost = av.VideoFormat(pix_fmt), []
    if info.bits > (bits := kept.components[0].bits) and not info.colours.hdr:
        lost.append(f"{info.bits} bits of each color became {bits}; --pix-fmt keeps more")
    source = av.VideoFormat(info.pix_fmt)
    whole = source.chroma_width(8) == source.chroma_height(8) == 8 and info.codec != "gif"
    if whole and len(source.components) > 2 and kept.chroma_width(8) < 8:
        what = "each pixel had colors of its own (4:4:4), now several share them (4:2:0)"
        lost.append(f"{what}; --pix-fmt yuv444p keeps them")
    return lost


def _attempts(info: VideoInfo | None) -> Iterator[tuple[Collection[int], bool]]:
    """Yield which streams to leave out, and whether damaged packets too: hours lie in the pictures.

    First all is kept, then less and less, as far as the source can be read again.
    """
    yield (), False
    if info is None:
        return
    others = [stream.index for stream in info.streams if stream.index != info.index]
    yield (), True
    for index in others if len(others) > 1 else ():
        yield (index,), True
    yield others, True


def changed_flags(written: Path, plan: Plan) -> list[str]:
    """Say of which streams the new file does not have the flags; MP4 has a default of each kind."""
    with av.open(f"file:{written.absolute()}", "r") as file:
        found = [set(stream.flags) for stream in stream_infos(file) if stream.kind != "data"][1:]
    at_will = {"default"} if plan.container in ("mp4", "mov") else set()
    notes = []
    for stream, flags in zip(plan.kept, found, strict=False):
        gone = sorted((set(stream.flags) ^ flags) - at_will)
        if gone:
            what = f"{stream.kind} stream {stream.index}"
            notes.append(f"{what} has other flags than in the source: {', '.join(gone)}")
    return notes


def verify(
    written: Path,
    info: VideoInfo,
    timestamps: "array[int]",
    end: int,
    kept: Iterable[StreamInfo] = (),
) -> list[str]:
    """Reopen a video and say what differs: frames, times, duration, size, colour, streams.

    `timestamps` and `end`, when the last frame goes, are in ticks of `info`; times may differ
    by one tick of the coarser clock, the duration by two.
    """
    try:
        with av.open(f"file:{written.absolute()}", "r") as file:
            wrong = _differences(file, info, timestamps, end)
            kinds = [str(stream.type) for stream in file.streams][1:]
            found = [kind for kind in kinds if kind != "data"]  # MP4 stores its chapters so
    except (av.FFmpegError, OSError, IndexError, StopIteration) as error:
        return [f"it cannot be read again ({one_line(error)})"]
    meant = [stream.kind for stream in kept]
    if sorted(found) != sorted(meant):
        wrong.append(f"streams beside the video are {found or 'none'} instead of {meant}")
    return wrong


def _differences(
    file: InputContainer, info: VideoInfo, timestamps: "array[int]", end: int
) -> list[str]:
    stream = file.streams.video[0]
    first = next(file.decode(stream))
    wrong = []
    if (first.width, first.height) != (info.width, info.height) or turn_of(first) != Turn():
        size = f"{first.width}x{first.height}, {turn_of(first).degrees} degrees"
        wrong.append(f"frames are {size} instead of {info.width}x{info.height}, upright")
    file.seek(0, stream=stream)
    tick = stream.time_base or Fraction(1)
    slack, found, gone = max(tick, info.time_base), 0, Fraction(0)
    for packet in file.demux(stream):
        if not packet.size or packet.pts is None:
            continue
        if found < len(timestamps) and len(wrong) < 2:
            late = packet.pts * tick - timestamps[found] * info.time_base
            if abs(late) > slack:
                wrong.append(f"frame {found + 1} comes {float(late) * 1e3:+.3f} ms late")
        found += 1
        gone = (packet.pts + (packet.duration or 0)) * tick
    stated = stated_end(file, stream)
    gone = gone if stated is None else stated
    if found != len(timestamps):
        wrong.append(f"{found} frames instead of {len(timestamps)}")
    elif abs(gone - end * info.time_base) > 2 * slack:
        wrong.append(f"it ends at {float(gone):.4f} s instead of {float(end * info.time_base):.4f}")
    return wrong


def compare_audio(written: Path, source: Path, info: VideoInfo) -> list[str]:
    """Say where the packets of sound of a whole video differ from those of its source.

    Only their number and times are compared, to one tick of the coarser clock; other kinds of
    files divide uncompressed sound in other packets.
    """
    if info.cut is not None or not info.of_kind("audio"):
        return []
    try:
        meant, found = _audio_times(source), _audio_times(written)
    except (av.FFmpegError, OSError) as error:
        return [f"the sound could not be compared with the source ({one_line(error)})"]
    notes = []
    for number, (old, new) in enumerate(zip(meant, found, strict=False)):
        (tick, pcm, times), (tick_new, _, times_new) = old, new
        late = [abs(a * tick - b * tick_new) for a, b in zip(times, times_new, strict=False)]
        if not pcm and (len(times) != len(times_new) or max(late, default=0) > max(tick, tick_new)):
            notes.append(f"sound {number + 1} has other packets or times than in the source")
    return notes


def _audio_times(path: Path) -> list[tuple[Fraction, bool, "array[int]"]]:
    """For each stream of sound: its tick, whether it is uncompressed, the times of its packets."""
    with av.open(f"file:{path.absolute()}", "r") as file:
        times = {stream.index: array("q") for stream in file.streams.audio}
        for packet in file.demux(*file.streams.audio):
            if packet.stream.index in times and packet.size and packet.pts is not None:
                times[packet.stream.index].append(packet.pts)
        found = []
        for stream in file.streams.audio:
            uncompressed = "pcm" in stream.codec_context.name
            found.append((stream.time_base or Fraction(1), uncompressed, times[stream.index]))
        return found
