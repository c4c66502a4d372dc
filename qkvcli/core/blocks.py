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

import math
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
"""How far above its reference a score may stand, unless values are so large that sums would
overflow: shares are then up to e³⁰."""


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
        sizes = np.abs(head.value, where=np.isfinite(head.value), out=np.zeros_like(head.value))
        sums = float(sizes.max(initial=1)) * max(len(head.key), 1)
        self.far = min(_FAR, math.log(np.finfo(head.value.dtype).max) - math.log(sums) - 2)

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
            visible, bias = (None, None) if all_seen else head.frame.combined(rows, keys)
            exact = shares if self.kind == kind else np.empty(shares.shape, self.kind)
            if bias is None and (total > 0).all() and self._near(query, length, block):
                self._scores(query, key[: shares.shape[1]], exact)  # less the reference
                if visible is not None:
                    np.copyto(exact, -np.inf, where=~visible)
            else:
                reference = query[:, -1].copy()
                query[:, -1] = 0
                self._scores(query, key[: shares.shape[1]], exact)
                if bias is not None:
                    exact += bias
                if visible is not None:
                    np.copyto(exact, -np.inf, where=~visible)
                query[:, -1] = reference
                self._move(query, exact, total, mixed)
            if exact is not shares:
                shares[...] = exact
            np.exp(shares, out=shares)  # (n, m)
            total += shares @ ones[: shares.shape[1]]  # (n, m)·(m,) → (n,)
            value = head.value[keys]  # (m, d_v)
            mixed += arithmetic.output(shares, value) if self.spoilt[block] else shares @ value
        shared: Array = mixed / np.where(total == 0, 1, total)[:, None]  # (n, d_v)
        return shared

    def _near(self, query: Array, length: Array, block: int) -> bool:
        """Whether no score of a block of keys can stand far above its row's reference."""
        cap = self.head.softcap
        largest = length * self.longest[block] if cap is None else cap
        return bool((largest + query[:, -1] <= self.far).all())

    def _scores(self, query: Array, key: Array, out: Array) -> None:
        """Scores, less the reference that stands in the query's last column, into ``out``."""
        cap = self.head.softcap
        if cap is None:
            np.matmul(query, key.T, out=out)  # (n, d + 1)·(d + 1, m) → (n, m)
            return
        np.matmul(query[:, :-1], key[:, :-1].T, out=out)
        np.divide(out, cap, out=out)
        np.tanh(out, out=out)
        np.multiply(out, cap, out=out)
        out += query[:, -1:]

    def _move(self, query: Array, scores: Array, total: Array, mixed: Array) -> None:
        """Bring each row's reference up to its largest score; at first, to it exactly."""
        begun = total > 0
        before = -query[:, -1]
        peak = scores.max(axis=1)  # (n,)
        first = np.where(np.isneginf(peak), 0, peak)
        reference = np.where(begun, np.maximum(before, peak), first)
        scores -= reference[:, None]
        query[:, -1] = -reference
        shrunk = np.where(begun, np.exp(before - reference), 1)
        total *= shrunk.astype(total.dtype)
        mixed *= shrunk[:, None].astype(total.dtype)

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
