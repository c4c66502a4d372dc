"""What differs between two versions of a step, counted part by part."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qkvcli.core.compare.tolerance import Tolerance, narrowed, ulps
from qkvcli.core.config import Kind
from qkvcli.core.operands import Array, Shape

_LISTED = 1000
"""How many rows without a key are listed."""
_PLENTY = 1e4
"""More bits need not be counted."""
_MOST = 40
"""So many bits is one cell worth at most."""


class Cell(NamedTuple):
    """A cell: where it is in the step, and both numbers."""

    place: tuple[int, ...]
    computed: float
    expected: float

    @property
    def error(self) -> float:
        """How far they are apart; NaN where one is not finite."""
        apart = abs(self.computed - self.expected)
        return apart if math.isfinite(apart) else math.nan


@dataclass(frozen=True)
class Sums:
    """Sums over the cells where both numbers are finite: how many, errors², theirs and theirs².

    ``size`` is the largest of theirs.
    """

    count: int = 0
    errors: float = 0.0
    first: float = 0.0
    second: float = 0.0
    size: float = 0.0

    @classmethod
    def of(cls, apart: Array, theirs: Array) -> "Sums":
        """Those of some cells; an error that is not finite leaves its cell out."""
        there = np.isfinite(apart)
        errors, numbers = apart[there], theirs[there]
        with np.errstate(all="ignore"):
            return cls(
                errors.size,
                float((errors * errors).sum()),
                float(numbers.sum()),
                float((numbers * numbers).sum()),
                float(np.abs(numbers).max(initial=0)),
            )

    def plus(self, other: "Sums") -> "Sums":
        """The sums over both."""
        return Sums(
            self.count + other.count,
            self.errors + other.errors,
            self.first + other.first,
            self.second + other.second,
            max(self.size, other.size),
        )

    @property
    def error(self) -> float:
        """The root of the mean square of the errors."""
        return math.sqrt(self.errors / self.count) if self.count else 0.0

    @property
    def spread(self) -> float:
        """The standard deviation of theirs."""
        if not self.count:
            return 0.0
        mean = self.first / self.count
        return math.sqrt(max(self.second / self.count - mean * mean, 0.0))

    @property
    def level(self) -> float:
        """The root of the mean square of theirs."""
        return math.sqrt(self.second / self.count) if self.count else 0.0


class Tally:
    """Counts over the parts of one step of a shape, as they come.

    `Compared` says what each of them means; ``largest`` is of all cells, ``worst`` of those that
    differ.
    """

    def __init__(self, shape: Shape, kind: Kind, tolerance: Tolerance, equal_nan: bool) -> None:
        self.shape, self.kind, self.tolerance, self.equal_nan = shape, kind, tolerance, equal_nan
        self.cells = self.differing = self.infinite = self.lost = 0
        self.sums = Sums()
        self.bits = 0.0
        self.largest: Cell | None = None
        self.worst: Cell | None = None
        self.first: Cell | None = None
        self.rows = np.zeros(math.prod(shape[:-1]), np.bool_)
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
            room = self.tolerance.atol + self.tolerance.rtol * np.abs(theirs)
            if halves is not None:
                room = room + halves
            differ = self._differing(mine, theirs, apart, room)
        if left_out is not None:
            differ &= ~left_out
            apart = np.where(left_out, np.nan, apart)
        self.cells += apart.size - (0 if left_out is None else int(np.count_nonzero(left_out)))
        self.sums = self.sums.plus(Sums.of(apart, theirs))
        self.largest = self._larger(self.largest, mine, theirs, apart)
        if differ.any():
            self._where(mine, theirs, differ)
            wrong = np.where(differ, apart, np.nan)
            self.worst = self._larger(self.worst, mine, theirs, wrong)
            if self.bits < _PLENTY:
                self.bits += _surprise(wrong, room, theirs)
        self.done += len(mine)

    def _differing(self, mine: Array, theirs: Array, apart: Array, room: Array) -> Array:
        close = apart <= room
        if self.tolerance.ulp is not None:
            close |= ulps(mine, theirs, self.kind) <= self.tolerance.ulp
        close &= np.isfinite(mine) & np.isfinite(theirs)
        close |= mine == theirs
        if self.equal_nan:
            close |= np.isnan(mine) & np.isnan(theirs)
        return ~close

    def _larger(self, known: Cell | None, mine: Array, theirs: Array, apart: Array) -> Cell | None:
        """The cell of the largest error, known or among these; NaN is no error."""
        finite = np.where(np.isfinite(apart), apart, -1.0)
        at = int(finite.argmax()) if finite.size else 0
        if not finite.size or finite.flat[at] < 0:
            return known
        if known is not None and finite.flat[at] <= known.error:
            return known
        return self._cell(mine, theirs, at)

    def _where(self, mine: Array, theirs: Array, differ: Array) -> None:
        self.differing += int(np.count_nonzero(differ))
        self.infinite += int(np.count_nonzero(differ & (np.isneginf(mine) != np.isneginf(theirs))))
        self.lost += int(np.count_nonzero(differ & np.isnan(theirs)))
        if self.first is None:
            self.first = self._cell(mine, theirs, int(differ.argmax()))
        self.rows[self.done : self.done + len(mine)] = differ.any(axis=1)
        self.columns |= differ.any(axis=0)
        lost = (differ & np.isnan(theirs)).any(axis=1)
        for i in np.flatnonzero(lost & sees_nothing(mine)):
            if len(self.unseeing) < _LISTED:
                self.unseeing.append(self._row(self.done + int(i)))

    def _row(self, number: int) -> tuple[int, ...]:
        return tuple(map(int, np.unravel_index(number, self.shape[:-1])))

    def _cell(self, mine: Array, theirs: Array, at: int) -> Cell:
        row, column = divmod(at, mine.shape[1])
        place = (*self._row(self.done + row), column)
        return Cell(place, float(mine.flat[at]), float(theirs.flat[at]))


def sees_nothing(rows: Array) -> Array:
    """Which rows (…, n, columns) are those of a query that sees no key: zeros, or −∞ throughout."""
    nothing: Array = (rows == 0).all(axis=-1) | np.isneginf(rows).all(axis=-1)
    return nothing


def _surprise(wrong: Array, room: Array, theirs: Array) -> float:
    """How many bits these differences are worth: a number that is n times its room off, log₂ n."""
    with np.errstate(all="ignore"):
        least = np.maximum(room, 1e-15 * np.abs(theirs))
        times = np.where(np.isfinite(wrong), wrong / np.maximum(least, 1e-300), 1.0)
    bits = np.log2(np.clip(times, 1.0, 2.0**_MOST))
    return float(bits.sum())
