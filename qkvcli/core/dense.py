"""A problem's steps as whole matrices: of all its rows, or (`Problem.with_rows`) of some."""

from collections.abc import Callable, Iterator
from functools import reduce
from typing import TypeVar

import numpy as np

from qkvcli.core import attention
from qkvcli.core.config import Stage
from qkvcli.core.dtypes import Float, converted, taken_as
from qkvcli.core.operands import Array
from qkvcli.core.problem import Problem, needed
from qkvcli.core.rows import blocks_of

Done = TypeVar("Done")


def dense(problem: Problem, until: Stage = "output") -> dict[str, Array]:
    """Every step up to a stage by its name, in the results' type.

    The arithmetic is done in float32 or wider. A step that was given is among them. Raises
    UsageError where an operand is missing.
    """
    with np.errstate(all="ignore"):  # inf and NaN are shown where they arise, not warned of
        found = {step.name: step.array for step in problem.made}
        if problem.weights is not None:
            found["weights"] = problem.weights.array
        else:
            found |= score_arrays(problem)
            if until != "scores":
                found["weights"] = weights_of(problem, found[problem.last_score])
        if until == "output":
            found |= output_arrays(problem, found["weights"])
    return {name: converted(array, problem.dtype) for name, array in found.items()}


def score_arrays(
    problem: Problem, after: Callable[[Array], Array] = lambda array: array
) -> dict[str, Array]:
    """The scores, and each score step after them, in the working dtype.

    ``after`` is done to each of them.
    """
    given = problem.scores
    if given is None:
        query, key = needed(problem.query, "query"), needed(problem.key, "key")
        array = after(_product(problem, query.array, key.array))  # (…, L_q, L_k)
    else:
        array = given.array
    found = {problem.first_score: array}
    rows, keys = slice(0, array.shape[-2]), slice(0, array.shape[-1])
    for step in problem.score_steps:
        before, array = array, after(step(array, rows, keys))
        if given is not None:  # a −∞ among scores that were read is a key that somebody has hidden
            array = np.where(np.isneginf(before), before, array)
        found[step.name] = array
    return found


def _product(problem: Problem, query: Array, key: Array) -> Array:
    """Q·Kᵀ, (…, L_q, L_k); keys that are to be converted are so a block at a time."""
    query, group = np.asarray(query), problem.groups.key
    blocks = list(blocks_of(key))
    if len(blocks) == 1:
        return attention.by_group(attention.scores, query, np.asarray(key), group)
    scores = np.empty(problem.shape, query.dtype)

    def job(keys: slice, stop: object) -> None:
        part = attention.by_group(attention.scores, query, key[..., keys, :], group)
        scores[..., keys] = part

    for _ in _in_turn(job, blocks):
        pass
    return scores


def _in_turn(job: Callable[[slice, object], Done], blocks: list[slice]) -> Iterator[Done]:
    """A job of each block of keys, in order; on all cores where there are several."""
    if len(blocks) == 1:
        return iter([job(blocks[0], None)])
    from qkvcli.core.threads import ordered

    return ordered(job, blocks)


def weights_of(problem: Problem, scores: Array) -> Array:
    """The softmax of the last scores, taken in the dtype that was asked for."""
    sinks = None if problem.sinks is None else softmax_operand(problem, problem.sinks)
    weights = attention.softmax(softmax_operand(problem, scores), sinks)
    softmax = problem.config.softmax_kind
    if softmax is None:
        return weights
    return converted(weights, Float(softmax)).astype(scores.dtype, copy=False)


def softmax_operand(problem: Problem, array: Array) -> Array:
    """Scores or sinks as the softmax is taken of them: rounded to its dtype, if it has one."""
    softmax = problem.config.softmax_kind
    return array if softmax is None else taken_as(Float(softmax), array)


def output_of(problem: Problem, weights: Array) -> Array:
    """The values, mixed by weights, and the heads joined where they were split."""
    value, group = needed(problem.value, "value").array, problem.groups.value

    def job(keys: slice, stop: object) -> Array:
        with np.errstate(all="ignore"):  # a thread does not inherit it
            shares, part = weights[..., keys], np.asarray(value[..., keys, :])
            return attention.by_group(attention.output, shares, part, group)

    output = reduce(np.add, _in_turn(job, list(blocks_of(value))))
    return output if problem.merged_heads is None else attention.merge_heads(output)


def output_arrays(
    problem: Problem,
    weights: Array,
    after: Callable[[Array], Array] = lambda array: array,
    mixed: Callable[[Problem, Array], Array] = output_of,
) -> dict[str, Array]:
    """The output, and each step after it, in the working dtype; ``after`` is done to each.

    ``mixed`` is how the weights and the values make the output.
    """
    array = after(mixed(problem, weights))
    found = {"output": array}
    for step in problem.output_steps:
        array = after(step(array))
        found[step.name] = array
    return found
