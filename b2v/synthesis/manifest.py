"""What a dataset says about itself: `dataset.json` about all of it, a line a window in a manifest.

`dataset.json` holds the settings and sequences, so that a stopped run goes on only with the same
ones. A line is added to `manifest.jsonl` once the files of its window are in place; at the end
the lines are put in order.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from b2v import __version__
from b2v.errors import DatasetError, UsageError
from b2v.media import write_photo
from b2v.synthesis.layouts import names_of
from b2v.synthesis.recipe import Settings
from b2v.synthesis.sources import Sequence
from b2v.synthesis.windows import Window

CARD, MANIFEST = "dataset.json", "manifest.jsonl"

Done = dict[tuple[str, str], set[int]]
"""Windows that are done of each sequence, by split and name."""


@dataclass(frozen=True)
class Plan:
    """What is to be written where; every sequence has its split, name and index."""

    folder: Path
    settings: Settings
    sequences: tuple[Sequence, ...]

    def card(self) -> str:
        """Describe the dataset in JSON."""
        listed = [
            {"split": s.split, "name": s.name, "kind": s.kind, "source": str(s.path)}
            for s in self.sequences
        ]
        about = {"version": __version__, "settings": asdict(self.settings), "sequences": listed}
        return json.dumps(about, indent=1) + "\n"


def open_dataset(plan: Plan) -> Done:
    """Make the folder of a dataset, or go on with one; list the windows that are done.

    Raises:
        UsageError: the folder holds something else, or a dataset made in another way.

    """
    card, manifest = plan.folder / CARD, plan.folder / MANIFEST
    if card.exists():
        if card.read_text() != plan.card():
            raise UsageError(
                f"{plan.folder}: holds a dataset of other settings or sources; name another folder"
            )
    else:
        if plan.folder.exists() and not _is_empty(plan.folder):
            raise UsageError(f"{plan.folder}: exists and holds no dataset; name a new folder")
        plan.folder.mkdir(parents=True, exist_ok=True)
        _replace(card, plan.card())
    done: Done = {}
    kept = _whole_lines(plan.folder) if manifest.exists() else []
    for record in kept:
        done.setdefault((record["split"], record["sequence"]), set()).add(record["window"])
    _replace(manifest, _text(kept))
    return done


def append(folder: Path, record: dict[str, Any]) -> None:
    """Add the line of a window whose files are in place."""
    with (folder / MANIFEST).open("a") as file:
        file.write(json.dumps(record) + "\n")


def put_in_order(folder: Path) -> None:
    """Sort the manifest by sequence and window, whatever order they were made in."""
    records = _whole_lines(folder)
    records.sort(key=lambda r: (r["split"], r["sequence"], r["window"]))
    _replace(folder / MANIFEST, _text(records))


def write_window(
    folder: Path, sequence: Sequence, window: Window, settings: Settings, written: set[str]
) -> dict[str, Any]:
    """Write the pictures of a window and return its line of the manifest.

    Sharp frames in `written` are there already, from a window before; new ones are added to it.
    """
    names, suffix = names_of(settings.layout, sequence, window), settings.suffix
    for frame, name in names.sharp:
        if name not in written:
            _write(window.sharp[frame], folder / f"{name}.{suffix}")
    written.update(name for _, name in names.sharp)
    for kind, pixels in window.blurry.items():
        _write(pixels, folder / f"{names.blurry[kind]}.{suffix}")
    blurry = f"{names.blurry[settings.light]}.{suffix}"
    middle = len(window.numbers) // 2
    return {
        "split": sequence.split,
        "sequence": sequence.name,
        "window": window.index,
        "source": str(sequence.path),
        "frames": [window.numbers[0], window.numbers[-1]],
        "tau": len(window.numbers),
        "period": window.period,
        "sub_frames": window.sub_frames,
        "light": settings.light,
        "curve": settings.curve if settings.light == "linear" else None,
        "scale": round(window.scale, 6),
        "noise": settings.noise,
        "seed": settings.seed,
        "aperture": None if settings.aperture is None else asdict(settings.aperture),
        "blurry": blurry,
        "sharp": next(f"{name}.{suffix}" for frame, name in names.sharp if frame == middle),
        "sha256": hashlib.sha256((folder / blurry).read_bytes()).hexdigest(),
        "version": __version__,
    }


def _write(pixels: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_photo(pixels, path, overwrite=True)


def _whole_lines(folder: Path) -> list[dict[str, Any]]:
    """Read the manifest, but for a last line that a killed run did not finish."""
    lines = (folder / MANIFEST).read_text().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        del lines[-1]
    try:
        records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    except ValueError as error:
        raise DatasetError(f"{folder / MANIFEST}: is damaged; delete its bad lines") from error
    return [record for record in records if (folder / record["blurry"]).exists()]


def _text(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def _replace(path: Path, text: str) -> None:
    part = _part(path)
    part.write_text(text)
    part.replace(path)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _is_empty(folder: Path) -> bool:
    """Tell whether a folder holds nothing, or but the card that a killed run was writing."""
    left = _part(folder / CARD)
    return folder.is_dir() and all(path == left for path in folder.iterdir())
