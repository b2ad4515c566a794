"""Files: writing whole or not at all, one writer at a time, names, suffixes, limits and folders.

`replacing` writes beside the target and renames; `alone` holds a lock, which the system drops with
the process that holds it. Locks keep runs of b2v apart, not other programs. Standard input and
output are read and written past Python's buffers: a thread that waits in one holds its lock, and
Python could not end. Nothing here imports torch.
"""

import math
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from b2v.errors import MediaError, UsageError, WeightsError

if sys.platform != "win32":
    import fcntl

Name = str | os.PathLike[str]
"""Of a file or folder."""


@contextmanager
def alone(path: Path, *, wait: bool = False, name: Path | None = None) -> Iterator[None]:
    """Keep other runs of b2v from writing `path`, by a hidden file beside it.

    With `wait`, wait until the run that holds the lock has ended. Raises UsageError where one
    does, without, which says `name` for `path`; OSError where the folder cannot be written to.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        file = _take(lock, wait=wait)
    except (BlockingIOError, FileExistsError):
        why = "another run of b2v is writing it; wait for it, or choose another name"
        raise UsageError(f"{name or path}: {why}") from None
    try:
        yield
    finally:
        if sys.platform != "win32":
            with suppress(OSError):
                lock.unlink()
        os.close(file)


@contextmanager
def gone(part: Path) -> Iterator[None]:
    """Delete an unfinished file at the end, whatever happens."""
    try:
        yield
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def may_never_end(path: Path) -> bool:
    """Tell whether a path is a pipe, a socket or a device, on which reading may hang."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)


if sys.platform == "win32":

    def _take(lock: Path, *, wait: bool) -> int:
        """Make a file that the system deletes with the process."""
        import time

        while True:
            try:
                return os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_TEMPORARY)
            except FileExistsError:
                if not wait:
                    raise
                time.sleep(0.1)

else:

    def _take(lock: Path, *, wait: bool) -> int:
        """Lock the file of that name; one that its last holder deleted meanwhile is none."""
        while True:
            file = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                os.close(file)
                raise
            except OSError:  # a file system without locks
                return file
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), lock.stat()):
                    return file
            os.close(file)


def one_line(text: object) -> str:
    """Put a text, or the message of an error without its path, into one line."""
    said = getattr(text, "strerror", None) or str(text)
    return " ".join(str(said).split()) or type(text).__name__


@contextmanager
def replacing(
    path: Path, *, overwrite: bool, failures: tuple[type[Exception], ...] = (OSError,)
) -> Iterator[Path]:
    """Give a hidden name beside `path` to write to; rename it into place on success.

    Whatever stops the block, also Ctrl-C, leaves `path` as it was and nothing beside it; what
    kills the process leaves hidden files, which the next run for `path` deletes.
    What a link leads to is replaced, and the link stays. Raises UsageError when `path` exists or
    another run is writing it, MediaError where one of `failures` stopped it: the disk refuses.
    """
    path = path.resolve() if path.is_symlink() else path
    old = path.with_name(f".{path.name}.old")
    try:
        with alone(path):
            _bring_back(old, path)
            if os.path.lexists(path) and not overwrite:
                raise UsageError(f"{path}: exists already; give another name or --overwrite")
            yield from _replaced(path, old)
    except failures as error:
        raise MediaError(f"{path}: cannot be written ({one_line(error)})") from error


def write_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write a file through a `.part` beside it; raises as `replacing`."""
    with replacing(path, overwrite=overwrite) as part:
        part.write_text(text, errors="surrogateescape")


def hidden_part(path: Path) -> Path:
    """Name the hidden file beside `path` that is written before it is renamed."""
    return path.with_name(f".{path.name}.part")


def write_whole(path: Path, text: str) -> None:
    """Replace a file by a text, whole or not at all, where one writer is known to be alone."""
    part = hidden_part(path)
    part.write_text(text)
    part.replace(path)


def _replaced(path: Path, old: Path) -> Iterator[Path]:
    """Write beside `path` and rename, with the lock held; a folder is `old` for a moment."""
    part = hidden_part(path)
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


MAX_NAME, MAX_STEM = 240, 200
"""Bytes in a name, and of it that come from the input: file systems take 255, and a hidden name
beside it is longer."""
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Characters that Windows takes in no name, and names that it keeps for devices."""


