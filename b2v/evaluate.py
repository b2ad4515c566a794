"""Scores of a model on windows whose sharp frames are known.

PSNR is over RGB in [0, 1] with outputs clamped but not rounded, the mean of the values of
single pictures; SSIM has a Gaussian window of 11 x 11 pixels, sigma 1.5. The order of time in
a blurry picture is unknown, so beside the plain scores stand those of the better of both
orders, chosen once a sample for the whole sequence ("p", as in HyperCUT, CVPR 2023). Doing
nothing, the blurry picture against every frame, is always scored too.

Where a net gives the middle frame alone, or the truth has no other, that frame alone is scored.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from b2v.errors import WeightsError
from b2v.frames import FRAMES, MIDDLE, check_frame, crop_back, pad_to_multiple
from b2v.inference.images import restore
from b2v.inference.pyramid import sharpen
from b2v.inference.runtime import Runtime, memory_for
from b2v.metrics import MAX_DB, Perceptual, psnr, reblur
from b2v.models import Extractor, Prior
from b2v.report import Extremes, in_a_grid
from b2v.windows import Sample, Window, find_windows


@dataclass(frozen=True)
class Score:
    """Scores of one sample; dB where nothing else is said. Of n frames, seven or the middle one."""

    name: str
    psnr: Tensor  # [n] in the order as given
    psnr_p: Tensor  # [n] in the better order
    nothing: Tensor  # [n] of the blurry picture itself
    ssim_middle: float
    nothing_ssim: float
    reblur: float | None = None
    """The seven frames' average in light against the blurry picture."""
    motion: float | None = None
    """Mean absolute difference of neighbouring frames, restored over true."""
    lpips_middle: float | None = None
    nothing_lpips: float | None = None

    @property
    def gain(self) -> float:
        """PSNR in the better order over doing nothing, mean of the frames."""
        return float(self.psnr_p.mean() - self.nothing.mean())


