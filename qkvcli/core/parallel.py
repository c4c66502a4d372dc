"""Many pieces of work on all cores, their results in order."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

from qkvcli.core.blas import one_thread

Item = TypeVar("Item")
Result = TypeVar("Result")

stopping = Event()
"""Set while work is being called off: a piece that looks at it ends early."""


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered(job: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """``job`` of every item, on one thread a core, in the order of the items.

    No more than two results a core wait to be taken. Where BLAS cannot be held to one
    thread, or there is one item, the work is done here and BLAS uses the cores.

    >>> list(ordered(lambda n: n * n, range(5)))
    [0, 1, 4, 9, 16]
    """
    with one_thread() if len(items) > 1 and cores() > 1 else _as_it_is() as held:
        if not held:
            yield from map(job, items)
            return
        with ThreadPoolExecutor(cores()) as pool:
            try:
                yield from _taken(pool, job, items)
            except BaseException:  # Ctrl-C too: what runs is told, what waits is dropped
                stopping.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
            finally:
                stopping.clear()


def _taken(
    pool: ThreadPoolExecutor, job: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(job, item))
        if len(waiting) > 2 * cores():
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class _as_it_is:  # noqa: N801 -- stands where `one_thread` does
    def __enter__(self) -> bool:
        return False

    def __exit__(self, *fault: object) -> None:
        return None
