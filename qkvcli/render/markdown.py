"""Steps as Markdown tables."""

from collections.abc import Iterable, Iterator
from itertools import groupby, repeat
from typing import BinaryIO

import numpy as np

from qkvcli.core.facts import Ranked
from qkvcli.core.operands import Labels
from qkvcli.core.steps import Outline
from qkvcli.core.views import Matrix, SomeRows, View
from qkvcli.render.grids import Grid, Room, grids
from qkvcli.render.screen import printable
from qkvcli.render.text import (
    SINKS,
    formatted,
    markdown_cell,
    matrix_title,
    notation_of,
    peak_of,
    title,
)

WHOLE = Room()
_AT_ONCE = 2**18
"""About so many cells are text at a time."""


def write_markdown(views: Iterable[View], stream: BinaryIO, room: Room = WHOLE) -> None:
    """Steps as Markdown: for each its title, then a table for each matrix."""
    for view in views:
        for line in step_markdown(view, room):
            stream.write(f"{line}\n".encode())


def step_markdown(view: View, room: Room) -> Iterator[str]:
    """A step as Markdown, line by line; where no width bounds it, some rows at a time."""
    words = title(view.step)
    yield f"**{words.name}** = {words.formula}   {words.shapes}"
    yield ""
    if view.step.sinks:
        yield from (f"{SINKS}.".capitalize(), "")
    if room.width is None and not view.gaps:
        yield from _whole_tables(view, room)
        return
    for matrix in view.matrices():
        yield from _name(view, matrix)
        for grid in grids(view, matrix, room):
            yield from _table(grid)
            yield ""


def _name(view: View, matrix: Matrix) -> Iterator[str]:
    """Which of a step's matrices follows, where there are several."""
    if matrix.place:
        yield from (f"**{matrix_title(matrix.place, view.step.has_heads)}**", "")


def _whole_tables(view: View, room: Room) -> Iterator[str]:
    """Every row and column of each matrix, of which no more is held than is written at a time.

    Nothing is aligned over the rows; but one notation serves a whole matrix, so that one that
    comes in several parts is computed twice.
    """
    count, columns = view.shape[-2:]
    most = max(_AT_ONCE // max(columns, 1), 1)
    names = _labels(view.step.columns, range(columns))
    peaks = _peaks(view, most) if count > most else repeat(None)
    for stretch in view.stretches(most):
        if stretch.rows.start == 0:
            peak = next(peaks)
            notation = None if peak is None else notation_of(peak, room.digits)
            yield from _name(view, stretch.matrix)
            yield _row(("", *names))
            yield _row((":--", *["--:"] * columns))
        yield from _lines(view, stretch, notation, room)
        if stretch.rows.stop == count:
            yield ""


def _peaks(view: View, most: int) -> Iterator[float]:
    """The largest number of each matrix."""
    stretches = groupby(view.stretches(most), key=lambda stretch: stretch.matrix.place)
    yield from [max(peak_of(one.matrix.array) for one in run) for _, run in stretches]


def _lines(view: View, stretch: SomeRows, notation: str | None, room: Room) -> Iterator[str]:
    """Rows of a table, with the largest weights bold, and a dot for what is hidden."""
    matrix, numbers = stretch.matrix, range(view.step.shape[-2])[stretch.rows]
    labels = _labels(view.step.rows, numbers if view.rows is None else view.rows[stretch.rows])
    lines = formatted(matrix.array, room.digits, notation)
    for row, column in [] if matrix.hidden is None else np.argwhere(matrix.hidden).tolist():
        lines[row][column] = room.dot
    if view.step.name == "weights":
        for line, weighed in zip(lines, matrix.weighed, strict=True):
            for j in weighed.largest.tolist():
                line[j] = f"**{line[j]}**"
    for label, line in zip(labels, lines, strict=True):
        yield f"| {' | '.join([markdown_cell(label), *line])} |"


def _labels(labels: Labels, numbers: Iterable[int]) -> list[str]:
    return [str(i) if labels is None else printable(labels[i]) for i in numbers]


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
