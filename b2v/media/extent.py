"""How many bytes a video file says that it has: one that is cut has fewer."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")
"""What MP4 and MOV begin with."""
EBML, SEGMENT, UNKNOWN = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", (1 << 56) - 1
"""Of Matroska: how it begins, what all of it lies in, and the size of what is sent live."""
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
SYNC, PACKETS = 0x47, ((188, 0), (192, 4), (204, 0))
"""Of MPEG-TS: the byte of each packet; bytes in a packet, and where in it that byte is."""
END_OF_GIF = b";"


def missing_bytes(path: Path) -> int:
    """Count the bytes that a file should have beyond its end; none where it does not tell."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1024)
        if head[:4] == b"RIFF":
            end = max(_riff(file), default=0)
        elif head[4:8] in BOXES:
            end = max(_boxes(file), default=0)
        elif head[:4] == EBML:
            end = _segment(head)
        elif head[:16] == ASF:
            at = head.find(ASF_PROPERTIES)
            end = int.from_bytes(head[at + 40 : at + 48], "little") if at > 0 else 0
        elif head[:4] == b"GIF8":
            file.seek(max(0, size - 1024))
            end = 0 if file.read().rstrip(b"\0").endswith(END_OF_GIF) else size + 1
        else:
            end = _packets(head, size)
    return max(0, end - size)


def _riff(file: BinaryIO) -> Iterator[int]:
    """Yield where each of the parts of an AVI should end; long ones have several."""
    place = 0
    while file.seek(place) == place and len(head := file.read(8)) == 8 and head[:4] == b"RIFF":
        place += 8 + int.from_bytes(head[4:], "little")
        yield place
        place += place % 2


def _boxes(file: BinaryIO) -> Iterator[int]:
    """Yield where each of the boxes of an MP4 should end, up to one of which all the rest is."""
    place = 0
    while file.seek(place) == place and len(head := file.read(16)) >= 8 and head[4:8].isalnum():
        size = int.from_bytes(head[:4], "big")
        if size == 1 and len(head) == 16:
            size = struct.unpack(">Q", head[8:])[0]
        if size < 8:
            return
        place += size
        yield place


def _segment(head: bytes) -> int:
    """Say where a Matroska should end; 0 where it does not tell."""
    length, place = _vint(head, 4)
    place += length
    if head[place : place + 4] != SEGMENT:
        return 0
    length, place = _vint(head, place + 4)
    return 0 if length == UNKNOWN or not length else place + length


def _vint(head: bytes, place: int) -> tuple[int, int]:
    """Read a number of EBML, `UNKNOWN` of any length as of 8 bytes; return it and its end."""
    first = head[place] if place < len(head) else 0
    size = 9 - first.bit_length()
    number = int.from_bytes(head[place : place + size], "big") & ((1 << 7 * size) - 1)
    return UNKNOWN if number == (1 << 7 * size) - 1 else number, place + size


def _packets(head: bytes, size: int) -> int:
    """Round the size of a file of packets of one size up to whole ones; 0 for other files."""
    for each, at in PACKETS:
        if len(head) > 4 * each and all(head[at + n * each] == SYNC for n in range(4)):
            return -(-size // each) * each
    return 0
