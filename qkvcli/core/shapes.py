"""Whether the inputs' shapes fit together; every error names both and where they came from."""

import numpy as np

from qkvcli.core.arrays import Labelled
from qkvcli.errors import ShapeError


def check_matrix(role: str, operand: Labelled, axes: str) -> None:
    """Raise ShapeError unless there are two axes or more.

    >>> check_matrix("query", Labelled(np.zeros(3)), "L_q, d")
    Traceback (most recent call last):
    qkvcli.errors.ShapeError: query (3,): needs the axes (…, L_q, d); a single row is (1, 3)
    """
    if operand.array.ndim < 2:
        hint = f"; a single row is (1, {operand.shape[0]})" if operand.array.ndim else ""
        raise ShapeError(f"{operand.described(role)}: needs the axes (…, {axes}){hint}")


def check_scores(query: Labelled, key: Labelled) -> None:
    """Raise ShapeError unless Q·Kᵀ exists: (…, L_q, d) and (…, L_k, d)."""
    check_matrix("query", query, "L_q, d")
    check_matrix("key", key, "L_k, d")
    pair = f"{query.described('query')} and {key.described('key')}"
    if query.shape[-1] != key.shape[-1]:
        raise ShapeError(f"{pair}: the last axes must agree")
    _check_leading(query, key, pair)


def check_output(weights: Labelled, value: Labelled) -> None:
    """Raise ShapeError unless weights·V exists: (…, L_q, L_k) and (…, L_k, d_v)."""
    check_matrix("weights", weights, "L_q, L_k")
    check_matrix("value", value, "L_k, d_v")
    pair = f"{weights.described('weights')} and {value.described('value')}"
    if weights.shape[-1] != value.shape[-2]:
        raise ShapeError(f"{pair}: there must be one row of values for each key")
    _check_leading(weights, value, pair)


def check_values(key: Labelled, value: Labelled) -> None:
    """Raise ShapeError unless there is a value for each key: (…, L_k, d) and (…, L_k, d_v)."""
    check_matrix("key", key, "L_k, d")
    check_matrix("value", value, "L_k, d_v")
    if key.shape[-2] != value.shape[-2]:
        pair = f"{key.described('key')} and {value.described('value')}"
        raise ShapeError(f"{pair}: there must be one row of values for each key")


def _check_leading(one: Labelled, other: Labelled, pair: str) -> None:
    try:
        np.broadcast_shapes(one.shape[:-2], other.shape[:-2])
    except ValueError:
        raise ShapeError(f"{pair}: the axes before the last two must broadcast") from None
