"""What files hold, for a person: a table for each file."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from qkvcli.core.inventory import Entry, Range
from qkvcli.core.operands import Labels
from qkvcli.render.grids import GAP, Room
from qkvcli.render.screen import Block, ascii_only, folded, printable

_HEAD = ("shape", "type", "min", "max", "NaN", "inf")
_RIGHT = ("min", "max", "NaN", "inf")
_BOLD, _DIM, _NAME = Style(bold=True), Style(dim=True), Style(color="magenta")
_ODD = Style(color="yellow", bold=True)
_SHOWN = 6
"""How many labels are shown."""
_DIGITS = 4
"""How many digits of a number count."""


def inventory(entries: Sequence[Entry], room: Room) -> Iterator[Block]:
    """A heading and a table for each file; a line for each array, two where the room is narrow."""
    for i, (file, group) in enumerate(groupby(entries, key=lambda entry: entry.file)):
        held = list(group)
        if i:
            yield Block("")
        count = f"{len(held)} array" + ("" if len(held) == 1 else "s")
        numbers = sum(math.prod(entry.shape) for entry in held if entry.shape is not None)
        count += f", {numbers:,} number" + ("" if numbers == 1 else "s")
        yield _line(f"{printable(file)}   {count}", room, _BOLD)
        yield from _table(held, room)
        for entry in held:
            yield from _labels(entry, room)
        if len(entries) > 1:  # of one, the error says it
            yield from _faults(held, room)


def _line(text: str, room: Room, style: Style) -> Block:
    shown = ascii_only(text) if room.plain else text
    lines = [shown] if room.width is None else folded(shown, room.width, "  ")
    return Block(Text("\n".join(lines), style), max(map(cell_len, lines)))


def _table(entries: Sequence[Entry], room: Room) -> Iterator[Block]:
    """The facts below a head, each line after its name, or below it where there is no room."""
    facts = [_facts(entry) for entry in entries]
    widths = [max(map(cell_len, column)) for column in zip(_HEAD, *facts, strict=True)]
    named = any(entry.name for entry in entries)
    label = max(map(cell_len, ["name", *(printable(entry.name) for entry in entries)])) * named
    used = label + sum(widths) + GAP * (len(widths) + (label > 0))
    beside = room.width is None or used - GAP <= room.width
    if label and beside:
        widths.insert(0, label)
    lines = [[Text("name", _DIM), *(Text(name, _DIM) for name in _HEAD)]]
    for entry, cells in zip(entries, facts, strict=True):
        name = Text(printable(entry.name), _NAME)
        lines.append([name, *map(_fact, cells, _HEAD)])
    if label and not beside:
        yield _grid([lines[0]], widths)
        for line in lines[1:]:
            yield _line(line[0].plain, room, _NAME)
            yield _grid([line], widths)
    else:
        yield _grid(lines, widths)


def _grid(lines: Sequence[Sequence[Text]], widths: Sequence[int]) -> Block:
    """Lines of cells, of which the last have columns of these widths."""
    names = ("name", *_HEAD)[-len(widths) :]
    text = Text()
    for line in lines:
        for name, cell, width in zip(names, line[-len(widths) :], widths, strict=True):
            blank = " " * (width - cell.cell_len)
            text.append(blank if name in _RIGHT else "").append_text(cell)
            text.append(" " * GAP if name in _RIGHT else blank + " " * GAP)
        text.append("\n")
    text.rstrip()
    return Block(text, sum(widths) + GAP * len(widths))


def _fact(cell: str, kind: str) -> Text:
    odd = kind in ("NaN", "inf") and cell not in ("0", "")
    return Text(cell, _ODD if odd else "")


def _facts(entry: Entry) -> tuple[str, ...]:
    found = entry.range or Range()
    known = entry.range is not None
    return (
        "" if entry.shape is None else str(entry.shape),
        printable(entry.type),
        _number(found.least),
        _number(found.largest),
        f"{found.nan}" if known else "",
        f"{found.inf}" if known else "",
    )


def _number(number: float | int | bool | None) -> str:
    """A number as a person reads it.

    >>> _number(0.123456), _number(3), _number(True), _number(None)
    ('0.1235', '3', 'true', '')
    """
    if number is None:
        return ""
    if isinstance(number, bool):
        return str(number).lower()
    return f"{number:.{_DIGITS}g}" if isinstance(number, float) else str(number)


def _labels(entry: Entry, room: Room) -> Iterator[Block]:
    for side, labels in (("rows", entry.rows), ("columns", entry.columns)):
        if labels is not None:
            name = f"{printable(entry.name)}: " if entry.name else ""
            yield _line(f"{name}{side}: {_listed(labels, room)}", room, _DIM)


def _faults(entries: Sequence[Entry], room: Room) -> Iterator[Block]:
    """What is wrong with those that cannot be read, each fault once."""
    counted = Counter(entry.fault for entry in entries if entry.fault)
    for fault, count in counted.items():
        more = f" ({count} arrays)" if count > 1 else ""
        yield _line(f"{printable(fault)}{more}", room, _ODD)


def _listed(labels: Labels, room: Room) -> str:
    names = [printable(label) for label in (labels or ())[:_SHOWN]]
    return " ".join(names) + (f" {room.ellipsis}" if len(labels or ()) > _SHOWN else "")
