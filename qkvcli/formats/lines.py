"""Lines of cells, looked at one by one: which are labels, which numbers, and what is wrong."""

import re
from typing import NamedTuple

import numpy as np

from qkvcli.errors import DataError
from qkvcli.formats.cells import PRINTED, SPACE, is_number, number
from qkvcli.formats.labels import (
    FEW,
    Labelled,
    counts,
    first_column,
    named,
    names_rows,
    sure_labels,
)

_LIKE_A_NUMBER = re.compile(
    r"\s*(?:[-+\u2212]?\.?\d|(?:#?n/?a|null|none|nil|missing|-+|\?+)\s*$)", re.IGNORECASE
)
"""A number misspelt, or a word for one that is missing."""
_PARTED = {",": "commas", "\t": "tabs"}


class Line(NamedTuple):
    """A line of cells, and its number in the file."""

    number: int
    cells: list[str]


class Quotes(NamedTuple):
    """What is in quotes, and so no number: ``labels`` about a corner, or the ``heads`` of rows."""

    labels: bool
    heads: bool


def numbers_and_labels(lines: list[Line], delimiter: str, name: str, quotes: Quotes) -> Labelled:
    """The numbers, and what stands before the rows and above the columns.

    Raises DataError at the first thing that is neither.
    """
    if not lines:
        raise DataError(f"{name}: empty; there is no matrix in it")
    try:
        return _Lines(lines, delimiter, name, quotes).read()
    except DataError as fault:
        hint = _hint(lines, delimiter)
        raise DataError(f"{fault}{hint}") if hint else fault from None


