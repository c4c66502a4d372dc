"""Whether somebody else's numbers are those that are computed here, step by step.

The reference is computed in float64, and rounded once to the type that theirs are kept in.
Where a cell lies further from it than that type's tolerance, the steps are computed again, each
rounded to the type as a plain implementation does: up to twice its largest error is the type's
own doing, and no fault (the rule of FlashAttention's tests; Dao et al., 2022).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import permutations
from typing import NamedTuple, TypeAlias

import numpy as np

from qkvcli.core import attention
from qkvcli.core.compute import SIZES, Advance, Sizes, silent, steps_of
from qkvcli.core.config import SCORES, Kind, Stage
from qkvcli.core.dense import output_of, score_arrays, weights_of
from qkvcli.core.operands import Array, Operand, Shape
from qkvcli.core.problem import Problem
from qkvcli.core.score_steps import Scale, Softcap
from qkvcli.core.steps import Outline, Step, flat_rows
from qkvcli.core.tolerance import Tolerance, narrowed, ulps

CHAIN = (*SCORES, "weights", "output")
"""The steps of which each is computed from the one before."""
_WRITTEN = Tolerance(1e-12, 1e-12)
"""What is added to half a unit of the last digit of a number that was written as text."""
_SAMPLE = 2**22
"""Of how many scores it is measured what rounding does."""
_FOLLOWED = 2**26
"""How many of somebody else's numbers are taken to go on from."""
_LISTED = 1000
"""How many rows without a key are listed."""

Turn: TypeAlias = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Expected:
    """Somebody else's numbers for a step.

    ``kind`` is the type that they are kept in. Of text, ``halves`` (the array's shape) is half a
    unit of the last digit of each number, and ``left_out`` true where there is none.
    """

    name: str
    array: Array
    kind: Kind
    halves: Array | None = None
    left_out: Array | None = None
    origin: str = ""


class Rules(NamedTuple):
    """What counts as the same; None is the type's own tolerance.

    With ``follow``, each step is computed from somebody else's step before it.
    """

    rtol: float | None = None
    atol: float | None = None
    ulp: int | None = None
    equal_nan: bool = False
    follow: bool = False

    @property
    def usual(self) -> bool:
        """Whether the tolerance is the type's own."""
        return self.rtol is None and self.atol is None and self.ulp is None

    def tolerance(self, expected: Expected) -> Tolerance:
        """The tolerance for somebody's numbers, beside the digits that they were written with."""
        if self.usual and expected.halves is not None:
            return _WRITTEN
        return Tolerance.of(expected.kind, self.rtol, self.atol, self.ulp)


class Cell(NamedTuple):
    """A cell: where it is in the step, and both numbers."""

    place: tuple[int, ...]
    computed: float
    expected: float


@dataclass(frozen=True, eq=False)
class Compared:
    """What came of comparing one step.

    Of ``cells`` that were compared, ``differing`` are not the same, the ``first`` of them in
    order; ``infinite`` of these are −∞ on one side alone. ``largest`` is the cell of the largest
    ``error``, which is ``ulp`` units in the last place; None where no two numbers are finite.
    ``rows`` (…, L_q) and ``columns`` tell where the differing ones are. ``unseeing`` are rows in
    which theirs is NaN and the query sees no key. ``own`` is the largest error of a plain
    implementation in their type, where that had to be looked at. ``turned`` says what had to be
    done to fit theirs to the ``outline``'s shape ("" for nothing; None where nothing fits).
    ``follows`` is the step of theirs from which this one follows.
    """

    outline: Outline
    expected: Expected
    tolerance: Tolerance
    cells: int = 0
    differing: int = 0
    infinite: int = 0
    error: float = 0.0
    ulp: float = 0.0
    largest: Cell | None = None
    first: Cell | None = None
    rows: Array = field(default_factory=lambda: np.zeros(0, np.bool_))
    columns: Array = field(default_factory=lambda: np.zeros(0, np.bool_))
    unseeing: tuple[tuple[int, ...], ...] = ()
    own: float | None = None
    turned: str | None = ""
    follows: str | None = None

    @property
    def name(self) -> str:
        """The name of the step."""
        return self.outline.name

    @property
    def same(self) -> bool:
        """Whether all cells are the same, and stand where they should."""
        return not self.differing and self.turned == ""

    @property
    def left_out(self) -> int:
        """How many cells have no number to compare."""
        blank = self.expected.left_out
        return 0 if blank is None else int(np.count_nonzero(blank))


