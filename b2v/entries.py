"""Whose outputs are scored: networks from names and paths, each under a name of its own."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from b2v.errors import UsageError
from b2v.inference.videos import load_line
from b2v.models import MAXIM_STAGES, PRIOR, ROLES, VIDEO, needed_roles
from b2v.weights import inspect, load_model, load_network
from b2v.weights.resolve import file_of, find_model

MIDDLE = ROLES[0]
Protocol = Literal["seven", "middle", "video"]
"""What is scored: all frames of a photo, its middle one alone, or the frames of a video."""


@dataclass(frozen=True)
class Entry:
    """A network to be scored, fp32 on the CPU: for `seven` and `video` a whole model."""

    name: str
    net: nn.Module
    protocol: Protocol


def open_entries(
    model: str,
    weights: Sequence[Path],
    protocol: Protocol | None = None,
    *,
    videos: bool = False,
) -> list[Entry]:
    """Load what is to be compared.

    Args:
        model: name of a model.
        weights: where to take its weights from, each an entry; none takes the model's own.
        protocol: seven or middle for photos; None is seven where there are networks for it.
        videos: a model for photos is to restore videos, frame by frame, if it can.

    Returns:
        The entries, all of one protocol. Those of equal names are called by their paths.

    Raises:
        UsageError: some are for photos and some for video, or give no middle frame.
        WeightsError: there are no such weights, or they are not what they should be.

    """
    places: Sequence[Path | None] = weights or (None,)
    kinds = {place: _kind(model, place, protocol, videos) for place in places}
    if len(set(kinds.values())) > 1:
        named = ", ".join(f"{place}: {kind}" for place, kind in kinds.items())
        raise UsageError(f"these cannot be compared with each other ({named}); score them apart")
    entries = [_open(model, place, kinds[place]) for place in places]
    named_so = Counter(entry.name for entry in entries)
    return [
        Entry(str(place), e.net, e.protocol) if named_so[e.name] > 1 and place is not None else e
        for place, e in zip(places, entries, strict=True)
    ]


def _kind(model: str, place: Path | None, protocol: Protocol | None, videos: bool) -> Protocol:
    """Tell what a model is scored on."""
    priors = {PRIOR, MAXIM_STAGES[0]} if videos else set()
    if place is not None and place.is_file() and place.suffix != ".json":
        if inspect(place).role in {VIDEO, *priors}:
            return _video(str(place), protocol)
        return protocol or "seven"
    networks = find_model(model, weights=place).card.networks
    if needed_roles(networks) == (VIDEO,) or priors & {*networks}:
        return _video(model, protocol)
    return protocol or ("middle" if set(networks) == {MIDDLE} else "seven")


def _video(name: str, protocol: Protocol | None) -> Protocol:
    if protocol is not None:
        raise UsageError(f"--protocol is for photos, and {name} is for video")
    return "video"


def _open(model: str, place: Path | None, protocol: Protocol) -> Entry:
    if protocol == "video":
        video = load_line(model, weights=place)
        return Entry(video.name, video.net, protocol)
    if protocol == "middle":
        return _middle_net(model, place)
    loaded = load_model(model, weights=place)
    return Entry(loaded.name, loaded.net, protocol)


def _middle_net(model: str, place: Path | None) -> Entry:
    """Load what gives the middle frame alone: a prior, or the middle net of a cascade.

    The latter is of the model's files, or a file of its own.
    """
    if place is not None and place.is_file() and place.suffix != ".json":
        network = load_network(place)
        if network.role in (PRIOR, *MAXIM_STAGES):
            return _prior(model, place)
        if network.role != MIDDLE:
            raise UsageError(f"{place} is the {network.role} network and gives no middle frame")
        return Entry(place.stem, network.module, "middle")
    found = find_model(model, weights=place)
    if {PRIOR, MAXIM_STAGES[0]} & {*found.card.networks}:
        return _prior(model, place)
    if MIDDLE not in found.card.networks:
        raise UsageError(f"{found.card.name} has no network for the middle frame alone")
    return Entry(found.card.name, load_network(file_of(found, MIDDLE)).module, "middle")


def _prior(model: str, place: Path | None) -> Entry:
    loaded = load_model(model, weights=place)
    return Entry(loaded.name, loaded.net, "middle")
