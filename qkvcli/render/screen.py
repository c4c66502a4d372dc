"""What a screen is given: pieces with their widths, and text that it can show and does not obey."""

import re
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len, chop_cells

if TYPE_CHECKING:  # help is shown without Rich's tables, and without NumPy
    from rich.console import RenderableType


class Block(NamedTuple):
    """Something to print, and the width that it needs: in less, Rich would cut it."""

    content: "RenderableType"
    width: int = 0


_PLAIN = str.maketrans(
    {"·": ".", "ᵀ": "^T", "→": "->", "…": "...", "×": "x", "√": "sqrt", "∞": "inf", "−": "-"}
    | {"–": "-", "±": "+-", "Σ": "sum", "⁰": "^0", "¹": "^1", "²": "^2", "³": "^3", "⁴": "^4"}
    | {"─": "-", "•": "*", "≤": "<=", "≥": ">="}
    | dict.fromkeys("█▉▊▋▌", "#")  # bars
    | dict.fromkeys("▍▎▏", " ")
    | dict(zip("░▒▓", ".:*", strict=True))
)


def ascii_only(text: str) -> str:
    """The text in ASCII; a letter that has no stand-in becomes a question mark.

    >>> ascii_only("scores = Q·Kᵀ   (5, 64)·(64, 5) → (5, 5)")
    'scores = Q.K^T   (5, 64).(64, 5) -> (5, 5)'
    """
    return text.translate(_PLAIN).encode("ascii", "replace").decode()


_JOINERS = "\u200c\u200d"  # ordinary in Persian and Hindi words, and within emoji


def printable(label: str) -> str:
    r"""A label on one line, with nothing in it that a terminal would obey.

    >>> printable("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    return "".join(c if c.isprintable() or c in _JOINERS else _escaped(c) for c in label)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


_BLANK = re.compile(r"(?<! )(?<!\d,) (?! )|(?<=\d,) (?! )(?!\d+(?:, \d+)*\))")
"""A blank that parts words; two and more are meant, and one within a shape belongs to it."""


def folded(text: str, width: int, then: str = "") -> list[str]:
    """Lines of at most ``width`` columns, broken at blanks, and within a word that is longer.

    Those after the first begin with ``then``. A shape stays in one piece where it can.

    >>> folded("rows sum to 1", 9, "  "), folded("the longest", 5), folded("1, 2 → (3, 4)", 9)
    (['rows sum', '  to 1'], ['the', 'longe', 'st'], ['1, 2 →', '(3, 4)'])
    """
    if cell_len(text) <= width:
        return [text]
    indent = len(text) - len(text.lstrip(" "))
    lines, line = [], text[:indent]
    empty = True
    for word in _BLANK.split(text.strip(" ")):
        if not empty and cell_len(line) + 1 + cell_len(word) > width:
            lines.append(line)
            line, empty = then, True
        line, empty = (line if empty else f"{line} ") + word, False
        if cell_len(line) > width:
            *whole, line = chop_cells(line, max(width, 2))
            lines += whole
    return [*lines, line]
