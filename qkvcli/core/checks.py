"""A few numbers of a problem, by which another program can tell that it computes the same."""

from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np

from qkvcli.core.config import MIXED, Stage
from qkvcli.core.dense import dense
from qkvcli.core.operands import Array
from qkvcli.core.problem import Problem

_MATRICES, _ROWS, _CHECKS = 256, 8, 256
"""How many matrices, queries of each, and queries of all together are looked at, at most."""
_COLUMNS = 4


class Check(NamedTuple):
    """Some numbers of one query: of its largest key and another, and of its output.

    ``place`` is the index of its matrix. ``scores`` are the last ones before the softmax; a
    stage that was not computed has no numbers. ``mixed`` has, for the output and each step after
    it, columns and the numbers in them.
    """

    place: tuple[int, ...]
    query: int
    keys: tuple[int, ...]
    scores: tuple[float, ...]
    weights: tuple[float, ...]
    mixed: dict[str, tuple[tuple[int, ...], tuple[float, ...]]]


def checks(problem: Problem, until: Stage = "output") -> list[Check]:
    """The numbers of some queries of each matrix, or of 256: of all queries where they are few.

    Together they tell a wrong scale, mask, softmax or head from the right one; the work is
    O(L_k·d) for each query.

    >>> from qkvcli.core.config import AttentionConfig
    >>> from qkvcli.core.fitting import problem_of
    >>> from qkvcli.core.operands import Input, Operand, Operands
    >>> sides = [Input(Operand(np.array(rows, float), name)) for name, rows in (
    ...     ("query", [[1, 2]]), ("key", [[3, 1], [0, 1]]), ("value", [[1], [5]]))]
    >>> [found] = checks(problem_of(AttentionConfig(), Operands(*sides)))
    >>> found.keys, found.scores, [round(number, 4) for number in found.mixed["output"][1]]
    ((0, 1), (5.0, 2.0), [1.1897])
    """
    leading, (queries, keys) = problem.leading, problem.shape[-2:]
    if not (queries and keys and prod(leading)):
        return []
    places = list(product(*map(range, leading)))
    picked = [places[i] for i in spread(len(places), _MATRICES).tolist()]
    rows = spread(queries, max(min(_ROWS, _CHECKS // len(picked)), 1))
    found = []
    for place in picked:
        part = problem.with_matrix(place).with_rows(rows)
        steps = dense(part, until)
        found += [_check(part, steps, place, query, i) for i, query in enumerate(rows.tolist())]
    return found


def _check(
    part: Problem, steps: dict[str, Array], place: tuple[int, ...], query: int, i: int
) -> Check:
    scores = steps[part.last_score][i] if part.weights is None else None
    weights = steps["weights"][i] if "weights" in steps else None
    row = scores if weights is None else weights
    count = part.shape[-1]
    peak = 0 if row is None else int(np.nan_to_num(row, nan=-np.inf).argmax())
    keys = tuple(dict.fromkeys((peak, (7 * query + 1) % count)))
    mixed = {}
    for name in (name for name in MIXED if name in steps):
        columns = tuple(spread(steps[name].shape[-1], _COLUMNS).tolist())
        mixed[name] = columns, _numbers(steps[name][i], columns)
    return Check(
        place,
        query,
        keys,
        _numbers(scores, keys),
        _numbers(weights, keys),
        mixed,
    )


def _numbers(row: Array | None, at: tuple[int, ...]) -> tuple[float, ...]:
    return () if row is None else tuple(float(row[i]) for i in at)


def spread(count: int, most: int) -> Array:
    """At most so many of a count of indexes, evenly, the first and the last among them.

    >>> spread(3, 8).tolist(), spread(100, 4).tolist(), spread(5, 1).tolist()
    ([0, 1, 2], [0, 33, 66, 99], [0])
    """
    chosen: Array = np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.intp))
    return chosen
