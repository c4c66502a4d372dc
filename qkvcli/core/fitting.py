"""A config and operands made into a problem, if they fit together."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qkvcli.core import attention
from qkvcli.core.config import LAST, ORDER, SCORES, AttentionConfig, Stage
from qkvcli.core.dtypes import (
    Float,
    converted,
    own_dtype,
    result_dtype,
    rounded,
    working_dtype,
)
from qkvcli.core.inputs import check_partners, prepared
from qkvcli.core.masks import visibility
from qkvcli.core.operands import ACTS_ON, ALONE, PARTS, Array, Operand, Operands
from qkvcli.core.output_steps import GateOf, OutputStep, Projection
from qkvcli.core.positions import Positions, Rotation, offset_of, places_of, slopes
from qkvcli.core.problem import Groups, Problem
from qkvcli.core.score_steps import Alibi, Mask, Scale, ScoreStep, Softcap
from qkvcli.core.shapes import (
    broadcast_leading,
    check_axes,
    check_depth,
    check_gate,
    check_leading,
    check_merged,
    check_output,
    check_projection,
    check_sinks,
    check_values,
    check_width,
    group_of,
    vector,
)
from qkvcli.core.steps import Outline, Step, flat_rows
from qkvcli.errors import UsageError


def problem_of(config: AttentionConfig, operands: Operands, until: Stage = "output") -> Problem:
    """The problem that a config and operands make, if they fit together.

    Raises ShapeError, DtypeError or UsageError, before any product over tokens is taken.
    """
    check_partners(config, operands.query, operands.key, operands.value)
    for operand in operands.all():
        check_depth(operand)
    if operands.mask is not None:
        own_dtype(operands.mask)
    own = result_dtype(operands.numeric())
    result = Float(config.kind) if config.kind else own
    ready: dict[str, Any] = {}
    turned: dict[str, Positions] = {}
    given, made = list[Step](), list[Step]()
    rotation, starts = turning_of(config, operands)
    for name in PARTS:
        side = getattr(operands, name)
        if side is None:
            continue
        turning = rotation if name in starts else None
        ready[name], [first, *rest] = prepared(
            side, name, config, result, turning, starts.get(name)
        )
        (made if first.terms else given).append(first)
        made += rest
        if turning is not None:
            tokens, rows = ready[name].shape[-2], side.given.shape[-2]
            turned[name] = Positions(np.arange(rows), tokens, starts[name])
    made.sort(key=lambda step: ORDER.index(step.name))
    steps = {"scores": operands.scores, "weights": operands.weights}
    for name, taken in ((name, step) for name, step in steps.items() if step is not None):
        ready[name] = rounded(taken, result)
        given.append(_given(ready[name], result))
    problem = Problem(config, result, **ready, given=tuple(given), made=tuple(made), turned=turned)
    _check_follows(problem, operands, until)
    problem = replace(problem, groups=_groups(problem))
    _check_axis(problem, operands)
    if until == "output":
        problem = replace(problem, output_steps=_output_steps(problem, operands))
    if problem.weights is not None:
        return problem
    sinks = None if until == "scores" else _sinks(problem, operands.sinks)
    score_steps = _score_steps(problem, operands)
    problem = replace(problem, score_steps=score_steps, sinks=sinks)
    if problem.scores is not None:  # what stands beside them told the width, and is done
        return replace(problem, query=None, key=None)
    return problem


def _check_axis(problem: Problem, operands: Operands) -> None:
    """Raise UsageError where one axis would count batches for one option, heads for another."""
    lengths = problem.config.valid_length
    several = isinstance(lengths, tuple) and len(lengths) > 1
    of_heads = "alibi" if problem.config.alibi else "sinks" if operands.sinks is not None else None
    if several and of_heads and len(problem.shape) == 3:
        count = problem.shape[0]
        raise UsageError(
            f"valid length names {count} batches and {of_heads} is for {count} heads, both of "
            f"axis -3; give batches of one head as ({count}, 1, L, d)"
        )


def _past_of(operands: Operands) -> int:
    """How many keys a cache puts before the others."""
    key = operands.key
    return 0 if key is None or key.past is None or key.past.array.ndim < 2 else key.past.shape[-2]


def turning_of(
    config: AttentionConfig, operands: Operands
) -> tuple[Rotation | None, dict[str, Array]]:
    """The rotation that is asked for, and where the first query and key are that it turns."""
    rotation = Rotation.of(config, operands.cos, operands.sin)
    if rotation is None:
        return None, {}
    sides = (operands.query, operands.key)
    counts = [n for side in sides if side is not None for n in side.given.shape[-2:-1]]
    return rotation.read_for(*counts), _starts(config, operands)


def _starts(config: AttentionConfig, operands: Operands) -> dict[str, Array]:
    """Where the first query, and the first key after a cache, stand when they are turned.

    As many keys as queries are of the same tokens, and go with them wherever those stand.
    """
    past = _past_of(operands)
    found = {"query": np.array([[past]]), "key": np.array([[past]])}
    query = operands.query
    for name, side in (("query", query), ("key", operands.key)):
        given = None if side is None else side.given
        if given is None or query is None or min(given.array.ndim, query.given.array.ndim) < 2:
            continue
        if given.shape[-2] == query.given.shape[-2]:
            *leading, rows, width = given.shape
            heads = () if config.head_counts is None else (config.head_counts[0],)
            found[name] = offset_of(config, (*leading, *heads, rows, width), past)
    return found


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


def _given(operand: Operand, dtype: Float) -> Step:
    """A step that was given, in the results' type."""
    array = operand.array
    outline = Outline.typed(
        operand.name, "given", (), array.shape, dtype, operand.rows, operand.columns
    )
    return outline.computed_by(lambda: iter([flat_rows(converted(array, dtype))]))


