"""Hypotheses held against somebody's steps, one after the other."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import NamedTuple, TypeVar

import numpy as np

from qkvcli.core.compare.expected import CHAIN, Compared, Expected
from qkvcli.core.compare.hypotheses import hypotheses, pairs
from qkvcli.core.compare.hypothesis import Hypothesis
from qkvcli.core.compare.judge import Judge
from qkvcli.core.compare.plain import Off, Ways, plain_errors
from qkvcli.core.compare.tally import Sums, sees_nothing
from qkvcli.core.compare.turned import Turn, fitting, onto
from qkvcli.core.config import MADE, MIXED, Kind
from qkvcli.core.operands import Array
from qkvcli.core.output_steps import Taken
from qkvcli.core.shapes import matrix_at
from qkvcli.core.steps import Step

_TRIED = 2**20
"""Of so many scores a hypothesis is computed first; where there are more, of a sample of rows."""
_WHOLE = 2**28
"""With up to so many, one that fits the sample is computed for all of them."""
_SQUARE = 2**24
"""A hypothesis that needs all rows at once is tried on matrices of up to so many scores."""
_TIMES = 5.0
"""How much larger than a plain implementation's, on a sample, the largest error may be."""
_ROUNDED = 2**18
"""On so many scores it is measured what rounding does to a hypothesis."""
_FIRST = 8
"""So many rows are looked at first: most hypotheses end there."""
_FEWEST = 64
"""So many rows are computed at least, where not all are."""


