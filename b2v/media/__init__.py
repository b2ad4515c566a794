"""Photos, clips and videos between files and tensors: RGB, sRGB-encoded, in [0, 1].

The modules of this folder are the only users of PIL, av and imageio in the package. Output
appears under its name only when it is complete; every failure is one line that names the file.
"""

from b2v.media.clips import Clip, check_target, read_clip
from b2v.media.image_writer import write_photo
from b2v.media.images import Photo, read_photo
from b2v.media.remux import check_video_target, finish, verify
from b2v.media.segments import SegmentWriter
from b2v.media.video_format import VideoInfo
from b2v.media.video_reader import TimedFrame, TruncatedVideoError, VideoReader, open_video
from b2v.media.video_writer import Encoding, PipeClosedError, VideoWriter, choose_codec, live_writer

__all__ = [
    "Clip",
    "Encoding",
    "Photo",
    "PipeClosedError",
    "SegmentWriter",
    "TimedFrame",
    "TruncatedVideoError",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "check_target",
    "check_video_target",
    "choose_codec",
    "finish",
    "live_writer",
    "open_video",
    "read_clip",
    "read_photo",
    "verify",
    "write_photo",
]
