"""Where the pictures of a window go, in the layouts that others' training code reads.

| layout | blurry | sharp |
|---|---|---|
| gopro7 | `<split>/blur/<seq>/<centre>.png` | `<split>/sharp/<seq>/NNNNNN.png`, every frame |
| gopro | `<split>/<seq>/{blur,blur_gamma}/NNNNNN.png` | `<split>/<seq>/sharp/NNNNNN.png` |
| reds | `<split>/<split>_blur/000/00000000.png` | `…_sharp/…`, every frame in `…_orig/…` |
| bsd | `<split>/000/Blur/RGB/00000000.png` | `<split>/000/Sharp/RGB/00000000.png` |
| pairs | `<split>/input/<seq>-NNNNNN.png` | `<split>/target/<seq>-NNNNNN.png` |

Where only one sharp frame is kept it is the middle one. In gopro, `blur` averages code values
and `blur_gamma` light, as in GOPRO_Large; elsewhere the settings say which.
"""

from typing import NamedTuple

from b2v.synthesis.recipe import Layout, Light
from b2v.synthesis.sources import Sequence
from b2v.synthesis.windows import Window


class Names(NamedTuple):
    """Files of a window, relative to the dataset, without suffix."""

    blurry: dict[Light, str]
    sharp: list[tuple[int, str]]  # frame of the window, from 0, and where it goes


def names_of(layout: Layout, sequence: Sequence, window: Window) -> Names:
    """Name the files of a window of a sequence."""
    split, seq, middle = sequence.split, sequence.name, len(window.numbers) // 2
    centre, place = f"{window.centre:06d}", f"{sequence.index:03d}/{window.index:08d}"

    def blurry(name: str) -> dict[Light, str]:
        return dict.fromkeys(window.blurry, name)

    if layout == "gopro7":
        all_sharp = enumerate(window.numbers)
        sharp = [(i, f"{split}/sharp/{seq}/{number:06d}") for i, number in all_sharp]
        return Names(blurry(f"{split}/blur/{seq}/{centre}"), sharp)
    if layout == "gopro":
        both: dict[Light, str] = {
            "linear": f"{split}/{seq}/blur_gamma/{centre}",
            "code": f"{split}/{seq}/blur/{centre}",
        }
        return Names(both, [(middle, f"{split}/{seq}/sharp/{centre}")])
    if layout == "reds":
        orig = f"{split}/{split}_orig/{sequence.index:03d}"
        every = [(i, f"{orig}/{position:08d}") for i, position in enumerate(window.positions)]
        sharp = [(middle, f"{split}/{split}_sharp/{place}"), *every]
        return Names(blurry(f"{split}/{split}_blur/{place}"), sharp)
    if layout == "bsd":
        folder, name = f"{split}/{sequence.index:03d}", f"RGB/{window.index:08d}"
        return Names(blurry(f"{folder}/Blur/{name}"), [(middle, f"{folder}/Sharp/{name}")])
    pair = f"{seq}-{centre}"
    return Names(blurry(f"{split}/input/{pair}"), [(middle, f"{split}/target/{pair}")])
