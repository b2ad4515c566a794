"""What `b2v extract` makes of the seven frames of a photo: files, and a report."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from b2v.cli import options
from b2v.cli.batches import Result, tell
from b2v.cli.showing import Showing

if TYPE_CHECKING:
    from torch import Tensor

MAX_VIDEO_LOOPS = 20
"""A video cannot say how often it is to be played, so it holds its frames as often."""
VIDEOS = (".mp4", ".mov", ".mkv", ".webm")
FILES = (*VIDEOS, ".gif", ".webp")
"""What `b2v.media.coding` writes, without the second that it takes to import torch."""


class Order(str, Enum):
    """Direction of time, which a blurry photo does not tell."""

    FORWARD = "forward"
    REVERSE = "reverse"
    BOOMERANG = "boomerang"


class Format(str, Enum):
    """Kinds of clip, of which PNG and TIFF are folders of pictures, and of one picture."""

    MP4 = "mp4"
    MOV = "mov"
    MKV = "mkv"
    WEBM = "webm"
    GIF = "gif"
    WEBP = "webp"
    PNG = "png"
    TIFF = "tiff"
    JPG = "jpg"
    AVIF = "avif"


@dataclass
class PhotoResult(Result):
    """What came of a photo; `size` is its width and height."""

    size: list[int] = field(default_factory=list)
    reblur_db: float | None = None
    exposure: dict[str, float] | None = None


@dataclass(frozen=True)
class Job:
    """What is asked for, the same for every input; `folder` is to be made for the outputs.

    `stills` are the pictures of a folder of frames; `still` is one picture instead of a clip.
    """

    fps: float
    order: Order
    loop: int
    middle: "Tensor | None"
    overwrite: bool
    folder: Path | None
    frames: int = 7
    showing: Showing = field(default_factory=Showing)
    max_memory: float | None = None
    codec: str | None = None
    stills: str = "png"
    still: bool = False
    strength: float = 1.0
    preview: int | None = None
    quiet: bool = False
    verbose: bool = False


def arrange(frames: "Tensor", order: Order) -> "Tensor":
    """Put frames into the order they are played in; of seven, a boomerang has twelve."""
    import torch

    if order is Order.REVERSE:
        return frames.flip(0)
    if order is Order.BOOMERANG:
        return torch.cat([frames, frames[1:-1].flip(0)])
    return frames


def is_video(result: PhotoResult) -> bool:
    """Tell whether the clip is played as video, not as an animated picture or a folder."""
    return result.output.lower().endswith(VIDEOS)


def show(result: PhotoResult, *, as_json: bool, quiet: bool, verbose: bool = False) -> None:
    """Print the path, or the JSON object, of one result; say how it went, `verbose` by what."""
    if as_json:
        typer.echo(result.as_json())
    elif result.ok:
        typer.echo(result.output)
    if result.error:
        options.note(f"b2v: {result.error}")
    elif not as_json and result.model:
        one = result.frames == 1
        said = (
            f"{options.one_line(result.input)}: "
            f"{'one picture' if one else f'{result.frames} frames'} of "
            f"{result.size[0]}x{result.size[1]} in {result.seconds:.1f} s"
        )
        if verbose:
            said += (
                f" ({result.device} {result.precision}, {result.model['name']}); "
                f"{'seven frames' if one else 'they'} explain the photo to "
                f"{result.reblur_db:.1f} dB"
            )
        options.note(said, quiet=quiet)
    if result.model and not result.error:
        tell(result, as_json=as_json, quiet=quiet)
