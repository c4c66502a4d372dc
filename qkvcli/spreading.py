"""The pieces of an output on the workers of an executor: processes here, or on other machines.

An executor is whatever has ``submit`` as Python's own have it (`concurrent.futures.Executor`):
loky's, mpi4py's, Dask's. Keys and values go to a worker by reference: the files that they are
mapped from, or one that they are written to. A worker that cannot map them (there is no such
file there, or another) says so, and gets them whole, once.
"""

from __future__ import annotations  # help() shows the types by their names

import ctypes
import io
import mmap
import os
import pickle
import sys
import tempfile
import uuid
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Event, Lock
from typing import Any, NamedTuple, Protocol

import numpy as np

from qkvcli.core.blocks import Mixed
from qkvcli.core.operands import Array
from qkvcli.core.pieces import Mixing, Piece
from qkvcli.core.threads import cores, one_blas_thread, openblas
from qkvcli.errors import UsageError

_AHEAD = 3
"""How many pieces for each worker are under way, or done and not yet taken."""
_SMALL = 2**16
"""Arrays of fewer bytes go with the piece."""
_GLANCES = 64
"""At how many places a file is looked at, to tell it from another of the same size."""
_KEPT = 2
"""How many mixings a worker keeps: one that is at work, and one that follows."""


class Executor(Protocol):
    """What Python's executors have, and others' that do as they do."""

    def submit(self, work: Any, /, *arguments: Any) -> Any:
        """Have a call made by a worker, and give its future.

        An executor may also have ``share(data)``, which brings data to all workers and gives what
        is to be sent in its place, and ``everywhere(work, *arguments)``, called on all of them.
        """


