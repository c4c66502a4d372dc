"""Steps as Markdown tables."""

from collections.abc import Iterator

from qkvcli.core.steps import Step
from qkvcli.render.grids import Grid, grids
from qkvcli.render.layout import Room
from qkvcli.render.titles import matrix_title, title


def step_markdown(step: Step, room: Room) -> Iterator[str]:
    """A step as Markdown, line by line: its title, then a table for each matrix."""
    words = title(step)
    yield f"**{words.name}** = {words.formula}   {words.shapes}"
    yield ""
    for index in room.indexes(step):
        if index:
            yield from (f"**{matrix_title(index, step.heads)}**", "")
        for grid in grids(step, index, room):
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
