"""Pictures encoded with what they say of themselves: what made them, and harmless EXIF.

Of the photo, its date, camera, exposure and copyright are taken over. The place where it was
taken is not, unless that is asked for; nor are serial numbers, names of owners, thumbnails and
what the camera's maker keeps for itself. The pixels are upright, and so is the orientation.

EXIF has all of it, GIF and videos a comment; the encoder of animations, which keeps frames that
equal their neighbor, writes neither, so it is put into the bytes of these.
"""

import io
import json
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo, putchunk
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from b2v import __version__

CAVEAT = "estimated, not evidence"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The model that made a picture or a video; every restored file names it.

    `sha256` is that over the files of the networks, as `b2v weights verify` checks them. With a
    `strength` below 1 the rest is the blurry picture; only then is it told.
    """

    model: str
    sha256: str
    license: str | None = None
    version: str = __version__
    strength: float = 1.0

    def __str__(self) -> str:
        """Describe it in one line."""
        mixed = "" if self.strength == 1 else f", at strength {self.strength:g} over the photo"
        made = f"made by b2v {self.version} with {self.model} (sha256 {self.sha256})"
        return f"{CAVEAT}: {made}{mixed}"

    def as_dict(self) -> dict[str, Any]:
        """Describe it for programs."""
        mixed = {} if self.strength == 1 else {"strength": self.strength}
        return {
            "software": f"b2v {self.version}",
            "model": self.model,
            "sha256": self.sha256,
            "license": self.license,
            "note": CAVEAT,
            **mixed,
        }


Base, IFD = ExifTags.Base, ExifTags.IFD
PLAIN = (Base.DateTime, Base.Make, Base.Model, Base.Copyright)
"""Tags that are taken over from the first part of EXIF."""
DETAILS = (
    *(Base.DateTimeOriginal, Base.DateTimeDigitized),
    *(Base.OffsetTime, Base.OffsetTimeOriginal, Base.OffsetTimeDigitized),
    *(Base.ExposureTime, Base.FNumber, Base.ISOSpeedRatings, Base.FocalLength),
    *(Base.FocalLengthIn35mmFilm, Base.LensMake, Base.LensModel),
)
"""Tags that are taken over from the part of EXIF on the exposure."""


@dataclass(frozen=True)
class Tags:
    """Metadata of a file; `plain`, `details` and `gps` are parts of EXIF."""

    provenance: Provenance | None = None
    plain: tuple[tuple[int, Any], ...] = ()
    details: tuple[tuple[int, Any], ...] = ()
    gps: tuple[tuple[int, Any], ...] = ()

    @property
    def sentence(self) -> str:
        """The provenance in one line, or nothing."""
        return str(self.provenance or "")

    @property
    def description(self) -> str:
        """The same and the photo's date, camera and exposure, as one line of JSON."""
        photo = {}
        for tag, value in (*self.plain, *self.details):
            with suppress(TypeError, ValueError, ZeroDivisionError):
                said = value if isinstance(value, str) else float(value)
                photo[ExifTags.TAGS.get(tag, str(tag))] = said
        if self.provenance is None:
            return ""
        known = self.provenance.as_dict() | ({"photo": photo} if photo else {})
        return json.dumps(known, ensure_ascii=False)

    def exif(self) -> bytes:
        """Encode all of it as EXIF, upright; empty where there is nothing to say."""
        if not (self.provenance or self.plain or self.details or self.gps):
            return b""
        tags = Image.Exif()
        tags.update(self.plain)
        tags[Base.Orientation] = 1
        if self.provenance:
            tags[Base.Software] = f"b2v {self.provenance.version}"
            tags[Base.ImageDescription] = self.sentence
        if self.details:
            tags.get_ifd(IFD.Exif).update(self.details)
        if self.gps:
            tags.get_ifd(IFD.GPSInfo).update(self.gps)
        return tags.tobytes()

    def video(self) -> dict[str, str]:
        """Return the metadata of a video."""
        said = {"comment": self.sentence, "description": self.description}
        dates = dict(self.details) | dict(self.plain)
        for tag, key in ((Base.Make, "make"), (Base.Model, "model"), (Base.Copyright, "copyright")):
            said[key] = str(dates.get(tag, "")).strip("\0 ")
        for tag in (Base.DateTimeOriginal, Base.DateTime):
            if isinstance(date := dates.get(tag), str) and "date" not in said:
                said["date"] = date.replace(":", "-", 2)
        if (place := self._place()) is not None:
            said["location"] = place
        return {key: text for key, text in said.items() if text}

    def _place(self) -> str | None:
        """Format the place as ISO 6709 does, if it is known."""
        known, said = dict(self.gps), ""
        for name, minus, digits in (("Latitude", "S", 2), ("Longitude", "W", 3)):
            try:
                degrees, minutes, seconds = map(float, known[ExifTags.GPS[f"GPS{name}"]])
                sign = "-" if known.get(ExifTags.GPS[f"GPS{name}Ref"]) == minus else "+"
            except (KeyError, TypeError, ValueError, ZeroDivisionError):
                return None
            said += f"{sign}{degrees + minutes / 60 + seconds / 3600:0{digits + 5}.4f}"
        return f"{said}/"

    def made_by(self, provenance: Provenance | None) -> "Tags":
        """Replace the provenance."""
        return replace(self, provenance=provenance)


