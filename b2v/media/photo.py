"""Photos from files: upright, sRGB, in full precision.

A picture is [3, H, W] float32, RGB, sRGB-encoded, in [0, 1]. Pillow reads; PyAV does where
Pillow would cut 16-bit colour to 8 bits. Every failure names the file in one line.
"""

import io
import math
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor, from_numpy

from b2v.errors import B2VError, MediaError, UsageError
from b2v.locks import alone
from b2v.media.pipe import may_never_end
from b2v.media.stills import to_pixels

MAX_MEGAPIXELS = 400
"""Largest picture that is read; more is a mistake or a decompression bomb."""
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
FLIPS = {2: [-1], 3: [-2, -1], 4: [-2], 6: [-1], 7: [-2, -1], 8: [-2]}
"""Axes to flip for an EXIF orientation, after rows and columns are swapped where it is >= 5."""


@dataclass(frozen=True, eq=False)
class Photo:
    """One picture: `pixels` [3, H, W], RGB, sRGB-encoded, in [0, 1], upright.

    `alpha` is [1, H, W] in [0, 1], None where the picture is opaque; the colours are not
    multiplied by it. `exposure_time` is in seconds, from EXIF, None where it is not told. `bits`
    are those of a colour that it was stored with, 8 or 16; of `pages`, or moments, it is the first.
    """

    pixels: Tensor
    alpha: Tensor | None
    exposure_time: float | None
    path: Path
    bits: int = 8
    pages: int = 1

    def on_white(self) -> Tensor:
        """Lay the pixels [3, H, W] on white where they are not opaque."""
        return self.pixels if self.alpha is None else 1 - (1 - self.pixels) * self.alpha

    def centre(self, side: int) -> "Photo":
        """Cut a square out of the middle, with `side` pixels a side, fewer where it has fewer."""
        alpha = None if self.alpha is None else centre(self.alpha, side)
        return replace(self, pixels=centre(self.pixels, side), alpha=alpha)


def centre(picture: Tensor, side: int) -> Tensor:
    """Cut a square [C, side, side], or what there is of it, out of the middle of a picture."""
    for axis in (1, 2):
        kept = min(side, picture.shape[axis])
        picture = picture.narrow(axis, (picture.shape[axis] - kept) // 2, kept)
    return picture.contiguous()


def read_photo(path: str | os.PathLike[str]) -> Photo:
    """Read a picture of any of `FORMATS`, or HEIC where pillow-heif is installed.

    16 bits a colour are kept, unless a colour profile other than sRGB has to be applied to
    them: that is done in 8 bits. Raises MediaError when the file cannot be read as a picture.
    """
    path = Path(path)
    with _open(path) as file, picture_limits():
        try:
            return _decode(_identify(file, path), file, path)
        except B2VError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
            limit = f"{MAX_MEGAPIXELS} megapixels or memory"
            raise MediaError(f"{path}: too large for {limit}; scale it down") from None
        except Exception as error:  # decoders raise errors of any type on damaged data
            why = f"truncated or damaged picture ({one_line(error)})"
            raise MediaError(f"{path}: {why}; get a whole copy") from error


def one_line(error: BaseException) -> str:
    """Put what an error says into one line without its path."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(said).split())


@contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a hidden name beside `path` to write to; rename it into place on success.

    Whatever stops the block, also Ctrl-C, leaves `path` as it was and nothing beside it; what
    kills the process leaves hidden files, which the next run for `path` deletes.
    Raises UsageError when `path` exists or another run is writing it, MediaError when the disk or
    an encoder refuses.
    """
    old = path.with_name(f".{path.name}.old")
    try:
        with alone(path):
            _bring_back(old, path)
            if os.path.lexists(path) and not overwrite:
                raise UsageError(f"{path}: exists already; give another name or --overwrite")
            yield from _replaced(path, old)
    except (OSError, av.FFmpegError) as error:
        raise MediaError(f"{path}: cannot be written ({one_line(error)})") from error


def _replaced(path: Path, old: Path) -> Iterator[Path]:
    """Do what `replacing` does, where nobody else does the same; a folder is `old` for a moment."""
    part = path.with_name(f".{path.name}.part")
    try:
        _remove(part)
        yield part
        if part.is_dir() and path.is_dir():
            path.replace(old)
        part.replace(path)
    finally:
        _bring_back(old, path)
        _remove(old)
        _remove(part)


def _bring_back(old: Path, path: Path) -> None:
    """Give a folder that was to be replaced its name again, if nothing else has it."""
    if os.path.lexists(old) and not os.path.lexists(path):
        old.replace(path)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)  # leaves a file alone
    with suppress(OSError):
        path.unlink()


def _open(path: Path) -> BinaryIO:
    """Open an existing file that is not empty."""
    if may_never_end(path):
        raise MediaError(f"{path}: is not a file; expected a picture")
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError(f"{path}: no such file; check the name") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"{path}: cannot be opened as a picture ({one_line(error)})") from error
    if not file.peek(1):
        file.close()
        raise MediaError(f"{path}: is empty (0 bytes); expected a picture")
    return file


@contextmanager
def open_photo(path: Path) -> Iterator[Image.Image]:
    """Open a picture of any of `FORMATS` or HEIC, for what stands before its pixels."""
    with _open(path) as file, picture_limits():
        yield _identify(file, path)


