"""From prepared operands to the steps, in order; for all queries, or for some rows alone."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from qkvcli.core import attention as arithmetic
from qkvcli.core.arrays import Array, Labelled
from qkvcli.core.description import Attention
from qkvcli.core.masks import Frame
from qkvcli.core.operands import Operands
from qkvcli.core.precision import converted, working_type
from qkvcli.core.prepare import prepared
from qkvcli.core.prepared import Prepared
from qkvcli.core.steps import SCORES, Step, Steps
from qkvcli.errors import UsageError

Stage = Literal["scores", "weights", "output"]


def compute(attention: Attention, operands: Operands, until: Stage = "output") -> Steps:
    """Every step from the operands to the stage asked for.

    The arithmetic is done in float32 or wider, and each step is given back in the inputs'
    own type. Raises ShapeError, DataError or UsageError.
    """
    return take(prepared(attention, operands), until)


def take(work: Prepared, until: Stage, rows: Array | None = None) -> Steps:
    """Every step up to a stage, for the queries ``rows`` (None: all of them).

    A row of attention needs no other row: for ten of a million, ten are computed.
    """
    with np.errstate(all="ignore"):  # inf and NaN are shown where they arise, not warned of
        steps = list(_Taken(work, rows).steps(until))
    return Steps([replace(step, array=converted(step.array, work.result)) for step in steps])


class _Taken:
    """The steps of some rows. Shapes are those of the whole, whatever rows are taken."""

    def __init__(self, work: Prepared, rows: Array | None) -> None:
        self.work = work
        self.rows = rows

    def steps(self, until: Stage) -> Iterator[Step]:
        yield from self.work.projections
        if self.work.operands.weights is None:
            for step in self._to_softmax():
                yield step
            if until == "scores":
                return
            step = self._softmax(step)
            yield step
        else:
            step = self._given("weights", self.work.operands.weights)
        if until == "output":
            yield self._output(step)

    def _to_softmax(self) -> Iterator[Step]:
        """Scores, and what the description asks to be done to them, in the one order."""
        given = self.work.operands.scores
        step = self._scores() if given is None else self._given(given.name or "scores", given)
        yield step
        attention = self.work.attention
        frame = self.work.frame(step.shape)
        if attention.scale is not None:
            _check_before(step, "scaled", "scale")
            step = self._scaled(step)
            yield step
        if attention.softcap is not None:
            _check_before(step, "capped", "softcap")
            step = self._capped(step, attention.softcap)
            yield step
        if frame.hides:
            yield self._masked(step, frame)

    def _picked(self, array: Array) -> Array:
        return array if self.rows is None else array[..., self.rows, :]

    def _step(self, name: str, formula: str, array: Array, *operands: tuple[int, ...]) -> Step:
        queries = array.shape[-2] if self.rows is None else self.work.queries
        whole = (*array.shape[:-2], queries, array.shape[-1])
        return Step(name, formula, operands, array, picked=self.rows, whole=whole)

    def _given(self, name: str, one: Labelled) -> Step:
        return replace(
            self._step(name, name, self._picked(one.array)), rows=one.rows, columns=one.columns
        )

    def _scores(self) -> Step:
        query, key = self.work.needed("query"), self.work.needed("key")
        flipped = (*key.shape[:-2], key.shape[-1], key.shape[-2])
        keys = arithmetic.shared(key.array, self.work.groups[0])
        array = arithmetic.scores(self._picked(query.array), keys)
        step = self._step("scores", "Q·Kᵀ", array, query.shape, flipped)
        return replace(step, rows=query.rows, columns=key.rows)

    def _scaled(self, scores: Step) -> Step:
        attention, width = self.work.attention, self.work.width
        array = arithmetic.scaled(scores.array, attention.scale_of(width))
        formula = f"{scores.name} × {attention.scale_formula(width)}"
        return _after(scores, "scaled", formula, self._still_hidden(scores, array))

    def _capped(self, scores: Step, cap: float) -> Step:
        array = self._still_hidden(scores, arithmetic.capped(scores.array, cap))
        return _after(scores, "capped", f"{cap:g}·tanh({scores.name} / {cap:g})", array)

    def _still_hidden(self, before: Step, array: Array) -> Array:
        """A −∞ among scores that were read is a key that somebody has hidden: it stays so."""
        if self.work.operands.scores is None:
            return array
        return np.where(np.isneginf(before.array), before.array, array)

    def _masked(self, scores: Step, frame: Frame) -> Step:
        *_, queries, keys = scores.shape
        rows = np.arange(queries) if self.rows is None else self.rows
        parts = list(frame.parts(rows, slice(0, keys)))
        array = arithmetic.masked(scores.array, *frame.combined(rows, slice(0, keys)))
        formula = " + ".join([scores.name, *(name for name, _ in parts)])
        shapes = [_of_whole(part.shape, len(rows), queries) for _, part in parts]
        array = array.astype(scores.dtype, copy=False)
        return _after(scores, "masked", formula, array, *shapes)

    def _softmax(self, scores: Step) -> Step:
        kind = self.work.attention.softmax_dtype
        array = scores.array
        if kind is None:
            weights = arithmetic.softmax(array)
        else:
            rounded = converted(converted(array, kind), working_type(np.dtype(kind)))
            weights = converted(converted(arithmetic.softmax(rounded), kind), array.dtype)
        formula = f"softmax({scores.name})" + (f" in {kind}" if kind else "")
        return _after(scores, "weights", formula, weights)

    def _output(self, weights: Step) -> Step:
        value = self.work.needed("value")
        values = arithmetic.shared(value.array, self.work.groups[1])
        array, formula = arithmetic.output(weights.array, values), "weights·V"
        if self.work.attention.heads is not None:
            array, formula = arithmetic.joined(array), "join(weights·V)"
        step = self._step("output", formula, array, weights.shape, value.shape)
        apart = self.work.attention.heads is None
        return replace(step, rows=weights.rows, columns=value.columns, heads=apart)


def _after(scores: Step, name: str, formula: str, array: Array, *others: tuple[int, ...]) -> Step:
    """A step of the shape and the labels of the one before it."""
    return replace(
        scores, name=name, formula=formula, operands=(scores.shape, *others), array=array
    )


def _of_whole(shape: tuple[int, ...], taken: int, queries: int) -> tuple[int, ...]:
    if len(shape) > 1 and shape[-2] == taken:
        return (*shape[:-2], queries, shape[-1])
    return shape


def _check_before(step: Step, name: str, option: str) -> None:
    if SCORES.index(step.name) >= SCORES.index(name):
        raise UsageError(f"{option}: what was read is {step.name} already; leave {option} out")
