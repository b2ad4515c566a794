"""Give back what downloaded weights take on the disk.

Only what a download can bring again is ever deleted: the shipped weights, those in the folder
`B2V_WEIGHTS_DIR` and those that were imported stay.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from b2v.errors import WeightsError
from b2v.weights.hub import parse_address
from b2v.weights.places import cache_dir, card_folders, hub_dir
from b2v.weights.resolve import find_model, place_of


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


def _remove_empty(folder: Path) -> None:
    while folder != cache_dir() and folder.is_relative_to(hub_dir()):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
