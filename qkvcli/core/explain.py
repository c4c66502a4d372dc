"""How one query came to its weights and its output: the numbers of one row, and no others.

The work is O(L_k·d): one row of scores, and the length of each value.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from qkvcli.core import attention
from qkvcli.core.dense import output_arrays, score_arrays, softmax_operand, weights_of
from qkvcli.core.dtypes import converted
from qkvcli.core.facts import largest, top
from qkvcli.core.masks import Hidden
from qkvcli.core.naming import Names
from qkvcli.core.operands import PARTS, Array, Labels
from qkvcli.core.output_steps import Gate, Projection
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


class Finish(NamedTuple):
    """What is done to the output: a gate, and the projection Wo.

    ``gate`` (d_v,), or (1,) where a head has but one number, lets the output through as
    ``gated`` (d_v,). ``projected`` (m,) is what that, or the output, comes to; ``bias`` (m,) is
    bo. Of one ``of_many`` heads it is what the head adds to the sum of all, which bo joins;
    elsewhere bo is in it. What there is not is None.
    """

    gate: Array | None = None
    gated: Array | None = None
    projected: Array | None = None
    bias: Array | None = None
    of_many: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """One query's way to its weights and its output, and one key's part in it.

    ``place`` is the index of its matrix (batch, head). ``made_by`` says how the query,
    the key and the value were made, by their names, where they were not given as they are; of the
    keys the first ``past`` are from a cache, and no formula made them. ``query_vector`` and
    ``key_vector`` (d,), as they enter the dot product, are None where scores were given;
    ``columns`` names their numbers. ``positions`` is where query and key stand, if they were
    turned by that. ``score`` is their dot product, ``links`` lead from it to ``scores[key]``.
    ``scores`` (L_k,) are what the softmax is taken of, rounded as it is where it has a dtype of
    its own, ``sink`` is one more that no key has, or None; ``visible`` (L_k,) is false where a
    key is hidden, by the masks in ``hidden`` or since a score of −∞ was given; ``weights``
    (L_k,) is what the softmax gives. ``values`` (L_k, d_v) are mixed to the ``output`` (d_v,),
    to which ``shares`` (L_k,) of 1 are what each key adds, by its length; all three are None
    without values. ``finish`` is what is done to the output.
    """

    query: Token
    key: Token
    place: tuple[int, ...]
    keys: Names
    made_by: dict[str, str]
    past: int
    query_vector: Array | None
    key_vector: Array | None
    columns: Labels
    positions: tuple[int, int] | None
    score: float
    links: tuple[Link, ...]
    hidden: tuple[Hidden, ...]
    scores: Array
    sink: float | None
    visible: Array
    weights: Array
    softmax_dtype: str | None
    values: Array | None
    value_columns: Labels
    output: Array | None
    shares: Array | None
    finish: Finish

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

    @property
    def equal_share(self) -> float:
        """What a key would weigh, if all that it sees weighed the same, a sink as well."""
        return 1 / (self.seen + (self.sink is not None)) if self.seen else 0.0

    @cached_property
    def exponents(self) -> Array:
        """The scores of the keys that are seen, and the sink's, in double precision."""
        sinks = [] if self.sink is None else [self.sink]
        return np.concatenate([self.scores[self.visible].astype(np.float64), sinks])

    @cached_property
    def shift(self) -> float:
        """What is taken off the scores before e is raised to them: nothing, or the largest.

        Further than `_FAR` from 0 the powers themselves may overflow or vanish.
        """
        peak = float(np.fmax.reduce(self.exponents, initial=-np.inf))
        return peak if math.isfinite(peak) and abs(peak) > _FAR else 0.0

    @cached_property
    def powers(self) -> Array:
        """e^(score − shift) of each key, (L_k,): a weight is its share of the `total`."""
        with np.errstate(all="ignore"):
            powers = np.exp(self.scores.astype(np.float64) - self.shift)
        return np.where(self.visible, powers, 0)

    @cached_property
    def total(self) -> float:
        """The sum of all the powers, the sink's with them: what the softmax divides by."""
        with np.errstate(all="ignore"):
            return float(self.powers.sum() + self._sink_power)

    @property
    def sink_weight(self) -> float | None:
        """The share that no key gets; None where there is no sink."""
        if self.sink is None:
            return None
        if self.sink == np.inf:
            return 1.0
        with np.errstate(all="ignore"):
            return float(self._sink_power / self.total) if self.total else 0.0

    @property
    def _sink_power(self) -> Any:
        with np.errstate(all="ignore"):
            return np.exp(np.float64(-np.inf if self.sink is None else self.sink) - self.shift)

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
        mixed = {} if part.value is None else output_arrays(part, exact)
    scores = {name: rows[0] for name, rows in arrays.items()}
    after = {name: converted(rows, part.dtype)[0] for name, rows in mixed.items()}
    weights, hidden = converted(exact, part.dtype)[0], part.hidden
    if key is None:
        key = int(np.nan_to_num(weights, nan=-1).argmax())
    values = None if part.value is None else part.value.array
    return Explanation(
        query=Token(problem.query_names[query], query),
        key=Token(keys[key], key),
        place=place,
        keys=keys,
        made_by=made_by(problem),
        past=problem.past,
        query_vector=None if part.query is None else part.query.array[0],
        key_vector=None if part.key is None else part.key.array[key],
        columns=_columns(part),
        positions=_positions(part, key, problem.past),
        score=float(scores[part.first_score][key]),
        links=_links(part, scores, key),
        hidden=() if part.visibility is None else tuple(part.visibility.hiding(0, key)),
        scores=softmax_operand(part, scores[part.last_score]),
        sink=None if part.sinks is None else float(softmax_operand(part, part.sinks).flat[0]),
        visible=np.ones(count, np.bool_) if hidden is None else ~hidden[0],
        weights=weights,
        softmax_dtype=part.config.softmax_kind,
        values=values,
        value_columns=None if part.value is None else part.value.columns,
        output=after.get("output"),
        shares=None if values is None else _shares(weights, values),
        finish=_finish(problem, part, after),
    )


