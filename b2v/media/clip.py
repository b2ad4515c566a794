"""Clips to and from files: a video, GIF, WebP, or a folder of PNG or TIFF, as the name says.

A clip is [T, 3, H, W], RGB, sRGB-encoded, in [0, 1]. `b2v.media.coding` says how it is coded.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, stack

from b2v.errors import B2VError, MediaError, ShapeError, UsageError
from b2v.locks import may_never_end
from b2v.media.coding import (
    CODINGS,
    UNTOLD_FPS,
    VIDEOS,
    decode,
    encode_animation,
    encode_video,
    encoding_for,
)
from b2v.media.limits import check_size
from b2v.media.photo import one_line, read_photo, replacing
from b2v.media.stamp import stamp_file
from b2v.media.stills import as_still, to_codes, to_pixels
from b2v.media.tags import Tags
from b2v.media.target import check_name, check_parent
from b2v.media.writer import Encoding

STILLS = ("png", "tiff")
"""Kinds of pictures that a folder can have."""
FOLDER = ""
"""Stands for a folder of numbered pictures where a suffix is asked for."""
NUMBERED = re.compile(r"\d{6,}\.(png|tiff)")
FOLDER_FPS = UNTOLD_FPS
"""Rate of a clip that is read from pictures, which do not tell any."""
MIN_FPS, MAX_FPS = 0.01, 1000


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames [T, 3, H, W] in [0, 1] and the rate at which they are shown, in frames a second.

    `tags` are what a file is to say of itself; PNG and TIFF have `bits` a colour and the `alpha`
    [1, H, W] of what lies on white. Raises ShapeError for another shape, UsageError for a rate
    that cannot be.
    """

    frames: Tensor
    fps: float
    tags: Tags | None = None
    alpha: Tensor | None = None
    bits: int = 8

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[1] != 3 or not self.frames.numel():
            shape = list(self.frames.shape)
            raise ShapeError(f"clip has shape {shape}; expected [T, 3, H, W] in RGB")
        if not MIN_FPS <= self.fps <= MAX_FPS:
            raise UsageError(f"{self.fps} frames a second; expected {MIN_FPS} to {MAX_FPS}")

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.frames)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        loop: int = 0,
        codec: str | None = None,
        stills: str = "png",
    ) -> Path:
        """Write the kind of file that `path` names, reopen and check it, and return its path.

        `loop` is how often GIF and WebP are played, 0 for ever; `codec` is for videos, H.264 or
        what else is usual without; `stills` are the pictures of a folder, png or tiff.
        Raises as `check_target` and `check_coding` do, and MediaError when the disk or the encoder
        refuses; then nothing is left under the name.
        """
        if loop < 0:
            raise UsageError(f"{loop} loops are not possible; use 0 for ever, or how many times")
        if stills not in STILLS:
            raise UsageError(f"{stills}: not a kind of pictures for a folder; use png or tiff")
        target = check_target(path, overwrite=overwrite, fps=self.fps, codec=codec)
        kind, height, width = _kind(path), *self.frames.shape[2:]
        encoding = check_coding(path, height, width, codec)
        with replacing(target, overwrite=overwrite or target.is_dir()) as part:
            if kind == FOLDER:
                part.mkdir()
                for number, frame in enumerate(self.frames, 1):
                    data = as_still(frame, self.alpha, self.bits, stills.upper())
                    (part / f"{number:06d}.{stills}").write_bytes(data)
            elif kind in VIDEOS:
                encode_video(self.frames, self.fps, part, encoding, self.tags, target=target)
            else:
                encode_animation(self.frames, self.fps, part, kind, loop, self.tags)
            stamp_file(part, self.tags)
            _verify(self, part, kind, target)
        return target


def check_target(
    path: str | os.PathLike[str],
    *,
    overwrite: bool,
    inputs: Iterable[str | os.PathLike[str]] = (),
    fps: float | None = None,
    codec: str | None = None,
) -> Path:
    """Check, before any work is done, that a clip can be saved at `path`; return it as a Path.

    Raises UsageError when the suffix is unknown, something is there that may not be replaced
    (ever: one of `inputs`, or a folder that holds more than a clip), or the kind of file
    cannot show `fps` or hold `codec`; MediaError when its folder is missing or cannot be
    written to.
    """
    target = Path(path)
    check_name(target)
    kind = _kind(path)
    if kind not in (FOLDER, *VIDEOS, *CODINGS):
        known = ", ".join([*VIDEOS, *CODINGS])
        more = "or none for a folder of PNG or, with --format tiff, TIFF"
        raise UsageError(f"{target}: unknown suffix; use {known}, {more}")
    if codec is not None:
        encoding_for(target, kind, codec)
    if kind in CODINGS and fps is not None and fps > CODINGS[kind].max_fps:
        most = f"players show at most {CODINGS[kind].max_fps:g} frames a second of {kind}"
        raise UsageError(f"{target}: {most}; lower --fps or write .mp4")
    for source in map(Path, inputs if target.exists() else ()):
        if source.exists() and any(map(target.samefile, (source, source.resolve().parent))):
            raise UsageError(f"{target}: is or holds the input {source}; give another name")
    check_parent(target)
    _check_replaceable(target, kind, overwrite)
    return target


