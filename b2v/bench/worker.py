"""A process of its own for an object, so that what it does to the process stays there.

The process is spawned, not forked: it shares no memory with this one, and the allocator, the
threads and the GPU are as fresh in it as in a command that has just been started.
"""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from b2v.errors import B2VError


class Worker:
    """An object in a fresh process, which answers when it is asked and rests meanwhile."""

    def __init__(self, make: Callable[..., object], *args: object) -> None:
        """Start the process.

        Args:
            make: makes the object there, when it is first asked; found there by its import.
            args: what it is made of; to be pickled.

        """
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, args), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, method: str) -> Any:  # noqa: ANN401 - as many types as methods
        """Run a method of the object and return what it returns, pickled.

        Raises:
            B2VError: the method did, the memory is too small, or the process ended.

        """
        try:
            self._pipe.send(method)
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            code = self._process.exitcode
            hint = "; was there too little memory?" if code == -signal.SIGKILL else ""
            raise B2VError(f"a process of the benchmark ended with code {code}{hint}") from error
        if isinstance(answer, B2VError):
            raise answer
        return answer

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, whatever it is doing."""
        self._pipe.close()
        self._process.kill()
        self._process.join()
        self._process.close()


def _serve(pipe: "Connection[Any, Any]", make: Callable[..., object], args: Any) -> None:  # noqa: ANN401
    """Answer until nobody asks any more; who asks is told what is wrong with the request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks is interrupted, and ends us
    made: object = None
    while True:
        try:
            method = pipe.recv()
        except EOFError:
            return
        try:
            made = make(*args) if made is None else made
            answer = getattr(made, method)()
        except B2VError as error:
            answer = error
        except (MemoryError, RuntimeError) as error:
            # torch says in its own way that there was not enough memory.
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            answer = B2VError("not enough memory for both routes; leave tasks out with --task")
        pipe.send(answer)
