"""A page of help, written in Markdown, as Rich shows it: nothing in it is cut."""

import re
from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, TableElement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from qkvcli.render.help import broken
from qkvcli.render.screen import ascii_only

_THEME = Theme(  # seen on light and dark
    {
        "markdown.h1": "bold magenta",
        "markdown.h2": "bold magenta",
        "markdown.h3": "bold",
        "markdown.code": "bold",
        "markdown.item.bullet": "magenta",
        "markdown.item.number": "magenta",
        "markdown.table.header": "magenta",
        "markdown.table.border": "none",
    }
)
_LOCAL_LINK = re.compile(r"\[([^][]+)\]\((?!\w+:)[^)]*\)")
_COMMAND = re.compile(r"\$ |qkvcli ")
"""How a command begins."""
_CONTINUED = re.compile(r" \\\n> +")
"""Where a command goes on in the next line; one that is too wide is broken anew."""
_INDENT = 2
_GAP = 2
_NARROW = 24
"""A cell of fewer columns would be a ladder of single words."""


def page_content(text: str, plain: bool = False) -> RenderableType:
    """A page as a renderable; ``plain`` keeps to ASCII.

    A link to another page keeps its words alone: they name the command that shows it.
    """
    shown = _LOCAL_LINK.sub(r"\1", text)
    return _Ascii(ascii_only(shown)) if plain else _Page(shown, hyperlinks=False)


class _Heading(Heading):
    """A heading on the left, where a person begins to read."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.text


class _CodeBlock(CodeBlock):
    """Commands and what they print, set in; commands that are too wide are continued."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width - _INDENT
        whole = str(self.text)
        if max(map(cell_len, whole.splitlines()), default=0) > width:
            whole = _CONTINUED.sub(" ", whole)
        lines = [line for text in whole.splitlines() for line in _fitting(text, width)]
        yield Padding(Text("\n".join(lines), overflow="fold"), (0, 0, 0, _INDENT))


def _fitting(line: str, width: int) -> list[str]:
    return broken(line, width) if _COMMAND.match(line) and len(line) > width else [line]


class _Table(TableElement):
    """A table; where its cells would be too narrow to read, its rows one below the other."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        assert self.header is not None
        assert self.header.row is not None
        names = [cell.content for cell in self.header.row.cells]
        rows = [[cell.content for cell in row.cells] for row in self.body.rows] if self.body else []
        widths = _widths(names, rows, options.max_width)
        if widths is None:
            yield from _below(names, rows)
        else:
            yield _beside(names, rows, widths)


def _widths(names: list[Text], rows: list[list[Text]], width: int) -> list[int] | None:
    """The columns' widths: all that they need, or their shares of what there is.

    None where a column has no room for its longest word, or for a few words of a sentence.
    """
    columns = list(zip(names, *rows, strict=True))
    whole = [max(cell.cell_len for cell in column) for column in columns]
    words = [max(map(cell_len, " ".join(map(str, column)).split())) for column in columns]
    least = [max(word, min(full, _NARROW)) for word, full in zip(words, whole, strict=True)]
    left = width - _GAP * (len(columns) - 1) - sum(least)
    if left < 0:
        return None
    more = [full - some for full, some in zip(whole, least, strict=True)]
    left = min(left, sum(more))
    return [some + left * m // max(sum(more), 1) for some, m in zip(least, more, strict=True)]


def _beside(names: list[Text], rows: list[list[Text]], widths: list[int]) -> Table:
    table = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, _GAP - 1, 0, 0),
        header_style="markdown.table.header",
    )
    for name, width in zip(names, widths, strict=True):
        table.add_column(name, width=width)
    for row in rows:
        table.add_row(*row)
    return table


def _below(names: list[Text], rows: list[list[Text]]) -> Iterator[Padding]:
    """Each row as its first cell, and under it the others, each with its column's name.

    Where there is one other, its name is said once, at the start.
    """
    head, *others = (Text(name.plain, "markdown.table.header") for name in names)
    yield Padding(head, 0)
    if len(others) == 1:
        yield Padding(others[0], (0, 0, 0, _INDENT))
    for first, *cells in rows:
        yield Padding(first, 0)
        for name, cell in zip(others, cells, strict=True):
            said = Text.assemble(name, ": ", cell) if len(others) > 1 else cell
            yield Padding(said, (0, 0, 0, _INDENT))


class _Page(Markdown):
    """Markdown with these elements in place of Rich's own."""

    elements = {  # noqa: RUF012 -- as Rich declares it
        **Markdown.elements,
        "heading_open": _Heading,
        "fence": _CodeBlock,
        "code_block": _CodeBlock,
        "table_open": _Table,
    }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with console.use_theme(_THEME):
            yield from super().__rich_console__(console, options)


class _Ascii:
    """A page without the signs that Rich adds: its bullets, and the rules of tables."""

    def __init__(self, text: str) -> None:
        self.page = _Page(text, hyperlinks=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for text, style, control in console.render(self.page, options):
            yield Segment(ascii_only(text), style, control)
