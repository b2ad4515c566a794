"""Standard input and output as FFmpeg reads and writes them: no seeking, nothing held back.

Python's own buffers are passed by: a thread that waits in one holds its lock, and Python could
not end.
"""

import os
import sys

from b2v.errors import UsageError

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
