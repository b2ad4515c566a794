"""Suffixes by which files in folders are taken for photos or videos.

They only say what is worth trying; a file is what its content says.
"""

PHOTOS = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".avif",
        ".tif",
        ".tiff",
        ".bmp",
        ".heic",
        ".heif",
        ".hif",
    }
)
"""GIF can be read as a photo too, but one in a folder is an animation more often than not."""
VIDEOS = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".qt",
        ".mkv",
        ".webm",
        ".avi",
        ".gif",
        ".apng",
        ".ts",
        ".mts",
        ".m2ts",
        ".mpg",
        ".mpeg",
        ".flv",
        ".wmv",
        ".ogv",
        ".3gp",
        ".3g2",
        ".mxf",
        ".dv",
        ".y4m",
    }
)
