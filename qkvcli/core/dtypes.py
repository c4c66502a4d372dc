"""Which floating-point type the work is done in, and which one the results have."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np

from qkvcli.core.config import Kind, kind_named
from qkvcli.core.operands import Array, Operand
from qkvcli.core.rows import rows_of
from qkvcli.errors import DtypeError

_CARRIED: dict[Kind, tuple[Kind, int]] = {"bfloat16": ("float32", 16)}
"""The types that NumPy lacks: which one carries their numbers, and the bits that it has more."""


@dataclass(frozen=True)
class Float:
    """A type that numbers are rounded to, by its ``name``.

    Those of bfloat16, which NumPy lacks, are carried in float32: `converted` rounds to it, and
    nothing else has to know of it.

    >>> Float("bfloat16").carrier, Float("bfloat16").epsilon, Float("float64").carrier
    (dtype('float32'), 0.0078125, dtype('float64'))
    """

    name: Kind

    @classmethod
    def of(cls, dtype: "np.dtype[np.generic]") -> "Float":
        """The type of NumPy's floats, float64 for all wider ones."""
        return cls(kind_named(dtype.name) or "float64")

    @property
    def carrier(self) -> "np.dtype[np.floating[Any]]":
        """The dtype of the arrays that hold its numbers."""
        carrier, _ = _CARRIED.get(self.name, (self.name, 0))
        return np.dtype(carrier)

    @property
    def dropped(self) -> int:
        """How many of the last bits of its carrier it does not have."""
        return _CARRIED.get(self.name, (self.name, 0))[1]

    @property
    def epsilon(self) -> float:
        """From 1 to the next number."""
        return float(np.finfo(self.carrier).eps) * 2.0**self.dropped

    def holds(self, other: "Float") -> bool:
        """Whether it has all numbers of another.

        >>> Float("float32").holds(Float("bfloat16")), Float("bfloat16").holds(Float("float16"))
        (True, False)
        """
        return self == other or (not self.dropped and np.can_cast(other.carrier, self.carrier))


FLOAT64 = Float("float64")


def result_dtype(operands: Iterable[Operand]) -> Float:
    """The results' type: the inputs' own, float64 for integers and booleans.

    >>> result_dtype([Operand(np.zeros((2, 2), np.float16))]).name
    'float16'
    >>> result_dtype([Operand(np.zeros((2, 2), np.float32)), Operand(np.eye(2, dtype=int))]).name
    'float64'

    Raises DtypeError for what is not a real number (complex, text, objects, dates).
    """
    return Float.of(np.result_type(*(own_dtype(operand).carrier for operand in operands)))


def own_dtype(operand: Operand) -> Float:
    """The type that an operand alone would give the results. Raises DtypeError."""
    dtype = operand.array.dtype
    if dtype.kind in "biu":
        return FLOAT64
    if dtype.kind == "f" and dtype.itemsize > 1:  # longdouble differs between machines
        return Float.of(dtype)
    what = f"{operand.described}: numbers of type {dtype} are not real numbers"
    if dtype.kind in "USc":
        raise DtypeError(f"{what}; give an array of floats")
    raise DtypeError(f"{what}; convert them to float32")


def working_dtype(result: Float) -> Float:
    """Where the arithmetic is done: never below float32, since float16 ends at 65504."""
    return Float.of(np.result_type(result.carrier, np.float32))


def converted(array: Array, dtype: Float) -> Array:
    """The numbers as a type holds them, in its carrier and this machine's byte order.

    Rounded once, to the nearest and to even; the array itself where it already has NumPy's type.

    >>> converted(np.array([1.00390625, 1.01171875, -np.inf]), Float("bfloat16")).tolist()
    [1.0, 1.015625, -inf]
    """
    array = np.asarray(array)  # `rows.Rows` whole
    # too large for float16 is inf there, as IEEE 754 says; a NaN that signals stays a NaN
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype.dropped:
            return _without_last_bits(array, dtype.dropped)
        if dtype.carrier == np.float16 and array.dtype == np.float32:
            return _halved(array)
        return array.astype(dtype.carrier, copy=False)


