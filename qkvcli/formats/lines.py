"""Lines of cells, looked at one by one: which are labels, which numbers, and what is wrong."""

import re
from typing import NamedTuple

import numpy as np

from qkvcli.core.operands import Array
from qkvcli.errors import DataError
from qkvcli.formats.cells import SPACE, is_number, number

_LIKE_A_NUMBER = re.compile(r"\s*[-+\u2212]?\.?\d")
_PARTED = {",": "commas", "\t": "tabs"}


class Line(NamedTuple):
    """A line of cells, and its number in the file."""

    number: int
    cells: list[str]


def numbers_and_labels(
    lines: list[Line], delimiter: str, name: str
) -> tuple[Array, list[str] | None, list[str] | None]:
    """The numbers, and what stands before the rows and above the columns."""
    if not lines:
        raise DataError(f"{name}: empty; there is no matrix in it")
    first, rest = lines[0], lines[1:]
    width = len(rest[0].cells if rest else first.cells)
    if delimiter == SPACE and len(first.cells) == width - 1:  # no corner: as R writes it
        first = Line(first.number, ["", *first.cells])
    for line in (first, *rest):
        if len(line.cells) != len(first.cells):
            raise _ragged(first, line, name)

    known = _is_truth if _is_truth(lines[-1].cells[-1]) else is_number
    above = not all(map(known, first.cells[1:]))
    before = not all(known(line.cells[0]) for line in rest)
    if not first.cells[0].strip():  # an empty corner stands above and before labels
        above = before = True
    elif not known(first.cells[0]):  # a word there belongs to whichever labels there are
        counted = [str(i) for i in range(len(first.cells) - 1)]  # as pandas names no columns
        named = bool(rest) and first.cells[1:] == counted  # the corner names its index
        above = above or named or (bool(rest) and not before)
        before = before or not above or (named and len(counted) > 1)
    body = rest if above else lines
    start = 1 if before else 0
    sure = not first.cells[0].strip()
    columns = _names([(first, i) for i in range(start, width)], name, sure) if above else None
    rows = _names([(line, 0) for line in body], name, sure) if before else None
    if not body or width == start:
        parted = _PARTED.get(delimiter, "white space")
        raise DataError(f"{name}: only words, no numbers; cells are separated by {parted}")
    read = _truths if known is _is_truth else _numbers
    return np.array([read(line, start, name) for line in body]), rows, columns


def _is_truth(cell: str) -> bool:
    return cell.strip().lower() in ("true", "false")


def _truths(line: Line, start: int, name: str) -> list[bool]:
    """A row of a mask that says what may be seen."""
    for i, cell in enumerate(line.cells):
        if i >= start and not _is_truth(cell):
            where = f"{name}: line {line.number}, cell {i + 1}"
            raise DataError(f"{where}: {cell.strip()!r} is neither true nor false")
    return [cell.strip().lower() == "true" for cell in line.cells[start:]]


def _ragged(first: Line, line: Line, name: str) -> DataError:
    cells = f"{len(line.cells)} cell" + ("" if len(line.cells) == 1 else "s")
    before = f"where line {first.number} has {len(first.cells)}"
    return DataError(f"{name}: line {line.number}: {cells}, {before}; each row needs as many")


def _numbers(line: Line, start: int, name: str) -> list[float]:
    try:
        values = list(map(float, line.cells[start:]))
    except ValueError:
        values = [np.inf]
    if np.inf not in values and -np.inf not in values and "_" not in "".join(line.cells[start:]):
        return values
    return [
        number(cell, f"{name}: line {line.number}, cell {i + 1}")
        for i, cell in enumerate(line.cells)
        if i >= start
    ]


def _names(cells: list[tuple[Line, int]], name: str, sure: bool) -> list[str]:
    """The labels in some cells. Raises DataError for an empty one.

    Unless an empty corner makes ``sure`` that they are labels, also for what looks like a
    number misspelt, or like part of a mask.
    """
    texts = [line.cells[i] for line, i in cells]
    mixed, truths = any(map(is_number, texts)), all(map(_is_truth, texts))
    for (line, i), text in zip(cells, texts, strict=True):
        where = f"{name}: line {line.number}, cell {i + 1}"
        if not text.strip():
            raise DataError(f"{where}: the cell is empty; write a number such as 0.5, -inf or nan")
        odd = mixed and _LIKE_A_NUMBER.match(text) and not is_number(text)
        if not sure and (odd or truths):
            raise DataError(f"{where}: {text!r} is not a number like those beside it")
    return texts
