"""Videos restored from file to file, as `b2v deblur` does it.

`plan` settles where everything goes, `pipeline` has the threads, `run` restores one video.
"""

from b2v.deblurring.plan import Settings, check, default_name
from b2v.deblurring.run import Progress, deblur_video, load

__all__ = ["Progress", "Settings", "check", "deblur_video", "default_name", "load"]
