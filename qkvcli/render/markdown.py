"""Steps as Markdown tables."""

from collections.abc import Iterable, Iterator
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
    for index, matrix in view.matrices():
        if index:
            yield from (f"**{matrix_title(index, view.step.has_heads)}**", "")
        for grid in grids(view, matrix, room):
            yield from _table(grid)
            yield ""


def _table(grid: Grid) -> Iterator[str]:
    yield _row(grid.header)
    yield _row((":--", *["--:"] * (len(grid.header) - 1)))
    yield from map(_row, grid.lines)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(cell: str) -> str:
    """The cell, with the signs that Markdown would read as its own set off."""
    return "".join("\\" + c if c in r"\|*_`<[" else c for c in cell.strip())