@contextmanager
def picture_limits() -> Iterator[None]:
    """Let Pillow read up to `MAX_MEGAPIXELS`, and keep its warnings from the user."""
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        Image.MAX_IMAGE_PIXELS = MAX_MEGAPIXELS * 10**6
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _identify(file: BinaryIO, path: Path) -> Image.Image:
    """Open the picture in `file`, which starts with a header of one of `FORMATS` or of HEIC."""
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        head = file.read(12)
    if head[4:8] != b"ftyp" or head[8:12] not in HEIC_BRANDS:
        raise MediaError(f"{path}: not a picture; expected JPEG, PNG, WebP, AVIF, TIFF, BMP or GIF")
    try:
        import pillow_heif
    except ImportError:
        raise MediaError(f"{path}: HEIC needs one more package: pip install b2v[heic]") from None
    file.seek(0)
    return pillow_heif.open_heif(file).to_pillow()


def _decode(image: Image.Image, file: BinaryIO, path: Path) -> Photo:
    """Decode all of `image`, whose bytes are `file`, and turn it upright."""
    stored, _ = _exif(image)
    pages = int(getattr(image, "n_frames", 1))
    image.load()
    turn, exposure_time = _exif(image)  # Pillow has turned a TIFF by now and dropped the tag
    deep = _deep_pixels(image, file)
    pixels, turn = (_pixels(image), turn) if deep is None else (deep, stored)
    if turn >= 5:
        pixels = pixels.transpose(-2, -1)
    pixels = pixels.flip(FLIPS.get(turn, [])).contiguous()
    alpha = pixels[3:] if len(pixels) == 4 and pixels[3].min() < 1 else None
    bits = 8 if deep is None and image.mode[0] not in "IF" else 16
    return Photo(pixels[:3], alpha, exposure_time, path, bits, pages)


def _exif(image: Image.Image) -> tuple[int, float | None]:
    """Orientation (1 where there is none) and exposure time in seconds; bad EXIF is no EXIF."""
    turn, seconds = 1, math.nan
    with suppress(Exception):  # EXIF is data from anywhere, and never worth losing the picture
        tags = image.getexif()
        turn = tags.get(ExifTags.Base.Orientation, 1)
        seconds = float(tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime])
    usable = math.isfinite(seconds) and seconds > 0
    return turn if turn in range(1, 9) else 1, seconds if usable else None


def _pixels(image: Image.Image) -> Tensor:
    """Pixels [3, H, W], or [4, H, W] with alpha, in [0, 1] of whatever mode Pillow gives."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        grey = _full_scale(np.asarray(image))
        if _to_srgb(profile, "L") is None:
            return from_numpy(grey)[None].expand(3, -1, -1)
        image = Image.fromarray((grey * 255).round().astype(np.uint8))
    alpha = None
    base = image.mode if image.mode in ("CMYK", "LAB") else "L" if image.mode[0] in "1L" else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    colour = image if image.mode == base else image.convert(base)
    convert = _to_srgb(profile, base)
    rgb = colour.convert("RGB") if convert is None else ImageCms.applyTransform(colour, convert)
    assert rgb is not None  # None is for inPlace=True only
    if alpha is not None:
        rgb.putalpha(alpha)
    return to_pixels(np.asarray(rgb))


def _full_scale(grey: np.ndarray) -> np.ndarray:
    """Bring integer or float grey [H, W] to [0, 1]: white is the least usual one that fits."""
    values = np.nan_to_num(grey.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    whites = (1, 255, 65535, 2**32 - 1) if grey.dtype.kind == "f" else (65535, 2**32 - 1)
    top = next((white for white in whites if values.max() <= white), values.max())
    return np.asarray((values / top).clip(0, 1), dtype=np.float32)


def _to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Transform from `profile` to sRGB for pictures of `mode`.

    None where there is nothing to do: no profile, a broken one, or one that is sRGB itself.
    """
    try:
        lab = ImageCms.createProfile("LAB") if mode == "LAB" else None
        source = lab or ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
        convert = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
    if mode not in ("L", "RGB"):
        return convert
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    probe = steps[:, None] if mode == "L" else np.stack(np.meshgrid(steps, steps, steps), -1)
    image = Image.fromarray(probe.reshape(len(steps), -1, 3) if mode == "RGB" else probe)
    moved = np.asarray(ImageCms.applyTransform(image, convert), dtype=np.int16)
    return None if abs(moved - np.asarray(image.convert("RGB"))).max() <= 1 else convert


def _deep_pixels(image: Image.Image, file: BinaryIO) -> Tensor | None:
    """Pixels [4, H, W] in [0, 1] of PNG or TIFF with 16 bits in each of several channels.

    Pillow would cut them to 8 bits. None for every other picture, for one whose colour
    profile has to be applied, and for the rare TIFF that FFmpeg cannot decode.
    """
    file.seek(0)
    head = file.read(26)  # of a PNG: depth in byte 24, kind in byte 25 (2, 4, 6: many channels)
    deep = image.format == "PNG" and head[24] == 16 and head[25] in (2, 4, 6)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        depths, kinds = image.tag_v2.get(258, ()), image.tag_v2.get(339, (1,))
        deep = len(depths) >= 3 and set(depths) == {16} and set(kinds) == {1}
        deep = deep and image.mode.startswith("RGB")
    if not deep or _to_srgb(image.info.get("icc_profile"), "RGB") is not None:
        return None
    file.seek(0)
    try:
        with av.open(file, "r", format=f"{str(image.format).lower()}_pipe") as container:
            frame = next(container.decode(video=0))
            return to_pixels(frame.to_ndarray(format="rgba64le"))
    except (av.FFmpegError, StopIteration):
        return None
