"""CSV, TSV and white space: rows of numbers, with or without labels.

A matrix is a line of cells a row. Where it has labels, the first line names the columns
and the first cell of each line the row; an axis without labels is counted 0, 1, 2, …
there, as pandas does. An array whose shape its lines can't tell (more axes than two, or
nothing in it) has a line `# shape 12 9 9` before them.
"""

import csv
import io
import re
import warnings
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from qkvcli.core.operands import Array, Operand
from qkvcli.core.steps import Step
from qkvcli.errors import DataError, WriteError
from qkvcli.formats.source import Source, decoded
from qkvcli.formats.text.cells import COMMENTS, SPACE, checked_labels, split_lines
from qkvcli.formats.text.comments import Head, head_of
from qkvcli.formats.text.labels import Labelled, Labelling, named, sure_labels, without_counts
from qkvcli.formats.text.plain import blocks, lines_of, numbers_in

if TYPE_CHECKING:
    from qkvcli.formats.members import Document

_TO_NUMPY = (".gz", ".bz2", ".xz", ".lzma")


def read_delimited(source: Source, delimiter: str) -> "Document":
    """The one matrix of a text file, cells separated by ``delimiter`` (SPACE: any white space)."""
    from qkvcli.formats.members import Member  # imported here: what is written has no members

    matrix = _read(source, delimiter)
    return {"": Member(lambda: matrix, matrix.shape)}


def _read(source: Source, delimiter: str) -> Operand:
    head = head_of(source, delimiter)
    shape = head.shape
    array = _at_once(source, delimiter, head.lines)
    array = _plain(source, delimiter, head.lines) if array is None else array
    if array is not None:
        found = _of_numbers(array, source, delimiter, head)
    else:
        body = source.text()[head.length :]
        if not body.strip() and shape is not None and 0 in shape:
            return Operand(np.zeros(shape), origin=source.name)
        found = _with_labels(body, delimiter, source.labelling) or _carefully(
            body, delimiter, source, head
        )
    array, rows = found.array, found.rows
    if not array.size:
        what = "no numbers are left beside its labels"
        raise DataError(f"{source.name}: {what}; leave out --header or --index")
    if shape is not None:
        array, rows = _reshaped(array, rows, shape, source.name)
    names = checked_labels(rows, array.shape[-2], source.name)
    return Operand(
        array,
        rows=names,
        columns=checked_labels(found.columns, array.shape[-1], source.name),
        origin=source.name,
        numbered=rows is not None and names is None,
        reading="; ".join(filter(None, (head.reading, found.reading))),
    )


def _of_numbers(array: Array, source: Source, delimiter: str, head: Head) -> Labelled:
    """Numbers alone, without those that are labels; a file that says its shape has none."""
    asked = source.labelling
    if head.shape is not None:
        asked = Labelling(asked.header or False, asked.index or False)

    def line() -> list[str]:
        start = decoded(source.start())[head.length :]
        whole = any(sign in start.lstrip() for sign in "\r\n")
        return next(_cells(start if whole else source.text()[head.length :], delimiter))

    def column() -> list[str]:
        return [cells[0] for cells in _cells(source.text()[head.length :], delimiter, 1)]

    return without_counts(array, line, column, asked)


def _at_once(source: Source, delimiter: str, skipped: int) -> Array | None:
    """The numbers below so many lines, where all are plain; None where there is anything else."""
    with source.stream() as stream:
        if stream.read(len(BOM_UTF8)) != BOM_UTF8:
            stream.seek(0)
        before = b"".join(stream.readline() for _ in range(skipped)).replace(b"\r\n", b"\n")
        try:
            lines = split_lines(before.decode())
        except UnicodeDecodeError:  # what follows says where
            return None
        # a carriage return alone ends a line, too
        return numbers_in(stream, delimiter) if len(lines) == skipped + 1 else None