class Crew:
    """The workers of an executor, as `core.pieces.Crew` wants them.

    ``workers`` is how many there are, where the executor does not say it.
    """

    def __init__(self, executor: Executor, workers: int | None = None) -> None:
        self.executor = executor
        self.workers = workers or _workers_of(executor)

    def __call__(self, mixing: Mixing, pieces: Iterator[Piece]) -> Iterator[Mixed]:
        """The results of the pieces, in their order; few are drawn ahead."""
        token, stop = uuid.uuid4().hex, Event()
        with ExitStack() as closing:
            _keep(token, mixing, stop)  # for an executor of threads
            closing.callback(_forget, token)
            shared = _Shared(mixing, token, closing)
            waiting: deque[tuple[Piece, Any]] = deque()
            try:
                for piece in pieces:
                    waiting.append((piece, self._sent(piece, shared.reference, token)))
                    if len(waiting) >= _AHEAD * self.workers:
                        yield self._result(*waiting.popleft(), shared)
                while waiting:
                    yield self._result(*waiting.popleft(), shared)
            finally:
                stop.set()
                for _, future in waiting:
                    future.cancel()
                everywhere = getattr(self.executor, "everywhere", None)
                if everywhere is not None:
                    everywhere(_forget, token)

    def once(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives, called by one of the workers."""
        return self.executor.submit(work, *arguments).result()

    def _sent(self, piece: Piece, shared: Any, token: str) -> Any:
        return self.executor.submit(worked, token, shared, piece)

    def _result(self, piece: Piece, future: Any, shared: _Shared) -> Mixed:
        """A future's result; a worker that cannot map the arrays gets them."""
        found = future.result()
        if found is None:
            whole = shared.whole(getattr(self.executor, "share", None))
            found = self._sent(piece, whole, shared.token).result()
        if not isinstance(found, Mixed):
            raise UsageError("executor gives other results than those of its work")
        return found


def worked(token: str, shared: bytes, piece: Piece) -> Mixed | None:
    """A piece, computed by a worker; None where the arrays that it needs are not to be had."""
    with one_blas_thread():
        found = _kept(token, shared)
        if found is None:
            return None
        mixing, stop = found
        return mixing(piece, stop)


def about() -> dict[str, str]:
    """What a worker computes with: the versions, and the kernels of its BLAS."""
    from qkvcli import __version__

    corename = openblas("get_corename")
    kernels = "unknown"
    if corename is not None:
        corename.restype = ctypes.c_char_p  # type: ignore[attr-defined]
        kernels = corename().decode()
    python = ".".join(map(str, sys.version_info[:2]))
    return {
        "qkvcli": __version__,
        "NumPy": np.__version__,
        "Python": python,
        "OpenBLAS kernels": kernels,
    }


_here: OrderedDict[str, tuple[Mixing, Event]] = OrderedDict()
"""What this process keeps of the mixings that it works on, by their tokens."""
_keeping = Lock()


def _keep(token: str, mixing: Mixing, stop: Event) -> None:
    with _keeping:
        _here[token] = mixing, stop


def _forget(token: str) -> None:
    with _keeping:
        _here.pop(token, None)


def _kept(token: str, shared: bytes) -> tuple[Mixing, Event] | None:
    """A mixing that is here, or what ``shared`` makes of it; None where it cannot be mapped."""
    with _keeping:
        if token not in _here:
            try:
                _here[token] = _Loading(io.BytesIO(shared)).load(), Event()
            except _ElsewhereError:
                return None
            while len(_here) > _KEPT:
                _here.popitem(last=False)
        _here.move_to_end(token)
        return _here[token]


class _Shared:
    """A mixing as it is sent: with its arrays by ``reference``, or whole."""

    def __init__(self, mixing: Mixing, token: str, closing: ExitStack) -> None:
        self.mixing, self.token = mixing, token
        self._whole: Any = None
        stream = io.BytesIO()
        _Storing(stream, closing).dump(mixing)
        self.reference = stream.getvalue()

    def whole(self, share: Any) -> Any:
        """The mixing with all its numbers; ``share`` brings it to all workers at once."""
        if self._whole is None:
            data = pickle.dumps(self.mixing, pickle.HIGHEST_PROTOCOL)
            self._whole = data if share is None else share(data)
        return self._whole


class _ElsewhereError(Exception):
    """A file that arrays are mapped from is not here, or is another."""


class _File(NamedTuple):
    """A file that arrays are mapped from: where the map begins, and what tells it from others."""

    path: str
    start: int
    size: int
    glance: int

    @classmethod
    def of(cls, path: str, start: int, held: mmap.mmap) -> _File:
        """A file, and what is mapped of it: its numbers, also if another has its name by now."""
        return cls(path, start, len(held), _glance(held))

    def mapped(self) -> mmap.mmap:
        """Its bytes. Raises _ElsewhereError where it is not here, or another file is."""
        try:
            with open(self.path, "rb") as stream:  # noqa: PTH123 -- pathlib is not needed else
                found = mmap.mmap(
                    stream.fileno(), self.size, access=mmap.ACCESS_READ, offset=self.start
                )
        except (OSError, ValueError):
            raise _ElsewhereError from None
        if _glance(found) != self.glance:
            raise _ElsewhereError
        return found


def _glance(held: mmap.mmap) -> int:
    """A sum of what stands at many places."""
    found = 0
    for i in range(_GLANCES):
        begin = len(held) * i // _GLANCES
        found = zlib.crc32(held[begin : begin + 4096], found)
    return zlib.crc32(held[-4096:], found)


class _Storing(pickle.Pickler):
    """Pickles a mixing with references in place of its large arrays.

    Those that are mapped from no file are written to one, which is removed by ``closing``.
    """

    def __init__(self, stream: io.BytesIO, closing: ExitStack) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self.closing = closing
        self.folder: str | None = None
        self.files: dict[tuple[str, int], _File] = {}
        self.written: dict[int, tuple[Any, Array]] = {}

    def persistent_id(self, value: Any) -> Any:
        """The reference of a large array; None for all else."""
        if not isinstance(value, np.ndarray) or value.nbytes < _SMALL or value.dtype.hasobject:
            return None
        found = _lies_in(value)
        if found is not None:
            *_, held = found
            offset = int(value.ctypes.data) - np.frombuffer(held, np.uint8).ctypes.data
            return self._file(*found), offset, value.shape, value.strides, value.dtype.str
        if id(value) not in self.written:
            self.written[id(value)] = self._write(value), value  # held, so that its id stays
        return self.written[id(value)][0]

    def _write(self, array: Array) -> Any:
        if self.folder is None:
            kept = tempfile.TemporaryDirectory(prefix="qkvcli-", ignore_cleanup_errors=True)
            self.folder = self.closing.enter_context(kept)
        copied = array.copy(order="K")  # as it lies, so that products sum in the same order
        path = os.path.join(self.folder, f"{len(self.written)}")  # noqa: PTH118
        with open(path, "w+b") as stream:  # noqa: PTH123
            stream.write(copied.ravel(order="K").data)
            stream.flush()
            held = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return self._file(path, 0, held), 0, copied.shape, copied.strides, copied.dtype.str

    def _file(self, path: str, start: int, held: mmap.mmap) -> _File:
        if (path, start) not in self.files:
            self.files[path, start] = _File.of(path, start, held)
        return self.files[path, start]


class _Loading(pickle.Unpickler):
    """Reads what `_Storing` wrote, and maps the arrays. Raises _ElsewhereError."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.maps: dict[_File, mmap.mmap] = {}

    def persistent_load(self, reference: Any) -> Array:
        """The array of a reference."""
        file, offset, shape, strides, dtype = reference
        if file not in self.maps:
            self.maps[file] = file.mapped()
        return np.ndarray(shape, dtype, self.maps[file], offset, strides)


def _lies_in(array: Array) -> tuple[str, int, mmap.mmap] | None:
    """The file that an array is mapped from: its path, where the map begins, and the map."""
    base: Any = array
    path, start = "", 0
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            if base.mode == "c":  # what was written to it is not in the file
                return None
            path, start = os.fspath(base.filename or ""), base.offset
        base = base.base
    if not isinstance(base, mmap.mmap):
        return None
    path = getattr(base, "path", path)  # of what our own readers map, which is the whole file
    if not path:
        return None
    return os.path.realpath(path), start - start % mmap.ALLOCATIONGRANULARITY, base


def _workers_of(executor: Any) -> int:
    """How many workers an executor says that it has, by the names that are usual."""
    for name in ("workers", "num_workers", "_max_workers"):
        count = getattr(executor, name, None)
        if isinstance(count, int) and count > 0:
            return count
    return cores()
