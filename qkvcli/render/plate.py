"""The heat maps of one step in SVG: cells or an embedded picture, with labels and a legend."""

from collections.abc import Callable, Iterator
from math import ceil
from typing import NamedTuple

import numpy as np

from qkvcli.core.facts import largest
from qkvcli.core.operands import Array, Labels
from qkvcli.core.patches import Patches
from qkvcli.core.views import Matrix
from qkvcli.render.drawing import (
    MONO,
    MONO_EM,
    Theme,
    element,
    hatched,
    heat_png,
    label,
    marked_up,
    number,
    wide,
)
from qkvcli.render.grids import Room, cut
from qkvcli.render.heat import Heat, Paint, hexadecimal
from qkvcli.render.summary import named
from qkvcli.render.text import (
    DIGITS,
    SINKS,
    Title,
    beyond,
    formatted,
    matrix_title,
    share,
    title,
    without_colour,
)

PLAIN, QUIET = 13.0, 11.5
"""The sizes of text: of titles, and of the rest."""
_IN_CELLS = 11.5
_LABEL = 12.0
_PITCH = 14.0  # from one label to the next, at least
_SCALE = 30
"""Of more rows whose labels are numbers, fewer have one."""
_ROOM = Room(80)
_OUTLINED = 14.0  # how large a cell is at least whose mark is an outline
_BAR, _STEPS = 120.0, 24  # how long a scale is, and of how many colours
_SWATCH = 11.0


class Measure(NamedTuple):
    """How large heat maps are drawn: ``large`` where there are few, whose cells have numbers."""

    large: bool
    digits: int | None
    theme: Theme

    @property
    def most(self) -> float:
        """How long a side is at most; cells with numbers may be wider together."""
        return 420.0 if self.large else 180.0

    @property
    def cell(self) -> float:
        """How tall and wide a cell is at most."""
        return 26.0 if self.large else 18.0

    @property
    def cap(self) -> int:
        """How long a label may be."""
        return 16 if self.large else 10


class Tick(NamedTuple):
    """A label of a row or a column, and where its middle is."""

    text: str
    at: float


