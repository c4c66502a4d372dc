"""NumPy's own files: .npy holds one array, .npz several by name."""

import math
import warnings
import zipfile
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
from qkvcli.formats.members import Document, Member
from qkvcli.formats.source import SMALL, Source
from qkvcli.formats.stored import Stored, lacking
from qkvcli.formats.zipped import opened, place

_OBJECTS = "it holds Python objects, which are never loaded; save numbers"
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def read_npy(source: Source) -> Document:
    """The array; a large one is mapped rather than read, where it lies in a regular file."""
    with _faults(source, ".npy"):
        if source.start(4).startswith(b"PK"):
            raise DataError(
                f"{source.name}: is an .npz archive; rename it so that its ending says so"
            )
        with opened(source) as stream:
            found = _Found.of(stream)
        said = found.start + found.count
        if said != source.size:
            more = " (np.save twice? Save each array to its own file)" if source.size > said else ""
            raise ValueError(f"its header says {said} bytes, and there are {source.size}{more}")
    return {"": Member(partial(_at, source, found, found.start), found.shape, found.stored)}


def read_npz(source: Source) -> Document:
    """The archive's arrays by name; each is read when it is asked for."""
    with _archive(source) as archive:
        found: dict[str, Member] = {}
        for i, info in enumerate(archive.infolist()):
            name = info.filename.removesuffix(".npy")
            if name in found:
                raise DataError(f"{source.name}: {name!r} stands there twice; keep one")
            held = partial(_member, source, i)
            try:
                with archive.open(info) as stream:
                    known = _Found.of(stream)
                found[name] = Member(held, known.shape, known.stored)
            except Exception:  # reading it says what is wrong with it; others may be right
                found[name] = Member(held)
        return found


@dataclass(frozen=True)
class _Found:
    """What the header of an array says: where its numbers start, and how they lie there."""

    start: int
    shape: tuple[int, ...]
    fortran: bool
    stored: Stored

    @classmethod
    def of(cls, stream: IO[bytes], name: str = "") -> "_Found":
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


def _at(source: Source, found: _Found, offset: int) -> Operand:
    """The array whose numbers begin at an offset in a source."""
    shape = found.shape[::-1] if found.fortran else found.shape
    with _faults(source, ".npy"):
        array = source.array_at(offset, found.count, found.stored.dtype, shape)
    return Operand(array.T if found.fortran else array, origin=source.name)


def _member(source: Source, number: int) -> Operand:
    with _archive(source) as archive:
        info = archive.infolist()[number]
        if info.compress_type not in _METHODS:
            raise ValueError(f"{info.filename} is compressed in a way that NumPy does not write")
        with archive.open(info) as stream:
            found = _Found.of(stream, f"{info.filename}: ")
        if found.count != info.file_size - found.start:
            raise ValueError(f"{info.filename} does not hold what its header says")
        begins = place(source, info) if found.count > SMALL and source.mappable else None
        if begins is not None:
            return _at(source, found, begins + found.start)
        with archive.open(info) as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
    if found.stored.decode is not None:
        array = array.view(found.stored.dtype)
    return Operand(array, origin=source.name)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """What an array's header says: its shape, whether it is in Fortran's order, and its type."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)  # 3.0 differs in the names of fields


@contextmanager
def _archive(source: Source) -> Iterator[zipfile.ZipFile]:
    with _faults(source, ".npz"), opened(source) as stream:
        if source.start(6) == b"\x93NUMPY":
            raise DataError(
                f"{source.name}: is an .npy array; rename it so that its ending says so"
            )
        if is_torch(source.start()):
            raise DataError(
                f"{source.name}: is a PyTorch file; rename it to .pt so that its ending says so"
            )
        with zipfile.ZipFile(stream) as archive:
            yield archive


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
        stream.write(np.ascontiguousarray(part).data.cast("B") if part.size else b"")
