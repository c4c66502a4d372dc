"""A command line carried out: its steps to standard output and to a file."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from qkvcli.cli.commands import Command, Line
from qkvcli.cli.environment import Environment
from qkvcli.cli.hints import hint
from qkvcli.cli.inputs import expanded, posed
from qkvcli.cli.options import TOP_SHOWN_AS, Display
from qkvcli.cli.terminal import Meter, Printer, Progress, page, screen, stream_for
from qkvcli.core.compute import SIZES, silent
from qkvcli.core.config import MIXED, ORDER, SCORES
from qkvcli.core.problem import Problem
from qkvcli.core.steps import Step
from qkvcli.core.views import (
    Selection,
    counted,
    numbers_named,
    outlines,
    rows_named,
    selected,
    views,
)
from qkvcli.errors import UsageError
from qkvcli.formats.registry import FORMATS, PAGES, PICTURES, format_by_ending, name_by_ending

if TYPE_CHECKING:
    from pathlib import Path

    from qkvcli.core.pieces import Crew

ASKED_BY = {
    "query_normed": "--q-norm asks for it",
    "key_normed": "--k-norm asks for it",
    "query_rotated": "--rope asks for it",
    "key_rotated": "--rope asks for it",
    "scaled": "--scale asks for it",
    "capped": "--softcap asks for it",
    "biased": "--alibi asks for it",
    "masked": "a mask asks for it, such as --causal",
    "gated": "--gate asks for it",
    "projected": "--wo asks for it",
}
"""What makes a step, where the options did not ask for it."""


_ADVICE = "--rows, --head and --show choose what is saved"


class Plan(NamedTuple):
    """What is to be done with the steps of a command.

    They are shown in a format (None: not at all), and kept in files, each in its own;
    ``display`` is for what is shown, `saved` is the plan for a file. ``names`` are the steps,
    and ``layout`` is that of what programs read.
    """

    command: Command
    display: Display
    shown: str | None
    kept: "dict[Path, str]"
    names: tuple[str, ...] = ()
    layout: str | None = None

    def saved(self, name: str) -> "Plan":
        """The plan for a file in a format: data have every digit, and no page has a bound."""
        if name in PICTURES:
            return self
        digits = self.display.digits if name == "markdown" else None
        return self._replace(display=self.display.replaced(width=None, digits=digits))


def perform(line: Line, environment: Environment) -> None:
    """Compute and show what a command line asks for. Raises the errors of all the layers."""
    line = expanded(line)
    plan = planned(line, environment)
    asked = posed(line, environment)
    plan = plan._replace(names=names_of(line, asked.problem))
    _check_spread(plan, asked.problem)
    deliver(asked.problem, asked.named, plan, environment)
    hint(line, environment)


def names_of(line: Line, problem: Problem) -> tuple[str, ...]:
    """The steps that are shown: those asked for, or those that the command computes.

    Raises UsageError for one that does not exist here.
    """
    there = [step.name for step in outlines(problem, line.command.until, Selection())]
    asked = line.display.show
    if asked is None:
        given = {step.name for step in problem.given}
        return tuple(name for name in line.command.shows or there if name not in given)
    missing = next((name for name in asked if name not in (*there, "all")), None)
    if missing is not None:
        taken = [step.name for step in problem.given if step.name in (*SCORES, "weights")]
        why = f"the {taken[0]} are given" if taken else ASKED_BY.get(missing, "")
        raise UsageError(f"--show: there is no step {missing} here; {why}")
    return tuple(there) if "all" in asked else asked


def planned(line: Line, environment: Environment) -> Plan:
    """The plan that the options ask for.

    Raises UsageError, before any work is done, for what cannot be delivered.
    """
    display = line.display
    name = display.format or ("table" if environment.on_terminal else line.command.piped)
    if not display.quiet and environment.on_terminal and name in FORMATS and FORMATS[name].binary:
        raise UsageError(f"{name} is binary, and not for a terminal; use -o FILE, or > FILE")
    kept = kept_in(display.output, name)
    if display.theme is not None and not any(kind in PICTURES for kind in kept.values()):
        raise UsageError("--theme is for a picture; add -o FILE.svg or -o FILE.html")
    if display.top is not None:
        _check_top(*([] if display.quiet else [name]), *kept.values())
    shown = None if display.quiet else name
    if display.cluster is not None and not {shown, *kept.values()} & set(FORMATS):
        what = "--cluster computes what is saved or piped as data"
        raise UsageError(
            f"{what}; add -o FILE.npy, or -f csv (the rows of a table are computed here)"
        )
    return Plan(line.command, display, shown, kept, layout=line.sources.layout)


def _check_spread(plan: Plan, problem: Problem) -> None:
    """Raise UsageError where there is nothing that workers elsewhere would compute."""
    if plan.display.cluster is not None and not problem.in_blocks:
        given = "weights" if problem.weights is not None else "scores"
        raise UsageError(
            f"--cluster: the {given} are given, and few products are left; leave it out"
        )


def _check_top(*names: str) -> None:
    for name in names:
        if name not in TOP_SHOWN_AS:
            raise UsageError(f"--top is shown as {', '.join(TOP_SHOWN_AS)}, and not as {name}")


def kept_in(paths: "tuple[Path, ...]", shown: str) -> "dict[Path, str]":
    """The format of each file that is written. Raises UsageError for an ending that is not ours."""
    return {path: kept_as(path, shown) for path in paths}


def kept_as(path: "Path", shown: str) -> str:
    """The format of a file: its ending's; what is shown goes into a pipe or a device too."""
    told = path.suffix.lower() in PAGES or format_by_ending(path) is not None
    if not told:
        from qkvcli.formats.saving import is_special

        if is_special(path):
            return shown
    return name_by_ending(path, f"-o {path}")


