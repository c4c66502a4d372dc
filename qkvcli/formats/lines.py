"""Lines of cells, looked at one by one: which are labels, which numbers, and what is wrong."""

import re
from typing import NamedTuple

import numpy as np

from qkvcli.errors import DataError
from qkvcli.formats.cells import SPACE, is_number, number
from qkvcli.formats.labels import Labelled, counts, first_column, names_rows, sure_labels

_LIKE_A_NUMBER = re.compile(
    r"\s*(?:[-+\u2212]?\.?\d|(?:#?n/?a|null|none|nil|missing|-+|\?+)\s*$)", re.IGNORECASE
)
"""A number misspelt, or a word for one that is missing."""
_PARTED = {",": "commas", "\t": "tabs"}


class Line(NamedTuple):
    """A line of cells, and its number in the file."""

    number: int
    cells: list[str]


def numbers_and_labels(lines: list[Line], delimiter: str, name: str, quoted: bool) -> Labelled:
    """The numbers, and what stands before the rows and above the columns.

    ``quoted`` says that the labels are in quotes, so that they are labels also where they
    look like numbers. Raises DataError at the first thing that is neither.
    """
    if not lines:
        raise DataError(f"{name}: empty; there is no matrix in it")
    try:
        return _Lines(lines, delimiter, name, quoted).read()
    except DataError as fault:
        hint = _hint(lines, delimiter)
        raise DataError(f"{fault}{hint}") if hint else fault from None


class _Lines:
    """One file's lines, on the way to a matrix."""

    def __init__(self, lines: list[Line], delimiter: str, name: str, quoted: bool) -> None:
        first, rest = lines[0], lines[1:]
        self.width = len(rest[0].cells if rest else first.cells)
        if delimiter == SPACE and len(first.cells) == self.width - 1:  # no corner: as R writes it
            first = Line(first.number, ["", *first.cells])
            quoted = True
        for line in (first, *rest):
            if len(line.cells) != len(first.cells):
                raise _ragged(first, line, name)
        self.first, self.rest, self.name, self.quoted = first, rest, name, quoted
        self.parted = _PARTED.get(delimiter, "white space")
        self.known = _is_truth if _is_truth(lines[-1].cells[-1]) else is_number
        self.readings: list[str] = []

    def read(self) -> Labelled:
        above, before = self._labelled()
        body = self.rest if above else [self.first, *self.rest]
        start = 1 if before else 0
        columns = (
            self._names([(self.first, i) for i in range(start, self.width)]) if above else None
        )
        rows = self._names([(line, 0) for line in body]) if before else None
        if not body or self.width == start:
            raise DataError(
                f"{self.name}: only words, no numbers; cells are separated by {self.parted}"
            )
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
        before = not all(map(self.known, heads))
        if not self.known(corner):  # a word there belongs to whichever labels there are
            named = bool(self.rest) and (counts(header) or (before and names_rows(corner)))
            above = above or named or (bool(self.rest) and not before)
            before = before or not above or (counts(header) and len(header) > 1)
        return above, before

    def _names(self, cells: list[tuple[Line, int]]) -> list[str]:
        """The labels in some cells. Raises DataError for an empty one.

        Unless an empty corner makes it sure that they are labels, also for what looks like a
        number misspelt, or like part of a mask.
        """
        texts = [line.cells[i] for line, i in cells]
        sure = not self.first.cells[0].strip()
        numbers, truths = sum(map(is_number, texts)), all(map(_is_truth, texts))
        for (line, i), text in zip(cells, texts, strict=True):
            where = f"{self.name}: line {line.number}, cell {i + 1}"
            if not text.strip():
                raise DataError(_empty(self.name, line, i))
            odd = numbers and _LIKE_A_NUMBER.match(text) and not is_number(text)
            if not sure and (odd or truths):
                raise DataError(f"{where}: {text!r} is not a number like those beside it")
        side = "line" if cells and cells[-1][0] is self.first else "column"
        named = side == "column" and not self.known(self.first.cells[0])
        if not (sure or named) and 0 < numbers < len(texts):
            word = next(text for text in texts if not is_number(text)).strip()[:20]
            said = f"is read as labels, since {word!r} is not a number"
            self.readings.append(f"the first {side} {said}")
        return texts


def _empty(name: str, line: Line, i: int) -> str:
    where = f"{name}: line {line.number}, cell {i + 1}"
    return f"{where}: the cell is empty; write a number such as 0.5, -inf or nan"


def _hint(lines: list[Line], delimiter: str) -> str:
    """What a person should know of lines that could not be read."""
    cells = [cell for line in lines[:3] for cell in line.cells]
    if any(cell.lstrip().startswith("[") and cell.strip("[] \t") for cell in cells[:1]) and (
        any(cell.rstrip().endswith("]") for cell in cells)
    ):
        return " (this is how NumPy prints; save it by np.savetxt or np.save)"
    if all(";" in "".join(line.cells) for line in lines[:3]):
        points = " and a point in each number" if delimiter == "," else ""
        return f" (cells seem to be separated by ';'; write commas between them{points})"
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
