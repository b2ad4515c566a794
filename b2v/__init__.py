"""b2v: blur to video, the motion back out of motion blur.

>>> import b2v
>>> b2v.extract("photo.jpg").save("clip.gif")
>>> model = b2v.load_model("maxim-1")
>>> clip = model.extract("photo.jpg")
>>> for frame in model.deblur(frames):
...     show(frame)
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_PLACES = {
    **dict.fromkeys(("Model", "extract", "load_model"), "b2v.inference.images"),
    **dict.fromkeys(("Deblurrer", "deblur"), "b2v.inference.videos"),
    "Clip": "b2v.media.clips",
    **dict.fromkeys(("ModelInfo", "list_models"), "b2v.weights.store"),
    **dict.fromkeys(
        ("B2VError", "DatasetError", "MediaError", "ShapeError", "UsageError", "WeightsError"),
        "b2v.errors",
    ),
}
"""Where the public names are, which are imported when they are asked for: torch takes a second."""

if TYPE_CHECKING:
    from b2v.errors import B2VError as B2VError
    from b2v.errors import DatasetError as DatasetError
    from b2v.errors import MediaError as MediaError
    from b2v.errors import ShapeError as ShapeError
    from b2v.errors import UsageError as UsageError
    from b2v.errors import WeightsError as WeightsError
    from b2v.inference.images import Model as Model
    from b2v.inference.images import extract as extract
    from b2v.inference.images import load_model as load_model
    from b2v.inference.videos import Deblurrer as Deblurrer
    from b2v.inference.videos import deblur as deblur
    from b2v.media.clips import Clip as Clip
    from b2v.weights.store import ModelInfo as ModelInfo
    from b2v.weights.store import list_models as list_models

__all__ = [*_PLACES, "__version__"]


def __getattr__(name: str) -> object:
    """Import a public name."""
    if name not in _PLACES:
        raise AttributeError(f"module 'b2v' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
