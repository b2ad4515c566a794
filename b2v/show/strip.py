"""Filmstrips: frames in a row, each with a line that says what it is."""

from collections.abc import Sequence

import torch
from torch import Tensor

from b2v.errors import ShapeError
from b2v.media.draw import write_words
from b2v.show.layout import fit

CELL = 480
"""Longest side of a frame in pixels."""
GAP = 8
LINE = 24
"""Pixels between frames, and of the least line of words."""
WORDS = 1 / 8
"""Height of a line of words, as a part of the width of its cell: a row of eight is read when it is
scaled down to the width of a screen."""
PAPER, INK = 0.08, 0.92


def strip(rows: Sequence[Sequence[Tensor]], captions: Sequence[Sequence[str]]) -> Tensor:
    """Lay out rows of pictures.

    Args:
        rows: pictures [3, H, W] in [0, 1], all of one size; larger ones are scaled down.
        captions: a line of words below each.

    Returns:
        One picture [3, h, w].

    Raises:
        ShapeError: a row is longer than another, or a picture is of another size.

    """
    shapes = {tuple(picture.shape) for row in rows for picture in row}
    lengths = {len(row) for row in (*rows, *captions)}
    if len(shapes) != 1 or len(lengths) != 1 or len(rows) != len(captions):
        raise ShapeError(f"a strip of rows of {sorted(lengths)} pictures of {sorted(shapes)}")
    first = fit(rows[0][0], CELL, CELL)
    height, width = first.shape[1:]
    cell = max(width, 4 * LINE)
    line = max(LINE, round(WORDS * cell))
    size = len(rows) * (GAP + height + line) + GAP, lengths.pop() * (GAP + cell) + GAP
    sheet = torch.full((3, *size), PAPER)
    for y, (row, words) in enumerate(zip(rows, captions, strict=True)):
        top = GAP + y * (GAP + height + line)
        for x, (picture, said) in enumerate(zip(row, words, strict=True)):
            left = GAP + x * (GAP + cell)
            place = sheet[:, top : top + height, left + (cell - width) // 2 :][:, :, :width]
            place.copy_(fit(picture, CELL, CELL))
            middle = left + cell // 2
            below = top + height + 2
            write_words(sheet, said, height=line - 4, top=below, left=middle, centred=True, ink=INK)
    return sheet
