"""Whether somebody else's numbers are those that are computed here, step by step.

The reference is computed in float64, and rounded once to the type that theirs are kept in.
Where a cell lies further from it than that type's tolerance, the steps are computed again, each
rounded to the type as a plain implementation does: up to twice its largest error is the type's
own doing, and no fault, unless the errors are larger on the whole too (the rule of
FlashAttention's tests; Dao et al., 2022).
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from qkvcli.core.compare.expected import CHAIN, Compared, Expected, Rules
from qkvcli.core.compare.plain import ATTENTION, SAMPLE, Off, Ways, plain_errors
from qkvcli.core.compare.tally import Tally
from qkvcli.core.compare.tolerance import Tolerance, half_ulp
from qkvcli.core.compare.turned import Turn, fitting, turns
from qkvcli.core.compute import SIZES, Advance, Sizes, silent, steps_of
from qkvcli.core.config import Stage
from qkvcli.core.dense import output_of, score_arrays, weights_of
from qkvcli.core.operands import Array, Operand
from qkvcli.core.problem import Problem
from qkvcli.core.score_steps import Scale
from qkvcli.core.steps import Outline, Step, flat_rows

_INPUTS = ("query", "key", "value")
_SMALL = 0.01
"""The absolute tolerance is at most this part of the largest number: else all small ones agree."""
_TIMES = 2.0
"""How much larger than a plain implementation's the largest error may be."""
_MEAN = 2.0
"""How much larger than a plain implementation's an error may be on the whole."""
_WHOLE = 0.5
"""Half a unit of a number that was written without decimals."""
_FOLLOWED = 2**26
"""How many of somebody else's numbers are taken to go on from."""


class Judge:
    """One comparison: the reference and what belongs to it.

    ``problem`` is in float64 (`fitting.reference_of`). What rounding does is measured on
    ``sample`` scores; errors may be ``times`` as large, and on the whole ``mean`` times.
    """

    def __init__(
        self,
        problem: Problem,
        rules: Rules,
        until: Stage = "output",
        sizes: Sizes = SIZES,
        advance: Advance = silent,
        sample: int = SAMPLE,
        times: float = _TIMES,
        mean: float = _MEAN,
        ways: Ways = ATTENTION,
    ) -> None:
        self.problem, self.rules, self.until = problem, rules, until
        self.sizes, self.advance = sizes, advance
        self.times, self.mean = times, mean
        self.plain = cache(lambda kind: plain_errors(problem, kind, sample, ways))

    @property
    def outlines(self) -> dict[str, Outline]:
        """The steps that can be compared, by name."""
        return {outline.name: outline for outline in self.problem.outlines(self.until)}

    def steps(self) -> dict[str, Step]:
        """The reference."""
        found = steps_of(self.problem, self.until, self.sizes, self.advance)
        return {step.name: step for step in found}

    def judged(
        self,
        step: Step,
        expected: Expected,
        carried: Array | None = None,
        most: float = math.inf,
    ) -> Compared:
        """Compare a step; ``carried`` is how far it may be off by what it was computed from.

        An error larger than ``most`` is not put down to rounding, whatever that may do.
        """
        found: Compared | None = None
        for turned, turn in turns(expected.array.shape, step.shape, self.problem.merged_heads):
            one = self._turned(_Pair(step, expected, turned, turn, carried), most)
            if found is None or not one.differing:
                found = one
            if not one.differing:
                break
        if found is None:
            size = expected.array.size
            tolerance = self.rules.tolerance(expected)
            found = Compared(step, expected, tolerance, size, size, turned=None)
        return found

    def _turned(self, pair: "_Pair", most: float) -> Compared:
        expected, rules = pair.expected, self.rules
        if not rules.usual and expected.halves is not None:  # the rule is all that counts
            pair = pair._replace(expected=replace(expected, halves=None))
            return pair.compared(rules.tolerance(expected), rules.equal_nan)
        tolerance = rules.tolerance(expected)
        found = pair.compared(tolerance, rules.equal_nan)
        written = expected.halves is not None
        if not rules.usual or (written and not found.differing):
            return found
        if not found.differing:
            small = _SMALL * found.sums.size
            if tolerance.atol <= small:
                return found
            return pair.compared(tolerance._replace(atol=small), rules.equal_nan)
        if found.infinite or found.error > most:
            return found
        kind = expected.loose or (rules.inputs if written else expected.kind)
        own = self.plain(kind).get(pair.step.name, Off())
        room = self.times * own.largest
        if not tolerance.atol < room < math.inf:
            return found
        wide = pair.compared(tolerance._replace(atol=room), rules.equal_nan)
        if written:
            return wide
        if not wide.differing and pair.carried is None and wide.sums.error > self.mean * own.mean:
            return found  # rounding is not off on the whole
        return replace(wide, own=own.largest, tolerance=tolerance)

    def going_on(self, expected: Sequence[Expected], name: str) -> "Start | None":
        """Where somebody's steps before one lead; None where there are none that fit."""
        problem, used = self._with_inputs(expected, name)
        before = [e for e in expected if e.name in CHAIN and name in CHAIN]
        before = [e for e in before if CHAIN.index(e.name) < CHAIN.index(name)]
        if not before:
            return Start(problem, used) if used else None
        last = max(before, key=lambda e: CHAIN.index(e.name))
        turn = fitting(last.array.shape, self.problem.shape)
        if turn is None or last.array.size > _FOLLOWED:
            return None
        array = turn(last.array)
        if last.left_out is not None:
            array = np.where(turn(last.left_out), self.steps()[last.name].array, array)
        halves = None if last.halves is None else turn(last.halves)
        if halves is not None:  # on paper one goes on from a whole number as it is
            halves = np.where(halves < _WHOLE, halves, 0)
        if array.size <= SAMPLE and (halves is None or last.loose is not None):
            rounded = half_ulp(array, last.loose or last.kind)
            halves = rounded if halves is None else halves + rounded
        used = [last, *(one for one in used if one.name == "value")]
        return Start(going_on(problem, last.name, array), used, halves)

    def _with_inputs(
        self, expected: Sequence[Expected], name: str
    ) -> tuple[Problem, list[Expected]]:
        """The problem with somebody's query, key and value, where a step is made of them."""
        problem, used = self.problem, []
        for one in expected:
            operand = getattr(problem, one.name) if one.name in _INPUTS else None
            if operand is None or name not in CHAIN or (one.name == "value" and name != "output"):
                continue
            heads = None if problem.merged_heads is None else operand.shape[-3]
            turn = fitting(one.array.shape, operand.shape, heads)
            if turn is not None and one.left_out is None:
                array = turn(one.array).astype(np.float64)
                theirs: dict[str, Any] = {one.name: replace(operand, array=array)}
                problem = replace(problem, **theirs)
                used.append(one)
        return problem, used

    def followed(self, expected: Sequence[Expected], one: Expected) -> "Followed | None":
        """A step computed from somebody's steps before it; None where there are none."""
        start = self.going_on(expected, one.name)
        if start is None:
            return None
        step = next(s for s in steps_of(start.problem, self.until) if s.name == one.name)
        slack = None
        if start.halves is not None:
            slack = carried(start.problem, start.halves, one.name)
        return Followed(start.used, step, slack)


