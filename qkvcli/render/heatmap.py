"""Steps as pictures: two rows of numbers on a line of half blocks, or one in shades of grey."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.color import Color
from rich.style import Style
from rich.text import Text

from qkvcli.core.operands import Array, Labels
from qkvcli.core.patches import Fit, Patches
from qkvcli.core.steps import Outline
from qkvcli.render.grids import GAP, Room, cut
from qkvcli.render.heat import COLOURED, Heat
from qkvcli.render.screen import Block, ascii_only, folded
from qkvcli.render.tables import heading
from qkvcli.render.text import SINKS, beyond, formatted, matrix_title, without_colour

_NAME, _LABEL = "bold", "magenta"  # as in tables
_UPPER, _LOWER = "▀", "▄"
_EVERY = 2**40  # as many as there are
_SHORTEST = 3  # columns of text that a label has at least


class Pen:
    """How pictures are drawn: in colours or shades, in a room, whose height is of lines.

    A line has two rows of numbers, as half blocks, where there are colours for both. Shades
    fill a character, and so do colours where there is ASCII alone: one row then, rather than
    the larger of two, so that each number that fits has its own place.
    """

    def __init__(self, room: Room, colours: str | None) -> None:
        self.room = room
        self.colours = colours if colours in COLOURED else None
        self.rows_a_line = 2 if self.colours is not None and not room.plain else 1

    def fit(self, steps: Sequence[Outline], rows: Array | None) -> Fit:
        """How large the pictures of these steps may be, of these rows (None: all)."""
        if self.room.full:
            return Fit(_EVERY, _EVERY)
        labels = [
            cell_len(label)
            for step in steps
            for label in self.corners(step.rows, step.shape[-2], rows)
        ]
        width, height = self.room.width or _EVERY, self.room.height or _EVERY
        return Fit(height * self.rows_a_line, max(width - max(labels, default=0) - 1, 1))

    def corners(self, labels: Labels, count: int, rows: Array | None = None) -> list[str]:
        """The first and the last label of ``count`` rows or columns, or of those picked."""
        numbers = range(count) if rows is None else rows.tolist()
        ends = [numbers[0], numbers[-1]] if len(numbers) else []
        named = (str(i) if labels is None else labels[i] for i in ends)
        return [cut(label, self.room.cap(4, least=_SHORTEST), self.room) for label in named]

    def line(self, heat: Heat, rows: Array) -> Text:
        """One line of a picture, from one or two rows of numbers."""
        if self.colours is None:
            return Text("".join(heat.shade(value, self.room.plain) for value in rows[0].tolist()))
        styles = [[heat.style(value, self.colours) for value in row] for row in rows.tolist()]
        if self.rows_a_line == 1:
            cells = [(" ", style) for style in styles[0]]
        else:
            lower = styles[1] if len(styles) > 1 else [Style.null()] * len(styles[0])
            cells = [
                _halves(above.bgcolor, below.bgcolor)
                for above, below in zip(styles[0], lower, strict=True)
            ]
        text = Text()
        for style, run in groupby(cells, key=lambda cell: cell[1]):
            text.append("".join(sign for sign, _ in run), style)
        return text


@cache
def _halves(above: Color | None, below: Color | None) -> tuple[str, Style]:
    """A cell of two numbers, one above the other; the terminal's own colour where none is."""
    if above is None:
        return (" ", Style.null()) if below is None else (_LOWER, Style.from_color(below))
    return _UPPER, Style.from_color(above, below)


def step_heatmap(patches: Patches, pen: Pen) -> Iterator[Block]:
    """A step's title, the legend of its picture, and the picture, or one of each matrix."""
    view, room = patches.view, pen.room
    yield heading(view.step, room)
    heat = Heat.of(view.step.name, view.array, patches.usual)
    if heat is not None:
        yield from map(_block, _legend(patches, heat, pen))
        for band in _bands(patches, heat, pen):
            yield _block(band)
    elif view.array.size:
        yield _block(Text("no number to colour"))
    if patches.strongest:
        yield _block(_strongest(patches, pen))
    yield Block("")


def _block(text: Text) -> Block:
    return Block(text, max(map(cell_len, text.plain.split("\n"))))


