"""Worker processes that end with the one that started them, however that ends.

What is killed cannot stop its workers: those of a pool would wait for work for ever, and one
that is at work would go on writing beside the run that takes over.
"""

import os
from multiprocessing import parent_process
from threading import Thread


def end_with_parent() -> None:
    """Have this process end when the one that started it by `multiprocessing` has ended."""
    Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