class _Tally:
    """Counts over the parts of one step, as they come."""

    def __init__(self, shape: Shape, kind: Kind, tolerance: Tolerance, equal_nan: bool) -> None:
        self.shape, self.kind, self.tolerance, self.equal_nan = shape, kind, tolerance, equal_nan
        self.cells = self.differing = self.infinite = 0
        self.error, self.ulp = 0.0, 0.0
        self.largest: Cell | None = None
        self.first: Cell | None = None
        self.rows = np.zeros(int(np.prod(shape[:-1])), np.bool_)
        self.columns = np.zeros(shape[-1], np.bool_)
        self.unseeing: list[tuple[int, ...]] = []
        self.done = 0

    def add(
        self, computed: Array, expected: Array, halves: Array | None, left_out: Array | None
    ) -> None:
        """Compare some rows (n, columns), the next ones."""
        with np.errstate(all="ignore"):
            mine = narrowed(computed, self.kind).astype(np.float64)
            theirs = expected.astype(np.float64)
            apart = np.abs(mine - theirs)
            differ = self._differing(mine, theirs, apart, halves)
        if left_out is not None:
            differ &= ~left_out
            apart = np.where(left_out, np.nan, apart)
        self._largest(mine, theirs, apart)
        self.cells += apart.size - (0 if left_out is None else int(np.count_nonzero(left_out)))
        self.differing += int(np.count_nonzero(differ))
        if differ.any():
            self._where(mine, theirs, differ)
        self.done += len(mine)

    def _differing(self, mine: Array, theirs: Array, apart: Array, halves: Array | None) -> Array:
        rtol, atol, most = self.tolerance
        room = atol + rtol * np.abs(theirs)
        if halves is not None:
            room = room + halves
        close = apart <= room
        if most is not None:
            close |= ulps(mine, theirs, self.kind) <= most
        close &= np.isfinite(mine) & np.isfinite(theirs)
        close |= mine == theirs
        if self.equal_nan:
            close |= np.isnan(mine) & np.isnan(theirs)
        return ~close

    def _largest(self, mine: Array, theirs: Array, apart: Array) -> None:
        finite = np.where(np.isfinite(apart), apart, -1.0)
        at = int(finite.argmax()) if finite.size else 0
        if not finite.size or finite.flat[at] < 0:
            return
        if self.largest is None or finite.flat[at] > self.error:
            self.error = float(finite.flat[at])
            self.largest = self._cell(mine, theirs, at)
            one, other = (np.array([side.flat[at]]) for side in (mine, theirs))
            self.ulp = float(ulps(one, other, self.kind)[0])

    def _where(self, mine: Array, theirs: Array, differ: Array) -> None:
        self.infinite += int(np.count_nonzero(differ & (np.isneginf(mine) != np.isneginf(theirs))))
        if self.first is None:
            self.first = self._cell(mine, theirs, int(differ.argmax()))
        self.rows[self.done : self.done + len(mine)] = differ.any(axis=1)
        self.columns |= differ.any(axis=0)
        lost = (differ & np.isnan(theirs)).any(axis=1)
        for i in np.flatnonzero(lost & ((mine == 0).all(axis=1) | np.isneginf(mine).all(axis=1))):
            if len(self.unseeing) < _LISTED:
                self.unseeing.append(self._row(self.done + int(i)))

    def _row(self, number: int) -> tuple[int, ...]:
        return tuple(map(int, np.unravel_index(number, self.shape[:-1])))

    def _cell(self, mine: Array, theirs: Array, at: int) -> Cell:
        row, column = divmod(at, mine.shape[1])
        place = (*self._row(self.done + row), column)
        return Cell(place, float(mine.flat[at]), float(theirs.flat[at]))


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
        sample: int = _SAMPLE,
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
        tally = _Tally(step.shape, expected.kind, tolerance, self.rules.equal_nan)
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


def narrower(expected: Expected) -> Expected | None:
    """The same in the type of fewest digits that holds all its numbers; None for its own.

    >>> narrower(Expected("output", np.array([[0.5, 3.0]]), "float32")).kind
    'bfloat16'
    """
    if expected.halves is not None:
        return None
    kinds: tuple[Kind, ...] = ("bfloat16", "float16", "float32", "float64")
    for kind in kinds[: kinds.index(expected.kind)]:
        if np.array_equal(narrowed(expected.array, kind), expected.array, equal_nan=True):
            return replace(expected, kind=kind)
    return None


def fitting(theirs: Shape, ours: Shape, heads: int | None = None) -> Turn | None:
    """What brings an array of one shape to another that differs in axes of 1 at most.

    With ``heads``, they are split off where they were joined. None where that is not enough.
    """
    if heads is not None:
        *leading, _, rows, width = ours
        joined = fitting(theirs, (*leading, rows, heads * width))
        if joined is not None:
            return lambda array: attention.split_heads(joined(array), heads)
    first = next(turns(theirs, ours, None), None)
    return None if first is None or first[0] else first[1]


