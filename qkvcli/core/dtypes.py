"""Which floating-point dtype the work is done in, and which one the results have."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from qkvcli.core.operands import Array, Operand
from qkvcli.errors import DtypeError

Float: TypeAlias = np.dtype[np.floating[Any]]


def result_dtype(operands: Iterable[Operand]) -> Float:
    """The results' dtype: the inputs' own, float64 for integers and booleans.

    >>> result_dtype([Operand(np.zeros((2, 2), np.float16))])
    dtype('float16')
    >>> result_dtype([Operand(np.zeros((2, 2), np.float32)), Operand(np.eye(2, dtype=int))])
    dtype('float64')

    Raises DtypeError for what is not a real number (complex, text, objects, dates).
    """
    return np.result_type(*(own_dtype(operand) for operand in operands))


def own_dtype(operand: Operand) -> Float:
    """The dtype that an operand alone would give the results. Raises DtypeError."""
    dtype = operand.array.dtype
    if dtype.kind in "biu":
        return np.dtype(np.float64)
    if dtype.kind == "f":  # longdouble differs between machines; float64 is the widest we give
        return np.dtype(f"f{min(dtype.itemsize, 8)}")
    what = f"{operand.described}: numbers of type {dtype} are not real numbers"
    if dtype.kind in "USc":
        raise DtypeError(f"{what}; give an array of floats")
    raise DtypeError(f"{what}; convert them to float32")


def working_dtype(result: Float) -> Float:
    """Where the arithmetic is done: never below float32, since float16 ends at 65504."""
    return np.result_type(result, np.float32)


def converted(array: Array, dtype: npt.DTypeLike) -> Array:
    """The array in that dtype and this machine's byte order; itself where it already is."""
    # too large for float16 is inf there, as IEEE 754 says; a NaN that signals stays a NaN
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype, copy=False)


def rounded(operand: Operand, result: Float) -> Operand:
    """The numbers as the result's dtype holds them, in the dtype that is worked in."""
    array = operand.array
    if array.dtype.kind != "f" or not np.can_cast(array.dtype, result):
        array = converted(array, result)
    return replace(operand, array=converted(array, working_dtype(result)))
