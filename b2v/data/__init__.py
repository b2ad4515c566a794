"""Datasets of blurry and sharp pictures: from folders of frames, videos and photographs to disk.

`find_sequences` looks for sources, `plan` settles names and splits, and `synthesize` writes
window after window, in parallel and resumably, with a manifest that says how each was made.
"""
