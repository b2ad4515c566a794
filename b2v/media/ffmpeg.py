"""FFmpeg's program: where it is, and sound that it makes longer at its pitch, for slow motion."""

import os
import re
import subprocess
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
from imageio_ffmpeg import get_ffmpeg_exe

from b2v.errors import MediaError
from b2v.files import one_line
from b2v.media.video_format import StreamInfo, VideoInfo, stream_infos


def ffmpeg_program() -> tuple[str, str]:
    """Find FFmpeg's program; return its path and version.

    Raises MediaError where there is none, or it does not run.
    """
    try:
        path = get_ffmpeg_exe()
        return path, _version_of(path)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        how = "reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE"
        chosen = os.environ.get("IMAGEIO_FFMPEG_EXE", "which comes with imageio-ffmpeg")
        why = one_line(error)
        raise MediaError(f"FFmpeg's program, {chosen}, does not run ({why}); {how}") from error


@lru_cache
def _version_of(path: str) -> str:
    command = [path, "-hide_banner", "-version"]
    ran = subprocess.run(command, capture_output=True, timeout=60, check=True)
    version = re.search(r"ffmpeg version (\S+)", ran.stdout.decode(errors="replace"))
    return version[1] if version else "unknown"


MAX_SAID = 300
"""Characters of FFmpeg's complaint that are passed on."""


def run_ffmpeg(arguments: list[str], failed: str) -> None:
    """Run FFmpeg; raises MediaError, which says what `failed` and the end of its complaint."""
    command = [ffmpeg_program()[0], "-nostdin", "-hide_banner", "-v", "error", "-y", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        said = said if len(said) <= MAX_SAID else f"… {said[-MAX_SAID:]}"
        raise MediaError(f"{failed} ({said})")


def source_of(source: Path, info: VideoInfo, *, tolerant: bool) -> list[str]:
    """Give the arguments that read a video, or the part of it that `info` is of.

    It is read as what it was before, and not as a list of other files; `tolerant` leaves out
    packets that are damaged.
    """
    kind = info.container.split(",")[0]
    arguments = ["-format_whitelist", kind, "-protocol_whitelist", "file", "-f", kind]
    arguments += ["-fflags", "+discardcorrupt"] if tolerant else []
    if info.cut is not None:
        first, end = info.cut
        arguments += ["-seek_timestamp", "1", "-ss", f"{float(first):.6f}"]
        arguments += [] if end is None else ["-t", f"{float(end - first):.6f}"]
    return [*arguments, "-i", f"file:{source.absolute()}"]


SUFFIX, CONTAINER = ".mka", "matroska"
SOUND_CODECS = {".webm": "libopus"}
"""Codec of the new sound where it is not AAC, which WebM cannot hold."""


def stretch_sound(
    source: Path, info: VideoInfo, slower: Fraction, written: Path, suffix: str
) -> tuple[StreamInfo, ...]:
    """Write the sound of the part of a video that `info` tells of, so many times longer.

    It keeps its pitch. `written`, with `SUFFIX`, is for a video of another `suffix`. Returns the
    streams of that, all of sound; raises MediaError where FFmpeg cannot do it.
    """
    part = info if info.cut else replace(info, cut=(info.start, None))
    command = [*source_of(source, part, tolerant=True), "-map", "0:a", "-map_metadata", "-1"]
    command += ["-map_chapters", "-1", "-filter:a", _slowed_by(slower)]
    command += [
        "-c:a",
        SOUND_CODECS.get(suffix, "aac"),
        "-f",
        CONTAINER,
        f"file:{written.absolute()}",
    ]
    run_ffmpeg(command, f"{source}: the sound could not be stretched")
    with av.open(f"file:{written.absolute()}", "r") as file:
        return stream_infos(file)


def _slowed_by(slower: Fraction) -> str:
    """Name FFmpeg's filters: each can halve the tempo at most."""
    filters, left = [], 1 / float(slower)
    while left < 0.5:
        filters.append("atempo=0.5")
        left /= 0.5
    return ",".join([*filters, f"atempo={left:.9g}"])
