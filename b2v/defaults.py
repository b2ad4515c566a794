"""What is taken where nothing is asked for, known without the second that it takes to import torch.

Models are named by the quality that is wanted, of photos and of videos: one stage of MAXIM is good
and all three are best; for photos the first stage is fast where it sees them at half the size, for
videos a small recurrent U-Net is. Each takes longer than the one before.
"""

QUALITY = "good"
"""What is taken where no quality is asked for."""
PHOTO_MODELS = {"fast": "maxim-half", "good": "maxim-1", "best": "maxim-3"}
VIDEO_MODELS = {"fast": "blend", "good": "maxim-1", "best": "maxim-3"}
PHOTO_MODEL = PHOTO_MODELS[QUALITY]
VIDEO_MODEL = VIDEO_MODELS["fast"]
"""What was trained for videos, and is trained where none is named."""

FRAMES = 7
"""Frames that one exposure is taken apart into (T of Jin et al., eq. 1)."""
COUNTS = (5, 7, 9, 11, 13)
"""Numbers of frames that may be asked for: the inner five, or more beyond both ends."""
FPS = 10.0
"""Frames a second at which a clip is played when nothing else is said."""
MB, GB = 1e6, 1e9
"""Bytes."""
BUNDLED = "bundled", "bundled-video"
"""Names of score sets that are made of bundled photographs: windows, and sharp clips."""
