"""The text of a table: which rows and columns fit, and what stands in each cell."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from rich.cells import cell_len, set_cell_size

from qkvcli.core.facts import Weighed
from qkvcli.core.naming import Names
from qkvcli.core.operands import Array, Labels
from qkvcli.core.views import Matrix, View, edges
from qkvcli.render.screen import ascii_only, printable
from qkvcli.render.text import DIGITS, aligned, formatted, percent

GAP = 2
"""Blank columns between two cells."""
_TIED = 2
"""How many keys of the same weight are named at the end of a row; more are counted."""


class Room(NamedTuple):
    """How much is shown: columns of text, lines (None: no bound), decimals.

    ``full`` shows every row and column, in several grids where one is too wide; ``plain``
    keeps to ASCII; ``heat`` colours cells by their value, with the colours that it names
    (see `heat.Heat`).
    """

    width: int | None = None
    height: int | None = None
    digits: int = DIGITS
    full: bool = False
    plain: bool = False
    heat: str | None = None

    def cap(self, share: int, most: int = 16, least: int = 8) -> int:
        """How long a label may be that is to take one of so many shares of the width.

        >>> Room(80).cap(8), Room(200).cap(8), Room(40).cap(8), Room().cap(8)
        (10, 16, 8, 16)
        """
        return most if self.width is None else min(max(self.width // share, least), most)

    @property
    def dot(self) -> str:
        """What stands for the weight of a key that may not be seen."""
        return "." if self.plain else "·"

    @property
    def ellipsis(self) -> str:
        """What stands where something is left out."""
        return "..." if self.plain else "…"


class Grid(NamedTuple):
    """A table's text: a line above the columns, then lines of a label and its cells.

    ``…`` stands where something is left out. ``numbers`` has the number of each cell, by its
    (line, cell), where cells have heat. Of weights, ``strongest`` are the cells of each row's
    largest, ``hidden`` those of keys that may not be seen, and ``ends`` what stands at the end
    of each line.
    """

    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    numbers: Mapping[tuple[int, int], float] = {}
    strongest: frozenset[tuple[int, int]] = frozenset()
    hidden: frozenset[tuple[int, int]] = frozenset()
    ends: tuple[str, ...] = ()

    @property
    def widths(self) -> list[int]:
        """Columns of text that each column of the grid takes, but for the ends of lines."""
        columns = zip(self.header, *self.lines, strict=True)
        return [max(map(cell_len, column)) for column in columns]

    @property
    def width(self) -> int:
        """Columns of text that the whole grid takes."""
        ends = max(map(cell_len, self.ends), default=0)
        return sum(self.widths) + GAP * (len(self.header) - 1) + (ends and GAP + ends)


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


def grids(view: View, matrix: Matrix, room: Room, ends: bool = False) -> list[Grid]:
    """One matrix of a view as a grid that fits the room, or as several that show all of it.

    With ``ends``, each row of weights says at its end which key weighs most.
    """
    step, shown = view.step, _shown(view, room)
    if view.rows is None:
        matrix = matrix.of_rows([i for i in shown if i is not None])
    candidates = _candidates(matrix.array.shape[1], room)
    table = _Table(matrix, step.rows, step.columns, shown, candidates, room)
    if step.name == "weights":
        table.weigh(step.column_names if ends else None, step.sinks)
    if room.width is None:
        return [table.grid(list(candidates))]
    if room.full:
        *parts, last = table.parts(room.width)
        return [*(table.grid(list(part), ends=False) for part in parts), table.grid(list(last))]
    return [table.grid(table.fitting(room.width))]


def _shown(view: View, room: Room) -> list[int | None]:
    """The rows of a view, by their numbers; None where rows are left out for want of room."""
    count = view.step.shape[-2]
    if view.rows is None:
        return edges(count, None if room.full else room.height)
    return gaps(view.rows, count) if view.gaps else list(view.rows.tolist())


def _candidates(count: int, room: Room) -> list[int]:
    """The columns that might be shown; a narrow view of a wide matrix formats no others."""
    if room.full or room.width is None or count <= room.width:
        return list(range(count))
    half = room.width // 2
    return [*range(half), *range(count - half, count)]


class _Marks(NamedTuple):
    """What a grid says of its cells, by their (line, cell)."""

    numbers: dict[tuple[int, int], float]
    strongest: set[tuple[int, int]]
    hidden: set[tuple[int, int]]


class _Table:
    """Formatted candidates, from which grids are put together."""

    def __init__(
        self,
        matrix: Matrix,
        rows: Labels,
        columns: Labels,
        shown: list[int | None],
        candidates: list[int],
        room: Room,
    ) -> None:
        kept = [i for i in shown if i is not None]
        self.matrix = matrix
        self.part = np.asarray(matrix.array[:, candidates])
        texts = formatted(self.part, room.digits)
        hidden = None if matrix.hidden is None else matrix.hidden[:, candidates]
        for line, n in np.argwhere(hidden) if hidden is not None else ():
            texts[line][n] = room.dot
        self.hidden = hidden
        self.room = room
        self.count = matrix.array.shape[1]
        self.shown = shown
        self.candidates = candidates
        self.cells = {j: aligned([line[n] for line in texts]) for n, j in enumerate(candidates)}
        self.row_labels = [_label(rows, i, room, (room.width or 0) // 4) for i in kept]
        self.headers = {
            j: _label(columns, j, room, max(map(len, self.cells[j]), default=0)) for j in candidates
        }
        self.peaks: list[list[int]] = [[]] * len(kept)
        self.ends: list[str] = []

    def weigh(self, keys: Names | None, sinks: bool) -> None:
        """Mark the keys that weigh most, and where they have names say them at each row's end.

        There it says what the sink has, where there are ``sinks``.
        """
        self.peaks = [row.largest.tolist() for row in self.matrix.weighed]
        if keys is not None:
            self.ends = [_end(row, keys, self.room, sinks) for row in self.matrix.weighed]

    def grid(self, columns: list[int | None], ends: bool = True) -> Grid:
        dots = self.room.ellipsis
        header = ("", *(dots if j is None else self.headers[j] for j in columns))
        places = {j: cell for cell, j in enumerate(columns, 1) if j is not None}
        lines: list[tuple[str, ...]] = []
        marks = _Marks({}, set(), set())
        n = 0  # of those shown
        for i in self.shown:
            if i is None:
                lines.append((dots,) * len(header))
                continue
            self._mark(marks, len(lines), n, places)
            cells = (dots if j is None else self.cells[j][n] for j in columns)
            lines.append((self.row_labels[n], *cells))
            n += 1
        texts = iter(self.ends)
        last = tuple("" if i is None else next(texts) for i in self.shown) if self.ends else ()
        return Grid(
            header,
            tuple(lines),
            marks.numbers,
            frozenset(marks.strongest),
            frozenset(marks.hidden),
            last if ends else (),
        )

    def _mark(self, marks: "_Marks", line: int, n: int, places: dict[int, int]) -> None:
        """Note what there is to say of the cells of the n-th row."""
        marks.strongest.update((line, places[j]) for j in self.peaks[n] if j in places)
        if self.hidden is not None:
            hidden = (self.candidates[m] for m in np.flatnonzero(self.hidden[n]).tolist())
            marks.hidden.update((line, places[j]) for j in hidden if j in places)
        if self.room.heat is not None:
            numbers = zip(self.candidates, self.part[n].tolist(), strict=True)
            marks.numbers.update({(line, places[j]): x for j, x in numbers if j in places})

    def fitting(self, width: int) -> list[int | None]:
        """The columns that fit: all of them, or as many of both edges, and ``…`` between."""
        left = width - self._label_width() - self._ends_width()
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
        left = room = width - self._label_width() - self._ends_width()
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

    def _ends_width(self) -> int:
        ends = max(map(cell_len, self.ends), default=0)
        return ends and GAP + ends


def _end(row: Weighed, keys: Names, room: Room, sinks: bool = False) -> str:
    """What stands at the end of a row of weights: the key that weighs most, and its share.

    >>> row = np.array([0.25, 0.5, 0.25])
    >>> _end(Weighed(row), Names(("the", "cat", "sat"), 3), Room())
    '→ cat 50%'
    >>> _end(Weighed(row / 2), Names(None, 3), Room(), sinks=True)
    '→ 1 25%, sink 50%'
    """
    if np.isnan(row.peak):
        return ""
    arrow = "->" if room.plain else "→"
    rest = f"sink {percent(row.left)}" if sinks else ""
    peaks = row.largest
    if not peaks.size:
        return f"{arrow} {rest or 'no key'}"
    cap = room.cap(8)
    who = ", ".join(cut(keys[j], cap, room) for j in peaks[:_TIED].tolist())
    if peaks.size > _TIED or (peaks.size > 1 and cell_len(who) > room.cap(5)):
        who = f"{peaks.size} keys"
    return f"{arrow} {who} {percent(float(row.row[peaks[0]]))}" + (rest and f", {rest}")


def _label(labels: Labels, i: int, room: Room, cap: int) -> str:
    if labels is None:
        return str(i)
    return cut(labels[i], max(cap, room.cap(5)), room)


def cut(label: str, cap: int, room: Room) -> str:
    """A label as the room can show it; where it is longer than ``cap``, without its end."""
    label = printable(label)
    if room.plain:
        label = ascii_only(label)
    if room.width is None or cell_len(label) <= cap:
        return label
    return set_cell_size(label, cap - len(room.ellipsis)).rstrip() + room.ellipsis