def deliver(problem: Problem, named: Problem, plan: Plan, environment: Environment) -> None:
    """Save and show. The files come first: a reader that leaves early does not cost them.

    ``named`` is the problem with the names of its tokens on a page. Raises WriteError,
    ReaderGone, or UsageError for a row, a head or a batch that does not exist, before
    anything is computed.
    """
    selection = selection_of(named, plan)
    if selection.rows is not None and not selection.rows.size:
        said = f"--rows {plan.display.rows} names none of the {problem.shape[-2]} rows"
        environment.note(said)
    with ExitStack() as closing:
        crew = None
        if plan.display.cluster is not None:
            from qkvcli.cli.cluster import crew_at

            crew = closing.enter_context(crew_at(plan.display.cluster, environment))
        _deliver(problem, named, plan, selection, crew, environment)


def _deliver(
    problem: Problem,
    named: Problem,
    plan: Plan,
    selection: Selection,
    crew: "Crew | None",
    environment: Environment,
) -> None:
    """Save and show what is selected; ``crew`` computes the output for programs (None: we do)."""
    progress = Progress()
    data = cache(partial(_data, problem, plan, selection, crew, progress, environment))
    for path, name in plan.kept.items():
        from qkvcli.cli.amounts import check_room
        from qkvcli.formats.saving import saved

        asked = problem if name in FORMATS else named
        if name in FORMATS and plan.display.top is None:
            check_room(path, name, data(), _ADVICE, environment)
        with saved(path) as stream:
            _write(name, asked, plan.saved(name), selection, data, progress, stream, environment)
    if plan.shown is not None:
        stream = stream_for(plan.shown, environment)
        shown = problem if plan.shown in FORMATS else named
        _write(plan.shown, shown, plan, selection, data, progress, stream, environment)


def _data(
    problem: Problem,
    plan: Plan,
    selection: Selection,
    crew: "Crew | None",
    progress: Progress,
    environment: Environment,
) -> list[Step]:
    """The steps for programs, each computed when it is written, or once for all that need it."""
    formats = [FORMATS[name] for name in (*plan.kept.values(), plan.shown) if name in FORMATS]
    until, names = plan.command.until, plan.names
    written = (max(names, key=ORDER.index),) if all(known.alone for known in formats) else names
    together = written if len(written) > 1 or len(formats) > 1 else ()
    advance = progress if environment.watched else silent  # what nobody sees is not counted
    steps = selected(problem, until, names, selection, SIZES, advance, crew, together)
    if len(formats) > 1:
        with Meter(environment) as progress.bar:
            for step in steps:
                if step.name in MIXED:  # small beside the work that is in it
                    _ = step.array
    return steps


