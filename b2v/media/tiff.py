"""TIFF with more than 8 bits a value, which Pillow cuts, wraps or does not read at all.

tifffile reads gray and RGB of whole and float numbers, with or without alpha, in strips, tiles or
planes; what it cannot unpack (LZW) OpenCV does.
"""

import logging
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import tifffile
from PIL import Image
from torch import Tensor, from_numpy

from b2v.errors import MediaError

WHITE_IS_ZERO, GREY, RGB = 0, 1, 2
MOSAIC, LINEAR_RAW, REDUCED, MORE, DNG = 32803, 34892, 1, "SubIFDs", "DNGVersion"
"""Of camera RAW, which is a TIFF too: what its pixels are, and a thumbnail in front of them."""
PLANES, PREMULTIPLIED, STRAIGHT = 2, 1, 2
"""Colors apart from each other, and kinds of alpha; other additional values are none."""
RAW = "is a camera RAW file; develop it first, to TIFF or JPEG"
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else it would write to stderr


class DeepTiff:
    """A TIFF with more than 8 bits a value: what Pillow's pictures tell, and its pixels.

    `bits` are those of a color that are kept; `notes` say what was lost or guessed.
    """

    def __init__(self, page: tifffile.TiffPage, file: BinaryIO, path: Path) -> None:
        self.page, self.file, self.path = page, file, path
        self.size = page.imagewidth, page.imagelength
        self.info = {"icc_profile": page.iccprofile} if page.iccprofile else {}
        self.n_frames, self.bits = len(page.parent.pages), 16
        self.notes: list[str] = []
        self.colors = 3 if page.photometric == RGB else 1
        kinds = [int(kind) for kind in page.extrasamples]
        veils = [kind for kind in kinds if kind in (PREMULTIPLIED, STRAIGHT)]
        self.alpha = self.colors + kinds.index(veils[0]) if veils else None
        self.premultiplied = veils[:1] == [PREMULTIPLIED]

    @property
    def has_transparency_data(self) -> bool:
        """Tell whether there is alpha."""
        return self.alpha is not None

    def getexif(self) -> Image.Exif:
        """Read its tags, which are those of EXIF."""
        exif = Image.Exif()
        self.file.seek(0)
        exif.load_from_fp(self.file)
        return exif

    def pixels(self, side: int | None = None) -> Tensor:
        """Decode it to [3, H, W] in [0, 1], or [4, H, W] with alpha; of `side`, only the middle.

        Raises errors of any type on damaged data.
        """
        page, channels = self.page, self._channels()
        if side is not None:
            left, top, right, bottom = around_middle(self.size, side)
            channels = [codes[top:bottom, left:right] for codes in channels]
        colors = 3 if self.alpha is None else 4
        pixels = np.empty((colors, *channels[0].shape), np.float32)
        white = self._white(channels[: self.colors])
        with np.errstate(over="ignore", invalid="ignore"):
            for place, codes in enumerate(channels[: self.colors]):
                np.divide(codes, white, out=pixels[place], casting="same_kind", dtype=np.float32)
            if self.alpha is not None:
                veil = channels[self.alpha]
                whole = 1 if veil.dtype.kind == "f" else white
                np.divide(veil, whole, out=pixels[3], casting="same_kind", dtype=np.float32)
        np.nan_to_num(pixels, copy=False, nan=0, posinf=1, neginf=0).clip(0, 1, out=pixels)
        if page.photometric == WHITE_IS_ZERO:
            np.subtract(1, pixels[0], out=pixels[0])
        if self.premultiplied:
            np.divide(pixels[: self.colors], pixels[3].clip(1 / 65535), out=pixels[: self.colors])
            pixels.clip(0, 1, out=pixels)
        pixels[self.colors : 3] = pixels[0]
        return from_numpy(pixels)

    def _channels(self) -> list[np.ndarray]:
        """Decode the values of each channel, [H, W]; OpenCV does what tifffile cannot."""
        page = self.page
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            if count <= 0 or offset + count > page.parent.filehandle.size:
                raise EOFError("parts of the picture are not in the file")
        try:
            stored = page.asarray(squeeze=False, maxworkers=1)[:, 0]  # [planes, H, W, values]
            return [stored[i, ..., j] for i, j in np.ndindex(stored.shape[0], stored.shape[-1])]
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
        self.file.seek(0)
        data = np.frombuffer(self.file.read(), np.uint8)
        found = None
        if page.planarconfig != PLANES:  # OpenCV would mix the planes up
            found = cv2.imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
        if found is None or found.shape[:2] != (page.imagelength, page.imagewidth):
            packed = f"packed as {tifffile.COMPRESSION(page.compression).name}"
            how = "save it uncompressed, or pip install imagecodecs"
            raise MediaError(f"{self.path}: a TIFF {packed} is not read; {how}")
        if found.ndim == 2:
            return [found]
        return [found[..., k] for k in (2, 1, 0, 3)[: found.shape[2]]]

    def _white(self, colors: list[np.ndarray]) -> float:
        """Return the value of white: the largest of up to 16 bits, else the least usual that fits.

        Float pictures may well have lights beyond 1; those in codes have them in the middle too.
        """
        most = max(float(np.nanmax(codes, initial=0)) for codes in colors)
        if colors[0].dtype.kind == "f":
            if most > 1 and max(float(np.nanmedian(codes)) for codes in colors) > 1:
                return next((white for white in (255.0, 65535.0) if most <= white), most)
            said = "; what is above 1 was cut" if most > 1 else ""
            self.notes.append(f"float values are taken for sRGB-encoded{said}")
            return 1.0
        top = 2.0 ** (self.page.bitspersample - (colors[0].dtype.kind == "i")) - 1
        return 65535.0 if most <= 65535 < top else top


def look(file: BinaryIO, path: Path) -> DeepTiff | None:
    """Open a TIFF with more than 8 bits a value; None for every other file.

    Raises MediaError for a camera RAW file, of which Pillow would give the thumbnail.
    """
    page = None
    with suppress(Exception):  # Pillow will say what is wrong with it
        page = tifffile.TiffFile(file, name=path.name).pages.first
    if not isinstance(page, tifffile.TiffPage):
        return None
    thumbnail = bool(page.subfiletype & REDUCED) and MORE in page.tags
    if page.photometric in (MOSAIC, LINEAR_RAW) or DNG in page.tags or thumbnail:
        raise MediaError(f"{path}: {RAW}")
    plain = page.photometric in (WHITE_IS_ZERO, GREY, RGB) and page.imagedepth == 1
    numbers = page.dtype is not None and page.dtype.kind in "uif"
    if not (plain and numbers and isinstance(page.bitspersample, int) and page.bitspersample > 8):
        return None
    return DeepTiff(page, file, path)


def around_middle(size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """Place a square about the middle that is a little larger: left, top, right, bottom.

    It lies as far from one edge as from the other, so that turns and mirrors leave it in place.
    """
    margins = [max(0, (length - side) // 2 - 1) for length in size]
    return margins[0], margins[1], size[0] - margins[0], size[1] - margins[1]
