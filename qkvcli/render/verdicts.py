"""What came of a comparison, a line for each step, and what was done instead."""

from collections.abc import Iterator

import numpy as np
from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from qkvcli.core.compare.comparison import Comparison, Pattern
from qkvcli.core.compare.expected import CHAIN, Compared
from qkvcli.core.compare.tally import Cell
from qkvcli.core.compare.trial import Fit
from qkvcli.core.steps import Outline
from qkvcli.render.grids import Room
from qkvcli.render.screen import Block, ascii_only, folded, printable
from qkvcli.render.text import ordinal

_SAME, _WRONG, _AFTER = Style(color="green"), Style(color="red", bold=True), Style(color="red")
_GAPS = (3, 2)
"""What stands between the names, the verdicts and the rest."""
_ULPS = 1e4
"""So many units in the last place say nothing any more: a number near 0 has small ones."""
_SEVERAL = 2
"""Of one cell that differs all is said already."""
_NAMED = 4
"""How many rows without a key, and how many hypotheses, are listed."""


def report(found: Comparison, room: Room) -> Iterator[Block]:
    """A line for each step; then which hypotheses fit, or where the first fault lies."""
    names = max((len(step.name) for step in found.steps), default=0) + _GAPS[0]
    for step in found.steps:
        style = _SAME if step.same else _AFTER if step.follows else _WRONG
        head = f"{step.name:{names}}{verdict(step):{len('DIFFERS') + _GAPS[1]}}"
        told = _fold(f"{head}{printable(told_of(step, found))}", room)
        text = Text(told)
        text.stylize(style, names, names + len(verdict(step)))
        yield _block(text)
    for line in remarks(found):
        yield _block(Text(_fold(printable(line), room)))


def _fold(line: str, room: Room) -> str:
    shown = ascii_only(line) if room.plain else line
    if room.width is None or cell_len(shown) <= room.width:
        return shown
    return "\n".join(folded(shown, room.width, "  "))


def _block(text: Text) -> Block:
    return Block(text, max(map(cell_len, text.plain.split("\n"))))


def verdict(step: Compared) -> str:
    """One word: a fault of its own is in capitals, one that follows from another is not."""
    if step.same:
        return "same"
    return "differs" if step.follows else "DIFFERS"


def told_of(step: Compared, found: Comparison) -> str:
    """What is said of a step, after its verdict."""
    if step.turned is None:
        shape = step.expected.array.shape
        line = f"its shape is {shape}, and {step.outline.shape} is computed"
        header = step.expected.columns is not None and len(shape) == 2
        if header and shape[0] + 1 == step.outline.shape[-2]:
            line += "; its first line was read as labels"
        return line
    parts = []
    if step.turned:
        shape = step.expected.array.shape
        agrees = "then all of it is the same" if not step.differing else "it differs then too"
        parts.append(f"{shape}: {step.turned}; {agrees}")
    if step.same:
        parts.append(_near(step))
    elif step.differing:
        parts.append(_far(step, found))
    return "; ".join(filter(None, parts))


def _near(step: Compared) -> str:
    """How close a step is that is the same."""
    blank = f"{step.left_out} of {step.left_out + step.cells} cells left out"
    if step.largest is None:
        return blank if step.left_out else "no numbers to compare" if not step.cells else ""
    line = f"max {_error(step.error)}"
    decimals = _decimals(step)
    if step.own is not None:
        line += f" (a plain {step.expected.kind} kernel: {_error(step.own)})"
    elif decimals is not None:
        line += f" (written with {decimals} decimal{'' if decimals == 1 else 's'})"
    elif step.expected.halves is None and step.ulp < _ULPS:
        line += f" ({step.ulp:.0f} ulp)"
    return f"{line}; {blank}" if step.left_out else line


def _decimals(step: Compared) -> int | None:
    """With how many decimals all numbers were written, where that is one number."""
    halves = step.expected.halves
    if halves is None:
        return None
    found = np.unique(halves[halves > 0])
    return max(round(-np.log10(2 * found[0])), 0) if len(found) == 1 else None


def _far(step: Compared, found: Comparison) -> str:
    """What differs in a step that is not the same."""
    share = f"{100 * step.differing / max(step.cells, 1):.3g} %"
    last = step is found.steps[-1]
    if step.follows and not (last and step.largest is not None):
        return f"{share}   (follows from {step.follows})"
    if step.largest is not None and not step.infinite and not step.lost:
        wrong, rows = int(step.rows.sum()), step.rows.size
        line = f"max {_error(step.error)} at {_said(step.outline, step.largest)}; "
        return f"{line}rows {wrong} of {rows}"
    line = f"{step.differing} of {step.cells} cells"
    if step.infinite:
        line += "; one is -inf where the other is not"
    elif step.lost:
        line += f", {step.lost} of them NaN"
    if step.first is not None:
        said = _place if step.infinite else _said
        line += f"; first {said(step.outline, step.first)}"
    return line


