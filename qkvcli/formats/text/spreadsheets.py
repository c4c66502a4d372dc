"""Cells that are parted in another way than a text's ending says, and decimal commas.

Spreadsheets write both where people do: `1,5;2,25` in German and in French.
"""

import csv
import re
import shlex
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from qkvcli.formats.source import Source
from qkvcli.formats.text.cells import PRINTED, SPACE, is_number, split_lines

_DECIMAL = re.compile(r"\s*[-+]?\d*,\d+(?:[eE][-+]?\d+)?\s*")
_MANY = 1000
"""So many lines are looked at."""


class Other(NamedTuple):
    """What is said of cells that are parted otherwise; ``sure`` where they can't be labels."""

    said: str
    sure: bool


def other_cells(text: str, delimiter: str, source: Source) -> Other | None:
    r"""What a person should know of cells between ``;``, tabs or blanks; None where there are none.

    >>> other_cells("x;y\n1,5;2,25\n", ",", Source("q.csv")).said  # doctest: +ELLIPSIS
    "cells are separated by ';', and numbers have decimal commas; convert it: ..."
    """
    lines = list(islice(filter(str.strip, split_lines(text)), _MANY))
    if not lines or lines[0].startswith(","):  # as we write labels
        return None
    for known in _SIGNS:
        sign = known.sign
        if len(_parted((lines[1:] or lines)[0], sign)) < 2:
            continue
        rows = [_parted(line, sign) for line in lines]
        body = rows[1:] or rows
        if any(len(cells) != len(body[0]) for cells in body):
            continue
        others = [cell for cells in body for cell in cells[0 if sign == SPACE else 1 :]]
        commas = any(_DECIMAL.fullmatch(cell) for cells in body for cell in cells)
        if all(map(_is_value, others)) and (commas or sign == ";"):
            return Other(_said(known, commas, source), sign not in (SPACE, delimiter))
    return None


def _parted(line: str, sign: str) -> list[str]:
    if sign == SPACE:
        return line.split()
    with suppress(csv.Error):  # a cell beyond all measure
        return next(csv.reader([line], delimiter=sign))
    return []


def _is_value(cell: str) -> bool:
    truth = cell.strip().lower() in ("true", "false")
    return truth or is_number(cell) or _DECIMAL.fullmatch(cell) is not None


class _Sign(NamedTuple):
    """What parts cells: how it is called, what `tr` makes of it, and for what ending.

    ``pandas`` has it as `read_csv` takes it.
    """

    sign: str
    called: str
    old: str
    new: str
    ending: str
    pandas: str


_SIGNS = (
    _Sign(";", "';'", ";", ",", "csv", "';'"),
    _Sign("\t", "tabs", "", "", "tsv", r"'\t'"),
    _Sign(SPACE, "white space", "", "", "txt", r"r'\s+'"),
)


def _said(sign: _Sign, commas: bool, source: Source) -> str:
    """What is said of a file, and the command that makes another of it, which can be read."""
    numbers, decimal, old, new = "", "", sign.old, sign.new
    if commas:
        numbers, decimal = ", and numbers have decimal commas", ", decimal=','"
        old, new = f",{old}", f".{new}"
    swap, kept = f"tr '{old}' '{new}'", f"points.{sign.ending}"
    command = f"{swap} > {kept}"
    if source.path is not None:
        name = shlex.quote(str(source.path))
        opened = f"gzip -dc {name} | {swap}" if source.compressed else f"{swap} < {name}"
        command = f"{opened} > {kept}"
    pandas = f"read_csv(sep={sign.pandas}{decimal})"
    return (
        f"cells are separated by {sign.called}{numbers}; convert it: {command}, "
        f"or by pandas' {pandas}"
    )


def hint(text: str, delimiter: str) -> str:
    """What else a person should know of lines that could not be read; nothing where that is all."""
    lines = list(islice(filter(str.strip, split_lines(text)), 3))
    cells = [cell for line in lines for cell in _parted(line, delimiter)]
    if not cells:
        return ""
    first = cells[0].lstrip()
    ended = any(cell.rstrip().endswith("]") for cell in cells)
    if first.startswith("[") and first.strip("[] \t") and ended:
        return PRINTED
    if all(";" in line for line in lines):
        return "cells seem to be separated by ';'; write commas, and a point in each number"
    for sign, parted, ending in (("\t", "tabs", ".tsv"), (",", "commas", ".csv")):
        if sign != delimiter and all(sign in cell for cell in cells):
            return f"cells seem to be separated by {parted}; name it {ending}"
    return ""
