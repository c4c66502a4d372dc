"""A comparison as JSON."""

from typing import Any, BinaryIO

from qkvcli.core.compare.comparison import Comparison
from qkvcli.core.compare.expected import Compared
from qkvcli.core.compare.tally import Cell
from qkvcli.core.compare.trial import Fit
from qkvcli.formats.json_text import write_data

_ROWS = 100
"""How many rows without a key are listed."""


def write_compared(found: Comparison, stream: BinaryIO) -> None:
    """A comparison as an object, on one line."""
    write_data(compared(found), stream)


def compared(found: Comparison) -> dict[str, Any]:
    """A comparison as plain numbers, lists and text."""
    return {
        "same": found.same,
        "steps": [_step(step) for step in found.steps],
        "fits": [_fit(fit) for fit in found.fits],
        "tried": found.tried,
        "patterns": [pattern._asdict() for pattern in found.patterns],
        **({} if found.narrow is None else {"same_as": found.narrow}),
    }


def _step(step: Compared) -> dict[str, Any]:
    rtol, atol, ulp = step.tolerance
    return {
        "name": step.name,
        "same": step.same,
        "shape": list(step.outline.shape),
        "expected_shape": list(step.expected.array.shape),
        "dtype": step.expected.kind,
        "tolerance": {"rtol": rtol, "atol": atol, **({} if ulp is None else {"ulp": ulp})},
        "written": step.expected.halves is not None,
        "cells": step.cells,
        "left_out": step.left_out,
        "differing": step.differing,
        "nan": step.lost,
        "rows": int(step.rows.sum()),
        "of_rows": step.rows.size,
        "max_error": step.error,
        "max_ulp": step.ulp,
        **_cell("largest", step.largest),
        **_cell("first", step.first),
        **({} if step.own is None else {"own_error": step.own}),
        **({} if not step.turned else {"shape_note": step.turned}),
        **({} if step.follows is None else {"follows_from": step.follows}),
        **({} if not step.unseeing else {"unseeing": [list(r) for r in step.unseeing[:_ROWS]]}),
    }


def _cell(name: str, cell: Cell | None) -> dict[str, Any]:
    if cell is None:
        return {}
    place, computed, expected = cell
    return {name: {"at": list(place), "computed": computed, "expected": expected}}


def _fit(fit: Fit) -> dict[str, Any]:
    return {
        "said": fit.hypothesis.said,
        "meaning": fit.hypothesis.meaning,
        "max_error": fit.error,
        **({} if fit.rows is None else {"rows": fit.rows}),
        **({} if fit.step is None else {"step": fit.step}),
    }