def _legend(patches: Patches, heat: Heat, pen: Pen) -> Iterator[Text]:
    """The scale, what has no place on it, and how many queries were left out."""
    room = pen.room
    legend = heat.legend(pen.colours, room.digits, room.plain)
    blank = list(without_colour(patches.view))
    if blank and (heat.around_zero or pen.colours is not None):  # small weights are blank too
        note = f"  blank: {' or '.join(blank)}"
        fits = room.width is None or legend.cell_len + len(note) <= room.width
        legend.append(note if fits else "\n" + note.strip())
    yield legend
    if patches.sample is not None:
        taken, least, most = patches.sample
        of = f"{least:,}" if least == most else f"about {least:,}"
        yield Text(f"{taken:,} of {of} queries for each row")
    few = beyond(patches.usual, patches.view.array, room.digits)
    for said in (SINKS if patches.view.step.sinks else "", few):
        if said:
            lines = [said] if room.width is None else folded(said, max(room.width, 1), "  ")
            yield Text("\n".join(lines))


def _bands(patches: Patches, heat: Heat, pen: Pen) -> Iterator[Text]:
    """The pictures, as many beside each other as fit."""
    step, room = patches.view.step, pen.room
    pictures = [
        (matrix_title(matrix.place, step.has_heads) if matrix.place else "", matrix.array)
        for matrix in patches.view.matrices()
    ]
    queries = pen.corners(step.rows, step.shape[-2], patches.view.rows)
    keys = _above(pen.corners(step.columns, step.shape[-1]), patches.view.array.shape[-1])
    left = max(map(cell_len, queries)) + 1
    widest = max(cell_len(keys), *(max(len(name), m.shape[-1]) for name, m in pictures))
    beside = len(pictures)
    if room.width is not None:
        beside = max((room.width - left + GAP) // (widest + GAP), 1)
    for i in range(0, len(pictures), beside):
        yield _band(pictures[i : i + beside], queries, keys, left, widest, heat, pen)


def _band(
    pictures: Sequence[tuple[str, Array]],
    queries: list[str],
    keys: str,
    left: int,
    widest: int,
    heat: Heat,
    pen: Pen,
) -> Text:
    """Some pictures beside each other; the labels of the rows stand before the first."""
    names = [name for name, _ in pictures]
    lines = [_beside("", [Text(name, _NAME) for name in names], left, widest)] if any(names) else []
    if keys:
        lines.append(_beside("", [Text(keys, _LABEL)] * len(pictures), left, widest))
    rows = range(0, len(pictures[0][1]), pen.rows_a_line)
    for i in rows:
        drawn = [pen.line(heat, matrix[i : i + pen.rows_a_line]) for _, matrix in pictures]
        label = queries[0] if i == 0 else queries[-1] if i == rows[-1] else ""
        lines.append(_beside(label, drawn, left, widest))
    return Text("\n").join(lines)


def _beside(label: str, parts: Sequence[Text], left: int, widest: int) -> Text:
    line = Text.assemble((set_cell_size(label, left), _LABEL))
    for n, part in enumerate(parts, 1):
        line.append_text(part)
        line.append(" " * (widest - part.cell_len + GAP if n < len(parts) else 0))
    return line


def _above(labels: list[str], columns: int) -> str:
    """The first and the last label above their columns, as far as both have room.

    The last one ends above the last column, or stands above it at least.

    >>> _above(["The", "mat"], 9), _above(["The", "mat"], 5), _above(["The", "mat"], 4)
    ('The   mat', 'The mat', '')
    """
    first, last = labels
    if columns == 1:
        return first
    begin = max(columns - cell_len(last), cell_len(first) + 1)
    return set_cell_size(first, begin) + last if begin < columns else ""


def _strongest(patches: Patches, pen: Pen) -> Text:
    """The largest weights, in as many lines as they need."""
    width = pen.room.width
    of = "strongest" if patches.sample is None else "strongest of these queries"
    line, lines = f"{of}:", list[str]()
    for text in _pairs(patches, pen):
        if width is not None and cell_len(line) + 1 + cell_len(text) > width and line.strip():
            lines.append(line)
            line = " "
        line += f" {text}"
    return Text("\n".join([*lines, line]))


def _pairs(patches: Patches, pen: Pen) -> Iterator[str]:
    """Each of the largest weights: its matrix, query and key."""
    step, room = patches.view.step, pen.room
    queries, keys = step.row_names, step.column_names
    weights = [pair.weight for pair in patches.strongest]
    [numbers] = formatted(np.array([weights]), room.digits)
    arrow = ascii_only("→") if room.plain else "→"
    for n, (pair, number) in enumerate(zip(patches.strongest, numbers, strict=True), 1):
        head = f"{matrix_title(pair.matrix, step.has_heads)}: " if pair.matrix else ""
        tail = f" {number}" + ("," if n < len(weights) else "")
        left = (room.width or _EVERY) - len(f"  {head} {arrow} {tail}")
        names = (queries[pair.query], keys[pair.key])
        query, key = (
            cut(name, room._replace(width=left).cap(2, least=_SHORTEST), room) for name in names
        )
        yield f"{head}{query} {arrow} {key}{tail}"
