"""How one query came to its weights and its output: the numbers of one row, and no others.

The work is O(L_k·d): one row of scores, and the length of each value.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from qkvcli.core import attention
from qkvcli.core.dense import output_of, score_arrays, weights_of
from qkvcli.core.dtypes import converted
from qkvcli.core.facts import largest, top
from qkvcli.core.masks import Hidden
from qkvcli.core.naming import Names
from qkvcli.core.operands import Array, Labels
from qkvcli.core.problem import Problem
from qkvcli.core.score_steps import Mask
from qkvcli.errors import ShapeError

_FAR = 20.0
"""Where scores lie further from 0 than this, the largest is taken off them first."""
_AT_ONCE = 2**16
"""How many values are looked at together."""


class Token(NamedTuple):
    """A query or a key: its name, which means no other, and its number."""

    name: str
    number: int


class Link(NamedTuple):
    """One step from a dot product to the number whose softmax is taken.

    ``formula`` writes the number before it as ``{}``.
    """

    name: str
    formula: str
    before: float
    after: float


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """One query's way to its weights and its output, and one key's part in it.

    ``place`` is the index of its matrix (batch, head). ``made_by`` has the formulas of
    projections, by the name of what they made. ``query_vector`` and ``key_vector`` (d,) are
    None where scores were given; ``columns`` names their numbers. ``score`` is their dot
    product, ``links`` lead from it to ``scores[key]``. ``scores`` (L_k,) are what the softmax
    is taken of, in the dtype that is worked in; ``visible`` (L_k,) is false where a key is
    hidden, by the masks in ``hidden`` or since a score of −∞ was given; ``weights`` (L_k,) is
    what the softmax gives. ``values`` (L_k, d_v) are mixed to the ``output`` (d_v,), to which
    ``shares`` (L_k,) of 1 are what each key adds, by its length; all three are None without
    values.
    """

    query: Token
    key: Token
    place: tuple[int, ...]
    keys: Names
    made_by: dict[str, str]
    query_vector: Array | None
    key_vector: Array | None
    columns: Labels
    score: float
    links: tuple[Link, ...]
    hidden: tuple[Hidden, ...]
    scores: Array
    visible: Array
    weights: Array
    softmax_dtype: str | None
    values: Array | None
    value_columns: Labels
    output: Array | None
    shares: Array | None

    @property
    def weight(self) -> float:
        """The weight of the key."""
        return float(self.weights[self.key.number])

    @cached_property
    def seen(self) -> int:
        """How many keys the query sees."""
        return int(np.count_nonzero(self.visible))

    @cached_property
    def rank(self) -> int | None:
        """How many keys weigh more, and 1; None for a key that is hidden, or of weight NaN."""
        if not self.visible[self.key.number] or np.isnan(self.weight):
            return None
        peaks = largest(self.weights)
        return 1 if self.key.number in peaks else int((self.weights > self.weight).sum()) + 1

    @cached_property
    def products(self) -> Array | None:
        """The numbers whose sum is the score, (d,)."""
        if self.query_vector is None or self.key_vector is None:
            return None
        with np.errstate(all="ignore"):
            products: Array = self.query_vector * self.key_vector
        return products

    def strongest(self, count: int) -> Array:
        """The ``count`` keys that weigh most, the one explained, and the one that adds most."""
        spoken = [j for j in top(self.weights, count).tolist() if self.weights[j] != 0]
        if self.shares is not None and self.shares.any():
            spoken.append(int(np.nan_to_num(self.shares, nan=-1).argmax()))
        picked = np.array(list(dict.fromkeys([*spoken, self.key.number])), dtype=np.intp)
        order: Array = picked[np.argsort(-self.weights[picked], kind="stable")]
        return order

    def rest(self, picked: Array) -> Array:
        """The keys that are seen, and are none of those picked."""
        seen = self.visible.copy()
        seen[picked] = False
        return np.flatnonzero(seen)

    @cached_property
    def shift(self) -> float:
        """What is taken off the scores before e is raised to them: nothing, or the largest.

        Further than `_FAR` from 0 the powers themselves may overflow or vanish.
        """
        peak = float(np.fmax.reduce(self.scores[self.visible], initial=-np.inf))
        return peak if math.isfinite(peak) and abs(peak) > _FAR else 0.0

    @cached_property
    def powers(self) -> Array:
        """e^(score − shift) of each key, (L_k,): a weight is its share of their sum."""
        with np.errstate(all="ignore"):
            powers = np.exp(self.scores.astype(np.float64) - self.shift)
        return np.where(self.visible, powers, 0)

    def added_by(self, keys: Array) -> Array:
        """What some keys together add to the output, (d_v,)."""
        if self.values is None:
            raise ValueError("there are no values")
        weights, values = self.weights[keys], self.values
        if 2 * len(keys) < len(values):
            values = values[keys]
        else:  # no copy of nearly all values
            weights = np.zeros_like(self.weights)
            weights[keys] = self.weights[keys]
        with np.errstate(all="ignore"):
            mixed: Array = attention.output(weights[None], values)[0]
        return mixed


def explain(
    problem: Problem, query: int, key: int | None = None, place: tuple[int, ...] = ()
) -> Explanation:
    """Explain a weight of one of the problem's matrices; ``key`` None is the largest.

    ``place`` is the matrix, by its index among the output's leading axes. Raises ShapeError
    where there are no keys.

    >>> from qkvcli.core.config import AttentionConfig
    >>> from qkvcli.core.fitting import problem_of
    >>> from qkvcli.core.operands import Input, Operand, Operands
    >>> sides = [Input(Operand(np.array(rows, float), name)) for name, rows in (
    ...     ("query", [[1, 2]]), ("key", [[3, 1], [0, 1]]), ("value", [[1], [5]]))]
    >>> found = explain(problem_of(AttentionConfig(), Operands(*sides)), 0)
    >>> found.key.number, found.products.tolist(), found.score, round(found.weight, 4)
    (0, [3.0, 2.0], 5.0, 0.9526)
    """
    count = problem.shape[-1]
    if not count:
        raise ShapeError("there are no keys to explain a weight of")
    keys = problem.key_names
    part = problem.with_matrix(place).with_rows(np.array([query]))
    with np.errstate(all="ignore"):  # what overflows is shown, and not warned of
        arrays = score_arrays(part)
        exact = weights_of(part, arrays[part.last_score])
        mixed = None if part.value is None else converted(output_of(part, exact), part.dtype)[0]
    scores = {name: rows[0] for name, rows in arrays.items()}
    weights, hidden = converted(exact, part.dtype)[0], part.hidden
    if key is None:
        key = int(np.nan_to_num(weights, nan=-1).argmax())
    values = None if part.value is None else part.value.array
    return Explanation(
        query=Token(problem.query_names[query], query),
        key=Token(keys[key], key),
        place=place,
        keys=keys,
        made_by={step.name: step.formula for step in problem.made},
        query_vector=None if part.query is None else part.query.array[0],
        key_vector=None if part.key is None else part.key.array[key],
        columns=_columns(part),
        score=float(scores[part.first_score][key]),
        links=_links(part, scores, key),
        hidden=() if part.visibility is None else tuple(part.visibility.hiding(0, key)),
        scores=scores[part.last_score],
        visible=np.ones(count, np.bool_) if hidden is None else ~hidden[0],
        weights=weights,
        softmax_dtype=None if part.config.softmax_dtype is None else str(part.config.softmax_dtype),
        values=values,
        value_columns=None if part.value is None else part.value.columns,
        output=mixed,
        shares=None if values is None else _shares(weights, values),
    )


def _columns(part: Problem) -> Labels:
    sides = (part.query, part.key)
    return next((side.columns for side in sides if side is not None and side.columns), None)


def _links(part: Problem, scores: dict[str, Array], key: int) -> tuple[Link, ...]:
    """The steps that change the key's score, in their order."""
    links, before = [], float(scores[part.first_score][key])
    for step in part.score_steps:
        after = float(scores[step.name][key])
        if not isinstance(step, Mask) or (after != before and not np.isneginf(after)):
            links.append(Link(step.name, step.formula("{}"), before, after))
        before = after
    return tuple(links)


def _shares(weights: Array, values: Array) -> Array:
    """What part of the output each key adds: the length of its weighted value, over their sum.

    Lengths are measured in units of the largest number, so that no square of one overflows.
    """
    lengths = np.empty(len(values))
    with np.errstate(all="ignore"):
        ends = (
            np.fmax.reduce(values, axis=None, initial=0),
            np.fmin.reduce(values, axis=None, initial=0),
        )
        unit = max(float(ends[0]), -float(ends[1]))
        unit = unit if np.isfinite(unit) and unit else 1.0
        for i in range(0, len(values), _AT_ONCE):
            some = values[i : i + _AT_ONCE].astype(np.float64) / unit
            lengths[i : i + _AT_ONCE] = np.sqrt(np.einsum("ij,ij->i", some, some))
        added = np.where(weights == 0, 0, np.abs(weights) * lengths)
        total = added.sum()
        shares: Array = added / total if total else added
    return shares
