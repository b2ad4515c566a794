"""What a study trains on: a bank for each kind of blur, with the same frames in all of them."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from b2v.bank import is_complete
from b2v.data import Aperture, BankConfig, build_bank
from b2v.journal import Notice
from b2v.recipes import check
from b2v.sequences import SequenceConfig, build_sequences
from b2v.sources import load_sources
from b2v.study.plans import Study

CLIPS, SEQUENCES = 2000, 800
"""Samples to train on unless another number is asked for."""
HELD_OUT = 24
"""Samples to validate on, of other scenes."""

Banks = dict[Aperture, tuple[Path, Path]]
"""Folders for training and validation, by the blur."""


def draw_banks(
    study: Study, data: tuple[Path, ...], folder: Path, clips: int | None
) -> Generator[Notice, None, Banks]:
    """Draw the banks that the rows of a study are trained on, unless they are there.

    Raises as `b2v.data.build_bank`, and UsageError where the rows cannot be trained on them.
    """
    banks: Banks = {}
    todo: list[tuple[int, Any, Path]] = []
    for aperture in dict.fromkeys(row.trained_on for row in study.rows if row.stages):
        place = folder / ("bank" if aperture == "standard" else f"bank-{aperture}")
        banks[aperture] = place / "train", place / "validation"
        for part, count in enumerate((clips or _usual(study), HELD_OUT)):
            plan = _plan(study, aperture, count, part)
            if not is_complete(banks[aperture][part], plan):
                todo.append((part, plan, banks[aperture][part]))
    if todo:
        yield Notice("reading the training media ...")
        sources = load_sources(list(data)).split()
        build: Any = build_sequences if study.protocol == "video" else build_bank
        for part, plan, place in todo:
            for done in build(sources[part], plan, place):
                yield Notice(f"{place}: {done} of {plan.clips} drawn")
    return banks


def _usual(study: Study) -> int:
    return SEQUENCES if study.protocol == "video" else CLIPS


def _plan(study: Study, aperture: Aperture, clips: int, seed: int) -> BankConfig | SequenceConfig:
    """Plan a bank that suits all rows."""
    configs = [config for row in study.rows for config in row.stages]
    if study.protocol == "video":
        usual = SequenceConfig()
        frames = max(usual.frames, *(config.frames for config in configs))
        size = max(usual.size, *(config.crop for config in configs))
        for config in configs:
            check(config, size, frames)
        return replace(usual, clips=clips, seed=seed, frames=frames, size=size)
    photos = BankConfig(clips=clips, seed=seed, aperture=aperture)
    for config in configs:
        check(config, photos.size)
    return photos