def _plain(source: Source, delimiter: str, skipped: int) -> Array | None:
    """The numbers at once, by NumPy; None where there is anything that wants a closer look."""
    if b"\0" in source.start() or not source.start().strip():
        return None
    # NumPy reads a file it opens itself in larger pieces than one that is handed to it, but takes
    # it for compressed where the name says so, whatever is in it
    opens = source.mappable and source.path and source.path.suffix.lower() not in _TO_NUMPY
    handed = str(source.path) if opens else io.StringIO(source.text(), newline=None)
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
    written = source.content.lower().count(b"inf") if np.isinf(array).any() else 0
    return array if _all_meant(array, written) else None


def _cells(text: str, delimiter: str, most: int = -1) -> Iterator[list[str]]:
    """The cells of each line of plain numbers, the last with all that is left after ``most``."""
    parted = None if delimiter == SPACE else delimiter
    lines = (line.strip() for line in split_lines(text.removeprefix("\ufeff")))
    return ([cell.strip() for cell in line.split(parted, most)] for line in lines if line)


def _all_meant(array: Array, written: int) -> bool:
    """Whether each infinity was written as one: a number too large for a float is one to NumPy."""
    return int(np.isinf(array).sum()) == written


def _with_labels(text: str, delimiter: str, asked: Labelling) -> Labelled | None:
    """Labels on both sides and numbers at once; None where that wants a closer look."""
    lines = split_lines(text)
    if asked.never or delimiter == SPACE or '"' in text or lines[0][:1] != delimiter:
        return None
    columns = lines[0].split(delimiter)[1:]
    body = [line for line in lines[1:] if line]
    if text.count(delimiter) != (len(body) + 1) * len(columns) or not body:
        return None
    parted = [line.partition(delimiter) for line in body]
    heads = [head for head, _, _ in parted]
    array = numbers_in(io.BytesIO("\n".join(cells for *_, cells in parted).encode()), delimiter)
    if array is None:
        array = _below_labels(body, delimiter, len(columns))
    if array is None:
        return None
    sure = bool(asked.said) or sure_labels(columns, heads)
    if not all(map(str.strip, [*columns, *heads])) or not sure:
        return None
    if np.isinf(array).any():
        written = text.lower().count("inf") - "\n".join([lines[0], *heads]).lower().count("inf")
        if not _all_meant(array, written):
            return None
    return Labelled(array, heads, columns)


def _below_labels(lines: list[str], delimiter: str, width: int) -> Array | None:
    """The numbers of lines that begin with a label, by NumPy; None where one is none."""
    columns = range(1, width + 1)
    try:
        return np.loadtxt(lines, delimiter=delimiter, comments=None, ndmin=2, usecols=columns)
    except ValueError:
        return None


def _carefully(text: str, delimiter: str, source: Source, head: Head) -> Labelled:
    """The labels and numbers, looked at one by one."""
    from qkvcli.formats.text.lines import Quotes, lines_in, numbers_and_labels  # most are plain
    from qkvcli.formats.text.spreadsheets import hint, other_cells

    name = source.name
    if head.lines and not text.strip():
        raise DataError(f"{name}: only comments, no numbers")
    other = other_cells(text, delimiter, source)
    if other is not None and other.sure:
        raise DataError(f"{name}: {other.said}")
    first, *second = [*islice(filter(str.strip, split_lines(text)), 2)] or [""]
    parted = r"\s+" if delimiter == SPACE else delimiter
    heads = bool(re.match(rf'"(?:[^"]|"")*"{parted}[-+.\d]', first))
    corner = "" if delimiter == SPACE else delimiter
    labels = first.startswith((f'{corner}"', f'""{delimiter}"'))
    quotes = Quotes((labels or any(line.startswith('"') for line in second)) and not heads, heads)
    try:
        lines = list(lines_in(text, delimiter, name, head.lines))
        return numbers_and_labels(lines, delimiter, name, quotes, source.labelling)
    except DataError as fault:
        more = other.said if other is not None else hint(text, delimiter)
        raise DataError(f"{fault} ({more})") if more else fault from None


