"""A problem's steps as whole matrices: of all its rows, or (`Problem.with_rows`) of some."""

import numpy as np

from qkvcli.core import attention
from qkvcli.core.dtypes import converted, working_dtype
from qkvcli.core.operands import Array
from qkvcli.core.problem import Problem, needed
from qkvcli.core.steps import Stage


def dense(problem: Problem, until: Stage = "output") -> dict[str, Array]:
    """Every step up to a stage by its name, in the results' dtype.

    The arithmetic is done in float32 or wider. Raises UsageError where an operand is missing.
    """
    with np.errstate(all="ignore"):  # inf and NaN are shown where they arise, not warned of
        found = {step.name: step.array for step in problem.projections}
        found |= score_arrays(problem) if problem.weights is None else {}
        if until != "scores":
            weights = _weights(problem, found)
            if until == "output":
                found["output"] = _output(problem, weights)
    return {name: converted(array, problem.dtype) for name, array in found.items()}


def score_arrays(problem: Problem) -> dict[str, Array]:
    """The scores, and each score step after them, in the working dtype."""
    found = {}
    given = problem.scores
    if given is None:
        query, key = needed(problem.query, "query"), needed(problem.key, "key")
        array = attention.by_group(
            attention.scores, query.array, key.array, problem.groups.key
        )  # (…, L_q, L_k)
        found["scores"] = array
    else:
        array = given.array
    rows, keys = slice(0, array.shape[-2]), slice(0, array.shape[-1])
    for step in problem.score_steps:
        before, array = array, step(array, rows, keys)
        if given is not None:  # a −∞ among scores that were read is a key that somebody has hidden
            array = np.where(np.isneginf(before), before, array)
        found[step.name] = array
    return found


def _weights(problem: Problem, found: dict[str, Array]) -> Array:
    """The weights, which join what was found, unless they were given."""
    if problem.weights is not None:
        return problem.weights.array
    scores = problem.scores.array if problem.scores else found["scores"]
    for step in problem.score_steps:
        scores = found[step.name]  # the last of them
    softmax = problem.config.softmax_dtype
    if softmax is None:
        weights = attention.softmax(scores)
    else:
        dtype = np.dtype(softmax)
        narrowed = converted(converted(scores, dtype), working_dtype(dtype))
        weights = converted(converted(attention.softmax(narrowed), dtype), scores.dtype)
    found["weights"] = weights
    return weights


def _output(problem: Problem, weights: Array) -> Array:
    value = needed(problem.value, "value").array
    output = attention.by_group(attention.output, weights, value, problem.groups.value)
    return output if problem.merged is None else attention.merge_heads(output)
