"""Small pictures in PNG, with a palette, to be embedded."""

import struct
import zlib
from base64 import b64encode
from collections.abc import Sequence

import numpy as np

from qkvcli.core.operands import Array
from qkvcli.render.heat import RGB

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BY_PALETTE = 3  # the colour type of indexes into a palette


def png(indexes: Array, palette: Sequence[RGB], clear: int | None = None) -> bytes:
    """A picture whose points are entries of a palette of at most 256; ``clear`` is see-through.

    ``indexes`` (height, width) are whole numbers. Source: "Portable Network Graphics (PNG)
    Specification", W3C.

    >>> png(np.array([[0, 1]]), [(0, 0, 0), (255, 0, 0)])[1:4]
    b'PNG'
    """
    height, width = indexes.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each begins with its filter, which is none
    rows[:, 1:] = indexes
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _BY_PALETTE, 0, 0, 0)),
        (b"PLTE", b"".join(map(bytes, palette))),
    ]
    if clear is not None:
        opaque = bytearray(b"\xff" * len(palette))
        opaque[clear] = 0
        chunks.append((b"tRNS", bytes(opaque)))
    chunks += [(b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def data_uri(picture: bytes) -> str:
    """A picture in PNG as the address of itself."""
    return f"data:image/png;base64,{b64encode(picture).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
