"""How far two numbers may lie apart and be called the same, by the type that they are kept in."""

from typing import NamedTuple

import numpy as np

from qkvcli.core.config import Kind
from qkvcli.core.dtypes import Float, converted
from qkvcli.core.operands import Array


class Tolerance(NamedTuple):
    """How far two numbers may lie apart: by atol + rtol·|expected|.

    Or, where it is given, by ``ulp`` units in the last place of their type.
    """

    rtol: float
    atol: float
    ulp: int | None = None

    @classmethod
    def of(
        cls,
        kind: Kind,
        rtol: float | None = None,
        atol: float | None = None,
        ulp: int | None = None,
    ) -> "Tolerance":
        """The tolerance for a type; what is None is that type's, and 0 where ``ulp`` is given.

        Source: PyTorch, `torch.testing.assert_close`.

        >>> Tolerance.of("float32"), Tolerance.of("float16", atol=0)[:2]
        (Tolerance(rtol=1.3e-06, atol=1e-05, ulp=None), (0.001, 0))
        """
        usual = _USUAL[kind] if ulp is None else (0.0, 0.0)
        return cls(usual[0] if rtol is None else rtol, usual[1] if atol is None else atol, ulp)


_USUAL: dict[Kind, tuple[float, float]] = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
}


def kind_of(dtype: np.dtype[np.generic]) -> Kind:
    """The type by whose tolerance an array is compared; whole numbers are exact in float64."""
    return Float.of(dtype).name


def narrowed(array: Array, kind: Kind) -> Array:
    """Numbers rounded once to a type, to the nearest and to even; bfloat16 is held in float32."""
    return converted(array, Float(kind))


def ulps(one: Array, other: Array, kind: Kind) -> Array:
    """How many numbers of a type one has to pass on the way from each to the other.

    >>> ulps(np.array([1.0, 0.0]), np.array([1 + 2**-9, -(2.0**-24)]), "float16").tolist()
    [2.0, 1.0]
    """
    (one_sign, one_size), (other_sign, other_size) = (_ordinal(side, kind) for side in (one, other))
    across = one_size.astype(np.float64) + other_size  # beyond what int64 holds
    beside = np.abs(one_size - other_size).astype(np.float64)
    apart: Array = np.where(one_sign == other_sign, beside, across)
    return apart


def half_ulp(array: Array, kind: Kind) -> Array:
    """Half a unit in the last place: how far a number may lie from the one it was rounded from.

    >>> half_ulp(np.array([1.0, 0.0, -np.inf]), "bfloat16").tolist()
    [0.00390625, 0.0, 0.0]
    """
    with np.errstate(all="ignore"):
        own = np.spacing(np.abs(narrowed(array, kind))).astype(np.float64)
    unit = own * 2.0 ** Float(kind).dropped
    return np.where(np.isfinite(unit) & (array != 0), unit / 2, 0.0)


def _ordinal(array: Array, kind: Kind) -> tuple[Array, Array]:
    """Whether each number is below 0, and how many of its type lie between it and 0."""
    own = np.ascontiguousarray(narrowed(array, kind))
    size = own.dtype.itemsize
    bits = own.view(f"i{size}").astype(np.int64)
    return bits < 0, (bits & (2 ** (8 * size - 1) - 1)) >> Float(kind).dropped
