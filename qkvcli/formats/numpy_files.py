"""NumPy's own files: .npy holds one array, .npz several by name."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import IO, Any, BinaryIO

import numpy as np

from qkvcli.core.operands import Operand
from qkvcli.core.steps import Step
from qkvcli.errors import DataError
from qkvcli.formats.source import Document, Source


def read_npy(source: Source) -> Document:
    """The array, mapped rather than read where it lies in a regular file."""
    with _faults(source, ".npy"):
        array = _mapped(source)
        if array is None:
            array = np.load(io.BytesIO(source.content), allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{source.name}: is an .npz archive; rename it so that its ending says so")
    return {"": lambda: Operand(array, origin=source.name)}


def read_npz(source: Source) -> Document:
    """The archive's arrays by name; each is read when it is asked for."""
    with _archive(source) as archive:
        return {name: partial(_member, source, name) for name in archive.files}


def _mapped(source: Source) -> Any:
    if not source.mappable or source.path is None:
        return None
    try:
        return np.load(source.path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # nothing to map in an empty array; what is wrong shows on plain reading
        return None


def _member(source: Source, name: str) -> Operand:
    with _archive(source) as archive:
        array = archive[name]
    if not isinstance(array, np.ndarray):
        raise DataError(f"{source.name}: {name} is not a NumPy array")
    return Operand(array, origin=source.name)


@contextmanager
def _archive(source: Source) -> Iterator[np.lib.npyio.NpzFile]:
    with _faults(source, ".npz"), _stream(source) as stream:
        archive = np.load(stream, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(
                f"{source.name}: is an .npy array; rename it so that its ending says so"
            )
        yield archive


def _stream(source: Source) -> IO[bytes]:
    if source.mappable and source.path is not None:
        return source.path.open("rb")
    return io.BytesIO(source.content)


@contextmanager
def _faults(source: Source, kind: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except OSError as fault:
        raise source.unreadable(fault) from None
    except Exception as fault:  # np.load raises at least six kinds on a bad file
        reason = str(fault).split("\n")[0].rstrip(".") or type(fault).__name__
        if "allow_pickle" in reason and source.start(6) == b"\x93NUMPY":
            reason = "it holds Python objects, which are never loaded; save numbers"
        elif "allow_pickle" in reason:  # NumPy takes any other bytes for a pickle
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
