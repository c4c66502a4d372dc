"""Notes: what a person should know of an answer that is right, and perhaps not what was meant.

Each is one line on standard error. Nothing here changes what is computed.
"""

import math
from collections.abc import Iterator

import numpy as np

from qkvcli.core.config import AttentionConfig
from qkvcli.core.operands import Array, Input, Operand, Operands, Shape
from qkvcli.core.positions import places_of
from qkvcli.core.problem import Problem
from qkvcli.core.steps import flat_rows

_LOOKED_AT = 2**23
"""How many weights are summed at most, to see whether their rows sum to 1: some rows of a large
matrix, picked at random (but the same each time)."""
_ROUNDED, _MOST = 0.00501, 0.1
"""How far from 1 a row may be, for each weight that is written with two digits; and at all."""

_LONG = 4
"""Where there are more than so many times as many heads as tokens, those may be tokens."""


def notes(config: AttentionConfig, operands: Operands, problem: Problem) -> Iterator[str]:
    """All the notes on an attention that fits together."""
    yield from _heads_or_batches(config, operands)
    yield from _heads_or_tokens(config, operands)
    yield from _places(config, operands.scores)
    yield from _padding(config, problem)
    if operands.mask is not None:
        yield from _mask_axes(operands.mask, problem.shape)
        yield from _hides_all(operands.mask, problem)
    if problem.weights is not None:
        yield from _sums(problem.weights)
        yield from _one_for_all(problem)
    if problem.scores is not None:
        yield from _weights_already(problem.scores)
    yield from _other_labels(problem)


def _heads_or_batches(config: AttentionConfig, operands: Operands) -> Iterator[str]:
    """Three axes: the first counts as many as the heads, or the second in all of Q, K and V."""
    if config.head_counts is None:
        return
    queries, shared = config.head_counts
    sides = ((operands.query, queries), (operands.key, shared), (operands.value, shared))
    given = [(_unsaid(side, 3), heads) for side, heads in sides if side is not None]
    three = [(one, heads) for one, heads in given if one is not None and one.array.ndim == 3]
    first = [(one, heads) for one, heads in three if one.shape[0] == heads > 1]
    second = [(one, heads) for one, heads in three if one.shape[1] == heads]
    if first:
        yield _split(*first[0], "first", "hld")  # the others are alike
    elif queries > 1 and second and len(second) == len(given):
        yield _split(*second[0], "second", "lhd")


def _split(given: Operand, heads: int, which: str, layout: str) -> str:
    return (
        f"{given.described} is read as {given.shape[0]} batches, each to be split into {heads} "
        f"heads (--layout 'l(hd)'); if its {which} axis counts the heads, say --layout {layout}"
    )


def _heads_or_tokens(config: AttentionConfig, operands: Operands) -> Iterator[str]:
    """Four axes or more, of which the one read as the heads looks like that of the tokens."""
    query, key = (_unsaid(side, 4) for side in (operands.query, operands.key))
    if query is None or key is None or config.head_counts is not None:
        return
    (heads, rows), (shared, keys) = query.shape[-3:-1], key.shape[-3:-1]
    shares = keys > 0 and rows % keys == 0  # as heads of queries share those of keys
    one_query = heads < shared and shares  # heads of K that no head of Q has
    fewer_heads = heads == shared > rows > keys and shares
    if one_query or fewer_heads or min(heads, shared) > _LONG * max(rows, keys):
        yield (
            f"{query.described} is read as (…, H, L, d) with H = {heads} (--layout hld); if it is "
            f"(…, L, H, d) with H = {rows}, say --layout lhd"
        )


def _unsaid(side: Input | None, axes: int) -> Operand | None:
    """What was given for a side, if it has so many axes and nothing says how its heads lie."""
    if side is None or side.weight is not None:  # X has no heads
        return None
    return None if side.given.layout or side.given.array.ndim < axes else side.given


def _places(config: AttentionConfig, scores: Operand | None) -> Iterator[str]:
    """Given scores, some of whose rows seem to be missing, and a mask that depends on them."""
    if scores is None or not (config.by_position or config.alibi) or config.offset is not None:
        return
    square = scores.shape[-2] == scores.shape[-1]
    places = places_of(scores)
    apart = places is not None and places.tolist() != list(range(scores.shape[-2]))
    if config.valid_length is not None and (apart or not square):
        yield (
            f"{scores.described} does not say how many queries there are in all; after "
            "--valid-length N, the last of these is taken for the one at N - 1; --offset N "
            "says where query 0 stands"
        )
    elif not square and not scores.numbered and places is None:
        yield (
            f"{scores.described} does not say which queries its rows are; the first is taken for "
            "query 0, at key 0; --offset N says otherwise"
        )
    elif square and scores.rows is not None and scores.columns is not None and places is None:
        yield (
            f"the rows of {scores.described} are taken in their order, and not where the "
            "columns have their labels"
        )