def _error(error: float) -> str:
    return f"{error:.3g}" if error >= 1e-3 or error == 0 else f"{error:.1e}"


def _pair(cell: Cell) -> tuple[str, str]:
    """Both numbers, with as many digits as show that they are not the same."""
    for digits in range(2, 18):
        mine, theirs = (f"{number:.{digits}g}" for number in cell[1:])
        shown = abs(float(mine) - float(theirs))
        apart = abs(cell.computed - cell.expected)
        if mine != theirs and not 2 * abs(shown - apart) > apart:
            break
    return mine, theirs


def _said(step: Outline, cell: Cell) -> str:
    """Where a cell is, and both numbers."""
    mine, theirs = _pair(cell)
    return f"{_place(step, cell)}: {mine}, expected {theirs}"


def _place(step: Outline, cell: Cell) -> str:
    """Where a cell is, with the names of its tokens where they have any."""
    place = f"[{', '.join(map(str, cell.place))}]"
    *_, row, column = cell.place
    if step.rows is not None and step.rows[row].isdecimal():  # rows that were chosen
        return place if step.rows[row] == str(row) else f"{place} (row {step.rows[row]})"
    sides = [(step.rows, step.row_names, row), (step.columns, step.column_names, column)]
    named = [names[i] for labels, names, i in sides if labels is not None]
    return f"{place} {' → '.join(named)}" if named else place


def remarks(found: Comparison) -> Iterator[str]:
    """What is said below the steps."""
    for step in found.steps:
        if step.unseeing:
            rows = [str(list(row) if len(row) > 1 else row[0]) for row in step.unseeing]
            beside = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
            listed = ", ".join(rows[:_NAMED]) + beside
            many = "row" if len(rows) == 1 else "rows"
            what = "NaN, and zeros" if step.name != "masked" else "NaN, and -inf"
            yield (
                f"{step.name}, {many} {listed}: the query sees no key; theirs is {what} "
                "are computed"
            )
    if found.narrow is not None:
        yield f"With --expect-dtype {found.narrow} every step is the same."
    for fit in found.fits[:_NAMED]:
        yield said_of(fit)
    if len(found.fits) > 1 and len({fit.step for fit in found.fits}) == 1:
        more = len(found.fits) - _NAMED
        rest = f" ({more} more fit.)" if more > 0 else ""
        yield f"This input does not tell them apart.{rest}"
    if not found.fits and found.narrow is None:
        yield from _unexplained(found)


def _unexplained(found: Comparison) -> Iterator[str]:
    """Where the first fault lies, that nothing explains."""
    step = next((step for step in found.steps if step.differing and not step.follows), None)
    if step is None or step.differing < _SEVERAL or step.only_unseeing:
        return
    parts = []
    if found.patterns:
        parts.append(f"it differs in {'; '.join(map(pattern_said, found.patterns))}")
    if step.first is not None and not step.infinite and step.first != step.largest:
        parts.append(f"first {_said(step.outline, step.first)}")
    if found.tried:
        many = "the hypothesis does not fit" if found.tried == 1 else ""
        parts.append(many or f"none of {found.tried} hypotheses fits")
    elif step.name in CHAIN and step.outline.shape[-1]:
        parts.append("too little to tell what was done instead")
    if parts:
        yield f"{step.name}: {'; '.join(parts)}."


def said_of(fit: Fit) -> str:
    """One hypothesis that fits."""
    what = "It" if fit.step is None else f"{fit.step}: it"
    rows = "" if fit.rows is None else f" on the {fit.rows} rows that were computed"
    line = f"{what} equals this {fit.hypothesis.said} (to {_error(fit.error)}{rows})"
    return f"{line}: {fit.hypothesis.meaning}."


def pattern_said(pattern: Pattern) -> str:
    """Where the cells that differ are, along an axis.

    >>> pattern_said(Pattern("row", 48, 127, 1, 80, 128, 16))
    'rows from 48 on, a multiple of 16'
    >>> pattern_said(Pattern("column", 1, 9, 2, 5, 10))
    'every 2nd column from 1 to 9'
    """
    axis, first, last = pattern.axis, pattern.first, pattern.last
    plural = "batches" if axis == "batch" else f"{axis}s"
    if pattern.many == 1:
        return f"{axis} {first}"
    if pattern.many == 2:
        return f"{plural} {first} and {last}"
    if pattern.step == 1 and last == pattern.total - 1:
        power = next((n for n in (128, 64, 32, 16, 8) if pattern.block and first % n == 0), 0)
        return f"{plural} from {first} on" + (f", a multiple of {power}" if power else "")
    if pattern.step == 1:
        return f"{plural} {first} to {last}"
    if pattern.step > 1:
        return f"every {ordinal(pattern.step)} {axis} from {first} to {last}"
    return f"{pattern.many} of {pattern.total} {plural}, from {first} to {last}"
