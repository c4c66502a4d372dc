"""The output without the matrix of weights: attention over one block of keys after another.

A query needs all of its row of scores for the softmax, but not at once. Each block of
keys gives shares e^(score − reference) of a reference that is the row's own; shares and
mixed values are summed as they come, and whenever a score stands far above the reference,
the reference moves and the sums so far shrink to match:

    output = Σ e^(score − reference)·V  /  Σ e^(score − reference)

The sum below the line is the row's normalizer. Sources: Milakov and Gimelshein, "Online
normalizer calculation for softmax" (2018), algorithm 3; Dao et al., "FlashAttention"
(2022), algorithm 1. Theirs moves the reference to the running maximum at every block; here
it moves only where it must.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from threading import Event
from typing import Any, NamedTuple

import numpy as np

from qkvcli.core import attention
from qkvcli.core.dtypes import Float, converted, taken_as, working_dtype
from qkvcli.core.operands import Array
from qkvcli.core.problem import Problem, needed
from qkvcli.core.score_steps import ScoreStep
from qkvcli.core.threads import check

_LARGE = 24.0
"""Products larger than this are summed in float64: rounding to float32 would be visible."""

_FAR = 30.0
"""How far above its reference a score may stand: shares are then up to e³⁰. Less, where the
values are so large that sums of them would overflow."""
_LOOKED_AT = 2**14
"""About how many keys are looked over at a time."""


class Mixed(NamedTuple):
    """Some queries' output (n, d_v), and the logarithm of each one's sum of e^score (n,).

    The latter is None where nobody asked for it, and it was not to be had on the way.
    """

    output: Array
    log_sum_exp: Array | None


class Blocks:
    """One matrix's keys and values, made ready: what all blocks of its queries share.

    ``problem`` has no leading axes, and its queries play no part; ``keys`` is how many keys a
    block has, and ``wants_sum`` asks for the logarithm of the sum of e^score in any case. Keys and
    values may be `rows.Rows`: they are converted a block at a time.
    """

    def __init__(self, problem: Problem, keys: int, wants_sum: bool = False) -> None:
        self.key, self.value = (
            needed(operand, name).array
            for operand, name in ((problem.key, "key"), (problem.value, "value"))
        )
        self.problem, self.keys, self.wants_sum = problem, keys, wants_sum
        self.sink = None if problem.sinks is None else float(problem.sinks.flat[0])
        self.steps = problem.score_steps
        softmax = problem.config.softmax_kind
        self.softmax = None if softmax in (None, self.key.dtype.name) else Float(softmax)
        with np.errstate(all="ignore"):
            self._look_over_keys()
            self._look_over_values()

    def _look_over_keys(self) -> None:
        """Find how long the keys of each block are; NaN counts for nothing."""
        self.key_norms, self.finite = list[Any](), True
        for keys in self._looked_at():
            norms = _norms(self.key[keys])
            self.key_norms += [_largest(part) for part in _parts(norms, self.keys)]
            self.finite = self.finite and bool(np.isfinite(norms).all())

    def _look_over_values(self) -> None:
        """Find how large the values are, and which blocks have some that are not finite."""
        self.spoilt, largest = list[bool](), 0.0
        for keys in self._looked_at():
            sizes = np.abs(self.value[keys])
            highest = sizes.max(axis=1, initial=0)  # (m,); NaN and ∞ stay what they are
            for part in _parts(highest, self.keys):
                self.spoilt.append(not np.isfinite(part).all())
            whole = np.isfinite(highest).all()
            largest = max(largest, float(highest.max()) if whole else _finite_largest(sizes))
        largest = largest or 1
        room = math.log(np.finfo(self.value.dtype).max) - 2  # sums up to e^room don't overflow
        high = math.log(largest) + math.log(max(len(self.key), 1)) - room
        # shares are 1 at least; where even those are too much, the values shrink by 2^shrink
        self.shrink = max(math.ceil(high / math.log(2)), 0)
        self.limit = min(_FAR, max(-high, 0.0))

    def _looked_at(self) -> Iterator[slice]:
        """The keys, many blocks at a time."""
        at_once = self.keys * max(_LOOKED_AT // self.keys, 1)
        for first in range(0, len(self.key), at_once):
            yield slice(first, min(first + at_once, len(self.key)))

    def output(
        self, query: Array, part: slice, stop: Event, tick: Callable[[], None] = lambda: None
    ) -> Mixed:
        """The output of some queries (n, d), those of ``part``.

        ``tick`` is called after each block of keys. Raises CalledOffError once ``stop`` is set.
        """
        with np.errstate(all="ignore"):
            queries = _Queries(self, query, part)
            if self.softmax is None:
                return self._mixed(queries, stop, tick)
            output = self._rounded(queries, self.softmax, stop, tick)
            # the sum of e^score is that of scores that no softmax has rounded
            found = self._mixed(queries, stop).log_sum_exp if self.wants_sum else None
            return Mixed(output, found)

    def _mixed(
        self, queries: "_Queries", stop: Event, tick: Callable[[], None] = lambda: None
    ) -> Mixed:
        query, part, d = queries.query, queries.part, queries.width  # (n, d + 1)
        n, dtype = len(query), self.key.dtype
        normalizer = np.zeros(n, dtype)  # Σ of shares (n,)
        mixed = np.zeros((n, self.value.shape[1]), dtype)  # Σ of shares·V (n, d_v)
        share = np.empty_like(mixed)  # of a block; memory that is had anew each time is slow
        buffer = np.empty((n, self.keys), dtype)
        ones = np.ones(self.keys, dtype)
        key = np.ones((self.keys, d + 1), queries.dtype)  # (m, d + 1): its 1 takes −reference
        seen = self._seen(part)
        for block, keys in seen:
            check(stop)
            steps = [step for step in queries.after if not step.skips(part, keys)]
            shares = buffer[:, : keys.stop - keys.start]  # (n, m): scores first, in place
            key[: shares.shape[1], :d] = self.key[keys]
            exact = shares if queries.dtype == dtype else np.empty(shares.shape, queries.dtype)
            near = (normalizer > 0).all() and queries.near(
                self.key_norms[block], steps, keys, self.limit
            )
            if near and all(step.shifts for step in steps):
                np.matmul(query, key[: shares.shape[1]].T, out=exact)  # (n, m): less the reference
                _apply(steps, exact, part, keys)
            else:
                np.matmul(query[:, :d], key[: shares.shape[1], :d].T, out=exact)  # (n, m)
                _apply(steps, exact, part, keys)
                if not near:
                    _move(query, exact, normalizer, mixed)
                exact += query[:, d:]
            if exact is not shares:
                shares[...] = exact
            np.exp(shares, out=shares)  # (n, m)
            normalizer += shares @ ones[: shares.shape[1]]  # (n, m)·(m,) → (n,)
            np.matmul(shares, self._values(block, keys), out=share)  # (n, m)·(m, d_v) → (n, d_v)
            mixed += share
            tick()
        normalizer, logarithm = self._totals(normalizer, query[:, d].astype(np.float64))
        output = mixed / normalizer[:, None]  # (n, d_v)
        if self.shrink:
            output = np.ldexp(output, self.shrink)
        for block, keys in seen:
            if self.spoilt[block]:
                check(stop)
                output += self._not_finite(queries, normalizer, keys)
        return Mixed(output, logarithm)

    def _rounded(
        self, queries: "_Queries", softmax: Float, stop: Event, tick: Callable[[], None]
    ) -> Array:
        """The same where the softmax has a type of its own, to which it rounds the weights.

        They are known once the whole row is: the blocks are gone through twice.
        """
        dtype, n = working_dtype(softmax).carrier, len(queries.query)
        sinks = None if self.sink is None else taken_as(softmax, np.full((n, 1), self.sink))
        peak = np.full((n, 1), -np.inf, dtype) if sinks is None else sinks
        total = np.zeros((n, 1), dtype) if sinks is None else np.ones((n, 1), dtype)
        seen = self._seen(queries.part)
        for _, keys in seen:
            check(stop)
            scores = taken_as(softmax, self._scores(queries, keys))  # (n, m)
            highest = np.maximum(peak, scores.max(axis=1, keepdims=True))
            reference = np.where(np.isneginf(highest), 0, highest)
            before = np.where(peak == highest, 1, np.exp(peak - reference))
            total = total * before + np.exp(scores - reference).sum(axis=1, keepdims=True)
            peak = highest
        reference, divisor = np.where(np.isneginf(peak), 0, peak), np.where(total == 0, 1, total)
        output = np.zeros((n, self.value.shape[1]), self.key.dtype)
        for _, keys in seen:
            check(stop)
            scores = taken_as(softmax, self._scores(queries, keys))
            weights = converted(np.exp(scores - reference) / divisor, softmax)
            output += attention.output(weights.astype(output.dtype), _in_line(self.value[keys]))
            tick()
        return output

    def _scores(self, queries: "_Queries", keys: slice) -> Array:
        """The last scores of a tile, in the dtype that is worked in, step by step."""
        scores = queries.given @ _in_line(self.key[keys]).T  # (n, d)·(d, m) → (n, m)
        for step in self.steps:
            scores = step(scores, queries.part, keys)
        return scores

    def _totals(self, normalizer: Array, moved: Array) -> tuple[Array, Array]:
        """What the shares of each row are divided by, and the logarithm of the sum of e^score.

        ``moved`` is −reference, in double precision, where e^(sink − reference) has room.
        """
        total, logarithm = normalizer.astype(np.float64), np.log(normalizer) - moved
        if self.sink is not None:
            total += np.exp(self.sink + moved)
            logarithm = np.logaddexp(logarithm, self.sink)
        total = total.astype(normalizer.dtype)
        return np.where(total == 0, 1, total), logarithm

    def _values(self, block: int, keys: slice) -> Array:
        """A block of values, as they can be summed: finite, and not too large."""
        value = _in_line(self.value[keys])
        if self.spoilt[block]:
            value = np.where(np.isfinite(value), value, 0)
        return np.ldexp(value, -self.shrink) if self.shrink else value

    def _not_finite(self, queries: "_Queries", normalizer: Array, keys: slice) -> Array:
        """What ∞ and NaN in a block of values add to the output, once all weights are known."""
        query, part = queries.query, queries.part
        scores = query[:, :-1] @ self.key[keys].T.astype(queries.dtype)  # (n, m)
        _apply([step for step in queries.after if not step.skips(part, keys)], scores, part, keys)
        shares = np.exp((scores + query[:, -1:]).astype(normalizer.dtype))
        return attention.not_finite(shares / normalizer[:, None], self.value[keys])

    def _seen(self, part: slice) -> list[tuple[int, slice]]:
        """The blocks of keys that some query of the part sees, and their numbers."""
        blocks, count = blocks_seen(self.problem, self.keys, part), len(self.key)
        return [(i, slice(i * self.keys, min((i + 1) * self.keys, count))) for i in blocks]


def blocks_seen(problem: Problem, keys: int, part: slice) -> range:
    """The numbers of the blocks of keys that some query of the part sees."""
    first, last = 0, needed(problem.key, "key").shape[-2] - 1
    seen = problem.visibility
    if seen is not None:
        reach = seen.reach(part)
        first, last = max(reach.first, first), min(reach.last, last)
    return range(first // keys, last // keys + 1) if first <= last else range(0)


class _Queries:
    """Some queries on their way past the blocks of keys.

    ``query`` (n, d + 1) are the queries with what is done to them before the product, and
    −reference for a last column; ``given`` (n, d) are they as they came, ``after`` the steps that
    are left, and ``dtype`` is what their products are summed in.
    """

    def __init__(self, blocks: Blocks, query: Array, part: slice) -> None:
        self.given, self.part, self.width = _in_line(query), part, query.shape[1]
        longest = _largest(_norms(query))
        largest = longest * max(blocks.key_norms, default=0)
        linear = list(takewhile(lambda step: step.linear, blocks.steps))
        gain = np.ones(1)
        for step in linear:
            largest, gain = step.bound(largest), step.bound(gain)
        # a query times a number far from 1 may overflow or vanish where its scores do not
        small = longest < np.finfo(query.dtype).max / 2**20
        usual = small and 2.0**-20 <= gain[0] <= 2.0**20
        before = linear if usual and blocks.finite else []
        self.after = blocks.steps[len(before) :]
        # float32 leaves a score of 80 no more than five digits behind the point
        far = max((step.least for step in self.after), default=0.0)
        self.dtype = blocks.key.dtype if max(largest, far) <= _LARGE else np.dtype(np.float64)
        d = self.width
        self.query = np.zeros((len(query), d + 1), self.dtype)
        self.query[:, :d] = query
        for step in before:
            step(self.query[:, :d], part, slice(0, d), out=self.query[:, :d])
        self.norms = _norms(self.query[:, :d])  # (n,)

    def near(self, longest: Any, steps: Sequence[ScoreStep], keys: slice, limit: float) -> bool:
        """Whether no score of a block of keys can stand far above its row's reference."""
        largest = self.norms * longest
        for step in steps:
            largest = step.bound_in(largest, self.part, keys)
        return bool((largest + self.query[:, -1] <= limit).all())


