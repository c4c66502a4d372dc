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
from typing import NamedTuple

import numpy as np

from qkvcli.core import attention
from qkvcli.core.operands import Array
from qkvcli.core.problem import Problem, needed
from qkvcli.core.score_steps import ScoreStep
from qkvcli.core.threads import check

_LARGE = 24.0
"""Products larger than this are summed in float64: beyond it, float32 would be seen."""

_FAR = 30.0
"""How far above its reference a score may stand, unless values are so large that sums would
overflow: shares are then up to e³⁰."""


class Mixed(NamedTuple):
    """Some queries' output (n, d_v), and the logarithm of each one's sum of e^score (n,)."""

    output: Array
    log_sum_exp: Array


class Blocks:
    """One matrix's problem (no leading axes), made ready: what all blocks of queries share.

    ``queries`` and ``keys`` are the sizes of a block.
    """

    def __init__(self, problem: Problem, queries: int, keys: int) -> None:
        self.query, self.key, self.value = (
            needed(operand, name).array
            for operand, name in (
                (problem.query, "query"),
                (problem.key, "key"),
                (problem.value, "value"),
            )
        )
        self.queries, self.keys = queries, keys
        self.visibility = problem.visibility
        self.before = list(takewhile(lambda step: step.linear, problem.score_steps))
        self.after = problem.score_steps[len(self.before) :]
        starts = range(0, len(self.key), keys)
        self.longest = [_length(self.key[j : j + keys]).max(initial=0) for j in starts]
        largest = _length(self.query).max(initial=0) * max(self.longest, default=0)
        for step in self.before:
            largest = step.bound(largest)
        # float32 leaves a score of 80 no more than five digits behind the point
        self.dtype = np.float64 if largest > _LARGE else self.key.dtype
        self.spoilt = [not np.isfinite(self.value[j : j + keys]).all() for j in starts]
        sizes = np.abs(self.value, where=np.isfinite(self.value), out=np.zeros_like(self.value))
        sums = float(sizes.max(initial=1)) * max(len(self.key), 1)
        self.far = min(_FAR, math.log(np.finfo(self.value.dtype).max) - math.log(sums) - 2)

    def parts(self) -> list[slice]:
        """The blocks of queries, each of which `output` does on its own."""
        count = len(self.query)
        return [slice(i, min(i + self.queries, count)) for i in range(0, count, self.queries)]

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
        length = _length(query[:, :d])  # (n,)
        normalizer = np.zeros(n, dtype)  # Σ of shares (n,)
        mixed = np.zeros((n, self.value.shape[1]), dtype)  # Σ of shares·V (n, d_v)
        room = np.empty((n, self.keys), dtype)
        ones = np.ones(self.keys, dtype)
        key = np.ones(
            (self.keys, d + 1), self.dtype
        )  # (m, d + 1): its last column takes −reference
        for block, keys in self._seen(part):
            check(stop)
            steps = [step for step in self.after if not step.skips(part, keys)]
            shares = room[:, : keys.stop - keys.start]  # (n, m): scores first, in place
            key[: shares.shape[1], :d] = self.key[keys]
            exact = shares if self.dtype == dtype else np.empty(shares.shape, self.dtype)
            near = (normalizer > 0).all() and self._near(query, length, block, steps)
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
            value = self.value[keys]  # (m, d_v)
            mixed += attention.output(shares, value) if self.spoilt[block] else shares @ value
        output = mixed / np.where(normalizer == 0, 1, normalizer)[:, None]  # (n, d_v)
        return Mixed(output, np.log(normalizer) - query[:, d])

    def _near(self, query: Array, length: Array, block: int, steps: list[ScoreStep]) -> bool:
        """Whether no score of a block of keys can stand far above its row's reference."""
        largest = length * self.longest[block]
        for step in steps:
            largest = step.bound(largest)
        return bool((largest + query[:, -1] <= self.far).all())

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


def _length(vectors: Array) -> Array:
    """Each row's length: the product of two rows is no larger than that of their lengths."""
    lengths: Array = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return lengths
