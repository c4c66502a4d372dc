"""Steps as Rich tables."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from rich.box import SIMPLE_HEAD, Box
from rich.cells import cell_len
from rich.style import Style
from rich.table import Table
from rich.text import Text

from qkvcli.core.config import SCORES
from qkvcli.core.facts import Facts
from qkvcli.core.steps import Outline
from qkvcli.core.views import Matrix, View, by_matrix
from qkvcli.render.grids import GAP, Grid, Room, cut, grids
from qkvcli.render.heat import Heat
from qkvcli.render.screen import Block, ascii_only, folded
from qkvcli.render.text import matrix_title, title

_ASCII_HEAD = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
_NAME, _SHAPES, _LABEL = "bold", "magenta", "magenta"  # seen on light and dark
_NEAR = 5e-3
"""How far from 1 the sum of a row may be, and be called 1: 16 bits round each of its weights."""
_COARSE = ("float16", "bfloat16")
_SHOWN = 5e-5
"""The same where the rest of a row is a sink's, and no rounding."""
_STRONGEST, _QUIET = Style(bold=True), Style(dim=True)


def step_tables(views: Iterable[View], room: Room) -> Iterator[Block]:
    """Steps, each with its title and its tables; those of many heads head by head."""
    for many, run in groupby(views, key=lambda view: len(view.shape) > 2 and view.axes):
        group = list(run)
        if many and len(group) > 1:
            yield from _by_matrix(group, room)
        else:
            for view in group:
                yield from _by_step(view, room)


class _Drawn(NamedTuple):
    """What is shown of a matrix: its place, its tables with what is said below, its own scale."""

    place: tuple[int, ...]
    tables: list[tuple[Grid, str]]
    heat: Heat | None

    @classmethod
    def of(cls, view: View, matrix: Matrix, room: Room) -> "_Drawn":
        """What is shown of a matrix, without its numbers."""
        found = grids(view, matrix, room, ends=True)
        tables = [(grid, facts_line(view, matrix, room) if grid.ends else "") for grid in found]
        return cls(matrix.place, tables, _heat_of(view, matrix, room))


def _drawn(group: Sequence[View], room: Room) -> Iterator[tuple[_Drawn, ...]]:
    """What is shown of each matrix of some views; one matrix's numbers are there at a time."""

    def draw(matrices: tuple[Matrix, ...]) -> tuple[_Drawn, ...]:
        pairs = zip(group, matrices, strict=True)
        return tuple(_Drawn.of(view, matrix, room) for view, matrix in pairs)

    return by_matrix(group, draw)


def _scaled(
    group: Sequence[View], room: Room
) -> tuple[Iterable[tuple[_Drawn, ...]], list[Heat | None]]:
    """The same, and the scale of colours of each view, for which all are drawn first."""
    drawn = _drawn(group, room)
    if not any(_is_warm(view, room) for view in group):
        return drawn, [None] * len(group)
    held = list(drawn)
    columns = zip(*held, strict=True) if held else [()] * len(group)
    return held, [Heat.joined(one.heat for one in column) for column in columns]


def _by_step(view: View, room: Room) -> Iterator[Block]:
    """A step's title, then its tables: one, or one for each head and batch."""
    drawn, [heat] = _scaled([view], room)
    yield from _title(view, room, heat)
    for (one,) in drawn:
        if one.place:
            yield matrix_line(view.step, one.place)
        yield from _tables(one, room, heat)


def _by_matrix(group: Sequence[View], room: Room) -> Iterator[Block]:
    """Several steps of the same heads and batches: for each of those, all the steps."""
    matrices, heats = _scaled(group, room)
    for drawn in matrices:
        yield matrix_line(group[0].step, drawn[0].place)
        for view, one, heat in zip(group, drawn, heats, strict=True):
            yield from _title(view, room, heat)
            yield from _tables(one, room, heat)


def matrix_line(step: Outline, place: tuple[int, ...]) -> Block:
    """A line that says which of a step's matrices follows."""
    return _line(Text(matrix_title(place, step.has_heads), style=_NAME))


def _tables(drawn: _Drawn, room: Room, heat: Heat | None) -> Iterator[Block]:
    """The tables of one matrix, and what there is to say of it."""
    for grid, facts in drawn.tables:
        yield Block(_table(grid, room, heat), grid.width)
        if facts:
            yield _line(Text(facts, style=_QUIET))
        yield Block("")


def heat_of(view: View, room: Room) -> Heat | None:
    """The scale of colours for a step's cells, where they have any."""
    if not _is_warm(view, room):
        return None
    return Heat.joined(_heat_of(view, matrix, room) for matrix in view.matrices())


