"""One level of parallelism: NumPy's BLAS held to one thread while Python's threads work."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_NAMES = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}")


@contextmanager
def one_thread() -> Iterator[bool]:
    """Whether BLAS is held to one thread inside; where nobody knows how, it is left alone.

    >>> with one_thread() as held:
    ...     isinstance(held, bool)
    True
    """
    getter, setter = _openblas("get_num_threads"), _openblas("set_num_threads")
    if getter is None or setter is None:
        yield False
        return
    before = getter()
    setter(1)
    try:
        yield True
    finally:
        setter(before)


@cache
def _openblas(action: str) -> Callable[..., Any] | None:
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
