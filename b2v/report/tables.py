"""Tables in files, and text."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from b2v.errors import UsageError
from b2v.media.photo import replacing
from b2v.media.target import check_parent

Value = str | int | float | None


def check_file(path: Path, *, overwrite: bool) -> None:
    """Check that a file can be written, before there is anything to write.

    Raises:
        UsageError: it exists, or is a folder.
        MediaError: its folder is missing or read-only.

    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: exists already; give another name or --overwrite")
    check_parent(path)


def write_csv(
    path: Path, records: Sequence[Mapping[str, Value]], *, overwrite: bool = False
) -> None:
    """Write records with the same keys, a line each; None is an empty field."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({key: _number(value) for key, value in record.items()})
    write_text(path, text.getvalue(), overwrite=overwrite)


def write_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write a file through a `.part` beside it; raises as `replacing`."""
    with replacing(path, overwrite=overwrite) as part:
        part.write_text(text, errors="surrogateescape")


def _number(value: Value) -> Value:
    return round(value, 6) if isinstance(value, float) else value
