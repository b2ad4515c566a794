"""Files of the Hugging Face Hub: downloaded, verified.

`hf_hub_download` transfers them; its switch for offline, its endpoint (`HF_ENDPOINT`) and token
are obeyed. It checks the size of a file, so the sha256 is checked here.

VGG16's first layers are looked for as `vgg16.safetensors` in `B2V_WEIGHTS_DIR`, then in the cache;
at last they are downloaded, 528 MB, pinned and verified. Only the convolutions up to relu3_3 are
read, under the names of torchvision or of timm, which are the same there.
"""

import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from b2v.errors import UsageError, WeightsError
from b2v.files import alone, cache_dir, env_dir, hub_dir
from b2v.weights.checkpoints import sha256_of

_NAME = r"(?![.-])(?:(?!--|\.\.)[\w.-]){1,96}(?<![.-])"
"""What the hub takes for the names of an owner and of a repository."""
_ADDRESS = re.compile(
    rf"hf://(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[\w.-]+))?/(?P<file>[^@]+)", re.ASCII
)


@dataclass(frozen=True)
class Address:
    """One file at one revision of a repository on the hub."""

    repo: str
    revision: str
    file: str

    @property
    def source(self) -> str:
        """Address of the repository, as cards have it."""
        return f"hf://{self.repo}@{self.revision}"

    @property
    def folder(self) -> Path:
        """Where the files of the revision are kept."""
        return hub_dir() / self.repo.replace("/", "--") / self.revision

    @property
    def path(self) -> Path:
        """Where the file is kept once it is here."""
        return self.folder / self.file

    def __str__(self) -> str:
        return f"{self.source}/{self.file}"


def parse_address(text: str) -> Address:
    """Parse `hf://owner/repo@revision/file`.

    Raises UsageError where it is something else, or names no revision, or one that moves.
    """
    match = _ADDRESS.fullmatch(text)
    parts = match["file"].split("/") if match else []
    if not match or any(part in ("", ".", "..") or "\\" in part for part in parts):
        raise UsageError(f"{text} is not an address; expected hf://owner/repo@revision/file")
    if match["revision"] in (None, "main", ".", ".."):
        raise UsageError(
            f"{text} names no fixed revision; expected hf://owner/repo@revision/file"
            " with a commit or a tag"
        )
    return Address(match["repo"], match["revision"], match["file"])


def fetch(address: Address, *, sha256: str = "") -> Path:
    """Bring one file into the cache, or find it there, for which no network is needed.

    It must hash to `sha256`, if that is given, or is deleted. Raises WeightsError where there is no
    such file, no connection or no space, or the hash is wrong.
    """
    path = address.path
    if _is_here(path, sha256):
        return path

    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    # The base of every transport error, whichever HTTP library the hub's client is built on.
    transport_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path, wait=True), quiet_bars():
            if not _is_here(path, sha256):
                hf_hub_download(
                    address.repo,
                    address.file,
                    revision=address.revision,
                    local_dir=address.folder,
                    force_download=path.exists(),
                    library_name="b2v",
                    # Read here, because huggingface_hub reads it only once, when it is imported.
                    endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or None,
                )
    except (OSError, transport_error) as error:
        local = isinstance(error, LocalEntryNotFoundError)
        cause = (error.__cause__ if local else None) or error
        raise WeightsError(f"cannot download {address}: {explain(cause)}") from error
    if sha256 and (found := sha256_of(path)) != sha256:
        path.unlink()
        raise WeightsError(
            f"{address} has sha256 {found[:12]}…, expected {sha256[:12]}…, and was deleted;"
            " try again; if it happens again, do not use this source"
        )
    return path


def _is_here(path: Path, sha256: str) -> bool:
    return path.is_file() and (not sha256 or sha256_of(path) == sha256)


