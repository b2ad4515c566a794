"""b2v: blur to video, the motion back out of motion blur.

>>> import b2v
>>> clip = b2v.extract("photo.jpg")
>>> clip.save("clip.gif")
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Clip", "__version__", "extract"]

if TYPE_CHECKING:
    from b2v.inference import extract
    from b2v.media import Clip


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: `import b2v` itself takes no time."""
    if name == "extract":
        from b2v.inference import extract

        return extract
    if name == "Clip":
        from b2v.media import Clip

        return Clip
    raise AttributeError(f"module 'b2v' has no attribute {name!r}")
