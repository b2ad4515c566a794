"""Scores of a model on windows whose sharp frames are known.

PSNR is over RGB in [0, 1] with outputs clamped but not rounded, the mean of the values of
single pictures; SSIM has a Gaussian window of 11 x 11 pixels, sigma 1.5. The order of time in
a blurry picture is unknown, so beside the plain scores stand those of the better of both
orders, chosen once a sample for the whole sequence ("p", as in HyperCUT, CVPR 2023). Doing
nothing, the blurry picture against every frame, is always scored too.

Where a net gives the middle frame alone, or the truth has no other, that frame alone is scored.

Videos are made blurry first: light is averaged over a shutter (`b2v.data.exposure.Shutter`, gamma
2.2), the blurry video goes through `b2v.inference.videos.Deblurrer`, and blurry and restored
frames are compared with the sharp centre frames. Scores are the mean of a clip's frames; a set is
the mean of its clips. Memory does not grow with the video.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from b2v.data.exposure import Shutter, expose_video
from b2v.data.footage import Sample, are_of_a_video, holds_windows
from b2v.data.sources import VIDEOS, frame_files, pictures_in, visible
from b2v.defaults import PHOTO_MODEL
from b2v.errors import DatasetError, UsageError
from b2v.frames import FRAMES, MIDDLE, check_frame
from b2v.inference.images import restore
from b2v.inference.pyramid import sharpen
from b2v.inference.runtime import Runtime, memory_for, run
from b2v.inference.videos import Deblurrer, load_line
from b2v.media.drawing import strip
from b2v.media.images import read_photo
from b2v.media.video_reader import open_video
from b2v.metrics import MAX_DB, Perceptual, psnr, reblur, shifted_psnr
from b2v.models import MAXIM_STAGES, PRIOR, ROLES, VIDEO, Extractor, Prior
from b2v.report import Extremes
from b2v.weights.checkpoints import inspect, load_network
from b2v.weights.store import file_of, find_model, load_model

MIDDLE_ROLE = ROLES[0]
SHOWN = ("blurry", "restored", "sharp")
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
    """Load what is to be compared, all of one protocol; of equal names, by their paths.

    Args:
        model: name of a model.
        weights: where to take its weights from, each an entry; none takes the model's own.
        protocol: seven or middle for photos; None is seven where there are networks for it.
        videos: a model for photos is to restore videos, frame by frame, if it can.

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
    """Tell what a model, or one network of it in a file, is scored on."""
    alone = place if place and place.is_file() and place.suffix != ".json" else None
    card = None if alone else find_model(model, weights=place).card
    roles = {*card.networks} if card else {inspect(alone).role} if alone else set()
    if VIDEO in roles or (videos and roles & {PRIOR, MAXIM_STAGES[0]}):
        if protocol is not None:
            raise UsageError(f"--protocol is for photos, and {alone or model} is for video")
        return "video"
    return protocol or ("middle" if card and roles == {MIDDLE_ROLE} else "seven")


def _open(model: str, place: Path | None, protocol: Protocol) -> Entry:
    if protocol == "middle" and (alone := _middle_net(model, place)):
        return alone
    found = (load_line if protocol == "video" else load_model)(model, weights=place)
    return Entry(found.name, found.net, protocol)


def _middle_net(model: str, place: Path | None) -> Entry | None:
    """Load the middle net of a cascade, of its files or a file of its own; None of a prior."""
    if place is not None and place.is_file() and place.suffix != ".json":
        network = load_network(place)
        if network.role in (PRIOR, *MAXIM_STAGES):
            return None
        if network.role != MIDDLE_ROLE:
            raise UsageError(f"{place} is the {network.role} network and gives no middle frame")
        return Entry(place.stem, network.module, "middle")
    found = find_model(model, weights=place)
    if {PRIOR, MAXIM_STAGES[0]} & {*found.card.networks}:
        return None
    if MIDDLE_ROLE not in found.card.networks:
        raise UsageError(f"{found.card.name} has no network for the middle frame alone")
    return Entry(found.card.name, load_network(file_of(found, MIDDLE_ROLE)).module, "middle")


