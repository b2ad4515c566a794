"""Weights: cards, files, the order in which they are looked for, downloads, conversions.

A model has a card, `<model>.json`, and one safetensors file for each of its networks. This
package alone uses safetensors and huggingface_hub; the latter is imported only when something
must be downloaded.
"""

from b2v.files import cache_dir, shipped_dir
from b2v.weights.cards import Card, CardNetwork, card_entry, file_name, read_card, write_card
from b2v.weights.checkpoints import Header, Network, inspect, load_network, save_network, sha256_of
from b2v.weights.imports import import_maxim, import_released
from b2v.weights.store import (
    FileCheck,
    Loaded,
    LoadedModel,
    LoadedVideoModel,
    ModelInfo,
    download,
    list_models,
    load_model,
    load_video_model,
    path_of,
    verify,
)

__all__ = [
    "Card",
    "CardNetwork",
    "FileCheck",
    "Header",
    "Loaded",
    "LoadedModel",
    "LoadedVideoModel",
    "ModelInfo",
    "Network",
    "cache_dir",
    "card_entry",
    "download",
    "file_name",
    "import_maxim",
    "import_released",
    "inspect",
    "list_models",
    "load_model",
    "load_network",
    "load_video_model",
    "path_of",
    "read_card",
    "save_network",
    "sha256_of",
    "shipped_dir",
    "verify",
    "write_card",
]
