"""What gzip has compressed: read whole and checked, written in parts. The format is RFC 1952's."""

import zlib
from typing import BinaryIO

from qkvcli.errors import DataError

LARGE, TIMES = 2**28, 200
"""A file may grow to so many bytes, or so many times its size; numbers grow ten times at most.

Zeros grow a thousand times: a small file must not take all the memory there is.
"""
_WINDOW = 31
"""What zlib calls gzip's format, in its largest window."""
_LEVEL = 6


def begun(data: bytes, most: int, name: str) -> bytes:
    """The first bytes, at ``most``, of what is compressed in the beginning of a file.

    Raises DataError, which begins with ``name``, where that is broken.
    """
    return _part(data, most, name)[0]


def decompressed(data: bytes, name: str) -> bytes:
    r"""All that is compressed in a file.

    >>> import gzip
    >>> decompressed(gzip.compress(b"1,2\n"), "q.csv.gz")
    b'1,2\n'

    Raises DataError, which begins with ``name``, for a file that is cut or broken, that goes
    on after its end, or that grows beyond all measure.
    """
    most = max(LARGE, TIMES * len(data))
    found, machine = _part(data, most + 1, name)
    if len(found) > most:
        size = f"more than {LARGE >> 20} MB, and {TIMES} times its size"
        raise DataError(f"{name}: grows to {size}; if that is meant, decompress it first: gunzip")
    if not machine.eof:
        raise DataError(f"{name}: not a whole gzip file: it ends too early")
    if machine.unused_data:
        more = "another gzip file follows in it" if _again(machine.unused_data) else "more follows"
        raise DataError(f"{name}: {more} after the first one's end; compress one matrix alone")
    return found


def _again(rest: bytes) -> bool:
    return rest.startswith(b"\x1f\x8b")


def _part(data: bytes, most: int, name: str) -> tuple[bytes, "zlib._Decompress"]:
    machine = zlib.decompressobj(_WINDOW)
    try:
        return machine.decompress(data, most), machine
    except zlib.error as fault:
        reason = str(fault).rpartition(": ")[2]
        raise DataError(f"{name}: not a whole gzip file: {reason}") from None


class Compressing:
    """A stream that compresses what is written into another; the same bytes give the same.

    There is no time and no name in it. Without `finish` it is not whole, and programs that
    read it say so.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._machine = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW)

    def write(self, data: bytes) -> int:
        """Compress some bytes."""
        self._stream.write(self._machine.compress(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: what is compressed goes on, but writers call it."""

    def finish(self) -> None:
        """Write what is left, and the sum of all."""
        self._stream.write(self._machine.flush())
