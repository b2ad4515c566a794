"""What commands show beside their results: comparisons, filmstrips, pages, maps, metadata."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2v.cli import options
from b2v.errors import UsageError

if TYPE_CHECKING:
    from b2v.cli.batches import Result
    from b2v.media.tags import Tags
    from b2v.weights import LoadedModel, LoadedVideoModel

PICTURES, PAGES = (".png", ".jpg", ".jpeg", ".webp"), (".html", ".htm")


class Compare(str, Enum):
    """Where the blurry picture goes in a comparison."""

    SIDE = "side"
    STACK = "stack"


Side = Annotated[
    Compare | None,
    typer.Option(help="Show the blurry picture beside or above the restored one."),
]
Filmstrip = Annotated[
    Path | None,
    typer.Option(metavar="PICTURE", help="Also write the frames in a row, blurry first."),
]
Html = Annotated[
    Path | None,
    typer.Option(
        metavar="PAGE",
        help="Also write a page for the browser: slider, frames to step through, no network.",
    ),
]
Heat = Annotated[
    Path | None,
    typer.Option(
        "--reblur",
        metavar="PICTURE",
        help="Also draw where the frames explain the photo (grey) and where not (yellow).",
    ),
]
Strip = Annotated[
    bool,
    typer.Option("--strip-metadata", help="Write nothing about the model, the camera or the date."),
]
Gps = Annotated[bool, typer.Option("--keep-gps", help="Keep the place of recording.")]


@dataclass(frozen=True, kw_only=True)
class Showing:
    """What is to be written beside the results; `several` inputs have folders for that."""

    compare: Compare | None = None
    filmstrip: Path | None = None
    html: Path | None = None
    heat: Path | None = None
    strip_metadata: bool = False
    keep_gps: bool = False
    several: bool = False

    def __post_init__(self) -> None:
        if self.strip_metadata and self.keep_gps:
            raise UsageError("--strip-metadata and --keep-gps exclude each other; give one")
        for path in (self.filmstrip, self.html, self.heat) if self.several else ():
            if path is not None and path.suffix.lower() in (*PICTURES, *PAGES):
                raise UsageError(f"{path}: one file for several inputs; name a folder")

    def strip_of(self, output: str) -> Path | None:
        """Name the filmstrip that goes with an output, if one is wanted."""
        return self._named(self.filmstrip, output, "_strip.png")

    def page_of(self, output: str) -> Path | None:
        """Name the page that goes with an output, if one is wanted."""
        return self._named(self.html, output, ".html")

    def heat_of(self, output: str) -> Path | None:
        """Name the heat map that goes with an output, if one is wanted."""
        return self._named(self.heat, output, "_heat.png")

    def _named(self, wanted: Path | None, output: str, ending: str) -> Path | None:
        if wanted is None or not self.several:
            return wanted
        return wanted / f"{Path(output).stem}{ending}"

    def check(self, results: Sequence["Result"], *, overwrite: bool) -> None:
        """Find out before any work what cannot be written, and note it at its result."""
        taken: set[Path] = set()
        for result in results:
            if result.error or result.skipped:
                continue
            wanted = [
                (self.strip_of(result.output), PICTURES),
                (self.page_of(result.output), PAGES),
                (self.heat_of(result.output), PICTURES),
            ]
            with options.noting(result):
                taken.add(Path(result.output).absolute())
                for path, suffixes in wanted:
                    if path is None:
                        continue
                    if path.absolute() in taken:
                        why = "two outputs would both go there; give one another name"
                        raise UsageError(f"{path}: {why}")
                    taken.add(path.absolute())
                    self._check(path, suffixes, result.input, overwrite=overwrite)

    def _check(self, path: Path, suffixes: Sequence[str], source: str, *, overwrite: bool) -> None:
        from b2v.media.picture import check_file
        from b2v.media.target import check_parent

        if self.several and not path.parent.is_dir():
            check_parent(path.parent)
        else:
            check_file(path, suffixes, overwrite=overwrite, inputs=[source])

    def tags_for(
        self,
        source: str | None,
        loaded: "LoadedModel | LoadedVideoModel",
        *,
        strength: float = 1.0,
    ) -> "Tags":
        """Say what the files of one input are to say of themselves."""
        from b2v.media.tags import Tags, tags_of
        from b2v.provenance import Provenance

        if self.strip_metadata:
            return Tags()
        made = Provenance(
            model=loaded.name, sha256=loaded.sha256, licence=loaded.licence, strength=strength
        )
        found = Tags() if source is None else tags_of(source, keep_gps=self.keep_gps)
        return found.made_by(made)
