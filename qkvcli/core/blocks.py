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
from collections.abc import Iterator
from itertools import takewhile
from threading import Event
from typing import Any, NamedTuple

import numpy as np

from qkvcli.core import attention
from qkvcli.core.operands import Array
from qkvcli.core.problem import Problem, needed
from qkvcli.core.score_steps import ScoreStep
from qkvcli.core.threads import check

_LARGE = 24.0
"""Products larger than this are summed in float64: rounding to float32 would be visible."""

_FAR = 30.0
"""How far above its reference a score may stand: shares are then up to e³⁰. Less, where the
values are so large that sums of them would overflow."""


class Mixed(NamedTuple):
    """Some queries' output (n, d_v), and the logarithm of each one's sum of e^score (n,)."""

    output: Array
    log_sum_exp: Array


class Blocks:
    """One matrix's problem (no leading axes), made ready: what all blocks of queries share.

    ``keys`` is how many keys a block has.
    """

    def __init__(self, problem: Problem, keys: int) -> None:
        self.query, self.key, self.value = (
            needed(operand, name).array
            for operand, name in (
                (problem.query, "query"),
                (problem.key, "key"),
                (problem.value, "value"),
            )
        )
        self.keys = keys
        self.visibility = problem.visibility
        self.sink = None if problem.sinks is None else float(problem.sinks.flat[0])
        with np.errstate(all="ignore"):
            self._look_over(problem)

    def _look_over(self, problem: Problem) -> None:
        """Find how large scores and values can be, block by block; NaN counts for nothing."""
        starts = range(0, len(self.key), self.keys)
        norms = [_norms(self.key[j : j + self.keys]) for j in starts]
        self.key_norms = [_largest(norm) for norm in norms]
        queries = _norms(self.query)
        largest = _largest(queries) * max(self.key_norms, default=0)
        linear = list(takewhile(lambda step: step.linear, problem.score_steps))
        gain = np.ones(1)
        for step in linear:
            largest, gain = step.bound(largest), step.bound(gain)
        # a query times a number far from 1 may overflow or vanish where its scores do not
        small = _largest(queries) < np.finfo(self.query.dtype).max / 2**20
        usual = small and 2.0**-20 <= gain[0] <= 2.0**20
        self.before = linear if usual and all(np.isfinite(norm).all() for norm in norms) else []
        self.after = problem.score_steps[len(self.before) :]
        # float32 leaves a score of 80 no more than five digits behind the point
        far = max((step.least for step in self.after), default=0.0)
        self.dtype = self.key.dtype if max(largest, far) <= _LARGE else np.float64
        self.spoilt = [not np.isfinite(self.value[j : j + self.keys]).all() for j in starts]
        values = [_finite_largest(self.value[j : j + self.keys]) for j in starts]
        largest = max(values, default=0) or 1
        room = math.log(np.finfo(self.value.dtype).max) - 2  # sums up to e^room don't overflow
        high = math.log(largest) + math.log(max(len(self.key), 1)) - room
        # shares are 1 at least; where even those are too much, the values shrink by 2^shrink
        self.shrink = max(math.ceil(high / math.log(2)), 0)
        self.limit = min(_FAR, max(-high, 0.0))

    def output(self, part: slice, stop: Event) -> Mixed:
        """A block of queries' output. Raises CalledOffError once ``stop`` is set."""
        with np.errstate(all="ignore"):
            return self._output(part, stop)

    def _output(self, part: slice, stop: Event) -> Mixed:
        n, d = part.stop - part.start, self.query.shape[1]
        dtype = self.query.dtype
        query = np.zeros((n, d + 1), self.dtype)  # (n, d + 1): the last column is −reference
        query[:, :d] = self.query[part]
        for step in self.before:
            step(query[:, :d], part, slice(0, d), out=query[:, :d])
        norms = _norms(query[:, :d])  # (n,)
        normalizer = np.zeros(n, dtype)  # Σ of shares (n,)
        mixed = np.zeros((n, self.value.shape[1]), dtype)  # Σ of shares·V (n, d_v)
        buffer = np.empty((n, self.keys), dtype)
        ones = np.ones(self.keys, dtype)
        key = np.ones((self.keys, d + 1), self.dtype)  # (m, d + 1): its 1 takes −reference
        for block, keys in self._seen(part):
            check(stop)
            steps = [step for step in self.after if not step.skips(part, keys)]
            shares = buffer[:, : keys.stop - keys.start]  # (n, m): scores first, in place
            key[: shares.shape[1], :d] = self.key[keys]
            exact = shares if self.dtype == dtype else np.empty(shares.shape, self.dtype)
            near = (normalizer > 0).all() and self._near(query, norms, block, steps, part, keys)
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
            mixed += shares @ self._values(block, keys)  # (n, m)·(m, d_v) → (n, d_v)
        normalizer, logarithm = self._totals(normalizer, query[:, d].astype(np.float64))
        output = mixed / normalizer[:, None]  # (n, d_v)
        if self.shrink:
            output = np.ldexp(output, self.shrink)
        for block, keys in self._seen(part):
            if self.spoilt[block]:
                check(stop)
                output += self._not_finite(query, normalizer, part, block, keys)
        return Mixed(output, logarithm)

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
        value = self.value[keys]
        if self.spoilt[block]:
            value = np.where(np.isfinite(value), value, 0)
        return np.ldexp(value, -self.shrink) if self.shrink else value

    def _not_finite(
        self, query: Array, normalizer: Array, part: slice, block: int, keys: slice
    ) -> Array:
        """What ∞ and NaN in a block of values add to the output, once all weights are known."""
        scores = query[:, :-1] @ self.key[keys].T.astype(self.dtype)  # (n, m)
        _apply([step for step in self.after if not step.skips(part, keys)], scores, part, keys)
        shares = np.exp((scores + query[:, -1:]).astype(normalizer.dtype))
        return attention.not_finite(shares / normalizer[:, None], self.value[keys])

    def _near(
        self,
        query: Array,
        norms: Array,
        block: int,
        steps: list[ScoreStep],
        part: slice,
        keys: slice,
    ) -> bool:
        """Whether no score of a block of keys can stand far above its row's reference."""
        largest = norms * self.key_norms[block]
        for step in steps:
            largest = step.bound_in(largest, part, keys)
        return bool((largest + query[:, -1] <= self.limit).all())

    def _seen(self, part: slice) -> Iterator[tuple[int, slice]]:
        """The blocks of keys that some query of the part sees, and their numbers."""
        count = len(self.key)
        first, last = 0, count - 1
        if self.visibility is not None:
            reach = self.visibility.reach(part)
            first, last = reach.first, reach.last
        for block, start in enumerate(range(0, count, self.keys)):
            keys = slice(start, min(start + self.keys, count))
            if keys.stop > first and keys.start <= last:
                yield block, keys


def _apply(steps: list[ScoreStep], scores: Array, rows: slice, keys: slice) -> None:
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
