"""VGG16's first layers: where their weights come from and how they are read.

The file is looked for as `vgg16.safetensors` in `B2V_WEIGHTS_DIR`, then in the cache; at last it
is downloaded, 528 MB, from the address below, which is pinned and verified. Only the seven
convolutions up to relu3_3 are read of it. It may have the names of torchvision or of timm, which
are the same there: `features.<n>.weight` and `.bias`.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from b2v.errors import WeightsError
from b2v.weights.hub import Progress, fetch, parse_address
from b2v.weights.places import cache_dir, env_dir

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
