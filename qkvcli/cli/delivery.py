"""A command line carried out: its steps to standard output and to a file."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import numpy as np

from qkvcli.cli.commands import Command, Line
from qkvcli.cli.environment import Environment
from qkvcli.cli.hints import hint
from qkvcli.cli.inputs import operands
from qkvcli.cli.notes import notes
from qkvcli.cli.options import Display
from qkvcli.cli.terminal import Meter, Shown
from qkvcli.core.config import ORDER
from qkvcli.core.fitting import problem_of
from qkvcli.core.problem import Problem
from qkvcli.core.views import Selection, edges, numbers_named, rows_named, selected, views
from qkvcli.errors import UsageError
from qkvcli.formats.registry import FORMATS, PAGES, format_by_ending, name_by_ending

if TYPE_CHECKING:
    from qkvcli.render.grids import Room

_AROUND_A_TABLE = 6  # its title, header, rule, the blank line after it, and a prompt's two
_FEWEST_LINES = 4


class Plan(NamedTuple):
    """What is to be done with the steps of a command: the formats, None for nothing.

    ``display`` is for what is shown; `saved` is the plan for what is kept.
    """

    command: Command
    display: Display
    shown: str | None
    kept: str | None

    @property
    def saved(self) -> "Plan":
        """The plan for a file, which holds the whole; Markdown is rounded as it is shown."""
        digits = self.display.digits if self.kept == "markdown" else None
        whole = replace(self.display, head=None, batch=None, rows=None, width=None, digits=digits)
        return self._replace(display=whole)

    @property
    def names(self) -> tuple[str, ...]:
        """The steps that the command shows."""
        return self.command.shows or ORDER


def perform(line: Line, environment: Environment) -> None:
    """Compute and show what a command line asks for. Raises the errors of all the layers."""
    plan = planned(line, environment)
    found = operands(line, environment)
    config = line.attention.config
    problem = problem_of(config, found, line.command.until)
    for note in notes(config, found, problem):
        environment.note(note)
    if environment.ignores_input(expected=bool(line.command.takes)):
        place = line.command.takes.upper() or "the name of a file"
        environment.note(f"standard input is not read; give - as {place} to read it")
    deliver(problem, plan, environment)
    hint(line, environment)


def planned(line: Line, environment: Environment) -> Plan:
    """The plan that the options ask for.

    Raises UsageError, before any work is done, for what cannot be delivered.
    """
    display = line.display
    name = display.format or ("table" if environment.on_terminal else line.command.piped)
    if not display.quiet and environment.on_terminal and name in FORMATS and FORMATS[name].binary:
        raise UsageError(f"{name} is binary, and not for a terminal; use -o FILE, or > FILE")
    kept = None if display.output is None else _kept(display.output, name)
    return Plan(line.command, display, None if display.quiet else name, kept)


def _kept(path: Path, shown: str) -> str:
    """The format of a file: its ending's; what is shown goes into a pipe or a device too."""
    told = path.suffix.lower() in PAGES or format_by_ending(path) is not None
    if not told:
        from qkvcli.formats.files import is_special

        if is_special(path):
            return shown
    return name_by_ending(path, f"-o {path}")


def deliver(problem: Problem, plan: Plan, environment: Environment) -> None:
    """Save and show. The file comes first: a reader that leaves early does not cost it.

    Raises WriteError, ReaderGone, or UsageError for a row, a head or a batch that does not
    exist, before anything is computed.
    """
    selection = _selection(problem, plan)
    if selection.rows is not None and not selection.rows.size:
        said = f"--rows {plan.display.rows} names none of the {problem.shape[-2]} rows"
        environment.note(said)
    if plan.kept is not None and plan.display.output is not None:
        from qkvcli.formats.files import saved

        with saved(plan.display.output) as stream:
            _write(plan.kept, problem, plan.saved, Selection(), stream, environment)
    if plan.shown is not None:
        obeyed = plan.shown in FORMATS and environment.on_terminal  # tables have colours
        stream = cast(BinaryIO, Shown(environment) if obeyed else environment)
        _write(plan.shown, problem, plan, selection, stream, environment)


def _selection(problem: Problem, plan: Plan) -> Selection:
    """The rows, heads and batches that are shown. Raises UsageError where one does not exist."""
    display = plan.display
    steps = [step for step in problem.outlines(plan.command.until) if step.name in plan.names]
    chosen: list[tuple[int, ...] | None] = []
    for kind, parts in (("head", display.head), ("batch", display.batch)):
        axes = ((step, step.axis(kind)) for step in steps)
        there = max((step.shape[axis] for step, axis in axes if axis is not None), default=0)
        chosen.append(None if parts is None else numbers_named(parts, there, kind))
    rows = display.rows
    picked = None if rows is None else rows_named(rows, problem.shape[-2], problem.labels)
    return Selection(picked, *chosen)


def _write(
    name: str,
    problem: Problem,
    plan: Plan,
    selection: Selection,
    stream: BinaryIO,
    environment: Environment,
) -> None:
    """The steps that the command shows, in a format, into a stream."""
    until, names, display = plan.command.until, plan.names, plan.display
    if name == "table":
        _write_tables(problem, plan, selection, stream, environment)
    elif name == "markdown":
        from qkvcli.render.markdown import write_markdown

        room = _room(display, display.width, None)
        write_markdown(views(problem, until, names, selection), stream, room)
    else:
        with Meter(environment) as advance:
            shown = selected(problem, until, names, selection, advance=advance)
            FORMATS[name].write(shown, stream, display.digits)


def _write_tables(
    problem: Problem, plan: Plan, selection: Selection, stream: BinaryIO, environment: Environment
) -> None:
    """The steps as tables; of a matrix that is too long, only its edges are computed."""
    from qkvcli.cli.terminal import Printer
    from qkvcli.render.tables import step_tables

    display = plan.display
    columns, lines = environment.size
    width = display.width
    if width is None and (environment.on_terminal or not display.full):
        width = columns  # nothing bounds what goes whole into a file
    height = max(lines - _AROUND_A_TABLE, _FEWEST_LINES)
    room = _room(display, width, height)._replace(plain=environment.plain)
    if selection.rows is None and not display.full and problem.shape[-2] > height:
        kept = [i for i in edges(problem.shape[-2], height) if i is not None]
        selection = selection._replace(rows=np.array(kept, dtype=np.intp))
    printer = Printer(environment)
    text = BytesIO()
    for view in views(problem, plan.command.until, plan.names, selection):
        for block in step_tables(view, room):
            text.write(printer(block))
    stream.write(text.getvalue())


def _room(display: Display, width: int | None, height: int | None) -> "Room":
    from qkvcli.render.grids import Room

    room = Room(width, height, full=display.full)
    return room if display.digits is None else room._replace(digits=display.digits)
