"""Strict JSON, written part by part; `json_text` says how it looks."""

import json
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from qkvcli.core.arrays import Array
from qkvcli.core.steps import Written
from qkvcli.formats.cells import lines_of

_MISSING = ("-inf", "inf", "nan")


def write_json(steps: Sequence[Written], stream: BinaryIO, digits: int | None) -> None:
    """Every step by its name, one row of numbers a line."""
    for i, step in enumerate(steps):
        stream.write(b"{" if i == 0 else b",\n ")
        stream.write(f"{json.dumps(step.name)}: {{{_head(step)}".encode())
        for text in _nested(step, digits):
            stream.write(text.encode())
        stream.write(b"}")
    stream.write(b"}\n")


def _head(step: Written) -> str:
    head = {"shape": list(step.shape), "rows": step.rows, "columns": step.columns}
    kept = ((name, value) for name, value in head.items() if value is not None)
    return "".join(f'"{k}": {json.dumps(v, ensure_ascii=False)}, ' for k, v in kept) + '"data": '


def _nested(step: Written, digits: int | None) -> Iterator[str]:
    """The rows, with a bracket wherever an axis before the last begins or ends."""
    if 0 in step.shape:
        yield json.dumps(np.zeros(step.shape).tolist())
        return
    axes = np.cumprod(step.shape[-2::-1]).tolist()  # rows in one index of each axis, inner first
    done = 0
    for part in step.parts():
        lines = _rows(part, digits)
        for i, line in enumerate(lines, done):
            begun = sum(i % rows == 0 for rows in axes)
            ended = sum((i + 1) % rows == 0 for rows in axes)
            comma = ",\n" + " " * (len(axes) - begun + 1) if i else ""
            lines[i - done] = f"{comma}{'[' * begun}[{line}]{']' * ended}"
        yield "".join(lines)
        done += len(part)


def _rows(part: Array, digits: int | None) -> list[str]:
    """Each row's numbers; those that JSON lacks as strings."""
    lines = lines_of(part, digits, ", ")
    for i in np.flatnonzero(~np.isfinite(part).all(axis=1)):
        cells = lines[i].split(", ")
        lines[i] = ", ".join(f'"{cell}"' if cell in _MISSING else cell for cell in cells)
    return lines