@dataclass(frozen=True)
class Score:
    """Scores of one sample; dB where nothing else is said. Of n frames, seven or the middle one."""

    name: str
    psnr: Tensor  # [n] in the order as given
    psnr_p: Tensor  # [n] in the better order
    nothing: Tensor  # [n] of the blurry picture itself
    ssim_middle: float
    nothing_ssim: float
    shifted_middle: float
    """Of the middle frame, each tile where it fits best within two pixels."""
    nothing_shifted: float
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
    middle: Callable[[Sample], Tensor] | None = None,
    lpips: Perceptual | None = None,
    strips: Extremes | None = None,
) -> Iterator[Score]:
    """Restore and score one sample after the other; `net` lies on the runtime's device.

    Args:
        net: model that gives seven frames.
        samples: by `b2v.data.footage.read_samples`.
        runtime: device and precision.
        align: as of `restore`.
        middle_net: `net` gives the middle frame alone.
        middle: gives the middle frame that a cascade is to take instead of its own, [3, H, W].
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
            given = None if middle is None else middle(sample)
            found = restore(seven, sample.blurry, runtime, middle=given, align=align)
            restored = found.frames
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
    with memory_for(height, width, "photo"):
        if isinstance(net, Prior):
            middle = sharpen(net, blurry, runtime)[0]
        else:
            middle = run(net, [blurry], cast("int", net.multiple), runtime)
    return middle.clamp(0, 1)[None]


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
        shifted_middle=shifted_psnr(restored[middle], sharp[middle]),
        nothing_shifted=shifted_psnr(blurry, sharp[middle]),
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
    middle = {
        "middle": plain[centre],
        "shifted_middle": mean("shifted_middle"),
        "ssim_middle": mean("ssim_middle"),
    }
    undone: dict[str, Any] = {
        "middle": nothing[centre],
        "shifted_middle": mean("nothing_shifted"),
    }
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
    """Make a line of a table of the scores of each sample, with all its frames."""
    alike = [f.name for f in fields(Score)[4:]]
    return [
        {
            **{"set": name, "model": model, "sample": s.name},
            **_by_frame("psnr", s.psnr),
            **_by_frame("p", s.psnr_p),
            **_by_frame("nothing", s.nothing),
            **{key: getattr(s, key) for key in alike},
        }
        for s in scores
    ]


def _by_frame(name: str, values: Tensor) -> dict[str, float]:
    first = MIDDLE + 1 - len(values) // 2
    return {f"{name}_{first + i}": value for i, value in enumerate(values.tolist())}


def _strip(sample: Sample, restored: Tensor) -> Tensor:
    """Blurry, frames 1, 4 and 7 in the better order; below, re-blurred, and the sharp ones."""
    if len(restored) == 1:
        return strip([[sample.blurry, restored[0], sample.sharp[0]]], [SHOWN])
    forwards, backwards = (_psnr(x, sample.sharp).mean() for x in (restored, restored.flip(0)))
    shown = restored if forwards >= backwards else restored.flip(0)
    above, below = (x[[0, MIDDLE, FRAMES - 1]] for x in (shown, sample.sharp))
    words = [["blurry", "frame 1", "frame 4", "frame 7"], ["re-blurred", *3 * ["sharp"]]]
    return strip([[sample.blurry, *above], [reblur(restored), *below]], words)


def _psnr(a: Tensor, b: Tensor) -> Tensor:
    return psnr(a, b, max_db=MAX_DB)


def _motion(frames: Tensor) -> float:
    return float((frames[1:] - frames[:-1]).abs().mean())


@dataclass(frozen=True)
class ClipScore:
    """Scores of one video, means over its restored frames."""

    name: str
    frames: int  # restored, one for each exposure
    psnr: float
    ssim: float
    nothing_psnr: float  # of the blurry frames themselves
    nothing_ssim: float
    steadiness: float | None
    """Mean absolute difference of neighbouring restored frames over that of the sharp ones; None
    where there is one frame alone, or nothing moves."""
    nothing_steadiness: float | None  # of the blurry frames


def find_videos(path: Path) -> list[Path]:
    """List the videos of a folder, sorted by name, or the one that is named.

    A video is a file, or a folder of its frames (`<sequence>/000001.png`, as of GOPRO_Large_all).

    Raises DatasetError where nothing is there, or the folder holds no videos.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetError(f"{path}: no such file or folder")
    if found := _videos_in(path):
        return found
    raise DatasetError(
        f"{path}: holds no videos ({', '.join(sorted(VIDEOS))}), which a model for video is"
        f" scored on; take -m {PHOTO_MODEL} for windows of photos"
    )


def has_videos(path: Path) -> bool:
    """Tell whether a path is that of a video, or of a folder that holds some."""
    return is_video(path) or (path.is_dir() and bool(_videos_in(path)))