def _apply(steps: Sequence[ScoreStep], scores: Array, rows: slice, keys: slice) -> None:
    """The score steps on a tile, in place."""
    for step in steps:
        step(scores, rows, keys, out=scores)


def _move(query: Array, scores: Array, normalizer: Array, mixed: Array) -> None:
    """Bring each row's reference up to its largest score; at first, to it exactly."""
    begun = normalizer > 0
    before = -query[:, -1]
    peak = scores.max(axis=1)  # (n,)
    first = np.where(np.isneginf(peak), 0, peak)
    reference = np.where(begun, np.maximum(before, peak), first)
    query[:, -1] = -reference
    shrunk = np.where(begun, np.exp(before - reference), 1)
    normalizer *= shrunk.astype(normalizer.dtype)
    mixed *= shrunk[:, None].astype(normalizer.dtype)


def _in_line(array: Array) -> Array:
    """The numbers one after the other: products of what lies otherwise may sum in other orders."""
    return np.ascontiguousarray(array)


def _parts(array: Array, count: int) -> Iterator[Array]:
    """An array in parts of so many."""
    return (array[i : i + count] for i in range(0, len(array), count))


def _norms(vectors: Array) -> Array:
    """Each row's length: the product of two rows is no larger than that of their lengths."""
    # in float64, where the squares of no float32 vanish
    norms: Array = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    if vectors.dtype == np.float64 and (norms < 1e-150).any():  # those of a float64 may have
        largest = np.maximum(vectors.max(axis=1, initial=0), -vectors.min(axis=1, initial=0))
        norms = np.maximum(norms, largest * math.sqrt(vectors.shape[1]))
    return norms


def _largest(numbers: Array) -> Any:
    """The largest, where NaN does not count; 0 where there is none."""
    return np.fmax.reduce(numbers, axis=None, initial=0)


def _finite_largest(values: Array) -> float:
    """The largest size among the values that are finite."""
    sizes = np.abs(values)
    return float(sizes.max(initial=0, where=np.isfinite(sizes)))
