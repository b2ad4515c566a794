"""A page for the browser: before and after under a slider, and a scrubber through the frames.

One file that needs no other and no network: pictures are in it as data, and a policy in its head
forbids the browser to load anything else or to run any other script.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.errors import ShapeError
from b2v.files import replacing
from b2v.frames import smooth
from b2v.media.drawing import data_uri, fit

LONGEST = 1280
"""Longest side of the pictures in a page in pixels; larger ones are scaled down."""
SPEEDS = (2, 5, 10, 20, 30)
"""Frames a second to choose from."""


class View(NamedTuple):
    """Pixel of the picture in the middle of what is seen, and pixels of the screen for each."""

    x: int
    y: int
    zoom: int


@dataclass(frozen=True)
class Scene:
    """One blurry photo or video and what became of it.

    Args:
        title: name of it.
        before: addresses of the blurry pictures, one or as many as `after` (`pictures`).
        after: those of the restored frames.
        size: width and height in pixels of all of them.
        facts: short lines to be shown above.
        seconds: what the frames last in life, if that is known.
        fps: frames a second to play at first.
        heat: address of a map of how well they explain the photo, if there is one.
        view: where the page opens (`opening`); at all of the picture where there is none.

    """

    title: str
    before: Sequence[str]
    after: Sequence[str]
    size: tuple[int, int]
    facts: Sequence[str] = ()
    seconds: float | None = None
    fps: int = 10
    heat: str | None = None
    view: View | None = None

    def __post_init__(self) -> None:
        if not self.after or len(self.before) not in (1, len(self.after)):
            counts = f"{len(self.before)} blurry pictures and {len(self.after)} frames"
            raise ShapeError(f"{self.title}: {counts}; expected one blurry picture, or as many")


def pictures(frames: Tensor | Iterable[Tensor]) -> tuple[list[str], tuple[int, int]]:
    """Encode frames [T, 3, H, W] in [0, 1] as addresses for a page; return their size as well."""
    found, size = [], (0, 0)
    for frame in frames:
        small = fit(frame, LONGEST, LONGEST)
        size = small.shape[2], small.shape[1]
        found.append(data_uri(small))
    return found, size


def write_page(
    path: Path, title: str, scenes: Sequence[Scene], notes: Sequence[str], *, overwrite: bool
) -> None:
    """Write a page with scenes, and notes below them; raises as `replacing` does."""
    with replacing(path, overwrite=overwrite) as part:
        part.write_text(render(title, scenes, notes), encoding="utf-8", errors="replace")


def render(title: str, scenes: Sequence[Scene], notes: Sequence[str] = ()) -> str:
    """Write the HTML of a page."""
    sizes = "".join(
        f"#scene{number}{{--wide:{scene.size[0]};--high:{scene.size[1]}}}\n"
        for number, scene in enumerate(scenes, 1)
    )
    style, script = _asset("page.css") + sizes, _asset("page.js")
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
    policy += f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    body = "\n".join(_scene(number, scene) for number, scene in enumerate(scenes, 1))
    below = "\n".join(f"<p>{escape(note)}</p>" for note in notes)
    return _filled(
        "page.html",
        policy=policy,
        title=escape(title),
        style=style,
        scenes=body,
        notes=below,
        script=script,
    )


def _scene(number: int, scene: Scene) -> str:
    """Write one scene."""
    name, count = f"scene{number}", len(scene.after)
    wide, high = scene.size
    shape = f'width="{wide}" height="{high}"'
    images = [
        f'<img class="before" src="{address}" alt="Blurry picture" {shape}>'
        for address in scene.before
    ]
    images += [
        f'<img class="after" src="{address}" alt="Restored frame {k} of {count}" {shape}>'
        for k, address in enumerate(scene.after, 1)
    ]
    facts = [f"<li>{escape(fact)}</li>" for fact in scene.facts]
    speeds = "".join(
        f'<option value="{speed}"{" selected" if speed == scene.fps else ""}>{speed} fps</option>'
        for speed in sorted({*SPEEDS, scene.fps})
    )
    return _filled(
        "scene.html",
        name=name,
        seconds=scene.seconds or "",
        view=" ".join(map(str, scene.view or ())),
        title=escape(scene.title),
        facts="".join(facts),
        images="\n".join(images),
        count=count,
        speeds=speeds,
        heat="" if scene.heat is None else _filled("heat.html", address=scene.heat),
    )


def _filled(template: str, **parts: object) -> str:
    """Put parts into a template among the assets."""
    return Template(_asset(template)).substitute(parts)


def _asset(name: str) -> str:
    return (files("b2v") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


SIGMA = 1.0
"""Standard deviation in pixels of the Gaussian before gradients are taken."""
WINDOW = 320
"""Side in pixels of the screen of the part that is chosen: all of it is seen on a phone."""
SMALL = 800
"""Pictures whose longest side has fewer pixels open at 200 %."""
BORDER = 1 / 32
"""Part of the shorter side that is left out all round, as networks err most at borders."""
FLAT = 0.01
"""Slopes per pixel that are less than this are those of flat regions, where only noise can grow."""
STEP = 4
"""Pixels between the windows that are tried."""


def opening(blurry: Tensor, restored: Tensor) -> View:
    """Choose where the difference of two pictures [3, H, W] in [0, 1], as in a page, is plain.

    It is the middle of the picture where nothing was gained.
    """
    blurry, restored = (fit(picture, LONGEST, LONGEST) for picture in (blurry, restored))
    height, width = blurry.shape[1:]
    zoom = 2 if max(height, width) < SMALL else 1
    gain = _energy(restored) - _energy(blurry)  # [H, W]
    cut = round(BORDER * min(height, width))
    inside = gain[None, cut : height - cut, cut : width - cut]
    side = [min(WINDOW // zoom, length) for length in inside.shape[1:]]
    sums = F.avg_pool2d(F.avg_pool2d(inside, (side[0], 1), (STEP, 1)), (1, side[1]), (1, STEP))[0]
    if sums.max() <= 0:
        return View(width // 2, height // 2, zoom)
    row, column = divmod(int(sums.argmax()), sums.shape[1])
    return View(cut + STEP * column + side[1] // 2, cut + STEP * row + side[0] // 2, zoom)


def _energy(picture: Tensor) -> Tensor:
    """Squared slope of the gray of a picture [3, H, W] at each pixel, [H, W]; 0 where flat."""
    gray = smooth(picture.float().mean(0, keepdim=True), SIGMA)[0]
    padded = F.pad(gray[None, None], (1,) * 4, mode="replicate")[0, 0]
    across = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    down = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    energy = across.square() + down.square()
    return torch.where(energy < FLAT**2, 0, energy)
