"""Download single files from the Hugging Face Hub, pinned, resumed, verified.

The metadata, the session, its offline switch, endpoint (`HF_ENDPOINT`) and token are those of
huggingface_hub. The transfer is ours: `hf_hub_download` checks the size but not the sha256,
throws away what a cut transfer had brought, and writes in pieces of 10 MB, which is more
than most of our files. Here each piece lands in a `.part` file that the next run goes on from.
Where no byte comes for `HF_HUB_DOWNLOAD_TIMEOUT` seconds (10), the connection is given up and
another one goes on, after a wait that grows as long as nothing comes.
"""

import errno
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from torch import Tensor

from b2v.errors import UsageError, WeightsError
from b2v.files import alone, cache_dir, env_dir, hub_dir
from b2v.weights.checkpoints import sha256_of

if TYPE_CHECKING:
    import huggingface_hub


Progress = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes that are here, and the bytes there will be."""

PAUSES_S = (0.5, 2.0, 5.0, 10.0)
"""Waits before another try, each when the try before has brought nothing; then it is over."""
BUSY = (429, 500, 502, 503, 504)
"""Answers of a server that may give the file a little later."""
_NAME = r"(?![.-])(?:(?!--|\.\.)[\w.-]){1,96}(?<![.-])"
"""What the hub takes for the names of an owner and of a repository."""
_ADDRESS = re.compile(
    rf"hf://(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[\w.-]+))?/(?P<file>[^@]+)", re.ASCII
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
    def path(self) -> Path:
        """Where the file is kept once it is here."""
        return hub_dir() / self.repo.replace("/", "--") / self.revision / self.file

    def __str__(self) -> str:
        return f"{self.source}/{self.file}"


def parse_address(text: str) -> Address:
    """Parse `hf://owner/repo@revision/file`.

    Raises:
        UsageError: It is something else, or names no revision, or one that moves.

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


def fetch(address: Address, *, sha256: str = "", progress: Progress | None = None) -> Path:
    """Bring one file into the cache, or find it there; no network is needed for the latter.

    Args:
        address: the file.
        sha256: what it must hash to; without it, what the hub says, where it says so.
        progress: called after every piece.

    Returns:
        Path of the file in the cache.

    Raises:
        WeightsError: There is no such file, no connection or no space, the transfer was cut
            off (another call goes on from there), or the hash is wrong (the file is deleted).

    """
    path = address.path
    if _is_here(path, sha256):
        return path

    from huggingface_hub.errors import HfHubHTTPError

    # The base of every transport error, whichever HTTP library the hub's client is built on.
    transport_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path, wait=True):
            if not _is_here(path, sha256):
                _bring(address, sha256, progress, transport_error)
    except (OSError, transport_error) as error:
        raise WeightsError(f"cannot download {address}: {explain(error)}") from error
    return path


def _is_here(path: Path, sha256: str) -> bool:
    return path.is_file() and (not sha256 or sha256_of(path) == sha256)


def _bring(
    address: Address, sha256: str, progress: Progress | None, transport_error: type[Exception]
) -> None:
    """Transfer the file to a `.part` beside its place, verify it, rename it."""
    from huggingface_hub import hf_hub_url

    # Read here, because huggingface_hub reads it only once, when it is imported.
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    url = hf_hub_url(address.repo, address.file, revision=address.revision, endpoint=endpoint)
    metadata = _ask(url, endpoint, transport_error)
    size = metadata.size
    if metadata.commit_hash is None or metadata.etag is None or size is None or size < 0:
        raise WeightsError(
            f"cannot download {address}: {url} does not answer as a hub does;"
            " check HF_ENDPOINT and the proxy"
        )
    expected = sha256 or (metadata.etag if _SHA256.fullmatch(metadata.etag) else "")
    # What is there of another version of the file must not be gone on from.
    version = re.sub(r"[^A-Za-z0-9]", "", metadata.etag)[:16]
    part = address.path.with_name(f"{address.path.name}.{version}.part")
    resumed = part.exists()
    _transfer(url, part, size, progress, transport_error)
    if expected and sha256_of(part) != expected and resumed:
        part.unlink()
        _transfer(url, part, size, progress, transport_error)
    if expected and (found := sha256_of(part)) != expected:
        part.unlink()
        raise WeightsError(
            f"{address} has sha256 {found[:12]}…, expected {expected[:12]}…, and was deleted;"
            " try again, and if it stays so, do not use this source"
        )
    part.replace(address.path)


def _ask(
    url: str, endpoint: str | None, transport_error: type[Exception]
) -> "huggingface_hub.HfFileMetadata":
    """Ask for the size and hash of a file, again after a wait where the hub is busy or slow."""
    from huggingface_hub import get_hf_file_metadata

    pauses = iter(PAUSES_S)
    while True:
        try:
            return get_hf_file_metadata(url, library_name="b2v", endpoint=endpoint)
        except transport_error as error:
            answer = getattr(error, "response", None)
            slow = "Timeout" in type(error).__name__
            passes = slow if answer is None else answer.status_code in BUSY
            pause = next(pauses, None) if passes else None
            if pause is None:
                raise
            time.sleep(pause)


