"""From a description of attention and its operands to the steps, in order."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qkvcli.core import attention as arithmetic
from qkvcli.core.arrays import Labelled
from qkvcli.core.description import Attention
from qkvcli.core.precision import converted, result_type, working_type
from qkvcli.core.shapes import check_matrix, check_output, check_scores, check_values
from qkvcli.core.steps import Step, Steps
from qkvcli.errors import UsageError

Stage = Literal["scores", "weights", "output"]


@dataclass(frozen=True)
class Operands:
    """What the work starts from: Q, K and V, or a step that someone else has done.

    Given ``weights`` take the place of all before them, given ``scores`` of Q·Kᵀ.
    """

    query: Labelled | None = None
    key: Labelled | None = None
    value: Labelled | None = None
    scores: Labelled | None = None
    weights: Labelled | None = None

    def given(self) -> dict[str, Labelled]:
        """Those that are there, by name."""
        return {name: one for name, one in vars(self).items() if one is not None}


def compute(attention: Attention, operands: Operands, until: Stage = "output") -> Steps:
    """Every step from the operands to the stage asked for.

    The arithmetic is done in float32 or wider and each step is given back in the inputs'
    own type. Raises ShapeError, DataError or UsageError.
    """
    result = result_type(operands.given().values())
    working = working_type(result)
    wide = Operands(
        **{
            name: replace(one, array=converted(one.array, working))
            for name, one in operands.given().items()
        }
    )
    with np.errstate(all="ignore"):  # inf and NaN are shown where they arise, not warned of
        steps = list(_steps(attention, wide, until))
    return Steps([replace(step, array=converted(step.array, result)) for step in steps])


def _steps(attention: Attention, operands: Operands, until: Stage) -> Iterator[Step]:
    if operands.weights is None:
        if until == "output" and operands.scores is None:
            check_values(_needed(operands.key, "key"), _needed(operands.value, "value"))
        for step in _score_steps(attention, operands):
            yield step
        if until == "scores":
            return
        step = _softmax(step)
        yield step
    else:
        step = _given("weights", operands.weights)
    if until == "output":
        yield _output(step, operands)


def _score_steps(attention: Attention, operands: Operands) -> Iterator[Step]:
    if operands.scores is not None:
        step = _given(operands.scores.name or "scores", operands.scores)
    else:
        step = _scores(_needed(operands.query, "query"), _needed(operands.key, "key"))
    yield step
    if attention.scales:
        step = _scaled(attention, step, _width(operands))
        yield step
    if attention.causal:
        step = _masked(step)
        yield step


def _given(name: str, operand: Labelled) -> Step:
    check_matrix(name, operand, "L_q, L_k")
    return Step(name, name, (), operand.array, operand.rows, operand.columns)


def _scores(query: Labelled, key: Labelled) -> Step:
    check_scores(query, key)
    flipped = (*key.shape[:-2], key.shape[-1], key.shape[-2])
    array = arithmetic.scores(query.array, key.array)
    return Step("scores", "Q·Kᵀ", (query.shape, flipped), array, query.rows, key.rows)


def _scaled(attention: Attention, scores: Step, width: int | None) -> Step:
    if scores.name != "scores":
        raise UsageError(f"scale: what was read is {scores.name} already; leave the scale out")
    formula = f"{scores.name} × {attention.scale_formula(width)}"
    array = arithmetic.scaled(scores.array, attention.scale_of(width))
    return replace(scores, name="scaled", formula=formula, operands=(array.shape,), array=array)


def _masked(scores: Step) -> Step:
    visible = np.tri(*scores.array.shape[-2:], dtype=np.bool_)  # (L_q, L_k): key j ≤ query i
    array = arithmetic.masked(scores.array, visible)
    formula = f"{scores.name} + causal mask"
    shapes = (scores.array.shape, visible.shape)
    return replace(scores, name="masked", formula=formula, operands=shapes, array=array)


def _softmax(scores: Step) -> Step:
    array = arithmetic.softmax(scores.array)
    formula = f"softmax({scores.name})"
    return replace(scores, name="weights", formula=formula, operands=(array.shape,), array=array)


def _output(weights: Step, operands: Operands) -> Step:
    value = _needed(operands.value, "value")
    check_output(operands.weights or Labelled(weights.array), value)
    array = arithmetic.output(weights.array, value.array)
    shapes = (weights.array.shape, value.shape)
    return Step("output", "weights·V", shapes, array, weights.rows, value.columns)


def _width(operands: Operands) -> int | None:
    for one in (operands.query, operands.key):
        if one is not None and one.array.ndim:
            return one.shape[-1]
    return None


def _needed(operand: Labelled | None, role: str) -> Labelled:
    if operand is None:
        raise UsageError(f"no {role} was given")
    return operand
