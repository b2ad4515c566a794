"""Publish a model on the Hugging Face Hub: its networks, its card, a page and the licence.

All files go up in one commit, so that a repository never holds half of a model. The page
(`README.md`) is made of the card, which has the rest.
"""

import os
import re
import shutil
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from b2v.errors import UsageError, WeightsError
from b2v.files import shipped_dir
from b2v.models import VIDEO
from b2v.weights.cards import NOT_STATED, Card, read_card, write_card
from b2v.weights.hub import Address, explain, quiet_bars
from b2v.weights.store import find_model, place_of, verify

_REPO = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
PAGE, LICENCE = "README.md", "LICENSE"
APACHE = "LICENSE-maxim.txt"
"""Text of Apache-2.0, among the weights that come with b2v."""


def publish(model: str, repo: str, *, private: bool = False) -> Address:
    """Upload a model, and return the address of its card at the new commit.

    Args:
        model: name of a model, or path of its card.
        repo: `owner/name` on the hub; made if it is not there.
        private: make the repository one that only its owner sees.

    Raises:
        UsageError: `repo` is not such a name.
        WeightsError: the model is incomplete, damaged or without a licence, or the hub or the
            connection to it refuses.

    """
    with TemporaryDirectory() as folder:
        card = stage(model, repo, Path(folder))

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


def stage(model: str, repo: str, folder: Path) -> Card:
    """Put all that is to be published into `folder`, checked.

    Raises:
        UsageError: `repo` is not `owner/name`.
        WeightsError: the model is incomplete, damaged or without a licence, or the folder
            cannot be written.

    """
    if not _REPO.fullmatch(repo):
        raise UsageError(f"{repo}: not the name of a repository; expected owner/name")
    found = find_model(model)
    card = replace(found.card, source=None)  # it lies beside its networks there
    if card.licence.lower() in ("", NOT_STATED):
        raise WeightsError(f"{card.name} has no licence on its card; without one, nobody may share")
    for check in verify(str(found.folder / f"{card.name}.json")):
        if check.problem:
            raise WeightsError(f"{card.name} is not whole: {check.path}: {check.problem}")
    write_card(card, folder)
    try:
        for entry in card.networks.values():
            shutil.copyfile(place_of(found, entry), folder / entry.file)
        (folder / PAGE).write_text(page(card, repo), encoding="utf-8")
        if (text := licence_text(card, found.folder)) is not None:
            (folder / LICENCE).write_text(text, encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"cannot write to {folder}: {error.strerror or error}") from error
    return read_card(folder / f"{card.name}.json")


def page(card: Card, repo: str) -> str:
    """Write the page of a model from its card, with the header that the hub reads."""
    video = VIDEO in card.networks
    plain = re.fullmatch(r"[A-Za-z0-9.-]+", card.licence)
    name = card.licence.replace('"', "'")
    named = card.licence.lower() if plain else f'other\nlicense_name: "{name}"'
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
        f"Licence: {card.licence}. `{card.name}.json` has the rest: recipe, scores, hashes.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def licence_text(card: Card, folder: Path) -> str | None:
    """Find the text of the licence: beside the card, or one of the two that come with b2v."""
    places = [folder / LICENCE]
    if card.licence == "Apache-2.0":
        places.append(shipped_dir() / APACHE)
    if card.licence == "MIT":
        places.append(Path(__file__).resolve().parents[2] / LICENCE)
    for place in places:
        with suppress(OSError, UnicodeDecodeError):
            return place.read_text(encoding="utf-8")
    with suppress(PackageNotFoundError):
        return (
            distribution("b2v").read_text(f"licenses/{LICENCE}") if card.licence == "MIT" else None
        )
    return None
