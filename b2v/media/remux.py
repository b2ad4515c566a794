"""All but the pictures from the source to the new file: audio, subtitles, chapters, metadata.

FFmpeg's program copies the packets as they are, with their timestamps; only subtitles are
converted to the kind of text that the new file can hold. It has rules of its own, so all is said
to it: the one format that it may take the source for, what each stream is there for, and which
tags it has. What cannot be kept is told line by line.

The last steps of a restored video are here too: put together, checked by reopening, renamed into
place.
"""

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from os import devnull
from pathlib import Path

import av
from av.container import InputContainer

from b2v.errors import MediaError
from b2v.files import CONTAINERS, Name, check_free, check_name, one_line, replacing
from b2v.media.ffmpeg import ffmpeg_program, run_ffmpeg, source_of
from b2v.media.segments import AS_STORED, SegmentWriter, movie_timescale
from b2v.media.video_format import StreamInfo, Turn, VideoInfo, stated_end, stream_infos, turn_of
from b2v.media.video_writer import Encoding, choose_codec

SUBTITLES = {
    ".mp4": ("mov_text", ("mov_text",)),
    ".mov": ("mov_text", ("mov_text",)),
    ".mkv": ("subrip", ("subrip", "ass", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle")),
    ".webm": ("webvtt", ("webvtt",)),
}
"""For each kind of file, what subtitles of text are converted to, and what is copied."""
TEXT = ("subrip", "ass", "webvtt", "mov_text", "text")
NEEDED = ("language", "filename", "mimetype")
"""Metadata of streams without which players would choose wrongly or not find a font."""
COVERS = {"mjpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "bmp": "image/bmp"}
"""Codecs of pictures of the cover, and what Matroska, where they are attachments, calls them."""
NEVER = ("major_brand", "minor_version", "compatible_brands", "encoder", "timecode", "rotate")
"""Metadata of the old file, which would be wrong in the new one."""
PLAIN = {
    *("title", "artist", "album", "album_artist", "composer", "comment", "copyright", "date"),
    *("description", "synopsis", "genre", "grouping", "lyrics", "track", "disc", "show"),
    *("episode_id", "network", "creation_time", "keywords", "language"),
}
"""Metadata that MP4 has its own places for; others need a list of names and values."""
QUICKTIME = {"deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi", "sqi": "alb"}
"""Names of languages that MOV has under an older name only."""
PLACE = ("location", "gps", "xyz")
"""Parts of the names of metadata that tell where a video was recorded."""
LEFT_OUT = "the place of recording (GPS) was left out of the metadata"


@dataclass
class Plan:
    """Streams and arguments of FFmpeg for the new file, and notes on what is lost.

    `places` are FFmpeg's names of the streams that are `kept`, such as `a:0`; `covers` are
    those of them that are to be attached.
    """

    container: str
    kept: list[StreamInfo] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    covers: list[StreamInfo] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def add(self, stream: StreamInfo) -> str:
        """Keep a stream, and name its place."""
        letter = "t" if stream.kind == "attachment" else stream.kind[0]
        taken = [place for place in self.places if place[0] == letter]
        self.kept.append(stream)
        self.places.append(f"{letter}:{len(taken) + (letter == 'v')}")
        return self.places[-1]


def plan_remux(
    info: VideoInfo,
    target: Path,
    *,
    keep_gps: bool = False,
    readable: bool = True,
    strip_metadata: bool = False,
    damaged: Collection[int] = (),
) -> Plan:
    """Decide which streams and metadata of `info` the kind of file of `target` can hold.

    None of them where the source is not `readable` a second time; with `strip_metadata` no
    metadata but languages and the names of chapters. Streams that are `damaged` are left out.
    """
    info = _without_metadata(info) if strip_metadata else info
    suffix = target.suffix.lower()
    plan = Plan(CONTAINERS[suffix])
    attached = []
    for stream in info.streams:
        chapters = info.chapters and stream.kind == "data" and stream.codec == "bin_data"
        if stream.index == info.index or chapters:
            continue
        how = _way_to_keep(stream, suffix, cut=info.cut is not None) if readable else None
        if stream.index in damaged:
            plan.lost.append(f"{_named(stream)} is damaged and was left out")
        elif how is None:
            plan.lost.append(_loss(stream, suffix if readable else None))
        elif how == "attach":
            attached.append(stream)
        else:
            _keep(plan, stream, how, suffix)
    plan.covers = attached
    for stream in attached:  # they come after all that is copied
        _attach(plan, stream)
    if readable:
        plan.arguments += ["-map_metadata", "-1" if strip_metadata else "1", "-map_chapters", "1"]
        plan.arguments += _needed(plan, suffix) if strip_metadata else []
    plan.arguments += _metadata(info, suffix, plan, keep_gps=keep_gps)
    return plan


def _keep(plan: Plan, stream: StreamInfo, how: str, suffix: str) -> None:
    """Copy or convert a stream, with its flags: FFmpeg would choose a default one."""
    place = plan.add(stream)
    plan.arguments += ["-map", f"1:{stream.index}", f"-c:{place}", how]
    if how != "copy":
        note = f"subtitles of stream {stream.index} ({stream.codec}) were converted to {how}"
        plan.lost.append(note)
    if suffix == ".mov" and stream.tags.get("language") in QUICKTIME:
        language = QUICKTIME[stream.tags["language"]]
        plan.arguments += [f"-metadata:s:{place}", f"language={language}"]
    if stream.kind != "attachment":
        plan.arguments += [f"-disposition:{place}", "+".join(stream.flags) or "0"]


def _attach(plan: Plan, stream: StreamInfo) -> None:
    """Name the picture of a cover, which `remux` attaches."""
    place, kind = plan.add(replace(stream, kind="attachment")), COVERS[stream.codec]
    plan.kept[-1] = stream
    name = stream.tags.get("filename", f"cover.{kind[6:].replace('jpeg', 'jpg')}")
    for said in (f"mimetype={kind}", f"filename={name}"):
        plan.arguments += [f"-metadata:s:{place}", said]


def _without_metadata(info: VideoInfo) -> VideoInfo:
    """Forget what a video says of itself but for what players need (`NEEDED`)."""
    streams = tuple(
        replace(stream, tags={k: v for k, v in stream.tags.items() if k.lower() in NEEDED})
        for stream in info.streams
    )
    return replace(info, tags={}, streams=streams)


def _needed(plan: Plan, suffix: str) -> list[str]:
    """Give the arguments that take over of the streams' metadata what players need."""
    arguments = ["-map_metadata:s", "-1"]
    for place, stream in zip(plan.places, plan.kept, strict=True):
        for key, text in stream.tags.items():
            named = QUICKTIME.get(text, text) if suffix == ".mov" else text
            arguments += [f"-metadata:s:{place}", f"{key}={named}"]
    return arguments


def _named(stream: StreamInfo) -> str:
    named = stream.tags.get("handler_name", stream.codec).strip()
    what = stream.codec if stream.codec != "unknown" else named
    return f"{stream.kind} stream {stream.index} ({what})"


def _loss(stream: StreamInfo, suffix: str | None) -> str:
    """Describe that a stream cannot be kept in a kind of file, or from a pipe (None)."""
    said = f"{_named(stream)} cannot be kept"
    if suffix is None:
        return f"{said} from a pipe"
    elsewhere = suffix != ".mkv" and _way_to_keep(stream, ".mkv", cut=False) is not None
    return f"{said} in {suffix}" + ("; .mkv can hold it" if elsewhere else "")


def _way_to_keep(stream: StreamInfo, suffix: str, *, cut: bool) -> str | None:
    """Name the codec for a stream, usually `copy`; None where it cannot be kept.

    `attach` is for covers in Matroska.
    """
    if stream.kind == "subtitle":
        text, copied = SUBTITLES[suffix]
        return "copy" if stream.codec in copied else text if stream.codec in TEXT else None
    if stream.kind == "audio" and stream.codec in _holds(CONTAINERS[suffix]):
        return "copy"
    if stream.kind == "attachment" and suffix == ".mkv":
        return "copy"
    if stream.cover and stream.codec in COVERS and not cut:
        return {".mp4": "copy", ".mkv": "attach"}.get(suffix)
    return None


@lru_cache
def _holds(container: str) -> frozenset[str]:
    """Names of all codecs that a kind of file can hold."""
    with av.open(devnull, "w", format=container) as file:
        names = file.supported_codecs
    found = set()
    for name in names:
        for mode in ("r", "w"):
            try:
                found.add(av.Codec(name, mode).canonical_name)
            except ValueError:
                continue
    return frozenset(found)


def _metadata(info: VideoInfo, suffix: str, plan: Plan, *, keep_gps: bool) -> list[str]:
    """Give the arguments that copy metadata and chapters, but not what would be wrong."""
    arguments: list[str] = []
    hidden = set() if keep_gps else _places_in(info.tags)
    dropped = hidden | {key for key in info.tags if key in NEVER}
    for key in sorted(dropped):
        arguments += ["-metadata", f"{key}="]
    for place, stream in zip(plan.places, plan.kept, strict=True):
        for key in () if keep_gps else sorted(_places_in(stream.tags)):
            arguments += [f"-metadata:s:{place}", f"{key}="]
            hidden.add(key)
    if hidden:
        plan.lost.append(LEFT_OUT)
    own = next(stream for stream in info.streams if stream.index == info.index)
    arguments += ["-disposition:v:0", "+".join(own.flags) or "0"]
    for key in ("language", "title", "handler_name"):
        if key in own.tags:
            arguments += ["-metadata:s:v:0", f"{key}={own.tags[key]}"]
    if suffix not in (".mp4", ".mov"):
        return arguments
    named = set(info.tags) - dropped - PLAIN
    arguments += ["-movflags", "+faststart+use_metadata_tags" if named else "+faststart"]
    if info.cut or info.start or any(stream.start > 0 for stream in plan.kept):
        ticks = [stream.tick.denominator for stream in plan.kept if stream.kind == "audio"]
        scale = movie_timescale(info.time_base.denominator, *ticks)
        arguments += ["-movie_timescale", str(scale)]
    return [*arguments, "-write_tmcd", "0"]


def kept_tags(info: VideoInfo, *, keep_gps: bool = False) -> dict[str, str]:
    """Choose of what a video says of itself what holds for another one made of its pictures."""
    hidden = set() if keep_gps else _places_in(info.tags)
    return {k: v for k, v in info.tags.items() if k not in hidden and k not in NEVER}


def _places_in(tags: Mapping[str, str]) -> set[str]:
    return {key for key in tags if any(part in key.lower() for part in PLACE)}


def remux(
    video: Path,
    source: Path | None,
    target: Path,
    info: VideoInfo,
    plan: Plan,
    *,
    metadata: dict[str, str] | None = None,
    tolerant: bool = False,
) -> None:
    """Write `target`: the pictures of `video`, and what `plan` keeps of `source`.

    `target` may have any suffix, `plan` knows the kind of file; `metadata` is added; `tolerant`
    leaves out damaged packets. Raises MediaError with what FFmpeg says where it fails.
    """
    command = ["-copyts"] if info.cut is None else []
    command += ["-fflags", AS_STORED["fflags"], "-i", _url(video)]
    if source is not None:
        command += source_of(source, info, tolerant=tolerant)
    command += ["-map", "0:v:0", "-c:v:0", "copy"]
    for cover in plan.covers:
        command += ["-attach", _url(_saved(cover, source, video.with_name(f"{cover.index}.cover")))]
    command += [*plan.arguments, "-copytb", "1"]
    command += ["-copypriorss:a", "0"] if info.cut else []
    for key, value in (metadata or {}).items():
        command += ["-metadata", f"{key}={value}"]
    command += ["-f", plan.container, _url(target)]
    run_ffmpeg(command, f"{target}: FFmpeg could not put the video together")


def _saved(cover: StreamInfo, source: Path | None, file: Path) -> Path:
    """Write the picture of a cover to a file of its own."""
    with av.open(f"file:{source and source.absolute()}", "r") as container:
        stream = container.streams[cover.index]
        file.write_bytes(next(bytes(packet) for packet in container.demux(stream) if packet.size))
    return file


def _url(path: Path) -> str:
    """Name a file so that FFmpeg takes it for nothing else."""
    return f"file:{path.absolute()}"


def check_video_target(
    path: Name, *, codec: str | None = None, overwrite: bool = False, inputs: Iterable[Name] = ()
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
    source: Name | None,
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
    with replacing(target, overwrite=overwrite, failures=(OSError, av.FFmpegError)) as part:
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
        with av.open(f"file:{part.absolute()}", "r") as made:
            said = [made.metadata, *(stream.metadata for stream in made.streams)]
        told = set() if keep_gps else {key for tags in said for key in _places_in(tags)}
        wrong += [f"it tells {key}" for key in sorted(told)]
        if wrong:
            raise MediaError(f"{target}: was not written as meant: {'; '.join(wrong)}")
        notes = lost_in_coding(info, video.encoding) + plan.lost + changed_flags(part, plan)
        notes += ["damaged packets of other streams were left out"] if tolerant else []
    video.remove()
    return [f"{target}: {note}" for note in notes]


def lost_in_coding(info: VideoInfo, encoding: Encoding) -> list[str]:
    """List what the pixels of a video lose: bits of each color, and colors of each pixel."""
    pix_fmt = encoding.for_size(info.width, info.height)
    kept, lost = av.VideoFormat(pix_fmt), []
    if info.bits > (bits := kept.components[0].bits) and not info.colors.hdr:
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
    """List the streams whose flags differ in the new file; MP4 has a default of each kind."""
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
    """Reopen a video and say what differs: frames, times, duration, size, color, streams.

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
