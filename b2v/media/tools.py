"""What reads and writes media here: FFmpeg's program, and the encoders of PyAV's FFmpeg."""

import os
import re
import subprocess
from functools import lru_cache

import av
from imageio_ffmpeg import get_ffmpeg_exe

from b2v.errors import MediaError
from b2v.media.coding import CODINGS
from b2v.media.photo import one_line
from b2v.media.writer import CODECS


def ffmpeg_program() -> tuple[str, str]:
    """Find FFmpeg's program; return its path and version.

    Raises:
        MediaError: there is none, or it does not run.

    """
    try:
        path = get_ffmpeg_exe()
        return path, _version_of(path)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        how = "install imageio-ffmpeg anew, or name one by IMAGEIO_FFMPEG_EXE"
        why = one_line(error)
        raise MediaError(f"FFmpeg's program, {_chosen()}, does not run ({why}); {how}") from error


def _chosen() -> str:
    return os.environ.get("IMAGEIO_FFMPEG_EXE", "which comes with imageio-ffmpeg")


@lru_cache
def _version_of(path: str) -> str:
    command = [path, "-hide_banner", "-version"]
    ran = subprocess.run(command, capture_output=True, timeout=60, check=True)
    version = re.search(r"ffmpeg version (\S+)", ran.stdout.decode(errors="replace"))
    return version[1] if version else "unknown"


def missing_encoders() -> tuple[list[str], list[str]]:
    """List the encoders that are not here: those of clips, and those of videos alone."""
    clips = {coding.codec for coding in CODINGS.values()} | {CODECS["h264"].encoder}
    videos = {codec.encoder for codec in CODECS.values()} - clips
    return _absent(clips), _absent(videos)


def _absent(names: set[str]) -> list[str]:
    return sorted(names - av.codecs_available)