def made_by(problem: Problem) -> dict[str, str]:
    """How the query, the key and the value were made, each step from the one before.

    Where each token stands is said of it alone, and no offset of all.
    """
    found: dict[str, str] = {}
    for name in PARTS:
        before, short, formulas = name, name[0].upper(), list[str]()
        for step in problem.made:
            if step.name.split("_")[0] == name:
                formulas.append(step.formula.replace(before, short))
                before, short = step.name, name[0]
        if formulas:
            offset = problem.turned[name].written if name in problem.turned else ""
            found[name] = " → ".join(formulas).removesuffix(offset)
    return found


def _positions(part: Problem, key: int, past: int) -> tuple[int, int] | None:
    """Where the query and a key stand that were turned; those of a cache stand before the rest."""
    if part.query is None or not part.turned:
        return None

    def at(name: str, row: int) -> int:
        return int(part.turned[name].of_queries(slice(row, row + 1)).flat[0])

    return at("query", 0), key if key < past else at("key", key - past)


def _finish(problem: Problem, part: Problem, after: dict[str, Array]) -> Finish:
    """What the steps after the output come to, for the query."""
    with np.errstate(all="ignore"):
        gates = [step.gate[0] for step in part.output_steps if isinstance(step, Gate)]
    wholes = [step for step in problem.output_steps if isinstance(step, Projection)]
    if not after:
        return Finish()
    return Finish(
        converted(gates[0], part.dtype) if gates else None,
        after.get("gated"),
        after.get("projected"),
        wholes[0].bias if wholes else None,
        any(step.heads is not None for step in wholes),
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
            links.append(Link(step.name, step.at(0, key), before, after))
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
