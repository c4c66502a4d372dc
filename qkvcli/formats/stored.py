"""Numbers as files hold them: NumPy's own types, and those that it lacks, carried in float32."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from qkvcli.core.operands import Array


class Stored(NamedTuple):
    """A type of numbers in a file.

    ``name`` is what PyTorch and people call it, ``dtype`` how NumPy reads its bytes, and
    ``decode`` makes the numbers of what was read so (None: they are numbers already).
    """

    name: str
    dtype: np.dtype[np.generic]
    decode: Callable[[Array], Array] | None = None

    @classmethod
    def plain(cls, dtype: np.dtype[np.generic]) -> "Stored":
        """A type that NumPy has."""
        return cls(dtype.name, dtype)


def bfloat16_to_float32(bits: Array) -> Array:
    """The numbers whose upper halves are ``bits``, 16 each: exact.

    >>> bfloat16_to_float32(np.array([0x3F80, 0xC040, 0x7F80], np.uint16)).tolist()
    [1.0, -3.0, inf]
    """
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def upper_half(numbers: Array) -> Array:
    """The 16 bits of float32 numbers that are bfloat16's: the inverse of `bfloat16_to_float32`.

    >>> [hex(bits) for bits in upper_half(np.array([1.0, -3.0], np.float32)).tolist()]
    ['0x3f80', '0xc040']
    """
    wide = np.ascontiguousarray(numbers, "<f4").view("<u4")
    return (wide >> 16).astype("<u2")


def e4m3_to_float32(bits: Array) -> Array:
    """Numbers of a sign, 4 bits of exponent and 3 of fraction; no infinities: 448 is the largest.

    Source: Micikevicius et al., "FP8 Formats for Deep Learning" (2022), section 3.

    >>> e4m3_to_float32(np.array([0x38, 0x7E, 0x7F, 0x81], np.uint8)).tolist()
    [1.0, 448.0, nan, -0.001953125]
    """
    return _table(4)[bits]


def e5m2_to_float32(bits: Array) -> Array:
    """Numbers of a sign, 5 bits of exponent and 2 of fraction, as IEEE 754 would have them.

    >>> e5m2_to_float32(np.array([0x3C, 0x7B, 0x7C, 0x01], np.uint8)).tolist()
    [1.0, 57344.0, inf, 1.52587890625e-05]
    """
    return _table(5)[bits]


@cache
def _table(exponent: int) -> Array:
    """The number of each of the 256 bytes."""
    if exponent == 5:  # the upper byte of a float16
        return (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(np.float32)
    magnitude = np.arange(128)
    power, fraction = magnitude >> 3, magnitude & 7
    sizes = np.where(power == 0, fraction / 512, np.ldexp(1 + fraction / 8, power - 7))
    sizes[127] = np.nan
    return np.concatenate([sizes, -sizes]).astype(np.float32)


BFLOAT16 = Stored("bfloat16", np.dtype("<u2"), bfloat16_to_float32)
FLOAT8_E4M3 = Stored("float8_e4m3fn", np.dtype("u1"), e4m3_to_float32)
FLOAT8_E5M2 = Stored("float8_e5m2", np.dtype("u1"), e5m2_to_float32)
LACKING = {one.name: one for one in (BFLOAT16, FLOAT8_E4M3, FLOAT8_E5M2)}
"""The types that NumPy lacks, by their names."""


def lacking(dtype: object) -> Stored | None:
    """Which of them a dtype of NumPy, ml_dtypes or PyTorch is; None for any other.

    Two bytes without a name are a bfloat16: NumPy saves and loads those of ml_dtypes so.

    >>> lacking(np.dtype("V2")).name, lacking("torch.float8_e5m2").name, lacking(np.dtype("f2"))
    ('bfloat16', 'float8_e5m2', None)
    """
    if isinstance(dtype, np.dtype) and dtype == np.dtype("V2"):
        return BFLOAT16
    return LACKING.get(str(dtype).removeprefix("torch."))