class Plate:
    """How the matrices of one step are drawn, all alike.

    ``left``, ``top`` and ``right`` are the margins for labels around a heat map that is
    ``broad`` and ``tall``; ``width`` is of all of it.
    """

    def __init__(
        self, one: Patches, extent: tuple[int, int], as_cells: bool, measure: Measure
    ) -> None:
        self.one, self.view, self.step = one, one.view, one.view.step
        self.extent, self.as_cells, self.theme = extent, as_cells, measure.theme
        self.rows, self.columns = self.view.array.shape[-2:]
        self.heat = Heat.of(self.step.name, self.view.array, one.usual)
        self.digits = 2 if measure.digits is None else measure.digits
        self.titled = DIGITS if measure.digits is None else measure.digits
        self.numbered = False
        self.tall = self._side(extent[0], measure)
        self.broad = self._breadth(measure)
        self.row_ticks = self._row_ticks(measure)
        self.column_ticks, self.upright = self._column_ticks(measure)
        self.left = max((wide(tick.text, _LABEL) for tick in self.row_ticks), default=0.0) + 8
        widths = [wide(tick.text, _LABEL) for tick in self.column_ticks]
        self.top = 8.0 + (max(widths, default=0.0) if self.upright else _LABEL)
        ends = (tick.at + width / 2 for tick, width in zip(self.column_ticks, widths, strict=True))
        past = 0.0 if self.upright else max(ends, default=0.0) - self.broad
        self.right = max(past, 0.0)
        self.width = self.left + self.broad + self.right

    @property
    def title(self) -> Title:
        """The title of the step."""
        return title(self.step)

    def notes(self) -> Iterator[str]:
        """What is said of a picture that does not show every number."""
        if not self.view.array.size:
            shape = (*self.view.array.shape[:-2], *self.extent)
            yield f"nothing to draw: the shape is {shape}"
            return
        if self.heat is None:
            yield "no number to colour"
        if (self.rows, self.columns) != self.extent:
            down, across = _about(self.extent[0], self.rows), _about(self.extent[1], self.columns)
            down = down if self.one.sample is None else f"{self.one.sample.taken:,}"
            if (down, across) != ("1", "1"):
                yield f"each point: the peak of {down} × {across} numbers"
        if self.one.sample is not None:
            taken, least, most = self.one.sample
            of = f"{least:,}" if least == most else f"about {least:,}"
            yield f"{taken:,} of {of} queries for each row"
        if self.step.sinks:
            yield SINKS
        few = beyond(self.one.usual, self.view.array, self.titled)
        if few:
            yield few

    def legend(self, digits: int) -> "Legend":
        """What the colours mean."""
        return Legend(self, digits)

    @property
    def marks(self) -> bool:
        """Whether the largest of each row is marked."""
        return self.step.name == "weights" and self.as_cells and self.columns > 1

    def _side(self, count: int, measure: Measure) -> float:
        return min(max(count, 1) * measure.cell, measure.most)

    def _breadth(self, measure: Measure) -> float:
        """How broad the heat map is; cells have numbers where there is room for them."""
        rows, columns = self.extent
        if not self.as_cells:
            square = columns * self.tall / max(rows, 1)
            return min(max(square, measure.most / 3, self.tall / 3), measure.most)
        if measure.large and rows * measure.cell <= self.tall and self.view.array.size:
            texts = formatted(self.view.array.reshape(-1, columns), self.digits)
            longest = max(len(text) for row in texts for text in row)
            cell = max(longest * _IN_CELLS * MONO_EM + 8, measure.cell)
            heads = max(wide(text, _LABEL) for text in self._labels(range(columns), measure))
            if heads + 8 <= 2 * cell:
                cell = max(cell, heads + 8)
            if columns * cell <= 1.5 * measure.most:
                self.numbered = True
                return columns * cell
        return self._side(columns, measure)

    def _labels(self, columns: range, measure: Measure) -> list[str]:
        names = self.step.columns
        return [str(j) if names is None else _cut(names[j], measure) for j in columns]

    def _row_ticks(self, measure: Measure) -> list[Tick]:
        count, _ = self.extent
        picked = range(count) if self.view.rows is None else self.view.rows
        many = self.step.rows is None and count > _SCALE
        name = _namer(self.step.rows, picked, measure)
        return list(_ticks(count, self.tall, _PITCH * (2 if many else 1), name))

    def _column_ticks(self, measure: Measure) -> tuple[list[Tick], bool]:
        """The labels above, and whether they stand upright: words that are too wide to lie.

        Numbers are rather left out.
        """
        _, count = self.extent
        name = _namer(self.step.columns, range(count), measure)
        if self.step.columns is None:
            pitch = wide(str(max(count - 1, 0)), _LABEL) + 8
            return list(_ticks(count, self.broad, pitch, name)), False
        ticks = list(_ticks(count, self.broad, _PITCH, name))
        pitch = ticks[1].at - ticks[0].at if len(ticks) > 1 else self.broad
        return ticks, any(wide(tick.text, _LABEL) + 6 > pitch for tick in ticks)

    def draw(self, matrix: Matrix, x: float, y: float) -> Iterator[str]:
        """One heat map, whose left margin begins at x, and whose numbers begin at y."""
        x += self.left
        for tick in self.row_ticks:
            at = y + tick.at + _LABEL * 0.35
            yield label(x - 6, at, tick.text, _LABEL, self.theme.quiet, text_anchor="end")
        for tick in self.column_ticks:
            yield self._above(tick, x, y)
        if not matrix.array.size:
            yield label(x, y + _LABEL, "empty", _LABEL, self.theme.quiet)
            return
        if matrix.hidden is not None and matrix.hidden.any():
            yield from hatched(x, y, self.broad, self.tall, self.theme)
        if self.as_cells:
            yield from self._cells(matrix, x, y)
        else:
            yield self._image(matrix, x, y)

    def _above(self, tick: Tick, x: float, y: float) -> str:
        at, theme = x + tick.at, self.theme
        if not self.upright:
            return label(at, y - 6, tick.text, _LABEL, theme.quiet, text_anchor="middle")
        turned = f"rotate(-90 {number(at + _LABEL * 0.35)} {number(y - 6)})"
        return label(at + _LABEL * 0.35, y - 6, tick.text, _LABEL, theme.quiet, transform=turned)

    def _cells(self, matrix: Matrix, x: float, y: float) -> Iterator[str]:
        """A cell for each number, with what it is for those who ask; then what stands on them."""
        w, h = self.broad / self.columns, self.tall / self.rows
        titles = self._titles(matrix)
        shown = formatted(matrix.array, self.digits) if self.numbered else []
        strongest = self._strongest(matrix.array)
        cells, texts, outlines = [], [], []
        for (i, j), value in np.ndenumerate(matrix.array):
            left, top = x + j * w, y + i * h
            hidden = matrix.hidden is not None and bool(matrix.hidden[i, j])
            paint = self._paint(float(value))
            fill = "none" if hidden else self._fill(paint, float(value))
            more = {"pointer_events": "all"} if fill == "none" else {}
            said = element("title", marked_up(next(titles)))
            cells.append(element("rect", said, x=left, y=top, width=w, height=h, fill=fill, **more))
            ink = self.theme.ink if hidden else _ink(paint)
            if (i, j) in strongest:
                outlines.append(_mark(left, top, w, h, ink))
            if self.numbered:
                text = "·" if hidden else shown[i][j]
                bold = {"font_weight": "bold"} if (i, j) in strongest else {}
                texts.append(
                    element("text", text, x=left + w / 2, y=top + h / 2 + 4, fill=ink, **bold)
                )
        yield element("g", "\n".join(["", *cells, ""]), shape_rendering="crispEdges")
        if texts:
            yield element(
                "g",
                "".join(texts),
                font_family=MONO,
                font_size=_IN_CELLS,
                text_anchor="middle",
                pointer_events="none",
            )
        if outlines:
            yield element("g", "".join(outlines), pointer_events="none")

    def _paint(self, value: float) -> Paint | None:
        level = None if self.heat is None else self.heat.level(value)
        return None if level is None or self.heat is None else self.heat.paints[level]

    def _fill(self, paint: Paint | None, value: float) -> str:
        if paint is None:
            return self.theme.least if value == -np.inf else self.theme.lost
        return hexadecimal(paint.background)

    def _strongest(self, array: Array) -> set[tuple[int, int]]:
        if not self.marks:
            return set()
        return {(i, j) for i, row in enumerate(array) for j in largest(row).tolist()}

    def _titles(self, matrix: Matrix) -> Iterator[str]:
        """What each cell is, row by row: "cat → sat: weights 0.6291"."""
        step = self.step
        where = f"{matrix_title(matrix.place, step.has_heads)}, " if matrix.place else ""
        arrow = " → " if step.columns_are_keys else ", "
        picked = range(self.rows) if self.view.rows is None else self.view.rows.tolist()
        columns = [named(step.column_names[j]) for j in range(self.columns)]
        texts = formatted(matrix.array, self.titled)
        hidden = np.zeros(matrix.array.shape, bool) if matrix.hidden is None else matrix.hidden
        for i, row, numbers in zip(picked, hidden.tolist(), texts, strict=True):
            query = f"{where}{named(step.row_names[i])}{arrow}"
            for key, unseen, text in zip(columns, row, numbers, strict=True):
                said = "hidden" if unseen else f"{step.name} {text}"
                yield f"{query}{key}: {said}"

    def _image(self, matrix: Matrix, x: float, y: float) -> str:
        """All the numbers as one picture, which shows the ground where a key is hidden."""
        return element(
            "image",
            x=x,
            y=y,
            width=self.broad,
            height=self.tall,
            preserveAspectRatio="none",
            style="image-rendering:pixelated",
            href=heat_png(matrix, self.heat, self.theme),
        )


