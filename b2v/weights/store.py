"""From a name to loaded networks.

A model is looked for in this order: the `weights` argument, the folder `B2V_WEIGHTS_DIR`, the
shipped weights, the cache (conversions and downloads), and at last the hub, at the address
that a card gives. Each file must have the sha256 of its card; it is hashed once, and again when
it has been touched.

What is there and whether it is sound (`list_models`, `verify`) is answered here, too.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from b2v.defaults import PHOTO_MODEL, VIDEO_MODEL
from b2v.errors import UsageError, WeightsError
from b2v.files import card_folders, hub_dir, shipped_dir
from b2v.models import (
    ROLES,
    VIDEO,
    Extractor,
    Prior,
    VideoNet,
    assemble,
    missing_roles,
    needed_roles,
)
from b2v.weights.checkpoints import (
    NOT_STATED,
    ORDER_KNOWN,
    SUFFIX,
    Card,
    CardNetwork,
    Network,
    card_entry,
    load_network,
    read_card,
    sha256_of,
    write_card,
)
from b2v.weights.hub import Address, explain, fetch, parse_address, quiet_bars


@dataclass(frozen=True)
class Loaded:
    """Networks by role, and one hash over those of their files."""

    name: str
    sha256: str
    license: str
    networks: dict[str, Network]
    halvings: int = 0


@dataclass(frozen=True, kw_only=True)
class LoadedModel(Loaded):
    """Networks that make seven frames of a photo, wired up, fp32 on the CPU."""

    net: Extractor


@dataclass(frozen=True, kw_only=True)
class LoadedVideoModel(Loaded):
    """A network that restores video, fp32 on the CPU."""

    net: VideoNet


@dataclass(frozen=True)
class Model:
    """A card and the folder it was found in, where its files should be as well."""

    card: Card
    folder: Path


def load_model(model: str = PHOTO_MODEL, *, weights: Path | None = None) -> LoadedModel:
    """Load the networks of a model that makes seven frames of a photo.

    Args:
        model: name of a model, path of a card, or hub address of a card
            (`hf://owner/repo@revision/name.json`).
        weights: folder with the model's card or files, or a card, or one `.safetensors` file:
            a model of its own, or in the place of the network of its role.

    Raises:
        UsageError: A hub address is malformed or names no revision.
        WeightsError: There is no such model, it restores video, or a file of it is missing,
            damaged, or does not hold what the card says.

    """
    loaded = _gather(model, weights, video=False)
    modules = {role: network.module for role, network in loaded.networks.items()}
    net = assemble(modules, halvings=loaded.halvings)
    if not isinstance(net, Prior):
        others = [n.note for role, n in loaded.networks.items() if role != ROLES[0]]
        net.order_known = all(note.get(ORDER_KNOWN) is True for note in others)
    return LoadedModel(**vars(loaded), net=net.eval())


def load_video_model(model: str = VIDEO_MODEL, *, weights: Path | None = None) -> LoadedVideoModel:
    """Load the network of a model that restores video; as `load_model` does one for photos."""
    loaded = _gather(model, weights, video=True)
    return LoadedVideoModel(**vars(loaded), net=cast("VideoNet", loaded.networks[VIDEO].module))


def find_model(model: str, *, weights: Path | None = None) -> Model:
    """Find the card of a model; its files need not be there. Arguments as of `load_model`.

    Raises UsageError where a hub address is malformed or names no revision; WeightsError where
    there is no such model, or its card cannot be used.
    """
    if weights is not None:
        return _in_path(weights, model)
    if model.startswith("hf://"):
        address = parse_address(model)
        if not address.file.endswith(".json"):
            raise UsageError(f"{model} is not a card; expected hf://owner/repo@revision/name.json")
        return _open(fetch(address))
    if model.endswith(".json"):
        return _open(Path(model))
    for where, folder in card_folders():
        card = folder / f"{model}.json"
        if card.is_file():
            return _open(card)
        if where == "environment" and (bare := _bare(folder, model, f"{model}-*{SUFFIX}")):
            return bare
    known = sorted({card.stem for _, folder in card_folders() for card in folder.glob("*.json")})
    hint = ""
    if model in ("jin2018", "jin2018-released"):
        hint = "; jin2018-released is made of its authors' files by `b2v weights import`"
    raise WeightsError(f"there is no model {model!r}; known: {', '.join(known) or 'none'}{hint}")


def file_of(found: Model, role: str) -> Path:
    """Path of the network `role` of a model, downloaded if it is nowhere; its hash is checked.

    Raises WeightsError where the card has no such network, or its file is missing or damaged.
    """
    card = found.card
    if role not in card.networks:
        raise WeightsError(
            f"{card.name} in {found.folder} has no {role} network, only"
            f" {', '.join(card.networks)}; take another model, train the stage that"
            " makes it, or add its file with `b2v weights import`"
        )
    entry = card.networks[role]
    path = place_of(found, entry)
    if card.source and path == (address := parse_address(f"{card.source}/{entry.file}")).path:
        return fetch(address, sha256=entry.sha256)
    if not path.is_file():
        raise WeightsError(
            f"{path}, the {role} network of {card.name}, is missing;"
            " put it back, or install b2v again if it came with it"
        )
    if entry.sha256 and (digest := sha256_of(path)) != entry.sha256:
        raise WeightsError(
            f"{path} is not what its card says: sha256 {digest[:12]}…, expected"
            f" {entry.sha256[:12]}…; put the right file back, or install b2v again"
        )
    return path


def place_of(found: Model, entry: CardNetwork) -> Path:
    """Where the file of a network is or would be: beside the card, else in the cache."""
    beside = found.folder / entry.file
    if beside.exists() or not found.card.source:
        return beside
    return parse_address(f"{found.card.source}/{entry.file}").path


def _gather(model: str, weights: Path | None, *, video: bool) -> Loaded:
    """Load the files of a model for photos or for video; a single one may replace one of them."""
    if weights is None or not weights.is_file() or weights.suffix == ".json":
        found = find_model(model, weights=weights)
        name, license = found.card.name, found.card.license
        _check_use(name, found.card.networks, video=video)
        roles = needed_roles(found.card.networks)
        joined = _join(name, license, {role: _load(found, role) for role in roles})
        return replace(joined, halvings=found.card.halvings)
    own = load_network(weights)
    own_license = str(own.note.get("license", NOT_STATED))
    _check_use(str(weights), (own.role,), video=video)
    if not missing_roles((own.role,)):
        return _join(weights.stem, own_license, {own.role: own})
    found = find_model(model)
    name, license, roles = found.card.name, found.card.license, needed_roles(found.card.networks)
    if own.role not in roles:
        raise WeightsError(f"{name} has no {own.role} network that {weights} could replace")
    others = {role: _load(found, role) for role in roles if role != own.role}
    name += f" with {own.role} from {weights.name}"
    license += f"; {own.role}: {own_license}" if own_license != license else ""
    return _join(name, license, {role: others.get(role, own) for role in roles})


def _check_use(name: str, networks: Collection[str], *, video: bool) -> None:
    if (needed_roles(networks) == (VIDEO,)) == video:
        return
    if video:
        raise WeightsError(
            f"{name} is for photos; use `b2v extract`, or -m {VIDEO_MODEL} for video"
        )
    raise WeightsError(f"{name} deblurs video; use `b2v deblur`, or -m {PHOTO_MODEL} for photos")


def _join(name: str, license: str, networks: dict[str, Network]) -> Loaded:
    joined = "".join(network.sha256 for network in networks.values())
    return Loaded(name, hashlib.sha256(joined.encode()).hexdigest(), license, networks)


def _load(found: Model, role: str) -> Network:
    network = load_network(file_of(found, role))
    entry = found.card.networks[role]
    if network.role != role or network.blueprint != entry.blueprint:
        raise WeightsError(
            f"{network.path} holds a {network.blueprint.kind} network for {network.role}, but the"
            f" card of {found.card.name} expects {entry.blueprint.kind} for {role} with the"
            " config it lists; correct the card or the file"
        )
    return network


def _open(card: Path) -> Model:
    """Read a card; the files of one that came from the hub are at the address it came from."""
    found = Model(read_card(card), card.parent)
    if not card.is_relative_to(hub_dir()):
        return found
    repo, revision, *folders = card.parent.relative_to(hub_dir()).parts
    source = "/".join([f"hf://{repo.replace('--', '/', 1)}@{revision}", *folders])
    return replace(found, card=replace(found.card, source=source))


def _in_path(weights: Path, model: str) -> Model:
    """Find the model in a path: a card, or a folder with a card or bare files."""
    if weights.suffix == ".json":
        return _open(weights)
    if not weights.is_dir():
        what = "is not a file" if weights.exists() else "does not exist"
        raise WeightsError(f"{weights} {what}; expected a folder or a {SUFFIX} file")
    if (weights / f"{model}.json").is_file():
        return _open(weights / f"{model}.json")
    cards = sorted(weights.glob("*.json"))
    if len(cards) == 1:
        return _open(cards[0])
    bare = _bare(weights, model, f"{model}-*{SUFFIX}") or _bare(
        weights, weights.resolve().name, f"*{SUFFIX}"
    )
    if bare is None:
        names = ", ".join(card.stem for card in cards) or f"no card and no {SUFFIX} file"
        raise WeightsError(f"{weights} has no model {model!r}; it has: {names}")
    return bare


def _bare(folder: Path, name: str, pattern: str) -> Model | None:
    """Make a card for files that have none, from what they say of themselves."""
    networks: dict[str, CardNetwork] = {}
    for path in sorted(folder.glob(pattern)):
        role, entry = card_entry(path)
        if role in networks:
            raise WeightsError(
                f"{folder} has two {role} networks, {networks[role].file} and {path.name};"
                " leave one or write a card"
            )
        networks[role] = entry
    if not networks:
        return None
    return Model(Card(name=name, license=NOT_STATED, networks=networks), folder)


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
    license: str
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
    problem: str | None


def list_models() -> list[ModelInfo]:
    """List the models that can be loaded by name, in the order in which they are looked for.

    Raises WeightsError where `B2V_WEIGHTS_DIR` is set but names no folder.
    """
    models: list[ModelInfo] = []
    for where, folder in card_folders():
        for card in sorted(folder.glob("*.json")):
            shadowed = any(card.stem == model.name for model in models)
            models.append(_describe(card, where, shadowed))
    return models


def verify(model: str) -> list[FileCheck]:
    """Check every file of a model: there, with the card's sha256, and loadable.

    None is downloaded. Raises as `find_model`.
    """
    found = find_model(model)
    checks = []
    for role, entry in found.card.networks.items():
        path, problem = place_of(found, entry), None
        try:
            digest = sha256_of(path, anew=True)
            if entry.sha256 and digest != entry.sha256:
                problem = f"sha256 is {digest[:12]}…, expected {entry.sha256[:12]}…"
            else:
                load_network(path)
        except WeightsError as error:
            problem = str(error)
        checks.append(FileCheck(role, path, problem))
    return checks


def download(target: str) -> list[Path]:
    """Bring a model by its name, or a file of the hub, here, verified, unless it is here already.

    With a card (`.json`) the files of its networks come along. Returns the paths, the card first;
    raises as `find_model`, and WeightsError where a file cannot be had or is wrong.
    """
    if target.startswith("hf://") and not target.endswith(".json"):
        return [fetch(parse_address(target))]
    found = find_model(target)
    files = [file_of(found, role) for role in found.card.networks]
    return [found.folder / f"{found.card.name}.json", *files]


def _describe(path: Path, where: str, shadowed: bool) -> ModelInfo:
    try:
        found = find_model(str(path))
    except WeightsError as error:
        nothing = 0, "", "", False, False
        return ModelInfo(path.stem, where, path.parent, *nothing, shadowed, str(error))
    card, problem = found.card, None
    for entry in card.networks.values():
        file = place_of(found, entry)
        if not file.is_file():
            problem = problem or f"{entry.file} is not here"
        elif entry.sha256 and sha256_of(file) != entry.sha256:
            problem = problem or f"{entry.file} has another sha256 than its card says"
    verified, missing = problem is None, missing_roles(card.networks)
    if missing and verified:
        alone = list(card.networks) == ["middle"]
        problem = "the middle frame alone" if alone else f"no network for {', '.join(missing)}"
    total = sum(entry.bytes for entry in card.networks.values())
    known = total, card.license, card.summary, not missing, verified
    return ModelInfo(card.name, where, path.parent, *known, shadowed, problem)


_REPO = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
PAGE, LICENSE = "README.md", "LICENSE"
APACHE = "LICENSE-maxim.txt"
"""Text of Apache-2.0, among the weights that come with b2v."""


def publish(model: str, repo: str, *, private: bool = False, license: str = "") -> Address:
    """Upload a model, and return the address of its card at the new commit.

    The repository, `owner/name`, is made if it is not there; a private one only its owner sees.
    `license` is that of a model whose card states none.

    Raises as `stage`, and WeightsError where the hub or the connection to it refuses.
    """
    with TemporaryDirectory() as folder:
        card = stage(model, repo, Path(folder), license=license)

        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError

        transport_error: type[Exception] = HfHubHTTPError.__bases__[0]
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="b2v")
        try:
            with quiet_bars():
                api.create_repo(repo, private=private or None, exist_ok=True)
                message = f"Publish {card.name} by b2v"
                done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
        except (OSError, ValueError, RuntimeError, transport_error) as error:
            # What went wrong with one file comes wrapped in a RuntimeError.
            cause = error.__cause__ if type(error) is RuntimeError else None
            first = cause if isinstance(cause, Exception) else error
            raise WeightsError(f"cannot publish to {repo}: {explain(first)}") from error
    return Address(repo, done.oid, f"{card.name}.json")


def stage(model: str, repo: str, folder: Path, *, license: str = "") -> Card:
    """Put all that is to be published into `folder`, checked.

    Raises UsageError where `repo` is not `owner/name`, or the model is under another license than
    `license`; WeightsError where the model is incomplete,
    damaged or without a license, or the folder cannot be written.
    """
    if not _REPO.fullmatch(repo):
        raise UsageError(f"{repo}: not the name of a repository; expected owner/name")
    found = find_model(model)
    card = replace(found.card, source=None)  # it lies beside its networks there
    if card.license.lower() in ("", NOT_STATED):
        card = replace(card, license=license)
    if not card.license:
        raise WeightsError(f"{card.name} has no license on its card; name one by --license")
    if license not in ("", card.license):
        raise UsageError(f"{card.name} is under {card.license}, not {license}")
    for check in verify(str(found.folder / f"{card.name}.json")):
        if check.problem:
            raise WeightsError(f"{card.name} is not whole: {check.path}: {check.problem}")
    write_card(card, folder)
    try:
        for entry in card.networks.values():
            shutil.copyfile(place_of(found, entry), folder / entry.file)
        (folder / PAGE).write_text(page(card, repo), encoding="utf-8")
        if (text := license_text(card, found.folder)) is not None:
            (folder / LICENSE).write_text(text, encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"cannot write to {folder}: {error.strerror or error}") from error
    return read_card(folder / f"{card.name}.json")


def page(card: Card, repo: str) -> str:
    """Write the page of a model from its card, with the header that the hub reads."""
    video = VIDEO in card.networks
    plain = re.fullmatch(r"[A-Za-z0-9.-]+", card.license)
    name = card.license.replace('"', "'")
    named = card.license.lower() if plain else f'other\nlicense_name: "{name}"'
    parts = [
        f"---\nlicense: {named}\nlibrary_name: b2v\n"
        f"pipeline_tag: {'video-to-video' if video else 'image-to-video'}\n"
        "tags: [deblurring, motion-blur, image-restoration, safetensors]\n---",
        f"# {card.name}",
        card.summary,
        f"```sh\nb2v weights download hf://{repo}@REVISION/{card.name}.json\n"
        f"b2v {'deblur walk.mp4' if video else 'extract photo.jpg'} -m {card.name}\n```",
        "REVISION is a commit of this repository; b2v takes no moving name.",
        card.limits,
        f"Data: {card.data}" if card.data else "",
        f"Lineage: {card.lineage}" if card.lineage else "",
        f"License: {card.license}. `{card.name}.json` has the rest: recipe, scores, hashes.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def license_text(card: Card, folder: Path) -> str | None:
    """Find the text of the license: beside the card, or one of the two that come with b2v."""
    ours = Path(__file__).resolve().parents[2] / LICENSE
    known = {"Apache-2.0": [shipped_dir() / APACHE], "MIT": [ours]}.get(card.license, [])
    for place in (folder / LICENSE, *known):
        with suppress(OSError, UnicodeDecodeError):
            return place.read_text(encoding="utf-8")
    with suppress(PackageNotFoundError):
        return distribution("b2v").read_text(f"licenses/{LICENSE}") if ours in known else None
    return None
