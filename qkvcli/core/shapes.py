"""Whether the inputs' shapes fit together; every error names both and where they came from."""

import math
from dataclasses import replace

import numpy as np

from qkvcli.core.operands import Array, Operand, Shape
from qkvcli.errors import ShapeError

_DEEPEST = 32
"""How many axes NumPy broadcasts."""
_TURNED = "; its transpose fits, which nn.Linear keeps: add .T to its name"


def check_axes(operand: Operand, axes: str) -> None:
    """Raise ShapeError unless there are two axes or more.

    >>> check_axes(Operand(np.zeros(3), "query"), "L_q, d")
    Traceback (most recent call last):
    qkvcli.errors.ShapeError: query (3,): needs the axes (…, L_q, d); a single row is (1, 3)
    """
    if operand.array.ndim < 2:
        hint = f"; a single row is (1, {operand.shape[0]})" if operand.array.ndim else ""
        raise ShapeError(f"{operand.described}: needs the axes (…, {axes}){hint}")


def check_depth(operand: Operand) -> None:
    """Raise ShapeError for more axes than NumPy broadcasts."""
    if operand.array.ndim > _DEEPEST:
        axes = f"{operand.array.ndim} axes are more than {_DEEPEST}"
        raise ShapeError(f"{operand.described}: {axes}; join those of batches")


def check_width(query: Operand, key: Operand) -> None:
    """Raise ShapeError unless queries and keys are as wide as each other."""
    if query.shape[-1] != key.shape[-1]:
        raise ShapeError(f"{_pair(query, key)}: the last axes must agree")


def check_values(keys: Operand, count: int, value: Operand) -> None:
    """Raise ShapeError unless there are ``count`` rows of values, one for each key."""
    if count != value.shape[-2]:
        raise ShapeError(f"{_pair(keys, value)}: there must be one row of values for each key")


