"""Whether somebody else's numbers are those that are computed here, step by step.

The reference is computed in float64, and rounded once to the type that theirs are kept in.
Where a cell lies further from it than that type's tolerance, the steps are computed again, each
rounded to the type as a plain implementation does: up to twice its largest error is the type's
own doing, and no fault (the rule of FlashAttention's tests; Dao et al., 2022).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from qkvcli.core.compare.expected import CHAIN, Compared, Expected, Rules
from qkvcli.core.compare.plain import SAMPLE, plain_errors
from qkvcli.core.compare.tally import Tally
from qkvcli.core.compare.tolerance import Tolerance
from qkvcli.core.compare.turned import Turn, fitting, turns
from qkvcli.core.compute import SIZES, Advance, Sizes, silent, steps_of
from qkvcli.core.config import Stage
from qkvcli.core.dense import output_of, score_arrays, weights_of
from qkvcli.core.operands import Array, Operand
from qkvcli.core.problem import Problem
from qkvcli.core.score_steps import Scale
from qkvcli.core.steps import Outline, Step, flat_rows

_FOLLOWED = 2**26
"""How many of somebody else's numbers are taken to go on from."""


class Judge:
    """One comparison: the reference and what belongs to it.

    ``problem`` is in float64 (`fitting.reference_of`).
    """

    def __init__(
        self,
        problem: Problem,
        rules: Rules,
        until: Stage = "output",
        sizes: Sizes = SIZES,
        advance: Advance = silent,
        sample: int = SAMPLE,
    ) -> None:
        self.problem, self.rules, self.until = problem, rules, until
        self.sizes, self.advance = sizes, advance
        self.plain = cache(lambda kind: plain_errors(problem, kind, sample))

    @property
    def outlines(self) -> dict[str, Outline]:
        """The steps that can be compared, by name."""
        return {outline.name: outline for outline in self.problem.outlines(self.until)}

    def steps(self) -> dict[str, Step]:
        """The reference."""
        found = steps_of(self.problem, self.until, self.sizes, self.advance)
        return {step.name: step for step in found}

    def judged(self, step: Step, expected: Expected, carried: Array | None = None) -> Compared:
        """Compare a step; ``carried`` is how far it may be off by what it was computed from."""
        found: Compared | None = None
        for turned, turn in turns(expected.array.shape, step.shape, self.problem.merged_heads):
            one = self._turned(step, expected, turned, turn, carried)
            if found is None or not one.differing:
                found = one
            if not one.differing:
                break
        if found is None:
            size = expected.array.size
            tolerance = self.rules.tolerance(expected)
            found = Compared(step, expected, tolerance, size, size, turned=None)
        return found

    def _turned(
        self, step: Step, expected: Expected, turned: str, turn: Turn, carried: Array | None
    ) -> Compared:
        tolerance = self.rules.tolerance(expected)
        found = self._tallied(step, expected, tolerance, turned, turn, carried)
        if not found.differing or not self.rules.usual or expected.halves is not None:
            return found
        own = self.plain(expected.kind).get(step.name, 0.0)
        if 2 * own <= tolerance.atol or not np.isfinite(own):
            return found
        wide = tolerance._replace(atol=2 * own)
        return replace(
            self._tallied(step, expected, wide, turned, turn, carried), own=own, tolerance=tolerance
        )

    def _tallied(
        self,
        step: Step,
        expected: Expected,
        tolerance: Tolerance,
        turned: str,
        turn: Turn,
        carried: Array | None,
    ) -> Compared:
        tally = Tally(step.shape, expected.kind, tolerance, self.rules.equal_nan)
        theirs = flat_rows(turn(expected.array))
        halves, blank = (
            None if side is None else flat_rows(turn(side))
            for side in (expected.halves, expected.left_out)
        )
        if carried is not None:
            halves = flat_rows(carried) + (0 if halves is None else halves)
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
            step,
            expected,
            tolerance,
            tally.cells,
            tally.differing,
            tally.infinite,
            tally.error,
            tally.ulp,
            tally.largest,
            tally.first,
            tally.rows.reshape(step.shape[:-1]),
            tally.columns,
            tuple(tally.unseeing),
            turned=turned,
        )

    def follower(
        self, expected: Sequence[Expected], name: str
    ) -> "tuple[Expected, Problem] | None":
        """Somebody's step that comes before one, and the problem that goes on from it.

        None where there is none that fits.
        """
        before = [e for e in expected if e.name in CHAIN and name in CHAIN]
        before = [e for e in before if CHAIN.index(e.name) < CHAIN.index(name)]
        if not before:
            return None
        last = max(before, key=lambda e: CHAIN.index(e.name))
        turn = fitting(last.array.shape, self.problem.shape)
        if turn is None or last.array.size > _FOLLOWED:
            return None
        array = turn(last.array)
        if last.left_out is not None:
            blank = np.reshape(last.left_out, array.shape)
            array = np.where(blank, self.steps()[last.name].array, array)
        return last, going_on(self.problem, last.name, array)

    def followed(
        self, expected: Sequence[Expected], one: Expected
    ) -> "tuple[str, Step, Array | None] | None":
        """A step computed from somebody's step before it, whose name comes first.

        The array is how far it may be off since that one's digits were rounded.
        """
        found = self.follower(expected, one.name)
        if found is None:
            return None
        before, problem = found
        step = next(s for s in steps_of(problem, self.until) if s.name == one.name)
        halves = before.halves
        if halves is None:
            return before.name, step, None
        slack = carried(problem, np.reshape(halves, problem.shape), one.name)
        return before.name, step, slack


def going_on(problem: Problem, name: str, array: Array) -> Problem:
    """The problem that has an array for one of its steps, and only computes those after it."""
    taken = Operand(array.astype(np.float64), name, problem.labels, problem.key_labels)
    bare = replace(problem, query=None, key=None, scores=None, given=(), projections=())
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
