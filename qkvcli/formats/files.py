"""Reading a matrix from wherever it is, and saving a result whole or not at all."""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from qkvcli.core.config import SCORES
from qkvcli.core.operands import Operand
from qkvcli.errors import DataError, WriteError
from qkvcli.formats.foreign import check_ours
from qkvcli.formats.registry import Format, format_by_ending, format_by_start
from qkvcli.formats.source import Document, Source

NAMES: dict[str, tuple[str, ...]] = {
    "query": ("query", "q"),
    "key": ("key", "k"),
    "value": ("value", "v"),
    "scores": SCORES[::-1],  # the last step before the softmax
    "weights": ("weights",),
    "output": ("output",),
    "mask": ("mask", "attn_mask", "attn_bias", "position_bias", "bias"),
    "gate": ("gate", "wg"),
    "embeddings": ("embeddings", "x"),
}
"""The names that each role goes by in a file, the one to prefer first."""

_NAMED = 12
"""How many names an error lists."""
_KNOWN = {name for names in NAMES.values() for name in names}


def read_document(source: Source) -> Document:
    """All that a file or a pipe holds; the ending tells the format, else the first bytes do.

    Raises DataError, which names the file and, where there is one, the line and the cell.
    """
    return format_of(source).read(source)


def format_of(source: Source) -> Format:
    """The format of a file or a pipe. Raises DataError for one of somebody else's."""
    known = format_by_ending(source.path) if source.path else None
    start = source.start()
    check_ours(start, source.name)
    return known or format_by_start(start)


def read_matrix(source: Source, role: str) -> Operand:
    """The matrix that plays ``role`` ("query", "scores", …) in what ``source`` holds."""
    return choose(read_document(source), role, source.name)


def has(document: Document, role: str) -> bool:
    """Whether a document has a matrix that is named for a role."""
    return any(name.lower() in NAMES.get(role, (role,)) for name in document)


def choose(document: Document, role: str, where: str, several: bool = False) -> Operand:
    """The matrix that plays ``role`` ("query", "scores", …); case does not matter.

    A matrix without a name, or alone under a name that means nothing to us, is taken as
    it is, unless the document is to hold ``several``; one that is named as something else
    is not. It is called by its role then, or, where the role is "scores", by which of those
    steps it is. Raises DataError, also where two names are as good as each other.
    """
    names = told_apart(document, where)
    wanted = NAMES.get(role, (role,))
    fitting = [names[name] for name in wanted if name in names]
    if len(fitting) > 1 and role != "scores":
        raise DataError(f"{where}: holds {' and '.join(fitting)}, and each may be {role}; keep one")
    found = next(iter(fitting), None)
    if found is None and len(names) == 1 and not several and not _KNOWN & set(names):
        [found] = names.values()
    if found is None:
        held = listed(list(document))
        raise DataError(f"{where}: holds {held}; there is no {' or '.join(wanted)} in it")
    step = found.lower() if role == "scores" and found.lower() in SCORES else role
    return replace(document[found](), name=step)


def told_apart(document: Iterable[str], where: str) -> dict[str, str]:
    """The names of a document in small letters, each with the name as it is.

    Raises DataError for two that differ in case alone.
    """
    names: dict[str, str] = {}
    for name in document:
        if name.lower() in names:
            raise DataError(f"{where}: both {names[name.lower()]!r} and {name!r}; keep one")
        names[name.lower()] = name
    return names


def in_folder(folder: Path, role: str) -> Operand | None:
    """The matrix of the file that is named for its ``role`` in a folder: query.npy, Q.csv, ….

    Of several files that hold the same numbers it is the one with labels. None where there
    is none. Raises DataError where they differ.
    """
    try:
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    except OSError as fault:
        raise DataError(f"{folder}: cannot be read: {fault.strerror}") from None
    names = NAMES.get(role, (role,))
    fitting = [path for path in files if path.stem.lower() in names and format_by_ending(path)]
    found = [read_matrix(Source.file(path), role) for path in fitting]
    for other in found[1:]:
        if not np.array_equal(found[0].array, other.array, equal_nan=other.array.dtype.kind == "f"):
            named = " and ".join(path.name for path in fitting)
            raise DataError(f"{folder}: {named} differ, and each may be {role}; keep one")
    labelled = (operand for operand in found if operand.rows is not None)
    return next(labelled, found[0] if found else None)


def missing_from(folder: Path, role: str) -> DataError:
    """What is wrong with a folder that has no file for a role."""
    held = listed(sorted(path.name for path in folder.iterdir()))
    names = " or ".join(NAMES.get(role, (role,)))
    return DataError(f"{folder}: holds {held}; there is no file called {names} in it")


def listed(names: list[str]) -> str:
    """Names in an error: not all of thousands, and of a long one its beginning."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(name[:40] for name in names[:_NAMED]) + more or "nothing"


_unfinished: set[Path] = set()
"""The files that are being written, under the names that they have until then."""


@contextmanager
def saved(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file when all of them are there.

    A fault on the way leaves what was there before. The new file has the old one's mode and,
    where the system allows, its owner; a symbolic link to it stays one, a hard link keeps
    the old. A device or a pipe is written directly. Raises WriteError where the system says no.
    """
    if is_special(path):
        with _said_of(path):
            device = path.open("wb", buffering=0)
        with device:
            yield cast(BinaryIO, _Guarded(path, device))
        return
    with _said_of(path):
        target = _resolved(path)
    part = target.with_name(f".{target.name[:100]}.{os.urandom(4).hex()}.part")
    _unfinished.add(part)  # named before it is there, so that no moment is without a name for it
    try:
        with _said_of(path):
            stream = part.open("xb", buffering=0)
        with stream:
            with _said_of(path):
                _as_before(stream.fileno(), target)
            yield cast(BinaryIO, _Guarded(path, stream))
            with _said_of(path):
                _onto_the_disk(stream.fileno())
                stream.close()
        with _said_of(path):
            part.replace(target)
    finally:
        remove_unfinished(part)


def _resolved(path: Path) -> Path:
    """Where links lead. Raises OSError for those that lead to each other."""
    with contextlib.suppress(RuntimeError):  # as Python before 3.13 says of them
        target = path.resolve()
        if not target.is_symlink():
            return target
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def remove_unfinished(*parts: Path) -> None:
    """Remove what is not a whole file yet: these, or (none named) all that there are."""
    for part in parts or tuple(_unfinished):
        with contextlib.suppress(OSError):  # it has become the file, or was never made
            part.unlink()
        _unfinished.discard(part)


def is_special(path: Path) -> bool:
    """Whether a path is there and no regular file: a device, a pipe, a folder."""
    try:
        return path.exists() and not path.is_file()
    except (OSError, ValueError, RuntimeError):  # a name that no file can have; opening it says so
        return False


def _onto_the_disk(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as fault:
        if fault.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise  # some file systems of networks just don't have it


def _as_before(descriptor: int, target: Path) -> None:
    """Give a new file the mode and the owner of the one that it is to replace."""
    if not target.exists() or not hasattr(os, "fchown"):  # Windows has no such modes
        return
    old = target.stat()
    with contextlib.suppress(OSError):  # who owns a file may give it to few others
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, old.st_mode & 0o7777)


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

    def __init__(self, path: Path, stream: RawIOBase) -> None:
        self.path, self.stream = path, stream
        self.flush = stream.flush

    def write(self, data: bytes) -> int:
        with _said_of(self.path):
            left = memoryview(data)
            while left:  # a device may take less than it is given
                left = left[self.stream.write(left) or 0 :]
        return len(data)
