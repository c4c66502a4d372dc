"""One family of errors, each with the exit code that the program ends with.

Nothing of ours is imported here, so that every layer can raise these. Each error is also
the built-in one that it is: a `UsageError` is a ValueError, a `WriteError` an OSError.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the program tells the shell when it ends."""

    FINE = 0
    DIFFERS = 1
    WRONG_USAGE = 2
    BAD_DATA = 3
    CANNOT_WRITE = 4
    INTERRUPTED = 130


class QkvError(Exception):
    """The base class: something that the user can correct, and the message says how."""

    exit_code = ExitCode.BAD_DATA


class UsageError(QkvError, ValueError):
    """An option has a value that does not exist, or options do not fit together."""

    exit_code = ExitCode.WRONG_USAGE


class DataError(QkvError, ValueError):
    """An input cannot be read as a matrix of numbers."""


class DtypeError(DataError, TypeError):
    """An input holds something other than real numbers."""


class ShapeError(DataError):
    """Two inputs have shapes that attention cannot combine."""


class ReaderGone(QkvError, BrokenPipeError):  # noqa: N818 -- it is no error
    """The reader of our output has closed the pipe; the program ends, and nothing is wrong."""

    exit_code = ExitCode.FINE


class ClusterError(QkvError, ConnectionError):
    """The workers of other machines cannot be reached, or are no longer there."""

    exit_code = ExitCode.CANNOT_WRITE


class WriteError(QkvError, OSError):
    """A result cannot be written where it was asked for."""

    exit_code = ExitCode.CANNOT_WRITE