Held = TypeVar("Held")


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
    alone. None is, where a step is wrong that none of them makes, or where there is too little to
    explain: a number or two may be anything.
    """
    wrong = [one for one in found if not one.same]
    bits = sum(one.bits + _BITS_OF_HIDDEN * one.infinite for one in wrong)
    turned = any(one.turned for one in wrong)
    total = 0
    taken = any(isinstance(step, Taken) for step in judge.problem.output_steps)
    if not judge.problem.size and not taken:
        return Tried()
    for made, proof in ((hypotheses, ALONE), (pairs, TOGETHER)):
        if bits < proof.bits and not turned:
            break
        trial, fits = _Trial(judge, expected, found, proof), list[Fit]()
        for hypothesis in made(judge.reference, judge.problem, expected):
            total += 1
            fit = trial.fit(hypothesis)
            if fit is not None:
                fits.append(fit)
        if fits:
            best = min(fit.error for fit in fits)
            close = (fit for fit in fits if fit.error <= _AS_GOOD * best + _TINY)
            return Tried(tuple(close), total)
    return Tried((), total)


class Proof(NamedTuple):
    """What a fit has to show: how many ``bits`` it explains at least, and how well.

    ``share`` is how large its errors may be on the whole, as a part of how much theirs vary.
    """

    bits: float
    share: float


ALONE, TOGETHER = Proof(24, 0.05), Proof(34, 0.01)
"""There are some dozens of hypotheses, and some thousand pairs of them."""
_BITS_OF_HIDDEN = 4.0
"""What a key is worth that is hidden on one side alone."""
_LEVEL = 1e-3
"""Where theirs do not vary, how large errors may be as a part of theirs."""
_AS_GOOD, _TINY = 1e3, 1e-12
"""A fit that is so much worse than another is none beside it."""


class _Trial:
    """Somebody's steps, made ready to be held against one hypothesis after the other."""

    def __init__(
        self,
        judge: Judge,
        expected: Sequence[Expected],
        found: Sequence[Compared],
        proof: Proof,
    ) -> None:
        self.judge = self.ours = judge
        self.rules, self.proof = judge.rules, proof
        self.made = [e for e in expected if e.name in MADE]
        self.expected = [e for e in expected if e.name in CHAIN]
        self.problem = judge.problem
        self.until = judge.until
        self.outlines = judge.outlines
        self.together = any(self._together(one) for one in self.expected)
        self.small = self.problem.size <= _TRIED
        self.known = {one.name: one for one in found}
        self.rows = self._sampled(found)
        self.first = next((one.name for one in found if one.differing), "")
        self.digits = {
            one.name: float(np.mean(one.halves)) for one in expected if one.halves is not None
        }

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
        # with its own rounding, of which few rows tell little; `_near` bounds it on the whole
        self.judge = Judge(
            self.ours.reference,
            self.rules,
            hypothesis.problem,
            times=_TIMES,
            mean=math.inf,
            plain=partial(self._plain, hypothesis),
        )
        if self.small:
            error = self._error(hypothesis, everything, every=True)
            return None if error is None else Fit(hypothesis, error)
        at_once = math.prod(self.problem.shape[-2:])
        if hypothesis.joins or (self.together and hypothesis.whole):  # needs all heads besides
            at_once = self.problem.size
        needs_all = hypothesis.whole or hypothesis.joins
        if needs_all and (at_once > _SQUARE or self.strict):
            return None
        rows = everything if hypothesis.whole else self.rows
        error = self._error(hypothesis, rows, every=False)
        if error is not None and self.problem.size <= _WHOLE:
            error, rows = self._error(hypothesis, everything, every=True), everything
        if error is None:
            return None
        return Fit(hypothesis, error, None if rows is everything else len(rows))

    def _plain(self, hypothesis: Hypothesis, kind: Kind) -> dict[str, Off]:
        """What rounding does to a hypothesis; to Q, K and V on their way, what it does to ours."""
        ways = Ways(hypothesis.softmax, hypothesis.mixed)
        made = self.ours.plain(kind) if self.made else {}
        found = made | plain_errors(hypothesis.problem, kind, _ROUNDED, ways, on_the_way=False)
        return found | {one.name: _named(found, one.name) for one in self.expected}

    def _together(self, one: Expected) -> bool:
        """Whether a step needs all heads: they are joined in it, and can't be taken apart."""
        step = self.outlines[one.name]
        return not step.has_heads and self.ours.reference.joined(step) is None

    @property
    def strict(self) -> bool:
        """Whether two hypotheses are tried together."""
        return self.proof is TOGETHER

    def _places(self, every: bool) -> list[tuple[int, ...]]:
        """The matrices that are looked at: all, or the first, the last and some between."""
        places = list(np.ndindex(*self.problem.leading))
        if every or len(places) <= 4:
            return places
        return [places[i * (len(places) - 1) // 3] for i in range(4)]

    def _error(self, hypothesis: Hypothesis, rows: Array, every: bool) -> float | None:
        """The largest error over some rows; None as soon as a cell differs."""
        sums: dict[str, Sums] = {}
        largest = 0.0
        pieces = self._apart
        if self.together or hypothesis.joins:
            pieces = self._joined
        with np.errstate(all="ignore"):
            for found in chain(self._on_the_way(hypothesis), pieces(hypothesis, rows, every)):
                if found is None:
                    return None
                largest = max(largest, found.error)
                sums[found.name] = sums.get(found.name, Sums()).plus(found.sums)
        return largest if all(map(self._near, sums, sums.values())) else None

    def _near(self, name: str, sums: Sums) -> bool:
        """Whether a step that was wrong is explained well, and not only within wide bounds."""
        known = self.known[name]
        if not known.differing:
            return True
        bound = max(self.proof.share * sums.spread, _LEVEL * sums.level)
        if name != self.first:  # what the first fault proves, few digits need not prove again
            bound = max(bound, self.digits.get(name, 0.0))
        return sums.error <= bound

    def _apart(self, hypothesis: Hypothesis, rows: Array, every: bool) -> Iterator[Compared | None]:
        """Each step of each matrix, some rows at a time."""
        for place in self._places(every):
            matrix = hypothesis.problem.with_matrix(place)
            for some in self._pieces(hypothesis, rows):
                part = matrix if hypothesis.whole else matrix.with_rows(some)
                arrays = hypothesis.arrays(part, self.until)
                for one in self.expected:
                    array = _named(arrays, one.name)
                    turn = self._turn(one, array.shape[-1])
                    yield self._compared(one, array, turn and _at(turn, place, some))

    def _on_the_way(self, hypothesis: Hypothesis) -> Iterator[Compared | None]:
        """Each step that makes Q, K and V; where the hypothesis has none, the one before it."""
        problem = hypothesis.problem
        there = {step.name: step for step in (*problem.given, *problem.made)}
        for one in self.made:
            side = [name for name in MADE if name.partition("_")[0] == one.name.partition("_")[0]]
            known = [there[name] for name in side[: side.index(one.name) + 1] if name in there]
            if not known:
                yield None
                return
            step = known[-1]
            turn = onto(one.array.shape, step, self.ours.reference.joined(step))
            yield self._compared(one, step.array, turn)

    def _turn(self, one: Expected, width: int) -> Turn | None:
        """What brings somebody's step to matrices, its heads apart."""
        if one.name not in MIXED:
            return fitting(one.array.shape, self.problem.shape)
        shape = (*self.problem.leading, self.problem.shape[-2], width)
        return fitting(one.array.shape, shape, self.problem.merged_heads)

    def _pieces(self, hypothesis: Hypothesis, rows: Array) -> Iterator[Array]:
        """The rows that are computed together: few at first."""
        if hypothesis.whole or hypothesis.joins:
            yield np.arange(self.problem.shape[-2])
            return
        matrices = math.prod(self.problem.leading) if self.together else 1
        together = max(_TRIED // max(self.problem.shape[-1] * matrices, 1), 1)
        yield rows[:_FIRST]
        for i in range(_FIRST, len(rows), together):
            yield rows[i : i + together]

    def _joined(
        self, hypothesis: Hypothesis, rows: Array, every: bool
    ) -> Iterator[Compared | None]:
        """The same for all matrices together, where a step needs all heads."""
        count = self.problem.shape[-2]
        for some in self._pieces(hypothesis, rows):
            part = hypothesis.problem
            if not (hypothesis.whole or hypothesis.joins):
                part = part.with_rows(some)
            arrays = hypothesis.arrays(part, self.until)
            for one in self.expected:
                array = _named(arrays, one.name)
                shape = (*array.shape[:-2], count, array.shape[-1])
                turn = onto(
                    one.array.shape,
                    replace(self.outlines[one.name], shape=shape),
                    self.ours.reference.joined(self.outlines[one.name]),
                )
                yield self._compared(one, array, turn and _rows(turn, some))

    def _compared(self, one: Expected, array: Array, turn: Turn | None) -> Compared | None:
        """What comes of one step; None where it differs."""
        if turn is None:
            return None
        piece = one.turned(turn)
        lost = np.isnan(piece.array).any(axis=-1) & sees_nothing(array)
        if lost.any():  # NaN is what many make of a row that sees no key
            rows = np.broadcast_to(lost[..., None], array.shape)
            blank = rows if piece.left_out is None else piece.left_out | rows
            piece = replace(piece, left_out=blank)
        known = self.known[one.name]
        # rounding alone could explain anything, where a hypothesis makes scores large
        most = known.error / 4 if known.differing else 1.01 * known.error
        found = self.judge.judged(Step.held(one.name, array), piece, most=most)
        return None if found.differing or found.turned else found


def _named(found: dict[str, Held], name: str) -> Held:
    """A step, or, where the hypothesis has none of that name, the one before it."""
    known = [known for known in CHAIN[: CHAIN.index(name) + 1] if known in found]
    return found[known[-1]] if known else found[next(iter(found))]


def _rows(turn: Turn, rows: Array) -> Turn:
    """The rows of all matrices of what a turn gives."""
    return lambda array: turn(array)[..., rows, :]


def _at(turn: Turn, place: tuple[int, ...], rows: Array) -> Turn:
    """The rows of one matrix of what a turn gives."""
    return lambda array: matrix_at(turn(array), place)[rows]
