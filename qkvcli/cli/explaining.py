"""The command that explains: one query's way to its weights and its output."""

from itertools import product
from typing import BinaryIO, cast

from qkvcli.cli.commands import Line
from qkvcli.cli.delivery import kept_as
from qkvcli.cli.environment import Environment
from qkvcli.cli.inputs import expanded, problems
from qkvcli.cli.options import Display
from qkvcli.cli.terminal import Printer, page, screen
from qkvcli.core.explain import Explanation, explain
from qkvcli.core.naming import Names
from qkvcli.core.problem import Problem
from qkvcli.core.views import numbers_named
from qkvcli.errors import UsageError
from qkvcli.render.explanation import explanation_blocks, explanation_markdown, overview_blocks


def perform(line: Line, environment: Environment) -> None:
    """Explain what a command line asks for. Raises the errors of all the layers."""
    display = line.display
    shown = None if display.quiet else display.format or "table"
    kept = None if display.output is None else kept_as(display.output, shown or "table")
    if kept is not None and kept not in line.command.formats:
        raise UsageError(f"an explanation is saved as .json or .md, and not as .{kept}")
    _, problem = problems(expanded(line), environment)
    found = [_explained(problem, line, place) for place in _places(problem, display)]
    if kept is not None and display.output is not None:
        from qkvcli.formats.files import saved

        with saved(display.output) as stream:
            _write(kept, found, display, stream, environment)
    if shown is not None:
        _write(shown, found, display, cast(BinaryIO, environment), environment)


def _places(problem: Problem, display: Display) -> list[tuple[int, ...]]:
    """The matrices to speak of: those of the heads and batches that were chosen, or all."""
    leading = problem.shape[:-2]
    axes = [tuple(range(count)) for count in leading]
    for axis, kind, parts in ((-1, "head", display.head), (-2, "batch", display.batch)):
        there = len(leading) >= -axis
        if parts is not None:
            numbers = numbers_named(parts, leading[axis] if there else 0, kind)
            axes[axis] = numbers
    return list(product(*axes))


def _explained(problem: Problem, line: Line, place: tuple[int, ...]) -> Explanation:
    """One matrix's explanation. Raises UsageError for a token that does not exist."""
    queries, keys = problem.shape[-2:]
    asked, *answers = line.words
    query = Names.of(problem.labels, queries).find(asked, "query")
    key = Names.of(problem.key_labels, keys).find(answers[0], "key") if answers else None
    return explain(problem, query, key, place)


def _write(
    name: str,
    found: list[Explanation],
    display: Display,
    stream: BinaryIO,
    environment: Environment,
) -> None:
    """The explanations in a format; of many heads that nobody chose, a line each."""
    if name == "json":
        from qkvcli.formats.json_text import write_data

        data = [one.data() for one in found]
        write_data(data[0] if len(data) == 1 else data, stream)
        return
    if name == "markdown":
        text = "\n".join(explanation_markdown(one, page(display)) for one in found)
        stream.write(text.encode())
        return
    room, _ = screen(display, environment)
    printer = Printer(environment)
    many = len(found) > 1 and display.head is None
    blocks = (
        overview_blocks(found, room)
        if many
        else (block for one in found for block in explanation_blocks(one, room))
    )
    for block in blocks:
        stream.write(printer(block))
