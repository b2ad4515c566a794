"""How a video gets on: a bar on a terminal, a line every ten seconds elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console

from b2v.cli import options

if TYPE_CHECKING:
    from b2v.deblurring import Progress as Report


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
