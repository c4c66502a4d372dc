"""Reading a matrix from wherever it is, and saving a result whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from qkvcli.core.arrays import Labelled
from qkvcli.errors import DataError, WriteError
from qkvcli.formats.document import Document, choose
from qkvcli.formats.kinds import kind_by_ending, kind_by_start
from qkvcli.formats.source import Source


def read_document(source: Source) -> Document:
    """All that a file or a pipe holds; the ending tells the format, else the first bytes do.

    Raises DataError, which names the file and, where there is one, the line and the cell.
    """
    kind = kind_by_ending(source.path) if source.path else None
    if kind is None:
        start = source.start()
        if not start:
            raise DataError(f"{source.name}: empty; there is no matrix in it")
        kind = kind_by_start(start)
    return kind.read(source)


def read_matrix(source: Source, role: str) -> Labelled:
    """The matrix that plays ``role`` ("query", "scores", …) in what ``source`` holds."""
    return choose(read_document(source), role, source.name)


@contextmanager
def saved(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file when all of them are there.

    A fault on the way leaves what was there before. A device or a pipe is written
    directly. Raises WriteError where the system says no.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as stream:
                yield stream
        else:
            with _replacing(path.resolve()) as stream:
                yield stream
    except OSError as fault:
        raise WriteError(f"{path}: cannot be written: {fault.strerror or fault}") from None


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        part.chmod(path.stat().st_mode if path.exists() else 0o666 & ~_umask())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)  # the only way to read it is to set it
    os.umask(mask)
    return mask