def beside_what_is_said(said: dict[str, str], there: Mapping[str, str]) -> dict[str, str]:
    """Choose what can be added to the metadata that is `there`, which stays as it is.

    Where all of its places are taken, the sentence follows the comment that is there.
    """
    taken = {key.lower() for key in there}
    free = {key: text for key, text in said.items() if key not in taken}
    if said and not free:
        comment = next(text for key, text in there.items() if key.lower() == "comment")
        return {"comment": f"{comment} | {said['comment']}"}
    return free


EXIF_MARK = b"Exif\0\0"
HAS_EXIF = 0x08
"""Flag in the header of an animated WebP."""


def stamp_animation(file: Path, tags: Tags | None) -> None:
    """Put tags into a GIF or an animated WebP that has none."""
    data = file.read_bytes()
    if tags is not None and tags.exif():
        file.write_bytes(_gif(data, tags) if data.startswith(b"GIF") else _webp(data, tags))


def _gif(data: bytes, tags: Tags) -> bytes:
    """Add a comment before the first picture, after the number of loops."""
    text = tags.description.encode()
    if not text:
        return data
    head = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    while data[head : head + 2] == b"\x21\xff":
        head += 2
        while data[head]:
            head += data[head] + 1
        head += 1
    blocks = [text[start : start + 255] for start in range(0, len(text), 255)]
    comment = b"".join(bytes([len(block)]) + block for block in blocks)
    return data[:head] + b"\x21\xfe" + comment + b"\0" + data[head:]


def _webp(data: bytes, tags: Tags) -> bytes:
    """Add a chunk at the end, and say so in the header (VP8X), whose flags are byte 20."""
    exif = tags.exif().removeprefix(EXIF_MARK)
    chunk = b"EXIF" + struct.pack("<I", len(exif)) + exif + bytes(len(exif) % 2)
    flagged = data[:20] + bytes([data[20] | HAS_EXIF]) + data[21:] + chunk
    return flagged[:4] + struct.pack("<I", len(flagged) - 8) + flagged[8:]


PNG_HEAD = 33
"""Bytes of a PNG before other chunks: its mark and its header."""
DEFLATE, RGB, EXTRA_SAMPLES, STRAIGHT = 8, 2, 338, 2
"""Of TIFF: a way to pack, a kind of pixels, the tag of what is no color, and alpha."""
QUALITY = 95
"""Of JPEG, WebP and AVIF, from 0 to 100."""


def encode(
    codes: np.ndarray,
    kind: str,
    quality: int = QUALITY,
    *,
    subsampling: str = "4:2:0",
    tags: Tags | None = None,
) -> bytes:
    """Encode code values [H, W, 3 or 4] as Pillow's `kind` of file; 16 bits are for PNG and TIFF.

    `quality` is for JPEG, WebP and AVIF, `subsampling` of the colors for JPEG and AVIF.
    """
    tags = tags or Tags()
    if kind == "TIFF":
        return _as_tiff(codes, tags)
    if codes.dtype == np.uint16:
        return _as_deep_png(codes, tags)
    how: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": quality, "subsampling": subsampling, "comment": tags.sentence},
        "AVIF": {"quality": quality, "subsampling": subsampling},
        "WEBP": {"quality": quality},
        "PNG": {"compress_level": 4, "pnginfo": _png_text(tags)},
    }
    file = io.BytesIO()
    Image.fromarray(codes).save(file, format=kind, exif=tags.exif(), **how.get(kind, {}))
    return file.getvalue()


def _png_text(tags: Tags) -> PngInfo:
    """Make the international text chunks of a PNG."""
    info = PngInfo()
    if tags.provenance:
        info.add_itxt("Description", tags.sentence)
        info.add_itxt("b2v", tags.description)
    return info


def _as_deep_png(codes: np.ndarray, tags: Tags) -> bytes:
    """Encode [H, W, 3 or 4] uint16 as PNG, which Pillow would cut to 8 bits."""
    order = [2, 1, 0, 3][: codes.shape[2]]  # as OpenCV has colors
    data = cv2.imencode(".png", codes[..., order])[1].tobytes()
    added = io.BytesIO()
    for name, content, *_ in _png_text(tags).chunks:
        putchunk(added, name, content)
    if exif := tags.exif():
        putchunk(added, b"eXIf", exif.removeprefix(EXIF_MARK))
    return data[:PNG_HEAD] + added.getvalue() + data[PNG_HEAD:]


def _as_tiff(codes: np.ndarray, tags: Tags) -> bytes:
    """Encode [H, W, 3 or 4] of 8 or 16 bits as TIFF; Pillow would cut to 8, or leave out EXIF."""
    height, width, channels = codes.shape
    strip = zlib.compress(codes.astype(codes.dtype.newbyteorder("<")).tobytes())
    entries: Any = ImageFileDirectory_v2(prefix=b"II")
    exif = Image.Exif()
    exif.load(tags.exif())
    for key, value in exif.items():
        entries[key] = exif.get_ifd(key) if key in (IFD.Exif, IFD.GPSInfo) else value
    entries[Base.ImageWidth], entries[Base.ImageLength] = width, height
    entries[Base.BitsPerSample] = (8 * codes.itemsize,) * channels
    entries[Base.Compression], entries[Base.PhotometricInterpretation] = DEFLATE, RGB
    entries[Base.SamplesPerPixel], entries[Base.RowsPerStrip] = channels, height
    entries[Base.StripOffsets], entries[Base.StripByteCounts] = 0, len(strip)  # right behind
    if channels == 4:
        entries[EXTRA_SAMPLES] = STRAIGHT
    file = io.BytesIO()
    entries.save(file)
    return file.getvalue() + strip