class Start(NamedTuple):
    """A problem that goes on from somebody's steps, and how far those may be off."""

    problem: Problem
    used: list[Expected]
    halves: Array | None = None


class Followed(NamedTuple):
    """A step that was computed from somebody's, which were ``used``, and how far it may be off."""

    used: list[Expected]
    step: Step
    slack: Array | None


class _Pair(NamedTuple):
    """A step, and somebody's numbers for it, turned to its shape."""

    step: Step
    expected: Expected
    turned: str
    turn: Turn
    carried: Array | None

    def compared(self, tolerance: Tolerance, equal_nan: bool) -> Compared:
        """What comes of comparing them, part by part."""
        step, expected = self.step, self.expected
        tally = Tally(step.shape, expected.kind, tolerance, equal_nan)
        theirs = flat_rows(self.turn(expected.array))
        halves, blank = (
            None if side is None else flat_rows(self.turn(side))
            for side in (expected.halves, expected.left_out)
        )
        if self.carried is not None:
            halves = flat_rows(self.carried) + (0 if halves is None else halves)
        done = 0
        for part in step.parts():
            some = slice(done, done + len(part))
            tally.add(
                part,
                theirs[some],
                None if halves is None else halves[some],
                None if blank is None else blank[some],
            )
            done = some.stop
        return Compared(
            outline=step,
            expected=expected,
            tolerance=tolerance,
            cells=tally.cells,
            differing=tally.differing,
            infinite=tally.infinite,
            lost=tally.lost,
            sums=tally.sums,
            bits=tally.bits,
            largest=tally.worst if tally.differing else tally.largest,
            first=tally.first,
            rows=tally.rows.reshape(step.shape[:-1]),
            columns=tally.columns,
            unseeing=tuple(tally.unseeing),
            turned=self.turned,
        )


def going_on(problem: Problem, name: str, array: Array) -> Problem:
    """The problem that has an array for one of its steps, and only computes those after it."""
    taken = Operand(array.astype(np.float64), name, problem.labels, problem.key_labels)
    bare = replace(problem, query=None, key=None, scores=None, given=(), made=())
    if name == "weights":
        return replace(bare, weights=taken, score_steps=())
    names = [step.name for step in problem.score_steps]
    rest = problem.score_steps[names.index(name) + 1 :] if name in names else problem.score_steps
    return replace(bare, scores=taken, score_steps=rest)


def carried(problem: Problem, halves: Array, name: str) -> Array:
    """How far a step may be off where the one that it goes on from may be by ``halves``."""
    with np.errstate(all="ignore"):
        slack = halves
        if problem.weights is None:
            for step in problem.score_steps:
                if isinstance(step, Scale):
                    slack = slack * abs(step.factor)
                if step.name == name:  # a softcap or a mask spreads nothing
                    return slack
            weights = weights_of(problem, score_arrays(problem)[problem.last_score])
            widest = slack.max(axis=-1, keepdims=True, initial=0)
            slack = weights * np.expm1(2 * widest)  # e^(s + δ) over sums of e^(s − δ), at worst
            if name == "weights":
                return slack
        value = problem.value
        if value is None:
            return slack
        sizes = replace(problem, value=replace(value, array=np.abs(value.array)))
        return output_of(sizes, slack)
