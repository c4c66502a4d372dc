"""Steps as one picture in SVG: beside each other in their order, with nothing fetched.

Each step has a header (its title, what was left out, its scale), and below it a heat map, or
one for each head and batch. Small matrices have a cell for each number; those that are larger
are one embedded picture each.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from math import ceil, prod
from typing import BinaryIO, NamedTuple

from rich.cells import cell_len

from qkvcli.core.operands import Shape
from qkvcli.core.patches import Fit, Patches
from qkvcli.core.views import Matrix
from qkvcli.errors import UsageError
from qkvcli.render.drawing import SANS, THEMES, Theme, element, escaped, label, marked_up, wide
from qkvcli.render.plate import PLAIN, QUIET, Measure, Plate
from qkvcli.render.screen import folded
from qkvcli.render.summary import pairs, summary, title_of
from qkvcli.render.text import DIGITS, matrix_title

FIT = Fit(1024, 1024)
"""How large a matrix may be that is drawn; what is larger is reduced to it."""

_SIDES = (FIT.rows, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32)
"""How many rows and columns are drawn, fewer where there are many matrices."""
_POINTS = 2**21
"""How many numbers all the matrices of a picture may have together."""
_CELLS, _SIDE = 2**14, 64
"""How many cells are drawn one by one, in all and along each side of a matrix."""
_FEW = 4
"""Up to how many heads and batches are drawn as large as one is."""
_MOST = 400
"""How many heat maps one picture has."""
_MARGIN, _GAP, _BETWEEN = 24.0, 28.0, 36.0  # around it all, between heat maps, between groups
_WIDE = 1180.0
"""How wide heat maps of one step may be together, before they go on in another row."""
_LEAST = 190.0  # how wide a header is at least
_COLUMNS = 28  # of text, that a header has at least
_WIDER = 1.3  # than its matrix a step may be, for shapes on one line
_LINE = 18.0
_SAID = 26  # columns of text, that stand above an arrow at most


def fit(shapes: Iterable[Shape]) -> Fit:
    """How large matrices of these shapes (…, rows, columns) may be, all drawn in one picture.

    >>> fit([(12, 9, 9), (9, 384)]), fit([(12, 4000, 4000)])
    (Fit(rows=1024, columns=1024), Fit(rows=384, columns=384))
    """
    known = list(shapes)
    for side in _SIDES:
        sizes = (prod(s[:-2]) * min(s[-2], side) * min(s[-1], side) for s in known)
        if sum(sizes) <= _POINTS:
            break
    return Fit(side, side)


def write_svg(
    found: Sequence[Patches], stream: BinaryIO, theme: str = "light", digits: int | None = None
) -> None:
    """The picture of some steps into a stream; see `picture`."""
    stream.write(picture(found, theme, digits).encode())


def picture(found: Sequence[Patches], theme: str = "light", digits: int | None = None) -> str:
    """Steps, reduced to `FIT` or less, as a whole document in SVG.

    ``theme`` is the page's, "light" or "dark"; ``digits`` are the decimals (None: 2 in cells, 4
    elsewhere). Raises UsageError for a theme that does not exist.
    """
    if theme not in THEMES:
        raise UsageError(f"theme {theme!r} is none of {', '.join(THEMES)}")
    most = fit(one.view.array.shape for one in found)
    drawn = [_bounded(one, most) for one in found]
    look = _Look(THEMES[theme], digits, _as_cells(drawn))
    groups = [
        _Group(list(run), look)
        for _, run in groupby(drawn, key=lambda one: (one.view.array.ndim > 2, one.view.axes))
    ]
    width = max((group.width for group in groups), default=_LEAST) + 2 * _MARGIN
    parts: list[str] = []
    y = _MARGIN
    for group in groups:
        parts += group.draw(_MARGIN, y)
        y += group.height + _BETWEEN
    height = y - _BETWEEN + _MARGIN if groups else 2 * _MARGIN
    return _document(width, height, parts, drawn, look)


def _document(
    width: float, height: float, parts: list[str], found: Sequence[Patches], look: "_Look"
) -> str:
    width, height = ceil(width), ceil(height)
    content = [
        element("title", marked_up(title_of(found))),
        element("desc", marked_up(summary(found, look.digits))),
        element("rect", width=width, height=height, fill=look.theme.page),
        element("g", "\n".join(["", *parts, ""]), font_family=SANS),
    ]
    return (
        element(
            "svg",
            "\n".join(["", *content, ""]),
            xmlns="http://www.w3.org/2000/svg",
            width=width,
            height=height,
            viewBox=f"0 0 {width} {height}",
            role="img",
        )
        + "\n"
    )


class _Look(NamedTuple):
    """What is the same for all of a picture."""

    theme: Theme
    asked: int | None
    as_cells: bool

    @property
    def digits(self) -> int:
        return DIGITS if self.asked is None else self.asked


def _bounded(one: Patches, most: Fit) -> Patches:
    """The same, reduced once more where there are too many numbers in all."""
    array = one.view.array
    if array.shape[-2] <= most.rows and array.shape[-1] <= most.columns:
        return one
    return one.within(most)


def _as_cells(found: Sequence[Patches]) -> bool:
    """Whether there are few enough numbers for a cell each, of those steps that may have them."""
    sizes = (one.view.array.size for one in found if small(one))
    return sum(sizes) <= _CELLS


def small(one: Patches) -> bool:
    """Whether a step's matrices are small enough for a cell for each number."""
    rows, columns = one.view.array.shape[-2:]
    return max(rows, columns) <= _SIDE and (rows, columns) == extent(one)