def safe_name(name: str) -> str:
    """Make of `name` one that Windows and macOS take as well, of `MAX_STEM` bytes at most."""
    name = FORBIDDEN.sub("_", name)
    while len(os.fsencode(name)) > MAX_STEM:
        name = name[:-1]
    if name.endswith((".", " ")):
        name = f"{name[:-1]}_"
    return f"_{name}" if DEVICES.fullmatch(name) else name


def is_dir(name: str) -> bool:
    """Tell whether `name` is a folder; a name that no file system takes is not."""
    with suppress(OSError):  # a name may be too long
        return name != "" and Path(name).is_dir()
    return False


def names_folder(name: Name) -> bool:
    """Tell whether a name is of a folder that is there, or meant as one by a slash at the end."""
    return os.fspath(name).endswith(("/", os.sep)) or is_dir(os.fspath(name))


def check_name(target: Path) -> None:
    """Check that an output can have the name of `target`; raises UsageError."""
    if target.name in ("", "..") or len(os.fsencode(target.name)) > MAX_NAME:
        raise UsageError(f"{target}: not a name for an output; give another")


def check_parent(target: Path) -> None:
    """Check that the folder of `target` can be written to; raises MediaError."""
    parent = target.parent
    if not parent.is_dir():
        what = "is not a folder" if parent.exists() else "does not exist; create it first"
        raise MediaError(f"{target}: output folder {parent} {what}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise MediaError(f"{target}: no permission to write into {parent}; choose another folder")


def check_free(target: Path, inputs: Iterable[Name], *, overwrite: bool) -> None:
    """Check that a file can be written at `target`.

    Raises UsageError where something is there that may not be replaced, and where it is one of
    `inputs`; MediaError where its folder is missing or not writable.
    """
    for source in map(Path, inputs if target.exists() else ()):
        if source.exists() and target.samefile(source):
            raise UsageError(f"{target}: is the input {source}; give another name")
    check_parent(target)
    if target.is_dir():
        raise UsageError(f"{target}: exists already and is a folder; give another name")
    if may_never_end(target):
        raise UsageError(f"{target}: is a pipe or a device, no file; write to - and pipe it on")
    if os.path.lexists(target) and not overwrite:
        raise UsageError(f"{target}: exists already; give another name or --overwrite")


PHOTOS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp"),
    *(".heic", ".heif", ".hif"),
}
"""GIF can be read as a photo too, but one in a folder is an animation more often than not."""
VIDEOS = {
    *(".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".gif", ".apng", ".ts", ".mts"),
    *(".m2ts", ".mpg", ".mpeg", ".flv", ".wmv", ".ogv", ".3gp", ".3g2", ".mxf", ".dv", ".y4m"),
}


CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""Kinds of video that are written, and what FFmpeg calls them."""
CLIPS = (*CONTAINERS, ".gif", ".webp")
"""Kinds of file that a clip is written as."""
STILLS = {
    **{".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF"},
    **{".tiff": "TIFF", ".avif": "AVIF", ".bmp": "BMP"},
}
"""Kinds of picture that are written, and what Pillow calls them."""
VIDEO = 16384, 139_264 * 256
MOST = {
    **dict.fromkeys(CONTAINERS, VIDEO),
    **{".gif": (65535, 1 << 32), ".webp": (16383, 1 << 32)},
    **{".jpg": (65500, 1 << 32), ".jpeg": (65500, 1 << 32), ".avif": (32768, 1 << 28)},
}
"""Pixels a side, and pixels: libx264 takes no longer side, and the highest level of H.264 (6.2)
has 139,264 blocks of 16 x 16, so that no player has to show more; HEVC, VP9 and AV1 have
the same limit. libjpeg takes 65500 a side; libavif reads no larger AVIF than that."""
ONE = (".jpg", ".jpeg", ".avif")
"""Of them, those that are one picture and no clip."""


def check_size(path: Name, height: int, width: int) -> None:
    """Check that a file at `path` can hold pictures of a size, any in PNG or a folder of it.

    Raises UsageError where it cannot; it says what would.
    """
    target = Path(path)
    if names_folder(path):
        return
    kind = target.suffix.lower()
    if kind not in MOST:
        return
    (side, pixels), why = MOST[kind], ""
    if max(height, width) > side:
        why = f"{kind} takes {side} a side"
    elif 256 * math.ceil(height / 16) * math.ceil(width / 16) > pixels:
        why = f"{kind} takes {pixels / 1e6:.1f} megapixels"
    if why:
        size = f"{width}x{height} pixels are too many, {why}"
        instead = "write .png" if kind in ONE else "name a folder for PNG"
        raise UsageError(f"{target}: {size}; scale down, or {instead}")


def shipped_dir() -> Path:
    """Folder of the weights that come with b2v: inside the package once installed."""
    packed = Path(__file__).resolve().parent / "_weights"
    return packed if packed.is_dir() else Path(__file__).resolve().parents[1] / "weights"


def cache_dir() -> Path:
    """Folder that b2v keeps weights in: `B2V_CACHE`, else `b2v` in the user's cache folder."""
    if own := os.environ.get("B2V_CACHE"):
        return _expanded(own)
    return _expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "b2v"


def _expanded(name: str) -> Path:
    """Expand `~` to the user's home, or to / where there is none, as in containers."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path("/", name)


def hub_dir() -> Path:
    """Folder of the downloads: `<owner>--<repo>/<revision>/` and what the repository has."""
    return cache_dir() / "hub"


def env_dir() -> Path | None:
    """Folder named by `B2V_WEIGHTS_DIR`, if any.

    Raises WeightsError where the variable is set but names no folder.
    """
    value = os.environ.get("B2V_WEIGHTS_DIR")
    if not value:
        return None
    folder = _expanded(value)
    if not folder.is_dir():
        raise WeightsError(f"B2V_WEIGHTS_DIR is {value}, which is no folder; correct or unset it")
    return folder


def card_folders() -> list[tuple[str, Path]]:
    """Folders that may hold cards, in the order in which a model's name is looked up.

    Each comes with what it is: "environment", "shipped" or "cache".

    Raises WeightsError where `B2V_WEIGHTS_DIR` is set but names no folder.
    """
    env = env_dir()
    hub = sorted({card.parent for card in hub_dir().rglob("*.json")})
    own = [("environment", env)] if env else []
    return [
        *own,
        ("shipped", shipped_dir()),
        *(("cache", folder) for folder in [cache_dir(), *hub]),
    ]


PIPE = "-"
"""Stands for standard input or output where a file is asked for."""


class Stdin:
    """Standard input; a read takes what is there, without waiting for more.

    Raises UsageError where it is the terminal.
    """

    name = PIPE

    def __init__(self) -> None:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("-: standard input is the terminal; pipe a video into b2v")
        self._file = sys.stdin.fileno()

    def read(self, most: int) -> bytes:
        """Read at least one byte and at most as many; none at the end."""
        return os.read(self._file, most)


class Stdout:
    """Standard output; what is written goes out at once.

    Raises UsageError where it is the terminal.
    """

    name = PIPE

    def __init__(self) -> None:
        if sys.stdout is None or sys.stdout.isatty():
            raise UsageError("-: standard output is the terminal; pipe it on, or name a file")
        sys.stdout.flush()
        self._file = sys.stdout.fileno()

    def write(self, data: bytes) -> int:
        """Write all of `data`."""
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]
        return len(data)
