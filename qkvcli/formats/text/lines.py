"""Lines of cells, looked at one by one: which are labels, which numbers, and what is wrong."""

import csv
import io
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from qkvcli.core.operands import Array
from qkvcli.errors import DataError
from qkvcli.formats.text.cells import COMMENTS, SPACE, is_number, number, split_lines
from qkvcli.formats.text.labels import (
    FEW,
    Labelled,
    Labelling,
    counts,
    first_column,
    named,
    names_rows,
    sure_labels,
)
from qkvcli.formats.text.plain import numbers_in

_LIKE_A_NUMBER = re.compile(
    r"\s*(?:[-+\u2212]?\.?\d|(?:#?n/?a|null|none|nil|missing|-+|\?+)\s*$)", re.IGNORECASE
)
"""A number misspelt, or a word for one that is missing."""
_WORD = re.compile(r'"(?:[^"]|"")*"(?=\s|$)|\S+')
_PARTED = {",": "commas", "\t": "tabs"}


class Line(NamedTuple):
    """A line of cells, and its number in the file."""

    number: int
    cells: list[str]


class Quotes(NamedTuple):
    """What is in quotes, and so no number: ``labels`` about a corner, or the ``heads`` of rows."""

    labels: bool
    heads: bool


def lines_in(text: str, delimiter: str, name: str, before: int) -> Iterator[Line]:
    """The lines that have anything in them; ``before`` are those of the file that came first.

    Raises DataError for one whose quotes are not in order.
    """
    if delimiter == SPACE:
        for i, line in enumerate(split_lines(text), 1 + before):
            if words := [_unquoted(word) for word in _WORD.findall(line)]:
                yield Line(i, words)
        return
    plain = _without_quotes(text)
    if plain is not None:
        rows = enumerate((line.split(delimiter) for line in plain), 1 + before)
        yield from (Line(i, cells) for i, cells in rows if len(cells) > 1 or cells[0].strip())
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield Line(reader.line_num + before, cells)
    except csv.Error as fault:
        raise DataError(f"{name}: line {reader.line_num + before}: {fault}") from None


def _without_quotes(text: str) -> list[str] | None:
    """The lines of a text in which a delimiter always parts cells, and no cell is too long."""
    if '"' in text or "\0" in text:
        return None
    lines = split_lines(text)
    return lines if max(map(len, lines)) <= csv.field_size_limit() else None


def _unquoted(word: str) -> str:
    return word[1:-1].replace('""', '"') if word[:1] == word[-1:] == '"' and word[1:] else word


def numbers_and_labels(
    lines: list[Line], delimiter: str, name: str, quotes: Quotes, asked: Labelling
) -> Labelled:
    """The numbers, and what stands before the rows and above the columns.

    What is labels is guessed where nobody ``asked`` for it. Raises DataError at the first thing
    that is neither.
    """
    if not lines:
        raise DataError(f"{name}: empty; there is no matrix in it")
    return _Lines(lines, delimiter, name, quotes, asked).read()


