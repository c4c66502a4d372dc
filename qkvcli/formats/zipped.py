"""Archives in zip's format: where in a file a member lies."""

import io
import zipfile
from typing import IO

from qkvcli.formats.source import Source


def stream_of(source: Source) -> IO[bytes]:
    """A source's bytes as a stream; of a regular file, only what is asked for is read."""
    if source.mappable and source.path is not None:
        return source.path.open("rb")
    return io.BytesIO(source.content)


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
