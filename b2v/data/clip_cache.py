"""Banks: samples drawn once, by index, into memory-mapped arrays that all runs share.

A bank is a folder with an array for each part of a sample, `bank.json`, the config that it was
drawn with, and `done`, the number of samples drawn so far. Drawing goes on where it stopped:
sample `index` is a pure function of the config and the index.
"""

import json
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import MISSING, Field, asdict, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from b2v.color import Curve, to_encoded, to_linear
from b2v.errors import DatasetError
from b2v.files import end_with_parent
from b2v.media.images import through_jpeg

FLUSH_EVERY = 100
"""Samples between two times that what is done is secured."""

Draw = Callable[[int], tuple[NDArray[Any], ...]]


class BankConfig(Protocol):
    """Config of a bank: a frozen dataclass that says how many samples are drawn."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def clips(self) -> int:
        """Samples in the bank."""


class Part(NamedTuple):
    """One array of a bank: `name` of its file, `kind` of its values, `shape` in one sample."""

    name: str
    kind: type[np.generic]
    shape: tuple[int, ...]


def is_complete(folder: Path, config: BankConfig) -> bool:
    """Tell whether `folder` holds all samples of a bank of this config."""
    return _is_of(folder / "bank.json", config) and _done(folder) == config.clips


def fill(
    folder: Path, config: BankConfig, parts: tuple[Part, ...], draw: Draw, every: int = FLUSH_EVERY
) -> Iterator[int]:
    """Draw all samples of a bank into `folder`, going on where an earlier run stopped.

    Args:
        folder: of the bank; made where it is missing.
        config: written beside the arrays.
        parts: the arrays of a sample.
        draw: gives the arrays of sample `index`; it is called in forked processes, which see
            what it refers to without its being sent.
        every: samples between two reports, after which what is done is secured.

    Yields:
        The number of samples done.

    Raises:
        DatasetError: `folder` holds a bank of another config.

    """
    folder.mkdir(parents=True, exist_ok=True)
    card, done_file = folder / "bank.json", folder / "done"
    text = _text(config)
    if card.exists() and not _is_of(card, config):
        raise DatasetError(f"{folder}: holds a bank of another config; name another folder")
    done = _done(folder)
    mode: Literal["r+", "w+"] = "r+" if done else "w+"
    arrays = []
    for part in parts:
        shape = (config.clips, *part.shape)
        try:
            array = open_memmap(folder / part.name, mode, part.kind, None if done else shape)
        except (OSError, ValueError, EOFError) as error:
            raise _damaged(folder / part.name) from error
        if array.shape != shape or array.dtype != part.kind:
            raise _damaged(folder / part.name)
        arrays.append(array)
    _replace(card, text)
    _worker["draw"] = draw
    fork = get_context("fork")
    with ProcessPoolExecutor(os.cpu_count(), fork, _begin) as pool:
        for sample in pool.map(_draw, range(done, config.clips), chunksize=4):
            for array, values in zip(arrays, sample, strict=True):
                array[done] = values
            done += 1
            if done % every == 0 or done == config.clips:
                for array in arrays:
                    array.flush()
                _replace(done_file, str(done))
                yield done


def open_array(folder: Path, name: str) -> NDArray[Any]:
    """Map an array of a bank into memory, samples first.

    Raises DatasetError when there is no such bank.
    """
    if not (folder / name).exists():
        raise DatasetError(f"{folder}: no bank of {Path(name).stem} there; draw one first")
    try:
        return np.load(folder / name, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(folder / name) from error


def setting(folder: Path, name: str, usual: str) -> str:
    """Look up a setting of the config that a bank was drawn with; `usual` where it has none."""
    card = folder / "bank.json"
    return str(_read_card(card).get(name, usual)) if card.exists() else usual


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def _text(config: BankConfig) -> str:
    return json.dumps(asdict(config), indent=1)


def _is_of(card: Path, config: BankConfig) -> bool:
    """Tell whether a bank was drawn with this config.

    A setting that is younger than the bank had its default value then.
    """
    saved = _read_card(card) if card.exists() else {}
    usual = {f.name: f.default for f in fields(config) if f.default is not MISSING}
    return {**json.loads(json.dumps(usual)), **saved} == json.loads(_text(config))


def _read_card(card: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(card.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(card) from error


def _done(folder: Path) -> int:
    """Count the samples that are drawn."""
    done = folder / "done"
    text = done.read_text(errors="replace").strip() if done.exists() else "0"
    if not text.isdecimal():
        raise _damaged(done)
    return int(text)


def _damaged(path: Path) -> DatasetError:
    return DatasetError(f"{path}: is damaged; draw the bank anew, in another folder")


_worker: dict[str, Draw] = {}


def _begin() -> None:
    end_with_parent()
    torch.set_num_threads(1)


def _draw(index: int) -> tuple[NDArray[Any], ...]:
    return _worker["draw"](index)


JPEG_QUALITY = (60, 96)
"""Range of the quality of pictures that go through JPEG."""
SOFTNESS = (0.2, 3.0)
"""Range of the standard deviation in pixels of what a lens out of focus does to light."""


def soften(pictures: Tensor, rng: Generator, curve: Curve) -> Tensor:
    """See pictures [N, 3, H, W] through one lens, a little out of focus: a Gaussian of light."""
    sigma = rng.uniform(*SOFTNESS)
    reach = min(math.ceil(3 * sigma), *(side - 1 for side in pictures.shape[2:]))
    weights = torch.exp(-(torch.arange(-reach, reach + 1) / sigma).square() / 2)
    weights = (weights / weights.sum()).expand(3, 1, -1)
    light = F.pad(to_linear(pictures, curve), (reach,) * 4, "reflect")
    light = F.conv2d(F.conv2d(light, weights[..., None], groups=3), weights[:, :, None], groups=3)
    return to_encoded(light, curve)


def wear(pictures: Tensor, rng: Generator, *, noise: float, jpeg: float) -> Tensor:
    """Add noise to one in two, and compress some.

    Args:
        pictures: [3, H, W], or frames [N, 3, H, W] of one video that fare alike.
        rng: source of all randomness.
        noise: largest standard deviation; it is drawn evenly up to that (Jin et al., Sec. 6).
        jpeg: probability of compression.

    Returns:
        Pictures of the same shape in [0, 1].

    """
    sigma = max(0.0, rng.uniform(-noise, noise))
    grain = torch.from_numpy(rng.standard_normal(pictures.shape, dtype=np.float32))
    worn = (pictures + sigma * grain).clamp(0, 1)
    if rng.random() >= jpeg:
        return worn
    quality = int(rng.integers(*JPEG_QUALITY))
    flat = worn.reshape(-1, *worn.shape[-3:])
    return torch.stack([through_jpeg(picture, quality) for picture in flat]).reshape(worn.shape)
