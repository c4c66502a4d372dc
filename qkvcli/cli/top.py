"""For each query the keys that weigh most: as lists for a person, in long form for programs."""

from typing import BinaryIO

import numpy as np

from qkvcli.cli.environment import Environment
from qkvcli.cli.options import Display
from qkvcli.cli.terminal import Meter, Printer, page, screen
from qkvcli.core.facts import ranked
from qkvcli.core.problem import Problem
from qkvcli.core.views import Selection, axes_of, outlines, selected
from qkvcli.formats.long_form import LONG, write_long

_FEWEST = 3
"""How many queries a screen lists at least: the first, a gap, and the last."""


def write_top(
    count: int,
    name: str,
    problem: Problem,
    display: Display,
    selection: Selection,
    stream: BinaryIO,
    environment: Environment,
) -> None:
    """The ``count`` keys that weigh most for each query of a selection, in a format."""
    queries = problem.shape[-2]
    if name == "table":
        room, height = screen(display, environment)
        most = None if display.full else max(height // count, _FEWEST)
        selection = selection.shortened(queries, most)
    steps = outlines(problem, "weights", selection)
    outline = next(step for step in steps if step.name == "weights")
    with Meter(environment) as advance:
        [step] = selected(problem, "weights", ("weights",), selection, advance=advance)
        rows = np.arange(queries) if selection.rows is None else selection.rows
        found = ranked(step, axes_of(outline, problem, selection), rows, count)
        if name in LONG:
            write_long(found, outline, stream, name, display.digits)
        elif name == "markdown":
            from qkvcli.render.markdown import write_pairs

            write_pairs(outline, found, stream, page(display))
        else:
            from qkvcli.render.bars import top_tables

            printer = Printer(environment)
            for block in top_tables(outline, found, room, selection.gaps):
                stream.write(printer(block))