def extent(one: Patches) -> tuple[int, int]:
    """How many rows and columns there are to be drawn, before they are reduced."""
    view = one.view
    return view.step.shape[-2] if view.rows is None else len(view.rows), view.step.shape[-1]


class _Group:
    """Steps of the same heads and batches: a row for each of those, or one step's in a grid."""

    def __init__(self, found: Sequence[Patches], look: _Look) -> None:
        self.theme, self.look = look.theme, look
        self.found = found
        count = prod(found[0].view.array.shape[:-2])
        shown = min(count, max(_MOST // len(found), 1))
        self.left_out = count - shown
        measure = Measure(count <= _FEW, look.asked, look.theme)
        self.plates = [
            Plate(one, extent(one), look.as_cells and small(one), measure) for one in found
        ]
        matrices = [list(islice(one.view.matrices(), shown)) for one in found]
        self.rows: list[list[tuple[Plate, Matrix]]]
        if len(found) == 1 and shown:
            beside = _beside(self.plates[0].width, shown)
            row = [(self.plates[0], matrix) for matrix in matrices[0]]
            self.rows = [row[i : i + beside] for i in range(0, shown, beside)]
        else:
            self.rows = [
                list(zip(self.plates, row, strict=True)) for row in zip(*matrices, strict=True)
            ]
        self.headers = [_Header(plate, look) for plate in self.plates]
        self.top = max(header.height for header in self.headers)
        self.columns = self._columns()
        self.named = found[0].view.array.ndim > 2
        self.above = max(plate.top for plate in self.plates) + (_LINE if self.named else 0)
        self.tall = max(plate.tall for plate in self.plates)
        self.footer = [line for line in self._footer() if line]

    def _columns(self) -> list[float]:
        """Where each step begins, and at last where all of it ends."""
        if len(self.plates) == 1:
            beside = max(map(len, self.rows), default=0)
            inner = beside * (self.plates[0].width + _GAP) - _GAP
            return [0.0, max(inner, self.headers[0].width)]
        places = [0.0]
        for i, (plate, header) in enumerate(zip(self.plates, self.headers, strict=True)):
            gap = _joint(self.plates[i + 1], plate)[1] if i + 1 < len(self.plates) else 0.0
            places.append(places[-1] + max(plate.width, header.width) + gap)
        return places

    def _footer(self) -> Iterator[str]:
        """What is said below the heat maps."""
        if self.left_out:
            kind = "heads and batches" if len(self.found[0].view.axes) > 1 else "heads"
            yield f"{self.left_out:,} more {kind} are not drawn: --head chooses others"
        for one in self.found:
            if one.strongest:
                of = "strongest" if one.sample is None else "strongest of these queries"
                yield from _lines(f"{of}:", pairs(one, self.look.digits), self.columns[-1])

    @property
    def width(self) -> float:
        """How wide it is."""
        said = max((wide(line, PLAIN) for line in self.footer), default=0.0)
        return max(self.columns[-1], said)

    @property
    def height(self) -> float:
        """How tall it is."""
        rows = len(self.rows) * (self.above + self.tall + _GAP) - _GAP if self.rows else 0.0
        return self.top + rows + (len(self.footer) * _LINE + 14 if self.footer else 0)

    def draw(self, x: float, y: float) -> Iterator[str]:
        """Its elements, from its upper left corner."""
        for place, header in zip(self.columns, self.headers, strict=False):
            yield from header.draw(x + place, y)
        y += self.top
        for row in self.rows:
            y += self.above
            for j, (plate, matrix) in enumerate(row):
                grid = len(self.plates) == 1
                left = x + (j * (plate.width + _GAP) if grid else self.columns[j])
                if self.named:
                    yield self._name(plate, matrix, left, y)
                yield from plate.draw(matrix, left, y)
                if not grid and j + 1 < len(row):
                    then, right = row[j + 1][0], x + self.columns[j + 1]
                    middle = y + min(plate.tall, then.tall) / 2  # beside both of them
                    yield from _arrow(plate, then, right, middle, self.theme)
            y += self.tall + _GAP
        for n, line in enumerate(self.footer):
            yield label(x, y + n * _LINE, line, PLAIN, self.theme.quiet)

    def _name(self, plate: Plate, matrix: Matrix, x: float, y: float) -> str:
        name = matrix_title(matrix.place, plate.step.has_heads)
        above = y - max(p.top for p in self.plates) - 5
        return label(x + plate.left, above, name, PLAIN, self.theme.ink, font_weight="bold")


def _lines(first: str, parts: Iterable[str], width: float) -> Iterator[str]:
    """Parts after a first word, with commas between them, in as many lines as they need."""
    line, comma = first, ""
    for part in parts:
        longer = f"{line}{comma} {part}"
        if comma and wide(longer, PLAIN) > max(width, _LEAST):
            yield line + comma
            longer = part
        line, comma = longer, ","
    yield line


def _beside(width: float, count: int) -> int:
    """How many heat maps of one step stand in a row; the last row is as full as it can be."""
    most = max(int((_WIDE + _GAP) // (width + _GAP)), 1)
    return ceil(count / ceil(count / most))


class _Header:
    """What stands above a step: its title, what was left out, and its scale."""

    def __init__(self, plate: Plate, look: _Look) -> None:
        self.plate, self.theme = plate, look.theme
        words = plate.title
        columns = max(int(plate.width / (PLAIN * 0.6)), _COLUMNS)
        self.name = words.name
        formula = f"{words.name} = {words.formula}"
        self.lines = [(line, PLAIN, look.theme.ink) for line in folded(formula, columns, "  ")]
        sides = [words.shapes]
        if wide(words.shapes, QUIET) > _WIDER * max(plate.width, _LEAST):
            sides = words.shapes.split(" → ")
        whole = max(columns + 2, *(cell_len(side) + 2 for side in sides))
        notes = [(words.shapes, whole), *((note, columns + 2) for note in plate.notes())]
        for note, most in notes:
            self.lines += [(line, QUIET, look.theme.quiet) for line in folded(note, most, "  ")]
        self.legend = plate.legend(look.digits)
        widths = [wide(line, size, bold=size == PLAIN) for line, size, _ in self.lines]
        self.width = max([*widths, self.legend.width, _LEAST])
        self.height = len(self.lines) * _LINE + self.legend.height + 12

    def draw(self, x: float, y: float) -> Iterator[str]:
        """Its elements, from its upper left corner."""
        for n, (line, size, fill) in enumerate(self.lines):
            text = marked_up(line)
            if n == 0:
                name = element("tspan", escaped(self.name), font_weight="bold")
                text = name + marked_up(line[len(self.name) :])
            yield element("text", text, x=x, y=y + 13 + n * _LINE, font_size=size, fill=fill)
        yield from self.legend.draw(x, y + len(self.lines) * _LINE + 4)


def _joint(plate: Plate, before: Plate) -> tuple[str, float]:
    """What makes a step of the one before it, and how wide the gap between them is."""
    name, formula = before.step.name, plate.step.formula
    if not re.search(rf"\b{name}\b", formula):  # "query_normed" is none of "query"
        return "", _GAP
    made = formula.removeprefix(name).strip()
    if made.endswith(f"({name})"):
        made = made.removesuffix(f"({name})")
    if cell_len(made) > _SAID:
        made = ""
    return made, max(wide(made, QUIET) + 24, 56.0)


def _arrow(before: Plate, plate: Plate, right: float, y: float, theme: Theme) -> Iterator[str]:
    """An arrow that ends at the next step, with what is done above it."""
    made, gap = _joint(plate, before)
    if gap == _GAP:
        return
    start, end = right - gap + 8, right - 8
    d = f"M{start:.1f} {y:.1f}H{end:.1f}m-6 -4l6 4l-6 4"
    yield element("path", d=d, fill="none", stroke=theme.quiet, stroke_width=1.5)
    if made:
        middle = (start + end) / 2
        yield label(middle, y - 8, made, QUIET, theme.ink, text_anchor="middle")
