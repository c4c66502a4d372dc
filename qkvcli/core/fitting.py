"""A config and operands made into a problem, if they fit together."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qkvcli.core.config import ORDER, SCORES, AttentionConfig, Stage
from qkvcli.core.dtypes import Float, converted, own_dtype, result_dtype, rounded
from qkvcli.core.inputs import assembled, check_partners, project
from qkvcli.core.masks import places_of, visibility
from qkvcli.core.operands import ACTS_ON, Operand, Operands
from qkvcli.core.problem import Groups, Problem
from qkvcli.core.score_steps import Mask, Scale, ScoreStep, Softcap
from qkvcli.core.shapes import (
    broadcast_leading,
    check_axes,
    check_leading,
    check_merged,
    check_values,
    check_width,
    group_of,
)
from qkvcli.core.steps import Outline, Step, flat_rows
from qkvcli.errors import UsageError


def problem_of(config: AttentionConfig, operands: Operands, until: Stage = "output") -> Problem:
    """The problem that a config and operands make, if they fit together.

    Raises ShapeError, DtypeError or UsageError, before any product over tokens is taken.
    """
    check_partners(operands.query, operands.key, operands.value)
    if operands.mask is not None:
        own_dtype(operands.mask)
    own = result_dtype(operands.numeric())
    result: Float = np.dtype(config.dtype) if config.dtype else own
    ready: dict[str, Any] = {}
    given, projections = [], []
    of_queries, of_keys = config.head_counts or (None, None)
    sides = (("query", operands.query), ("key", operands.key), ("value", operands.value))
    for name, side in sides:
        if side is None:
            continue
        side, step = project(side, name, result)
        if step is None:
            given.append(_given(side.given, name[0].upper(), result, config.head_counts is None))
        else:
            projections.append(replace(step, has_heads=config.head_counts is None))
        ready[name] = assembled(side, of_queries if name == "query" else of_keys)
    steps = {"scores": operands.scores, "weights": operands.weights}
    for name, taken in ((name, step) for name, step in steps.items() if step is not None):
        ready[name] = rounded(taken, result)
        given.append(_given(ready[name], "given", result))
    problem = Problem(config, result, **ready, given=tuple(given), projections=tuple(projections))
    _check_follows(problem, operands.mask, until)
    problem = replace(problem, groups=_groups(problem))
    if problem.weights is not None:
        return problem
    past = operands.key.past.shape[-2] if operands.key and operands.key.past else 0
    problem = replace(problem, score_steps=_score_steps(problem, operands.mask, past))
    if problem.scores is not None:  # what stands beside them told the width, and is done
        return replace(problem, query=None, key=None)
    return problem


def reference_of(config: AttentionConfig, operands: Operands, until: Stage = "output") -> Problem:
    """The same problem in float64, of the numbers that its own dtype holds.

    Its results are right to far below what any narrower type can tell. A softmax that was to be
    taken in a narrower type than that of the results stays so. Raises what `problem_of` does.
    """
    own: Float = np.dtype(config.dtype) if config.dtype else result_dtype(operands.numeric())
    softmax = config.softmax_dtype
    narrow = softmax if softmax is not None and np.dtype(softmax) < own else None
    exact = replace(config, dtype=None, softmax_dtype=narrow)

    def wide(operand: Operand) -> Operand:
        return replace(operand, array=converted(rounded(operand, own).array, np.float64))

    return problem_of(exact, operands.numbers(wide), until)


def _of_values(step: Operand, problem: Problem) -> int:
    """How many heads of a step that was given share each of the values'. Raises ShapeError."""
    check_axes(step, "L_q, L_k")
    if problem.merged_heads is not None and (problem.value or problem.weights):
        check_merged(step, problem.merged_heads)  # else the heads only tell how wide one is
    if problem.value is None:
        return 1
    check_values(step, step.shape[-1], problem.value)
    group = group_of(step, problem.value)
    check_leading(step, problem.value)
    return group