def cells_of(source: Source, delimiter: str) -> tuple[str, list[list[str]]]:
    """What stands before the numbers, as it is, and the cells of each line that has any."""
    from qkvcli.formats.text.lines import lines_in

    head = head_of(source, delimiter)
    whole = source.text()
    lines = lines_in(whole[head.length :], delimiter, source.name, head.lines)
    return whole[: head.length], [line.cells for line in lines]


def _reshaped(
    array: Array, rows: list[str] | None, shape: tuple[int, ...], name: str
) -> tuple[Array, list[str] | None]:
    """The lines as the matrices that the shape line says; labels stand before each of them."""
    try:
        whole = array.reshape(shape)
    except ValueError:
        whole = np.zeros(())
    if array.shape[-1:] != shape[-1:] or whole.shape != shape:
        raise DataError(f"{name}: a line says # shape {shape}, and the lines are {array.shape}")
    if rows is None:
        return whole, None
    if rows != rows[: shape[-2]] * (len(rows) // shape[-2]):
        raise DataError(f"{name}: each matrix must have the same labels before its rows")
    return whole, rows[: shape[-2]]


def write_delimited(
    steps: Sequence[Step], stream: BinaryIO, digits: int | None, delimiter: str
) -> None:
    """The last step as text, part by part."""
    step = steps[-1]
    queries = step.shape[-2]
    shape = len(step.shape) != 2 or 0 in step.shape
    first = f"# shape {' '.join(map(str, step.shape))}\n" if shape else ""
    head, labels = _labels(step, delimiter)  # all of them, before the first byte is written
    stream.write(f"{first}{head}".encode())
    if 0 in step.shape:
        return
    done = 0
    for part in blocks(step.parts()):
        lines = lines_of(part, digits, delimiter)
        if labels:
            lines = [labels[i % queries] + line for i, line in enumerate(lines, done)]
        stream.write(("\n".join(lines) + "\n").encode())
        done += len(part)


def _labels(step: Step, delimiter: str) -> tuple[str, list[str]]:
    """The line of labels above the numbers, and what stands before each row of a matrix."""
    *_, queries, width = step.shape
    if 0 in step.shape or (step.rows is None and step.columns is None):
        return "", []
    columns = step.columns or tuple(map(str, range(width)))
    rows = step.rows or tuple(map(str, range(queries)))
    json = columns[0].startswith(("[", "{"))  # after the corner's tab, JSON would begin like this
    sure = named(columns) and named(rows) if delimiter == SPACE else sure_labels(columns, rows)
    quoted = json or not sure
    corner = "" if delimiter == SPACE else delimiter
    head = corner + _label_line(columns, delimiter, quoted)
    return head, [_label_line([label], delimiter, quoted)[:-1] + delimiter for label in rows]


def _label_line(labels: Sequence[str], delimiter: str, quoted: bool) -> str:
    """Labels as a line. Raises WriteError for one that would not be read as it was.

    They are all ``quoted`` where they could be taken for numbers of the matrix.
    """
    for label in labels:
        if not label.strip() or (delimiter == SPACE and "\n" in label):
            what = "a line break in it" if label.strip() else "nothing to see in it"
            raise WriteError(f"a label with {what} cannot be written here; use JSON")
    if quoted or (delimiter == SPACE and not all(map(_plain_word, labels))):
        return delimiter.join('"' + label.replace('"', '""') + '"' for label in labels) + "\n"
    if delimiter == SPACE:
        return SPACE.join(labels) + "\n"
    text = io.StringIO()
    # a carriage return wants quotes too, which only a terminator that has one brings about
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerow(labels)
    return text.getvalue().removesuffix("\r\n") + "\n"


def _plain_word(word: str) -> bool:
    """Whether a label can stand among white space as it is."""
    # how other formats begin, and how their cells are parted
    odd = "," in word or word.startswith((*COMMENTS, "[", "{", "\ufeff", "PK"))
    return '"' not in word and word.split() == [word] and not odd
