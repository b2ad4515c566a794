"""All but the pictures from the source to the new file: audio, subtitles, chapters, metadata.

FFmpeg copies the packets as they are, with their timestamps; only subtitles are converted to
the kind of text that the new file can hold. What cannot be kept is told line by line.
"""

import subprocess
from dataclasses import dataclass, field, replace
from functools import lru_cache
from os import devnull
from pathlib import Path

import av
from imageio_ffmpeg import get_ffmpeg_exe

from b2v.errors import MediaError
from b2v.media.info import StreamInfo, VideoInfo
from b2v.media.segments import AS_STORED, movie_timescale

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
COVERS = (".mp4", ".mkv")
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
MAX_SAID = 300
"""Characters of FFmpeg's complaint that are passed on."""


@dataclass
class Plan:
    """What goes into the new file: FFmpeg's arguments for it, and lines on what does not."""

    container: str
    kept: list[StreamInfo] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def plan_remux(
    info: VideoInfo,
    target: Path,
    *,
    keep_gps: bool = False,
    readable: bool = True,
    strip_metadata: bool = False,
) -> Plan:
    """Decide which streams and metadata of `info` the kind of file of `target` can hold.

    None of them where the source is not `readable` a second time; with `strip_metadata` no
    metadata but languages and the names of chapters.
    """
    info = _without_metadata(info) if strip_metadata else info
    suffix = target.suffix.lower()
    plan = Plan(CONTAINERS[suffix])
    counts: dict[str, int] = {"video": 1}
    for stream in info.streams:
        chapters = info.chapters and stream.kind == "data" and stream.codec == "bin_data"
        if stream.index == info.index or chapters:
            continue
        how = _way_to_keep(stream, suffix, cut=info.cut is not None) if readable else None
        if how is None:
            plan.lost.append(_loss(stream, suffix if readable else None))
            continue
        letter, number = stream.kind[0], counts.get(stream.kind, 0)
        letter = "t" if stream.kind == "attachment" else letter
        counts[stream.kind] = number + 1
        plan.kept.append(stream)
        plan.arguments += ["-map", f"1:{stream.index}", f"-c:{letter}:{number}", how]
        if how != "copy":
            note = f"subtitles of stream {stream.index} ({stream.codec}) were converted to {how}"
            plan.lost.append(note)
        if suffix == ".mov" and stream.tags.get("language") in QUICKTIME:
            language = QUICKTIME[stream.tags["language"]]
            plan.arguments += [f"-metadata:s:{letter}:{number}", f"language={language}"]
        if stream.cover:
            plan.arguments += [f"-disposition:v:{number}", "attached_pic"]
    if readable:
        plan.arguments += ["-map_metadata", "-1" if strip_metadata else "1", "-map_chapters", "1"]
        plan.arguments += _needed(plan, suffix) if strip_metadata else []
    plan.arguments += _metadata(info, suffix, plan, keep_gps=keep_gps)
    return plan


def _without_metadata(info: VideoInfo) -> VideoInfo:
    """Forget what a video says of itself but for what players need (`NEEDED`)."""
    streams = tuple(
        replace(stream, tags={k: v for k, v in stream.tags.items() if k.lower() in NEEDED})
        for stream in info.streams
    )
    return replace(info, tags={}, streams=streams)


def _needed(plan: Plan, suffix: str) -> list[str]:
    """Give the arguments that take over of the streams' metadata what players need."""
    arguments, counts = ["-map_metadata:s", "-1"], dict[str, int]()
    for stream in plan.kept:
        letter = "t" if stream.kind == "attachment" else stream.kind[0]
        number = counts.get(letter, 1 if letter == "v" else 0)
        counts[letter] = number + 1
        for key, text in stream.tags.items():
            named = QUICKTIME.get(text, text) if suffix == ".mov" else text
            arguments += [f"-metadata:s:{letter}:{number}", f"{key}={named}"]
    return arguments


def _loss(stream: StreamInfo, suffix: str | None) -> str:
    """Say that a stream cannot be kept in a kind of file, or from a pipe for None."""
    named = stream.tags.get("handler_name", stream.codec).strip()
    what = stream.codec if stream.codec != "unknown" else named
    said = f"{stream.kind} stream {stream.index} ({what}) cannot be kept"
    if suffix is None:
        return f"{said} from a pipe"
    elsewhere = suffix != ".mkv" and _way_to_keep(stream, ".mkv", cut=False) is not None
    return f"{said} in {suffix}" + ("; .mkv can hold it" if elsewhere else "")


def _way_to_keep(stream: StreamInfo, suffix: str, *, cut: bool) -> str | None:
    """Name the codec for a stream, usually `copy`; None where it cannot be kept."""
    if stream.kind == "subtitle":
        text, copied = SUBTITLES[suffix]
        return "copy" if stream.codec in copied else text if stream.codec in TEXT else None
    if stream.kind == "audio" and stream.codec in _holds(CONTAINERS[suffix]):
        return "copy"
    if stream.kind == "attachment" and suffix == ".mkv":
        return "copy"
    return "copy" if stream.cover and suffix in COVERS and not cut else None


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
    hidden = {key for key in info.tags if not keep_gps and any(part in key for part in PLACE)}
    if hidden:
        plan.lost.append("the place of recording (GPS) was left out of the metadata")
    dropped = hidden | {key for key in info.tags if key in NEVER}
    for key in sorted(dropped):
        arguments += ["-metadata", f"{key}="]
    own = next(stream for stream in info.streams if stream.index == info.index)
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


def remux(
    video: Path,
    source: Path | None,
    target: Path,
    info: VideoInfo,
    plan: Plan,
    *,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write `target`: the pictures of `video`, and what `plan` keeps of `source`.

    `target` may have any suffix, `plan` knows the kind of file; `metadata` is added. Raises
    MediaError with what FFmpeg says where it fails.
    """
    command = [get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-v", "error", "-y"]
    command += ["-copyts"] if info.cut is None else []
    command += ["-fflags", AS_STORED["fflags"], "-i", _url(video)]
    if source is not None:
        command += [*_part(info), "-i", _url(source)]
    command += ["-map", "0:v:0", "-c:v:0", "copy", *plan.arguments, "-copytb", "1"]
    command += ["-copypriorss:a", "0"] if info.cut else []
    for key, value in (metadata or {}).items():
        command += ["-metadata", f"{key}={value}"]
    command += ["-f", plan.container, _url(target)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        said = said if len(said) <= MAX_SAID else f"… {said[-MAX_SAID:]}"
        raise MediaError(f"{target}: FFmpeg could not put the video together ({said})")


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
