"""What cells of text hold: a number, a label, a comment."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from qkvcli.core.operands import Labels
from qkvcli.errors import DataError

SPACE = " "
"""As a delimiter: any white space."""
COMMENTS = ("#", "%")
"""How a line begins that is for people, in text."""
DEEPEST = 64
"""How many axes an array may have; NumPy's own limit."""
BLANKS = ("", "?")
"""What stands for a number that is left out of a comparison."""
PRINTED = "this is how NumPy prints; save it by np.savetxt or np.save"
"""What is said of a matrix that was copied from a screen."""


def split_lines(text: str) -> list[str]:
    """A text's lines; what Python calls a line break besides may stand in a label."""
    if "\r" in text:  # many times as fast to look for as to replace
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.split("\n")


def is_comment(line: str) -> bool:
    r"""Whether a line begins as those for people do; after a tab it is a cell that does.

    >>> is_comment(" # from layer 3"), is_comment("\t#\tcat")
    (True, False)
    """
    return line.lstrip(" ").startswith(COMMENTS)


def is_size(shape: Sequence[int]) -> bool:
    """Whether NumPy could count the bytes of an array of this shape, 8 for each number.

    An axis of length 0 counts as 1, as NumPy counts it.

    >>> is_size((3, 0)), is_size((0, 2**62))
    (True, False)
    """
    return math.prod(max(n, 1) for n in shape) <= sys.maxsize // 8


def is_number(cell: str) -> bool:
    """Whether a cell reads as a number; "inf", "-inf" and "nan" do, "" does not.

    >>> is_number(" -1.5e3 "), is_number("-inf"), is_number("cat"), is_number("1_000")
    (True, True, False, False)
    """
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python's own float() takes 1_000, no other program does


def number(cell: str, where: str) -> float:
    """The cell's number. Raises DataError, which begins with ``where``."""
    if not is_number(cell):
        what = f"{_short(cell)!r} is not a number" if cell.strip() else "the cell is empty"
        raise DataError(f"{where}: {what}; write one such as 0.5, -inf or nan")
    value = float(cell)
    if np.isinf(value) and "inf" not in cell.lower():
        raise DataError(f"{where}: {_short(cell)} is too large for a float (the limit is 1.8e308)")
    return value


def _short(cell: str) -> str:
    return cell.strip() if len(cell) <= 30 else cell.strip()[:30] + "…"


def checked_labels(labels: Any, count: int, where: str) -> Labels:
    """Labels as a tuple of text; None where there are none.

    Those that only count 0, 1, 2, …, as pandas writes them, are none.

    Raises DataError where their number is not ``count``, or one cannot be written as UTF-8.

    >>> checked_labels(["The", "cat"], 2, "q.csv"), checked_labels(["0", "1"], 2, "q.csv")
    (('The', 'cat'), None)
    """
    if labels is None:
        return None
    if not isinstance(labels, (list, tuple)) or len(labels) != count:
        raise DataError(f"{where}: there must be {count} labels, one for each")
    if not all(isinstance(label, (str, int, float)) for label in labels):
        raise DataError(f"{where}: a label is text")
    names = tuple(map(str, labels))
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: a label is not UTF-8 text") from None
    return None if names == tuple(map(str, range(count))) else names
