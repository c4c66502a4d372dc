"""Somebody else's numbers held against what a command computes, with an exit code for scripts."""

from functools import partial
from typing import BinaryIO, cast

import numpy as np

from qkvcli.cli.commands import Line
from qkvcli.cli.delivery import ASKED_BY, Plan, deliver, names_of, planned, selection_of
from qkvcli.cli.environment import Environment
from qkvcli.cli.inputs import Posed, expanded, posed
from qkvcli.cli.opened import Opened, told
from qkvcli.cli.options import Comparing
from qkvcli.cli.terminal import Meter, Printer, screen
from qkvcli.core.compare.comparison import Comparison, compare
from qkvcli.core.compare.expected import Expected, Rules
from qkvcli.core.compare.reference import Reference
from qkvcli.core.compare.turned import Turn, onto
from qkvcli.core.config import ORDER, Kind, Stage
from qkvcli.core.operands import Array
from qkvcli.core.steps import Outline
from qkvcli.core.views import Selection, axes_of, outlines, taken
from qkvcli.errors import DataError, ExitCode, ReaderGone, UsageError
from qkvcli.formats.address import Address
from qkvcli.formats.expected import means_nothing, read_expected, step_named
from qkvcli.formats.files import address_of
from qkvcli.formats.source import Source

_SHOWN_AS = ("table", "json")


def perform(line: Line, environment: Environment) -> ExitCode:
    """Compare what a command line computes with what ``--expect`` names.

    Raises the errors of all the layers.
    """
    if line.display.cluster is not None:
        raise UsageError(
            "--cluster computes what is saved, and --expect compares here; leave one out"
        )
    shown = _shown(line)
    line = expanded(line)
    _check_kept(line)
    plan = planned(_saved_alone(line), environment)
    address = address_of(line.comparing.expect or "-")
    opened = Opened(environment, labelling=line.sources.labelling)
    source = opened.source(address.path)  # before a note that nobody reads a pipe
    asked = posed(line, environment, [source])
    until, plan = _until(line, asked), plan._replace(names=names_of(line, asked.problem))
    selection = _selection(line, asked, plan)
    reference = Reference.of(asked.config, asked.operands, until, selection)
    computed = {outline.name: outline for outline in reference.whole.outlines(until)}
    names = [name for name in computed if name in plan.names]
    results = asked.problem.dtype.name
    expected = _read(source, address, line.comparing, results, names, {*computed}, environment)
    if line.sources.layout is not None:
        from qkvcli.cli.layouts import LAYOUTS

        layout = LAYOUTS[line.sources.layout]
        expected = [layout.expected(one, computed[one.name]) for one in expected]
    expected = [_by_labels(one, computed[one.name], environment) for one in expected]
    expected = _of_heads(expected, reference, environment)
    expected = [_cut(one, reference) for one in expected]
    if plan.kept:
        deliver(asked.problem, asked.named, plan, environment)
    with Meter(environment) as advance:
        rules = _rules(line.comparing, results)
        found = compare(reference, expected, rules, advance=advance)
    if not any(step.cells for step in found.steps):
        left_out = any(step.left_out for step in found.steps)
        why = "every cell is left out" if left_out else "there is no cell"
        raise DataError(f"{line.comparing.expect}: {why}; nothing is compared")
    try:
        _write(found, shown, line, environment)
    except ReaderGone:  # what differs differs, though nobody reads how
        if found.same:
            raise
    return ExitCode.FINE if found.same else ExitCode.DIFFERS


def _shown(line: Line) -> str | None:
    """How the comparison is shown. Raises UsageError for what it has no place for."""
    display = line.display
    if display.top is not None:
        raise UsageError("--top and --expect: one shows keys, the other a comparison; keep one")
    name = display.format or "table"
    if name not in _SHOWN_AS:
        raise UsageError(f"a comparison is shown as {' or '.join(_SHOWN_AS)}, and not as {name}")
    return None if display.quiet else name


def _saved_alone(line: Line) -> Line:
    """The line for saving what is computed, beside the comparison."""
    if line.command.formats and line.display.output:
        raise UsageError("-o saves an explanation, and --expect shows none; leave one out")
    return line._replace(display=line.display.replaced(quiet=True, format=None))


def _until(line: Line, asked: Posed) -> Stage:
    """How far to compute: not to the output where nothing needed the values."""
    bare = asked.problem.value is None and line.command.optional
    return "weights" if bare else line.command.until


def _selection(line: Line, asked: Posed, plan: Plan) -> Selection:
    """What is compared: all, or the rows, heads and batches that were chosen."""
    selection = selection_of(asked.named, plan)
    if line.command.done_by == "explaining":
        query = asked.named.query_names.find(line.words[0], "query")
        selection = selection._replace(rows=np.array([query]))
    return selection


def _rules(asked: Comparing, inputs: Kind) -> Rules:
    return Rules(asked.rtol, asked.atol, asked.ulp, asked.equal_nan, asked.follow, inputs)


