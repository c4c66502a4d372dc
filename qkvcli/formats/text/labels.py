"""Numbers that may be labels: a first row or column that only counts, and a corner's name.

pandas writes 0, 1, 2, … above columns and before rows that have no names of their own. Whether
they are labels shows in the text: our own writer, and NumPy's, never write a number of a matrix
as a bare ``0``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qkvcli.core.operands import Array
from qkvcli.formats.text.cells import is_number

_CORNERS = {"token", "tokens", "word", "words", "label", "labels", "index", "id", "name"}
"""What people call a first column that names its rows."""
FEW = 3
"""Fewer whole numbers than these are no count: many small matrices begin with 0, 1."""


@dataclass(frozen=True)
class Labelling:
    """Whether the first line, and the first column, are labels; None where nobody said it."""

    header: bool | None = None
    index: bool | None = None

    @property
    def never(self) -> bool:
        """Whether there are no labels on one side, at least."""
        return self.header is False or self.index is False

    @property
    def said(self) -> str:
        """The first option that says it, as a person types it; nothing where none does.

        >>> Labelling(index=False).said, Labelling().said
        ('--no-index', '')
        """
        if self.header is not None:
            return "--header" if self.header else "--no-header"
        if self.index is not None:
            return "--index" if self.index else "--no-index"
        return ""


GUESSED = Labelling()
"""Where nobody said what is labels."""


class Labelled(NamedTuple):
    """Numbers, and the labels before and above them.

    A ``reading`` says what was taken for what, where a person may have meant otherwise.
    """

    array: Array
    rows: list[str] | None = None
    columns: list[str] | None = None
    reading: str = ""


def without_counts(
    array: Array,
    line: Callable[[], list[str]],
    column: Callable[[], list[str]],
    asked: Labelling = GUESSED,
) -> Labelled:
    """Numbers alone, of which the first line or column may be labels.

    They are if they are ``asked`` to be; or, where nobody said it, if they are written
    0, 1, 2, … and what they stand above or before is not whole. ``line`` and ``column`` give
    the text of the first, where it is looked at.

    >>> half = np.array([[0, 1], [0.5, 0.5]])
    >>> without_counts(half, lambda: ["0", "1"], lambda: ["0", "0.5"]).array.tolist()
    [[0.5, 0.5]]
    >>> without_counts(half, lambda: ["0.0", "1.0"], lambda: ["0.0", "0.5"]).array.tolist()
    [[0.0, 1.0], [0.5, 0.5]]
    """
    (above, said), (before, more) = (asked.header or False, ""), (asked.index or False, "")
    guessed = min(array.shape) > 1
    if asked.header is None:
        above, said = _axis(array[0], array[1:], line, "line") if guessed else _alone(array, line)
    rest = slice(1 if above else 0, None)
    body = array[rest]
    if asked.index is None and guessed:
        before, more = _axis(body[:, 0], body[:, 1:], lambda: column()[rest], "column")
    others = slice(1 if before else 0, None)
    return Labelled(
        body[:, others],
        column()[rest] if before else None,
        line()[others] if above else None,
        "; ".join(filter(None, (said, more))),
    )


def _axis(
    numbers: Array, others: Array, text: Callable[[], list[str]], side: str
) -> tuple[bool, str]:
    """Whether the numbers of the first line or column are labels, and what a person should know."""
    start = numbers[0]
    if not 0 <= start < 10_000 or not (numbers == np.arange(len(numbers)) + start).all():
        return False, ""
    whole = _whole(others)
    first, count = int(start), len(numbers)
    if not counts(text(), first):
        return False, ""
    option = "header" if side == "line" else "index"
    shown = f"the first {side}, {first} to {first + count - 1}, is read as"
    if first == 0 and not whole:
        return True, f"{shown} labels; --no-{option} reads it as numbers"
    if count < FEW or (first > 0 and whole):  # many matrices begin so
        return False, ""
    return False, f"{shown} numbers; --{option} reads it as labels"


def _alone(array: Array, line: Callable[[], list[str]]) -> tuple[bool, str]:
    """What a person should know of a 0 above one column, which is a number."""
    if array.shape[1] > 1 or len(array) < 3 or array[0] != 0 or line() != ["0"] or _whole(array):
        return False, ""
    return False, "the first line, 0, is read as a number; --header reads it as a label"


def _whole(numbers: Array) -> bool:
    """Whether all that are finite are whole."""
    return not (np.isfinite(numbers) & (numbers != np.trunc(numbers))).any()


def counts(cells: Sequence[str], first: int = 0) -> bool:
    """Whether labels only count from ``first`` on, and write it as pandas does.

    >>> counts(["0", "1", "2"]), counts(["0.0", "1.0"]), counts(["1", "2"], 1)
    (True, False, True)
    """
    return all(cell.strip() == str(i) for i, cell in enumerate(cells, first))


def named(labels: Sequence[str]) -> bool:
    """Whether labels are no numbers of a matrix: there is a word among them, or they count.

    >>> named(["the", "7"]), named(["0", "1", "0", "1"]), named(["7", "8"])
    (True, True, False)
    """
    again = (
        labels.index("0", 1) if "0" in labels[1:] else len(labels)
    )  # in each of several matrices
    counted = all(label == str(i % again) for i, label in enumerate(labels))
    return counted or counts(labels, 1) or not all(map(is_number, labels))


def sure_labels(columns: Sequence[str], rows: Sequence[str]) -> bool:
    """Whether what stands above and before numbers, with an empty corner, must be labels.

    A word is one, and so are numbers that count; other numbers may be those of a matrix whose
    first cell is missing.
    """
    if all(cell.strip().isdecimal() for cell in (*columns, *rows)):
        return counts(columns) or (named(rows) and not counts(rows, 1))
    return not all(map(is_number, (*columns, *rows)))


def names_rows(corner: str) -> bool:
    """Whether a word above a first column says that the column names the rows.

    >>> names_rows("Token"), names_rows("year")
    (True, False)
    """
    return corner.strip().lower() in _CORNERS or corner.startswith("Unnamed:")


def first_column(corner: str, heads: Sequence[str], others: Array) -> tuple[bool, str]:
    """Whether whole numbers below a name, beside columns with names, are labels; and a reading."""
    if names_rows(corner):
        return True, ""
    bare = all(head.strip().isdecimal() for head in heads)
    if not bare or len(set(heads)) < len(heads):
        return False, ""
    whole = _whole(others)
    named = f"the first column, {corner.strip()!r}, is read as"
    if counts(heads) and len(heads) > 1 and not whole:
        return True, f"{named} labels; --no-index reads it as numbers"
    count = len(heads) >= FEW and (counts(heads) or counts(heads, 1))
    largest = float(np.abs(others[np.isfinite(others)]).max(initial=1))
    if count or not whole or min(map(int, heads)) > 10 * largest:  # years, not entries of a matrix
        return False, f"{named} numbers; --index reads it as labels"
    return False, ""
