"""Opening what a video is read from: a file or standard input, and its stream of video."""

from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition

from b2v.errors import MediaError
from b2v.locks import may_never_end
from b2v.media.photo import one_line
from b2v.media.pipe import PIPE, Stdin

FORMATS = (
    "mov,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,m4v,h264,hevc,ivf,obu,flv,asf,ogg,nut,mxf,dv,"
    "yuv4mpegpipe,mjpeg,apng,rm,wtv,av1,vc1,mp3,aac,wav,flac"
)
"""What is opened: no playlists, which name other files, and no text, which FFmpeg would draw."""
SOON = {"analyzeduration": "500000", "fpsprobesize": "8"}
"""What keeps FFmpeg from waiting for seconds of a live video before the first frame."""


def open_source(name: str) -> InputContainer:
    """Open a file, or standard input, with a format of `FORMATS`."""
    if name == PIPE:
        source: Stdin | str = Stdin()
    else:
        _check_file(Path(name))
        source = f"file:{Path(name).absolute()}"
    options = {"format_whitelist": FORMATS, **(SOON if name == PIPE else {})}
    try:
        return av.open(source, "r", container_options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        why = f"not a video that can be read, or cut off ({one_line(error)})"
        raise MediaError(f"{name}: {why}; expected MP4, MOV, MKV, WebM, AVI, GIF …") from error


def _check_file(path: Path) -> None:
    if may_never_end(path):
        raise MediaError(f"{path}: is not a file; pipe the video into b2v and name it -")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError(f"{path}: no such file; check the name") from None
    except IsADirectoryError:
        raise MediaError(f"{path}: is a folder; expected a video file") from None
    except OSError as error:
        raise MediaError(f"{path}: cannot be opened ({one_line(error)})") from error
    if empty:
        raise MediaError(f"{path}: is empty (0 bytes); expected a video")


def video_stream(container: InputContainer, name: str) -> av.VideoStream:
    """Choose the first stream of video that is not a picture of the cover."""
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        if container.streams.video:
            raise MediaError(f"{name}: has a picture of the cover only; expected a video")
        inside = ", ".join(sorted({str(stream.type) for stream in container.streams}))
        raise MediaError(f"{name}: no video stream inside, only {inside or 'nothing'}")
    stream = streams[0]
    if stream.codec_context is None:
        raise MediaError(f"{name}: its video codec is unknown to FFmpeg; convert it first")
    stream.thread_type = "SLICE" if name == PIPE else "AUTO"
    return stream
