"""Datasets of blurry and sharp pictures: from folders of frames, videos and photographs to disk.

`find_sequences` looks for sources, `plan` settles names and splits, and `synthesise` writes
window after window, in parallel and resumably, with a manifest that says how each was made.
"""

from b2v.data.recipes import RECIPES, Aperture, Recipe, Settings
from b2v.data.sources import LAYOUTS, find_sequences
from b2v.data.synthesize import Finished, Plan, Written, plan, synthesise

__all__ = [
    "LAYOUTS",
    "RECIPES",
    "Aperture",
    "Finished",
    "Plan",
    "Recipe",
    "Settings",
    "Written",
    "find_sequences",
    "plan",
    "synthesise",
]