def check_coding(
    path: str | os.PathLike[str], height: int, width: int, codec: str | None = None
) -> Encoding:
    """Say how a clip of a size is coded at `path`; raises UsageError where it cannot be."""
    check_size(path, height, width)
    encoding = encoding_for(Path(path), _kind(path), codec)
    if _kind(path) in VIDEOS:
        try:
            encoding.for_size(width, height)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
    return encoding


def _check_replaceable(target: Path, kind: str, overwrite: bool) -> None:
    """Check that what is at `target`, if anything, may be replaced by a clip of `kind`."""
    if not os.path.lexists(target):
        return
    if may_never_end(target):
        raise UsageError(f"{target}: is a pipe or a device, no file; give another name")
    if target.is_dir() != (kind == FOLDER):
        what = "a folder" if target.is_dir() else "a file"
        raise UsageError(f"{target}: exists already and is {what}; give another name")
    inside = [entry.name for entry in target.iterdir()] if target.is_dir() else [""]
    if inside and not overwrite:
        raise UsageError(f"{target}: exists already; give another name or --overwrite")
    if target.is_dir() and not all(map(NUMBERED.fullmatch, inside)):
        raise UsageError(f"{target}: holds more than a clip and is not replaced; name another")


def read_clip(path: str | os.PathLike[str]) -> Clip:
    """Read a video, GIF, WebP or a folder of pictures (at `FOLDER_FPS`) whole into memory.

    The rate is that of the whole: frames by duration. Raises MediaError when it cannot be read.
    """
    target, kind = Path(path), FOLDER if Path(path).is_dir() else _kind(path)
    if kind not in (FOLDER, *VIDEOS, *CODINGS):
        known = ", ".join([*VIDEOS, *CODINGS])
        raise MediaError(f"{target}: not a clip; expected {known} or a folder")
    if not target.exists():
        raise MediaError(f"{target}: no such file or folder; check the name")
    try:
        shown = list(_decode(target, kind))
        frames = stack([to_pixels(codes) for codes, _ in shown])
    except B2VError:
        raise
    except Exception as error:  # decoders raise errors of any type on damaged data
        raise MediaError(f"{target}: truncated or damaged clip ({one_line(error)})") from error
    return Clip(frames, len(shown) / math.fsum(seconds for _, seconds in shown))


def _kind(path: str | os.PathLike[str]) -> str:
    """Lower-case suffix of `path`, or `FOLDER`."""
    text, suffix = os.fspath(path), Path(path).suffix.lower()
    known = suffix in VIDEOS or suffix in CODINGS
    if text.endswith(("/", os.sep)) or (not known and Path(path).is_dir()):
        return FOLDER
    return suffix


def _decode(path: Path, kind: str) -> Iterator[tuple[np.ndarray, float]]:
    """Yield each frame of the file or folder as [H, W, 3] uint8, with its seconds."""
    if kind != FOLDER:
        yield from decode(path, kind)
        return
    for name in sorted(path.glob("[!.]*")):
        yield to_codes(read_photo(name).pixels), 1 / FOLDER_FPS


def _verify(clip: Clip, part: Path, kind: str, target: Path) -> None:
    """Check by reopening that `part` holds as many frames as `clip`, of its size."""
    expected = [(*clip.frames.shape[2:], 3)] * len(clip)
    try:
        found = [codes.shape for codes, _ in _decode(part, kind)]
    except (ValueError, EOFError, SyntaxError) as error:
        raise MediaError(f"{target}: was not written whole ({one_line(error)})") from error
    if found != expected:
        wrong = f"{len(found)} frames of {sorted(set(found))} instead of {len(clip)}"
        raise MediaError(f"{target}: reading it back gave {wrong}; write another kind of file")
