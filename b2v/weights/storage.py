"""What weights take on the disk, and how to give that back.

Only what a download can bring again is ever deleted: the shipped weights, those in the folder
`B2V_WEIGHTS_DIR` and those that were imported stay.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from b2v.errors import WeightsError
from b2v.weights.files import SUFFIX
from b2v.weights.hub import parse_address
from b2v.weights.places import cache_dir, card_folders, hub_dir
from b2v.weights.resolve import find_model, place_of


@dataclass(frozen=True)
class DiskUse:
    """What lies in one folder: `where` is environment, shipped, imported, downloaded, unfinished.

    "unfinished" are transfers that were cut off and would go on from there.
    """

    where: str
    folder: Path
    files: int
    bytes: int


def disk_use() -> list[DiskUse]:
    """Add up the weights on the disk, a line for each folder that has any.

    Raises:
        WeightsError: `B2V_WEIGHTS_DIR` is set but names no folder.

    """
    folders = [(where, folder) for where, folder in card_folders() if where != "cache"]
    folders.append(("imported", cache_dir()))
    downloads = {path.parent for path in _files(hub_dir()) if _is_weights(path)}
    folders += [("downloaded", folder) for folder in sorted(downloads)]
    rows = []
    for where, folder in folders:
        inside = [path for path in _files(folder, deep=False) if _is_weights(path)]
        rows.append(_row(where, folder, inside))
    unfinished = [path for path in _files(cache_dir()) if path.suffix == ".part"]
    return [row for row in [*rows, _row("unfinished", cache_dir(), unfinished)] if row.files]


def remove(model: str) -> list[Path]:
    """Delete what was downloaded of a model; return the files that are gone.

    Args:
        model: name of a model, or the hub address of a file.

    Raises:
        UsageError: a hub address is malformed or names no revision.
        WeightsError: nothing of it was downloaded, or a file cannot be deleted.

    """
    gone = []
    for path in downloaded(model):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise WeightsError(f"cannot delete {path}: {error.strerror}") from error
        gone.append(path)
        for leftover in [*path.parent.glob(f"{path.name}.*.part"), Path(f"{path}.lock")]:
            with suppress(OSError):
                leftover.unlink()
    for folder in {parent for path in gone for parent in path.parents}:
        if folder.is_relative_to(hub_dir()):
            _remove_empty(folder)
    return gone


def downloaded(model: str) -> list[Path]:
    """List the files of a model that are in the cache of downloads, less those of another as well.

    Raises:
        UsageError: a hub address is malformed or names no revision.
        WeightsError: there are none.

    """
    if model.startswith("hf://") and not model.endswith(".json"):
        found = [parse_address(model).path]
    else:
        is_address = model.startswith("hf://")
        name = parse_address(model).path.stem if is_address else model
        cards = [folder / f"{name}.json" for _, folder in card_folders()]
        cards = [parse_address(model).path] if is_address else cards
        cards = [card for card in cards if card.is_file()]
        shared = {file for card in cards for file in _files_of_others(card)}
        found = [file for card in cards for file in _files_of(card) if file not in shared]
    inside = [path for path in found if path.is_file() and path.is_relative_to(hub_dir())]
    if not inside:
        raise WeightsError(f"nothing of {model} was downloaded{_where_else(found)}")
    return list(dict.fromkeys(inside))


def _files_of(card: Path) -> list[Path]:
    try:
        found = find_model(str(card))
    except WeightsError:
        return [card]
    return [card, *(place_of(found, entry) for entry in found.card.networks.values())]


def _files_of_others(card: Path) -> set[Path]:
    """List what the other cards of a folder are made of: models may share files."""
    others = (other for other in card.parent.glob("*.json") if other != card)
    return {file for other in others for file in _files_of(other)}


def _where_else(found: Iterable[Path]) -> str:
    folders = sorted({str(path.parent) for path in found if path.is_file()})
    kept = "; b2v only deletes what a download can bring again"
    return f", it lies in {', '.join(folders)}{kept}" if folders else "; see `b2v weights list`"


def _is_weights(path: Path) -> bool:
    return path.suffix in (SUFFIX, ".json")


def _files(folder: Path, *, deep: bool = True) -> list[Path]:
    found = folder.rglob("*") if deep else folder.glob("*")
    return sorted(path for path in found if path.is_file())


def _row(where: str, folder: Path, files: list[Path]) -> DiskUse:
    return DiskUse(where, folder, len(files), sum(path.stat().st_size for path in files))


def _remove_empty(folder: Path) -> None:
    while folder != cache_dir() and folder.is_relative_to(hub_dir()):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
