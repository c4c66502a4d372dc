"""PyTorch's files, .pt and .pth: tensors by name, read without PyTorch, and nothing is run.

Sources: PyTorch's ``torch/serialization.py`` (both formats) and ``torch/_utils.py`` (what a
tensor is made of).
"""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from qkvcli.core.operands import Operand
from qkvcli.errors import DataError
from qkvcli.formats.members import Document, Member
from qkvcli.formats.source import Source
from qkvcli.formats.torch.pickled import LARGEST, Unpickler
from qkvcli.formats.torch.tensors import (
    KNOWN,
    Found,
    Storage,
    Tensor,
    Unreadable,
    flattened,
    item_size,
    storage_of,
)
from qkvcli.formats.zipped import place, stream_of

_PROTOCOL = 1001
_NO_SCRIPT = "is a TorchScript archive, whose code is never run; save model.state_dict()"


@dataclass(frozen=True)
class _Run:
    """The bytes of a storage: how many there are, and where they begin, when it is asked for."""

    size: int
    begin: Callable[[], int]
    big: bool = False


def read_pt(source: Source) -> Document:
    """The tensors of what torch.save wrote, by name; their numbers are mapped when asked for.

    Names are the keys that lead to a tensor in nested dicts and lists, with points between;
    what is no tensor is left out. Raises DataError for a pickle that names anything but
    tensors and plain values: it is not loaded.
    """
    with _faults(source):
        archive = source.start(4).startswith(b"PK")
        value, runs, steps = (_zipped if archive else _older)(source)
        found = flattened(value, source.name, steps)
        return {name: _member(source, name, tensor, runs) for name, tensor in found.items()}


def _zipped(source: Source) -> tuple[object, Mapping[str, _Run], int]:
    """What an archive holds, its storages by their keys, and the instructions of its pickle."""
    with stream_of(source) as stream, zipfile.ZipFile(stream) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        if len(infos) != len(archive.infolist()):
            raise ValueError("two of its members have one name")
        folder = _folder(infos, source)
        for info in infos.values():
            _check_stored(info, source)
        order = infos.get(f"{folder}byteorder")
        big = order is not None and _content(archive, order) == b"big"
        data = _content(archive, infos[f"{folder}data.pkl"])
    unpickler = Unpickler(source.name, KNOWN, storage_of)
    value = unpickler.load(io.BytesIO(data))
    runs = {
        name.removeprefix(f"{folder}data/"): _Run(
            info.file_size, partial(_begin, source, info), big
        )
        for name, info in infos.items()
        if name.startswith(f"{folder}data/")
    }
    return value, runs, unpickler.steps


def _folder(names: Mapping[str, object], source: Source) -> str:
    """The folder in which an archive has everything. Raises DataError where it has none."""
    found = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(found) != 1:
        raise DataError(f"{source.name}: holds no data.pkl, and so nothing that torch.save wrote")
    folder = found[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in names:
        raise DataError(f"{source.name}: {_NO_SCRIPT}")
    return folder


def _check_stored(info: zipfile.ZipInfo, source: Source) -> None:
    if info.flag_bits & 1:
        raise DataError(f"{source.name}: {info.filename} is encrypted; save it again")
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise DataError(
            f"{source.name}: {info.filename} is compressed, and torch.save compresses nothing; "
            "save it again"
        )


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > LARGEST:
        raise ValueError(f"{info.filename} has {info.file_size} bytes")
    return archive.read(info)


def _begin(source: Source, info: zipfile.ZipInfo) -> int:
    found = place(source, info)
    if found is None:
        raise ValueError(f"{info.filename} is not where the archive says")
    return found


def _older(source: Source) -> tuple[object, Mapping[str, _Run], int]:
    """The same of a file of PyTorch before 1.6: pickles one after the other, then the storages.

    Numbers are little-endian whatever the machine was: PyTorch swaps them when it writes.
    """
    stream = io.BytesIO(source.bytes_at(0, LARGEST))
    sizes: dict[str, int] = {}

    def noted(said: object) -> Storage:
        storage = storage_of(said)
        sizes.setdefault(storage.key, item_size(storage.kind))
        return storage

    unpickler = Unpickler(source.name, KNOWN, noted)
    unpickler.load(stream)  # the number that tells the format
    if unpickler.load(stream) != _PROTOCOL:
        raise ValueError(f"its version is not {_PROTOCOL}")
    unpickler.load(stream)  # of the machine
    value = unpickler.load(stream)
    keys = unpickler.load(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("it has no list of its storages")
    return value, _runs(source, stream.tell(), keys, sizes), unpickler.steps


def _runs(source: Source, at: int, keys: list[str], sizes: Mapping[str, int]) -> dict[str, _Run]:
    """The storages one after the other, each with how many numbers it has before it."""
    found: dict[str, _Run] = {}
    for key in keys:
        count = int.from_bytes(source.bytes_at(at, 8), "little", signed=True)
        if key in found or key not in sizes:
            raise ValueError("it lists a storage twice, or one that no tensor has")
        run = _Run(count * sizes[key], partial(int, at + 8))
        if count < 0 or at + 8 + run.size > source.size:
            raise ValueError("it ends before its numbers do")
        found[key] = run
        at += 8 + run.size
    return found


def _member(source: Source, name: str, found: Found, runs: Mapping[str, _Run]) -> Member:
    """A tensor as a member. Raises ValueError where the file has not the bytes it says."""
    if isinstance(found, Unreadable):
        fault = DataError(f"{source.name}: {name or 'the tensor'} {found.why}")
        return Member.unreadable(fault)
    storage = found.storage
    run = runs.get(storage.key)
    if run is None:
        raise ValueError(f"a storage is not there: {storage.key[:80]!r}")
    if (storage.first + storage.count) * item_size(storage.kind) > run.size:
        raise ValueError(f"storage {storage.key[:80]!r} has fewer bytes than a tensor says")
    stored = found.stored
    if run.big:
        stored = stored._replace(dtype=stored.dtype.newbyteorder(">"))
    return Member(partial(_held, source, found, run, stored.dtype), found.shape, stored)


def _held(source: Source, tensor: Tensor, run: _Run, dtype: "np.dtype[np.generic]") -> Operand:
    """The view of a storage that a tensor is; only what it spans is read."""
    size = dtype.itemsize
    steps = zip(tensor.shape, tensor.strides, strict=True)
    strides = [step * size if n > 1 else 0 for n, step in steps]
    first = tensor.storage.first * item_size(tensor.storage.kind) + tensor.offset * size
    with _faults(source):
        array = source.array_at(
            run.begin() + first, tensor.count * size, dtype, tensor.shape, strides
        )
    return Operand(array, origin=source.name)


@contextmanager
def _faults(source: Source) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except OSError as fault:
        raise source.unreadable(fault) from None
    except Exception as fault:  # zipfile and pickletools raise many kinds on a bad file
        reason = str(fault).split("\n")[0].rstrip(".") or type(fault).__name__
        if not source.start(2).startswith((b"PK", b"\x80")):
            reason = "it does not begin as .pt files do; its ending may be wrong"
        raise DataError(f"{source.name}: not a whole .pt file: {reason}") from None
