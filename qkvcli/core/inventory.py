"""What files hold: arrays, and from where to where their numbers reach."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from qkvcli.core.operands import Array, Labels, Shape

_AT_ONCE = 2**18
"""How many numbers are looked at together: as many as stay in a core's cache."""


class Range(NamedTuple):
    """The least and the largest number that is finite (None: there is none), and the others.

    ``nan`` and ``inf`` count those that are no number, and those that are infinite, of any sign.
    """

    least: float | int | bool | None = None
    largest: float | int | bool | None = None
    nan: int = 0
    inf: int = 0

    def joined(self, other: "Range") -> "Range":
        """The range of both together."""
        least = [n for n in (self.least, other.least) if n is not None]
        largest = [n for n in (self.largest, other.largest) if n is not None]
        return Range(
            min(least, default=None),
            max(largest, default=None),
            self.nan + other.nan,
            self.inf + other.inf,
        )


class Entry(NamedTuple):
    """An array of a file: what the file says of it, and what its numbers are.

    ``type`` is the name of their type, as the file has it ("bfloat16"). Only real
    numbers, and truth values, have a ``range``. Where the array cannot be read, ``fault`` says
    why, and there may be no shape.
    """

    file: str
    name: str
    shape: Shape | None
    type: str
    range: Range | None = None
    rows: Labels = None
    columns: Labels = None
    fault: str = ""


def range_of(
    array: Array,
    decode: Callable[[Array], Array] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Range | None:
    """The range of an array of real numbers; None of any other.

    ``decode`` makes numbers of each part; ``advance`` is given how many of them were looked at.

    >>> range_of(np.array([[3.0, np.nan], [-np.inf, -2.0]]))
    Range(least=-2.0, largest=3.0, nan=1, inf=1)
    """
    if decode is None and array.dtype.kind not in "biuf":
        return None
    found = Range()
    for part in _parts(array):
        numbers = part if decode is None else decode(part)
        found = found.joined(_of_part(numbers))
        advance(part.size)
    return found


def _parts(array: Array) -> Iterator[Array]:
    """All the numbers, some at a time, in the order in which they lie; none where there is none."""
    flags: Any = ("external_loop", "buffered", "zerosize_ok")
    with np.nditer(array, flags=flags, order="K", buffersize=_AT_ONCE) as numbers:
        parts: Any = numbers  # one array at a time, which older stubs don't know
        for part in parts:
            if part.size:
                yield part


def _of_part(numbers: Array) -> Range:
    least, largest = numbers.min(), numbers.max()
    nan = inf = 0
    if not (np.isfinite(least) and np.isfinite(largest)):  # a NaN is both
        finite = np.isfinite(numbers)
        nan = int(np.isnan(numbers).sum())
        inf = numbers.size - int(finite.sum()) - nan
        if nan + inf == numbers.size:
            return Range(None, None, nan, inf)
        least, largest = numbers[finite].min(), numbers[finite].max()
    return Range(_plain(least), _plain(largest), nan, inf)


def _plain(number: Any) -> Any:
    """A number of NumPy's as one of Python's; a longdouble is none by itself."""
    return float(number) if number.dtype.itemsize > 8 else number.item()
