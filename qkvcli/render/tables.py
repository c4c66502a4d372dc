"""Steps as Rich tables."""

from collections.abc import Iterator
from typing import NamedTuple

from rich.box import SIMPLE_HEAD, Box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from qkvcli.core.steps import Outline
from qkvcli.core.views import View
from qkvcli.render.grids import GAP, Grid, Room, grids
from qkvcli.render.text import ascii_only, matrix_title, title

_ASCII_HEAD = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
_NAME, _SHAPES, _LABEL, _STRONGEST = "bold", "magenta", "magenta", "bold"  # seen on light and dark


class Block(NamedTuple):
    """Something to print, and the width that it needs: in less, Rich would cut it."""

    content: RenderableType
    width: int = 0


def step_tables(view: View, room: Room) -> Iterator[Block]:
    """A step's title, then its tables: one, or one for each head and batch."""
    yield heading(view.step, room)
    for index, matrix in view.matrices():
        if index:
            yield _line(Text(matrix_title(index, view.step.has_heads), style=_NAME))
        for grid in grids(view, matrix, room):
            yield Block(_table(grid, room.plain), grid.width)
            yield Block("")


def heading(step: Outline, room: Room) -> Block:
    """The title; where it is too long for the room it breaks before the shapes."""
    words = title(step)
    shown = ascii_only if room.plain else str
    gap = "\n  " if room.width is not None and len(shown(str(words))) > room.width else "   "
    return _line(
        Text.assemble(
            (words.name, _NAME),
            f" = {shown(words.formula)}{gap}",
            (shown(words.shapes), _SHAPES),
        )
    )


def _line(text: Text) -> Block:
    return Block(text, text.cell_len)


def _table(grid: Grid, plain: bool) -> Table:
    table = Table(
        box=_ASCII_HEAD if plain else SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0),
        header_style=_LABEL,
    )
    first, *others = grid.widths  # said, so that Rich need not measure every cell
    table.add_column("", style=_LABEL, no_wrap=True, width=first)
    for label, width in zip(grid.header[1:], others, strict=True):
        table.add_column(Text(label), justify="right", no_wrap=True, width=width)
    for i, (label, *cells) in enumerate(grid.lines):
        bold = ((i, j) in grid.strongest for j in range(1, len(cells) + 1))
        texts = (Text(cell, _STRONGEST if b else "") for cell, b in zip(cells, bold, strict=True))
        table.add_row(Text(label), *texts)
    return table
