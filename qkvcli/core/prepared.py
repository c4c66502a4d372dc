"""Operands that fit together: all that is to be known of the work before it is done."""

import math
from dataclasses import dataclass, replace

import numpy as np

from qkvcli.core.arrays import Labelled, Labels
from qkvcli.core.description import Attention
from qkvcli.core.masks import Frame, framed
from qkvcli.core.operands import Operands
from qkvcli.core.precision import Kind, working_type
from qkvcli.core.steps import Step
from qkvcli.errors import UsageError


@dataclass(frozen=True, eq=False)
class Prepared:
    """Operands that fit together, in the working precision.

    ``projections`` are the steps that made Q, K and V. ``groups`` says how many query
    heads share each head of K, and of V. ``past`` counts the keys from a cache.
    """

    attention: Attention
    operands: Operands
    projections: tuple[Step, ...]
    result: Kind
    past: int
    groups: tuple[int, int]

    within: Frame | None = None

    def frame(self, shape: tuple[int, ...]) -> Frame:
        """What hides keys from queries, in scores of a shape (…, L_q, L_k)."""
        return self.within or framed(self.attention, shape, self.operands.mask, self.past)

    def needed(self, role: str) -> Labelled:
        """An operand that the work can't do without. Raises UsageError."""
        operand: Labelled | None = getattr(self.operands, role)
        if operand is None:
            raise UsageError(f"no {role} was given")
        return operand

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the scores, (…, L_q, L_k)."""
        given = self.operands.weights or self.operands.scores
        if given is not None:
            return given.shape
        query, key = self.needed("query"), self.needed("key")
        shared = (*key.shape[:-3], key.shape[-3] * self.groups[0]) if key.array.ndim > 2 else ()
        return (*np.broadcast_shapes(query.shape[:-2], shared), query.shape[-2], key.shape[-2])

    @property
    def queries(self) -> int:
        """L_q."""
        return self.shape[-2]

    @property
    def keys(self) -> int:
        """L_k."""
        return self.shape[-1]

    @property
    def labels(self) -> Labels:
        """The names of the queries, where they have any."""
        named = self.operands.weights or self.operands.scores or self.operands.query
        return None if named is None else named.rows

    @property
    def size(self) -> int:
        """How many scores there are."""
        return math.prod(self.shape)

    @property
    def in_blocks(self) -> bool:
        """Whether the output can be had without the weights."""
        computed = self.operands.scores is None and self.operands.weights is None
        kind = self.attention.softmax_dtype
        return computed and (kind is None or np.dtype(kind) == working_type(self.result))

    def unjoined(self) -> "Prepared":
        """The same, with the heads of its output left apart."""
        return replace(self, attention=replace(self.attention, heads=None, kv_heads=None))

    def at(self, index: tuple[int, ...]) -> "Prepared":
        """The work of one matrix among the leading axes: no array in it has such axes."""
        of_key, of_value = self.groups
        groups = {"key": of_key, "value": of_value}
        names = ("query", "key", "value", "scores", "weights")
        taken = {
            name: _matrix_at(one, index, groups.get(name, 1))
            for name, one in self.operands.given().items()
            if name in names
        }
        return replace(
            self.unjoined(),
            operands=Operands(**taken),
            projections=(),
            groups=(1, 1),
            within=self.frame(self.shape).at(index),
        )

    @property
    def width(self) -> int | None:
        """The width d of one head, where anything tells it.

        Raises UsageError where scores have heads, and what should tell has none.
        """
        scores = self.operands.scores
        for one in (self.operands.query, self.operands.key):
            if one is not None:
                if scores is not None and scores.array.ndim > max(one.array.ndim, 2):
                    what = f"the scores {scores.shape} have heads, and {one.shape} has none"
                    raise UsageError(f"{what}; say how many with --heads")
                return one.shape[-1]
        return None


def _matrix_at(one: Labelled, index: tuple[int, ...], group: int) -> Labelled:
    """One matrix of an array whose leading axes broadcast, or are shared at −3."""
    leading = one.shape[:-2]
    place = list(index[len(index) - len(leading) :])
    if place:
        place[-1] //= group
    at = tuple(0 if n == 1 else i for n, i in zip(leading, place, strict=True))
    return replace(one, array=one.array[at])
