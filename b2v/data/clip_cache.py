"""Caches of clips ("banks"): samples drawn once, by index, into arrays that all runs share.

A cache is a folder with a memory-mapped array, `bank.json`, the config that it was drawn with, and
`done`, the number of samples drawn so far. Drawing goes on where it stopped: sample `index` is a
pure function of the config, the sources and the index.

What becomes of a picture in a camera beside motion blur is here too: softness, noise and JPEG.
"""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import Field, asdict
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from b2v.color import Curve, to_encoded, to_linear
from b2v.errors import DatasetError
from b2v.files import write_whole
from b2v.frames import smooth
from b2v.media.images import through_jpeg

SECURED_EVERY = 20
"""Samples between two times that what is done is secured on disk, and reported."""

Draw = Callable[[int], Tensor]


class CacheConfig(Protocol):
    """Config of a cache: a frozen dataclass that says how many samples of which shape it has."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    FILE: ClassVar[str]

    @property
    def clips(self) -> int:
        """Samples in the cache."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample, of uint8."""


def is_complete(folder: Path, config: CacheConfig) -> bool:
    """Tell whether `folder` holds all samples of a cache of this config."""
    return _is_of(folder / "bank.json", config) and _done(folder) == config.clips


def fill(folder: Path, config: CacheConfig, draw: Draw) -> Iterator[int]:
    """Draw all samples of a cache into `folder`, going on where an earlier run stopped.

    `draw` gives a sample by its index; it is called in forked processes, which see what it refers
    to without its being sent. Yields the number of samples done, each time that they are secured.
    Raises DatasetError where `folder` holds a cache of another config, or is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    card, done_file = folder / "bank.json", folder / "done"
    if card.exists() and not _is_of(card, config):
        raise DatasetError(f"{folder}: holds a bank of another config; name another folder")
    done, shape = _done(folder), (config.clips, *config.shape)
    try:
        how = (folder / config.FILE, "r+" if done else "w+", np.uint8, None if done else shape)
        array = open_memmap(*how)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(folder / config.FILE) from error
    if array.shape != shape or array.dtype != np.uint8:
        raise _damaged(folder / config.FILE)
    write_whole(card, _text(config))
    _worker["draw"] = draw
    with ProcessPoolExecutor(os.cpu_count(), get_context("fork"), _begin) as pool:
        for sample in pool.map(_draw, range(done, config.clips), chunksize=4):
            array[done] = sample
            done += 1
            if done % SECURED_EVERY == 0 or done == config.clips:
                array.flush()
                write_whole(done_file, str(done))
                yield done


def open_array(folder: Path, name: str) -> NDArray[Any]:
    """Map the array of a cache into memory, samples first.

    Raises DatasetError when there is none.
    """
    if not (folder / name).exists():
        raise DatasetError(f"{folder}: no bank of {Path(name).stem} there; draw one first")
    try:
        return np.load(folder / name, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(folder / name) from error


def setting(folder: Path, name: str, usual: str) -> str:
    """Look up a setting of the config that a cache was drawn with; `usual` where it has none."""
    card = folder / "bank.json"
    return str(_read_card(card).get(name, usual)) if card.exists() else usual


def _text(config: CacheConfig) -> str:
    return json.dumps(asdict(config), indent=1)


def _is_of(card: Path, config: CacheConfig) -> bool:
    """Tell whether a cache was drawn with this config."""
    return card.exists() and _read_card(card) == json.loads(_text(config))


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
    return DatasetError(f"{path}: is damaged; delete {path.parent}, and the bank is drawn anew")


_worker: dict[str, Draw] = {}


def _begin() -> None:
    end_with_parent()
    torch.set_num_threads(1)


def _draw(index: int) -> NDArray[np.uint8]:
    return _worker["draw"](index).numpy()


JPEG_QUALITY = (60, 96)
"""Range of the quality of pictures that go through JPEG."""
SOFTNESS = (0.2, 3.0)
"""Range of the standard deviation in pixels of what a lens out of focus does to light."""


def soften(pictures: Tensor, rng: Generator, curve: Curve) -> Tensor:
    """Blur pictures [N, 3, H, W] as one lens a little out of focus does: a Gaussian of light."""
    light = smooth(to_linear(pictures, curve).flatten(0, 1), rng.uniform(*SOFTNESS))
    return to_encoded(light.view_as(pictures), curve)


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


def end_with_parent() -> None:
    """End this process when the one that started it by `multiprocessing` has ended.

    What is killed cannot stop its workers: those of a pool would wait for work for ever, and one
    that is at work would go on writing beside the run that takes over.
    """
    Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
