"""NumPy's own files: .npy holds one array, .npz several by name."""

import math
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, BinaryIO

import numpy as np

from qkvcli.core.operands import Operand
from qkvcli.core.steps import Step
from qkvcli.errors import DataError
from qkvcli.formats.foreign import is_torch
from qkvcli.formats.gzipped import TIMES
from qkvcli.formats.members import Document, Member
from qkvcli.formats.source import SMALL, Source
from qkvcli.formats.stored import Stored, lacking
from qkvcli.formats.zipped import place, stream_of

_OBJECTS = "it holds Python objects, which are never loaded; save numbers"
_LARGEST = 2**32
"""To so many bytes an array may grow that is compressed well, such as a mask."""
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def read_npy(source: Source) -> Document:
    """The array; a large one is mapped rather than read, where it lies in a regular file."""
    with _faults(source, ".npy"):
        if source.start(4).startswith(b"PK"):
            raise DataError(
                f"{source.name}: is an .npz archive; rename it so that its ending says so"
            )
        with stream_of(source) as stream:
            found = _Header.of(stream)
        said = found.start + found.count
        if said != source.size:
            more = " (np.save twice? Save each array to its own file)" if source.size > said else ""
            raise ValueError(f"its header says {said} bytes, and there are {source.size}{more}")
    return {"": Member(partial(_at, source, found, found.start), found.shape, found.stored)}


def read_npz(source: Source) -> Document:
    """The archive's arrays by name; each is read when it is asked for."""
    with _faults(source, ".npz"):
        archive = _archive(source)
        found: dict[str, Member] = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name in found:
                raise DataError(f"{source.name}: {name!r} stands there twice; keep one")
            held, check = partial(_member, source, archive, info), partial(_check, source, info)
            try:
                with archive.open(info) as stream:
                    known = _Header.of(stream)
                found[name] = Member(held, known.shape, known.stored, check)
            except Exception:  # reading it says what is wrong with it; others may be right
                found[name] = Member(held)
        return found


@dataclass(frozen=True)
class _Header:
    """What the header of an array says: where its numbers start, and how they lie there."""

    start: int
    shape: tuple[int, ...]
    fortran: bool
    stored: Stored

    @classmethod
    def of(cls, stream: IO[bytes], name: str = "") -> "_Header":
        """Read a header. Raises ValueError, which may begin with a name, as NumPy does."""
        shape, fortran, kind = _header(stream)
        if kind.hasobject:
            raise ValueError(f"{name}{_OBJECTS}")
        if kind == np.dtype("V1"):
            raise ValueError(f"{name}it holds one of several types of 8 bits, and not which")
        return cls(stream.tell(), shape, fortran, lacking(kind) or Stored.plain(kind))

    @property
    def count(self) -> int:
        """How many bytes of numbers there are."""
        return math.prod(self.shape) * self.stored.dtype.itemsize


def _at(source: Source, found: _Header, offset: int) -> Operand:
    """The array whose numbers begin at an offset in a source."""
    shape = found.shape[::-1] if found.fortran else found.shape
    with _faults(source, ".npy"):
        array = source.array_at(offset, found.count, found.stored.dtype, shape)
    return Operand(array.T if found.fortran else array, origin=source.name)


def _member(source: Source, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Operand:
    """One array of an archive: mapped where it is large, and lies there as it is."""
    with _faults(source, ".npz"):
        if info.compress_type not in _METHODS:
            raise ValueError(f"{info.filename} is compressed in a way that NumPy does not write")
        if info.file_size > max(_LARGEST, TIMES * info.compress_size):
            what = f"{info.filename} grows to {info.file_size >> 20} MB, {TIMES} times its size"
            raise DataError(f"{source.name}: {what} or more; if that is meant, decompress it first")
        with archive.open(info) as stream:
            found = _Header.of(stream, f"{info.filename}: ")
        if found.count != info.file_size - found.start:
            raise ValueError(f"{info.filename} does not hold what its header says")
        begins = _mapped_at(source, info)
        if begins is not None:
            return _at(source, found, begins + found.start)
        with archive.open(info) as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
    if found.stored.decode is not None:
        array = array.view(found.stored.dtype)
    return Operand(array, origin=source.name)


def _mapped_at(source: Source, info: zipfile.ZipInfo) -> int | None:
    """Where a member begins that is mapped; None for one that is read."""
    return place(source, info) if info.file_size > SMALL and source.mappable else None


def _check(source: Source, info: zipfile.ZipInfo) -> None:
    """Raise DataError for a member that is mapped and spoilt: one that is read says so itself."""
    begins = _mapped_at(source, info)
    if begins is None:
        return
    held = source.array_at(begins, info.file_size, np.dtype(np.uint8), (info.file_size,))
    if zlib.crc32(held.data) != info.CRC:
        raise DataError(f"{source.name}: not a whole .npz file: {info.filename} is spoilt (CRC-32)")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """What an array's header says: its shape, whether it is in Fortran's order, and its type."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version not in ((2, 0), (3, 0)):
        raise ValueError(f"version {version} of the format is not known")
    return np.lib.format.read_array_header_2_0(stream)  # 3.0 differs in the names of fields


def _archive(source: Source) -> zipfile.ZipFile:
    """The archive, from which arrays are read as they are asked for."""
    if source.start(6) == b"\x93NUMPY":
        raise DataError(f"{source.name}: is an .npy array; rename it so that its ending says so")
    if is_torch(source.start()):
        raise DataError(
            f"{source.name}: is a PyTorch file; rename it to .pt so that its ending says so"
        )
    return zipfile.ZipFile(stream_of(source))


@contextmanager
def _faults(source: Source, kind: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy speaks of headers that Python 2 wrote
            yield
    except DataError:
        raise
    except OSError as fault:
        raise source.unreadable(fault) from None
    except Exception as fault:  # NumPy and zipfile raise at least six kinds on a bad file
        reason = str(fault).split("\n")[0].rstrip(".") or type(fault).__name__
        if not source.start(6).startswith(b"\x93NUMPY" if kind == ".npy" else b"PK"):
            reason = f"it does not begin as {kind} files do; its ending may be wrong"
        raise DataError(f"{source.name}: not a whole {kind} file: {reason}") from None


def write_npy(steps: Sequence[Step], stream: BinaryIO, digits: int | None) -> None:
    """The last step's array, with every digit."""
    _write(steps[-1], stream)


def write_npz(steps: Sequence[Step], stream: BinaryIO, digits: int | None) -> None:
    """Every step's array by its name, with every digit."""
    with zipfile.ZipFile(stream, "w") as archive:
        for step in steps:
            member = zipfile.ZipInfo(f"{step.name}.npy")  # its date is always the same
            with archive.open(member, "w", force_zip64=True) as inside:
                _write(step, inside)


def _write(step: Step, stream: IO[bytes]) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(step.dtype),
        "fortran_order": False,
        "shape": step.shape,
    }
    np.lib.format.write_array_header_1_0(stream, header)
    for part in step.parts():
        if part.size:  # as bytes: dates have no buffer of their own
            stream.write(np.ascontiguousarray(part).view(np.uint8).reshape(-1).data)
