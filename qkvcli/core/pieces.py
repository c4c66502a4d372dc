"""The output of attention in pieces: some queries of one head, for all that they see.

A piece needs no other piece. Whatever maps them gives their results in order: threads
(`threads.ordered`), or processes on this machine or on others, for which what all pieces share
can be pickled.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from threading import Event, Lock
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from qkvcli.core.blocks import Blocks, Mixed, blocks_seen
from qkvcli.core.dtypes import working_dtype
from qkvcli.core.operands import Array, Shape
from qkvcli.core.problem import Problem, needed
from qkvcli.core.shapes import matrix_at

Place: TypeAlias = tuple[tuple[int, ...], slice]
"""Some rows of one matrix: its leading index, and which rows."""


class Piece(NamedTuple):
    """Where some queries are, and their numbers (n, d)."""

    place: Place
    query: Array


class Mixing:
    """What all pieces of an output share: the keys, the values, and how scores are made.

    Rows are computed in blocks of ``queries`` and ``keys``, whatever the size of a piece: so the
    numbers do not depend on how the work is spread. ``wants_sum`` as in `Blocks`.
    """

    def __init__(self, problem: Problem, queries: int, keys: int, wants_sum: bool = False) -> None:
        key, value = (
            replace(needed(operand, name), rows=None, columns=None)
            for operand, name in ((problem.key, "key"), (problem.value, "value"))
        )
        self.problem = replace(
            problem,
            dtype=working_dtype(problem.dtype),
            query=None,
            key=key,
            value=value,
            given=(),
            made=(),
            turned={},
            output_steps=(),
        )
        self.queries, self.keys, self.wants_sum = queries, keys, wants_sum
        self._matrices: dict[tuple[int, ...], Problem] = {}
        self._blocks: dict[tuple[int, ...], Blocks] = {}
        self._making = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it is made of."""
        return Mixing, (self.problem, self.queries, self.keys, self.wants_sum)

    def blocks(self, index: tuple[int, ...]) -> Blocks:
        """One matrix's keys and values, made ready at the first look."""
        with self._making:  # or each thread would make them for itself
            if index not in self._blocks:
                self._blocks[index] = Blocks(self._matrix(index), self.keys, self.wants_sum)
            return self._blocks[index]

    def _matrix(self, index: tuple[int, ...]) -> Problem:
        if index not in self._matrices:
            self._matrices[index] = self.problem.with_matrix(index)
        return self._matrices[index]

    def count(self, place: Place) -> int:
        """How many blocks of keys a piece goes through."""
        index, rows = place
        return sum(
            len(blocks_seen(self._matrix(index), self.keys, part)) for part in self._parts(rows)
        )

    def __call__(self, piece: Piece, stop: Event, tick: Callable[[], None] = lambda: None) -> Mixed:
        """The output of a piece.

        ``tick`` is called after each block of keys. Raises CalledOffError once ``stop`` is set.
        """
        index, rows = piece.place
        blocks = self.blocks(index)
        found = [
            blocks.output(
                np.asarray(piece.query[part.start - rows.start : part.stop - rows.start]),
                part,
                stop,
                tick,
            )
            for part in self._parts(rows)
        ]
        if len(found) == 1:
            return found[0]
        sums = [mixed.log_sum_exp for mixed in found if mixed.log_sum_exp is not None]
        return Mixed(
            np.concatenate([mixed.output for mixed in found]),
            np.concatenate(sums) if sums else None,
        )

    def _parts(self, rows: slice) -> Iterator[slice]:
        for first in range(rows.start, rows.stop, self.queries):
            yield slice(first, min(first + self.queries, rows.stop))


class Crew(Protocol):
    """Whatever maps the pieces: many ``workers``, each of which takes one after the other."""

    @property
    def workers(self) -> int:
        """How many pieces are worked on at a time."""

    def __call__(self, mixing: Mixing, pieces: Iterator[Piece]) -> Iterator[Mixed]:
        """The results of the pieces, in their order; few pieces are drawn ahead."""

    def once(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives, called by one of the workers: work too little to be parted."""


def places(leading: Shape, queries: int, rows: int, merged: bool = False) -> list[Place]:
    """All matrices' rows, this many at a time: one matrix after the other.

    Where their heads are to be ``merged``, the heads of the same rows follow each other.

    >>> places((2,), 3, 2)
    [((0,), slice(0, 2, None)), ((0,), slice(2, 3, None)), ((1,), slice(0, 2, None)), \
((1,), slice(2, 3, None))]
    >>> [index for index, _ in places((2,), 3, 2, merged=True)]
    [(0,), (1,), (0,), (1,)]
    """
    parts = [slice(i, min(i + rows, queries)) for i in range(0, queries, rows)]
    if not merged:
        return list(product(np.ndindex(*leading), parts))
    *batches, heads = leading
    return [
        ((*batch, head), part)
        for batch in np.ndindex(*batches)
        for part in parts
        for head in range(heads)
    ]


def piece_at(query: Array, place: Place) -> Piece:
    """The piece of a place, of all queries (…, L_q, d)."""
    index, rows = place
    return Piece(place, matrix_at(query, index)[rows])
