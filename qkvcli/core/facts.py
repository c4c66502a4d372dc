"""What is said of rows of weights: the largest of each, and how many keys share it."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np

from qkvcli.core.dtypes import widened
from qkvcli.core.operands import Array
from qkvcli.core.steps import Step

_SLACK = {"float32": 1e-5, "float64": 1e-12}
"""How much of a weight rounding may take: more than of a number, since scores are exponents."""
_BLOCK = 2**15
"""So many weights at a time stay in a core's own cache."""


class Weighed:
    """A row of weights (L_k,), and what there is to say of it, found once and when it is asked."""

    def __init__(self, row: Array) -> None:
        self.row = row

    @cached_property
    def _numbers(self) -> Array:
        return widened(self.row) if self.row.dtype == np.float16 else self.row

    @cached_property
    def peak(self) -> float:
        """The largest weight; NaN where one is NaN, and 0 where there is none."""
        return float(self._numbers.max(initial=0))

    @cached_property
    def largest(self) -> Array:
        """Where the row is largest, as `largest` says it."""
        peak = np.fmax.reduce(self._numbers, initial=0) if np.isnan(self.peak) else self.peak
        if not peak > 0:
            return np.empty(0, np.intp)
        least = self._numbers.dtype.type(peak * (1 - _SLACK.get(self.row.dtype.name, 0.0)))
        return np.flatnonzero(self._numbers >= least)

    @cached_property
    def total(self) -> float:
        """The sum of the weights."""
        return float(self._numbers.sum(dtype=np.float64))

    @cached_property
    def is_weights(self) -> bool:
        """Whether each number can be a weight: finite, and none below 0."""
        return bool(np.isfinite(self.total) and self._numbers.min(initial=0) >= 0)

    @cached_property
    def effective(self) -> float:
        """How many keys share the row, as `effective_keys` says it, where each is a weight.

        The entropy is that of the shares of the largest weight: many keys that share a row are
        not far below it, so that the logarithms are small, and the row's own type is enough.
        """
        if not self.peak > 0:
            return 0.0
        bits = sum(
            _bits(self._numbers[i : i + _BLOCK], self.peak)
            for i in range(0, len(self._numbers), _BLOCK)
        )
        whole = self.total / self.peak  # in shares of the peak, as the bits
        return float(np.exp2(np.log2(whole) + bits / whole))

    @cached_property
    def left(self) -> float:
        """What the keys leave to the sink, as `left_to_sink` says it."""
        return max(1 - self.total, 0.0) if self.is_weights else left_to_sink(self.row)


def _bits(weights: Array, peak: float) -> float:
    """The sum of −s·log2(s) of the weights' shares of the peak."""
    shares = weights / weights.dtype.type(peak)
    logarithms = np.log2(np.maximum(shares, np.finfo(shares.dtype).tiny))  # finite for 0 too
    logarithms *= shares
    return -float(logarithms.sum(dtype=np.float64))


def largest(row: Array) -> Array:
    """Where a row of weights is largest: several keys where they weigh the same, none for zeros.

    Weights that differ by no more than rounding weigh the same: in float16 none that differ,
    since they are rounded to it once, at the end.

    >>> largest(np.array([0.4, 0.2, 0.4])).tolist(), largest(np.zeros(3)).tolist()
    ([0, 2], [])
    """
    return Weighed(row).largest


def top(row: Array, count: int) -> Array:
    """The keys that weigh most in a row, the largest first; of equals, the first key first.

    >>> top(np.array([0.1, 0.4, 0.1, 0.4]), 3).tolist()
    [1, 3, 0]
    """
    weights = np.where(np.isnan(row), -np.inf, row)
    if count < len(row):
        edge = np.partition(weights, len(row) - count)[len(row) - count]  # the last that belongs
        above, equal = np.flatnonzero(weights > edge), np.flatnonzero(weights == edge)
        picked = np.concatenate([above, equal[: count - len(above)]])
    else:
        picked = np.arange(len(row))
    order: Array = picked[np.argsort(-weights[picked], kind="stable")]
    return order


def effective_keys(row: Array) -> float:
    """How many keys share a row of weights: 2 to the power of its entropy in bits.

    A weight of 1 is one key, n equal weights are n; a row of zeros is none. Where the row sums to
    less than 1, since a sink has the rest, it is of what the keys share.

    >>> [effective_keys(np.array(row)) for row in ([0.5, 0.5, 0], [0.3, 0, 0], [0.0, 0, 0])]
    [2.0, 1.0, 0.0]
    """
    return Weighed(row if (row >= 0).all() else row[row > 0]).effective


def left_to_sink(row: Array) -> float:
    """What the keys of a row of weights leave to the sink, 0 to 1; −∞ marks a hidden key.

    >>> left_to_sink(np.array([0.25, 0.5, -np.inf])), left_to_sink(np.zeros(2))
    (0.25, 1.0)
    """
    return max(1 - float(row.sum(dtype=np.float64, where=row > 0)), 0.0)


class Facts(NamedTuple):
    """What is said of some rows of weights.

    ``sums`` are the least and the largest sum of a row, and ``unseeing`` counts the rows that
    see no key, which are none of them (but of rows with ``sinks``, whose sink takes all). Row
    ``sharpest`` has the ``fewest`` effective keys, row ``flattest`` the ``most``.
    """

    sums: tuple[float, float]
    unseeing: int
    sharpest: int
    fewest: float
    flattest: int
    most: float

    @classmethod
    def of(cls, rows: Sequence[Weighed], sinks: bool = False) -> "Facts | None":
        """The facts of some rows.

        None where none of them sees a key, and where a number is no weight: below 0, or not
        finite.

        >>> Facts.of([Weighed(np.array(row)) for row in ([0.5, 0.5], [0.0, 1.0])])[:4]
        ((1.0, 1.0), 0, 1, 1.0)
        """
        if not all(row.is_weights for row in rows):
            return None
        sums = np.array([row.total for row in rows])
        seeing = np.flatnonzero(sums != 0)
        if not seeing.size:
            return None
        summed = sums if sinks else sums[seeing]
        keys = np.array([rows[i].effective for i in seeing.tolist()])
        few, many = int(keys.argmin()), int(keys.argmax())
        return cls(
            (float(summed.min()), float(summed.max())),
            len(rows) - len(summed),
            int(seeing[few]),
            float(keys[few]),
            int(seeing[many]),
            float(keys[many]),
        )


class Ranked(NamedTuple):
    """The keys that weigh most for a query: its matrix's place, its number, theirs, the weights."""

    place: tuple[int, ...]
    query: int
    keys: Array
    weights: Array


def ranked(step: Step, axes: Sequence[Sequence[int]], rows: Array, count: int) -> Iterator[Ranked]:
    """For each row of a step of weights, the ``count`` keys that weigh most, row by row.

    ``axes`` and ``rows`` number the leading indexes and the rows of the step. Keys without
    any weight are none of them.

    >>> weights = Step.held("weights", np.array([[0.1, 0.0, 0.9]]))
    >>> [(row.query, row.keys.tolist()) for row in ranked(weights, (), np.array([7]), 3)]
    [(7, [2, 0])]
    """
    places = product(product(*axes), rows.tolist())
    for part in step.parts():
        for row in part:
            place, query = next(places)
            keys = top(row, count)
            weights = row[keys]
            kept = weights != 0
            yield Ranked(place, query, keys[kept], weights[kept])
