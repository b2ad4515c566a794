"""Datasets of blurry and sharp pictures: from folders of frames, videos and photographs to disk.

`find_sequences` looks for sources, `plan` settles names and splits, and `synthesise` writes
window after window, in parallel and resumably, with a manifest that says how each was made.
"""

from b2v.synthesis.manifest import Plan
from b2v.synthesis.recipe import RECIPES, Aperture, Recipe, Settings
from b2v.synthesis.run import Finished, Written, plan, synthesise
from b2v.synthesis.sources import LAYOUTS, find_sequences

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
