"""Q, K and V made ready for attention: projected, after their cache, split into heads."""

from dataclasses import replace

import numpy as np

from qkvcli.core import attention
from qkvcli.core.dtypes import Float, converted, rounded
from qkvcli.core.operands import Input, Labels, Operand
from qkvcli.core.shapes import (
    check_axes,
    check_not_split,
    check_past,
    check_projection,
    check_split,
)
from qkvcli.core.steps import Step
from qkvcli.errors import UsageError

_AXES = {"query": "L_q, d", "key": "L_k, d", "value": "L_k, d_v"}


def check_partners(query: Input | None, key: Input | None, value: Input | None) -> None:
    """Raise UsageError for a bias without its projection, or one cache without the other."""
    for name, side in (("q", query), ("k", key), ("v", value)):
        if side is not None and side.bias is not None and side.weight is None:
            raise UsageError(f"b{name} without w{name}")
    if key is not None and value is not None:
        if key.past is not None and value.past is None:
            raise UsageError("past key without past value")
        if value.past is not None and key.past is None:
            raise UsageError("past value without past key")


def project(side: Input, name: str, result: Float) -> tuple[Input, Step | None]:
    """The input in the working dtype; and where it is X of X·W + b, projected, as a step.

    Raises ShapeError where the shapes don't fit.
    """
    given = rounded(side.given, result)
    weight, bias, past = (
        None if part is None else rounded(part, result)
        for part in (side.weight, side.bias, side.past)
    )
    if past is not None:
        check_axes(past, "L, d")
    if weight is None:
        return Input(replace(given, name=name), past=past), None
    check_axes(given, "L, m")
    check_projection(given, weight, bias)
    flat = None if bias is None else bias.array.reshape(-1)
    with np.errstate(all="ignore"):  # what overflows is shown as inf, not warned of
        array = attention.projected(given.array, weight.array, flat)
    origin = f"{given.origin}·{weight.origin}" if given.origin and weight.origin else ""
    made = Operand(array, name, given.rows, weight.columns, origin)
    initial = name[0]
    step = Step.held(
        name,
        converted(array, result),
        formula=f"X·W{initial}" + ("" if flat is None else f" + b{initial}"),
        terms=(given.shape, "·", weight.shape, *(() if flat is None else (" + ", flat.shape))),
        rows=made.rows,
        columns=made.columns,
    )
    return Input(made, past=past), step


def assembled(side: Input, heads: int | None) -> Operand:
    """Q, K or V with its cache before it, and its heads an axis of their own.

    Raises ShapeError where the shapes don't fit.
    """
    now, past = side.given, side.past
    check_axes(now, _AXES[now.name])
    if heads is not None:
        if past is not None and past.array.ndim == now.array.ndim:
            now, past = _after(past, now), None  # a cache that is not split yet either
        check_not_split(now, heads)
        check_split(now, heads)
        split = f"{now.origin}, in {heads} head" + ("" if heads == 1 else "s")
        array = attention.split_heads(now.array, heads)
        now = replace(now, array=array, columns=None, origin=split if now.origin else "")
    return now if past is None else _after(past, now)


def _after(past: Operand, now: Operand) -> Operand:
    """The tokens of a cache, and those that follow them."""
    check_past(past, now)
    array = np.concatenate([past.array, now.array], axis=-2)
    origin = " and ".join(filter(None, (past.origin, now.origin)))
    return replace(now, array=array, rows=_labels(past, now), origin=origin)


def _labels(past: Operand, now: Operand) -> Labels:
    if past.rows is None and now.rows is None:
        return None
    before = past.shape[-2]
    counted = tuple(map(str, range(before + now.shape[-2])))  # what has no label is counted
    return (past.rows or counted[:before]) + (now.rows or counted[before:])