def check_follows(
    asked: Mapping[str, Collection[str]],
    given: str,
    until: Stage = "output",
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
    last = ORDER.index(LAST[until])
    follow = {*ORDER[first : last + 1], *used}
    for option, acts_on in asked.items():
        if not follow & set(acts_on):
            words = f"{given} scores" if given in SCORES[1:] else given
            what = f"comes before the {words}, and those are given"
            if all(ORDER.index(step) > last for step in acts_on):
                what = f"comes after the {until}, and those are all that is asked for"
            raise UsageError(f"{option.replace('_', ' ')} {what}; leave it out")


def _check_follows(problem: Problem, operands: Operands, until: Stage) -> None:
    given = problem.weights or problem.scores
    if given is None:
        return
    named = {name: ACTS_ON[name] for name in ALONE if name in ACTS_ON and getattr(operands, name)}
    width_known = problem.weights is None and (problem.query or problem.key) is not None
    asked = problem.config.changed() | named
    check_follows(asked, given.name, until, ("scores",) if width_known else ())


def _score_steps(problem: Problem, operands: Operands) -> tuple[ScoreStep, ...]:
    """What is done to the scores, in the one order."""
    config, steps = problem.config, list[ScoreStep]()
    if config.scale is not None:
        width = _width(problem)
        steps.append(Scale(config.scale_of(width), config.scale_formula(width)))
    if config.cap is not None:
        steps.append(Softcap(config.cap))
    masking = any("masked" in acts_on for acts_on in config.changed().values())
    if operands.mask is None and not masking and not config.alibi:
        return tuple(steps)
    seen = visibility(config, problem.shape, _positions(problem, operands), operands.mask)
    if config.alibi:
        heads = problem.shape[-3] if len(problem.shape) > 2 else 1
        own = slopes(heads).reshape(-1, 1, 1) if len(problem.shape) > 2 else slopes(1)[:, None]
        steps.append(Alibi(own, seen.positions, ahead=not config.causal))
    if seen.hides:
        steps.append(Mask(seen))
    return tuple(steps)


def _positions(problem: Problem, operands: Operands) -> Positions:
    """Where the queries stand among the keys."""
    config, (queries, keys) = problem.config, problem.shape[-2:]
    places = None
    if problem.scores is not None and config.offset is None and config.valid_length is None:
        places = places_of(problem.scores)
    offset = offset_of(config, problem.shape, _past_of(operands))
    return Positions(np.arange(queries) if places is None else places, keys, offset)


def _sinks(problem: Problem, sinks: Operand | None) -> Array | None:
    """The sinks as one more score in each row, (H, 1, 1), or (1, 1) without heads."""
    if sinks is None:
        return None
    own_dtype(sinks)
    sinks = vector(sinks)
    check_sinks(sinks, problem.shape)
    shape = (-1, 1, 1) if len(problem.shape) > 2 else (1, 1)
    return converted(sinks.array, working_dtype(problem.dtype)).reshape(shape)


def _output_steps(problem: Problem, operands: Operands) -> tuple[OutputStep, ...]:
    """What is done to the output, in the one order. Raises ShapeError, UsageError."""
    steps, result = list[OutputStep](), problem.dtype
    if operands.bo is not None and operands.wo is None:
        raise UsageError("bo without wo")
    if problem.value is None:
        return ()
    heads = problem.merged_heads
    if operands.gate is not None:
        query = operands.query
        if problem.scores is not None or problem.weights is not None:
            raise UsageError(
                "gate is made of the queries' embeddings, and those come before what "
                "is given; leave it out"
            )
        if query is None or query.weight is None:
            raise UsageError("gate is sigmoid(X·Wg): give the embeddings X, and wq, too")
        embeddings, weight = rounded(query.given, result), rounded(operands.gate, result)
        check_projection(embeddings, weight, None)
        check_gate(weight, heads or 1, problem.value.shape[-1])
        rows, columns = embeddings.array, weight.array  # (…, L_q, m), (m, ·)
        if heads is not None:
            rows = rows[..., None, :, :]  # (…, 1, L_q, m)
            columns = attention.split_heads(columns, heads)  # (m, H·w) → (H, m, w)
        steps.append(GateOf(rows, columns, heads is not None))
    if operands.wo is not None:
        shape = (*problem.leading, problem.shape[-2], problem.value.shape[-1])
        wo, bo = rounded(operands.wo, result), operands.bo and rounded(operands.bo, result)
        joined = check_output(wo, bo, shape, heads is not None)
        bias = None if bo is None else bo.array.reshape(-1)
        count = shape[-3] if joined else None
        steps.append(Projection(wo.array, bias, count, join=joined and heads is None))
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
