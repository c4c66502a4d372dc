"""Saving a result whole or not at all."""

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, cast

from qkvcli.errors import WriteError
from qkvcli.formats.registry import GZIP

_unfinished: set[Path] = set()
"""The files that are being written, under the names that they have until then."""


@contextmanager
def saved(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file when all of them are there.

    They are compressed where the name ends in ``.gz``. A fault on the way leaves what was there
    before. The new file has the old one's mode and, where the system allows, its owner; a
    symbolic link to it stays one, a hard link keeps the old. A device or a pipe is written
    directly. Raises WriteError where the system says no.
    """
    with _stored(path) as stream:
        if path.suffix.lower() != GZIP:
            yield stream
            return
        from qkvcli.formats.gzipped import Compressing

        inside = Compressing(stream)
        yield cast(BinaryIO, inside)
        inside.finish()  # after a fault a pipe must not look whole


@contextmanager
def _stored(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file as they are."""
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
