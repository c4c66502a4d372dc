"""What stands in text before its numbers: comments, and a line that says the shape."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from qkvcli.errors import DataError
from qkvcli.formats.source import Source, decoded
from qkvcli.formats.text.cells import (
    BLANKS,
    COMMENTS,
    DEEPEST,
    SPACE,
    is_comment,
    is_number,
    is_size,
)

_LINE = re.compile(r"([^\r\n]*)(?:\r\n|\r|\n|$)")
_SHAPE = re.compile(r"# shape((?: +\d{1,18})+)[ \t]*")
_LIKE_A_SHAPE = re.compile(r"# shape *(?: \d|$)")


class Head(NamedTuple):
    """What stands before the numbers: so many lines, and characters; and the shape they say."""

    shape: tuple[int, ...] | None = None
    lines: int = 0
    length: int = 0
    reading: str = ""


def head_of(source: Source, delimiter: str) -> Head:
    r"""The comments before the numbers, as `np.savetxt` writes them, and the line of the shape.

    >>> head_of(Source("q", data=b"# of GPT-2\n# shape 1 1 2\n1,2\n"), ",")
    Head(shape=(1, 1, 2), lines=2, length=25, reading='')

    A line that begins like a comment, and is a row with its label, is none. Raises DataError
    for a shape that no matrix has.
    """
    text = decoded(source.start())
    if not is_comment(text.lstrip(" \r\n")):
        return Head()
    lines = list(_leading(text))
    if lines[-1].end() >= len(text) - 1:  # they may go on beyond the first bytes
        lines = list(_leading(source.text()))
    count, reading = _comments(lines, source, delimiter)
    shapes = [
        shape
        for i, line in enumerate(lines[:count], 1)
        if (shape := _shape(line[1], f"{source.name}: line {i}"))
    ]
    if len(shapes) > 1:
        raise DataError(f"{source.name}: {len(shapes)} lines say its shape; keep one")
    length = lines[count - 1].end() if count else 0
    return Head(shapes[0] if shapes else None, count, length, reading)


def _leading(text: str) -> "Iterator[re.Match[str]]":
    """The first lines, as long as they are empty or begin like comments."""
    for line in _LINE.finditer(text):
        words = line[1].strip(" ") != ""
        if line.start() == len(text) or (words and not is_comment(line[1])):
            return
        yield line


def _shape(line: str, where: str) -> tuple[int, ...] | None:
    """The shape that a line says; None for another comment."""
    if not _LIKE_A_SHAPE.match(line):
        return None
    said = _SHAPE.fullmatch(line)
    shape = tuple(map(int, said[1].split())) if said else ()
    if said is None or not 2 <= len(shape) <= DEEPEST or not is_size(shape):
        raise DataError(f"{where} says {line[:60]}, which no matrix has")
    return shape


def _comments(lines: "list[re.Match[str]]", source: Source, delimiter: str) -> tuple[int, str]:
    """How many of the first lines are no rows; and what a person should know of that."""
    held = [_cells(line[1], delimiter) for line in lines]
    asked = source.labelling.header
    if not asked and not any(_like_a_row(cells) for cells in held):
        return len(lines), ""
    rest = source.text()[lines[-1].end() :]
    after = _cells(rest, delimiter)
    if not after:  # all lines begin so: the last may be the label of the last row
        held, after = held[:-1], held[-1]
    for i, cells in enumerate(held):
        if len(cells) == len(after) and _is_row(cells, after, delimiter):
            bare = cells[0].strip()[1:2].strip() == "" and cells[0].strip() not in COMMENTS
            said = f"line {i + 1}, {cells[0].strip()!r}, is read as a row with its label"
            return i, f"{said}; if it is a comment, leave it out" if bare else ""
    told = asked and held and len(held[-1]) == len(after) > 1
    line = len(lines) + 1
    return len(lines), f"line {line}, below the comments, is read as labels" if told else ""


def _cells(text: str, delimiter: str) -> list[str]:
    """The cells of the first line that has any; none where its quotes are not in order."""
    from qkvcli.formats.text.lines import lines_in

    try:
        line = next(lines_in(text, delimiter, "", 0), None)
    except DataError:
        return []
    return [] if line is None else line.cells


def _like_a_row(cells: list[str]) -> bool:
    """Whether a line that begins like a comment may be labels, or a row with its label."""
    if len(cells) > 1 and cells[0].strip() in COMMENTS:
        return True
    others = [cell for cell in cells[1:] if cell.strip() not in BLANKS]
    return bool(others) and all(map(is_number, others))


def _is_row(cells: list[str], after: list[str], delimiter: str) -> bool:
    """Whether it is, where the first line that begins otherwise is ``after``."""
    if not _like_a_row(cells):
        return False
    alone = cells[0].strip() in COMMENTS and delimiter != SPACE and all(map(str.strip, cells))
    return alone or (all(map(_is_blank_or_number, cells[1:])) and not is_number(after[0]))


def _is_blank_or_number(cell: str) -> bool:
    return cell.strip() in BLANKS or is_number(cell)
