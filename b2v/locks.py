"""One writer at a time: a lock beside the file that is written.

The system drops it with the process that holds it, however that ends. Locks are advisory: they
keep runs of b2v apart, not other programs.
"""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from b2v.errors import UsageError

if sys.platform != "win32":
    import fcntl


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
        why = "another run of b2v is writing it; let that end, or give another name"
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
    """Tell whether a name is of a pipe, a socket or a device: to open or read it may hang."""
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
