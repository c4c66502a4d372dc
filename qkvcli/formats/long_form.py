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
from qkvcli.core.steps import Outline
from qkvcli.formats.text.plain import lines_of

LONG = ("csv", "tsv", "json")
"""The formats that have a long form."""

_AT_ONCE = 4096
"""How many lines are written together."""


def write_long(
    rows: Iterable[Ranked],
    step: Outline,
    stream: BinaryIO,
    kind: str,
    digits: int | None = None,
) -> None:
    r"""The rows of a step of weights as ``kind`` (one of `LONG`), each key on a line.

    A line has head, query, key and weight, after the batch where there are batches; without
    an axis of heads the head is 0. A query that sees no key has no line.

    >>> step = Outline("weights", "", (), (2, 3), np.dtype(float), rows=("a", "b"))
    >>> stream = io.BytesIO()
    >>> write_long([Ranked((), 1, np.array([2]), np.array([0.5]))], step, stream, "csv")
    >>> stream.getvalue()
    b'head,query,key,weight\n0,b,2,0.5\n'
    """
    batches = len(step.shape) > 3
    head = (*(("batch",) if batches else ()), "head", "query", "key", "weight")
    lines = _lines(rows, step, digits)
    if kind == "json":
        _write_json(head, lines, stream)
    else:
        _write_cells(head, lines, stream, "\t" if kind == "tsv" else ",")


def _lines(rows: Iterable[Ranked], step: Outline, digits: int | None) -> Iterator[tuple[Any, ...]]:
    """Batch (where there are any), head, query, key, and the weight as text."""
    for row in rows:
        *batches, head = row.place or (0,)
        batch = batches if len(batches) < 2 else [" ".join(map(str, batches))]
        query = _name(step.row_names, row.query)
        weights = lines_of(row.weights[:, None], digits, "")
        for key, weight in zip(row.keys.tolist(), weights, strict=True):
            yield (*batch, head, query, _name(step.column_names, key), weight)


def _name(names: Names, i: int) -> str | int:
    return i if names.labels is None else names[i]


def _write_cells(
    head: tuple[str, ...], lines: Iterator[tuple[Any, ...]], stream: BinaryIO, delimiter: str
) -> None:
    part = [head, *islice(lines, _AT_ONCE)]
    while part:
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(part)
        stream.write(text.getvalue().encode())
        part = list(islice(lines, _AT_ONCE))


def _write_json(head: tuple[str, ...], lines: Iterator[tuple[Any, ...]], stream: BinaryIO) -> None:
    before = "["
    while part := [_object(head, line) for line in islice(lines, _AT_ONCE)]:
        stream.write((before + ",\n ".join(part)).encode())
        before = ",\n "
    stream.write(b"[]\n" if before == "[" else b"]\n")


def _object(head: tuple[str, ...], line: tuple[Any, ...]) -> str:
    *names, weight = line
    told = "".join(
        f"{json.dumps(name)}: {json.dumps(value)}, "
        for name, value in zip(head[:-1], names, strict=True)
    )
    number = weight if np.isfinite(float(weight)) else f'"{weight}"'
    return f'{{{told}"weight": {number}}}'