class _Lines:
    """One file's lines, on the way to a matrix."""

    def __init__(self, lines: list[Line], delimiter: str, name: str, quotes: Quotes) -> None:
        first, rest = lines[0], lines[1:]
        self.width = len(rest[0].cells if rest else first.cells)
        quoted = quotes.labels
        if _is_comment(first, rest) and not quoted:
            what = f"begins with {first.cells[0].strip()[:1]!r}, as a comment does; leave it out"
            raise DataError(f"{name}: line {first.number} {what}")
        if delimiter == SPACE and len(first.cells) == self.width - 1:  # no corner: as R writes it
            if not (quoted or (named(first.cells) and named([line.cells[0] for line in rest]))):
                raise _ragged(first, rest[0], name)
            first = Line(first.number, ["", *first.cells])
            quoted = True
        for line in (first, *rest):
            if len(line.cells) != len(first.cells):
                raise _ragged(first, line, name)
        self.first, self.rest, self.name = first, rest, name
        self.quoted, self.quoted_heads = quoted, quotes.heads
        self.parted = _PARTED.get(delimiter, "white space")
        self.known = _is_truth if _is_truth(lines[-1].cells[-1]) else is_number
        self.readings: list[str] = []

    def read(self) -> Labelled:
        above, before = self._labelled()
        body = self.rest if above else [self.first, *self.rest]
        start = 1 if before else 0
        if not body or self.width == start:
            raise DataError(
                f"{self.name}: only words, no numbers; cells are separated by {self.parted}"
            )
        columns = (
            self._names([(self.first, i) for i in range(start, self.width)]) if above else None
        )
        rows = self._names([(line, 0) for line in body]) if before else None
        read = _truths if self.known is _is_truth else _numbers
        array = np.array([read(line, start, self.name) for line in body])
        if above and not before and self.width > 1:
            heads = [line.cells[0] for line in body]
            before, reading = first_column(self.first.cells[0], heads, array[:, 1:])
            self.readings.append(reading)
            if before and columns:
                array, rows, columns = array[:, 1:], heads, columns[1:]
        return Labelled(array, rows, columns, "; ".join(filter(None, self.readings)))

    def _labelled(self) -> tuple[bool, bool]:
        """Whether there are labels above, and before, the numbers."""
        corner, *header = self.first.cells
        heads = [line.cells[0] for line in self.rest]
        if not corner.strip():  # an empty corner stands above and before labels
            if not (self.quoted or sure_labels(header, heads)):
                raise DataError(_empty(self.name, self.first, 0))
            return True, True
        above = not all(map(self.known, header))
        before = self.quoted_heads or not all(map(self.known, heads))
        if self.known(corner) or self.quoted_heads:
            return above, before
        if not self.rest:
            return above, not above
        if above:  # a word there belongs to whichever labels there are
            return True, before
        if not before:
            return True, counts(header) and len(header) > 1
        return self._first_of_words(corner, header)

    def _first_of_words(self, corner: str, header: list[str]) -> tuple[bool, bool]:
        """Whether the first line is labels, where words begin all lines and numbers follow."""
        body = (cell.strip().lstrip("-") for line in self.rest for cell in line.cells[1:])
        whole, counted = all(map(str.isdecimal, body)), counts(header) and len(header) > 1
        if names_rows(corner):
            return True, True
        if counted and not whole:  # as pandas writes an index that has a name
            if len(header) < FEW:
                self.readings.append(f"the first line, {corner.strip()!r}, is read as labels")
            return True, True
        bare = all(cell.strip().isdecimal() for cell in header) and len(set(header)) > 1
        if (bare and not whole) or (counted and len(header) >= FEW):
            said = "is read as a row; if it is labels, leave its first cell empty"
            self.readings.append(f"the first line, {corner.strip()!r}, {said}")
        return False, True

    def _names(self, cells: list[tuple[Line, int]]) -> list[str]:
        """The labels in some cells. Raises DataError for an empty one.

        Unless an empty corner makes it sure that they are labels, also for what looks like a
        number misspelt, or like part of a mask.
        """
        texts = [line.cells[i] for line, i in cells]
        sure = not self.first.cells[0].strip() or self.quoted_heads
        numbers, truths = sum(map(is_number, texts)), all(map(_is_truth, texts))
        misspelt = [bool(_LIKE_A_NUMBER.match(text)) and not is_number(text) for text in texts]
        for (line, i), text, odd in zip(cells, texts, misspelt, strict=True):
            where = f"{self.name}: line {line.number}, cell {i + 1}"
            if not text.strip():
                raise DataError(_empty(self.name, line, i))
            if not sure and (truths or (odd and (numbers or all(misspelt)))):
                beside = " like those beside it" if numbers else "; labels like it want quotes"
                raise DataError(f"{where}: {text!r} is not a number{beside}")
        side = "line" if cells and cells[-1][0] is self.first else "column"
        corner = side == "column" and not self.known(self.first.cells[0])
        if not (sure or corner) and 0 < numbers < len(texts):
            word = next(text for text in texts if not is_number(text)).strip()[:20]
            said = f"is read as labels, since {word!r} is not a number"
            self.readings.append(f"the first {side} {said}")
        return texts


def _is_comment(first: Line, rest: list[Line]) -> bool:
    """Whether the first line is one for people, as `np.savetxt` writes its header."""
    start, *others = first.cells
    numbers = len(others) > 0 and all(map(is_number, others))
    alike = bool(rest) and len(rest[0].cells) == len(first.cells)
    labelled = numbers and alike and not is_number(rest[0].cells[0])
    return start.lstrip().startswith(("#", "%")) and not labelled


def _empty(name: str, line: Line, i: int) -> str:
    where = f"{name}: line {line.number}, cell {i + 1}"
    return f"{where}: the cell is empty; write a number such as 0.5, -inf or nan"


def _hint(lines: list[Line], delimiter: str) -> str:
    """What a person should know of lines that could not be read."""
    cells = [cell for line in lines[:3] for cell in line.cells]
    first = cells[0].lstrip()
    ended = any(cell.rstrip().endswith("]") for cell in cells)
    if first.startswith("[") and first.strip("[] \t") and ended:
        return f" ({PRINTED})"
    if all(";" in "".join(line.cells) for line in lines[:3]):
        points = " and a point in each number" if delimiter == "," else ""
        return f" (cells seem to be separated by ';'; write commas between them{points})"
    for sign, parted, ending in (("\t", "tabs", ".tsv"), (",", "commas", ".csv")):
        if sign != delimiter and all(sign in cell for cell in cells):
            return f" (cells seem to be separated by {parted}; name it {ending})"
    return ""


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
