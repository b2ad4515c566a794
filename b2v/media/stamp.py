"""Tags into pictures that are encoded already: PNG, JPEG, GIF, WebP and TIFF, byte by byte.

No encoder here writes all of these, and none needs to: each kind of file has places for text
that its pictures know nothing of. BMP has none and is left as it is.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from b2v.media.tags import Tags

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
