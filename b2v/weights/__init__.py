"""Weights: cards, files, the order in which they are looked for, downloads, conversions.

A model has a card, `<model>.json`, and one safetensors file for each of its networks. This
package alone uses safetensors and huggingface_hub; the latter is imported only when something
must be downloaded.
"""

from b2v.weights.averaging import average
from b2v.weights.cards import Card, CardNetwork, card_entry, file_name, read_card, write_card
from b2v.weights.files import Header, Network, inspect, load_network, save_network, sha256_of
from b2v.weights.hub import Progress
from b2v.weights.import_maxim import import_maxim
from b2v.weights.importer import import_released
from b2v.weights.inventory import (
    FileCheck,
    ModelInfo,
    download,
    list_models,
    path_of,
    verify,
)
from b2v.weights.places import cache_dir, shipped_dir
from b2v.weights.publish import publish, stage
from b2v.weights.resolve import LoadedModel, LoadedVideoModel, load_model, load_video_model
from b2v.weights.storage import downloaded, remove

__all__ = [
    "Card",
    "CardNetwork",
    "FileCheck",
    "Header",
    "LoadedModel",
    "LoadedVideoModel",
    "ModelInfo",
    "Network",
    "Progress",
    "average",
    "cache_dir",
    "card_entry",
    "download",
    "downloaded",
    "file_name",
    "import_maxim",
    "import_released",
    "inspect",
    "list_models",
    "load_model",
    "load_network",
    "load_video_model",
    "path_of",
    "publish",
    "read_card",
    "remove",
    "save_network",
    "sha256_of",
    "shipped_dir",
    "stage",
    "verify",
    "write_card",
]
