"""Where bytes come from: a file, or standard input that has been read once.

What gzip has compressed is what was compressed, here and for all that read from here.
"""

import io
import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from qkvcli.core.operands import Array, Shape
from qkvcli.errors import DataError
from qkvcli.formats.foreign import check_ours, is_torch, like_safetensors
from qkvcli.formats.text.labels import GUESSED, Labelling

if TYPE_CHECKING:
    from pathlib import Path

SMALL = 2**22
"""Up to so many bytes are copied: a mapped file that another program cuts ends ours by a signal."""
_START = 65536
_GZIP = b"\x1f\x8b\x08"
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def decoded(start: bytes) -> str:
    """The first bytes of a text, without a byte order mark or what is no text."""
    encoding = next((_MARKS[mark] for mark in _MARKS if start.startswith(mark)), "utf-8")
    return start.decode(encoding, "ignore")


def whole(stream: BinaryIO, name: str) -> bytes:
    """All the bytes of a pipe or a device, if its first could be those of a matrix.

    Raises DataError at once where they can't: some devices have no end.
    """
    start = stream.read(_START)
    if start.startswith(_GZIP):
        from qkvcli.formats.gzipped import begun

        _check_matrix(begun(start, _START, name), name)
    else:
        _check_matrix(start, name)
    return start + stream.read()


def _check_matrix(start: bytes, name: str) -> None:
    """Raise DataError where the first bytes can't be those of a matrix."""
    known = start.startswith((b"\x93NUMPY", b"PK", b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in start and not (known or is_torch(start) or like_safetensors(start)):
        check_ours(start, name)
        raise DataError(f"{name}: neither text nor a file of arrays")


class _Map(mmap.mmap):
    """A file's bytes, and its path: a worker elsewhere may map them too."""

    path: str


@dataclass(frozen=True)
class Source:
    """A file (``path``) or bytes that are here already (``data``), with a name for errors.

    ``labelling`` is what a person says of labels in text.
    """

    name: str
    path: "Path | None" = None
    data: bytes | None = None
    labelling: Labelling = GUESSED

    @classmethod
    def file(cls, path: "Path") -> "Source":
        """Name a file's source by its path, as a person typed it."""
        return cls(str(path), path=path)

    @property
    def mappable(self) -> bool:
        """Whether the bytes lie in a regular file as they are, so that parts of it can be read."""
        return self.regular and not self.compressed

    @property
    def regular(self) -> bool:
        """Whether it is a regular file, and is there."""
        try:
            return self.path is not None and self.path.is_file()
        except OSError:  # a name that no file can have; reading it says so
            return False

    @cached_property
    def compressed(self) -> bool:
        """Whether gzip has compressed it, which its first bytes say."""
        return self._first.startswith(_GZIP)

    @cached_property
    def content(self) -> bytes:
        """All of it, read once and decompressed.

        Raises DataError where the file can't be read, or is not whole.
        """
        if not self.compressed:
            return self._whole
        from qkvcli.formats.gzipped import decompressed

        _check_matrix(self._begin, self.name)  # before much of it is decompressed
        return decompressed(self._whole, self.name)

    @cached_property
    def _whole(self) -> bytes:
        """All the bytes as they lie there."""
        if self.path is None:
            return self.data or b""
        try:
            if self.regular:
                return self.path.read_bytes()
            with self.path.open("rb") as stream:
                return whole(stream, self.name)
        except DataError:
            raise
        except (OSError, ValueError) as fault:  # the latter for a name with a null byte
            raise self.unreadable(fault) from None

    @cached_property
    def _first(self) -> bytes:
        """The first bytes as they lie there; a pipe is read whole, since it can't be read twice."""
        if not self.regular or self.path is None:
            return self._whole[:_START]
        try:
            with self.path.open("rb") as stream:
                return stream.read(_START)
        except OSError as fault:
            raise self.unreadable(fault) from None

    def start(self, count: int = _START) -> bytes:
        """The first bytes."""
        return self._begin[:count]

    @cached_property
    def _begin(self) -> bytes:
        if not self.compressed:
            return self._first
        from qkvcli.formats.gzipped import begun

        return begun(self._first, _START, self.name)

    @cached_property
    def size(self) -> int:
        """How many bytes there are."""
        if not self.mappable or self.path is None:
            return len(self.content)
        try:
            return self.path.stat().st_size
        except OSError as fault:
            raise self.unreadable(fault) from None

    def bytes_at(self, offset: int, count: int) -> bytes:
        """Some of the bytes; of a regular file, no others are read."""
        if not self.mappable or self.path is None:
            return self.content[offset : offset + count]
        try:
            with self.path.open("rb") as stream:
                stream.seek(offset)
                return stream.read(count)
        except OSError as fault:
            raise self.unreadable(fault) from None

    def array_at(
        self,
        offset: int,
        count: int,
        dtype: "np.dtype[Any]",
        shape: Shape,
        strides: Sequence[int] | None = None,
    ) -> Array:
        """The array that lies in ``count`` bytes; of a regular file, a large one is mapped.

        ``strides`` are in bytes. Raises DataError where the bytes are not there, ValueError where
        the array is beyond them.
        """
        if not 0 <= offset <= offset + count <= self.size:
            raise DataError(f"{self.name}: not whole: it ends before its numbers do")
        if 0 in shape:
            return np.zeros(shape, dtype)
        mapped = self.mappable and count > SMALL
        held = self._map if mapped else self.bytes_at(offset, count)
        start = offset if mapped else 0
        if strides is None and math.prod(shape) * dtype.itemsize != count:
            raise ValueError("its shape says another number of bytes")
        return np.ndarray(shape, dtype, buffer=held, offset=start, strides=strides)

    def stream(self) -> BinaryIO:
        """All the bytes as a stream; of a regular file, those that are read from it."""
        if not self.mappable or self.path is None:
            return io.BytesIO(self.content)
        try:
            return self.path.open("rb")
        except OSError as fault:
            raise self.unreadable(fault) from None

    @cached_property
    def _map(self) -> mmap.mmap:
        assert self.path is not None
        try:
            with self.path.open("rb") as stream:
                held = _Map(stream.fileno(), 0, access=mmap.ACCESS_READ)
                held.path = str(self.path)
                return held
        except (OSError, ValueError) as fault:
            raise self.unreadable(fault) from None

    def text(self) -> str:
        """The bytes as text: UTF-8, or UTF-16 where a byte order mark says so."""
        encoding = next((_MARKS[mark] for mark in _MARKS if self.content.startswith(mark)), "utf-8")
        try:
            return self.content.decode(encoding)
        except UnicodeDecodeError as fault:
            if b"\0" in self.content[: fault.start + 512]:
                raise DataError(f"{self.name}: not text; its ending may be wrong") from None
            line = self.content.count(b"\n", 0, fault.start) + 1
            raise DataError(f"{self.name}: line {line}: not UTF-8 text; save it as UTF-8") from None

    def unreadable(self, fault: OSError | ValueError) -> DataError:
        """Say in an error's words what the system said."""
        reason = getattr(fault, "strerror", None) or fault
        return DataError(f"{self.name}: cannot be read: {reason}")
