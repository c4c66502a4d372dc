"""What a page holds: Q, K and V, the options, and some numbers to check its own against."""

import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from qkvcli.core.checks import Check, checks
from qkvcli.core.config import SCORES, Stage
from qkvcli.core.dtypes import Float, working_dtype
from qkvcli.core.masks import Visibility
from qkvcli.core.operands import Array, Labels, Operand
from qkvcli.core.positions import places_of
from qkvcli.core.problem import Problem
from qkvcli.core.score_steps import Mask, Scale, Softcap
from qkvcli.core.views import Selection, outlines
from qkvcli.errors import ShapeError, UsageError
from qkvcli.render.heat import CIVIDIS, DIVERGING
from qkvcli.render.text import DIGITS

TOKENS, MEGABYTES = 2048, 16
"""How many queries or keys a page may have, and how large its matrices may be together."""
ABOUT = {
    "scores": "How well each query (a row) matches each key (a column): their dot product.",
    "scaled": "The scores times one number, which brings them to another range.",
    "capped": "The scores bent so that none is beyond the cap; small ones stay as they are.",
    "masked": "The scores, and -inf where a query may not see a key.",
    "weights": "The share that each query (a row) gives to each key (a column). A row sums to 1.",
    "output": "For each query (a row) the values of all keys, each times its weight, added up.",
}
"""What each step is, in a sentence."""
_SHOWN = tuple(ABOUT)
_EXACT = 2**53
"""Up to here the page's numbers hold every whole number."""


def data_of(
    problem: Problem,
    names: Sequence[str],
    selection: Selection = Selection(),  # noqa: B008 -- it is frozen
    digits: int | None = None,
) -> dict[str, Any]:
    """All that a page computes from, ready for JSON; nothing of it grows with L_q·L_k.

    ``names`` are the steps to show. Given scores, given weights and a mask for each pair are
    held as they were given. Raises UsageError for what is too large for a page, and for steps
    that it cannot show, ShapeError where there is nothing to point at.
    """
    chosen = selection.of(problem).apart()
    stage = _stage(names)
    _check_size(chosen)
    given = chosen.weights or chosen.scores
    value = chosen.value if stage == "output" else None
    work = working_dtype(chosen.dtype)
    softmax = chosen.config.softmax_dtype
    return {
        "steps": [name for name in _steps(chosen, stage) if name in names],
        "until": stage,
        "about": ABOUT,
        "digits": DIGITS if digits is None else digits,
        "shape": list(chosen.shape[-2:]),
        "leading": _leading(chosen, selection),
        "dtype": chosen.dtype.name,
        "softmaxDtype": None if softmax is None else str(softmax),
        "eps": {
            "work": float(np.finfo(work).eps),
            "result": float(np.finfo(chosen.dtype).eps),
            "softmax": float(np.finfo(np.dtype(softmax or work)).eps),
        },
        "queries": _named(chosen.labels, chosen.query_names),
        "keys": _named(chosen.key_labels, chosen.key_names),
        "columns": _columns(chosen.query, chosen.key),
        "valueColumns": _columns(value),
        "madeBy": {step.name: step.formula for step in chosen.made},
        "query": _matrix(chosen.query),
        "key": _matrix(chosen.key),
        "value": _matrix(value),
        "given": None if given is None else {"name": given.name, **_packed(given.array)},
        "groups": chosen.groups._asdict(),
        "options": _options(chosen, problem, selection),
        "checks": [_check(found, chosen.dtype) for found in checks(chosen, stage)],
        "colours": {"weights": CIVIDIS, "aroundZero": DIVERGING},
    }


def _stage(names: Sequence[str]) -> Stage:
    """How far the page computes. Raises UsageError where it has nothing to show."""
    if "output" in names:
        return "output"
    if "weights" in names:
        return "weights"
    if not any(name in SCORES for name in names):
        raise UsageError(f"a page shows {', '.join(_SHOWN)}, and not {' and '.join(names)} alone")
    return "scores"


def _steps(problem: Problem, until: Stage) -> list[str]:
    """The steps that a page can go through, in their order."""
    return [step.name for step in outlines(problem, until, Selection()) if step.name in _SHOWN]


def _check_size(problem: Problem) -> None:
    """Raise UsageError where the page would be slow or large, and say what to do."""
    queries, keys = problem.shape[-2:]
    if not problem.size or not math.prod(problem.leading):
        raise ShapeError(f"scores {problem.shape}: there is no cell to show on a page")
    if queries > TOKENS:
        raise UsageError(
            f"a page holds up to {TOKENS:,} queries, and there are {queries:,}; "
            f"choose some with --rows 0:300"
        )
    if keys > TOKENS:
        raise UsageError(
            f"a page holds up to {TOKENS:,} keys, and there are {keys:,}; give fewer, or save "
            f"the rows that matter as .npz"
        )
    size = sum(array.nbytes for array in _held(problem))
    if size > MEGABYTES * 2**20:
        heads = " --head 0" if len(problem.leading) and problem.leading[-1] > 1 else ""
        of_keys = sum(side.array.nbytes for side in (problem.key, problem.value) if side)
        rows = " --rows 0:300" if of_keys < MEGABYTES * 2**20 else ""
        advice = " or".join(filter(None, (rows, heads)))
        raise UsageError(
            f"a page holds up to {MEGABYTES} MB of numbers, and these are {size / 2**20:.0f}"
            + (f"; choose some with{advice}" if advice else "; give fewer")
        )


