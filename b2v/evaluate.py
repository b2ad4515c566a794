"""Scores of a model on folders of windows whose seven sharp frames are known.

PSNR is over RGB in [0, 1] with outputs clamped but not rounded, the mean of the values of
single pictures; SSIM has a Gaussian window of 11 x 11 pixels, sigma 1.5. The order of time in
a blurry picture is unknown, so beside the plain scores stand those of the better of both
orders, chosen once a sample for the whole sequence ("p", as in HyperCUT, CVPR 2023). Doing
nothing, the blurry picture against every frame, is always scored too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from b2v.errors import DatasetError
from b2v.frames import FRAMES, MIDDLE
from b2v.inference import restore
from b2v.media import read_photo
from b2v.metrics import psnr, reblur
from b2v.models import Cascade, Unroll
from b2v.runtime import Runtime

PICTURES = (".png", ".jpg", ".jpeg")
MAX_DB = 100.0
"""Stands for equal pictures, whose PSNR is infinite: the mean of a set would be as well."""


@dataclass(frozen=True)
class Window:
    """Files of one sample: a blurry picture and its sharp frames in order of time."""

    name: str
    blurry: Path
    sharp: tuple[Path, ...]


@dataclass(frozen=True)
class Score:
    """Scores of one sample; dB where nothing else is said."""

    name: str
    psnr: Tensor  # [7] in the order as given
    psnr_p: Tensor  # [7] in the better order
    nothing: Tensor  # [7] of the blurry picture itself
    ssim_middle: float
    reblur: float  # the frames' average in light against the blurry picture
    motion: float  # mean absolute difference of neighbouring frames, restored over true


def find_windows(folder: Path) -> list[Window]:
    """List the windows of a folder in GOPRO_7 layout.

    `blur/<sequence>/<centre>.png` is the blurry picture of the seven frames around
    `sharp/<sequence>/<centre>.png`, in `folder` itself or in its split folders; JPEG will do.

    Raises:
        DatasetError: nothing of that layout is there, or frames are missing.

    """
    found = sorted(p for p in folder.glob("**/blur/*/*") if p.suffix.lower() in PICTURES)
    blurred = [p for p in found if not p.name.startswith(".")]
    if not blurred:
        raise DatasetError(
            f"{folder}: no windows found; expected blur/<sequence>/<centre>.png beside "
            "sharp/<sequence>/NNNNNN.png (GOPRO_7 layout)"
        )
    return [_window(folder, path) for path in blurred]


def _window(folder: Path, blurry: Path) -> Window:
    sequence, root = blurry.parent.name, blurry.parents[2]
    if not blurry.stem.isdecimal():
        raise DatasetError(f"{blurry}: not named by the number of its middle frame, as 000004.png")
    centre, digits = int(blurry.stem), len(blurry.stem)
    numbers = range(centre - MIDDLE, centre - MIDDLE + FRAMES)
    sharp = tuple(_frame(root / "sharp" / sequence / f"{n:0{digits}d}", blurry) for n in numbers)
    return Window(str(blurry.parent.relative_to(folder) / blurry.stem), blurry, sharp)


def _frame(stem: Path, blurry: Path) -> Path:
    for suffix in PICTURES:
        if (path := stem.with_suffix(suffix)).exists():
            return path
    raise DatasetError(f"{stem}.png: missing; {blurry} needs the {FRAMES} frames around it")


def evaluate(
    net: Cascade | Unroll, windows: list[Window], runtime: Runtime, *, align: bool = True
) -> Iterator[Score]:
    """Restore and score one window after the other; `net` lies on the runtime's device.

    `align` as of `restore`.

    Raises:
        B2VError: a picture cannot be read, or is too small for the networks.
        DatasetError: the pictures of a window are not of one size.

    """
    for window in windows:
        blurry = read_photo(window.blurry).on_white()
        sharp = [read_photo(path).on_white() for path in window.sharp]
        for path, frame in zip(window.sharp, sharp, strict=True):
            if frame.shape != blurry.shape:
                raise DatasetError(f"{path}: is not of the same size as {window.blurry}")
        restored = restore(net, blurry, runtime, align=align)
        yield score(window.name, blurry, restored, torch.stack(sharp))


def score(name: str, blurry: Tensor, restored: Tensor, sharp: Tensor) -> Score:
    """Score restored frames [7, 3, H, W] against sharp ones and the blurry picture [3, H, W]."""
    plain, backwards = _psnr(restored, sharp), _psnr(restored.flip(0), sharp)
    return Score(
        name=name,
        psnr=plain,
        psnr_p=plain if plain.mean() >= backwards.mean() else backwards,
        nothing=_psnr(blurry, sharp),
        ssim_middle=ssim(restored[MIDDLE], sharp[MIDDLE]),
        reblur=float(_psnr(reblur(restored), blurry)),
        motion=_motion(restored) / max(_motion(sharp), 1e-9),
    )


def ssim(a: Tensor, b: Tensor) -> float:
    """Structural similarity of two pictures [3, H, W] in [0, 1], mean of the colours."""
    return float(
        structural_similarity(  # type: ignore[no-untyped-call]
            a.numpy(),
            b.numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def summarize(scores: list[Score], name: str, model: str) -> dict[str, Any]:
    """Average the scores of a set into plain values that JSON can hold."""
    plain, better, nothing = (
        torch.stack([getattr(s, key) for s in scores]).mean(0).tolist()
        for key in ("psnr", "psnr_p", "nothing")
    )

    def mean(key: str) -> float:
        return sum(getattr(s, key) for s in scores) / len(scores)

    return {
        "set": name,
        "samples": len(scores),
        "model": model,
        "psnr": plain,
        "psnr_p": better,
        "mean_p": sum(better) / FRAMES,
        "middle": plain[MIDDLE],
        "ssim_middle": mean("ssim_middle"),
        "reblur": mean("reblur"),
        "motion": mean("motion"),
        "nothing": {"psnr": nothing, "mean": sum(nothing) / FRAMES, "middle": nothing[MIDDLE]},
    }


def _psnr(a: Tensor, b: Tensor) -> Tensor:
    return psnr(a, b).clamp(max=MAX_DB)


def _motion(frames: Tensor) -> float:
    return float((frames[1:] - frames[:-1]).abs().mean())