class _Lines:
    """One file's lines, on the way to a matrix."""

    def __init__(
        self, lines: list[Line], delimiter: str, name: str, quotes: Quotes, asked: Labelling
    ) -> None:
        first, rest = lines[0], lines[1:]
        self.width = len(rest[0].cells if rest else first.cells)
        quoted = quotes.labels
        cornered = delimiter == SPACE or asked.said
        if cornered and not asked.never and len(first.cells) == self.width - 1:  # as R writes it
            known = named(first.cells) and named([line.cells[0] for line in rest])
            if not (quoted or asked.said or known):
                raise _ragged(first, rest[0], name)
            first = Line(first.number, ["", *first.cells])
            quoted = True
        self.first, self.rest, self.name = first, rest, name
        self.quoted, self.quoted_heads = quoted, quotes.heads
        self.asked = asked
        self._check_lines()
        self.parted = _PARTED.get(delimiter, "white space")
        self.known = _is_truth if _is_truth(lines[-1].cells[-1]) else is_number
        self.readings: list[str] = []

    def _check_lines(self) -> None:
        """Raise DataError for a line of another length, or of a comment among the numbers."""
        corner = self.first.cells[0].strip()
        heads = [line.cells[0] for line in (self.first, *self.rest)]
        sure = self.quoted or self.asked.index or not corner or names_rows(corner)
        numbers = not sure and any(map(is_number, heads))
        for line in (self.first, *self.rest):
            ragged = len(line.cells) != len(self.first.cells)
            head = line.cells[0].lstrip()
            if (ragged or numbers) and head.startswith(COMMENTS):
                what = f"begins with {head[:1]!r}, as a comment does; leave it out"
                raise DataError(f"{self.name}: line {line.number} {what}")
            if ragged:
                raise _ragged(self.first, line, self.name)

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
        array = self._array(body, start)
        if above and not before and self.width > 1 and self.asked.index is None:
            heads = [line.cells[0] for line in body]
            before, reading = first_column(self.first.cells[0], heads, array[:, 1:])
            self.readings.append(reading)
            if before and columns:
                array, rows, columns = array[:, 1:], heads, columns[1:]
        return Labelled(array, rows, columns, "; ".join(filter(None, self.readings)))

    def _array(self, body: list[Line], start: int) -> Array:
        """The cells from ``start`` on: at once where all are plain numbers, else one by one."""
        if self.known is _is_truth:
            return np.array([_truths(line, start, self.name) for line in body])
        cells = "\n".join(",".join(line.cells[start:]) for line in body)
        array = numbers_in(io.BytesIO(cells.encode()), ",")
        # a cell in quotes may have a comma in it, or a line break
        if array is not None and array.shape == (len(body), self.width - start):
            return array
        return np.array([_numbers(line, start, self.name) for line in body])

    def _labelled(self) -> tuple[bool, bool]:
        """Whether there are labels above, and before, the numbers."""
        above, before = self.asked.header, self.asked.index
        if above is not None and before is not None:
            return above, before
        corner, *header = self.first.cells
        heads = [line.cells[0] for line in self.rest]
        if not corner.strip() and not self.asked.never:
            # an empty corner stands above and before labels
            if not (self.quoted or self.asked.said or sure_labels(header, heads)):
                raise DataError(_empty(self.name, self.first, 0))
            return True, True
        words = not all(map(self.known, header))
        worded = self.quoted_heads or not all(map(self.known, heads))
        if above is not None:
            return above, worded or not (above or self.known(corner)) or names_rows(corner)
        if before is False:
            return words or not self.known(corner), False
        if self.known(corner) or self.quoted_heads:
            return words, before or worded
        return self._of_word(corner, header, words, before or worded)

    def _of_word(
        self, corner: str, header: list[str], above: bool, before: bool
    ) -> tuple[bool, bool]:
        """Whether there are labels above and before, where a word begins the first line.

        It belongs to whichever labels there are.
        """
        if not self.rest:
            return above, not above
        if above:
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
                said = "is read as labels; --no-header reads it as a row"
                self.readings.append(f"the first line, {corner.strip()!r}, {said}")
            return True, True
        bare = all(cell.strip().isdecimal() for cell in header) and len(set(header)) > 1
        if (bare and not whole) or (counted and len(header) >= FEW):
            said = "is read as a row; --header reads it as labels"
            self.readings.append(f"the first line, {corner.strip()!r}, {said}")
        return False, True

    def _names(self, cells: list[tuple[Line, int]]) -> list[str]:
        """The labels in some cells. Raises DataError for an empty one.

        Unless an empty corner makes it sure that they are labels, also for what looks like a
        number misspelt, or like part of a mask.
        """
        texts = [line.cells[i] for line, i in cells]
        side = "line" if cells and cells[-1][0] is self.first else "column"
        asked = self.asked.header if side == "line" else self.asked.index
        sure = not self.first.cells[0].strip() or self.quoted_heads or bool(asked)
        numbers, truths = sum(map(is_number, texts)), all(map(_is_truth, texts))
        misspelt = [bool(_LIKE_A_NUMBER.match(text)) and not is_number(text) for text in texts]
        for (line, i), text, odd in zip(cells, texts, misspelt, strict=True):
            where = f"{self.name}: line {line.number}, cell {i + 1}"
            if not text.strip():
                raise DataError(_empty(self.name, line, i))
            if not sure and (truths or (odd and (numbers or all(misspelt)))):
                beside = " like those beside it" if numbers else "; labels like it want quotes"
                raise DataError(f"{where}: {text!r} is not a number{beside}")
        corner = side == "column" and not self.known(self.first.cells[0])
        if not (sure or corner) and 0 < numbers < len(texts):
            word = next(text for text in texts if not is_number(text)).strip()[:20]
            said = f"is read as labels, since {word!r} is not a number"
            self.readings.append(f"the first {side} {said}")
        return texts


def _empty(name: str, line: Line, i: int) -> str:
    where = f"{name}: line {line.number}, cell {i + 1}"
    what = "write a number such as 0.5, -inf or nan"
    if i == 0:
        what += ", or say --header or --index where the first line or column is labels"
    return f"{where}: the cell is empty; {what}"


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