def group_of(heads: Operand, shared: Operand, leading: Shape | None = None) -> int:
    """How many heads of ``heads`` (query, weights) share each head of ``shared`` (key, value).

    The axes before the last two must broadcast, except for the head axis at −3, where the
    first may have a multiple of the second's. ``leading`` are the axes before the last two
    where they are not those of ``heads`` alone. Raises ShapeError.

    >>> group_of(Operand(np.zeros((9, 4, 2)), "query"), Operand(np.zeros((3, 4, 2)), "key"))
    3
    """
    leading = heads.shape[:-2] if leading is None else leading
    others = shared.shape[:-2]
    group = 1
    if leading and others and others[-1] > 1 and leading[-1] % others[-1] == 0:
        group = max(leading[-1] // others[-1], 1)
    try:
        broadcast_leading(leading, others, group)
    except ValueError:
        hint = "or the heads at axis -3 be a multiple" if leading and others else "or be left out"
        rule = f"the axes before the last two must broadcast, {hint}"
        raise ShapeError(f"{_pair(heads, shared)}: {rule}{_turned(heads, shared)}") from None
    return group


def _turned(heads: Operand, shared: Operand) -> str:
    """The end of an error about leading axes, where the heads may come after the tokens."""
    unsaid = shared.name == "key" and not shared.layout
    if not unsaid or min(heads.array.ndim, shared.array.ndim) < 3 or not shared.shape[-2]:
        return ""
    broadcast = heads.shape[:-3] == shared.shape[:-3] and heads.shape[-2] % shared.shape[-2] == 0
    return "; if axis -2 counts the heads, (…, L, H, d), that is layout lhd" if broadcast else ""


def broadcast_leading(leading: Shape, others: Shape, group: int) -> Shape:
    """The leading axes of a product whose second operand's heads each serve ``group`` heads."""
    if group > 1:
        others = (*others[:-1], others[-1] * group)
    return np.broadcast_shapes(leading, others)


def matrix_at(array: Array, index: tuple[int, ...], group: int = 1) -> Array:
    """One matrix (a view) of an array whose leading axes broadcast, or are shared at −3.

    >>> matrix_at(np.arange(4).reshape(2, 1, 2, 1), (1, 5, 3), group=2).tolist()
    Traceback (most recent call last):
    IndexError: index 5 is out of bounds for axis 0 with size 2
    >>> matrix_at(np.arange(4).reshape(2, 2, 1), (9, 3), group=2).tolist()
    [[2], [3]]
    """
    leading = array.shape[:-2]
    place = list(index[len(index) - len(leading) :])
    if place:
        place[-1] //= group
    matrix: Array = array[tuple(0 if n == 1 else i for n, i in zip(leading, place, strict=True))]
    return matrix


def along(array: Array, axis: int, numbers: tuple[int, ...]) -> Array:
    """Some indexes of a leading axis, counted from the end; all, where it broadcasts or lacks.

    A view where the numbers follow each other.

    >>> along(np.arange(3).reshape(3, 1, 1), -3, (1, 2)).ravel(), along(np.eye(2), -3, (7,)).shape
    (array([1, 2]), (2, 2))
    """
    if array.ndim < -axis or array.shape[axis] == 1:
        return array
    first, last = numbers[0], numbers[-1]
    consecutive = numbers == tuple(range(first, last + 1))
    place = slice(first, last + 1) if consecutive else np.array(numbers)
    index = (..., place, *[slice(None)] * (-axis - 1))
    chosen: Array = array[index]
    return chosen


def check_merged(weights: Operand, heads: int) -> None:
    """Raise ShapeError unless weights have the heads that are to be merged."""
    if weights.array.ndim < 3 or weights.shape[-3] != heads:
        axis = "the axis before the last two must be that of the heads"
        raise ShapeError(f"{weights.described} and {heads} heads: {axis}")


def check_split(operand: Operand, heads: int) -> None:
    """Raise ShapeError unless the last axis splits into this many heads."""
    if operand.shape[-1] % heads or heads > 2**31:
        columns = f"{operand.shape[-1]} columns do not split into {heads} heads"
        raise ShapeError(f"{operand.described}: {columns}")


def check_not_split(operand: Operand, heads: int) -> None:
    """Raise ShapeError for an array that seems to have its heads in an axis of their own.

    That is one of four axes or more, of which the third or the second from the end counts as
    many. (One head at axis −3 is one head, split or not.) Where the layout was said, it is as
    it seems.
    """
    if operand.layout or operand.array.ndim < 4 or heads not in operand.shape[-3:-1]:
        return
    if operand.shape[-3] == heads == 1:
        return
    axis, order, remedy = -3, "layout hld, (…, H, L, d)", "leave heads out"
    if operand.shape[-3] != heads:
        axis, order = -2, "layout lhd, (…, L, H, d)"
        remedy = f"say so, or swap the two axes before the last and {remedy}"
    rows, width = operand.shape[-2:]
    whole = (math.prod(operand.shape[:-2]), rows, width)
    raise ShapeError(
        f"{operand.described}: axis {axis} already counts {heads}; if those are the heads, "
        f"{order}, {remedy}; if the last axis holds them, layout l(hd), (…, L, H·d), say so, "
        f"or give it as {whole}"
    )


def check_leading(weights: Operand, value: Operand) -> None:
    """Raise ShapeError where a missing axis may be that of the batches or that of the heads."""
    pair = weights.shape[:-2], value.shape[:-2]
    short, long = sorted(pair, key=len)
    if len(short) == len(long) or short != long[: len(short)] or max(short, default=1) == 1:
        return
    owner = weights if pair[0] == short else value
    gap = (1,) * (len(long) - len(short))
    batches, heads = ((*parts, *owner.shape[-2:]) for parts in ((*short, *gap), (*gap, *short)))
    raise ShapeError(
        f"{_pair(weights, value)}: the first axis of {owner.name} may count batches or heads; "
        f"give it in layout hld, as {batches} or {heads}"
    )


def check_projection(embeddings: Operand, weight: Operand, bias: Operand | None) -> None:
    """Raise ShapeError unless X·W + b exists: (…, L, m), (m, d) and (d,)."""
    if weight.array.ndim != 2:
        what = "a projection has the axes (m, d)"
        hint = "; one head of (m, H, d) is [:, 0]" if weight.array.ndim == 3 else ""
        raise ShapeError(f"{weight.described}: {what}{hint}")
    if embeddings.shape[-1] != weight.shape[0]:
        rule = "the last axis of one must be the first of the other"
        turned = embeddings.shape[-1] == weight.shape[1]
        raise ShapeError(f"{_pair(embeddings, weight)}: {rule}{_TURNED if turned else ''}")
    _check_bias(weight, bias)


def vector(operand: Operand) -> Operand:
    """Numbers that are one row, or one column, as a vector: text knows no other.

    >>> vector(Operand(np.ones((1, 3)))).shape, vector(Operand(np.ones((2, 3)))).shape
    ((3,), (2, 3))
    """
    if operand.array.ndim == 2 and 1 in operand.shape:
        return replace(operand, array=operand.array.reshape(-1))
    return operand


def _check_bias(weight: Operand, bias: Operand | None) -> None:
    if bias is not None and bias.array.size != weight.shape[1]:
        raise ShapeError(f"{_pair(weight, bias)}: there must be one number for each column")


def check_norm(weight: Operand, side: Operand, bias: Operand | None) -> None:
    """Raise ShapeError unless a norm's weights, and its bias, fit rows that it is taken of."""
    if bias is not None and bias.shape != weight.shape:
        raise ShapeError(f"{_pair(weight, bias)}: they must be as wide as each other")
    *heads, width = weight.shape or (0,)
    if heads and side.array.ndim > 2 and [*heads, width] == [side.shape[-3], side.shape[-1]]:
        return
    if heads or width != side.shape[-1]:
        rule = f"one number for each of the {side.shape[-1]} columns"
        if side.array.ndim > 2:
            rule += f", or {(side.shape[-3], side.shape[-1])} with a row for each head"
        raise ShapeError(f"{_pair(weight, side)}: a norm has {rule}")


def check_table(cos: Operand, sin: Operand) -> None:
    """Raise ShapeError unless cosines and sines are (L, N/2) or (B, L, N/2), and alike."""
    if cos.shape != sin.shape:
        raise ShapeError(f"{_pair(cos, sin)}: they must have the same shape")
    if cos.array.ndim not in (2, 3) or not cos.shape[-1]:
        raise ShapeError(f"{cos.described}: a table is (L, N/2) or (B, L, N/2)")


def check_sinks(sinks: Operand, scores: Shape) -> None:
    """Raise ShapeError unless there is a sink for each head of scores (…, H, L_q, L_k)."""
    heads = scores[-3] if len(scores) > 2 else 1
    if sinks.shape != (heads,):
        raise ShapeError(
            f"{sinks.described} and scores {scores}: there must be one number for each head, "
            f"({heads},)"
        )


def check_gate(gate: Operand, heads: int, width: int) -> None:
    """Raise ShapeError unless a gate has a column for each of the output's, or for each head."""
    if gate.shape[-1] not in (heads, heads * width):
        raise ShapeError(
            f"{gate.described} and an output of {heads} heads of {width} columns: a gate has a "
            f"column for each column, {heads * width}, or for each head, {heads}"
        )


def check_output(weight: Operand, bias: Operand | None, output: Shape, merged: bool) -> bool:
    """Whether a projection is of the columns of all heads together, and not of those of one.

    ``output`` (…, H, L_q, d_v) has its heads apart; ``merged`` says whether they are joined.
    Raises ShapeError where it is neither.
    """
    width = output[-1]
    joined = width * (output[-3] if len(output) > 2 else 1)
    rows = weight.shape[0] if weight.array.ndim == 2 else -1
    if rows != joined and (merged or rows != width):
        columns = f"{joined}" if merged or joined == width else f"{width}, or of all heads {joined}"
        raise ShapeError(
            f"{weight.described}: there must be a row for each of the output's columns, {columns}"
            + (_TURNED if weight.shape[-1:] == (joined,) else "")
        )
    _check_bias(weight, bias)
    return merged or rows != width


def check_past(past: Operand, now: Operand) -> None:
    """Raise ShapeError unless a cache goes before ``now`` along the tokens."""
    fits = past.array.ndim == now.array.ndim and past.array.ndim > 1
    if not fits or (*past.shape[:-2], past.shape[-1]) != (*now.shape[:-2], now.shape[-1]):
        raise ShapeError(f"{_pair(past, now)}: all axes but that of the tokens must agree")


def _pair(first: Operand, second: Operand) -> str:
    return f"{first.described} and {second.described}"
