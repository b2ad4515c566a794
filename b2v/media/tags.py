"""What a written file says of itself: what made it, and the harmless part of its photo's EXIF.

Of the photo, its date, camera, exposure and copyright are taken over. The place where it was
taken is not, unless that is asked for; nor are serial numbers, names of owners, thumbnails and
what the camera's maker keeps for itself. The pixels are upright, and so is the orientation.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from PIL import ExifTags, Image

from b2v.media.photo import open_photo
from b2v.provenance import Provenance

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
        tags.endian = "<"  # as `b2v.media.stamp` takes it into TIFF
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


def tags_of(path: str | os.PathLike[str], *, keep_gps: bool = False) -> Tags:
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
