"""Operands and score steps that fit together: all that is known before a product is taken."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from qkvcli.core.config import AttentionConfig, Stage
from qkvcli.core.dtypes import Float
from qkvcli.core.masks import Visibility
from qkvcli.core.naming import Names
from qkvcli.core.operands import Array, Labels, Operand, Shape
from qkvcli.core.output_steps import OutputStep
from qkvcli.core.positions import Positions
from qkvcli.core.score_steps import Mask, ScoreStep
from qkvcli.core.shapes import along, broadcast_leading, matrix_at
from qkvcli.core.steps import Outline, Step
from qkvcli.errors import UsageError


class Groups(NamedTuple):
    """How many query heads share each head of K, and of V."""

    key: int = 1
    value: int = 1


@dataclass(frozen=True, eq=False)
class Problem:
    """Operands that fit together, in the working dtype, and what is to be done to them.

    ``query``, ``key`` and ``value`` are as they enter attention: projected, normed, split into
    heads, turned, and with their cache before them. ``scores`` or ``weights`` stand where those
    steps were given. ``given`` are the steps that were not computed, ``made`` those that made Q,
    K and V; ``turned`` says where the rows of the "query" and of the "key" stood when they were
    turned, those of a cache apart. ``score_steps`` are those from Q·Kᵀ to the softmax, which
    ``sinks`` (H, 1, 1) join, and ``output_steps`` those after the output.
    ``dtype`` is that of the results. The ``with_`` methods give the problem of a part.
    """

    config: AttentionConfig
    dtype: Float
    query: Operand | None = None
    key: Operand | None = None
    value: Operand | None = None
    scores: Operand | None = None
    weights: Operand | None = None
    given: tuple[Step, ...] = ()
    made: tuple[Step, ...] = ()
    turned: Mapping[str, Positions] = field(default_factory=dict)
    groups: Groups = Groups()
    score_steps: tuple[ScoreStep, ...] = ()
    sinks: Array | None = None
    output_steps: tuple[OutputStep, ...] = ()

    @property
    def shape(self) -> Shape:
        """The shape of the scores, (…, L_q, L_k)."""
        given = self.weights or self.scores
        if given is not None:
            return given.shape
        query, key = needed(self.query, "query"), needed(self.key, "key")
        leading = broadcast_leading(query.shape[:-2], key.shape[:-2], self.groups.key)
        return (*leading, query.shape[-2], key.shape[-2])

    @property
    def size(self) -> int:
        """How many scores there are."""
        return math.prod(self.shape)

    @property
    def leading(self) -> Shape:
        """The leading axes of the output, before its heads are merged; without V, of the scores."""
        if self.value is None:
            return self.shape[:-2]
        return broadcast_leading(self.shape[:-2], self.value.shape[:-2], self.groups.value)

    @property
    def past(self) -> int:
        """How many keys a cache put before those of the queries' own tokens."""
        steps = (*self.given, *self.made)
        own = next((step.shape[-2] for step in steps if step.name == "key"), None)
        return 0 if own is None or self.key is None else self.key.shape[-2] - own

    @property
    def hidden(self) -> Array | None:
        """True where a query may not see a key, (…, L_q, L_k); None where nothing hides one.

        A −∞ among scores that were given is such a key, one that was computed is not.
        """
        seen, given = self.visibility, self.scores
        if seen is None:
            return None if given is None else np.isneginf(given.array)
        visible, _ = seen.combined(slice(0, self.shape[-2]), slice(0, self.shape[-1]))
        hidden = ~visible if given is None else ~visible | np.isneginf(given.array)
        return np.broadcast_to(hidden, self.shape)

    @property
    def labels(self) -> Labels:
        """The labels of the queries, where they have any."""
        named = self.weights or self.scores or self.query
        return None if named is None else named.rows

    @property
    def key_labels(self) -> Labels:
        """The labels of the keys, where they have any."""
        given = self.weights or self.scores
        if given is not None:
            return given.columns
        return None if self.key is None else self.key.rows

    @cached_property
    def query_names(self) -> Names:
        """What the queries are called, each by a name of its own."""
        return Names(self.labels, self.shape[-2])

    @cached_property
    def key_names(self) -> Names:
        """What the keys are called."""
        return Names(self.key_labels, self.shape[-1])

    @property
    def visibility(self) -> Visibility | None:
        """What the mask hides, where there is one."""
        masks = (step.visibility for step in self.score_steps if isinstance(step, Mask))
        return next(masks, None)

    @property
    def merged_heads(self) -> int | None:
        """How many heads of the output are merged, where they are."""
        return None if self.config.head_counts is None else self.config.head_counts[0]

    @property
    def in_blocks(self) -> bool:
        """Whether the output can be computed without the weights."""
        return self.scores is None and self.weights is None

    def outlines(self, until: Stage = "output") -> tuple[Outline, ...]:
        """Every step up to a stage, as it is known before it is computed."""
        found: list[Outline] = list(self.made)
        if self.weights is None:
            found += self._score_outlines()
            if until == "scores":
                return tuple(found)
            softmax = self.config.softmax_kind
            sinks = "" if self.sinks is None else " and sinks"
            formula = f"softmax({self.last_score}{sinks})" + (f" in {softmax}" if softmax else "")
            more = () if self.sinks is None else (", ", (self.sinks.size,))
            weights = self._score_outline("weights", formula, (self.shape, *more))
            found.append(replace(weights, sinks=self.sinks is not None))
        if until == "output":
            found += self._output_outlines()
        return tuple(found)

    @property
    def first_score(self) -> str:
        """The first of the steps up to the softmax: Q·Kᵀ, or the one that was given."""
        return "scores" if self.scores is None else self.scores.name

    @property
    def last_score(self) -> str:
        """The last of them, whose softmax is taken."""
        return self.score_steps[-1].name if self.score_steps else self.first_score

    def _score_outlines(self) -> list[Outline]:
        found = []
        if self.scores is None:
            query, key = needed(self.query, "query"), needed(self.key, "key")
            turned = (*key.shape[:-2], key.shape[-1], key.shape[-2])
            found.append(self._score_outline("scores", self.product, (query.shape, "·", turned)))
        before = self.first_score
        for step in self.score_steps:
            more = [part for term in step.added for part in (" + ", term)]
            terms = (self.shape, *more)
            found.append(self._score_outline(step.name, step.formula(before), terms))
            before = step.name
        return found

    @property
    def product(self) -> str:
        """Q·Kᵀ, or by their names those queries and keys that were normed or turned."""
        names = [step.name for step in self.made]
        query, key = (
            next((name for name in reversed(names) if name.startswith(side)), side)
            for side in ("query", "key")
        )
        return "Q·Kᵀ" if (query, key) == ("query", "key") else f"{query}·{key}ᵀ"

    def _score_outline(self, name: str, formula: str, terms: tuple[Shape | str, ...]) -> Outline:
        return Outline.typed(
            name, formula, terms, self.shape, self.dtype, self.labels, self.key_labels
        )

    def _output_outlines(self) -> list[Outline]:
        value = needed(self.value, "value")
        shape = (*self.leading, self.shape[-2], value.shape[-1])
        formula, apart = "weights·V", self.merged_heads is None
        if self.merged_heads is not None:
            *leading, heads, rows, width = shape
            shape, formula = (*leading, rows, heads * width), f"join({formula})"
        terms: tuple[Shape | str, ...] = (self.shape, "·", value.shape)
        columns, name = value.columns, "output"
        found = []
        for step in (None, *self.output_steps):
            if step is not None:
                formula, terms, shape = step.formula(name), step.terms(shape), step.shape(shape)
                apart, name = apart and not step.joins, step.name
                columns = columns if name == "gated" else None
            found.append(
                Outline.typed(name, formula, terms, shape, self.dtype, self.labels, columns, apart)
            )
        return found

    def with_rows(self, rows: Array) -> "Problem":
        """The problem of some queries alone: a row of attention needs no other row."""
        return self._part(
            lambda operand: _rows_of(operand, rows),
            self.key,
            self.value,
            lambda step: step.for_rows(rows),
            lambda step: step.for_rows(rows),
            given=_steps_rows(self.given, rows),
            made=_steps_rows(self.made, rows),
            turned={
                name: places.for_rows(rows) if name == "query" else places
                for name, places in self.turned.items()
            },
        )

    def with_heads(self, numbers: tuple[int, ...]) -> "Problem":
        """The problem of some heads of the scores alone; those of the output are not merged."""
        key, of_key = _shared(self.key, numbers, self.groups.key)
        value, of_value = _shared(self.value, numbers, self.groups.value)
        return self.apart()._part(
            lambda operand: _along(operand, -3, numbers),
            key,
            value,
            lambda step: step.for_axis(-3, numbers),
            lambda step: step.for_axis(-3, numbers),
            sinks=None if self.sinks is None else along(self.sinks, -3, numbers),
            groups=Groups(of_key, of_value),
            turned=self._turned(lambda places: places.for_axis(-3, numbers)),
        )

    def with_batches(self, numbers: tuple[int, ...]) -> "Problem":
        """The problem of some batches alone."""
        return self._part(
            lambda operand: _along(operand, -4, numbers),
            None if self.key is None else _along(self.key, -4, numbers),
            None if self.value is None else _along(self.value, -4, numbers),
            lambda step: step.for_axis(-4, numbers),
            lambda step: step.for_axis(-4, numbers),
            turned=self._turned(lambda places: places.for_axis(-4, numbers)),
        )

    def with_matrix(self, index: tuple[int, ...]) -> "Problem":
        """The problem of one matrix among the leading axes: views, which have none."""

        def at(operand: Operand, group: int = 1) -> Operand:
            return replace(operand, array=matrix_at(operand.array, index, group))

        deep = self.value is not None and self.value.array.ndim - 2 > len(index)
        value = None if deep else self.value  # then only weights are asked for
        return self.apart()._part(
            at,
            None if self.key is None else at(self.key, self.groups.key),
            None if value is None else at(value, self.groups.value),
            lambda step: step.for_matrix(index),
            lambda step: step.for_matrix(index),
            sinks=None if self.sinks is None else matrix_at(self.sinks, index),
            groups=Groups(),
            given=(),
            made=(),
            turned=self._turned(lambda places: places.for_matrix(index)),
        )

    def converted(self) -> "Problem":
        """The same with its keys and values converted whole: all rows need them again and again."""
        return replace(
            self,
            key=self.key and replace(self.key, array=self.key.numbers),
            value=self.value and replace(self.value, array=self.value.numbers),
        )

    def apart(self) -> "Problem":
        """The same, with the heads of its output not merged."""
        config = replace(self.config, heads=None, kv_heads=None)
        return replace(
            self, config=config, output_steps=tuple(step.apart() for step in self.output_steps)
        )

    def _turned(self, change: Callable[[Positions], Positions]) -> dict[str, Positions]:
        return {name: change(places) for name, places in self.turned.items()}

    def _part(
        self,
        queries: Callable[[Operand], Operand],
        key: Operand | None,
        value: Operand | None,
        steps: Callable[[ScoreStep], ScoreStep],
        after: Callable[[OutputStep], OutputStep],
        **others: Any,
    ) -> "Problem":
        """Other keys and values, and what ``queries`` and ``steps`` make of the rest."""
        return replace(
            self,
            query=None if self.query is None else queries(self.query),
            scores=None if self.scores is None else queries(self.scores),
            weights=None if self.weights is None else queries(self.weights),
            key=key,
            value=value,
            score_steps=tuple(map(steps, self.score_steps)),
            output_steps=tuple(map(after, self.output_steps)),
            **others,
        )