def _given(operand: Operand, formula: str, dtype: Float, has_heads: bool = True) -> Step:
    """What was given as a step of its own, as it was before any split into heads."""
    array = operand.array
    outline = Outline(
        operand.name, formula, (), array.shape, dtype, operand.rows, operand.columns, has_heads
    )
    return outline.computed_by(lambda: iter([flat_rows(converted(array, dtype))]))


def check_follows(
    asked: Mapping[str, Collection[str]],
    given: str,
    until: str = "output",
    used: Iterable[str] = (),
) -> None:
    """Raise UsageError for an option that acts only on steps before the one that is given.

    ``asked`` has the steps that each option acts on. ``used`` are steps before the given
    one that play a part all the same.

    >>> check_follows({"causal": ("masked",)}, "scores")
    >>> check_follows({"causal": ("masked",)}, "weights")
    Traceback (most recent call last):
    qkvcli.errors.UsageError: causal comes before the weights, and those are given; leave it out
    """
    first = ORDER.index(given) + (given != "masked")  # masks add up
    follow = {*ORDER[first : ORDER.index(until) + 1], *used}
    for option, acts_on in asked.items():
        if not follow & set(acts_on):
            words = f"{given} scores" if given in SCORES[1:] else given
            what = f"comes before the {words}, and those are given"
            if all(ORDER.index(step) > ORDER.index(until) for step in acts_on):
                what = f"comes after the {until}, and those are all that is asked for"
            raise UsageError(f"{option.replace('_', ' ')} {what}; leave it out")


def _check_follows(problem: Problem, mask: Operand | None, until: Stage) -> None:
    given = problem.weights or problem.scores
    if given is None:
        return
    asked = problem.config.changed() | ({} if mask is None else {"mask": ACTS_ON["mask"]})
    width_known = problem.weights is None and (problem.query or problem.key) is not None
    last = SCORES[-1] if until == "scores" else until
    check_follows(asked, given.name, last, ("scores",) if width_known else ())


def _score_steps(problem: Problem, mask: Operand | None, past: int) -> tuple[ScoreStep, ...]:
    """What is done to the scores, in the one order."""
    config, steps = problem.config, list[ScoreStep]()
    if config.scale is not None:
        width = _width(problem)
        steps.append(Scale(config.scale_of(width), config.scale_formula(width)))
    if config.cap is not None:
        steps.append(Softcap(config.cap))
    if mask is None and not any("masked" in acts_on for acts_on in config.changed().values()):
        return tuple(steps)
    places = None
    if problem.scores is not None and config.offset is None and config.valid_length is None:
        places = places_of(problem.scores)
    seen = visibility(config, problem.shape, mask, past, places)
    if seen.hides:
        steps.append(Mask(seen))
    return tuple(steps)


def _width(problem: Problem) -> int | None:
    """The width d of one head, where anything tells it.

    Raises UsageError where scores have heads, and what should tell the width has none.
    """
    scores = problem.scores
    side = problem.query or problem.key
    if side is None:
        return None
    if scores is not None and scores.array.ndim > max(side.array.ndim, 2):
        what = f"the scores {scores.shape} have heads, and {side.shape} has none"
        raise UsageError(f"{what}; say how many with --heads")
    return side.shape[-1]


def _groups(problem: Problem) -> Groups:
    """How heads are shared, once the shapes fit. Raises ShapeError."""
    query, key, value = problem.query, problem.key, problem.value
    weights, scores = problem.weights, problem.scores
    if weights is not None:
        return Groups(1, _of_values(weights, problem))
    if scores is not None:
        return Groups(1, _of_values(scores, problem))
    if query is None or key is None:
        return Groups()
    check_width(query, key)
    of_key = group_of(query, key)
    if value is None:
        return Groups(of_key)
    check_values(key, key.shape[-2], value)
    leading = broadcast_leading(query.shape[:-2], key.shape[:-2], of_key)
    widest = query if leading == query.shape[:-2] else key
    return Groups(of_key, group_of(widest, value, leading))
