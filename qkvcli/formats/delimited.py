"""CSV, TSV and white space: rows of numbers, with or without labels.

A matrix is a line of cells a row. Where it has labels, the first line names the columns
and the first cell of each line the row; an axis without labels is counted 0, 1, 2, …
there, as pandas does. An array whose shape its lines can't tell (more axes than two, or
nothing in it) has a line `# shape 12 9 9` before them.
"""

import csv
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qkvcli.core.arrays import Array, Labelled
from qkvcli.errors import DataError
from qkvcli.formats.cells import checked_labels, is_number, number
from qkvcli.formats.document import Document
from qkvcli.formats.source import Source

_SHAPE = re.compile(r"# shape((?: \d+)+)\r?(?:\n|$)")
_WORD = re.compile(r'"(?:[^"]|"")*"(?=\s|$)|\S+')
SPACE = " "
_LIKE_A_NUMBER = re.compile(r"\s*[-+\u2212]?\.?\d")
_PARTED = {",": "commas", "\t": "tabs"}


@dataclass(frozen=True)
class Line:
    """A line of cells, and its number in the file."""

    number: int
    cells: list[str]


def read_delimited(source: Source, delimiter: str) -> Document:
    """The one matrix of a text file, cells parted by ``delimiter`` (SPACE: any white space)."""
    matrix = _read(source, delimiter)
    return {"": lambda: matrix}


def _read(source: Source, delimiter: str) -> Labelled:
    text = source.text()
    declared = _SHAPE.match(text)
    shape = tuple(map(int, declared[1].split())) if declared else None
    if shape is not None and (len(shape) < 2 or max(shape) > sys.maxsize // 8):
        raise DataError(f"{source.name}: line 1 says shape {shape}, which no matrix has")
    body = text[declared.end() :] if declared else text
    array = _plain(body, delimiter)
    if array is not None:
        rows, columns = None, None
    else:
        lines = list(_lines(body, delimiter, source.name, 1 if declared else 0))
        if not lines and shape is not None and 0 in shape:
            return Labelled(np.zeros(shape), origin=source.name)
        array, rows, columns = _labelled(lines, delimiter, source.name)
    if shape is not None:
        array, rows = _reshaped(array, rows, shape, source.name)
    return Labelled(
        array,
        checked_labels(rows, array.shape[-2], source.name),
        checked_labels(columns, array.shape[-1], source.name),
        origin=source.name,
    )


def _plain(text: str, delimiter: str) -> Array | None:
    """The numbers at once, by NumPy; None where there is anything that wants a closer look."""
    if not text.strip() or "\x00" in text:
        return None
    parted = None if delimiter == SPACE else delimiter
    try:
        array = np.loadtxt(io.StringIO(text), delimiter=parted, comments=None, ndmin=2)
    except ValueError:
        return None
    infinite = int(np.isinf(array).sum())  # a number too large for a float is inf to NumPy
    return array if infinite == 0 or infinite == text.lower().count("inf") else None


def _lines(text: str, delimiter: str, name: str, before: int) -> Iterator[Line]:
    """The lines that have anything in them."""
    if delimiter == SPACE:
        for i, line in enumerate(text.split("\n"), 1 + before):
            if words := [_unquoted(word) for word in _WORD.findall(line)]:
                yield Line(i, words)
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield Line(reader.line_num + before, cells)
    except csv.Error as fault:
        raise DataError(f"{name}: line {reader.line_num + before}: {fault}") from None


def _unquoted(word: str) -> str:
    return word[1:-1].replace('""', '"') if word[:1] == word[-1:] == '"' and word[1:] else word


def _labelled(
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
        above = above or (bool(rest) and (not before or first.cells[1:] == counted))
        before = before or not above
    body = rest if above else lines
    start = 1 if before else 0
    sure = not first.cells[0].strip()
    columns = _names([(first, i) for i in range(start, width)], name, sure) if above else None
    rows = _names([(line, 0) for line in body], name, sure) if before else None
    if not body or width == start:
        parted = _PARTED.get(delimiter, "white space")
        raise DataError(f"{name}: only words, no numbers; cells are parted by {parted}")
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
    for (line, i), text in zip(cells, texts, strict=True):
        where = f"{name}: line {line.number}, cell {i + 1}"
        if not text.strip():
            raise DataError(f"{where}: the cell is empty; write a number such as 0.5, -inf or nan")
        odd = _LIKE_A_NUMBER.match(text) and not is_number(text) and any(map(is_number, texts))
        if not sure and (odd or all(map(_is_truth, texts))):
            raise DataError(f"{where}: {text!r} is not a number like those beside it")
    return texts


def _reshaped(
    array: Array, rows: list[str] | None, shape: tuple[int, ...], name: str
) -> tuple[Array, list[str] | None]:
    """The lines as the matrices that the shape line says; labels stand before each of them."""
    try:
        whole = array.reshape(shape)
    except ValueError:
        whole = np.zeros(())
    if array.shape[-1:] != shape[-1:] or whole.shape != shape:
        raise DataError(f"{name}: line 1 says shape {shape}, and the lines are {array.shape}")
    if rows is None or len(shape) < 2:
        return whole, None
    if rows != rows[: shape[-2]] * (len(rows) // shape[-2]):
        raise DataError(f"{name}: each matrix must have the same labels before its rows")
    return whole, rows[: shape[-2]]
