"""Files that are not ours, told by their first bytes, so that an error can name them."""

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


def check_ours(start: bytes, name: str) -> None:
    r"""Raise DataError, which begins with ``name``, where the first bytes are another kind's.

    >>> check_ours(b"1,2\n", "q.csv")
    >>> check_ours(b"\xfd7zXZ\x00", "q.csv.xz")
    Traceback (most recent call last):
    qkvcli.errors.DataError: q.csv.xz: is compressed by xz; decompress it first: unxz
    """
    binary = b"\0" in start or not start.isascii()
    known = (said for begins, said in _STARTS.items() if start.startswith(begins))
    what = next(known, None) if binary else None  # PAR1 may be a label
    if what is None and start.startswith(b"PK\x03\x04"):
        what = _archive(start)
    if what is None and start.startswith(_PICKLES):
        what = "a Python pickle, which is never loaded; save the matrix by np.save"
    if what is None and start[8:9] == b"{" and b'"dtype"' in start and b"data_offsets" in start:
        what = "a safetensors file; save the tensor by np.save"
    if what is not None:
        raise DataError(f"{name}: is {what}")


def _archive(start: bytes) -> str | None:
    """What else than .npz a zip archive is, by the name of its first member."""
    first = start[30 : 30 + int.from_bytes(start[26:28], "little")]
    if first.endswith((b"/data.pkl", b"/.format_version", b"/version")):
        return "a PyTorch file; save the tensor by np.save(…, tensor.numpy())"
    if first == b"[Content_Types].xml" or first.startswith((b"xl/", b"docProps/", b"_rels/")):
        return "an Excel workbook; save the sheet as CSV"
    return None
