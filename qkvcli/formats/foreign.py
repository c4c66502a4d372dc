"""Whose a file is, told by its first bytes, so that an error can name what is not ours."""

import re

from qkvcli.errors import DataError

_STARTS: dict[bytes, str] = {
    b"\x1f\x8b": "compressed by gzip twice; decompress it first: gunzip",
    b"BZh": "compressed by bzip2; decompress it first: bunzip2",
    b"\xfd7zXZ\x00": "compressed by xz; decompress it first: unxz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; decompress it first: unzstd",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file; save the matrix by np.save",
    b"PAR1": "a Parquet file; save the matrix as CSV",
    b"ARROW1": "an Arrow file; save the matrix as CSV",
    b"GGUF": "a GGUF model; save the matrix by np.save",
    b"MATLAB 5.0": "a MATLAB file; save the matrix as text, or by np.save",
    b"SQLite format 3\x00": "an SQLite database; save the matrix as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the sheet as CSV",
    b"%PDF": "a PDF",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
}
_PICKLES = tuple(b"\x80" + bytes([version]) for version in range(2, 6))

_TORCH = re.compile(rb"\x80[\x02-\x05](\x95.{8})?\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL)
"""A pickle of the number 0x1950a86a20f9469cfc6c, which begins torch.save's older format."""


def is_torch(start: bytes) -> bool:
    r"""Whether the first bytes are those of a file that torch.save wrote.

    >>> is_torch(b"PK\x03\x04" + bytes(22) + b"\x0a\0\0\0" + b"x/data.pkl"), is_torch(b"PK")
    (True, False)
    """
    inside = (b"/data.pkl", b"/.format_version", b"/version")
    return _first_name(start).endswith(inside) or _TORCH.match(start) is not None


def like_safetensors(start: bytes) -> bool:
    r"""Whether bytes begin as a safetensors file does: with the length of a header of JSON.

    >>> like_safetensors(b"\x02\0\0\0\0\0\0\0{}"), like_safetensors(b'[1,2,3],{"a"')
    (True, False)
    """
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32


def check_ours(start: bytes, name: str) -> None:
    r"""Raise DataError, which begins with ``name``, where the first bytes are another kind's.

    >>> check_ours(b"1,2\n", "q.csv")
    >>> check_ours(b"\xfd7zXZ\x00", "q.csv.xz")
    Traceback (most recent call last):
    qkvcli.errors.DataError: q.csv.xz: is compressed by xz; decompress it first: unxz
    """
    if is_torch(start) or like_safetensors(start):  # whose first bytes may be anything's
        return
    binary = b"\0" in start or not start.isascii()
    known = (said for begins, said in _STARTS.items() if start.startswith(begins))
    what = next(known, None) if binary else None  # PAR1 may be a label
    if what is None:
        what = _workbook(start)
    if what is None and start.startswith(_PICKLES):
        what = "a Python pickle, which is never loaded; save the matrix by np.save"
    if what is not None:
        raise DataError(f"{name}: is {what}")


def _first_name(start: bytes) -> bytes:
    """The name of a zip archive's first member; nothing for what is none."""
    if not start.startswith(b"PK\x03\x04"):
        return b""
    return start[30 : 30 + int.from_bytes(start[26:28], "little")]


def _workbook(start: bytes) -> str | None:
    first = _first_name(start)
    if first == b"[Content_Types].xml" or first.startswith((b"xl/", b"docProps/", b"_rels/")):
        return "an Excel workbook; save the sheet as CSV"
    return None