def turns(theirs: Shape, ours: Shape, heads: int | None) -> Iterator[tuple[str, Turn]]:
    """What makes an array of one shape one of another, with what is to be said of it.

    >>> [said for said, _ in turns((3, 2), (2, 3), None)], list(turns((3, 2), (2, 4), None))
    (['its axes are swapped'], [])
    >>> [said for said, _ in turns((1, 2, 2), (2, 2), None)]
    ['']
    """
    slim = tuple(n for n in theirs if n != 1)
    if slim == tuple(n for n in ours if n != 1):
        yield "", lambda array: array.reshape(ours)
    if heads is not None and len(theirs) > 2:
        *leading, rows, width = ours
        if theirs == (*leading, rows, heads, width // heads):
            yield "its heads are an axis of their own", lambda array: array.reshape(ours)
        if theirs == (*leading, heads, rows, width // heads):
            yield "its heads are an axis of their own", attention.merge_heads
    yield from _permuted(theirs, ours)


def _permuted(theirs: Shape, ours: Shape) -> Iterator[tuple[str, Turn]]:
    if len(theirs) != len(ours) or sorted(theirs) != sorted(ours) or len(ours) > 5:
        return
    usual = tuple(range(len(ours)))
    for order in permutations(usual):
        if order != usual and tuple(theirs[i] for i in order) == ours:
            if len(ours) == 2:
                said = "its axes are swapped"
            elif order == (*usual[:-2], usual[-1], usual[-2]):
                said = "its last two axes are swapped"
            else:
                said = f"its axes fit in the order {order}"

            def turn(array: Array, order: tuple[int, ...] = order) -> Array:
                return array.transpose(order)

            yield said, turn


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


def plain_errors(problem: Problem, kind: Kind, sample: int = _SAMPLE) -> dict[str, float]:
    """The largest error of each step where inputs and steps are rounded to a type, one by one.

    Measured on queries of up to ``sample`` scores.
    """
    each = int(np.prod(problem.shape[:-2])) * max(problem.shape[-1], 1)
    count = problem.shape[-2]
    taken = min(max(sample // max(each, 1), 1), count)
    part = problem.with_rows(np.arange(taken) * count // max(taken, 1))
    exact, plain = _arrays(part, lambda array: array), _arrays(_narrow(part, kind), _rounder(kind))
    errors = {}
    for name, array in plain.items():
        with np.errstate(all="ignore"):
            apart = np.abs(array.astype(np.float64) - narrowed(exact[name], kind))
        errors[name] = float(apart.max(initial=0, where=np.isfinite(apart)))
    return errors


def _rounder(kind: Kind) -> Turn:
    """Rounding to a type, in the type that is worked in."""
    work = np.float64 if kind == "float64" else np.float32
    return lambda array: narrowed(array, kind).astype(work)


def _narrow(problem: Problem, kind: Kind) -> Problem:
    """The problem with its operands as a type holds them."""
    rounder = _rounder(kind)

    def narrow(operand: Operand | None) -> Operand | None:
        return None if operand is None else replace(operand, array=rounder(operand.array))

    return replace(
        problem,
        query=narrow(problem.query),
        key=narrow(problem.key),
        value=narrow(problem.value),
        scores=narrow(problem.scores),
        weights=narrow(problem.weights),
        score_steps=tuple(
            _PlainSoftcap(step.cap, rounder) if isinstance(step, Softcap) else step
            for step in problem.score_steps
        ),
    )


class _PlainSoftcap(Softcap):
    """A softcap that rounds what it computes on the way."""

    def __init__(self, cap: float, rounder: Turn) -> None:
        super().__init__(cap)
        self.rounder = rounder

    def __call__(self, scores: Array, rows: slice, keys: slice, out: Array | None = None) -> Array:
        return self.cap * self.rounder(np.tanh(self.rounder(scores / self.cap)))


def _arrays(problem: Problem, after: Turn) -> dict[str, Array]:
    """The steps of a chain, ``after`` done to each."""
    with np.errstate(all="ignore"):
        found: dict[str, Array] = {}
        if problem.weights is None:
            found |= score_arrays(problem, after)
            found["weights"] = after(weights_of(problem, found[problem.last_score]))
        weights = found.get("weights") if problem.weights is None else problem.weights.array
        if problem.value is not None and weights is not None:
            found["output"] = after(output_of(problem, weights))
    return found
