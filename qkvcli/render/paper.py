"""Lines, small tables and bars, as a terminal, plain text or Markdown has them."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from rich.cells import cell_len
from rich.text import Text

from qkvcli.render.bars import WHOLE, bar
from qkvcli.render.grids import Room
from qkvcli.render.screen import Block, ascii_only, folded, printable
from qkvcli.render.text import markdown_cell

_INDENT, _LABEL = "   ", "magenta"  # labels as in tables
MARGIN = len(_INDENT)
"""The columns that stand before all but headings."""


class Line(NamedTuple):
    """A line of text; a ``heading`` begins a part."""

    text: str
    heading: bool = False


class Sheet(NamedTuple):
    """A small table: a line above its columns (or nothing), and lines that begin with a label."""

    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


class Bars(NamedTuple):
    """Names with their weights, as text and as a share of 1, and what is said of each.

    The latter has a ``title``, where a table is to have one.
    """

    lines: tuple[tuple[str, str, float, str], ...]
    title: str


Part: TypeAlias = Line | Sheet | Bars


def blocks(said: Iterable[Part], room: Room) -> Iterator[Block]:
    """The parts for a terminal."""
    for part in said:
        for text in _lines(part, room):
            yield Block(text, text.cell_len)
    yield Block("")


def _lines(part: Part, room: Room) -> Iterator[Text]:
    """The lines of a part."""
    if isinstance(part, Line):
        yield from _folded(part, room)
    elif isinstance(part, Sheet):
        yield from _sheet(part, room)
    else:
        yield from _barred(part, room)


def _folded(line: Line, room: Room) -> Iterator[Text]:
    """A line of text; one that is longer than the room breaks at blanks."""
    text = ("" if line.heading else _INDENT) + _shown(line.text, room)
    lines = [text] if room.width is None else folded(text, max(room.width, 12), _INDENT)
    for part in lines:
        yield Text(part, "bold" if line.heading else "")


def _shown(text: str, room: Room) -> str:
    text = printable(text)
    return ascii_only(text) if room.plain else text


def _labelled(label: str, rest: str) -> Text:
    text = Text.assemble(_INDENT, (label, _LABEL), rest)
    text.rstrip()
    return text


def _sheet(sheet: Sheet, room: Room) -> Iterator[Text]:
    rows = [[_shown(cell, room) for cell in row] for row in (sheet.header, *sheet.lines)]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for i, (label, *cells) in enumerate(rows):
        padded = (
            " " * (width - cell_len(cell) + 2) + cell
            for cell, width in zip(cells, widths[1:], strict=True)
        )
        first, rest = label + " " * (widths[0] - cell_len(label)), "".join(padded)
        if i:
            yield _labelled(first, rest)
        elif any(sheet.header):
            yield _labelled(first + rest, "")


def _barred(bars: Bars, room: Room) -> Iterator[Text]:
    names, texts, weights, shares = zip(*bars.lines, strict=True)
    names = tuple(_shown(name, room) for name in names)
    first, second, last = (max(map(cell_len, column)) for column in (names, texts, shares))
    used = len(_INDENT) + first + 2 + second + 2 + (last and last + 2)
    whole = WHOLE if room.width is None else min(WHOLE, room.width - used)
    for name, number, weight, part in zip(names, texts, weights, shares, strict=True):
        line = f"  {number:>{second}}"
        if whole >= 4:
            drawn = bar(weight, whole, room.plain)
            line += f"  {drawn}{' ' * (whole - len(drawn))}"
        line += f"  {' ' * (last - cell_len(part))}{part}"
        yield _labelled(name + " " * (first - cell_len(name)), line)


def plain_text(said: Iterable[Part], room: Room) -> str:
    """The parts as text without colours."""
    return "\n".join(text.plain for part in said for text in _lines(part, room))


def markdown(said: Iterable[Part]) -> str:
    """The parts as Markdown."""
    return "\n".join(line for part in said for line in _marked(part)) + "\n"


def _marked(part: Part) -> Iterator[str]:
    if isinstance(part, Line):
        text = markdown_cell(printable(part.text))
        yield from ((f"**{text}**" if part.heading else text), "")
        return
    rows = (
        [part.header, *part.lines]
        if isinstance(part, Sheet)
        else [("", "weight", part.title), *((a, b, c) for a, b, _, c in part.lines)]
    )
    header, *others = ([markdown_cell(printable(cell)) for cell in row] for row in rows)
    yield f"| {' | '.join(header)} |"
    yield f"| {' | '.join([':--', *['--:'] * (len(header) - 1)])} |"
    yield from (f"| {' | '.join(row)} |" for row in others)
    yield ""
