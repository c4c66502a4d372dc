"""Reading a matrix from wherever it is, and saving a result whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from qkvcli.core.config import SCORES
from qkvcli.core.operands import Operand
from qkvcli.errors import DataError, WriteError
from qkvcli.formats.registry import format_by_ending, format_by_start
from qkvcli.formats.source import Document, Source

NAMES: dict[str, tuple[str, ...]] = {
    "query": ("query", "q"),
    "key": ("key", "k"),
    "value": ("value", "v"),
    "scores": SCORES[::-1],  # the last step before the softmax
    "weights": ("weights",),
    "output": ("output",),
    "mask": ("mask", "attn_mask"),
    "embeddings": ("embeddings", "x"),
}
"""The names that each role goes by in a file, the one to prefer first."""

_KNOWN = {name for names in NAMES.values() for name in names}


def read_document(source: Source) -> Document:
    """All that a file or a pipe holds; the ending tells the format, else the first bytes do.

    Raises DataError, which names the file and, where there is one, the line and the cell.
    """
    known = format_by_ending(source.path) if source.path else None
    if known is None:
        start = source.start()
        if not start:
            raise DataError(f"{source.name}: empty; there is no matrix in it")
        known = format_by_start(start)
    return known.read(source)


def read_matrix(source: Source, role: str) -> Operand:
    """The matrix that plays ``role`` ("query", "scores", …) in what ``source`` holds."""
    return choose(read_document(source), role, source.name)


def choose(document: Document, role: str, where: str) -> Operand:
    """The matrix that plays ``role`` ("query", "scores", …); case does not matter.

    A matrix without a name, or alone under a name that means nothing to us, is taken as
    it is; one that is named as something else is not. It is called by its role then, or,
    where the role is "scores", by which of those steps it is. Raises DataError.
    """
    names: dict[str, str] = {}
    for name in document:
        if name.lower() in names:
            raise DataError(f"{where}: both {names[name.lower()]!r} and {name!r}; keep one")
        names[name.lower()] = name
    wanted = NAMES.get(role, (role,))
    found = next((names[name] for name in wanted if name in names), None)
    if found is None and len(names) == 1 and not _KNOWN & set(names):
        [found] = names.values()
    if found is None:
        held = ", ".join(document) or "nothing"
        raise DataError(f"{where}: holds {held}; there is no {' or '.join(wanted)} in it")
    step = found.lower() if role == "scores" and found.lower() in SCORES else role
    return replace(document[found](), name=step)


@contextmanager
def saved(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file when all of them are there.

    A fault on the way leaves what was there before. A device or a pipe is written
    directly. Raises WriteError where the system says no.
    """
    direct = is_special(path)
    with _said_of(path):
        target = path if direct else path.resolve()
        stream = target.open("wb") if direct else _part_of(target)
    part = Path(stream.name)
    try:
        yield cast(BinaryIO, _Guarded(path, stream))
        with _said_of(path):
            stream.close()
            if not direct:
                part.chmod(target.stat().st_mode if target.exists() else 0o666 & ~_umask())
                part.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):  # what was wrong is known already
            stream.close()
        if not direct:
            with contextlib.suppress(OSError):
                part.unlink()
        raise


def is_special(path: Path) -> bool:
    """Whether a path is there and no regular file: a device, a pipe, a folder."""
    try:
        return path.exists() and not path.is_file()
    except (OSError, ValueError):  # a name that no file can have; opening it says so
        return False


def _part_of(path: Path) -> BinaryIO:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".part")
    os.close(handle)
    return Path(name).open("wb")


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    try:
        yield
    except WriteError:  # an OSError that names its file already
        raise
    except (OSError, ValueError) as fault:  # the latter for a name with a null byte
        reason = getattr(fault, "strerror", None) or fault
        raise WriteError(f"{path}: cannot be written: {reason}") from None


class _Guarded:
    """A stream whose errors in writing name the file; other errors pass through."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path, self.stream = path, stream
        self.flush = stream.flush

    def write(self, data: bytes) -> int:
        with _said_of(self.path):
            return self.stream.write(data)


def _umask() -> int:
    mask = os.umask(0)  # the only way to read it is to set it
    os.umask(mask)
    return mask
