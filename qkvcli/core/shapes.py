"""Whether the inputs' shapes fit together; every error names both and where they came from."""

import numpy as np

from qkvcli.core.arrays import Labelled
from qkvcli.errors import ShapeError


def check_axes(role: str, operand: Labelled, axes: str) -> None:
    """Raise ShapeError unless there are two axes or more.

    >>> check_axes("query", Labelled(np.zeros(3)), "L_q, d")
    Traceback (most recent call last):
    qkvcli.errors.ShapeError: query (3,): needs the axes (…, L_q, d); a single row is (1, 3)
    """
    if operand.array.ndim < 2:
        hint = f"; a single row is (1, {operand.shape[0]})" if operand.array.ndim else ""
        raise ShapeError(f"{operand.described(role)}: needs the axes (…, {axes}){hint}")


def check_same(one: Labelled, role: str, other: Labelled, other_role: str, axis: int) -> None:
    """Raise ShapeError unless two arrays agree on an axis counted from the end."""
    if one.shape[axis] != other.shape[axis]:
        rule = {-1: "the last axes must agree", -2: "there must be one row of values for each key"}
        raise ShapeError(f"{_pair(one, role, other, other_role)}: {rule[axis]}")


def check_weights(weights: Labelled, value: Labelled) -> None:
    """Raise ShapeError unless weights (…, L_q, L_k) meet a value (…, L_k, d_v) for each key."""
    if weights.shape[-1] != value.shape[-2]:
        pair = _pair(weights, "weights", value, "value")
        raise ShapeError(f"{pair}: there must be one row of values for each key")


def group_of(one: Labelled, role: str, other: Labelled, other_role: str) -> int:
    """How many heads of ``one`` (query, weights) share each head of ``other`` (key, value).

    The axes before the last two must broadcast, but for the head axis at −3, where the
    first may have a multiple of the second's. Raises ShapeError.

    >>> group_of(Labelled(np.zeros((9, 4, 2))), "query", Labelled(np.zeros((3, 4, 2))), "key")
    3
    """
    return group_within(one.shape[:-2], one, role, other, other_role)


def group_within(
    leading: tuple[int, ...], one: Labelled, role: str, other: Labelled, other_role: str
) -> int:
    """The same, where the leading axes are not those of ``one`` alone."""
    others = other.shape[:-2]
    group = 1
    if leading and others and others[-1] > 1 and leading[-1] % others[-1] == 0:
        group = max(leading[-1] // others[-1], 1)
    if group > 1:
        others = (*others[:-1], leading[-1])
    try:
        np.broadcast_shapes(leading, others)
    except ValueError:
        pair = _pair(one, role, other, other_role)
        hint = "or the heads at axis -3 be a multiple" if leading and others else "or be left out"
        rule = f"the axes before the last two must broadcast, {hint}"
        raise ShapeError(f"{pair}: {rule}") from None
    return group


def check_joined(weights: Labelled, heads: int) -> None:
    """Raise ShapeError unless weights have the heads that are to be joined."""
    if weights.array.ndim < 3 or weights.shape[-3] != heads:
        axis = "the axis before the last two must be that of the heads"
        raise ShapeError(f"{weights.described('weights')} and {heads} heads: {axis}")


def check_split(role: str, operand: Labelled, heads: int) -> None:
    """Raise ShapeError unless the last axis parts into so many heads."""
    if operand.shape[-1] % heads:
        columns = f"{operand.shape[-1]} columns do not part into {heads} heads"
        raise ShapeError(f"{operand.described(role)}: {columns}")


def check_projection(role: str, rows: Labelled, weight: Labelled, bias: Labelled | None) -> None:
    """Raise ShapeError unless X·W + b exists: (…, L, m), (m, d) and (d,)."""
    name = f"w{role[0]}"
    if weight.array.ndim != 2 or rows.shape[-1] != weight.shape[0]:
        pair = _pair(rows, "embeddings", weight, name)
        raise ShapeError(f"{pair}: the last axis of one must be the first of the other")
    if bias is not None and bias.array.size != weight.shape[1]:
        pair = _pair(weight, name, bias, f"b{role[0]}")
        raise ShapeError(f"{pair}: there must be one number for each column")


def check_past(role: str, past: Labelled, now: Labelled) -> None:
    """Raise ShapeError unless a cache goes before ``now`` along the tokens."""
    fits = past.array.ndim == now.array.ndim and past.array.ndim > 1
    if not fits or (*past.shape[:-2], past.shape[-1]) != (*now.shape[:-2], now.shape[-1]):
        pair = _pair(past, f"past {role}", now, role)
        raise ShapeError(f"{pair}: all axes but that of the tokens must agree")


def _pair(one: Labelled, role: str, other: Labelled, other_role: str) -> str:
    return f"{one.described(role)} and {other.described(other_role)}"
