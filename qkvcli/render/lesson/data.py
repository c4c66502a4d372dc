"""What a page holds: Q, K and V, the options, and some numbers to check its own against."""

import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from qkvcli.core.checks import Check, checks
from qkvcli.core.config import MIXED, SCORES, Stage
from qkvcli.core.dtypes import Float, working_dtype
from qkvcli.core.explain import made_by
from qkvcli.core.masks import Visibility
from qkvcli.core.operands import Array, Labels, Operand
from qkvcli.core.output_steps import Gate, HeadProjection, OutputStep, Projection
from qkvcli.core.positions import Positions, places_of
from qkvcli.core.problem import Problem
from qkvcli.core.score_steps import Alibi, Mask, Scale, Softcap
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
    "biased": "The scores, less the further the key stands from the query (ALiBi).",
    "masked": "The scores, and -inf where a query may not see a key.",
    "weights": "The share that each query (a row) gives to each key (a column). A row sums to 1.",
    "output": "For each query (a row) the values of all keys, each times its weight, added up.",
    "gated": "The output, each column let through as far as its gate is open.",
    "projected": "The head's part of the layer's output: its numbers times its rows of Wo.",
}
"""What each step is, in a sentence."""
_SHOWN = tuple(ABOUT)
_WHOLE = "The layer's output: the numbers of each query times Wo."
"""What `projected` is where there are no heads to take apart."""
_SUNK = (
    "The share that each query (a row) gives to each key (a column). The sink takes the rest of 1."
)
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
    softmax = chosen.config.softmax_kind
    return {
        "steps": [name for name in _steps(chosen, stage) if name in names],
        "until": stage,
        "about": _about(chosen),
        "digits": DIGITS if digits is None else digits,
        "shape": list(chosen.shape[-2:]),
        "leading": _leading(chosen, selection),
        "dtype": chosen.dtype.name,
        "softmaxDtype": softmax,
        "eps": {
            "work": work.epsilon,
            "result": chosen.dtype.epsilon,
            "softmax": work.epsilon if softmax is None else Float(softmax).epsilon,
        },
        "queries": _named(chosen.labels, chosen.query_names),
        "keys": _named(chosen.key_labels, chosen.key_names),
        "columns": _columns(chosen.query, chosen.key),
        "valueColumns": _columns(value),
        "product": chosen.product,
        "madeBy": made_by(chosen),
        "past": problem.past,
        "turned": {name: _standing(places) for name, places in chosen.turned.items()},
        "query": _matrix(chosen.query),
        "key": _matrix(chosen.key),
        "value": _matrix(value),
        "given": None if given is None else {"name": given.name, **_packed(given.array)},
        "sinks": None if chosen.sinks is None else _packed(chosen.sinks),
        "after": [] if value is None else _after(chosen),
        "manyHeads": any(isinstance(step, HeadProjection) for step in chosen.output_steps),
        "bias": any(
            isinstance(step, Projection) and step.bias is not None for step in problem.output_steps
        ),
        "groups": chosen.groups._asdict(),
        "options": _options(chosen, problem, selection),
        "checks": [_check(found, chosen.dtype) for found in checks(chosen, stage)],
        "colours": {"weights": CIVIDIS, "aroundZero": DIVERGING},
    }


def _stage(names: Sequence[str]) -> Stage:
    """How far the page computes. Raises UsageError where it has nothing to show."""
    if any(name in MIXED for name in names):
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
        others = sum(array.nbytes for array in _held(problem.with_rows(np.array([], np.intp))))
        rows = " --rows 0:300" if others < MEGABYTES * 2**20 else ""
        advice = " or".join(filter(None, (rows, heads)))
        raise UsageError(
            f"a page holds up to {MEGABYTES} MB of numbers, and these are {size / 2**20:.0f}"
            + (f"; choose some with{advice}" if advice else "; give fewer")
        )


def _held(problem: Problem) -> Iterator[Array]:
    operands = (problem.query, problem.key, problem.value, problem.scores, problem.weights)
    yield from (operand.numbers for operand in operands if operand is not None)
    seen = problem.visibility
    if seen is not None and seen.mask is not None:
        yield seen.mask
    for step in problem.output_steps:
        yield from _numbers_of(step).values()


