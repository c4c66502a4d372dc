"""The command that explains: one query's way to its weights and its output."""

from dataclasses import replace
from itertools import product
from typing import BinaryIO

from qkvcli.cli.commands import Line
from qkvcli.cli.delivery import kept_in
from qkvcli.cli.environment import Environment
from qkvcli.cli.inputs import expanded, posed
from qkvcli.cli.options import Display
from qkvcli.cli.terminal import Printer, page, screen, stream_for
from qkvcli.core.explain import Explanation, explain
from qkvcli.core.problem import Problem
from qkvcli.core.views import counted, numbers_named
from qkvcli.errors import UsageError


def perform(line: Line, environment: Environment) -> None:
    """Explain what a command line asks for. Raises the errors of all the layers."""
    display = line.display
    shown = None if display.quiet else display.format or "table"
    kept = kept_in(display.output, shown or "table")
    for kind in kept.values():
        if kind not in line.command.formats:
            raise UsageError(f"an explanation is saved as .json or .md, and not as .{kind}")
    problem = posed(expanded(line), environment).named
    places = _places(problem, display)
    if len(places) > 1 and display.head is None and "json" not in (shown, *kept.values()):
        problem = replace(problem, value=None)  # a line for each needs no output
    asked, *answers = line.words
    query = problem.query_names.find(asked, "query")
    key = problem.key_names.find(answers[0], "key") if answers else None
    found = [explain(problem, query, key, place) for place in places]
    for path, kind in kept.items():
        from qkvcli.formats.saving import saved

        with saved(path) as stream:
            _write(kind, found, display, stream, environment)
    if shown is not None:
        stream = stream_for(shown, environment)
        _write(shown, found, display, stream, environment)


def _places(problem: Problem, display: Display) -> list[tuple[int, ...]]:
    """The matrices to speak of: those of the heads and batches that were chosen, or all."""
    axes = [tuple(range(count)) for count in problem.leading]
    for axis, kind, parts in ((-1, "head", display.head), (-2, "batch", display.batch)):
        if parts is not None:
            numbers = numbers_named(parts, counted(problem, kind), kind)
            axes[axis] = numbers
    return list(product(*axes))


def _write(
    name: str,
    found: list[Explanation],
    display: Display,
    stream: BinaryIO,
    environment: Environment,
) -> None:
    """The explanations in a format; of many heads that nobody chose, a line each on a page."""
    if name == "json":
        from qkvcli.formats.explained import write_explained

        write_explained(found, stream, display.digits)
        return
    from qkvcli.render import explanation, paper

    many = len(found) > 1 and display.head is None
    room, _ = screen(display, environment)
    if name == "markdown":
        room = page(display)._replace(width=display.width or explanation.PAPER.width)
    if many:
        said = [explanation.overview(found, room)]
    else:
        said = [list(explanation.parts(one, room)) for one in found]
    if name == "markdown":
        stream.write("\n".join(map(paper.markdown, said)).encode())
        return
    printer = Printer(environment)
    for parts in said:
        for block in paper.blocks(parts, room):
            stream.write(printer(block))
