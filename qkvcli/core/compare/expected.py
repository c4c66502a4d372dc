"""What is compared: somebody's numbers, the rules, and what came of a step."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from qkvcli.core.compare.tally import Cell, Sums
from qkvcli.core.compare.tolerance import Tolerance, narrowed, ulps
from qkvcli.core.compare.turned import Turn
from qkvcli.core.config import MIXED, SCORES, Kind
from qkvcli.core.operands import Array, Labels
from qkvcli.core.steps import Outline

_LOOK = 2**16
"""How many numbers are looked at at a time."""
CHAIN = (*SCORES, "weights", *MIXED)
"""The steps of which each is computed from the one before."""
_WRITTEN = Tolerance(1e-12, 1e-12)
"""What is added to half a unit of the last digit of a number that was written as text."""


@dataclass(frozen=True, eq=False)
class Expected:
    """Somebody else's numbers for a step.

    ``kind`` is the type that they are kept in. Of text, ``halves`` (the array's shape) is half a
    unit of the last digit of each number, and ``left_out`` true where there is none; ``loose`` is
    the type that they were computed in before they were written, where that is known. ``rows``
    and ``columns`` are the labels that came with them, and a ``reading`` says what was taken
    for what, where text could be read in two ways.
    """

    name: str
    array: Array
    kind: Kind
    halves: Array | None = None
    left_out: Array | None = None
    origin: str = ""
    loose: Kind | None = None
    rows: Labels = None
    columns: Labels = None
    reading: str = ""

    def turned(self, turn: Turn) -> "Expected":
        """The same with its arrays turned."""
        halves, left_out = (
            None if side is None else turn(side) for side in (self.halves, self.left_out)
        )
        return replace(self, array=turn(self.array), halves=halves, left_out=left_out)

    def computed_in(self, kind: Kind) -> "Expected":
        """The same, computed in a type; text keeps its digits."""
        if self.halves is not None:
            return replace(self, loose=kind)
        return replace(self, kind=kind)


class Rules(NamedTuple):
    """What counts as the same; None is the type's own tolerance.

    With ``follow``, each step is computed from somebody else's step before it. ``inputs`` is the
    type of Q, K and V, in which text is taken to have been computed.
    """

    rtol: float | None = None
    atol: float | None = None
    ulp: int | None = None
    equal_nan: bool = False
    follow: bool = False
    inputs: Kind = "float64"

    @property
    def usual(self) -> bool:
        """Whether the tolerance is the type's own."""
        return self.rtol is None and self.atol is None and self.ulp is None

    def tolerance(self, expected: Expected) -> Tolerance:
        """The tolerance for somebody's numbers, beside the digits that they were written with."""
        if self.usual and expected.halves is not None and expected.loose is None:
            return _WRITTEN
        return Tolerance.of(expected.loose or expected.kind, self.rtol, self.atol, self.ulp)


@dataclass(frozen=True, eq=False)
class Compared:
    """What came of comparing one step.

    Of ``cells`` that were compared, ``differing`` are not the same, the ``first`` of them in
    order; ``infinite`` of these are −∞ on one side alone, and in ``lost`` theirs is NaN.
    ``largest`` is the cell of the largest error, of those that differ where there are any; None
    where no two numbers are finite. ``rows`` (…, L_q) and ``columns`` tell where the differing
    ones are, ``bits`` how much that is to explain, ``sums`` how large it is on the whole.
    ``unseeing`` are rows in which theirs is NaN and the query sees no key. ``own`` is the largest
    error of a plain implementation in their type, where that had to be looked at. ``turned`` says
    what had to be done to fit theirs to the ``outline``'s shape ("" for nothing; None where
    nothing fits). ``follows`` is the step of theirs from which this one follows.
    """

    outline: Outline
    expected: Expected
    tolerance: Tolerance
    cells: int = 0
    differing: int = 0
    infinite: int = 0
    lost: int = 0
    sums: Sums = Sums()
    bits: float = 0.0
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
    def error(self) -> float:
        """The largest error between two finite numbers."""
        return 0.0 if self.largest is None else self.largest.error

    @property
    def ulp(self) -> float:
        """The same in units in the last place."""
        if self.largest is None:
            return 0.0
        computed, expected = (np.array([number]) for number in self.largest[1:])
        return float(ulps(computed, expected, self.expected.kind)[0])

    @property
    def only_unseeing(self) -> bool:
        """Whether nothing differs but rows that see no key, where theirs is NaN."""
        return bool(self.differing) and len(self.unseeing) == np.count_nonzero(self.rows)

    @property
    def left_out(self) -> int:
        """How many cells have no number to compare."""
        blank = self.expected.left_out
        return 0 if blank is None else int(np.count_nonzero(blank))


def narrower(expected: Expected) -> Expected | None:
    """The same in the type of fewest digits that holds all its numbers; None for its own.

    Text may have been written by a program that computes in float32.

    >>> narrower(Expected("output", np.array([[0.5, 3.0]]), "float32")).kind
    'bfloat16'
    """
    if expected.halves is not None:
        return None if expected.loose else expected.computed_in("float32")
    kinds: tuple[Kind, ...] = ("bfloat16", "float16", "float32", "float64")
    known = kinds[: kinds.index(expected.kind)]
    return next((replace(expected, kind=kind) for kind in known if _holds(kind, expected)), None)


def _holds(kind: Kind, expected: Expected) -> bool:
    """Whether a type holds all the numbers, and they are not whole, which tell nothing of one."""
    flat, whole = expected.array.reshape(-1), True
    for i in range(0, flat.size, _LOOK):  # most end at the first look
        some = flat[i : i + _LOOK]
        if not np.array_equal(narrowed(some, kind), some, equal_nan=True):
            return False
        whole = whole and np.array_equal(np.rint(some), some, equal_nan=True)
    return not whole
