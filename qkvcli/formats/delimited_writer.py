"""CSV, TSV and white space, written; `delimited` says how they look."""

import csv
import io
from collections.abc import Sequence
from typing import BinaryIO

from qkvcli.core.steps import Written
from qkvcli.errors import WriteError
from qkvcli.formats.cells import SPACE, lines_of


def write_delimited(
    steps: Sequence[Written], stream: BinaryIO, digits: int | None, delimiter: str
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
        stream.write(_line([*corner, *columns], delimiter).encode())
        rows = step.rows or map(str, range(queries))
        labels = [_line([label], delimiter)[:-1] + delimiter for label in rows]
    done = 0
    for part in step.parts():
        lines = lines_of(part, digits, delimiter)
        if labels:
            lines = [labels[i % queries] + line for i, line in enumerate(lines, done)]
        stream.write(("\n".join(lines) + "\n").encode())
        done += len(part)


def _line(cells: list[str], delimiter: str) -> str:
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
