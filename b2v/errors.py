"""Errors that b2v raises on purpose; each message is one line that says what to do next.

The command line turns them into that line and the exit code below; anything else is a bug
and keeps its traceback.
"""


class B2VError(Exception):
    """Base of every expected failure."""

    exit_code = 1


class UsageError(B2VError):
    """The request itself cannot be carried out as given."""

    exit_code = 2


class ShapeError(B2VError):
    """A tensor or picture has a shape that the operation cannot take."""


class MediaError(B2VError):
    """A picture, clip or video cannot be read or written."""


class DatasetError(B2VError):
    """A data folder does not hold what training or evaluation needs."""


class TrainingError(B2VError):
    """A training run cannot start, resume or go on."""


class WeightsError(B2VError):
    """Weights are missing, damaged, or not of the network they should be for."""

    exit_code = 3
