"""What a written file says of itself: what made it, and the harmless part of its photo's EXIF.

Of the photo, its date, camera, exposure and copyright are taken over. The place where it was
taken is not, unless that is asked for; nor are serial numbers, names of owners, thumbnails and
what the camera's maker keeps for itself. The pixels are upright, and so is the orientation.

Tags go into pictures that are encoded already (PNG, JPEG, GIF, WebP and TIFF), byte by byte: no
encoder here writes all of these. BMP has no place for them and is left as it is.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from PIL import ExifTags, Image

from b2v import __version__

CAVEAT = "estimated, not evidence"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What made a picture or a video; every file that b2v restores says so.

    `sha256` is that over the files of the networks, as `b2v weights verify` checks them. With a
    `strength` below 1 the rest is the blurry picture; only then is it told.
    """

    model: str
    sha256: str
    license: str | None = None
    version: str = __version__
    strength: float = 1.0

    def __str__(self) -> str:
        """Say it in one line."""
        mixed = "" if self.strength == 1 else f", at strength {self.strength:g} over the photo"
        made = f"made by b2v {self.version} with {self.model} (sha256 {self.sha256})"
        return f"{CAVEAT}: {made}{mixed}"

    def as_dict(self) -> dict[str, Any]:
        """Say it to programs."""
        mixed = {} if self.strength == 1 else {"strength": self.strength}
        return {
            "software": f"b2v {self.version}",
            "model": self.model,
            "sha256": self.sha256,
            "license": self.license,
            "note": CAVEAT,
            **mixed,
        }

    def as_json(self, more: dict[str, Any] | None = None) -> str:
        """Say it to programs as one line of JSON, with `more` keys."""
        return json.dumps({**self.as_dict(), **(more or {})}, ensure_ascii=False)


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
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
NAMESPACES = (
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    ' xmlns:b2v="urn:b2v:1.0"'
)


@dataclass(frozen=True)
class Tags:
    """What a file is to say of itself; `plain`, `details` and `gps` are parts of EXIF."""

    provenance: Provenance | None = None
    plain: tuple[tuple[int, Any], ...] = ()
    details: tuple[tuple[int, Any], ...] = ()
    gps: tuple[tuple[int, Any], ...] = ()

    @property
    def sentence(self) -> str:
        """What made the file, in one line; empty where it is not to say."""
        return str(self.provenance or "")

    @property
    def description(self) -> str:
        """The same and the photo's date, camera and exposure, as one line of JSON."""
        photo = {}
        for tag, value in (*self.plain, *self.details):
            with suppress(TypeError, ValueError, ZeroDivisionError):
                said = value if isinstance(value, str) else float(value)
                photo[ExifTags.TAGS.get(tag, str(tag))] = said
        more = {"photo": photo} if photo else None
        return self.provenance.as_json(more) if self.provenance else ""

    def exif(self) -> bytes:
        """Encode all of it as EXIF, upright; empty where there is nothing to say."""
        if not (self.provenance or self.plain or self.details or self.gps):
            return b""
        tags = Image.Exif()
        tags.endian = "<"  # as `b2v.media.metadata` takes it into TIFF
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

    def xmp(self) -> bytes:
        """Encode what made the file as XMP; empty where it is not to say."""
        if self.provenance is None:
            return b""
        made = self.provenance
        own = {"xmp:CreatorTool": f"b2v {made.version}", "b2v:model": made.model}
        own |= {"b2v:sha256": made.sha256, "b2v:note": made.as_dict()["note"]}
        own |= {} if made.strength == 1 else {"b2v:strength": f"{made.strength:g}"}
        attributes = " ".join(f"{key}={quoteattr(text)}" for key, text in own.items())
        said = quoteattr(self.sentence)[1:-1]
        text = f'<rdf:Alt><rdf:li xml:lang="x-default">{said}</rdf:li></rdf:Alt>'
        inside = f'<rdf:Description rdf:about="" {NAMESPACES} {attributes}>'
        inside += f"<dc:description>{text}</dc:description></rdf:Description>"
        rdf = f"<rdf:RDF {RDF}>{inside}</rdf:RDF>"
        return f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{rdf}</x:xmpmeta>'.encode()

    def video(self) -> dict[str, str]:
        """Put it into the words of metadata of a video."""
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
        """Say the place as ISO 6709 does, if it is known."""
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
        """Say that another network made it, or none."""
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


