"""Photos and clips between files and tensors: RGB, sRGB-encoded, in [0, 1].

The modules of this folder are the only users of PIL, av and imageio in the package. Output
appears under its name only when it is complete; every failure is one line that names the file.
"""

from b2v.media.clip import Clip, check_target, read_clip
from b2v.media.photo import Photo, read_photo, write_photo

__all__ = ["Clip", "Photo", "check_target", "read_clip", "read_photo", "write_photo"]
