"""The pieces of an output on the workers of an executor: processes here, or on other machines.

An executor is whatever has ``submit`` as Python's own have it (`concurrent.futures.Executor`):
loky's, mpi4py's, Dask's. Keys and values go to a worker by reference: the files that they are
mapped from, or one that they are written to. A worker that cannot map them (there is no such
file there, or its numbers are others) says so, and gets them whole, with the piece that it could
not compute, or, where the executor can bring data to all its workers, once.
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
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from threading import Event, Lock
from typing import Any, NamedTuple, Protocol

import numpy as np

from qkvcli.core.blocks import Mixed
from qkvcli.core.operands import Array
from qkvcli.core.pieces import Mixing, Piece
from qkvcli.core.threads import cores, one_blas_thread, openblas
from qkvcli.errors import UsageError, WriteError

_AHEAD = 3
"""How many pieces for each worker are under way, or done and not yet taken."""
_SMALL = 2**16
"""Arrays of fewer bytes go with the piece."""
_KEPT = 1
"""How many mixings a worker keeps: the one that is at work."""


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
            shared = _Shared(mixing, token, self.executor, closing)
            waiting: deque[tuple[Piece, Any]] = deque()
            try:
                for piece in pieces:
                    waiting.append((piece, self._sent(piece, shared)))
                    if len(waiting) >= _AHEAD * self.workers:
                        yield self._next(waiting, shared)
                while waiting:
                    yield self._next(waiting, shared)
            finally:
                stop.set()
                for _, future in waiting:
                    future.cancel()
                shared.forget()

    def once(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives, called by one of the workers."""
        return self.executor.submit(work, *arguments).result()

    def _sent(self, piece: Piece, shared: _Shared) -> Any:
        return self.executor.submit(worked, shared.token, shared.sent, piece)

    def _next(self, waiting: deque[tuple[Piece, Any]], shared: _Shared) -> Mixed:
        """The first result of those that wait; a worker that cannot map the arrays gets them."""
        found = waiting[0][1].result()
        if found is None:
            with shared.whole():  # for the others that have come back, too, before one is awaited
                for i, (piece, future) in enumerate(waiting):
                    if future.done() and future.result() is None:
                        waiting[i] = piece, self._sent(piece, shared)
            found = waiting[0][1].result()
        waiting.popleft()
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
    """A mixing as it is ``sent``: with its arrays by reference, or whole."""

    def __init__(self, mixing: Mixing, token: str, executor: Any, closing: ExitStack) -> None:
        self.mixing, self.token, self.executor = mixing, token, executor
        stream = io.BytesIO()
        if not isinstance(executor, ThreadPoolExecutor):  # whose threads have it
            _Storing(stream, closing).dump(mixing)
        self.sent: Any = stream.getvalue()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Have it sent with all its numbers; from then on, if they are to be had everywhere."""
        reference, share = self.sent, getattr(self.executor, "share", None)
        data = pickle.dumps(self.mixing, pickle.HIGHEST_PROTOCOL)
        self.sent = data if share is None else share(data)
        yield
        if share is None:  # to each piece that comes back
            self.sent = reference

    def forget(self) -> None:
        """Have the workers let it go, if there is a way to tell them all."""
        everywhere = getattr(self.executor, "everywhere", None)
        if everywhere is not None:
            with suppress(Exception):  # the run has ended, in whatever way
                everywhere(_forget, self.token)


class _ElsewhereError(Exception):
    """A file that arrays are mapped from is not here, or is another."""


class _Place(NamedTuple):
    """Where an array is: the file that it is mapped from, and where in what is mapped of it.

    ``start`` and ``size`` say what is mapped, ``offset`` where the array's first number is
    there; ``total`` is a sum of all bytes from its first number to its last.
    """

    path: str
    start: int
    size: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    total: int

    @classmethod
    def of(cls, array: Array, path: str, start: int, held: mmap.mmap) -> _Place:
        """An array, and what is mapped: its numbers, also if the path leads elsewhere by now."""
        begin = np.frombuffer(held, np.uint8).ctypes.data
        offset = int(array.ctypes.data) - begin
        where = cls(path, start, len(held), offset, array.shape, array.strides, array.dtype.str, 0)
        return where._replace(total=_total(array))

    def mapped(self) -> Array:
        """The array. Raises _ElsewhereError where the file is not here, or another one is."""
        try:
            with open(self.path, "rb") as stream:  # noqa: PTH123 -- pathlib is not needed else
                held = mmap.mmap(
                    stream.fileno(), self.size, access=mmap.ACCESS_READ, offset=self.start
                )
        except (OSError, ValueError):
            raise _ElsewhereError from None
        array: Array = np.ndarray(self.shape, self.dtype, held, self.offset, self.strides)
        if _total(array) != self.total:
            raise _ElsewhereError
        return array


def _total(array: Array) -> int:
    """A sum of the bytes of an array, and of those between them."""
    low, high = np.lib.array_utils.byte_bounds(array)
    return zlib.crc32((ctypes.c_char * (high - low)).from_address(low))


class _Storing(pickle.Pickler):
    """Pickles a mixing with references in place of its large arrays.

    Those that are mapped from no file are written to one, which is removed by ``closing``.
    Raises WriteError where that cannot be.
    """

    def __init__(self, stream: io.BytesIO, closing: ExitStack) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self.closing = closing
        self.folder: str | None = None
        self.written: dict[int, tuple[_Place, Array]] = {}

    def persistent_id(self, value: Any) -> _Place | None:
        """The reference of a large array; None for all else."""
        if not isinstance(value, np.ndarray) or value.nbytes < _SMALL or value.dtype.hasobject:
            return None
        if id(value) not in self.written:
            found = _lies_in(value)
            where = self._write(value) if found is None else _Place.of(value, *found)
            self.written[id(value)] = where, value  # held, so that its id stays
        return self.written[id(value)][0]

    def _write(self, array: Array) -> _Place:
        """Write an array as it lies, so that products sum in the same order."""
        again = [
            stride == 0 and count > 1
            for stride, count in zip(array.strides, array.shape, strict=True)
        ]
        once = tuple(slice(0, 1) if repeats else slice(None) for repeats in again)
        copied = array[once].copy(order="K")
        try:
            if self.folder is None:
                kept = tempfile.TemporaryDirectory(prefix="qkvcli-", ignore_cleanup_errors=True)
                self.folder = self.closing.enter_context(kept)
            path = os.path.join(self.folder, f"{len(self.written)}")  # noqa: PTH118
            with open(path, "w+b") as stream:  # noqa: PTH123
                stream.write(copied.ravel(order="K").data)
                stream.flush()
                held = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as fault:
            where = self.folder or "a temporary folder"
            raise WriteError(f"{where}: cannot be written: {fault.strerror}") from None
        strides = tuple(
            0 if repeats else stride for repeats, stride in zip(again, copied.strides, strict=True)
        )
        written: Array = np.ndarray(array.shape, array.dtype, held, 0, strides)
        return _Place.of(written, path, 0, held)


class _Loading(pickle.Unpickler):
    """Reads what `_Storing` wrote, and maps the arrays. Raises _ElsewhereError."""

    def persistent_load(self, where: _Place) -> Array:
        """The array of a reference."""
        return where.mapped()


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
    client = getattr(executor, "_client", executor)  # of Dask's, which counts each one's threads
    if callable(getattr(client, "ncores", None)):
        return max(sum(client.ncores().values()), 1)
    return cores()