def selection_of(problem: Problem, plan: Plan) -> Selection:
    """The rows, heads and batches that are shown. Raises UsageError where one does not exist."""
    display = plan.display
    chosen = Selection(heads=None if display.head is None else ())
    there = outlines(problem, plan.command.until, chosen)
    steps = [step for step in there if step.name in plan.names]

    def numbers(kind: str, parts: tuple[str, ...] | None) -> tuple[int, ...] | None:
        there = any(step.axis(kind) is not None for step in steps)
        count = counted(problem, kind) if there else 0
        return None if parts is None else numbers_named(parts, count, kind)

    rows = display.rows
    picked = None if rows is None else rows_named(rows, problem.shape[-2], problem.labels)
    return Selection(picked, numbers("head", display.head), numbers("batch", display.batch))


def _write(
    name: str,
    problem: Problem,
    plan: Plan,
    selection: Selection,
    data: Callable[[], list[Step]],
    progress: Progress,
    stream: BinaryIO,
    environment: Environment,
) -> None:
    """The steps that the command shows, in a format, into a stream.

    ``data`` gives those for programs, the same for every file, so that what is held of them is
    computed once.
    """
    until, names, display = plan.command.until, plan.names, plan.display
    if display.top is not None:
        from qkvcli.cli.top import write_top

        write_top(display.top, name, problem, display, selection, stream, environment)
    elif name == "table":
        _write_tables(problem, plan, selection, stream, environment)
    elif name == "heatmap":
        _write_heatmaps(problem, plan, selection, stream, environment)
    elif name == "markdown":
        from qkvcli.render.markdown import write_markdown

        room = page(display)
        write_markdown(views(problem, until, names, selection, by_rows=True), stream, room)
    elif name == "svg":
        from qkvcli.cli.pictures import write_picture

        write_picture(problem, until, names, display, selection, stream, environment)
    elif name == "html":
        from qkvcli.cli.lessons import write_lesson

        write_lesson(problem, names, display, selection, stream)
    else:
        steps = data()
        if plan.layout is not None:
            from qkvcli.cli.layouts import LAYOUTS

            steps = [LAYOUTS[plan.layout].written(step) for step in steps]
        with Meter(environment) as progress.bar:
            FORMATS[name].write(steps, stream, display.digits)


def _write_tables(
    problem: Problem, plan: Plan, selection: Selection, stream: BinaryIO, environment: Environment
) -> None:
    """The steps as tables; of a matrix that is too long, only its edges are computed."""
    from qkvcli.render.tables import step_tables

    display = plan.display
    room, height = screen(display, environment)
    selection = selection.shortened(problem.shape[-2], None if display.full else height)
    printer = Printer(environment)
    text = BytesIO()
    for block in step_tables(views(problem, plan.command.until, plan.names, selection), room):
        text.write(printer(block))
    stream.write(text.getvalue())


def _write_heatmaps(
    problem: Problem, plan: Plan, selection: Selection, stream: BinaryIO, environment: Environment
) -> None:
    """The steps as pictures that fit the terminal, whatever their size."""
    from qkvcli.core.patches import patches
    from qkvcli.render.heatmap import Pen, step_heatmap

    room, height = screen(plan.display, environment)
    # a line for the sample, and one on queries that see few keys, and one on sinks
    notes = 1 + (problem.visibility is not None) + (problem.sinks is not None)
    pen = Pen(room._replace(height=height - notes), environment.colours)
    steps = outlines(problem, plan.command.until, selection)
    fit = pen.fit([step for step in steps if step.name in plan.names], selection.rows)
    printer = Printer(environment)
    text = BytesIO()
    with Meter(environment) as advance:
        found = patches(problem, plan.command.until, plan.names, selection, fit, advance=advance)
    for step in found:
        for block in step_heatmap(step, pen):
            text.write(printer(block))
    stream.write(text.getvalue())