def _padding(config: AttentionConfig, problem: Problem) -> Iterator[str]:
    """Queries that the padding has pushed before the first key."""
    seen = problem.visibility
    by_length = config.valid_length is not None and config.offset is None
    if seen is not None and by_length and config.by_position and seen.unseeing:
        batches = seen.positions.offset.shape[0] if seen.positions.offset.ndim > 2 else 1
        yield (
            f"{seen.unseeing} of {len(seen.positions.rows) * batches} queries see nothing: "
            "after --valid-length N, query 0 stands at N - L_q; where the padding comes last, "
            "add --offset 0"
        )


def _mask_axes(mask: Operand, shape: Shape) -> Iterator[str]:
    """A mask whose first axis counts as many as the batches, and as what it is read for."""
    first, *_ = mask.shape or (0,)
    axis = -mask.array.ndim
    if len(shape) < 3 or first < 2 or axis not in (-2, -3) or -axis == len(shape):
        return
    if shape[0] == shape[axis] == first:
        read = "queries" if axis == -2 else "heads"
        own = (first, *(1,) * (len(shape) + axis), *mask.shape[1:])
        yield (
            f"the first axis of {mask.described} is read as the {first} {read}; "
            f"if it counts the batches, give it as {own}"
        )


def _hides_all(mask: Operand, problem: Problem) -> Iterator[str]:
    """A mask of true and false that leaves some queries no key: it may be meant inverted."""
    seen, hidden = problem.visibility, None
    if seen is not None and mask.array.dtype == np.bool_ and problem.size <= _LOOKED_AT:
        hidden = problem.hidden
    if seen is None or hidden is None or seen.unseeing:
        return
    blind = int(hidden.all(axis=-1).sum())
    if blind:
        yield (
            f"{blind} of {math.prod(hidden.shape[:-1])} queries see nothing; in a mask true is "
            "what may be seen (in nn.MultiheadAttention it is what may not)"
        )


def _sums(weights: Operand) -> Iterator[str]:
    """Weights that are not weights: scores by mistake, or the wrong axis."""
    rows = flat_rows(weights.array)
    most = max(_LOOKED_AT // max(weights.shape[-1], 1), 1)
    some = len(rows) > most
    if some:
        rows = rows[np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False))]
    looked = _sum(rows)
    odd = np.flatnonzero(~(_near_1(looked, weights.shape[-1]) | (looked == 0)))
    if not odd.size:
        return
    first = int(odd[0])
    rows_of = "rows looked at in" if some else "rows of"
    line = (
        f"{odd.size} of {len(looked)} {rows_of} {weights.described} do not sum to 1 "
        f"(the first of them to {looked[first]:.4g})"
    )
    columns = None if some else _sum(weights.array.swapaxes(-1, -2))
    turned = columns is not None and _near_1(columns, weights.shape[-2]).all()
    yield line + ("; its columns do" if turned else "; scores become weights by softmax")


def _near_1(sums: Array, count: int) -> Array:
    near: Array = np.abs(sums - 1) <= min(_ROUNDED * count, _MOST)
    return near


def _sum(rows: Array) -> Array:
    with np.errstate(all="ignore"):
        sums: Array = rows.sum(axis=-1, dtype=np.float64)
        return sums


def _weights_already(scores: Operand) -> Iterator[str]:
    """Scores that are weights by their looks: none below 0, and each row sums to 1.

    Whole numbers are not: the scores of one-hot vectors look so too.
    """
    if 1 < scores.array.size <= _LOOKED_AT and scores.shape[-1] > 1:
        exact = np.abs(_sum(scores.array) - 1) <= 1e-3
        whole = (scores.array == np.trunc(scores.array)).all()
        if exact.all() and scores.array.min() >= 0 and not whole:
            yield f"each row of {scores.described} sums to 1, as weights do; those are for output"


def _other_labels(problem: Problem) -> Iterator[str]:
    """Keys and values that are labelled in another order, or otherwise."""
    weights, value = problem.weights, problem.value
    keys = problem.key if weights is None else weights
    if keys is None or value is None:
        return
    labels = keys.rows if weights is None else keys.columns
    if labels is not None and value.rows is not None and labels != value.rows:
        i = next(
            i for i, pair in enumerate(zip(labels, value.rows, strict=True)) if pair[0] != pair[1]
        )
        yield (
            f"key {i} is {labels[i]!r} in {keys.described} and {value.rows[i]!r} in "
            f"{value.described}; they are matched by their order"
        )


def _one_for_all(problem: Problem) -> Iterator[str]:
    """Weights of a single head or batch, and values of several."""
    weights, value = problem.weights, problem.value
    if weights is None or value is None:
        return
    for axis, kind in ((-3, "head"), (-4, "batch")):
        if min(weights.array.ndim, value.array.ndim) >= -axis and weights.shape[axis] == 1:
            count = value.shape[axis]
            used = f"has one {kind}, which is used for all {count} of the values"
            if count > 1:
                yield f"{weights.described} {used}"