def evaluate(
    net: nn.Module,
    samples: Iterable[Sample],
    runtime: Runtime,
    *,
    align: bool = True,
    middle_net: bool = False,
    lpips: Perceptual | None = None,
    strips: Extremes | None = None,
) -> Iterator[Score]:
    """Restore and score one sample after the other; `net` lies on the runtime's device.

    Args:
        net: model that gives seven frames.
        samples: by `b2v.windows.read_samples`.
        runtime: device and precision.
        align: as of `restore`.
        middle_net: `net` gives the middle frame alone.
        lpips: perceptual distance that middle frames are measured with as well.
        strips: is given the pictures of each sample.

    Raises:
        B2VError: a picture cannot be read, or is too small for the networks.

    """
    for sample in samples:
        if middle_net:
            restored = restore_middle(net, sample.blurry, runtime)
        else:
            seven = cast("Extractor", net)
            restored = restore(seven, sample.blurry, runtime, align=align)
        if len(restored) != len(sample.sharp):
            sample, restored = sample.middle_only(), restored[len(restored) // 2][None]
        result = score(sample.name, sample.blurry, restored, sample.sharp, lpips)
        if strips is not None:
            strips.offer(result.gain, sample.name, partial(_strip, sample, restored))
        yield result


@torch.inference_mode()
def restore_middle(net: nn.Module, blurry: Tensor, runtime: Runtime) -> Tensor:
    """Estimate the middle frame alone, by a prior or a net that takes the picture [3, H, W] whole.

    Returns [1, 3, H, W] in [0, 1] on the CPU; raises as `restore`.
    """
    check_frame(blurry, "photo")
    height, width = blurry.shape[1:]
    if isinstance(net, Prior):
        with memory_for(height, width, "photo"):
            return sharpen(net, blurry, runtime)[0].clamp(0, 1)[None]
    padded = pad_to_multiple(blurry[None], cast("int", net.multiple)).to(runtime.device)
    with memory_for(height, width, "photo"), runtime.autocast():
        middle = net(padded.contiguous(memory_format=torch.channels_last)).float()
    if not middle.isfinite().all():
        if runtime.precision == "fp32":
            raise WeightsError("the network gives values that are not finite; use other weights")
        return restore_middle(net, blurry, Runtime(runtime.device, "fp32"))
    return crop_back(middle, height, width).clamp(0, 1).cpu()


def score(
    name: str, blurry: Tensor, restored: Tensor, sharp: Tensor, lpips: Perceptual | None = None
) -> Score:
    """Score restored frames [n, 3, H, W] against sharp ones and the blurry picture [3, H, W]."""
    plain, backwards = _psnr(restored, sharp), _psnr(restored.flip(0), sharp)
    seven, middle = len(sharp) == FRAMES, len(sharp) // 2
    return Score(
        name=name,
        psnr=plain,
        psnr_p=plain if plain.mean() >= backwards.mean() else backwards,
        nothing=_psnr(blurry, sharp),
        ssim_middle=ssim(restored[middle], sharp[middle]),
        nothing_ssim=ssim(blurry, sharp[middle]),
        reblur=float(_psnr(reblur(restored), blurry)) if seven else None,
        motion=_motion(restored) / max(_motion(sharp), 1e-9) if seven else None,
        lpips_middle=lpips(restored[middle], sharp[middle]) if lpips else None,
        nothing_lpips=lpips(blurry, sharp[middle]) if lpips else None,
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
    """Average the scores of a set into plain values that JSON can hold.

    Of the middle frame alone there is `middle`, `ssim_middle` and the same of doing nothing;
    LPIPS is there if it was measured.
    """

    def mean(key: str) -> float:
        return sum(getattr(s, key) for s in scores) / len(scores)

    plain, better, nothing = (
        torch.stack([getattr(s, key) for s in scores]).mean(0).tolist()
        for key in ("psnr", "psnr_p", "nothing")
    )
    seven, centre = len(plain) == FRAMES, len(plain) // 2
    about = {"set": name, "samples": len(scores), "model": model}
    middle = {"middle": plain[centre], "ssim_middle": mean("ssim_middle")}
    undone: dict[str, Any] = {"middle": nothing[centre]}
    if seven:
        about |= {"psnr": plain, "psnr_p": better, "mean_p": sum(better) / FRAMES}
        middle |= {"reblur": mean("reblur"), "motion": mean("motion")}
        undone = {"psnr": nothing, "mean": sum(nothing) / FRAMES, **undone}
    else:
        undone["ssim_middle"] = mean("nothing_ssim")
    if scores[0].lpips_middle is not None:
        middle["lpips_middle"] = mean("lpips_middle")
        undone["lpips_middle"] = mean("nothing_lpips")
    return {**about, **middle, "nothing": undone}


def records(scores: list[Score], name: str, model: str) -> list[dict[str, Any]]:
    """Put the scores of each sample into a line of a table, all frames beside each other."""
    return [
        {
            "set": name,
            "model": model,
            "sample": s.name,
            **_by_frame("psnr", s.psnr),
            **_by_frame("p", s.psnr_p),
            **_by_frame("nothing", s.nothing),
            "ssim_middle": s.ssim_middle,
            "nothing_ssim": s.nothing_ssim,
            "reblur": s.reblur,
            "motion": s.motion,
            "lpips_middle": s.lpips_middle,
            "nothing_lpips": s.nothing_lpips,
        }
        for s in scores
    ]


def _by_frame(name: str, values: Tensor) -> dict[str, float]:
    first = MIDDLE + 1 - len(values) // 2
    return {f"{name}_{first + i}": value for i, value in enumerate(values.tolist())}


def _strip(sample: Sample, restored: Tensor) -> Tensor:
    """Blurry, frames 1, 4 and 7 in the better order; below, re-blurred, and the sharp ones."""
    if len(restored) == 1:
        return in_a_grid([[sample.blurry, restored[0], sample.sharp[0]]])
    forwards, backwards = (_psnr(x, sample.sharp).mean() for x in (restored, restored.flip(0)))
    shown = restored if forwards >= backwards else restored.flip(0)
    above, below = (x[[0, MIDDLE, FRAMES - 1]] for x in (shown, sample.sharp))
    return in_a_grid([[sample.blurry, *above], [reblur(restored), *below]])


def _psnr(a: Tensor, b: Tensor) -> Tensor:
    return psnr(a, b, max_db=MAX_DB)


def _motion(frames: Tensor) -> float:
    return float((frames[1:] - frames[:-1]).abs().mean())


__all__ = [
    "Score",
    "Window",
    "evaluate",
    "find_windows",
    "records",
    "restore_middle",
    "score",
    "ssim",
    "summarize",
]
