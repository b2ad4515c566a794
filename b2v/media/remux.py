"""All but the pictures from the source to the new file: audio, subtitles, chapters, metadata.

FFmpeg's program copies the packets as they are, with their timestamps; only subtitles are
converted to the kind of text that the new file can hold. It has rules of its own, so all is said to
it: the one format that it may take the source for, what each stream is there for, and which tags
it has. What cannot be kept is told line by line.
"""

import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from os import devnull
from pathlib import Path

import av

from b2v.errors import MediaError
from b2v.media.info import StreamInfo, VideoInfo
from b2v.media.segments import AS_STORED, movie_timescale
from b2v.media.tools import ffmpeg_program

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
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
DAMAGED = "+discardcorrupt"
"""Has FFmpeg leave out packets that it knows to be damaged."""
MAX_SAID = 300
"""Characters of FFmpeg's complaint that are passed on."""


@dataclass
class Plan:
    """What goes into the new file: FFmpeg's arguments for it, and lines on what does not.

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
    """Have a stream copied or converted, with its flags: FFmpeg would choose a default one."""
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
    """Say what the picture of a cover is called, which `remux` attaches."""
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
    """Say that a stream cannot be kept in a kind of file, or from a pipe for None."""
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


def told_places(file: Path) -> list[str]:
    """List the tags of a file and its streams that tell where it was recorded."""
    with av.open(f"file:{file.absolute()}", "r") as container:
        said = [container.metadata, *(stream.metadata for stream in container.streams)]
        return sorted({key for tags in said for key in _places_in(tags)})


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
    command = [ffmpeg_program()[0], "-nostdin", "-hide_banner", "-v", "error", "-y"]
    command += ["-copyts"] if info.cut is None else []
    command += ["-fflags", AS_STORED["fflags"], "-i", _url(video)]
    if source is not None:
        kind = info.container.split(",")[0]  # the one it was read as, and no list of other files
        command += ["-format_whitelist", kind, "-protocol_whitelist", "file", "-f", kind]
        command += ["-fflags", DAMAGED] if tolerant else []
        command += [*_part(info), "-i", _url(source)]
    command += ["-map", "0:v:0", "-c:v:0", "copy"]
    for cover in plan.covers:
        command += ["-attach", _url(_saved(cover, source, video.with_name(f"{cover.index}.cover")))]
    command += [*plan.arguments, "-copytb", "1"]
    command += ["-copypriorss:a", "0"] if info.cut else []
    for key, value in (metadata or {}).items():
        command += ["-metadata", f"{key}={value}"]
    command += ["-f", plan.container, _url(target)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        said = said if len(said) <= MAX_SAID else f"… {said[-MAX_SAID:]}"
        raise MediaError(f"{target}: FFmpeg could not put the video together ({said})")


def _saved(cover: StreamInfo, source: Path | None, file: Path) -> Path:
    """Write the picture of a cover to a file of its own."""
    with av.open(f"file:{source and source.absolute()}", "r") as container:
        stream = container.streams[cover.index]
        file.write_bytes(next(bytes(packet) for packet in container.demux(stream) if packet.size))
    return file


def _part(info: VideoInfo) -> list[str]:
    """Give the arguments that read only the part of the source that the video is of."""
    if info.cut is None:
        return []
    first, end = info.cut
    length = [] if end is None else ["-t", f"{float(end - first):.6f}"]
    return ["-seek_timestamp", "1", "-ss", f"{float(first):.6f}", *length]


def _url(path: Path) -> str:
    """Name a file so that FFmpeg takes it for nothing else."""
    return f"file:{path.absolute()}"
