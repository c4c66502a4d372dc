"""The output without the matrix of weights: attention over one block of keys after another.

A query needs all of its row of scores for the softmax, but not at once. Each block of
keys gives shares e^(score − reference) of a reference that is the row's own; shares and
mixed values are summed as they come, and whenever a score stands far above the reference,
the reference moves and the sums so far shrink to match:

    output = Σ e^(score − reference)·V  /  Σ e^(score − reference)

Sources: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018),
algorithm 3; Dao et al., "FlashAttention" (2022), algorithm 1. Theirs moves the reference
to the largest score at every block; here it moves only where it must.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qkvcli.core import attention as arithmetic
from qkvcli.core.arrays import Array
from qkvcli.core.masks import Frame
from qkvcli.core.parallel import stopping

QUERIES, KEYS = 1024, 256
"""Queries and keys in a block: its scores stay in a core's own cache."""

_LARGE = 24.0
"""Products larger than this are summed in float64: beyond it, float32 would be seen."""

_FAR = 30.0
"""How far above its reference a score may stand: e³⁰ leaves float32 room for large values."""


@dataclass(frozen=True, eq=False)
class Head:
    """One head: query (L_q, d), key (L_k, d) and value (L_k, d_v), and what hides keys."""

    query: Array
    key: Array
    value: Array
    scale: float
    softcap: float | None
    frame: Frame


class Blocks:
    """A head made ready for blocks: what all blocks of queries share."""

    def __init__(self, head: Head, queries: int, keys: int) -> None:
        self.head = head
        self.queries, self.keys = queries, keys
        starts = range(0, len(head.key), keys)
        self.longest = [_length(head.key[j : j + keys]).max(initial=0) for j in starts]
        largest = _length(head.query).max(initial=0) * max(self.longest, default=0)
        # float32 leaves a score of 80 no more than five digits behind the point
        self.kind = np.float64 if largest * abs(head.scale) > _LARGE else head.key.dtype
        self.spoilt = [not np.isfinite(head.value[j : j + keys]).all() for j in starts]

    def parts(self) -> list[slice]:
        """The blocks of queries, each of which `output` does on its own."""
        count = len(self.head.query)
        return [slice(i, min(i + self.queries, count)) for i in range(0, count, self.queries)]

    def output(self, part: slice) -> Array:
        """A block of queries' output, (n, d_v)."""
        with np.errstate(all="ignore"):
            return self._output(part)

    def _output(self, part: slice) -> Array:
        head = self.head
        n, d = part.stop - part.start, head.query.shape[1]
        kind = head.query.dtype
        query = np.zeros((n, d + 1), self.kind)  # (n, d + 1): the last column is −reference
        np.multiply(head.query[part], head.scale, out=query[:, :d])
        length = _length(query[:, :d])  # (n,)
        total = np.zeros(n, kind)  # Σ of shares (n,)
        mixed = np.zeros((n, head.value.shape[1]), kind)  # Σ of shares·V (n, d_v)
        room = np.empty((n, self.keys), kind)
        ones = np.ones(self.keys, kind)
        key = np.ones((self.keys, d + 1), self.kind)  # (m, d + 1): its last column takes −reference
        rows = np.arange(part.start, part.stop)
        for keys, all_seen in self._seen(part):
            if stopping.is_set():
                break
            block = keys.start // self.keys
            shares = room[:, : keys.stop - keys.start]  # (n, m): scores first, in place
            key[: shares.shape[1], :d] = head.key[keys]
            bound = self._scores(query, length, key[: shares.shape[1]], block, shares)
            if not all_seen:
                visible, bias = head.frame.combined(rows, keys)  # (n, m)
                if bias is not None:
                    shares += bias
                    bound = bound + np.where(visible, bias, -np.inf).max(initial=-np.inf)
                np.copyto(shares, -np.inf, where=~visible)
            if not ((total > 0).all() and (bound <= _FAR).all()):
                self._move(query, shares, total, mixed)
            np.exp(shares, out=shares)  # (n, m)
            total += shares @ ones[: shares.shape[1]]  # (n, m)·(m,) → (n,)
            value = head.value[keys]  # (m, d_v)
            mixed += arithmetic.output(shares, value) if self.spoilt[block] else shares @ value
        shared: Array = mixed / np.where(total == 0, 1, total)[:, None]  # (n, d_v)
        return shared

    def _scores(self, query: Array, length: Array, key: Array, block: int, out: Array) -> Array:
        """Scores less the reference into ``out`` (n, m), and how large they can be, (n,)."""
        cap = self.head.softcap
        exact = out if self.kind == out.dtype else np.empty(out.shape, self.kind)
        if cap is None:
            np.matmul(query, key.T, out=exact)  # (n, d + 1)·(d + 1, m) → (n, m)
            bound: Array = length * self.longest[block] + query[:, -1]
        else:
            np.matmul(query[:, :-1], key[:, :-1].T, out=exact)
            np.divide(exact, cap, out=exact)
            np.tanh(exact, out=exact)
            np.multiply(exact, cap, out=exact)
            exact += query[:, -1:]
            bound = cap + query[:, -1]
        if exact is not out:
            out[...] = exact
        return bound

    def _move(self, query: Array, scores: Array, total: Array, mixed: Array) -> None:
        """Bring each row's reference up to its largest score; at first, to it exactly."""
        begun = total > 0
        peak = scores.max(axis=1)  # (n,), above the reference that was
        shift = np.where(begun, np.maximum(peak, 0), np.where(np.isneginf(peak), 0, peak))
        scores -= shift[:, None]
        query[:, -1] -= shift
        shrunk = np.where(begun, np.exp(-shift), 1)
        total *= shrunk
        mixed *= shrunk[:, None]

    def _seen(self, part: slice) -> Iterator[tuple[slice, bool]]:
        """The blocks of keys that some query sees, and whether all of it is seen by all."""
        first, last = self.head.frame.bounds(part)
        for j in range(0, len(self.head.key), self.keys):
            keys = slice(j, min(j + self.keys, len(self.head.key)))
            if keys.stop > first and keys.start <= last:
                yield keys, self.head.frame.all_seen(part, keys)


def _length(vectors: Array) -> Array:
    """Each row's length: the product of two rows is no larger than that of their lengths."""
    lengths: Array = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return lengths
