"""Where cards and weights are looked for, and where downloads and conversions are kept."""

import os
from pathlib import Path

from b2v.errors import WeightsError


def shipped_dir() -> Path:
    """Folder of the weights that come with b2v: inside the package once installed."""
    packed = Path(__file__).resolve().parents[1] / "_weights"
    return packed if packed.is_dir() else Path(__file__).resolve().parents[2] / "weights"


def cache_dir() -> Path:
    """Folder that b2v keeps weights in: `B2V_CACHE`, else `b2v` in the user's cache folder."""
    if own := os.environ.get("B2V_CACHE"):
        return _expanded(own)
    return _expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "b2v"


def _expanded(name: str) -> Path:
    """Put the user's home in place of `~`; where there is none, as in containers, nothing is."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path("/", name)


def hub_dir() -> Path:
    """Folder of the downloads: `<owner>--<repo>/<revision>/` and what the repository has."""
    return cache_dir() / "hub"


def env_dir() -> Path | None:
    """Folder named by `B2V_WEIGHTS_DIR`, if any.

    Raises:
        WeightsError: The variable is set but names no folder.

    """
    value = os.environ.get("B2V_WEIGHTS_DIR")
    if not value:
        return None
    folder = _expanded(value)
    if not folder.is_dir():
        raise WeightsError(f"B2V_WEIGHTS_DIR is {value}, which is no folder; correct or unset it")
    return folder


def card_folders() -> list[tuple[str, Path]]:
    """Folders that may hold cards, in the order in which a model's name is looked up.

    Each comes with what it is: "environment", "shipped" or "cache".

    Raises:
        WeightsError: `B2V_WEIGHTS_DIR` is set but names no folder.

    """
    env = env_dir()
    hub = sorted({card.parent for card in hub_dir().rglob("*.json")})
    own = [("environment", env)] if env else []
    return [
        *own,
        ("shipped", shipped_dir()),
        *(("cache", folder) for folder in [cache_dir(), *hub]),
    ]
