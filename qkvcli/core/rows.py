"""Rows of numbers that are converted where they are looked at, such as keys in float16.

Attention looks at keys and values a block at a time. What has to be converted on the way (to the
dtype that is worked in), or put together (a cache and what follows it), is so for the block in
hand, and never as a whole.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from qkvcli.core.operands import Array

Change: TypeAlias = Callable[[Array], Array]
"""What is done to numbers, each on its own; it gives an array of the same shape."""

_BLOCK = 2**20
"""About so many numbers are converted at a time."""


class Stretch(NamedTuple):
    """An array (…, L, d) as it is given, and what its numbers go through one after the other."""

    array: Array
    changes: tuple[Change, ...] = ()

    def numbers(self) -> Array:
        """The array, converted."""
        array = self.array
        for change in self.changes:
            array = change(array)
        return array


class Rows:
    """Arrays (…, L, d), one after the other along the tokens, as one array of a dtype.

    It has NumPy's ``shape``, ``ndim``, ``size`` and ``dtype``, and gives its numbers as NumPy
    does: an index of leading axes alone, or all of the tokens, gives Rows again; anything else
    the numbers. NumPy takes it for its array, converted whole.

    >>> half = np.array([[1.0], [2.0]], np.float16)
    >>> rows = Rows((Stretch(half, (np.float32,)), Stretch(half, (np.float32,))))
    >>> rows.shape, rows.dtype, rows[1:3].ravel().tolist()
    ((4, 1), dtype('float32'), [2.0, 1.0])
    """

    __array_priority__ = -1.0  # what is computed with it is NumPy's own

    def __init__(self, stretches: tuple[Stretch, ...]) -> None:
        self.stretches = stretches
        first = stretches[0]
        *leading, _, width = first.array.shape
        self.shape = (*leading, sum(part.array.shape[-2] for part in stretches), width)
        self.dtype = first._replace(array=np.empty(0, first.array.dtype)).numbers().dtype

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return int(np.prod(self.shape, dtype=object))

    def __len__(self) -> int:
        return self.shape[0]

    def each(self, change: Change) -> "Rows":
        """The same with another view of each stretch's array; the tokens stay at axis −2."""
        return Rows(tuple(part._replace(array=change(part.array)) for part in self.stretches))

    def __getitem__(self, index: Any) -> Any:
        places = _by_axis(index if isinstance(index, tuple) else (index,), self.ndim)
        *leading, rows, width = places
        all_of_it = slice(None)
        if _is(rows, all_of_it) and _is(width, all_of_it):
            return self.each(lambda array: array[tuple(places)])
        if len(self.stretches) == 1:
            [part] = self.stretches
            return part._replace(array=part.array[tuple(places)]).numbers()
        if isinstance(rows, slice) and rows.step in (None, 1) and _is(width, all_of_it):
            return self._some(range(self.shape[-2])[rows], leading)
        return np.asarray(self)[tuple(places)]

    def _some(self, rows: range, leading: list[Any]) -> Array:
        """The numbers of rows that follow each other."""
        found, begin = list[Array](), 0
        for part in self.stretches:
            count = part.array.shape[-2]
            first, last = max(rows.start - begin, 0), min(rows.stop - begin, count)
            if first < last or (not found and part is self.stretches[-1]):
                index = (*leading, slice(first, max(last, first)), slice(None))
                found.append(part._replace(array=part.array[index]).numbers())
            begin += count
        return found[0] if len(found) == 1 else np.concatenate(found, axis=-2)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("its numbers are converted, and so copied")
        whole = np.empty(self.shape, self.dtype if dtype is None else dtype)
        for rows in blocks_of(self):
            whole[..., rows, :] = self[..., rows, :]
        return whole


def rows_of(array: Array, *changes: Change) -> Array:
    """An array, or each stretch of Rows, whose numbers go through some changes when looked at.

    It is one for all who ask for its shape, for a part, or for the whole of it by NumPy.
    """
    if isinstance(array, Rows):
        more = (part._replace(changes=part.changes + changes) for part in array.stretches)
        return cast(Array, Rows(tuple(more)))
    return cast(Array, Rows((Stretch(array, changes),))) if changes else array


def joined(first: Array, then: Array) -> Array:
    """Two arrays (…, L, d) of the same dtype, one after the other along the tokens."""
    stretches = (
        part
        for array in (first, then)
        for part in (array.stretches if isinstance(array, Rows) else (Stretch(array),))
    )
    return cast(Array, Rows(tuple(stretches)))


def each(array: Array, change: Change) -> Array:
    """Another view of an array, or of what is converted when it is looked at."""
    return cast(Array, array.each(change)) if isinstance(array, Rows) else change(array)


def blocks_of(array: Array | Rows) -> Iterator[slice]:
    """The tokens of an array (…, L, d), as many at a time as are converted at once.

    All of them, where nothing is converted.
    """
    count = array.shape[-2]
    if not isinstance(array, Rows):
        yield slice(0, count)
        return
    at_once = max(_BLOCK // max(array.size // max(count, 1), 1), 1)
    for first in range(0, max(count, 1), at_once):  # one block of none, where there are none
        yield slice(first, min(first + at_once, count))


def _is(place: Any, whole: slice) -> bool:
    """Whether an index is that slice; an array of numbers is none."""
    return isinstance(place, slice) and place == whole


def _by_axis(index: tuple[Any, ...], axes: int) -> list[Any]:
    """An index with a place for each axis, in place of an ellipsis and of axes that it lacks."""
    places = list(index)
    missing = [slice(None)] * (axes - sum(place is not Ellipsis for place in places))
    at = next((i for i, place in enumerate(places) if place is Ellipsis), None)
    if at is None:
        return places + missing
    return [*places[:at], *missing, *places[at + 1 :]]
