"""From a description of attention and its operands to the steps, in order."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from qkvcli.core import attention as arithmetic
from qkvcli.core.arrays import Array, Labelled
from qkvcli.core.description import Attention
from qkvcli.core.operands import Operands
from qkvcli.core.precision import converted, working_type
from qkvcli.core.prepare import Prepared, prepared
from qkvcli.core.steps import SCORES, Step, Steps
from qkvcli.errors import UsageError

Stage = Literal["scores", "weights", "output"]


def compute(attention: Attention, operands: Operands, until: Stage = "output") -> Steps:
    """Every step from the operands to the stage asked for.

    The arithmetic is done in float32 or wider, and each step is given back in the inputs'
    own type. Raises ShapeError, DataError or UsageError.
    """
    with np.errstate(all="ignore"):  # inf and NaN are shown where they arise, not warned of
        work = prepared(attention, operands)
        steps = list(_steps(work, until))
    return Steps([replace(step, array=converted(step.array, work.result)) for step in steps])


def _steps(work: Prepared, until: Stage) -> Iterator[Step]:
    yield from work.projections
    if work.operands.weights is None:
        for step in _score_steps(work):
            yield step
        if until == "scores":
            return
        step = _softmax(work, step)
        yield step
    else:
        step = _given("weights", work.operands.weights)
    if until == "output":
        yield _output(work, step)


def _score_steps(work: Prepared) -> Iterator[Step]:
    """Scores, and what the description asks to be done to them, in the one order."""
    given = work.operands.scores
    step = _scores(work) if given is None else _given(given.name or "scores", given)
    yield step
    attention = work.attention
    frame = work.frame(step.array.shape)
    for name, asked, do in (
        ("scaled", attention.scale is not None, _scaled),
        ("capped", attention.softcap is not None, _capped),
        ("masked", frame.hides, _masked),
    ):
        if not asked:
            continue
        if SCORES.index(step.name) >= SCORES.index(name) and name != "masked":
            option = {"scaled": "scale", "capped": "softcap"}[name]
            raise UsageError(f"{option}: what was read is {step.name} already; leave {option} out")
        step = do(work, step)
        yield step


def _given(name: str, operand: Labelled) -> Step:
    return Step(name, name, (), operand.array, operand.rows, operand.columns)


def _scores(work: Prepared) -> Step:
    query, key = _needed(work, "query"), _needed(work, "key")
    flipped = (*key.shape[:-2], key.shape[-1], key.shape[-2])
    array = arithmetic.scores(query.array, arithmetic.shared(key.array, work.groups[0]))
    return Step("scores", "Q·Kᵀ", (query.shape, flipped), array, query.rows, key.rows)


def _scaled(work: Prepared, scores: Step) -> Step:
    attention, width = work.attention, work.width
    array = arithmetic.scaled(scores.array, attention.scale_of(width))
    return _after(scores, "scaled", f"{scores.name} × {attention.scale_formula(width)}", array)


def _capped(work: Prepared, scores: Step) -> Step:
    cap = float(work.attention.softcap or 0)
    array = arithmetic.capped(scores.array, cap)
    return _after(scores, "capped", f"{cap:g}·tanh({scores.name} / {cap:g})", array)


def _masked(work: Prepared, scores: Step) -> Step:
    *_, queries, keys = scores.array.shape
    rows, every = np.arange(queries), slice(0, keys)
    frame = work.frame(scores.array.shape)
    parts = list(frame.parts(rows, every))
    array = arithmetic.masked(scores.array, *frame.combined(rows, every))
    formula = " + ".join([scores.name, *(name for name, _ in parts)])
    shapes = tuple(part.shape for _, part in parts)
    return _after(scores, "masked", formula, array.astype(scores.array.dtype, copy=False), *shapes)


def _softmax(work: Prepared, scores: Step) -> Step:
    kind = work.attention.softmax_dtype
    array = scores.array
    if kind is None:
        weights = arithmetic.softmax(array)
    else:
        rounded = converted(converted(array, kind), working_type(np.dtype(kind)))
        weights = converted(converted(arithmetic.softmax(rounded), kind), array.dtype)
    formula = f"softmax({scores.name})" + (f" in {kind}" if kind else "")
    return _after(scores, "weights", formula, weights)


def _output(work: Prepared, weights: Step) -> Step:
    value = _needed(work, "value")
    array = arithmetic.output(weights.array, arithmetic.shared(value.array, work.groups[1]))
    formula, shapes = "weights·V", (weights.array.shape, value.shape)
    if work.attention.heads is not None:
        array, formula = arithmetic.joined(array), "join(weights·V)"
    return Step("output", formula, shapes, array, weights.rows, value.columns)


def _after(scores: Step, name: str, formula: str, array: Array, *others: tuple[int, ...]) -> Step:
    """A step that has the labels of the one before it."""
    shapes = (scores.array.shape, *others)
    return replace(scores, name=name, formula=formula, operands=shapes, array=array)


def _needed(work: Prepared, role: str) -> Labelled:
    operand: Labelled | None = getattr(work.operands, role)
    if operand is None:
        raise UsageError(f"no {role} was given")
    return operand
