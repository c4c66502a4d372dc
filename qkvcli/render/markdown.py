"""Steps as Markdown tables."""

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import BinaryIO

from qkvcli.core.views import View
from qkvcli.render.grids import Grid, Room, grids
from qkvcli.render.text import matrix_title, title

WHOLE = Room()


def write_markdown(views: Iterable[View], stream: BinaryIO, room: Room = WHOLE) -> None:
    """Steps as Markdown: for each its title, then a table for each matrix."""
    for view in views:
        for line in step_markdown(view, room):
            stream.write(f"{line}\n".encode())


def step_markdown(view: View, room: Room) -> Iterator[str]:
    """A step as Markdown, line by line."""
    words = title(view.step)
    yield f"**{words.name}** = {words.formula}   {words.shapes}"
    yield ""
    for matrix in view.matrices():
        if matrix.place:
            yield from (f"**{matrix_title(matrix.place, view.step.has_heads)}**", "")
        for grid in grids(view, matrix, room):
            yield from _table(grid)
            yield ""


def _table(grid: Grid) -> Iterator[str]:
    yield _row(grid.header)
    yield _row((":--", *["--:"] * (len(grid.header) - 1)))
    for i, line in enumerate(grid.lines):
        bold = ("**" if (i, j) in grid.strongest else "" for j in range(len(line)))
        yield _row(tuple(line), bold)


def _row(cells: tuple[str, ...], signs: Iterable[str] = repeat("")) -> str:
    texts = (f"{sign}{_escaped(cell)}{sign}" for cell, sign in zip(cells, signs, strict=False))
    return f"| {' | '.join(texts)} |"


def _escaped(cell: str) -> str:
    """The cell, with the signs that Markdown would read as its own set off."""
    return "".join("\\" + c if c in r"\|*_`<[" else c for c in cell.strip())
