"""A share of 1 as a bar, and the keys that weigh most as a list with bars."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from qkvcli.core.facts import Ranked
from qkvcli.core.steps import Outline
from qkvcli.render.grids import GAP, Room, cut
from qkvcli.render.screen import Block, folded
from qkvcli.render.tables import heading, matrix_line
from qkvcli.render.text import SINKS, share

WHOLE = 40
"""Columns of text for a share of 1, where there is room."""
_LEAST = 8
_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float, width: int = WHOLE, plain: bool = False) -> str:
    """A bar that takes the whole width for a share of 1, to an eighth of a column.

    >>> bar(0.5, 8), bar(0.2, 8), bar(0.2, 8, plain=True), bar(0.0001, 8)
    ('████', '█▋', '##', '')
    """
    if not share > 0:
        return ""
    if plain:
        return "#" * round(share * width)
    eighths = round(share * width * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def top_tables(
    step: Outline,
    rows: Iterable[Ranked],
    room: Room,
    gaps: bool = False,
) -> Iterator[Block]:
    """For each query the keys that weigh most, with bars; a list for each head and batch.

    Where there are ``gaps``, a line stands for the queries that are left out.
    """
    yield heading(step, room)
    if step.sinks:
        said = SINKS if room.width is None else "\n".join(folded(SINKS, max(room.width, 1)))
        yield Block(said, max(map(len, said.split("\n"))))
    for place, group in groupby(rows, key=lambda row: row.place):
        if place:
            yield matrix_line(step, place)
        yield _table(step, list(group), room, gaps)
        yield Block("")


def _table(step: Outline, rows: Sequence[Ranked], room: Room, gaps: bool) -> Block:
    queries, keys, cap = step.row_names, step.column_names, room.cap(4)
    lines: list[tuple[str, str, str, float]] = []
    for i, row in enumerate(rows):
        if gaps and i and row.query != rows[i - 1].query + 1:
            lines.append((room.ellipsis, "", "", 0.0))
        texts = [share(weight, room.digits) for weight in row.weights.tolist()] or [""]
        named = [cut(keys[key], cap, room) for key in row.keys.tolist()] or ["no key"]
        shares = row.weights.tolist() or [0.0]
        query = cut(queries[row.query], cap, room)
        for n, line in enumerate(zip(named, texts, shares, strict=True)):
            lines.append(("" if n else query, *line))
    cells = list(zip(*((query, key, text) for query, key, text, _ in lines), strict=True))
    label, key, number = (max(map(cell_len, column), default=0) for column in cells or [()] * 3)
    used = label + key + number + 3 * GAP
    whole = WHOLE if room.width is None else min(WHOLE, max(room.width - used, _LEAST))
    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(style="magenta", no_wrap=True, width=label)
    table.add_column(no_wrap=True, width=key)
    table.add_column(justify="right", no_wrap=True, width=number)
    table.add_column(no_wrap=True)
    for query, name, text, weight in lines:
        drawn = bar(weight, whole, room.plain)
        table.add_row(Text(query), Text(name), Text(text), Text(drawn))
    return Block(table, used + whole)
