"""Where a picture comes from: which networks made it, and that it is an estimate."""

import json
from dataclasses import dataclass
from typing import Any

from b2v import __version__

CAVEAT = "estimated, not evidence"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What made a picture or a video; every file that b2v restores says so.

    `sha256` is that over the files of the networks, as `b2v weights verify` checks them. With a
    `strength` below 1 the rest is the blurry picture; only then is it told.
    """

    model: str
    sha256: str
    licence: str | None = None
    version: str = __version__
    strength: float = 1.0

    def __str__(self) -> str:
        """Say it in one line."""
        mixed = "" if self.strength == 1 else f", at strength {self.strength:g} over the photo"
        made = f"made by b2v {self.version} with {self.model} (sha256 {self.sha256})"
        return f"{CAVEAT}: {made}{mixed}"

    def as_dict(self) -> dict[str, Any]:
        """Say it to programs."""
        mixed = {} if self.strength == 1 else {"strength": self.strength}
        return {
            "software": f"b2v {self.version}",
            "model": self.model,
            "sha256": self.sha256,
            "licence": self.licence,
            "note": CAVEAT,
            **mixed,
        }

    def as_json(self, more: dict[str, Any] | None = None) -> str:
        """Say it to programs as one line of JSON, with `more` keys."""
        return json.dumps({**self.as_dict(), **(more or {})}, ensure_ascii=False)