class Legend:
    """A step's scale with its numbers, and what stands for that which is not on it."""

    def __init__(self, plate: Plate, digits: int) -> None:
        self.heat, self.theme = plate.heat, plate.theme
        self.low, self.high = "", ""
        if self.heat is not None:
            ends = np.array([[-self.heat.largest, self.heat.largest]])
            [[self.low, self.high]] = formatted(ends, digits)
            if not self.heat.around_zero:
                self.low, self.high = "0", share(self.heat.largest, digits)
        outlined = min(plate.broad / max(plate.columns, 1), plate.tall / max(plate.rows, 1))
        self.items = [(said, said) for said in without_colour(plate.view)]
        if plate.marks and self.heat is not None:
            self.items.append(("outline" if outlined >= _OUTLINED else "dot", "largest of its row"))
        scale = wide(self.low, QUIET) + wide(self.high, QUIET) + _BAR + 12 if self.heat else 0.0
        self.width = max(scale, sum(map(self._wide, self.items)))
        self.height = (18.0 if self.heat else 0.0) + (18.0 if self.items else 0.0)

    def _wide(self, item: tuple[str, str]) -> float:
        return _SWATCH + 5 + wide(item[1], QUIET) + 14

    def draw(self, x: float, y: float) -> Iterator[str]:
        """Its elements, from its upper left corner."""
        if self.heat is not None:
            yield from self._scale(self.heat, x, y)
            y += 18
        for item in self.items:
            yield from self._swatch(item[0], x, y)
            yield label(x + _SWATCH + 5, y + 10, item[1], QUIET, self.theme.quiet)
            x += self._wide(item)

    def _scale(self, heat: Heat, x: float, y: float) -> Iterator[str]:
        start = x + wide(self.low, QUIET) + 6
        last = len(heat.paints) - 1
        one = _BAR / _STEPS
        yield label(x, y + 10, self.low, QUIET, self.theme.quiet)
        for i in range(_STEPS):
            fill = hexadecimal(heat.paints[round(last * i / (_STEPS - 1))].background)
            left = start + i * one
            yield element("rect", x=left, y=y + 1, width=one + 0.3, height=10, fill=fill)
        yield label(start + _BAR + 6, y + 10, self.high, QUIET, self.theme.quiet)

    def _swatch(self, kind: str, x: float, y: float) -> Iterator[str]:
        if kind == "hidden":
            yield from hatched(x, y, _SWATCH, _SWATCH, self.theme)
        elif kind in ("-inf", "NaN"):
            fill = self.theme.least if kind == "-inf" else self.theme.lost
            yield element("rect", x=x, y=y, width=_SWATCH, height=_SWATCH, fill=fill)
        elif kind == "outline":
            yield _mark(x, y, _SWATCH, _SWATCH, self.theme.ink, least=0)
        else:
            yield _mark(x, y, _SWATCH, _SWATCH, self.theme.ink)


