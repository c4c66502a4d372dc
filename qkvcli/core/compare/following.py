"""Going on from somebody's steps: the problem that computes those after one of theirs."""

from dataclasses import replace

import numpy as np

from qkvcli.core import attention
from qkvcli.core.config import MIXED
from qkvcli.core.dense import output_of, score_arrays, weights_of
from qkvcli.core.operands import Array, Operand
from qkvcli.core.output_steps import Taken
from qkvcli.core.problem import Groups, Problem, needed
from qkvcli.core.score_steps import Scale


def going_on(problem: Problem, name: str, array: Array) -> Problem:
    """The problem that has an array for one of its steps, and only computes those after it."""
    if name in MIXED:
        return _mixed(problem, name, array.astype(np.float64))
    taken = Operand(array.astype(np.float64), name, problem.labels, problem.key_labels)
    bare = replace(problem, query=None, key=None, scores=None, given=(), made=())
    if name == "weights":
        return replace(bare, weights=taken, score_steps=(), sinks=None)
    names = [step.name for step in problem.score_steps]
    rest = problem.score_steps[names.index(name) + 1 :] if name in names else problem.score_steps
    return replace(bare, scores=taken, score_steps=rest)


def _mixed(problem: Problem, name: str, array: Array) -> Problem:
    """The same from the output on: there are no keys, whose sum it would be."""
    heads = problem.merged_heads
    apart = array if heads is None else attention.split_heads(array, heads)
    names = ["output", *(step.name for step in problem.output_steps)]
    rest = problem.output_steps[names.index(name) :]
    value = needed(problem.value, "value")
    return replace(
        problem,
        query=None,
        key=None,
        scores=None,
        weights=Operand(np.zeros((*apart.shape[:-1], 0)), "weights", problem.labels),
        value=replace(value, array=np.zeros((0, apart.shape[-1]))),
        given=(),
        made=(),
        groups=Groups(),
        score_steps=(),
        sinks=None,
        output_steps=(Taken(apart, heads is not None), *rest),
    )


def carried(problem: Problem, halves: Array, first: str, name: str) -> Array:
    """How far a step may be off where the ``first`` before it may be by ``halves``."""
    with np.errstate(all="ignore"):
        slack = halves if first in MIXED else _to_output(problem, halves, name)
        if name not in MIXED or name == "output":
            return slack
        for step in problem.output_steps:
            if not isinstance(step, Taken):
                spread = step.changed(np.abs)
                slack = spread(slack) - spread(np.zeros_like(slack))  # a bias spreads nothing
            if step.name == name:
                break
        return slack


def _to_output(problem: Problem, halves: Array, name: str) -> Array:
    """The same for a step up to the output."""
    slack = halves
    if problem.weights is None:
        for step in problem.score_steps:
            if isinstance(step, Scale):
                slack = slack * abs(step.factor)
            if step.name == name:  # a softcap, a bias or a mask spreads nothing
                return slack
        weights = weights_of(problem, score_arrays(problem)[problem.last_score])
        widest = slack.max(axis=-1, keepdims=True, initial=0)
        slack = weights * np.expm1(2 * widest)  # e^(s + δ) over sums of e^(s − δ), at worst
        if name == "weights":
            return slack
    value = needed(problem.value, "value")
    return output_of(replace(problem, value=replace(value, array=np.abs(value.numbers))), slack)