def _check_kept(line: Line) -> None:
    """Raise UsageError where what is computed would be saved over what it is compared with."""
    path = address_of(line.comparing.expect or "-").path
    for kept in line.display.output:
        if kept.is_file() and path.is_file() and kept.samefile(path):
            raise UsageError(f"-o {kept} would write over what --expect reads; name another file")


def _read(
    source: Source,
    address: Address,
    asked: Comparing,
    results: Kind,
    names: list[str],
    computed: set[str],
    environment: Environment,
) -> list[Expected]:
    """Somebody's steps ``names``, of those ``computed``, in the type that they were computed in.

    ``results`` is the type of ours.
    """
    if not names:
        raise UsageError("nothing of what is shown is computed; there is nothing to compare")
    step = step_named(address)
    if step is not None and step not in names:
        there = ", ".join(names)
        raise UsageError(f"--expect {asked.expect}: there is no step {step} here; there is {there}")
    expected, others = read_expected(source, names, step, address)
    expected = [told(one, environment) for one in expected]
    if address.member is None:
        _note_others(source.name, others, computed, environment)
    kind = asked.expect_dtype
    if kind is None and results == "bfloat16":  # which float32 and text carry, ours too
        return [
            one.computed_in(results) if one.kind == "float32" or one.halves is not None else one
            for one in expected
        ]
    return expected if kind is None else [one.computed_in(kind) for one in expected]


def _by_labels(one: Expected, step: Outline, environment: Environment) -> Expected:
    """Somebody's step with its rows and columns in our order, where their labels tell it."""
    for axis, theirs, ours in ((-2, one.rows, step.rows), (-1, one.columns, step.columns)):
        if theirs is None or ours is None or theirs == ours or len(theirs) != len(ours):
            continue
        side = "rows" if axis == -2 else "columns"
        if sorted(theirs) == sorted(ours) and len(set(ours)) == len(ours):
            order = [theirs.index(label) for label in ours]
            one = one.turned(partial(np.take, indices=order, axis=axis))
            environment.note(
                f"{one.origin}: its {side} are in another order; taken by their labels"
            )
        else:
            said = f"its {side} are called otherwise, such as {_odd(theirs, ours)}"
            environment.note(f"{one.origin}: {said}; compared in their order")
    return one


def _odd(theirs: tuple[str, ...], ours: tuple[str, ...]) -> str:
    """The first label that is another."""
    return next(f"{a!r} for {b!r}" for a, b in zip(theirs, ours, strict=True) if a != b)


def _note_others(
    where: str, names: list[str], computed: set[str], environment: Environment
) -> None:
    """Note what a file holds besides: names that mean nothing, and steps that are not asked for."""
    strange = [name for name in names if means_nothing(name)]
    if strange:
        listed = ", ".join(strange[:5]) + (" and more" if strange[5:] else "")
        environment.note(f"{where}: {listed}: no step is called that; not compared")
    for name in names:
        step = name.lower()
        if step in ASKED_BY and step not in computed:
            environment.note(f"{where}: {name} is not compared; {ASKED_BY[step]}")
    rest = [name for name in names if name.lower() in ORDER and name not in ASKED_BY]
    if rest:
        environment.note(f"{where}: {', '.join(rest)} not compared; qkvcli run compares every step")


def _of_heads(
    expected: list[Expected], reference: Reference, environment: Environment
) -> list[Expected]:
    """Somebody's steps without those of all heads together, where heads were chosen.

    Raises DataError where there are no others.
    """
    joined = {o.name: o for o in reference.whole.outlines(reference.until) if not o.has_heads}
    if reference.selection.heads is None or "projected" not in joined:
        return expected
    axes = len(joined["projected"].shape)
    left = [one for one in expected if one.name != "projected" or one.array.ndim > axes]
    if not left:
        raise DataError("projected is of all heads together; leave out --head to compare it")
    if len(left) < len(expected):
        environment.note("projected is of all heads together; not compared with those of --head")
    return left


def _cut(one: Expected, reference: Reference) -> Expected:
    """Of somebody's step, what was chosen to be compared; as it is, where it has no more."""
    whole, selection = reference.whole, reference.selection
    if all(chosen is None for chosen in selection[:3]):
        return one
    step = next(s for s in outlines(whole, reference.until, selection) if s.name == one.name)
    axes = axes_of(step, whole, selection)
    rows = selection.rows if step.of_queries else None

    def cut(turn: Turn, array: Array) -> Array:
        array = taken(turn(array), axes)
        return array if rows is None else array[..., rows, :]

    turn = onto(one.array.shape, step, reference.joined(step))
    return one if turn is None else one.turned(lambda array: cut(turn, array))


def _write(found: Comparison, shown: str | None, line: Line, environment: Environment) -> None:
    """The comparison, in a format."""
    if shown == "json":
        from qkvcli.formats.compared import write_compared

        write_compared(found, cast(BinaryIO, environment))
    elif shown == "table":
        from qkvcli.render.verdicts import report

        room, _ = screen(line.display, environment)
        if not environment.on_terminal and line.display.width is None:
            room = room._replace(width=None)  # a line for each step, for those that read lines
        printer = Printer(environment)
        environment.write(b"".join(map(printer, report(found, room))))