def _held(problem: Problem) -> Iterator[Array]:
    operands = (problem.query, problem.key, problem.value, problem.scores, problem.weights)
    yield from (operand.array for operand in operands if operand is not None)
    seen = problem.visibility
    if seen is not None and seen.mask is not None:
        yield seen.mask


def _leading(problem: Problem, selection: Selection) -> list[dict[str, Any]]:
    """Each leading axis: what it counts, and the number of each index in the whole."""
    found = []
    count = len(problem.leading)
    for axis, size in enumerate(problem.leading):
        chosen = {count - 1: selection.heads, count - 2: selection.batches}.get(axis)
        kind = "head" if axis == count - 1 else "batch"
        found.append({"kind": kind, "numbers": list(range(size) if chosen is None else chosen)})
    return found


def _named(labels: Labels, names: Sequence[str]) -> dict[str, Any] | None:
    """The labels of tokens, and their names where those differ; None for numbers."""
    if labels is None:
        return None
    known = list(names)
    return {"labels": list(labels), "names": None if known == list(labels) else known}


def _columns(*operands: Operand | None) -> list[str] | None:
    found = (operand.columns for operand in operands if operand is not None and operand.columns)
    return next((list(columns) for columns in found), None)


def _matrix(operand: Operand | None) -> dict[str, Any] | None:
    return None if operand is None else _packed(operand.array)


def _packed(array: Array) -> dict[str, Any]:
    """An array in base64: booleans as bits, numbers as float32 or float64, little-endian.

    >>> _packed(np.array([[True, False]])), _packed(np.array([1.0], np.float16))["dtype"]
    ({'shape': [1, 2], 'dtype': 'bits', 'data': 'AQ=='}, 'float32')
    """
    if array.dtype == np.bool_:
        kind, data = "bits", np.packbits(array, axis=None, bitorder="little").tobytes()
    else:
        # a page reads no others
        dtype = np.dtype(np.float32 if array.dtype.itemsize <= 4 else np.float64)
        kind, data = dtype.name, array.astype(dtype.newbyteorder("<")).tobytes()
    return {"shape": list(array.shape), "dtype": kind, "data": b64encode(data).decode()}


def _options(chosen: Problem, whole: Problem, selection: Selection) -> dict[str, Any]:
    """The steps between Q·Kᵀ and the softmax, and where the queries stand among the keys."""
    scale = next((step for step in chosen.score_steps if isinstance(step, Scale)), None)
    cap = next((step for step in chosen.score_steps if isinstance(step, Softcap)), None)
    mask = next((step for step in chosen.score_steps if isinstance(step, Mask)), None)
    seen = None if mask is None else mask.visibility
    width = None if chosen.query is None else chosen.query.shape[-1]
    return {
        "scale": None if scale is None else {"factor": scale.factor, "written": scale.written},
        "width": width,
        "softcap": None if cap is None else cap.cap,
        "causal": seen is not None and seen.causal,
        "window": [None, None] if seen is None else list(seen.sides),
        "lengths": None if seen is None or seen.lengths is None else _whole(seen.lengths),
        "mask": None if seen is None or seen.mask is None else _packed(seen.mask),
        **(_unmasked(chosen, whole, selection) if seen is None else _positions(seen)),
    }


def _positions(seen: Visibility) -> dict[str, Any]:
    positions = seen.positions
    return {"rows": positions.rows.tolist(), "offset": _whole(positions.offset)}


def _unmasked(chosen: Problem, whole: Problem, selection: Selection) -> dict[str, Any]:
    """Where the queries would stand, if a reader switches the causal mask on."""
    rows = selection.rows
    if rows is None:
        rows = places_of(Operand(np.empty((0, 0)), rows=chosen.labels, columns=chosen.key_labels))
    if rows is None or len(rows) != chosen.shape[-2]:
        rows = np.arange(chosen.shape[-2])
    offset = chosen.config.offset
    offset = _past(whole) if offset is None else int(offset)
    return {"rows": rows.tolist(), "offset": _whole(np.array([[offset]]))}


def _past(problem: Problem) -> int:
    """How many keys a cache put before those of the queries' own tokens."""
    steps = (*problem.given, *problem.made)
    own = next((step.shape[-2] for step in steps if step.name == "key"), None)
    return 0 if own is None or problem.key is None else problem.key.shape[-2] - own


def _whole(array: Array) -> dict[str, Any]:
    """Whole numbers, as a page can count."""
    numbers = [max(min(int(number), _EXACT), -_EXACT) for number in array.flat]
    return {"shape": list(array.shape), "numbers": numbers}


def _check(found: Check, dtype: Float) -> dict[str, Any]:
    parts = found._asdict()
    for name in ("scores", "weights", "output"):
        parts[name] = [_number(number, dtype) for number in parts[name]]
    return parts


def _number(number: float, dtype: Float) -> float | str:
    """The shortest decimals that are the same number in its own type; JSON has no infinity.

    >>> _number(float(np.float32(0.1)), np.dtype(np.float32)), _number(-math.inf, np.dtype(float))
    (0.1, '-inf')
    """
    return float(str(dtype.type(number))) if math.isfinite(number) else str(number)
