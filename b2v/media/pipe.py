"""Standard input and output as FFmpeg reads and writes them: no seeking, nothing held back."""

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
        if sys.stdin.isatty():
            raise UsageError("-: standard input is the terminal; pipe a video into b2v")
        self._buffer = sys.stdin.buffer

    def read(self, most: int) -> bytes:
        """Read at least one byte and at most as many; none at the end."""
        return self._buffer.read1(most)  # type: ignore[union-attr]


class Stdout:
    """Standard output; what is written goes out at once.

    Raises UsageError where it is the terminal.
    """

    name = PIPE

    def __init__(self) -> None:
        if sys.stdout.isatty():
            raise UsageError("-: standard output is the terminal; pipe it on, or name a file")
        self._buffer = sys.stdout.buffer

    def write(self, data: bytes) -> int:
        """Write all of `data`."""
        self._buffer.write(data)
        self._buffer.flush()
        return len(data)
