"""How a video or a photo gets on: a bar on a terminal, a line every ten seconds elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console

from b2v.cli import options

if TYPE_CHECKING:
    from b2v.inference.video_files import Progress as Report


@dataclass
class Pace:
    """How fast a video is restored, from its latest report."""

    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    first: int | None = None
    done: int = 0
    total: int | None = None

    def take(self, report: "Report") -> None:
        """Note how far it is."""
        self.first = report.done if self.first is None else self.first
        self.done, self.total = report.done, report.total
        self.seconds = time.monotonic() - self.started

    @property
    def fps(self) -> float:
        """Frames restored in a second, without those of the run before."""
        return (self.done - (self.first or 0)) / max(self.seconds, 1e-9)

    def __str__(self) -> str:
        of = f" of {self.total}" if self.total else ""
        said = f"{self.done}{of} frames, {self.fps:.1f} a second"
        if self.total and self.fps:
            left = timedelta(seconds=round(max(0, self.total - self.done) / self.fps))
            said += f", {left} left"
        return said


@contextmanager
def display(name: str, *, quiet: bool) -> Iterator[Callable[[Pace], None]]:
    """Give a function that shows how the video `name` gets on."""
    console, ticker = Console(stderr=True), options.Ticker()
    if quiet or not console.is_terminal:
        ticker.due()  # not at once

        def tell(pace: Pace) -> None:
            if ticker.due():
                options.note(f"{name}: {pace}", quiet=quiet)

        yield tell
        return

    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn(escape(name)), BarColumn(), TextColumn("{task.fields[pace]}")
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, pace="")

        def draw(pace: Pace) -> None:
            bars.update(task, completed=pace.done, total=pace.total, pace=str(pace))

        yield draw


@dataclass
class PhotoPace:
    """How far the network is with a photo: the pixels that it has been run on, of a total."""

    total: int
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    latest: float = 0.0

    def take(self, pixels: int) -> None:
        """Note that it has been run on more."""
        self.done += pixels
        self.latest = time.monotonic()

    @property
    def left(self) -> float | None:
        """Seconds from now, at the pace so far; None before the first pixels."""
        if not self.done:
            return None
        each = (self.latest - self.started) / self.done
        return max(0.0, each * (self.total - self.done) - (time.monotonic() - self.latest))

    def __str__(self) -> str:
        said = f"{100 * self.done // self.total} %"
        if self.left is not None and self.done < self.total:
            said += f", about {_roughly(self.left)} left"
        return said

    __rich__ = __str__


def _roughly(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


@contextmanager
def photo(name: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Give a function that is told the pixels that are done of the photo `name`, and shows them.

    Without a `total` only a terminal is shown that something goes on.
    """
    console, ticker, pace = Console(stderr=True), options.Ticker(), PhotoPace(total)
    if quiet or not total or not console.is_terminal:
        ticker.due()  # not at once

        def tell(pixels: int) -> None:
            pace.take(pixels)
            if pace.done < total and ticker.due():
                options.note(f"{name}: {pace}", quiet=quiet)

        with options.busy(f"{name} ...", quiet=quiet):
            yield tell
        return

    from rich.markup import escape
    from rich.progress import BarColumn, Progress, RenderableColumn, TextColumn

    columns = TextColumn(escape(name)), BarColumn(), RenderableColumn(pace)
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=total)

        def draw(pixels: int) -> None:
            pace.take(pixels)
            bars.update(task, completed=pace.done)

        yield draw
