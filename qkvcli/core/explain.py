"""How one query came to its weights and its output: the numbers of one row, and no others.

The work is O(L_k·d): one row of scores, and the length of each value.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from qkvcli.core.dense import dense
from qkvcli.core.facts import largest, top
from qkvcli.core.naming import Names
from qkvcli.core.operands import Array, Labels
from qkvcli.core.problem import Problem
from qkvcli.core.score_steps import Mask
from qkvcli.core.steps import Stage

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


class Hidden(NamedTuple):
    """A mask that hides a key from a query: its name, and why."""

    mask: str
    reason: str


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """One query's way to its weights and its output, and one key's part in it.

    ``place`` is the index of its matrix (batch, head). ``query_vector`` and ``key_vector``
    (d,) are None where scores were given; ``columns`` names their numbers. ``score`` is
    their dot product, ``links`` lead from it to ``scores[key]``. ``scores`` (L_k,) are what
    the softmax is taken of, −∞ where a key is hidden; ``weights`` (L_k,) is what it gives.
    ``values`` (L_k, d_v) are mixed to the ``output`` (d_v,), to which ``shares`` (L_k,) of 1
    are what each key adds, by its length; all three are None without values.
    """

    query: Token
    key: Token
    place: tuple[int, ...]
    keys: Names
    made_by: tuple[str, ...]
    query_vector: Array | None
    key_vector: Array | None
    columns: Labels
    score: float
    links: tuple[Link, ...]
    hidden: tuple[Hidden, ...]
    scores: Array
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

    @property
    def seen(self) -> int:
        """How many keys the query sees."""
        return int((~np.isneginf(self.scores)).sum())

    @property
    def rank(self) -> int | None:
        """How many keys weigh more, and 1; None for a key that is hidden."""
        if np.isneginf(self.scores[self.key.number]):
            return None
        more = self.weights > self.weight
        more[largest(self.weights)] &= self.key.number not in largest(self.weights)
        return int(more.sum()) + 1

    @property
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
        seen = ~np.isneginf(self.scores)
        seen[picked] = False
        return np.flatnonzero(seen)

    def data(self, count: int = 10) -> dict[str, Any]:
        """The explanation as plain numbers, lists and text; of the keys, the ``count`` that count.

        ``numerator`` / ``denominator`` is the weight: e^(score − largest), and their sum.
        """
        picked = self.strongest(count)
        rest = self.rest(picked)
        *batch, head = self.place or (None,)
        powers = self.powers
        products = self.products
        lists = {"q": self.query_vector, "k": self.key_vector, "products": products}
        return {
            "query": self.query._asdict(),
            "key": self.key._asdict(),
            **({"batch": " ".join(map(str, batch))} if batch else {}),
            **({} if head is None else {"head": head}),
            "weight": self.weight,
            "rank": self.rank,
            "keys": len(self.weights),
            "seen": self.seen,
            "equal_share": 1 / self.seen if self.seen else 0.0,
            **({} if self.columns is None else {"columns": list(self.columns)}),
            **{name: array.tolist() for name, array in lists.items() if array is not None},
            "score": self.score,
            "steps": [{"name": link.name, "value": link.after} for link in self.links],
            "hidden": [why._asdict() for why in self.hidden],
            "largest": self.peak,
            "numerator": float(powers[self.key.number]) if len(powers) else 0.0,
            "denominator": float(powers.sum()),
            "strongest": [self._told(j) for j in picked.tolist()],
            "rest": {
                "keys": len(rest),
                "weight": float(self.weights[rest].sum(dtype=np.float64)),
                **({} if self.shares is None else {"share": float(self.shares[rest].sum())}),
            },
            **({} if self.output is None else {"output": self.output.tolist()}),
        }

    def _told(self, j: int) -> dict[str, Any]:
        told = {
            "name": self.keys[j],
            "number": j,
            "score": float(self.scores[j]),
            "weight": float(self.weights[j]),
        }
        return told if self.shares is None else {**told, "share": float(self.shares[j])}

    @property
    def peak(self) -> float:
        """The largest of the scores that are seen."""
        return float(np.fmax.reduce(self.scores, initial=-np.inf))

    @property
    def powers(self) -> Array:
        """e^(score − largest), (L_k,): what each weight is a share of the sum of."""
        with np.errstate(all="ignore"):
            peak = self.peak if np.isfinite(self.peak) else 0.0
            powers: Array = np.exp(self.scores.astype(np.float64) - peak)
        return powers


def explain(
    problem: Problem, query: int, key: int | None = None, place: tuple[int, ...] = ()
) -> Explanation:
    """Explain a weight of one of the problem's matrices; ``key`` None is the largest.

    >>> from qkvcli.core.config import AttentionConfig
    >>> from qkvcli.core.fitting import problem_of
    >>> from qkvcli.core.operands import Input, Operand, Operands
    >>> sides = [Input(Operand(np.array(rows, float), name)) for name, rows in (
    ...     ("query", [[1, 2]]), ("key", [[3, 1], [0, 1]]), ("value", [[1], [5]]))]
    >>> found = explain(problem_of(AttentionConfig(), Operands(*sides)), 0)
    >>> found.key.number, found.products.tolist(), found.score, round(found.weight, 4)
    (0, [3.0, 2.0], 5.0, 0.9526)
    """
    names = Names.of(problem.labels, problem.shape[-2])
    keys = Names.of(problem.key_labels, problem.shape[-1])
    part = problem.with_matrix(place).with_rows(np.array([query]))
    until: Stage = "weights" if part.value is None else "output"
    found = {name: rows[0] for name, rows in dense(part, until).items()}
    weights = found["weights"]
    if key is None:
        key = int(np.nan_to_num(weights, nan=-1).argmax()) if len(weights) else 0
    output = found.get("output")
    values = None if part.value is None else part.value.array
    return Explanation(
        query=Token(names[query], query),
        key=Token(keys[key], key),
        place=place,
        keys=keys,
        made_by=tuple(f"{step.name[0]} = {step.formula}" for step in problem.projections),
        query_vector=None if part.query is None else part.query.array[0],
        key_vector=None if part.key is None else part.key.array[key],
        columns=_columns(part),
        score=float(found.get(part.first_score, _given(part))[key]),
        links=_links(part, found, key),
        hidden=_hidden(part, names[query], keys, key),
        scores=found.get(part.last_score, _given(part)),
        weights=weights,
        softmax_dtype=None if part.config.softmax_dtype is None else str(part.config.softmax_dtype),
        values=values,
        value_columns=None if part.value is None else part.value.columns,
        output=output,
        shares=None if values is None else _shares(weights, values),
    )


def _given(part: Problem) -> Array:
    return np.empty(0) if part.scores is None else part.scores.array[0]


def _columns(part: Problem) -> Labels:
    sides = (part.query, part.key)
    return next((side.columns for side in sides if side is not None and side.columns), None)


def _links(part: Problem, found: dict[str, Array], key: int) -> tuple[Link, ...]:
    """The steps that change the key's score, in their order."""
    links, before = [], float(found.get(part.first_score, _given(part))[key])
    for step in part.score_steps:
        after = float(found[step.name][key])
        if not isinstance(step, Mask) or (after != before and not np.isneginf(after)):
            links.append(Link(step.name, step.formula("{}"), before, after))
        before = after
    return tuple(links)


def _hidden(part: Problem, query: str, keys: Names, key: int) -> tuple[Hidden, ...]:
    """The masks that hide the key."""
    seen = part.visibility
    if seen is None:
        return ()
    return tuple(Hidden(*why) for why in seen.hiding(0, key, query, keys[key]))


def _shares(weights: Array, values: Array) -> Array:
    """What part of the output each key adds: the length of its weighted value, over their sum."""
    lengths = np.empty(len(values))
    with np.errstate(all="ignore"):
        for i in range(0, len(values), _AT_ONCE):
            some = values[i : i + _AT_ONCE].astype(np.float64)
            lengths[i : i + _AT_ONCE] = np.sqrt(np.einsum("ij,ij->i", some, some))
        added = np.where(weights == 0, 0, np.abs(weights) * lengths)
        total = added.sum()
        shares: Array = added / total if total else added
    return shares