def _is_warm(view: View, room: Room) -> bool:
    return room.heat is not None and view.step.name in (*SCORES, "weights")


def _heat_of(view: View, matrix: Matrix, room: Room) -> Heat | None:
    """The scale of a single matrix."""
    return Heat.of(view.step.name, matrix.array) if _is_warm(view, room) else None


def _title(view: View, room: Room, heat: Heat | None) -> Iterator[Block]:
    """The title, and what the colours of the cells below mean."""
    yield heading(view.step, room)
    if heat is not None:
        yield _line(heat.legend(room.heat, room.digits, room.plain))


def heading(step: Outline, room: Room) -> Block:
    """The title; where it is too long for the room it breaks before the shapes."""
    words = title(step)
    shown = ascii_only if room.plain else str
    computed, shapes = f"{words.name} = {shown(words.formula)}", shown(words.shapes)
    lines, gap = [computed], "   "
    if room.width is not None and cell_len(f"{computed}{gap}{shapes}") > room.width:
        lines, gap = folded(computed, room.width, "  "), "\n  "
        shapes = "\n".join(folded(shapes, room.width - 2, "  "))
    return _line(
        Text.assemble(
            (words.name, _NAME), "\n".join(lines)[len(words.name) :], gap, (shapes, _SHAPES)
        )
    )


def _line(text: Text) -> Block:
    return Block(text, max(map(cell_len, text.plain.splitlines()), default=0))


def _table(grid: Grid, room: Room, heat: Heat | None) -> Table:
    table = Table(
        box=_ASCII_HEAD if room.plain else SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=0,
        header_style=_LABEL,
    )
    first, *others = grid.widths  # said, so that Rich need not measure every cell
    table.add_column("", style=_LABEL, no_wrap=True, width=first)
    for label, width in zip(grid.header[1:], others, strict=True):
        table.add_column(Text(label), justify="right", no_wrap=True, width=width + GAP - 1)
    if grid.ends:
        table.add_column("", no_wrap=True)
    for i, (label, *cells) in enumerate(grid.lines):
        texts = (_cell(grid, (i, j), cell, room, heat) for j, cell in enumerate(cells, 1))
        ends = [Text(f" {grid.ends[i]}")] if grid.ends else []
        table.add_row(Text(label), *texts, *ends)
    return table


def _cell(grid: Grid, place: tuple[int, int], text: str, room: Room, heat: Heat | None) -> Text:
    """A cell: the largest weight of a row has a star before it, in the gap."""
    if place in grid.hidden or text.strip() in ("-inf", room.ellipsis):
        return Text(text, _QUIET)
    style = Style()
    if heat is not None and room.heat is not None:
        style = heat.style(grid.numbers[place], room.heat)
    if place in grid.strongest:
        return Text(f"*{text}", style + _STRONGEST)
    return Text(text, style)


def facts_line(view: View, matrix: Matrix, room: Room) -> str:
    """What is said below a matrix of weights; where it is too long, on several lines."""
    sinks = view.step.sinks
    facts = Facts.of(matrix.weighed, sinks)
    if facts is None:
        return ""
    count = view.step.shape[-2]
    low, high = facts.sums
    exact = sinks and view.step.kind not in _COARSE
    near = max(abs(low - 1), abs(high - 1)) < (_SHOWN if exact else _NEAR)
    sums = "1" if near else f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    line = f"{'rows' if len(matrix.array) == count else 'shown rows'} sum to {sums}"
    if len(matrix.array) == 1:
        line = f"the row sums to {sums}"
    if facts.unseeing:
        line += f", but {facts.unseeing} {'sees' if facts.unseeing == 1 else 'see'} no key"
    rest = sinks and not near
    if rest:
        line += ", and the sink takes the rest"
    if near or rest:
        of = "2^entropy, without the sink" if rest else "2^entropy"
        line += f"; effective keys ({of}): {_spread(facts, view, room)}"
        line += f" of {view.step.shape[-1]}"
    return line if room.width is None else "\n".join(folded(line, max(room.width, 1)))


def _spread(facts: Facts, view: View, room: Room) -> str:
    """How many keys share a row, from least to most."""
    numbers = range(view.step.shape[-2]) if view.rows is None else view.rows.tolist()
    pairs = ((facts.fewest, facts.sharpest), (facts.most, facts.flattest))
    few, many = (
        f"{keys:.{2 if keys < 10 else 1 if keys < 100 else 0}f} "
        f"({cut(view.step.row_names[numbers[row]], 8, room)})"
        for keys, row in pairs
    )
    return few if facts.sharpest == facts.flattest else f"{few} to {many}"
