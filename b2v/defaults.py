"""Names of the models that are taken where none is asked for."""

PHOTO_MODEL = "b2v"
VIDEO_MODEL = "blend"