def _transfer(
    url: str,
    part: Path,
    size: int,
    progress: Progress | None,
    transport_error: type[Exception],
) -> None:
    """Append to `part` until it is whole; tries without any gain are limited."""
    part.touch()
    done = part.stat().st_size
    if done > size:
        part.write_bytes(b"")
        done = 0
    free = shutil.disk_usage(part.parent).free
    if size - done > free:
        raise OSError(errno.ENOSPC, f"{size - done:,} bytes needed, {free:,} free")
    pauses = iter(PAUSES_S)
    while done < size:
        before = done
        try:
            _append(url, part, size, progress)
            if part.stat().st_size >= size:
                return
            error: Exception = ConnectionError("the transfer ended early")
        except transport_error as caught:  # also where no byte came for the time limit
            answer = getattr(caught, "response", None)
            if answer is not None and answer.status_code not in BUSY:
                raise
            error = caught
        done = part.stat().st_size
        if done > before:
            pauses = iter(PAUSES_S)
            time.sleep(PAUSES_S[0])
            continue
        pause = next(pauses, None)
        if pause is None:
            if getattr(error, "response", None) is not None:
                raise error
            raise ConnectionError(f"cut off at {done:,} of {size:,} bytes") from error
        time.sleep(pause)


def _append(url: str, part: Path, size: int, progress: Progress | None) -> None:
    """Ask for what `part` lacks and write it as it comes."""
    from huggingface_hub import constants, get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    with part.open("ab") as file:
        headers = {**build_hf_headers(library_name="b2v"), "Accept-Encoding": "identity"}
        if file.tell():
            headers["Range"] = f"bytes={file.tell()}-"
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
            hf_raise_for_status(response)
            if response.status_code != 206:  # the server sends the whole file, asked or not
                file.seek(0)
                file.truncate()
            for piece in response.iter_raw():
                if file.tell() + len(piece) > size:
                    part.unlink()
                    raise WeightsError(
                        f"{url} sends more than the {size:,} bytes that the hub says it has;"
                        " do not use this source"
                    )
                file.write(piece)
                if progress:
                    progress(part.name.rsplit(".", 2)[0], file.tell(), size)


def explain(error: Exception, *, kept: bool = True) -> str:
    """Say what went wrong and what to do about it, in one line.

    `kept` says that what has been transferred so far is there for the next time.
    """
    from huggingface_hub import errors

    response = getattr(error, "response", None)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return (
            "HF_HUB_OFFLINE is set and the file is not intact in the cache; unset it and try again"
        )
    if isinstance(error, errors.GatedRepoError):
        return "access must be asked for at the hub first; then set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or it is private; check the name, or set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision; check the part after @"
    if isinstance(error, errors.EntryNotFoundError):
        return "the repository has no such file at this revision; check the name"
    if response is not None and response.status_code in (401, 403):
        return f"the hub refuses ({response.status_code}); set HF_TOKEN to a token that may do this"
    if response is not None:
        return f"the hub answered {response.status_code}; try again later"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space left ({error.strerror}); make room or set B2V_CACHE to another folder"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR):
        return f"{cache_dir()} cannot be written; set B2V_CACHE to another folder"
    text = " ".join(str(error).split()) or type(error).__name__
    said = ", what has come is kept" if kept else ""
    return f"{text}; check the connection and try again{said}"


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


def find_vgg16(progress: Progress | None = None) -> Path:
    """Find the file, or bring it; `progress` as of `b2v.weights.hub.fetch`.

    Raises:
        WeightsError: It is nowhere and cannot be downloaded.

    """
    for folder in (env_dir(), cache_dir()):
        if folder is not None and (folder / FILE).is_file():
            return folder / FILE
    address, sha256 = VGG16
    try:
        return fetch(parse_address(address), sha256=sha256, progress=progress)
    except WeightsError as error:
        raise WeightsError(
            f"VGG16 for perceptual > 0 is not here: {error}; or put the file as {FILE} into"
            f" {cache_dir()}, or train with perceptual = 0"
        ) from error


def read_vgg16(path: Path) -> dict[str, Tensor]:
    """Read weights and biases of `CONVOLUTIONS`, fp32; what else the file holds is left there.

    Raises:
        WeightsError: The file is not safetensors, or lacks one of them in its shape.

    """
    found: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            there = set(file.keys())
            for name, shape in CONVOLUTIONS.items():
                for key, wanted in (
                    (f"{name}.weight", [*shape, 3, 3]),
                    (f"{name}.bias", shape[:1]),
                ):
                    if key not in there:
                        raise WeightsError(f"{path} lacks {key!r}: it does not hold a VGG16")
                    tensor = file.get_tensor(key)
                    if list(tensor.shape) != list(wanted):
                        raise WeightsError(
                            f"{path}: {key!r} has shape {list(tensor.shape)}, expected"
                            f" {list(wanted)}: it does not hold a VGG16"
                        )
                    found[key] = tensor.float()
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is damaged or not safetensors ({error}); get it again") from (
            error
        )
    return found
