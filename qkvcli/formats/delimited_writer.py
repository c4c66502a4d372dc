"""CSV, TSV and white space, written; `delimited` says how they look."""

import csv
import io
from collections.abc import Sequence
from typing import BinaryIO

from qkvcli.core.steps import Step
from qkvcli.errors import WriteError
from qkvcli.formats.cells import texts
from qkvcli.formats.delimited import SPACE


def write_delimited(
    steps: Sequence[Step], stream: BinaryIO, digits: int | None, delimiter: str
) -> None:
    """The last step as text."""
    step = steps[-1]
    array = step.array
    if array.ndim != 2 or array.size == 0:
        stream.write(f"# shape {' '.join(map(str, array.shape))}\n".encode())
    if array.size == 0:
        return
    labelled = step.rows is not None or step.columns is not None
    rows = step.rows or tuple(map(str, range(array.shape[-2])))
    if labelled:
        columns = step.columns or tuple(map(str, range(array.shape[-1])))
        corner = [] if delimiter == SPACE else [""]
        stream.write(_line([*corner, *columns], delimiter).encode())
    for i, row in enumerate(array.reshape(-1, array.shape[-1])):
        numbers = delimiter.join(texts(row, digits))
        label = _line([rows[i % len(rows)]], delimiter)[:-1] + delimiter if labelled else ""
        stream.write(f"{label}{numbers}\n".encode())


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