def _mark(x: float, y: float, width: float, height: float, ink: str, least: float = 14.0) -> str:
    """What marks a cell: an outline within it, or where it is small a dot."""
    small = min(width, height)
    if small < least:
        return element("circle", cx=x + width / 2, cy=y + height / 2, r=small / 5, fill=ink)
    return element(
        "rect",
        x=x + 1.5,
        y=y + 1.5,
        width=width - 3,
        height=height - 3,
        fill="none",
        stroke=ink,
        stroke_width=1.5,
    )


def _ink(paint: Paint | None) -> str:
    """The colour of text on a cell: black on what is NaN."""
    return "#000000" if paint is None else hexadecimal(paint.text)


def _cut(text: str, measure: Measure) -> str:
    return cut(text, measure.cap, _ROOM)


def _namer(labels: Labels, picked: "range | Array", measure: Measure) -> Callable[[int], str]:
    """What the i-th row or column drawn is called above or beside it."""

    def name(i: int) -> str:
        number = int(picked[i])
        return str(number) if labels is None else _cut(labels[number], measure)

    return name


def _ticks(count: int, length: float, pitch: float, name: Callable[[int], str]) -> Iterator[Tick]:
    """Labels along a side, as many as there is room for: every one, or every 2nd, 5th or 10th."""
    every = _round(ceil(pitch * count / max(length, 1) - 1e-9))
    for i in range(0, count, every):
        text = name(i)
        if text:
            yield Tick(text, (i + 0.5) * length / count)


def _round(count: int) -> int:
    """The next of 1, 2, 5, 10, 20, 50, … that is no less.

    >>> [_round(count) for count in (0, 1, 3, 6, 11, 400)]
    [1, 1, 5, 10, 20, 500]
    """
    power = 1
    while True:
        for first in (1, 2, 5):
            if first * power >= count:
                return first * power
        power *= 10


def _about(whole: int, shown: int) -> str:
    """How many numbers are one.

    >>> _about(12, 4), _about(5, 4), _about(1100, 768), _about(999, 300)
    ('3', '1 or 2', '1 or 2', 'about 3')
    """
    each = whole / max(shown, 1)
    if 1 < each < 2:
        return "1 or 2"
    return f"{each:,.0f}" if each == int(each) else f"about {each:,.0f}"
