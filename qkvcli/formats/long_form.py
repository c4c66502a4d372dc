"""Weights in long form: a line for each query and key, as programs that group and plot want it."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO

import numpy as np

from qkvcli.core.facts import Ranked
from qkvcli.core.naming import Names
from qkvcli.formats.cells import lines_of, shortest

LONG = ("csv", "tsv", "json")
"""The formats that have a long form."""

_AT_ONCE = 4096
"""How many lines are written together."""


def write_long(
    rows: Iterable[Ranked],
    names: tuple[Names, Names],
    stream: BinaryIO,
    kind: str,
    digits: int | None = None,
) -> None:
    r"""The rows as ``kind`` (one of `LONG`), with the names of the queries and of the keys.

    A line has head, query, key and weight, after the batch where there are batches; without
    an axis of heads the head is 0.

    >>> row = Ranked((), 1, np.array([2]), np.array([0.5]))
    >>> stream = io.BytesIO()
    >>> write_long([row], (Names(("a", "b"), 2), Names(None, 3)), stream, "csv")
    >>> stream.getvalue()
    b'head,query,key,weight\n0,b,2,0.5\n'
    """
    lines = _lines(rows, names, digits)
    first = next(lines, None)
    head = ("batch", "head", "query", "key", "weight")[-len(first or "four") :]
    write = _write_json if kind == "json" else _write_cells
    write(head, [] if first is None else [first], lines, stream, "\t" if kind == "tsv" else ",")


def _lines(
    rows: Iterable[Ranked], names: tuple[Names, Names], digits: int | None
) -> Iterator[tuple[Any, ...]]:
    """Batch (where there is one), head, query, key, and the weight as text."""
    queries, keys = names
    for row in rows:
        *batches, head = row.place or (0,)
        batch = (" ".join(map(str, batches)),) if batches else ()
        query = _name(queries, row.query)
        weights = (
            shortest(row.weights) if digits is None else lines_of(row.weights[:, None], digits, "")
        )
        for key, weight in zip(row.keys.tolist(), weights, strict=True):
            yield (*batch, head, query, _name(keys, key), weight)


def _name(names: Names, i: int) -> str | int:
    return i if names.labels is None else names[i]


def _write_cells(
    head: tuple[str, ...],
    first: list[tuple[Any, ...]],
    lines: Iterator[tuple[Any, ...]],
    stream: BinaryIO,
    delimiter: str,
) -> None:
    part = [head, *first]
    while part:
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(part)
        stream.write(text.getvalue().encode())
        part = list(islice(lines, _AT_ONCE))


def _write_json(
    head: tuple[str, ...],
    first: list[tuple[Any, ...]],
    lines: Iterator[tuple[Any, ...]],
    stream: BinaryIO,
    _: str,
) -> None:
    before = "["
    part = first
    while part:
        texts = [_object(head, line) for line in part]
        stream.write((before + ",\n ".join(texts)).encode())
        before = ",\n "
        part = list(islice(lines, _AT_ONCE))
    stream.write(b"]\n" if first else b"[]\n")


def _object(head: tuple[str, ...], line: tuple[Any, ...]) -> str:
    *names, weight = line
    told = "".join(
        f"{json.dumps(name)}: {json.dumps(value)}, "
        for name, value in zip(head[:-1], names, strict=True)
    )
    number = weight if np.isfinite(float(weight)) else f'"{weight}"'
    return f'{{{told}"weight": {number}}}'
