"""Pictures from files, upright, sRGB, in full precision, and back into files in one piece.

A picture is [3, H, W] float32, RGB, sRGB-encoded, in [0, 1]. Pillow reads; what it would cut to
8 bits is read by FFmpeg (PNG) and in `b2v.media.tiff`. Every failure names the file in one line.
"""

import io
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError, features
from torch import Tensor, cat, from_numpy

from b2v.color import to_encoded
from b2v.errors import B2VError, MediaError, ShapeError, UsageError
from b2v.files import MOST, STILLS, Name, check_free, check_name, may_never_end, one_line, replacing
from b2v.frames import to_codes, to_pixels
from b2v.media import tiff
from b2v.media.metadata import DETAILS, IFD, PLAIN, Tags, encode
from b2v.media.video_format import BT709, Colors, ToneMap


def unveiled(pixels: Tensor, alpha: Tensor | None) -> Tensor:
    """Undo laying pixels [3, H, W] on white, by their `alpha` [1, H, W]: [4, H, W].

    Laid on white again, they are as they were. The same tensor where there is no alpha.
    """
    if alpha is None:
        return pixels
    return cat([(1 - (1 - pixels) / alpha.clamp(min=1 / 65535)).clamp(0, 1), alpha])


def through_jpeg(picture: Tensor, quality: int) -> Tensor:
    """Compress [3, H, W] in [0, 1] as JPEG and take it out again; colors at half resolution.

    `quality` is Pillow's, 1 to 95.
    """
    codes = (picture.clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()
    file = io.BytesIO()
    Image.fromarray(codes).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return from_numpy(np.array(image)).movedim(-1, 0).float() / 255


MAX_MEGAPIXELS = 400
"""Largest picture that is read; more is a mistake or a decompression bomb."""
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
TIFF_HEADS = (b"II", b"MM")
RAW_HEADS = (b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FUJIFILM", b"FOVb")
"""How the RAW of cameras begins that is no TIFF."""
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
SRGB_GAMMA, SRGB_CURVES = 1 / 2.2, (1, 2, 6, 13, 14, 15)
"""Of PNG: what gAMA says of sRGB, and the codes of curves that are near enough to it."""
FLIPS = {2: [-1], 3: [-2, -1], 4: [-2], 6: [-1], 7: [-2, -1], 8: [-2]}
"""Axes to flip for an EXIF orientation, after rows and columns are swapped where it is >= 5."""


@dataclass(frozen=True, eq=False)
class Photo:
    """One picture: `pixels` [3, H, W], RGB, sRGB-encoded, in [0, 1], upright.

    `alpha` is [1, H, W] in [0, 1], None where the picture is opaque; the colors are not
    multiplied by it. `exposure_time` is in seconds, from EXIF, None where it is not told. `bits`
    are those of a color that it was stored with, 8 or 16; of `pages`, or moments, it is the first.
    `notes` say what was lost or guessed in reading it.
    """

    pixels: Tensor
    alpha: Tensor | None
    exposure_time: float | None
    path: Path
    bits: int = 8
    pages: int = 1
    notes: tuple[str, ...] = ()

    def on_white(self) -> Tensor:
        """Lay the pixels [3, H, W] on white where they are not opaque."""
        return self.pixels if self.alpha is None else 1 - (1 - self.pixels) * self.alpha


def center(picture: Tensor, side: int) -> Tensor:
    """Cut a square [C, side, side], or what there is of it, out of the middle of a picture."""
    for axis in (1, 2):
        kept = min(side, picture.shape[axis])
        picture = picture.narrow(axis, (picture.shape[axis] - kept) // 2, kept)
    return picture.contiguous()


def read_photo(path: Name, *, side: int | None = None) -> Photo:
    """Read a picture of any of `FORMATS`, or HEIC where pillow-heif is installed.

    With `side`, only a square of the middle with so many pixels a side, fewer where it has fewer.

    16 bits a color are kept, unless a color profile other than sRGB has to be applied to
    them: that is done in 8 bits. Raises MediaError when the file cannot be read as a picture.
    """
    path = Path(path)
    with _reading(path) as file:
        return _decode(_identify(file, path), file, path, side)


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """Open a file for Pillow and say in one line what is wrong with it."""
    with _open(path) as file, picture_limits(), hushed():
        try:
            yield file
        except B2VError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
            limit = f"{MAX_MEGAPIXELS} megapixels or memory"
            raise MediaError(f"{path}: too large for {limit}; scale it down") from None
        except Exception as error:  # decoders raise errors of any type on damaged data
            why = f"truncated or damaged picture ({one_line(error)})"
            raise MediaError(f"{path}: {why}; get a whole copy") from error


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
def open_photo(path: Path) -> Iterator[Image.Image | tiff.DeepTiff]:
    """Open a picture of any of `FORMATS` or HEIC, for what stands before its pixels."""
    with _reading(path) as file:
        yield _identify(file, path)


def picture_size(path: Name) -> tuple[int, int]:
    """Read the height and width of a picture, upright, before its pixels; raises MediaError.

    In PNG, EXIF may follow the pixels; there it is not looked for, as all would be decoded.
    """
    with open_photo(Path(path)) as image:
        width, height = image.size
        told = getattr(image, "format", None) != "PNG" or "exif" in image.info
        return (width, height) if told and _exif(image)[0] >= 5 else (height, width)


@contextmanager
def hushed() -> Iterator[None]:
    """Silence what C libraries write to stderr."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no file of the user's
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


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


def _identify(file: BinaryIO, path: Path) -> Image.Image | tiff.DeepTiff:
    """Open the picture in `file`, which starts with a header of one of `FORMATS` or of HEIC."""
    try:
        head = file.read(2)
        file.seek(0)
        if head in TIFF_HEADS and (deep := tiff.look(file, path)):
            _check_size(deep)
            return deep
        file.seek(0)
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        head = file.read(12)
    if head.startswith(RAW_HEADS) or head[4:12] == b"ftypcrx ":
        raise MediaError(f"{path}: {tiff.RAW}")
    if head[4:8] != b"ftyp" or head[8:12] not in HEIC_BRANDS:
        raise MediaError(f"{path}: not a picture; expected JPEG, PNG, WebP, AVIF, TIFF, BMP or GIF")
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise MediaError(f"{path}: HEIC needs one more package: pip install b2v[heic]") from None
    file.seek(0)
    image: Image.Image = HeifImageFile(file)  # type: ignore[no-untyped-call]
    _check_size(image)
    return image


def _check_size(image: Image.Image | tiff.DeepTiff) -> None:
    """Refuse too many pixels, as Pillow does of what it opens itself."""
    if math.prod(image.size) > MAX_MEGAPIXELS * 10**6:
        raise Image.DecompressionBombError


def _decode(
    image: Image.Image | tiff.DeepTiff, file: BinaryIO, path: Path, side: int | None
) -> Photo:
    """Decode `image`, whose bytes are `file`, or a square of `side` pixels; turn it upright."""
    turn, _ = _exif(image)
    pages, notes = int(getattr(image, "n_frames", 1)), list[str]()
    if isinstance(image, tiff.DeepTiff):
        _, exposure_time = _exif(image)
        pixels, bits, notes = image.pixels(side), image.bits, image.notes
        if (convert := _to_srgb(image.info.get("icc_profile"), "RGB")) is not None:
            pixels = _converted(Image.fromarray(to_codes(pixels)), convert)
    else:
        image.load()
        pillow_turn, exposure_time = _exif(image)  # of a TIFF it has turned, and dropped the tag
        deep = _deep_png(image, file, side)
        cut = image if side is None else image.crop(tiff.around_middle(image.size, side))
        pixels, turn = (_pixels(cut), pillow_turn) if deep is None else (deep, turn)
        bits = 8 if deep is None and image.mode[0] != "I" else 16
        pixels = _as_png_says(pixels, image, file, notes)
    if turn >= 5:
        pixels = pixels.transpose(-2, -1)
    if turn > 1:  # else there is no need for a copy
        pixels = pixels.flip(FLIPS.get(turn, [])).contiguous()
    if side is not None:
        pixels = center(pixels, side)
    alpha = pixels[3:] if len(pixels) == 4 and pixels[3].min() < 1 else None
    return Photo(pixels[:3], alpha, exposure_time, path, bits, pages, tuple(notes))


def _exif(image: Image.Image | tiff.DeepTiff) -> tuple[int, float | None]:
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
    if image.mode.startswith("I"):
        gray = np.asarray(image).astype(np.uint16)[..., None]
        if _to_srgb(profile, "L") is None:
            return to_pixels(gray).expand(3, -1, -1)
        image = Image.fromarray((gray[..., 0] / 257).round().astype(np.uint8))
    base = image.mode if image.mode in ("CMYK", "LAB") else "L" if image.mode[0] in "1L" else "RGB"
    convert = _to_srgb(profile, base)
    if image.has_transparency_data:
        image = image.convert("RGBA")
    if convert is not None:
        return _converted(image, convert, base)
    return to_pixels(np.asarray(image if image.mode == "RGBA" else image.convert("RGB")))


def _converted(
    image: Image.Image, convert: ImageCms.ImageCmsTransform, base: str = "RGB"
) -> Tensor:
    """Bring an image to sRGB by way of mode `base`, in 8 bits; alpha stays as it is."""
    color = image if image.mode == base else image.convert(base)
    rgb = ImageCms.applyTransform(color, convert)
    assert rgb is not None  # None is for inPlace=True only
    if image.mode == "RGBA":
        rgb.putalpha(image.getchannel("A"))
    return to_pixels(np.asarray(rgb))


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


def _deep_png(image: Image.Image, file: BinaryIO, side: int | None) -> Tensor | None:
    """Pixels [4, H, W] in [0, 1] of PNG with 16 bits in each of several channels, or one alpha.

    Pillow has cut them to 8 bits. None for every other picture, and for one whose color profile has
    to be applied.
    """
    file.seek(0)
    head = file.read(26)  # depth in byte 24, kind in byte 25 (2, 4, 6: many channels)
    veiled = "transparency" in image.info  # of one gray or color, which Pillow passes over
    if image.format != "PNG" or head[24] != 16 or not (veiled or head[25] in (2, 4, 6)):
        return None
    if _to_srgb(image.info.get("icc_profile"), "RGB") is not None:
        return None
    file.seek(0)
    try:
        with av.open(file, "r", format="png_pipe") as container:
            codes = next(container.decode(video=0)).to_ndarray(format="rgba64le")
    except (av.FFmpegError, StopIteration):
        return None
    if side is not None:
        left, top, right, bottom = tiff.around_middle(image.size, side)
        codes = codes[top:bottom, left:right]
    return to_pixels(codes)


def _as_png_says(pixels: Tensor, image: Image.Image, file: BinaryIO, notes: list[str]) -> Tensor:
    """Convert a PNG with cICP or gAMA to sRGB; note what is lost.

    cICP comes before a profile, and that before gAMA.
    """
    if image.format != "PNG":
        return pixels
    coded, gamma = _cicp(file), image.info.get("gamma", SRGB_GAMMA)
    if coded is not None:
        colors = Colors(BT709, True, *coded)
        if colors.hdr:
            notes.append(f"HDR ({colors.hdr}) was brought to standard range")
            pixels[:3] = ToneMap(colors)(pixels[:3])
        elif coded[0] != BT709 or coded[1] not in SRGB_CURVES:
            meant = f"primaries {coded[0]} and curve {coded[1]}"
            notes.append(f"its colors, of {meant} (cICP), were taken for sRGB")
    elif not {"srgb", "icc_profile"} & set(image.info) and abs(gamma / SRGB_GAMMA - 1) > 0.05:
        if not 0.1 <= gamma <= 10:
            notes.append(f"a gamma of {gamma:g} (gAMA) was passed over")
        else:
            pixels = pixels.clone()  # of gray, all channels are one
            pixels[:3] = to_encoded(pixels[:3] ** (1 / gamma))
    return pixels


def _cicp(file: BinaryIO) -> tuple[int, int] | None:
    """Look for the chunk cICP of a PNG; return its codes of primaries and of the curve."""
    place = 8
    while True:
        file.seek(place)
        head = file.read(12)
        if len(head) < 12 or head[4:8] == b"IDAT":
            return None
        if head[4:8] == b"cICP":
            return head[8], head[9]
        place += 12 + int.from_bytes(head[:4], "big")


def tags_of(path: Name, *, keep_gps: bool = False) -> Tags:
    """Take from a photo what is harmless in its EXIF; the place only with `keep_gps`.

    Broken EXIF is no EXIF. Raises MediaError where the file is no picture.
    """
    with open_photo(Path(path)) as image:
        found = Tags()
        with suppress(Exception):  # EXIF is data from anywhere, and never worth losing the clip
            stored = image.getexif()
            details, gps = stored.get_ifd(IFD.Exif), stored.get_ifd(IFD.GPSInfo)
            found = Tags(
                plain=_safe({tag: stored[tag] for tag in PLAIN if tag in stored}),
                details=_safe({tag: details[tag] for tag in DETAILS if tag in details}),
                gps=_safe(dict(gps)) if keep_gps else (),
            )
        return found


def _safe(tags: dict[int, Any]) -> tuple[tuple[int, Any], ...]:
    """Keep the tags that can be written again one by one."""
    kept = []
    for tag, value in tags.items():
        with suppress(Exception):
            probe = Image.Exif()
            probe[tag] = value
            probe.tobytes()
            kept.append((int(tag), value))
    return tuple(kept)


DEEP, VEILED = ("PNG", "TIFF"), ("PNG", "TIFF", "WEBP", "AVIF")
"""Kinds that can have 16 bits a color, and those that can be transparent."""


def write_photo(
    pixels: Tensor,
    path: Name,
    *,
    alpha: Tensor | None = None,
    bits: int = 8,
    tags: Tags | None = None,
    overwrite: bool = False,
    at_best: bool = False,
) -> Path:
    """Write `pixels` [3, H, W] in [0, 1] as the kind of file that the suffix names.

    They are on white where `alpha`, [1, H, W] in [0, 1], is not 1; kinds that cannot be transparent
    leave them there, and what cannot have 16 `bits` a color is written with 8. `at_best`, each
    pixel has a color of its own, and the file is checked by reopening it.

    Raises UsageError for a suffix that cannot be written and for a file that exists, MediaError
    where the disk or an encoder refuses; nothing is left under the name then.
    """
    path, kind = Path(path), _kind(path)
    if pixels.ndim != 3 or pixels.shape[0] != 3 or not pixels.numel():
        raise ShapeError(f"picture has shape {list(pixels.shape)}; expected [3, H, W] in RGB")
    depth = bits if kind in DEEP else 8
    codes = to_codes(unveiled(pixels, alpha if kind in VEILED else None), depth)
    if codes.shape[2] == 4 and codes[..., 3].min() == 2**depth - 1:
        codes = np.ascontiguousarray(codes[..., :3])  # nothing shows through in so few bits
    with replacing(path, overwrite=overwrite) as part:
        try:
            part.write_bytes(
                encode(codes, kind, subsampling="4:4:4" if at_best else "4:2:0", tags=tags)
            )
        except (ValueError, RuntimeError) as error:  # encoders raise them on sizes they refuse
            why = f"cannot be encoded ({one_line(error)}); write .png"
            raise MediaError(f"{path}: {why}") from error
        if at_best:
            _verify(part, codes, path)
    return path


def check_file(
    path: Name, suffixes: Sequence[str], *, overwrite: bool = False, inputs: Iterable[Name] = ()
) -> Path:
    """Check, before any work is done, that a file with one of `suffixes` can be written.

    Raises UsageError for another suffix, where something is there that may not be replaced, and
    where it is one of `inputs`; MediaError where its folder is missing or not writable.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: unknown suffix; use {', '.join(suffixes)}")
    check_free(path, inputs, overwrite=overwrite)
    return path


def lost_in(path: Name, alpha: Tensor | None, bits: int) -> Iterator[str]:
    """List what a picture with `alpha` and `bits` a color loses in the kind of file of `path`.

    A folder of PNG or TIFF has all of it, clips of other kinds have neither.
    """
    suffix = Path(path).suffix.lower()
    kind = STILLS.get(suffix, suffix if suffix in MOST else "PNG")
    if alpha is not None and kind not in VEILED:
        yield f"{kind} cannot be transparent; the picture is laid on white"
    if bits > 8 and kind not in DEEP:
        yield f"{kind} has 8 of the {bits} bits of each color; .png and .tif have all"


def check_still(path: Name, *, overwrite: bool, inputs: Iterable[Name] = ()) -> Path:
    """Check, before any work is done, that a picture can be written at `path`; return it.

    Raises as `check_file` does, and UsageError where Pillow was built without AVIF.
    """
    target = Path(path)
    check_name(target)
    if _kind(target) == "AVIF" and not features.check("avif"):
        raise UsageError(f"{target}: Pillow was built without AVIF here; write .png or .jpg")
    return check_file(target, tuple(STILLS), overwrite=overwrite, inputs=inputs)


def _kind(path: Name) -> str:
    """Pillow's name of the kind of picture at `path`."""
    kind = STILLS.get(Path(path).suffix.lower())
    if kind is None:
        raise UsageError(f"{path}: unknown suffix; pictures are written as {', '.join(STILLS)}")
    return kind


def _verify(part: Path, codes: np.ndarray, path: Path) -> None:
    """Check by reopening that `part` has the size, the bits and the alpha of `codes`."""
    try:
        photo = read_photo(part)
        with open_photo(part) as image:
            veiled = image.has_transparency_data
    except MediaError as error:
        raise MediaError(f"{path}: was not written whole ({one_line(error)})") from error
    height, width, channels = codes.shape
    found = (*photo.pixels.shape[1:], photo.bits, veiled)
    if found != (height, width, 8 * codes.itemsize, channels == 4):
        wrong = f"{found[1]}x{found[0]} pixels of {found[2]} bits instead of {width}x{height}"
        raise MediaError(f"{path}: reading it back gave {wrong}; write another kind of file")
