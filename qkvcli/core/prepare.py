"""From what was given to Q, K and V as attention takes them: projected, cached, split."""

from dataclasses import replace

import numpy as np

from qkvcli.core import attention as arithmetic
from qkvcli.core.arrays import Labelled
from qkvcli.core.description import Attention
from qkvcli.core.operands import Operands
from qkvcli.core.precision import Kind, converted, result_type, working_type
from qkvcli.core.prepared import Prepared
from qkvcli.core.shapes import (
    check_axes,
    check_joined,
    check_past,
    check_projection,
    check_same,
    check_split,
    check_weights,
    group_of,
    group_within,
)
from qkvcli.core.steps import Step
from qkvcli.errors import UsageError

_AXES = {"query": "L_q, d", "key": "L_k, d", "value": "L_k, d_v"}


def prepared(attention: Attention, operands: Operands) -> Prepared:
    """Project, convert, put the cache before, and split into heads, in that order.

    Raises ShapeError, DataError or UsageError before any product over tokens is taken.
    """
    _check_partners(operands)
    if operands.weights is not None:
        attention.check_beside("weights")
    elif operands.scores is not None:
        attention.check_beside("scores", operands.query is not None or operands.key is not None)
    named = operands.numeric().values()
    result = np.dtype(attention.dtype) if attention.dtype else result_type(named)
    result_type(operands.given().values())  # not real numbers: refused, whatever is asked for
    working = working_type(result)
    operands = Operands(
        **{
            name: one if name == "mask" else _rounded(one, result, working)
            for name, one in operands.given().items()
        }
    )
    for name in ("past_key", "past_value"):
        if name in operands.given():
            check_axes(name.replace("_", " "), operands.given()[name], "L, d")
    operands, projections = _projected(operands)
    if attention.heads is not None:  # their leading axes are all batches
        projections = tuple(replace(step, heads=False) for step in projections)
    past = 0 if operands.past_key is None else operands.past_key.shape[-2]
    for role in ("query", "key", "value"):
        operands = operands.with_(**{role: _assembled(role, attention, operands)})
    groups = _groups(attention, operands)
    return Prepared(attention, operands, projections, result, past, groups)


def _rounded(one: Labelled, result: Kind, working: Kind) -> Labelled:
    """The numbers as the result's type holds them, in the type that is worked in."""
    exact = np.can_cast(one.array.dtype, result) and one.array.dtype.kind == "f"
    array = one.array if exact else converted(one.array, result)
    return replace(one, array=converted(array, working))


def _check_partners(operands: Operands) -> None:
    given = operands.given()
    for one, other in (("past_key", "past_value"), ("past_value", "past_key")):
        alone = one in given and other not in given
        if alone and (one == "past_value" or "value" in given) and "weights" not in given:
            raise UsageError(f"{one.replace('_', ' ')} without {other.replace('_', ' ')}")
    for role in ("query", "key", "value"):
        if f"b{role[0]}" in given and f"w{role[0]}" not in given:
            raise UsageError(f"b{role[0]} without w{role[0]}")


def _projected(operands: Operands) -> tuple[Operands, tuple[Step, ...]]:
    steps = []
    for role in ("query", "key", "value"):
        weight = getattr(operands, f"w{role[0]}")
        rows = getattr(operands, role)
        if weight is None or rows is None:
            continue
        bias = getattr(operands, f"b{role[0]}")
        check_axes("embeddings", rows, "L, m")
        check_projection(role, rows, weight, bias)
        flat = None if bias is None else bias.array.reshape(-1)
        array = arithmetic.projected(rows.array, weight.array, flat)
        made = Labelled(array, rows.rows, weight.columns, origin=_made_of(rows, weight))
        shapes = (rows.shape, weight.shape, *([] if flat is None else [flat.shape]))
        formula = f"X·W{role[0]}" + (f" + b{role[0]}" if bias else "")
        steps.append(Step(role, formula, shapes, array, made.rows, made.columns))
        operands = operands.with_(**{role: made})
    return operands, tuple(steps)


def _made_of(rows: Labelled, weight: Labelled) -> str:
    return f"{rows.origin}·{weight.origin}" if rows.origin and weight.origin else ""


def _assembled(role: str, attention: Attention, operands: Operands) -> Labelled | None:
    """Q, K or V with its cache before it, and its heads an axis of their own."""
    one: Labelled | None = getattr(operands, role)
    if one is None:
        return None
    check_axes(role, one, _AXES[role])
    past: Labelled | None = None if role == "query" else getattr(operands, f"past_{role}")
    heads = attention.heads if role == "query" else attention.kv_heads or attention.heads
    if past is not None and heads and past.array.ndim == one.array.ndim:
        one, past = _after(role, past, one), None  # a cache that is not split yet either
    if heads is not None:
        check_split(role, one, heads)
        parted = f"{one.origin}, in {heads} head" + ("" if heads == 1 else "s")
        origin = parted if one.origin else ""
        one = replace(one, array=arithmetic.split(one.array, heads), columns=None, origin=origin)
    return one if past is None else _after(role, past, one)


def _after(role: str, past: Labelled, now: Labelled) -> Labelled:
    check_past(role, past, now)
    rows = None
    if past.rows or now.rows:  # what has no name is counted
        counted = tuple(map(str, range(past.shape[-2] + now.shape[-2])))
        rows = (past.rows or counted[: past.shape[-2]]) + (now.rows or counted[past.shape[-2] :])
    origin = " and ".join(filter(None, (past.origin, now.origin)))
    return replace(
        now, array=np.concatenate([past.array, now.array], axis=-2), rows=rows, origin=origin
    )


def _groups(attention: Attention, operands: Operands) -> tuple[int, int]:
    query, key, value = operands.query, operands.key, operands.value
    of_key = of_value = 1
    if operands.weights is not None:
        check_axes("weights", operands.weights, "L_q, L_k")
        if attention.heads is not None:
            check_joined(operands.weights, attention.heads)
        if value is not None:
            check_weights(operands.weights, value)
            of_value = group_of(operands.weights, "weights", value, "value")
        return of_key, of_value
    if operands.scores is not None:
        check_axes("scores", operands.scores, "L_q, L_k")
    elif query is not None and key is not None:
        check_same(query, "query", key, "key", -1)
        of_key = group_of(query, "query", key, "key")
        if value is not None:
            check_same(key, "key", value, "value", -2)
            of_value = _group_of_value(query, key, value, of_key)
    return of_key, of_value


def _group_of_value(query: Labelled, key: Labelled, value: Labelled, of_key: int) -> int:
    """The value's share among the heads of the scores, to which the query and the key add up."""
    keys = key.shape[:-2]
    if of_key > 1:
        keys = (*keys[:-1], keys[-1] * of_key)
    leading = np.broadcast_shapes(query.shape[:-2], keys)
    one, role = (query, "query") if leading == query.shape[:-2] else (key, "key")
    return group_within(leading, one, role, value, "value")
