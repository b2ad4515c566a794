"""Slow motion from blurry videos: the frames of every picture, joined into one video.

`joining` finds the direction of time of each picture by its neighbours, `run` goes from file to
file.
"""

from b2v.slowmo.joining import Neighbours, join, with_neighbours
from b2v.slowmo.run import Tempo, slow_motion, tempo_for

__all__ = ["Neighbours", "Tempo", "join", "slow_motion", "tempo_for", "with_neighbours"]