PNG, JPEG, GIFS = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", (b"GIF87a", b"GIF89a")
TIFF = b"II*\0"
"""Head of a TIFF whose numbers begin with their low byte, as all that are written here do."""
EXIF_MARK, XMP_MARK = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
HAS_XMP, HAS_EXIF, HAS_ALPHA = 0x04, 0x08, 0x10
"""Flags in the header of an extended WebP."""
BYTE, XMP_TAG, IFDS = 1, 700, (0x8769, 0x8825)
"""Of TIFF: the type of bytes, the tag of XMP, the tags of the parts of EXIF."""
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of one value of each type of TIFF."""


def stamp_file(path: Path, tags: Tags | None) -> None:
    """Put tags into a picture, or into each picture of a folder; other files stay as they are."""
    for file in sorted(path.iterdir()) if path.is_dir() and tags else [path] if tags else []:
        data = file.read_bytes()
        stamped = stamp(data, tags)
        if stamped is not data:
            file.write_bytes(stamped)


def stamp(data: bytes, tags: Tags | None) -> bytes:
    """Put tags into the bytes of a picture that has none."""
    if tags is None:
        return data
    if data.startswith(PNG):
        return _png(data, tags)
    if data.startswith(JPEG):
        return _jpeg(data, tags)
    if data[:6] in GIFS:
        return _gif(data, tags)
    if data.startswith(TIFF):
        return _tiff(data, tags)
    return _webp(data, tags) if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else data


def _png(data: bytes, tags: Tags) -> bytes:
    """Add chunks right after the header, which is 13 bytes long."""
    head = len(PNG) + 12 + 13
    texts = {"Description": tags.sentence, "b2v": tags.description}
    texts["XML:com.adobe.xmp"] = tags.xmp().decode()
    added = [
        _chunk(b"iTXt", key.encode() + bytes(5) + text.encode())
        for key, text in texts.items()
        if text
    ]
    if exif := tags.exif():
        added.append(_chunk(b"eXIf", exif.removeprefix(EXIF_MARK)))
    return data[:head] + b"".join(added) + data[head:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def _jpeg(data: bytes, tags: Tags) -> bytes:
    """Add segments after the mark of JFIF, if there is one."""
    head = 2
    if data[2:4] == b"\xff\xe0":
        head += 2 + int.from_bytes(data[4:6], "big")
    parts = [(0xE1, tags.exif()), (0xE1, tags.xmp() and XMP_MARK + tags.xmp())]
    parts.append((0xFE, tags.sentence.encode()))
    added = [
        struct.pack(">BBH", 0xFF, kind, len(content) + 2) + content
        for kind, content in parts
        if content
    ]
    return data[:head] + b"".join(added) + data[head:]


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
    """Add chunks at the end, and say so in the header, which is added where it is missing."""
    chunks = list(_chunks(data))
    exif, xmp = tags.exif().removeprefix(EXIF_MARK), tags.xmp()
    flags = (HAS_EXIF if exif else 0) | (HAS_XMP if xmp else 0)
    if not flags:
        return data
    if chunks[0][0] != b"VP8X":
        chunks.insert(0, (b"VP8X", _header(*chunks[0])))
    header = chunks[0][1]
    chunks[0] = (b"VP8X", bytes([header[0] | flags]) + header[1:])
    chunks += [(kind, content) for kind, content in ((b"EXIF", exif), (b"XMP ", xmp)) if content]
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
        for kind, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 12
    while place + 8 <= len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        yield data[place : place + 4], data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2


def _header(kind: bytes, picture: bytes) -> bytes:
    """Make the header of an extended WebP for one that is a single plain picture."""
    if kind == b"VP8L":
        bits = int.from_bytes(picture[1:5], "little")
        width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
    else:
        sizes = struct.unpack("<HH", picture[6:10])
        width, height, alpha = (sizes[0] & 0x3FFF) - 1, (sizes[1] & 0x3FFF) - 1, 0
    flags = HAS_ALPHA if alpha else 0
    return struct.pack("<I", flags) + width.to_bytes(3, "little") + height.to_bytes(3, "little")


def _tiff(data: bytes, tags: Tags) -> bytes:
    """Add EXIF, which is a TIFF itself, and XMP at the end, with a new list of all entries."""
    exif, xmp = bytearray(tags.exif().removeprefix(EXIF_MARK)), tags.xmp()
    if not (exif or xmp):
        return data
    place = len(data) + len(data) % 2
    first = int.from_bytes(data[4:8], "little")
    entries = _entries(bytearray(data), first, 0)
    if exif:
        entries |= _entries(exif, int.from_bytes(exif[4:8], "little"), place)
    added = bytes(place - len(data)) + bytes(exif) + bytes(len(exif) % 2)
    if xmp:
        entries[XMP_TAG] = struct.pack("<HHII", XMP_TAG, BYTE, len(xmp), len(data) + len(added))
        added += xmp + bytes(len(xmp) % 2)
    begin = len(data) + len(added)
    listed = b"".join(entry for _, entry in sorted(entries.items()))
    added += struct.pack("<H", len(entries)) + listed + bytes(4)
    return data[:4] + struct.pack("<I", begin) + data[8:] + added


def _entries(tiff: bytearray, place: int, shift: int) -> dict[int, bytes]:
    """Read the entries of the list at `place` by their tags, for where all lies `shift` later."""
    found = {}
    for number in range(int.from_bytes(tiff[place : place + 2], "little")):
        at = place + 2 + 12 * number
        tag, kind, count, value = struct.unpack_from("<HHII", tiff, at)
        if tag in IFDS:
            _entries(tiff, value, shift)
        if tag in IFDS or SIZES.get(kind, 1) * count > 4:
            struct.pack_into("<I", tiff, at + 8, value + shift)
        found[tag] = bytes(tiff[at : at + 12])
    return found
