"""Models that are taken where none is asked for, by the quality that is: of photos and of videos.

For photos a small U-Net is fast, one stage of MAXIM good and all three are best; each takes longer
than the one before. Videos have one model so far, whatever quality is asked for.
"""

QUALITY = "good"
"""What is taken where no quality is asked for."""
PHOTO_MODELS = {"fast": "unet", "good": "maxim-1", "best": "maxim-3"}
VIDEO_MODELS = {"fast": "blend", "good": "blend", "best": "blend"}
PHOTO_MODEL, VIDEO_MODEL = PHOTO_MODELS[QUALITY], VIDEO_MODELS[QUALITY]
FAST_MODEL = PHOTO_MODELS["fast"]
"""What is taken of photos where there are many of them: each picture of a video."""
