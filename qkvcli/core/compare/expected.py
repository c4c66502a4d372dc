"""What is compared: somebody's numbers, the rules, and what came of a step."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from qkvcli.core.compare.tally import Cell
from qkvcli.core.compare.tolerance import Tolerance, narrowed
from qkvcli.core.config import SCORES, Kind
from qkvcli.core.operands import Array
from qkvcli.core.steps import Outline

CHAIN = (*SCORES, "weights", "output")
"""The steps of which each is computed from the one before."""
_WRITTEN = Tolerance(1e-12, 1e-12)
"""What is added to half a unit of the last digit of a number that was written as text."""


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
