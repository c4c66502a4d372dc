"""The error of a correct kernel that rounds every step to a narrow type."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from qkvcli.core.compare.tolerance import narrowed
from qkvcli.core.compare.turned import Turn
from qkvcli.core.config import Kind
from qkvcli.core.dense import output_of, score_arrays, weights_of
from qkvcli.core.operands import Array, Operand
from qkvcli.core.problem import Problem
from qkvcli.core.score_steps import Softcap

SAMPLE = 2**20
"""Of how many scores it is measured what rounding does."""


class Off(NamedTuple):
    """The largest error, and the root of the mean square of all."""

    largest: float = 0.0
    mean: float = 0.0


class Ways(NamedTuple):
    """How weights come from a problem's last scores, and the output from its weights."""

    softmax: Callable[[Problem, Array], Array] = weights_of
    mixed: Callable[[Problem, Array], Array] = output_of


ATTENTION = Ways()


def plain_errors(
    problem: Problem, kind: Kind, sample: int = SAMPLE, ways: Ways = ATTENTION
) -> dict[str, Off]:
    """How far off each step is where inputs and steps are rounded to a type, one by one.

    Measured on queries of up to ``sample`` scores.
    """
    each = math.prod(problem.shape[:-2]) * max(problem.shape[-1], 1)
    count = problem.shape[-2]
    taken = min(max(sample // max(each, 1), 1), count)
    part = problem.with_rows(np.arange(taken) * count // max(taken, 1))
    exact, plain = (
        _arrays(part, lambda array: array, ways),
        _arrays(_narrow(part, kind), _rounder(kind), ways),
    )
    errors = {}
    for name, array in plain.items():
        with np.errstate(all="ignore"):
            apart = np.abs(array.astype(np.float64) - exact[name])
        there = apart[np.isfinite(apart)]
        mean = math.sqrt(np.mean(there * there)) if there.size else 0.0
        errors[name] = Off(float(there.max(initial=0)), mean)
    return errors


def _rounder(kind: Kind) -> Turn:
    """Rounding to a type, in the type that is worked in."""
    work = np.float64 if kind == "float64" else np.float32
    return lambda array: narrowed(array, kind).astype(work)


def _narrow(problem: Problem, kind: Kind) -> Problem:
    """The problem with its operands as a type holds them."""
    rounder = _rounder(kind)

    def narrow(operand: Operand | None) -> Operand | None:
        return None if operand is None else replace(operand, array=rounder(operand.array))

    return replace(
        problem,
        query=narrow(problem.query),
        key=narrow(problem.key),
        value=narrow(problem.value),
        scores=narrow(problem.scores),
        weights=narrow(problem.weights),
        score_steps=tuple(
            _PlainSoftcap(step.cap, rounder) if isinstance(step, Softcap) else step
            for step in problem.score_steps
        ),
    )


class _PlainSoftcap(Softcap):
    """A softcap that rounds what it computes on the way."""

    def __init__(self, cap: float, rounder: Turn) -> None:
        super().__init__(cap)
        self.rounder = rounder

    def __call__(self, scores: Array, rows: slice, keys: slice, out: Array | None = None) -> Array:
        return self.cap * self.rounder(np.tanh(self.rounder(scores / self.cap)))


def _arrays(problem: Problem, after: Turn, ways: Ways) -> dict[str, Array]:
    """The steps of a chain, ``after`` done to each."""
    with np.errstate(all="ignore"):
        found: dict[str, Array] = {}
        if problem.weights is None:
            found |= score_arrays(problem, after)
            found["weights"] = after(ways.softmax(problem, found[problem.last_score]))
        weights = found.get("weights") if problem.weights is None else problem.weights.array
        if problem.value is not None and weights is not None:
            found["output"] = after(ways.mixed(problem, weights))
    return found
