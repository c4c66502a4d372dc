"""Steps as Markdown tables."""

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import BinaryIO

from qkvcli.core.facts import Ranked
from qkvcli.core.steps import Outline
from qkvcli.core.views import View
from qkvcli.render.grids import Grid, Room, grids
from qkvcli.render.screen import printable
from qkvcli.render.text import SINKS, formatted, markdown_cell, matrix_title, title

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
    if view.step.sinks:
        yield from (f"{SINKS}.".capitalize(), "")
    for matrix in view.matrices():
        if matrix.place:
            yield from (f"**{matrix_title(matrix.place, view.step.has_heads)}**", "")
        for grid in grids(view, matrix, room):
            yield from _table(grid)
            yield ""


def write_pairs(
    step: Outline,
    rows: Iterable[Ranked],
    stream: BinaryIO,
    room: Room = WHOLE,
) -> None:
    """For each query the keys that weigh most, a line each, as one table."""
    words = title(step)
    stream.write(f"**{words.name}** = {words.formula}   {words.shapes}\n\n".encode())
    if step.sinks:
        stream.write(f"{SINKS}.\n\n".capitalize().encode())
    heads = len(step.shape) > 2
    for i, row in enumerate(rows):
        place = (matrix_title(row.place, step.has_heads),) if heads else ()
        if i == 0:
            columns = ("head",) * heads
            stream.write(f"{_row((*columns, 'query', 'key', 'weight'))}\n".encode())
            stream.write(f"{_row((*[':--'] * (2 + heads), '--:'))}\n".encode())
        weights = formatted(row.weights[None], room.digits)[0]
        for key, weight in zip(row.keys.tolist(), weights, strict=True):
            line = (*place, step.row_names[row.query], step.column_names[key], weight)
            stream.write(f"{_row(tuple(map(printable, line)))}\n".encode())
    stream.write(b"\n")


def _table(grid: Grid) -> Iterator[str]:
    yield _row(grid.header)
    yield _row((":--", *["--:"] * (len(grid.header) - 1)))
    for i, line in enumerate(grid.lines):
        bold = ("**" if (i, j) in grid.strongest else "" for j in range(len(line)))
        yield _row(tuple(line), bold)


def _row(cells: tuple[str, ...], signs: Iterable[str] = repeat("")) -> str:
    texts = (f"{sign}{markdown_cell(cell)}{sign}" for cell, sign in zip(cells, signs, strict=False))
    return f"| {' | '.join(texts)} |"
