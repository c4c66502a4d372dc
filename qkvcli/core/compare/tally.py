"""What differs between two versions of a step, counted part by part."""

import math
from typing import NamedTuple

import numpy as np

from qkvcli.core.compare.tolerance import Tolerance, narrowed, ulps
from qkvcli.core.config import Kind
from qkvcli.core.operands import Array, Shape

_LISTED = 1000
"""How many rows without a key are listed."""


class Cell(NamedTuple):
    """A cell: where it is in the step, and both numbers."""

    place: tuple[int, ...]
    computed: float
    expected: float


class Tally:
    """Counts over the parts of one step of a shape, as they come.

    `Compared` says what each of them means.
    """

    def __init__(self, shape: Shape, kind: Kind, tolerance: Tolerance, equal_nan: bool) -> None:
        self.shape, self.kind, self.tolerance, self.equal_nan = shape, kind, tolerance, equal_nan
        self.cells = self.differing = self.infinite = 0
        self.error, self.ulp = 0.0, 0.0
        self.largest: Cell | None = None
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
