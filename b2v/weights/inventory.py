"""What is there and whether it is sound: the answers behind `b2v weights`."""

from dataclasses import dataclass
from pathlib import Path

from b2v.errors import UsageError, WeightsError
from b2v.models import missing_roles
from b2v.weights.files import load_network, sha256_of
from b2v.weights.hub import Progress, fetch, parse_address
from b2v.weights.places import card_folders
from b2v.weights.resolve import file_of, find_model, place_of


@dataclass(frozen=True)
class ModelInfo:
    """One line of the list of models.

    `where` is "environment", "shipped" or "cache". `verified`: all files of the card are here
    and have its sha256; `complete`: the card has all four networks. `problem` says why not,
    or what is wrong with the card. `shadowed`: another model of this name is found before.
    """

    name: str
    where: str
    folder: Path
    bytes: int
    licence: str
    summary: str
    complete: bool
    verified: bool
    shadowed: bool
    problem: str | None


@dataclass(frozen=True)
class FileCheck:
    """Result for one file of a model; `problem` is None when all is well."""

    role: str
    path: Path
    expected: str
    found: str | None
    problem: str | None


def list_models() -> list[ModelInfo]:
    """List the models that can be loaded by name, in the order in which they are looked for.

    Raises:
        WeightsError: `B2V_WEIGHTS_DIR` is set but names no folder.

    """
    models: list[ModelInfo] = []
    for where, folder in card_folders():
        for card in sorted(folder.glob("*.json")):
            shadowed = any(card.stem == model.name for model in models)
            models.append(_describe(card, where, shadowed))
    return models


def verify(model: str) -> list[FileCheck]:
    """Check every file of a model: there, with the card's sha256, and loadable. None is downloaded.

    Raises:
        UsageError: A hub address is malformed or names no revision.
        WeightsError: There is no such model, or its card cannot be used.

    """
    found = find_model(model)
    checks = []
    for role, entry in found.card.networks.items():
        path, digest, problem = place_of(found, entry), None, None
        try:
            digest = sha256_of(path, anew=True)
            if entry.sha256 and digest != entry.sha256:
                problem = f"sha256 is {digest[:12]}…, expected {entry.sha256[:12]}…"
            else:
                load_network(path)
        except WeightsError as error:
            problem = str(error)
        checks.append(FileCheck(role, path, entry.sha256, digest, problem))
    return checks


def path_of(model: str, role: str | None = None) -> Path:
    """Folder that a model's card is in, or the file of its network `role`.

    Raises:
        UsageError: The model has no network `role`, or a hub address is malformed.
        WeightsError: There is no such model, or its card cannot be used.

    """
    found = find_model(model)
    if role is None:
        return found.folder
    if role not in found.card.networks:
        raise UsageError(
            f"{model} has no network {role!r}; it has {', '.join(found.card.networks)}"
        )
    return place_of(found, found.card.networks[role])


def download(target: str, *, progress: Progress | None = None) -> list[Path]:
    """Bring a model or a file here, verified, unless it is here already.

    Args:
        target: name of a model, or `hf://owner/repo@revision/file`; with a card (`.json`) the
            files of its networks come along.
        progress: called after every piece.

    Returns:
        Paths of the files, the card first when there is one.

    Raises:
        UsageError: The address is malformed or names no fixed revision.
        WeightsError: Nothing is known under this name, or a file cannot be had or is wrong.

    """
    if target.startswith("hf://") and not target.endswith(".json"):
        return [fetch(parse_address(target), progress=progress)]
    found = find_model(target, progress=progress)
    files = [file_of(found, role, progress=progress) for role in found.card.networks]
    return [found.folder / f"{found.card.name}.json", *files]


def _describe(path: Path, where: str, shadowed: bool) -> ModelInfo:
    folder = path.parent
    try:
        found = find_model(str(path))
    except WeightsError as error:
        return ModelInfo(path.stem, where, folder, 0, "", "", False, False, shadowed, str(error))
    card, problem = found.card, None
    for entry in card.networks.values():
        file = place_of(found, entry)
        if not file.is_file():
            problem = problem or f"{entry.file} is not here"
        elif entry.sha256 and sha256_of(file) != entry.sha256:
            problem = problem or f"{entry.file} has another sha256 than its card says"
    verified = problem is None
    missing = missing_roles(card.networks)
    if missing:
        alone = list(card.networks) == ["middle"]
        lacks = "the middle frame alone" if alone else f"no network for {', '.join(missing)}"
        problem = problem or lacks
    total = sum(entry.bytes for entry in card.networks.values())
    return ModelInfo(
        card.name,
        where,
        folder,
        total,
        card.licence,
        card.summary,
        not missing,
        verified,
        shadowed,
        problem,
    )