def rounded(operand: Operand, result: Float) -> Operand:
    """The numbers as the result's type holds them, in the dtype that is worked in."""
    array = operand.array
    if not result.holds(Float.of(array.dtype)):
        array = converted(array, result)
    return replace(operand, array=converted(array, working_dtype(result)))


def rounded_rows(operand: Operand, result: Float) -> Operand:
    """The same as `rounded`, for rows that are converted where they are looked at."""
    array, working = operand.array, working_dtype(result)
    changes = []
    if not result.holds(Float.of(array.dtype)):
        changes.append(partial(converted, dtype=result))
    if array.dtype != working.carrier or changes:  # of another order of bytes too
        changes.append(partial(converted, dtype=working))
    return replace(operand, array=rows_of(array, *changes))


def taken_as(softmax: Float, array: Array) -> Array:
    """Scores, or sinks, as a softmax of a type takes them: rounded to it, in float32 at least."""
    return converted(converted(array, softmax), working_dtype(softmax))


_BLOCK = 2**15
"""So many numbers at a time stay in a core's own cache."""
_SMALL, _HALF = np.float32(2**-14), np.float32(0.5)


def _halved(array: Array) -> Array:
    """Numbers in float32 as float16, which processors make slowly of those below 2^−14.

    Most weights of a long row are. In float32, numbers from ½ to 1 are as far apart as those of
    float16 are there: the sum with ½ is rounded as it must be, and its last bits are float16's.
    """
    found = np.empty(array.shape, np.float16)
    flat, bits = array.reshape(-1), found.reshape(-1).view(np.uint16)
    for first in range(0, flat.size, _BLOCK):
        part = flat[first : first + _BLOCK]
        sizes = np.abs(part)
        small = sizes < _SMALL
        usual = np.where(small, np.copysign(np.float32(0), part), part).astype(np.float16)
        sizes += _HALF
        sizes.view(np.uint32)[...] -= _HALF.view(np.uint32)
        usual.view(np.uint16)[...] |= np.where(small, sizes.view(np.uint32), 0).astype(np.uint16)
        bits[first : first + _BLOCK] = usual.view(np.uint16)
    return found


def widened(array: Array) -> Array:
    """Numbers in float16 as float32, from a table: there too processors are slow below 2^−14.

    >>> widened(np.array([1.5, 6e-8, -np.inf], np.float16)).tolist()
    [1.5, 5.960464477539063e-08, -inf]
    """
    return np.take(_halves(), array.view(np.uint16))


@cache
def _halves() -> Array:
    """What each of the numbers of float16 is, by its bits."""
    return np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)


def _without_last_bits(array: Array, dropped: int) -> Array:
    """Numbers in float32, rounded to those whose last bits are 0."""
    flat = array.ravel()
    bits = (_to_odd(flat) if flat.dtype != np.float32 else flat).view(np.uint32)
    kept = bits >> dropped
    kept &= 1
    kept += (1 << (dropped - 1)) - 1  # with the last bit that stays: over half, or half to even
    kept += bits
    kept &= -1 << dropped & 0xFFFFFFFF
    found = kept.view(np.float32)
    np.copyto(found, np.nan, where=np.isnan(flat))  # its bits may have become those of an infinity
    return found.reshape(array.shape)


def _to_odd(flat: Array) -> Array:
    """Numbers in float32, the odd one of both neighbours where they lie between.

    Rounded once more, to a type of at least two bits less, they are as if they had been rounded
    to it alone. Source: Boldo and Melquiond, "When double rounding is odd" (2005).
    """
    wide = flat if flat.dtype.kind == "f" else flat.astype(np.float64)
    near = wide.astype(np.float32)
    back = near.astype(wide.dtype)
    between = (back != wide) & ~np.isnan(wide)
    bits = near.view(np.uint32)
    bits -= between & (np.abs(back) > np.abs(wide))
    bits |= between
    return near
