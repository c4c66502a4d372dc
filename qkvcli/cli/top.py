"""For each query the keys that weigh most: as lists for a person, in long form for programs."""

from typing import BinaryIO

import numpy as np

from qkvcli.cli.environment import Environment
from qkvcli.cli.options import Display
from qkvcli.cli.terminal import Meter, Printer, screen
from qkvcli.core.facts import ranked
from qkvcli.core.naming import Names
from qkvcli.core.problem import Problem
from qkvcli.core.steps import Outline
from qkvcli.core.views import Selection, axes_of, edges, outlines, selected
from qkvcli.errors import UsageError
from qkvcli.formats.long_form import LONG, write_long
from qkvcli.render.bars import top_tables
from qkvcli.render.markdown import write_pairs

SHOWN_AS = ("table", *LONG, "markdown")


def check_top(name: str | None) -> None:
    """Raise UsageError for a format that has no place for names beside numbers."""
    if name is not None and name not in SHOWN_AS:
        raise UsageError(f"--top is shown as {', '.join(SHOWN_AS)}, and not as {name}")


def write_top(
    name: str,
    problem: Problem,
    display: Display,
    selection: Selection,
    stream: BinaryIO,
    environment: Environment,
) -> None:
    """The ``display.top`` keys that weigh most for each query of a selection, in a format."""
    count, queries = display.top or 1, problem.shape[-2]
    room, height = screen(display, environment)
    many = max(height // count, 3)
    if name == "table" and selection.rows is None and not display.full and queries > many:
        kept = [i for i in edges(queries, many) if i is not None]
        selection = selection._replace(rows=np.array(kept, dtype=np.intp), gaps=True)
    outline = _weights(problem, selection)
    names = Names.of(outline.rows, queries), Names.of(outline.columns, outline.shape[-1])
    with Meter(environment) as advance:
        [step] = selected(problem, "weights", ("weights",), selection, advance=advance)
        rows = np.arange(queries) if selection.rows is None else selection.rows
        found = ranked(step, axes_of(outline, problem, selection), rows, count)
        if name in LONG:
            write_long(found, names, stream, name, display.digits)
            return
        if name == "markdown":
            write_pairs(outline, found, names, stream, room)
            return
        printer = Printer(environment)
        for block in top_tables(outline, found, names, room, selection.gaps):
            stream.write(printer(block))


def _weights(problem: Problem, selection: Selection) -> Outline:
    """What is known of the weights before they are computed."""
    there = outlines(problem, "weights", selection)
    return next(step for step in there if step.name == "weights")