def _numbers_of(step: OutputStep) -> dict[str, Array]:
    """What a step after the output is computed from."""
    if isinstance(step, Gate):
        return {"gate": step.gate}
    if isinstance(step, Projection):
        bias = {} if step.bias is None else {"bias": step.bias[None]}
        return {"weight": step.weight, **bias}
    return {"weight": step.weight} if isinstance(step, HeadProjection) else {}


def _after(problem: Problem) -> list[dict[str, Any]]:
    """The steps after the output, each with its formula and what it is computed from."""
    found, before = [], "output"
    for step in problem.output_steps:
        numbers = {name: _packed(array) for name, array in _numbers_of(step).items()}
        found.append({"name": step.name, "formula": step.formula(before), **numbers})
        before = step.name
    return found


def _about(problem: Problem) -> dict[str, str]:
    """What each step is; some are otherwise where there is a sink, or no head."""
    sunk = {} if problem.sinks is None else {"weights": _SUNK}
    return ABOUT | sunk | ({"projected": _WHOLE} if _is_whole(problem) else {})


def _is_whole(problem: Problem) -> bool:
    """Whether what is projected is the whole, and not what a head adds."""
    return any(isinstance(step, Projection) for step in problem.output_steps)


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
    return None if operand is None else _packed(operand.numbers)


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
    alibi = next((step for step in chosen.score_steps if isinstance(step, Alibi)), None)
    mask = next((step for step in chosen.score_steps if isinstance(step, Mask)), None)
    seen = None if mask is None else mask.visibility
    width = None if chosen.query is None else chosen.query.shape[-1]
    return {
        "scale": None if scale is None else {"factor": scale.factor, "written": scale.written},
        "width": width,
        "softcap": None if cap is None else cap.cap,
        "alibi": None if alibi is None else {"formula": alibi.formula(""), **_packed(alibi.slopes)},
        "causal": seen is not None and seen.causal,
        "window": [None, None] if seen is None else list(seen.sides),
        "lengths": None if seen is None or seen.lengths is None else _whole(seen.lengths),
        "mask": None if seen is None or seen.mask is None else _packed(seen.mask),
        **_places(chosen, whole, selection, seen, alibi),
    }


def _places(
    chosen: Problem,
    whole: Problem,
    selection: Selection,
    seen: Visibility | None,
    alibi: Alibi | None,
) -> dict[str, Any]:
    """Where the queries stand among the keys."""
    if seen is not None:
        positions = seen.positions
    elif alibi is not None:
        positions = alibi.positions
    else:
        return _unmasked(chosen, whole, selection)
    return _standing(positions)


def _standing(positions: Positions) -> dict[str, Any]:
    return {"rows": positions.rows.tolist(), "offset": _whole(positions.offset)}


def _unmasked(chosen: Problem, whole: Problem, selection: Selection) -> dict[str, Any]:
    """Where the queries would stand, if a reader switches the causal mask on."""
    rows = selection.rows
    if rows is None:
        rows = places_of(Operand(np.empty((0, 0)), rows=chosen.labels, columns=chosen.key_labels))
    if rows is None or len(rows) != chosen.shape[-2]:
        rows = np.arange(chosen.shape[-2])
    offset = chosen.config.offset
    offset = whole.past if offset is None else int(offset)
    return {"rows": rows.tolist(), "offset": _whole(np.array([[offset]]))}


def _whole(array: Array) -> dict[str, Any]:
    """Whole numbers, as a page can count."""
    numbers = [max(min(int(number), _EXACT), -_EXACT) for number in array.flat]
    return {"shape": list(array.shape), "numbers": numbers}


def _check(found: Check, dtype: Float) -> dict[str, Any]:
    parts = found._asdict()
    for name in ("scores", "weights"):
        parts[name] = [_number(number, dtype) for number in parts[name]]
    parts["mixed"] = {
        name: {"columns": columns, "numbers": [_number(number, dtype) for number in numbers]}
        for name, (columns, numbers) in found.mixed.items()
    }
    return parts


def _number(number: float, dtype: Float) -> float | str:
    """The shortest decimals that are the same number in its own dtype; JSON has no infinity.

    >>> _number(float(np.float32(0.1)), Float("float32")), _number(-math.inf, Float("float64"))
    (0.1, '-inf')
    """
    return float(str(dtype.carrier.type(number))) if math.isfinite(number) else str(number)
