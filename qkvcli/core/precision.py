"""Which floating-point type the work is done in, and which one the results have."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from qkvcli.core.arrays import Array, Labelled
from qkvcli.errors import DataError

Kind = np.dtype[np.floating]


def result_type(operands: Iterable[Labelled]) -> Kind:
    """The results' type: the inputs' own, float64 for integers and booleans.

    >>> result_type([Labelled(np.zeros((2, 2), np.float16))])
    dtype('float16')
    >>> result_type([Labelled(np.zeros((2, 2), np.float32)), Labelled(np.eye(2, dtype=int))])
    dtype('float64')

    Raises DataError for what is not a real number (complex, text, objects, dates).
    """
    return np.result_type(*(_own_type(operand) for operand in operands))


def working_type(result: Kind) -> Kind:
    """Where the arithmetic is done: never below float32, since float16 ends at 65504."""
    return np.result_type(result, np.float32)


def converted(array: Array, kind: npt.DTypeLike) -> Array:
    """The array in that type and this machine's byte order; itself where it already is."""
    with np.errstate(over="ignore"):  # too large for float16 is inf there, as IEEE 754 says
        return array.astype(kind, copy=False)


def _own_type(operand: Labelled) -> Kind:
    kind = operand.array.dtype
    if kind.kind in "biu":
        return np.dtype(np.float64)
    if kind.kind == "f":  # longdouble differs between machines; float64 is the widest we give
        return np.dtype(f"f{min(kind.itemsize, 8)}")
    where = f"{operand.origin}: " if operand.origin else ""
    raise DataError(f"{where}numbers of type {kind} are not real numbers; convert them to float32")
