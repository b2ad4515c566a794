"""Networks run on photos and videos, in memory and from file to file."""