@contextmanager
def quiet_bars() -> Iterator[None]:
    """Keep the hub's progress bars out of logs, and its warnings about what it tries again."""
    from huggingface_hub.utils import logging as log
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    level, shown = log.get_verbosity(), not are_progress_bars_disabled()
    log.set_verbosity(logging.ERROR)
    if shown and not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if shown:
            enable_progress_bars()


def explain(error: BaseException) -> str:
    """Say what went wrong and what to do about it, in one line."""
    from huggingface_hub import errors

    known: tuple[tuple[type[BaseException], str], ...] = (
        (
            errors.OfflineModeIsEnabled,
            "HF_HUB_OFFLINE is set and the file is not intact here; unset it",
        ),
        (errors.GatedRepoError, "request access at the hub first, then set HF_TOKEN"),
        (errors.RepositoryNotFoundError, "no such repository, or it is private; set HF_TOKEN"),
        (errors.RevisionNotFoundError, "no such revision; check the part after @"),
        (errors.EntryNotFoundError, "no such file at this revision; check the name"),
    )
    for kind, said in known:
        if isinstance(error, kind):
            return said
    if (response := getattr(error, "response", None)) is not None:
        how = "set a valid HF_TOKEN" if response.status_code in (401, 403) else "try again later"
        return f"the hub answered {response.status_code}; {how}"
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space left ({error.strerror}); make room or set B2V_CACHE to another folder"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR):
        return f"{cache_dir()} cannot be written; set B2V_CACHE to another folder"
    return f"{text}; check the connection and try again"


VGG16 = (
    "hf://timm/vgg16.tv_in1k@b8d8aa2dd860af9233c8c67385a8097fd6c35d3f/model.safetensors",
    "57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8",
)
"""Address and sha256. Made by torchvision (BSD-3-Clause) after Simonyan and Zisserman (2014)."""
FILE = "vgg16.safetensors"
CONVOLUTIONS = {
    **{"features.0": (64, 3), "features.2": (64, 64), "features.5": (128, 64)},
    **{"features.7": (128, 128), "features.10": (256, 128)},
    **{"features.12": (256, 256), "features.14": (256, 256)},
}
"""Outputs and inputs of each 3 x 3 convolution, by its name, from the picture on."""


def vgg16_is_here() -> bool:
    """Tell whether the file of VGG16 is here already."""
    return _own_vgg16() is not None or parse_address(VGG16[0]).path.is_file()


def _own_vgg16() -> Path | None:
    places = (folder / FILE for folder in (env_dir(), cache_dir()) if folder is not None)
    return next((place for place in places if place.is_file()), None)


def find_vgg16() -> Path:
    """Find the file of VGG16, or download it.

    Raises WeightsError where it is nowhere and cannot be downloaded.
    """
    if (own := _own_vgg16()) is not None:
        return own
    address, sha256 = VGG16
    try:
        return fetch(parse_address(address), sha256=sha256)
    except WeightsError as error:
        raise WeightsError(
            f"VGG16 for perceptual > 0 is not here: {error}; or put the file as {FILE} into"
            f" {cache_dir()}, or train with perceptual = 0"
        ) from error


def read_vgg16(path: Path) -> dict[str, Tensor]:
    """Read weights and biases of `CONVOLUTIONS`, fp32; what else the file holds is left there.

    Raises WeightsError where the file is not safetensors, or lacks one of them in its shape.
    """
    found: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            there = set(file.keys())
            for name, shape in CONVOLUTIONS.items():
                for key, wanted in (("weight", (*shape, 3, 3)), ("bias", shape[:1])):
                    key = f"{name}.{key}"
                    if key not in there:
                        raise WeightsError(f"{path} lacks {key!r}: it does not hold a VGG16")
                    found[key] = file.get_tensor(key).float()
                    if found[key].shape != wanted:
                        has = f"{list(found[key].shape)}, expected {list(wanted)}"
                        raise WeightsError(f"{path}: {key!r} has shape {has}: it holds no VGG16")
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is damaged or not safetensors ({error}); get it again") from (
            error
        )
    return found
