"""What is asked for, what the output of a video is called, and whether it can be written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from b2v.batch import safe_name
from b2v.errors import UsageError
from b2v.media import check_video_target, choose_codec
from b2v.media.pipe import PIPE
from b2v.media.segments import left_over
from b2v.media.writer import CODECS, LIVE, TARGETS

LIKE_MP4 = (".m4v", ".3gp", ".3g2", ".qt", ".f4v", ".gif", ".apng", ".y4m", ".h264", ".hevc")
"""Kinds of file that are not written, and of which an MP4 can hold all there is."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked for: the part of the video in seconds, how to encode it, what to keep.

    None is the usual value. `compare` puts the blurry frame beside or above the restored one;
    `to` is the kind of stream on standard output, `shutter` the exposure time in seconds.
    """

    codec: str | None = None
    crf: int | None = None
    pix_fmt: str | None = None
    start: float | None = None
    end: float | None = None
    compare: Literal["side", "stack"] | None = None
    to: str | None = None
    shutter: float | None = None
    resume: bool = False
    keep_partial: bool = False
    keep_gps: bool = False
    strip_metadata: bool = False
    overwrite: bool = False


def default_name(source: Path, codec: str | None = None, what: str = "deblurred") -> str:
    """Name the restored video: `walk_deblurred.mp4`; .mkv holds what the source's suffix cannot."""
    suffix = source.suffix
    if suffix.lower() not in TARGETS:
        suffix = ".mp4" if suffix.lower() in LIKE_MP4 else ".mkv"
    if codec is not None and codec not in TARGETS[suffix.lower()]:
        suffix = ".mkv"
    return f"{safe_name(source.stem)}_{what}{suffix}"


def check(
    source: str,
    target: str,
    settings: Settings,
    *,
    inputs: Sequence[str] = (),
    new_folder: bool = False,
) -> None:
    """Find out before any work whether `target` can be written; `inputs` are all that is read.

    With `new_folder`, the folder of `target` is to be made. Raises UsageError and MediaError as
    `check_video_target` does, and UsageError where options contradict each other, or a run
    before left a part of the video that would be lost.
    """
    if settings.resume and PIPE in (source, target):
        raise UsageError("-: a pipe cannot be read or written again; --resume is for files")
    if target == PIPE:
        _check_stream(settings)
    elif settings.to is not None:
        raise UsageError(f"{target}: --to is for -o -; a file is what its suffix says")
    elif not new_folder:
        files = [name for name in inputs if name != PIPE]
        check_video_target(target, codec=settings.codec, overwrite=settings.overwrite, inputs=files)
        if left_over(Path(target)) and not (settings.resume or settings.overwrite):
            how = "go on with --resume, or begin anew with --overwrite"
            raise UsageError(f"{target}: a run before was stopped on its way; {how}")
    codec = codec_for(target, settings)
    if settings.crf is not None and CODECS[codec].crf is None:
        raise UsageError(f"{target}: {codec} has no --crf; leave it out")


def _check_stream(settings: Settings) -> None:
    if settings.to == "y4m" and (settings.codec or settings.pix_fmt or settings.crf is not None):
        raise UsageError("-: y4m is not compressed; leave out --codec, --crf and --pix-fmt")
    if settings.codec not in (None, *LIVE):
        raise UsageError(f"-: {settings.codec} is not for streams; use {' or '.join(LIVE)}")


def codec_for(target: str, settings: Settings) -> str:
    """Name the codec for a file or, as for MP4, for a stream."""
    return choose_codec(Path("-.mp4" if target == PIPE else target), settings.codec)
