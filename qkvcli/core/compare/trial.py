"""Hypotheses held against somebody's steps, one after the other."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from qkvcli.core.compare.expected import CHAIN, Compared, Expected
from qkvcli.core.compare.hypotheses import Hypothesis, hypotheses, pairs
from qkvcli.core.compare.judge import Judge
from qkvcli.core.compare.turned import Turn, fitting
from qkvcli.core.operands import Array
from qkvcli.core.problem import Problem
from qkvcli.core.shapes import matrix_at
from qkvcli.core.steps import Step

_TRIED = 2**20
"""Of so many scores a hypothesis is computed first; where there are more, of a sample of rows."""
_WHOLE = 2**28
"""With up to so many, one that fits the sample is computed for all of them."""
_ROUNDED = 2**14
"""On so many scores it is measured what rounding does to a hypothesis."""
_FIRST = 8
"""So many rows are looked at first: most hypotheses end there."""
_FEWEST = 64
"""So many rows are computed at least, where not all are."""


class Fit(NamedTuple):
    """A hypothesis that fits, to within the largest ``error``.

    ``rows`` says how many rows were computed, where not all were; ``step`` whose fault it is,
    where that step alone was looked at.
    """

    hypothesis: Hypothesis
    error: float
    rows: int | None = None
    step: str | None = None


class Tried(NamedTuple):
    """Those that fit, and how many were tried in all."""

    fits: tuple[Fit, ...] = ()
    total: int = 0


def tried(judge: Judge, expected: Sequence[Expected], found: Sequence[Compared]) -> Tried:
    """Try every hypothesis on somebody's steps, ``found`` being what came of comparing them.

    Those that this input does not tell apart all fit. Two together are tried where none fits
    alone.
    """
    trial = _Trial(judge, expected, found)
    total = 0
    for some in (hypotheses(judge.problem, expected), pairs(judge.problem, expected)):
        fits = []
        for hypothesis in some:
            total += 1
            fit = trial.fit(hypothesis)
            if fit is not None:
                fits.append(fit)
        if fits:
            return Tried(tuple(fits), total)
    return Tried((), total)


class _Trial:
    """Somebody's steps, made ready to be held against one hypothesis after the other."""

    def __init__(
        self, judge: Judge, expected: Sequence[Expected], found: Sequence[Compared]
    ) -> None:
        self.judge, self.rules = judge, judge.rules
        self.expected = [e for e in expected if e.name in CHAIN]
        self.problem = judge.problem
        self.until = judge.until
        self.small = self.problem.size <= _TRIED
        self.errors = {one.name: (one.same, one.error) for one in found}
        self.rows = self._sampled(found)

    def _sampled(self, found: Sequence[Compared]) -> Array:
        """The rows that are computed first: the first that differ, and some of all."""
        count = self.problem.shape[-2]
        if self.small:
            return np.arange(count)
        matrices = min(math.prod(self.problem.leading), 4)
        most = max(_TRIED // (matrices * max(self.problem.shape[-1], 1)), _FEWEST)
        wrong = [c.rows.reshape(-1, count) for c in found if c.rows.shape[-1:] == (count,)]
        first = [np.flatnonzero(rows.any(axis=0))[: most // 2] for rows in wrong]
        spread = np.arange(most) * count // most
        picked: Array = np.unique(np.concatenate([*first, spread]))
        return picked

    def fit(self, hypothesis: Hypothesis) -> Fit | None:
        """The fit, if somebody's numbers are the hypothesis's."""
        everything = np.arange(self.problem.shape[-2])
        # with its own rounding
        self.judge = Judge(hypothesis.problem, self.rules, self.until, sample=_ROUNDED)
        if hypothesis.whole:
            if self.problem.size > 16 * _TRIED:
                return None
            error = self._error(hypothesis, everything, every=True)
            return None if error is None else Fit(hypothesis, error)
        error = self._error(hypothesis, self.rows, self.small)
        if error is None or self.small:
            return None if error is None else Fit(hypothesis, error)
        if self.problem.size > _WHOLE:
            return Fit(hypothesis, error, len(self.rows))
        error = self._error(hypothesis, everything, every=True)
        return None if error is None else Fit(hypothesis, error)

    def _places(self, every: bool) -> list[tuple[int, ...]]:
        """The matrices that are looked at: all, or the first, the last and some between."""
        places = list(np.ndindex(*self.problem.leading))
        if every or len(places) <= 4:
            return places
        return [places[i * (len(places) - 1) // 3] for i in range(4)]

    def _error(self, hypothesis: Hypothesis, rows: Array, every: bool) -> float | None:
        """The largest error over some rows; None as soon as a cell differs."""
        largest = 0.0
        with np.errstate(all="ignore"):
            if hypothesis.merged is not None:
                return self._joined(hypothesis)
            for place in self._places(every):
                matrix = hypothesis.problem.with_matrix(place)
                for some in self._pieces(hypothesis, rows):
                    error = self._part(hypothesis, matrix, place, some)
                    if error is None:
                        return None
                    largest = max(largest, error)
        return largest

    def _pieces(self, hypothesis: Hypothesis, rows: Array) -> Iterator[Array]:
        """The rows that are computed together: few at first."""
        if hypothesis.whole:
            yield rows
            return
        together = max(_TRIED // max(self.problem.shape[-1], 1), 1)
        yield rows[:_FIRST]
        for i in range(_FIRST, len(rows), together):
            yield rows[i : i + together]

    def _joined(self, hypothesis: Hypothesis) -> float | None:
        """The same, where the heads are joined in another way: all of the output at once."""
        arrays = hypothesis.arrays(hypothesis.problem.apart(), self.until)
        largest = 0.0
        for one in self.expected:
            array = _named(arrays, one.name)
            if one.name == "output" and hypothesis.merged is not None:
                array = hypothesis.merged(array)
            error = self._compared(one, array, fitting(one.array.shape, array.shape, None))
            if error is None:
                return None
            largest = max(largest, error)
        return largest

    def _part(
        self, hypothesis: Hypothesis, matrix: Problem, place: tuple[int, ...], rows: Array
    ) -> float | None:
        part = matrix if hypothesis.whole else matrix.with_rows(rows)
        arrays = hypothesis.arrays(part, self.until)
        largest = 0.0
        for one in self.expected:
            array = _named(arrays, one.name)
            shape = self.problem.shape
            if one.name == "output":
                shape = (*self.problem.leading, shape[-2], array.shape[-1])
            heads = self.problem.merged_heads if one.name == "output" else None
            turn = fitting(one.array.shape, shape, heads)
            error = self._compared(one, array, None if turn is None else _at(turn, place, rows))
            if error is None:
                return None
            largest = max(largest, error)
        return largest

    def _compared(self, one: Expected, array: Array, turn: Turn | None) -> float | None:
        """The largest error of one step; None where it differs."""
        if turn is None:
            return None
        halves, blank = (
            None if side is None else turn(side) for side in (one.halves, one.left_out)
        )
        piece = replace(one, array=turn(one.array), halves=halves, left_out=blank)
        found = self.judge.judged(Step.held(one.name, array), piece)
        if found.differing or found.turned:
            return None
        if found.own is not None and found.error > self._most(one.name):
            return None
        return found.error

    def _most(self, name: str) -> float:
        """The largest error that may be put down to rounding: well below what is to be explained.

        Rounding alone could explain anything, where a hypothesis makes scores large.
        """
        same, error = self.errors.get(name, (True, 0.0))
        return 1.01 * error if same else error / 4


def _named(arrays: dict[str, Array], name: str) -> Array:
    """A step, or, where the hypothesis has none of that name, the one before it."""
    known = [known for known in CHAIN[: CHAIN.index(name) + 1] if known in arrays]
    return arrays[known[-1]] if known else arrays[next(iter(arrays))]


def _at(turn: Turn, place: tuple[int, ...], rows: Array) -> Turn:
    """The rows of one matrix of what a turn gives."""
    return lambda array: matrix_at(turn(array), place)[rows]
