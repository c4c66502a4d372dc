"""The text of a table: which rows and columns fit, and what stands in each cell."""

from typing import NamedTuple

import numpy as np
from rich.cells import cell_len, set_cell_size

from qkvcli.core.operands import Array, Labels
from qkvcli.core.views import View, edges
from qkvcli.render.text import DIGITS, aligned, ascii_only, formatted, printable

GAP = 2
"""Blank columns between two cells."""
_LABEL = 16
"""Where a label is longer than this and than the numbers under it, its end is left out."""


class Room(NamedTuple):
    """How much is shown: columns of text, lines (None: no bound), decimals.

    ``full`` shows every row and column, in several grids where one is too wide; ``plain``
    keeps to ASCII.
    """

    width: int | None = None
    height: int | None = None
    digits: int = DIGITS
    full: bool = False
    plain: bool = False

    @property
    def ellipsis(self) -> str:
        """What stands where something is left out."""
        return "..." if self.plain else "…"


class Grid(NamedTuple):
    """A table's text: a line above the columns, then lines of a label and its cells.

    ``…`` stands where something is left out. ``strongest`` holds the (line, cell) of each
    row's largest number that is shown.
    """

    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    strongest: frozenset[tuple[int, int]] = frozenset()

    @property
    def widths(self) -> list[int]:
        """Columns of text that each column of the grid takes."""
        columns = zip(self.header, *self.lines, strict=True)
        return [max(map(cell_len, column)) for column in columns]

    @property
    def width(self) -> int:
        """Columns of text that the whole grid takes."""
        return sum(self.widths) + GAP * (len(self.header) - 1)


def gaps(picked: Array, count: int) -> list[int | None]:
    """The rows picked of ``count``; None stands for those that are left out.

    >>> gaps(np.array([0, 1, 8]), 9), gaps(np.array([4]), 9)
    ([0, 1, None, 8], [None, 4, None])
    """
    shown: list[int | None] = []
    before = -1
    for i in picked.tolist():
        shown += [i] if i == before + 1 else [None, i]
        before = i
    return shown if before == count - 1 else [*shown, None]


def grids(view: View, matrix: Array, room: Room) -> list[Grid]:
    """One matrix of a view as a grid that fits the room, or as several that show all of it."""
    step, count = view.step, view.step.shape[-2]
    if view.rows is None:
        shown = edges(count, None if room.full else room.height)
        lines = matrix[[i for i in shown if i is not None]]
    else:
        shown, lines = gaps(view.rows, count), matrix
    candidates = _candidates(matrix.shape[1], room)
    table = _Table(lines, step.rows, step.columns, shown, candidates, room)
    if step.name == "weights":
        table.peaks = [_peak(line) for line in lines]
    if room.width is None:
        return [table.grid(list(candidates))]
    if room.full:
        return [table.grid(list(part)) for part in table.parts(room.width)]
    return [table.grid(table.fitting(room.width))]


def _candidates(count: int, room: Room) -> list[int]:
    """The columns that might be shown; a narrow view of a wide matrix formats no others."""
    if room.full or room.width is None or count <= room.width:
        return list(range(count))
    half = room.width // 2
    return [*range(half), *range(count - half, count)]


class _Table:
    """Formatted candidates, from which grids are put together."""

    def __init__(
        self,
        lines: Array,
        rows: Labels,
        columns: Labels,
        shown: list[int | None],
        candidates: list[int],
        room: Room,
    ) -> None:
        kept = [i for i in shown if i is not None]
        texts = formatted(np.asarray(lines[:, candidates]), room.digits)
        self.room = room
        self.count = lines.shape[1]
        self.shown = shown
        self.candidates = candidates
        self.cells = {j: aligned([line[n] for line in texts]) for n, j in enumerate(candidates)}
        self.row_labels = [_label(rows, i, room, (room.width or 0) // 4) for i in kept]
        self.headers = {
            j: _label(columns, j, room, max(map(len, self.cells[j]), default=0)) for j in candidates
        }
        self.peaks = [-1] * len(kept)

    def grid(self, columns: list[int | None]) -> Grid:
        dots = self.room.ellipsis
        header = ("", *(dots if j is None else self.headers[j] for j in columns))
        lines: list[tuple[str, ...]] = []
        strongest = set()
        n = 0  # of those shown
        for i in self.shown:
            if i is None:
                lines.append((dots,) * len(header))
                continue
            if self.peaks[n] in columns:
                strongest.add((len(lines), columns.index(self.peaks[n]) + 1))
            cells = (dots if j is None else self.cells[j][n] for j in columns)
            lines.append((self.row_labels[n], *cells))
            n += 1
        return Grid(header, tuple(lines), frozenset(strongest))

    def fitting(self, width: int) -> list[int | None]:
        """The columns that fit: all of them, or as many of both edges, and ``…`` between."""
        left = width - self._label_width()
        if len(self.candidates) == self.count and sum(map(self._width, self.candidates)) <= left:
            return list(self.candidates)
        left -= len(self.room.ellipsis) + GAP
        first, last = 0, 0
        while first + last < len(self.candidates):
            from_end = first > last
            left -= self._width(self.candidates[-1 - last if from_end else first])
            if left < 0 and first:
                break
            first, last = (first, last + 1) if from_end else (first + 1, last)
        return [*self.candidates[:first], None, *self.candidates[len(self.candidates) - last :]]

    def parts(self, width: int) -> list[list[int]]:
        """All the columns, in parts that fit; one column at least in each."""
        parts: list[list[int]] = [[]]
        left = room = width - self._label_width()
        for j in self.candidates:
            left -= self._width(j)
            if left < 0 and parts[-1]:
                parts.append([])
                left = room - self._width(j)
            parts[-1].append(j)
        return parts

    def _width(self, j: int) -> int:
        return GAP + max(cell_len(self.headers[j]), *map(len, self.cells[j]), 1)

    def _label_width(self) -> int:
        return max(map(cell_len, self.row_labels), default=0)


def _peak(line: Array) -> int:
    """Where a row is largest; -1 where nothing in it is above 0."""
    return int(np.nanargmax(line)) if (line > 0).any() else -1


def _label(labels: Labels, i: int, room: Room, cap: int) -> str:
    return str(i) if labels is None else shortened(labels[i], room, max(cap, _LABEL))


def shortened(label: str, room: Room, cap: int) -> str:
    """A label as it is shown, in up to ``cap`` columns of text: its end may be left out."""
    label = printable(label)
    if room.plain:
        label = ascii_only(label)
    if room.width is None or cell_len(label) <= cap:
        return label
    return set_cell_size(label, cap - len(room.ellipsis)).rstrip() + room.ellipsis
