"""b2v: blur to video, the motion back out of motion blur.

>>> import b2v
>>> clip = b2v.extract("photo.jpg")
>>> clip.save("clip.gif")
>>> restored = b2v.deblur(frames)
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Clip", "Deblurrer", "__version__", "deblur", "extract"]

if TYPE_CHECKING:
    from b2v.inference.images import extract
    from b2v.inference.videos import Deblurrer, deblur
    from b2v.media import Clip


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: `import b2v` itself takes no time."""
    if name == "extract":
        from b2v.inference.images import extract

        return extract
    if name == "Clip":
        from b2v.media import Clip

        return Clip
    if name in ("Deblurrer", "deblur"):
        from b2v.inference import videos

        return getattr(videos, name)
    raise AttributeError(f"module 'b2v' has no attribute {name!r}")
