"""Fixtures of all tests, and the guard that keeps every test off the network."""

import math
import os
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # each of the workers has a core, and torch takes all
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from forks import Driver
from torch import Tensor
from torch.nn import functional as F

from b2v.frames import to_pixels
from b2v.media.clips import FOLDER, Clip, decode

LOOPBACK = {"localhost", "", None}


def _is_loopback(host: str | bytes | None) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name in LOOPBACK:
        return True
    try:
        return ip_address(name.split("%")[0]).is_loopback
    except ValueError:
        return False


def _guarded(real: Callable, place: int) -> Callable:
    """Refuse what goes beyond loopback; the address is argument `place` of `real`."""

    def guard(*args: object, **kwargs: object) -> object:
        address = args[place] if len(args) > place else kwargs.get("host")
        family = args[0].family if isinstance(args[0], socket.socket) else None
        host = address[0] if isinstance(address, tuple) else address
        if family != getattr(socket, "AF_UNIX", None) and not _is_loopback(host):
            pytest.fail(f"a test reached for the network: {host}")
        return real(*args, **kwargs)

    return guard


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Block sockets outside loopback, and keep the user's caches and settings out of sight.

    The offline switch of huggingface_hub is not set: tests of downloads run a hub on loopback.
    Its address points at a closed port instead.
    """
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name), 1))
    monkeypatch.setattr(socket, "getaddrinfo", _guarded(socket.getaddrinfo, 0))
    empty = tmp_path_factory.getbasetemp() / "home"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_HOME", str(empty / "huggingface"))
    monkeypatch.setenv("B2V_CACHE", str(empty / "b2v"))
    for name in ("B2V_WEIGHTS_DIR", "HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="session")
def driver() -> Iterator[Driver]:
    """A process that runs commands in forks of itself, and kills them."""
    if os.name != "posix":
        pytest.skip("forks are of POSIX")
    running = Driver()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference data beside the repository; tests that need it are skipped without."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "reference").is_dir():
        pytest.skip(f"no reference data: {folder / 'reference'} is not there")
    return folder


def make_picture(height: int, width: int, seed: int = 0) -> Tensor:
    """Draw a textured picture [3, H, W] in [0.05, 0.95]: soft patches with grain."""
    noise = torch.Generator().manual_seed(seed)
    patches = torch.rand(1, 3, max(2, height // 6), max(2, width // 6), generator=noise)
    soft = F.interpolate(patches, (height, width), mode="bilinear", align_corners=True)[0]
    grain = torch.rand(3, height, width, generator=noise)
    return 0.05 + 0.9 * (0.75 * soft + 0.25 * grain)


@pytest.fixture
def picture() -> Tensor:
    """One textured picture, [3, 40, 40] in [0, 1]."""
    return make_picture(40, 40)


def move(
    photo: Tensor, cutouts: list[Tensor], rng: np.random.Generator, **how: object
) -> tuple[Tensor, Tensor]:
    """Set a photo in motion: a blurry picture [3, S, S] and its frames [7, 3, S, S]."""
    from b2v.data.exposure import expose
    from b2v.data.scenes import render

    scene = render(photo, cutouts, rng, **how)
    return expose(scene.light_lin, "gamma2.2"), scene.sharp("gamma2.2")


@pytest.fixture
def tiny_bank(tmp_path: Path) -> Path:
    """Folder with a bank of three small clips, moving photographs of 24 x 24 pixels."""
    from b2v.data.scenes import MotionConfig

    clips = []
    for seed in range(3):
        photo = (make_picture(90, 90, seed) * 255).byte()
        rng = np.random.default_rng(seed)
        config = MotionConfig(speed=(1.0, 2.0), shrink=(1.0, 1.0))
        blurry, sharp = move(photo, [], rng, size=24, config=config)
        clips.append(torch.cat([blurry[None], sharp]))
    folder = tmp_path / "bank"
    folder.mkdir()
    np.save(folder / "clips.npy", (torch.stack(clips) * 255).round().byte().numpy())
    return folder


@pytest.fixture(scope="session")
def tiny_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a tiny prior under the name of the default model."""
    from command_line import write_tiny_prior

    folder = tmp_path_factory.mktemp("weights")
    write_tiny_prior(folder)
    return folder


@pytest.fixture
def b2v(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_prior: Path,
) -> Callable:
    """`b2v(*args)` in a folder with `photo.png`, 48 x 32 pixels, and tiny weights."""
    from command_line import plain_surroundings, run_main

    from b2v.media.images import write_photo

    plain_surroundings(monkeypatch, tmp_path, tiny_prior)
    write_photo(make_picture(32, 48), "photo.png")
    return lambda *args: run_main(capsys, *args)


def read_clip(path: str | os.PathLike[str]) -> Clip:
    """Read a clip of any kind whole; its rate is that of the whole, frames by duration."""
    path = Path(path)
    shown = list(decode(path, FOLDER if path.is_dir() else path.suffix.lower()))
    frames = torch.stack([to_pixels(codes) for codes, _ in shown])
    return Clip(frames, len(shown) / math.fsum(seconds for _, seconds in shown))
