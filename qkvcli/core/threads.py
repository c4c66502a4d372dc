"""Many pieces of work on all cores, their results in order; BLAS held to one thread meanwhile."""

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Event, Lock, get_ident, local
from typing import Any, TypeVar

import numpy as np

_GLANCE = 0.1
"""How many seconds pass between two looks at how far the work is."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class CalledOffError(Exception):
    """Raised inside a piece of work that nobody waits for any more."""


def check(stop: Event) -> None:
    """Raise CalledOffError where the work is called off."""
    if stop.is_set():
        raise CalledOffError


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def at_once() -> int:
    """How many pieces of work `ordered` has under way, or done and not yet taken."""
    return 2 * cores()


_at_work = local()
"""What the threads of a pool know of themselves."""


def ordered(
    job: Callable[[Item, Event], Result],
    items: Sequence[Item],
    idle: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """``job`` of every item, on one thread per core, in the order of the items.

    A job is given the event of this call, which is set when the work is called off: the
    iterator closed, or an exception (Ctrl-C too) on the way. Few results wait to be taken
    (`at_once`). Where BLAS cannot be held to one thread, or there is one item,
    the work is done in this thread and BLAS uses the cores; so it is within a job of another
    call, whose threads use them. ``idle`` is called now and then, by this thread, while it waits
    for the others.

    >>> list(ordered(lambda n, stop: n * n, range(5)))
    [0, 1, 4, 9, 16]
    """
    stop = Event()
    with one_blas_thread(len(items) > 1 and cores() > 1) as held:
        if not held or hasattr(_at_work, "pool"):
            for item in items:
                yield job(item, stop)
            return
        with ThreadPoolExecutor(
            cores(), initializer=setattr, initargs=(_at_work, "pool", True)
        ) as pool:
            try:
                waiting: deque[Future[Result]] = deque()
                for item in items:
                    waiting.append(pool.submit(job, item, stop))
                    if len(waiting) == at_once():
                        yield _awaited(waiting.popleft(), idle)
                while waiting:
                    yield _awaited(waiting.popleft(), idle)
            except BaseException:  # GeneratorExit too: what runs is told, what waits is dropped
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _awaited(future: "Future[Result]", idle: Callable[[], None] | None = None) -> Result:
    """A future's result; ``idle`` is called now and then until it is there."""
    while idle is not None:
        done, _ = wait([future], _GLANCE)
        idle()
        if done:
            break
    return future.result()


class Tally:
    """How many parts of much work are done, which several threads count and one shows."""

    def __init__(self, total: int, advance: Callable[[int, int], None]) -> None:
        self.total, self.done = total, 0
        self._advance, self._adding, self._owner = advance, Lock(), get_ident()

    def tick(self) -> None:
        """Count one more part."""
        with self._adding:
            self.done += 1
        if get_ident() == self._owner:  # which has nobody else to show it
            self.show()

    def show(self) -> None:
        """Say how many are done."""
        self._advance(self.done, self.total)


@contextmanager
def one_blas_thread(wanted: bool = True) -> Iterator[bool]:
    """Whether NumPy's BLAS is held to one thread inside; left alone where that can't be done."""
    getter, setter = openblas("get_num_threads"), openblas("set_num_threads")
    if not wanted or getter is None or setter is None:
        yield False
        return
    with _holding:
        _found.append(getter())
        setter(1)
    try:
        yield True
    finally:
        with _holding:
            threads = _found.pop()
            if not _found:  # this is what the first of the calls found
                setter(threads)


_holding = Lock()
_found: list[int] = []
"""How many threads BLAS had, for each of the calls that hold it now."""

_NAMES = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}")


@cache
def openblas(action: str) -> Callable[..., Any] | None:
    """A function of the OpenBLAS that NumPy's wheels bring along (and have loaded)."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            library = ctypes.CDLL(str(path))
            for name in _NAMES:
                if hasattr(library, name.format(action)):
                    found: Callable[..., Any] = getattr(library, name.format(action))
                    return found
    return None
