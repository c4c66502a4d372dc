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
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from qkvcli.core.operands import Array, Operand
from qkvcli.core.steps import Step
from qkvcli.errors import DataError, WriteError
from qkvcli.formats.cells import SPACE, checked_labels, lines_of
from qkvcli.formats.source import Document, Source

if TYPE_CHECKING:
    from qkvcli.formats.lines import Line

_SHAPE = re.compile(r"# shape((?: \d+)+)\r?(?:\n|$)")
_WORD = re.compile(r'"(?:[^"]|"")*"(?=\s|$)|\S+')


def read_delimited(source: Source, delimiter: str) -> Document:
    """The one matrix of a text file, cells separated by ``delimiter`` (SPACE: any white space)."""
    matrix = _read(source, delimiter)
    return {"": lambda: matrix}


def _read(source: Source, delimiter: str) -> Operand:
    declared = _SHAPE.match(source.start(500).decode("utf-8-sig", "ignore"))
    shape = tuple(map(int, declared[1].split())) if declared else None
    if shape is not None and (len(shape) < 2 or max(shape) > sys.maxsize // 8):
        raise DataError(f"{source.name}: line 1 says shape {shape}, which no matrix has")
    skipped = 1 if declared else 0
    array = _plain(source, delimiter, skipped)
    rows: list[str] | None = None
    columns: list[str] | None = None
    if array is None:
        text = source.text()
        body = text[declared.end() :] if declared else text
        if not body.strip() and shape is not None and 0 in shape:
            return Operand(np.zeros(shape), origin=source.name)
        quick = _with_labels(body, delimiter)
        if quick is not None:
            array, rows, columns = quick
        else:  # imported here: most files are plain
            from qkvcli.formats.lines import numbers_and_labels

            lines = list(_lines(body, delimiter, source.name, skipped))
            array, rows, columns = numbers_and_labels(lines, delimiter, source.name)
    if shape is not None:
        array, rows = _reshaped(array, rows, shape, source.name)
    return Operand(
        array,
        rows=checked_labels(rows, array.shape[-2], source.name),
        columns=checked_labels(columns, array.shape[-1], source.name),
        origin=source.name,
    )


def _plain(source: Source, delimiter: str, skipped: int) -> Array | None:
    """The numbers at once, by NumPy; None where there is anything that wants a closer look."""
    if b"\0" in source.start() or not source.start().strip():
        return None
    # NumPy reads a file it opens itself in larger pieces than one that is handed to it
    handed = str(source.path) if source.mappable else io.StringIO(source.text())
    parted = None if delimiter == SPACE else delimiter
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns where there is nothing to read
            array = np.loadtxt(
                handed,
                delimiter=parted,
                comments=None,
                ndmin=2,
                skiprows=skipped,
                encoding="utf-8-sig",
            )
    except (ValueError, UserWarning):
        return None
    return array if _all_meant(array, source.content if np.isinf(array).any() else b"") else None


def _all_meant(array: Array, content: bytes) -> bool:
    """Whether each infinity was written as one: a number too large for a float is one to NumPy."""
    infinite = int(np.isinf(array).sum())
    return infinite == 0 or infinite == content.lower().count(b"inf")


def _with_labels(text: str, delimiter: str) -> tuple[Array, list[str], list[str]] | None:
    """Labels on both sides and numbers at once; None where that wants a closer look."""
    lines = text.splitlines()
    if delimiter == SPACE or '"' in text or not lines or lines[0][:1] != delimiter:
        return None
    columns = lines[0].split(delimiter)[1:]
    body = [line for line in lines[1:] if line]
    if text.count(delimiter) != (len(body) + 1) * len(columns) or not body:
        return None
    heads = [line.partition(delimiter)[0] for line in body]
    try:
        array = np.loadtxt(
            body,
            delimiter=delimiter,
            comments=None,
            ndmin=2,
            usecols=range(1, len(columns) + 1),
        )
    except ValueError:
        return None
    if not all(map(str.strip, [*columns, *heads])):
        return None
    return (array, heads, columns) if _all_meant(array, text.encode()) else None


def _lines(text: str, delimiter: str, name: str, before: int) -> "Iterator[Line]":
    """The lines that have anything in them."""
    from qkvcli.formats.lines import Line

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


def write_delimited(
    steps: Sequence[Step], stream: BinaryIO, digits: int | None, delimiter: str
) -> None:
    """The last step as text, part by part."""
    step = steps[-1]
    *_, queries, width = step.shape
    if len(step.shape) != 2 or 0 in step.shape:
        stream.write(f"# shape {' '.join(map(str, step.shape))}\n".encode())
    if 0 in step.shape:
        return
    labels: list[str] = []
    if step.rows is not None or step.columns is not None:
        corner = [] if delimiter == SPACE else [""]
        columns = step.columns or tuple(map(str, range(width)))
        stream.write(_label_line([*corner, *columns], delimiter).encode())
        rows = step.rows or map(str, range(queries))
        labels = [_label_line([label], delimiter)[:-1] + delimiter for label in rows]
    done = 0
    for part in step.parts():
        lines = lines_of(part, digits, delimiter)
        if labels:
            lines = [labels[i % queries] + line for i, line in enumerate(lines, done)]
        stream.write(("\n".join(lines) + "\n").encode())
        done += len(part)


def _label_line(cells: list[str], delimiter: str) -> str:
    """Labels as a line. Raises WriteError for one that would not be read as it was."""
    for cell in cells[1:] if cells[:1] == [""] else cells:
        if not cell.strip() or (delimiter == SPACE and "\n" in cell):
            what = "a line break in it" if cell.strip() else "nothing to see in it"
            raise WriteError(f"a label with {what} cannot be written here; use JSON")
    if delimiter == SPACE:
        return SPACE.join(_quoted(cell) for cell in cells) + "\n"
    text = io.StringIO()
    # a carriage return wants quotes too, which only a terminator that has one brings about
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"' if '"' in word or word.split() != [word] else word