def is_video(path: Path) -> bool:
    """Tell by its name whether a file is a video; hidden ones are not."""
    return path.suffix.lower() in VIDEOS and path.is_file() and not path.name.startswith(".")


def _videos_in(folder: Path) -> list[Path]:
    """List video files in a folder, else folders of frames unless it is a set of windows."""
    inside = visible(folder)
    if (found := [p for p in inside if is_video(p)]) or holds_windows(folder):
        return found
    folders = [folder, *(p for p in inside if p.is_dir())]
    return [p for p in folders if are_of_a_video(list(pictures_in(p).values()))]


def _sharp_frames(path: Path) -> Iterator[Tensor]:
    """Read a video file or a folder of frames, frame by frame."""
    if path.is_dir():
        yield from (read_photo(file).on_white() for _, file in frame_files(path))
        return
    with open_video(path) as reader:
        for frame in reader:
            yield frame.pixels


def score_video(
    deblurrer: Deblurrer, path: Path, shutter: Shutter, strips: Extremes | None = None
) -> ClipScore:
    """Blur, restore and score one sharp video; `strips` are given all frames.

    Raises DatasetError where it is too short for one exposure; B2VError where a file is no video,
    breaks off, or is too small for the network.
    """
    deblurrer.reset()
    waiting: deque[tuple[Tensor, Tensor]] = deque()  # what the network has not restored yet
    last: tuple[Tensor, ...] | None = None
    sums, moves = torch.zeros(4, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    frames = read = 0

    def sharp_frames() -> Iterator[Tensor]:
        nonlocal read
        for frame in _sharp_frames(path):
            read += 1
            yield frame

    def blurry_frames() -> Iterator[Tensor]:
        for blurry, sharp in expose_video(sharp_frames(), shutter):
            waiting.append((blurry, sharp))
            yield blurry

    for restored in deblurrer.run(blurry_frames()):
        shown = restored, *waiting.popleft()
        frames += 1
        scores = (*_compare(shown[0], shown[2]), *_compare(shown[1], shown[2]))
        sums += torch.tensor(scores)
        if last is not None:
            pairs = zip(shown, last, strict=True)
            moves += torch.tensor([float((now - then).abs().mean()) for now, then in pairs])
        last = shown
        if strips is not None:
            name = f"{path.stem}-tau{shutter.tau}-{frames:06d}"
            row = [[shown[1], shown[0], shown[2]]]
            strips.offer(scores[0] - scores[2], name, partial(strip, row, [SHOWN]))
    if not frames:
        raise DatasetError(
            f"{path}: has {read} frames; one exposure of tau {shutter.tau} needs {shutter.tau}"
        )
    steady: list[float | None] = [float(x / moves[2]) if moves[2] > 0 else None for x in moves[:2]]
    return ClipScore(path.name, frames, *(sums / frames).tolist(), *steady)


def _compare(frame: Tensor, sharp: Tensor) -> tuple[float, float]:
    return float(_psnr(frame, sharp)), ssim(frame, sharp)


def summarize_videos(
    scores: list[ClipScore], name: str, model: str, shutter: Shutter
) -> dict[str, Any]:
    """Average the scores of a set over its clips into plain values that JSON can hold."""

    def mean(key: str) -> float | None:
        values = [v for v in (getattr(s, key) for s in scores) if v is not None]
        return sum(values) / len(values) if values else None

    clips = [
        {"name": s.name, "frames": s.frames, **_beside_nothing(partial(getattr, s))} for s in scores
    ]
    about = {
        "set": name,
        "model": model,
        **asdict(shutter),
        "frames": sum(s.frames for s in scores),
    }
    return {**about, **_beside_nothing(mean), "clips": clips}


def _beside_nothing(value: Callable[[str], float | None]) -> dict[str, Any]:
    nothing = {key: value(f"nothing_{key}") for key in ("psnr", "ssim", "steadiness")}
    kept = {key: value(key) for key in ("psnr", "ssim")}
    return {**kept, "nothing": nothing, "steadiness": value("steadiness")}


def records_of_videos(
    scores: list[ClipScore], name: str, model: str, shutter: Shutter
) -> list[dict[str, Any]]:
    """Make a line of a table of the scores of each clip."""
    about = {"set": name, "model": model, **asdict(shutter)}
    return [
        {**about, "clip": s.name, **{k: v for k, v in vars(s).items() if k != "name"}}
        for s in scores
    ]