def needed(operand: Operand | None, name: str) -> Operand:
    """An operand that the work can't do without. Raises UsageError."""
    if operand is None:
        raise UsageError(f"no {name} was given")
    return operand


def _rows_of(operand: Operand, rows: Array) -> Operand:
    """Some rows of an operand, with their labels, or their numbers where they have none."""
    return replace(operand, array=operand.array[..., rows, :], rows=_labels_of(operand.rows, rows))


def _labels_of(labels: Labels, rows: Array) -> Labels:
    return tuple(str(i) if labels is None else labels[i] for i in rows.tolist())


def _steps_rows(steps: tuple[Step, ...], rows: Array) -> tuple[Step, ...]:
    """Steps that were given or made, with some rows of those that have one for each query."""
    return tuple(
        step.rows_of(rows, _labels_of(step.rows, rows)) if step.of_queries else step
        for step in steps
    )


def _along(operand: Operand, axis: int, numbers: tuple[int, ...]) -> Operand:
    return replace(operand, array=along(operand.array, axis, numbers))


def _shared(
    operand: Operand | None, numbers: tuple[int, ...], group: int
) -> tuple[Operand | None, int]:
    """The heads of K or V that some heads of the scores use, and how many share each."""
    if operand is None:
        return None, 1
    runs = [(head, len(list(run))) for head, run in groupby(n // group for n in numbers)]
    heads, sizes = zip(*runs, strict=True)
    if len(set(sizes)) > 1 or len(set(heads)) < len(heads):  # shared unevenly: each on its own
        return _along(operand, -3, tuple(n // group for n in numbers)), 1
    return _along(operand, -3, heads), sizes[0] if len(heads) > 1 else 1
