"""Whether somebody else's numbers are those that are computed here, step by step.

The reference is computed in float64, and rounded once to the type that theirs are kept in.
Where a cell lies further from it than that type's tolerance, the steps are computed again, each
rounded to the type as a plain implementation does: up to twice its largest error is the type's
own doing, and no fault, unless the errors are larger on the whole too (the rule of
FlashAttention's tests; Dao et al., 2022).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple, TypeAlias

import numpy as np

from qkvcli.core.compare.expected import CHAIN, Compared, Expected, Rules
from qkvcli.core.compare.following import carried, going_on
from qkvcli.core.compare.plain import SAMPLE, Off, plain_errors
from qkvcli.core.compare.reference import Reference
from qkvcli.core.compare.tally import Tally
from qkvcli.core.compare.tolerance import Tolerance, half_ulp
from qkvcli.core.compare.turned import Turn, onto, turns
from qkvcli.core.compute import SIZES, Advance, Sizes, silent, steps_of
from qkvcli.core.config import MADE, MIXED, Kind
from qkvcli.core.operands import Array
from qkvcli.core.problem import Problem
from qkvcli.core.steps import Outline, Step, flat_rows

Plain: TypeAlias = Callable[[Kind], dict[str, Off]]
"""How far off each step of a plain kernel of a type is."""

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

    ``problem`` is the reference's own, where no other is given. What rounding does to it is
    measured on ``sample`` scores, or is what ``plain`` says; errors may be ``times`` as large, and
    on the whole ``mean`` times.
    """

    def __init__(
        self,
        reference: Reference,
        rules: Rules,
        problem: Problem | None = None,
        sizes: Sizes = SIZES,
        advance: Advance = silent,
        times: float = _TIMES,
        mean: float = _MEAN,
        plain: Plain | None = None,
    ) -> None:
        self.reference, self.rules, self.until = reference, rules, reference.until
        self.problem = reference.problem if problem is None else problem
        self.sizes, self.advance = sizes, advance
        self.times, self.mean = times, mean
        begun = reference if problem is None and not reference.begun else None
        own = partial(plain_errors, self.problem, reference=begun)
        self.plain: Plain = cache(own if plain is None else plain)

    @property
    def outlines(self) -> dict[str, Outline]:
        """The steps that can be compared, by name."""
        return {outline.name: outline for outline in self.problem.outlines(self.until)}

    def steps(self) -> dict[str, Step]:
        """The reference."""
        found = steps_of(self.problem, self.until, self.sizes, self.advance)
        return {step.name: step for step in found}

    def fitting(self, one: Expected, step: Outline) -> Turn | None:
        """What brings somebody's step to the shape of ours; None where nothing does."""
        return onto(one.array.shape, step, self.reference.joined(step))

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
        for turned, turn in self._turns(expected, step):
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

    def _turns(self, one: Expected, step: Outline) -> Iterator[tuple[str, Turn]]:
        """What may bring somebody's step to ours; Q, K and V are as good with their heads apart."""
        turn = self.fitting(one, step) if step.name in MADE else None
        if turn is not None:
            yield "", turn
        yield from turns(one.array.shape, step.shape, self.reference.joined(step))

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
        reference, used = self._with_made(expected, name)
        problem = self.problem if reference is self.reference else reference.problem
        before = [e for e in expected if e.name in CHAIN and name in CHAIN]
        before = [e for e in before if CHAIN.index(e.name) < CHAIN.index(name)]
        if not before:
            return Start(reference, problem, used) if used else None
        last = max(before, key=lambda e: CHAIN.index(e.name))
        turn = self.fitting(last, self.outlines[last.name])
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
        mixed = last.name in MIXED
        used = [last, *(e for e in used if _side(e.name) == "value" and not mixed)]
        return Start(reference, going_on(problem, last.name, array), used, halves)

    def _with_made(
        self, expected: Sequence[Expected], name: str
    ) -> tuple[Reference, list[Expected]]:
        """The reference with somebody's last steps on the way to Q, K and V before a step."""
        order = list(self.outlines)
        found: dict[str, tuple[Expected, Array]] = {}
        for one in expected:
            side = _side(one.name)
            before = one.name in MADE and order.index(one.name) < order.index(name)
            if not before or (name in MADE and side != _side(name)):
                continue
            if side == "value" and name not in MIXED:
                continue
            turn = self.fitting(one, self.outlines[one.name])
            if turn is not None and one.left_out is None and one.array.size <= _FOLLOWED:
                found[side] = one, turn(one.array).astype(np.float64)
        if not found:
            return self.reference, []
        begun = {one.name: array for one, array in found.values()}
        return self.reference.going_on(begun), [one for one, _ in found.values()]

    def followed(self, expected: Sequence[Expected], one: Expected) -> "Followed | None":
        """A step computed from somebody's steps before it; None where there are none."""
        start = self.going_on(expected, one.name)
        if start is None:
            return None
        found = {step.name: step for step in steps_of(start.problem, self.until)}
        slack = None
        if start.halves is not None:
            slack = carried(start.problem, start.halves, start.used[0].name, one.name)
        return Followed(start.used, found[one.name], slack)


def _side(name: str) -> str:
    """Which of Q, K and V a step is on the way to."""
    return name.partition("_")[0]


class Start(NamedTuple):
    """A problem that goes on from somebody's steps, and how far those may be off."""

    reference: Reference
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
