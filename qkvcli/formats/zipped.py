"""Archives in zip's format: where in a file a member lies."""

import errno
import io
import os
import zipfile
from typing import IO, Any, TypeAlias

from qkvcli.formats.source import Source

Buffer: TypeAlias = Any
"""What can be written into, as `io` says it."""
_AT_ONCE = 2**16


def stream_of(source: Source) -> IO[bytes]:
    """A source's bytes as a stream; of a regular file, only what is asked for is read.

    The file is not kept open: there may be more of them than a process may have.
    """
    if source.mappable:
        return io.BufferedReader(_Bytes(source), _AT_ONCE)
    return io.BytesIO(source.content)


class _Bytes(io.RawIOBase):
    """The bytes of a source, which is opened for each piece that is read."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source, self._at = source, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Buffer) -> int:
        into = memoryview(buffer).cast("B")
        data = self._source.bytes_at(self._at, len(into))
        into[: len(data)] = data
        self._at += len(data)
        return len(data)


def place(source: Source, info: zipfile.ZipInfo) -> int | None:
    """Where a member begins that lies in an archive as it is; None for one that is packed.

    A local header has 30 bytes, and a name and more whose lengths it says; source: PKWARE,
    ".ZIP File Format Specification", section 4.3.7.
    """
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        return None
    head = source.bytes_at(info.header_offset, 30)
    if len(head) < 30 or not head.startswith(b"PK\x03\x04"):
        return None
    name, extra = (int.from_bytes(head[i : i + 2], "little") for i in (26, 28))
    said = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "replace")
    if source.bytes_at(info.header_offset + 30, name) != said:  # it is another's header
        return None
    return info.header_offset + 30 + name + extra
