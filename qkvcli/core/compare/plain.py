"""The error of a correct kernel that rounds every step to a narrow type."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from qkvcli.core import attention
from qkvcli.core.compare.reference import Reference
from qkvcli.core.compare.tolerance import half_ulp, narrowed
from qkvcli.core.compare.turned import Turn
from qkvcli.core.config import Kind
from qkvcli.core.dense import output_arrays, output_of, score_arrays, weights_of
from qkvcli.core.dtypes import Float, converted, working_dtype
from qkvcli.core.operands import Array, Operand
from qkvcli.core.output_steps import Gate
from qkvcli.core.positions import Rotation, Table
from qkvcli.core.problem import Problem
from qkvcli.core.score_steps import Alibi, ScoreStep, Softcap

SAMPLE = 2**20
"""Of how many scores it is measured what rounding does."""
_FEW, _TIMES = 512, 8
"""For up to so few scores it is measured so many times more."""


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
    problem: Problem,
    kind: Kind,
    sample: int = SAMPLE,
    ways: Ways = ATTENTION,
    reference: Reference | None = None,
    on_the_way: bool = True,
) -> dict[str, Off]:
    """How far off each step is where inputs and steps are rounded to a type, one by one.

    Measured on queries of up to ``sample`` scores. Where it is the problem of a ``reference``,
    that is from what was given on; else from Q, K and V on. Those steps that make them are left
    out unless ``on_the_way``.
    """
    each = math.prod(problem.shape[:-2]) * max(problem.shape[-1], 1)
    count = problem.shape[-2]
    taken = min(max(sample // max(each, 1), 1), count)
    rows = np.arange(taken) * count // max(taken, 1)
    if not on_the_way:
        problem = replace(problem, made=())
    exact = _arrays(problem.with_rows(rows), lambda array: array, ways)
    errors: dict[str, Off] = {}
    for rounder in _rounders(kind, problem.size):
        begun = problem if reference is None else _begun(reference, kind, rounder)
        narrow = _narrow(begun.with_rows(rows), rounder)
        for name, array in _arrays(narrow, rounder, ways).items():
            if name in exact:
                errors[name] = _off(array, exact[name], errors.get(name, Off()))
    return errors


def _off(array: Array, exact: Array, before: Off) -> Off:
    """How far off a step is, or was ``before``."""
    with np.errstate(all="ignore"):
        apart = np.abs(array.astype(np.float64) - exact)
    there = apart[np.isfinite(apart)]
    mean = math.sqrt(np.mean(there * there)) if there.size else 0.0
    return Off(max(float(there.max(initial=0)), before.largest), max(mean, before.mean))


def _rounder(kind: Kind) -> Turn:
    """Rounding to a type, in the type that is worked in."""
    work = working_dtype(Float(kind))
    return lambda array: converted(narrowed(array, kind), work)


def _rounders(kind: Kind, size: int) -> Iterator[Turn]:
    """Rounding to a type; for few scores, which it may happen to suit, to either side too."""
    rounder = _rounder(kind)
    yield rounder
    if size > _FEW:
        return
    random = np.random.default_rng(size)

    def either(array: Array) -> Array:
        return rounder(array + half_ulp(array, kind) * random.uniform(-1, 1, array.shape))

    yield from [either] * _TIMES


def _begun(reference: Reference, kind: Kind, rounder: Turn) -> Problem:
    """The reference with its Q, K, V and gate made step by step in a type."""
    recipe = reference.written

    def narrow(operand: Operand) -> Operand:
        return replace(operand, array=rounder(operand.numbers))

    recipe = recipe.changed(lambda _, side: side.changed(narrow))
    if recipe.rotation is not None:
        plain = _PlainRotation.of_kind(recipe.rotation, kind, rounder)
        recipe = replace(recipe, rotation=plain)
    problem = reference.made(recipe, rounder) or reference.problem
    query, gate = recipe.sides.get("query"), reference.operands.gate
    if gate is None or query is None:
        return problem
    with np.errstate(all="ignore"):
        opening = rounder(attention.projected(query.given.array, rounder(gate.array)))
    other = reference.changed(lambda whole: opened(whole, attention.sigmoid(opening)))
    return replace(problem, output_steps=other.output_steps)


def opened(whole: Problem, gate: Array) -> Problem:
    """A whole problem whose gate is as far open as ``gate`` (…, L_q, H·d_v or H) says."""
    heads = whole.merged_heads
    apart = gate if heads is None else attention.split_heads(gate, heads)
    steps = (
        Gate(apart, step.merged) if isinstance(step, Gate) else step for step in whole.output_steps
    )
    return replace(whole, output_steps=tuple(steps))


class _PlainRotation(Rotation):
    """A rotation whose angles are computed in float32, and which rounds on the way."""

    kind: Kind
    rounder: Turn

    @classmethod
    def of_kind(cls, rotation: Rotation, kind: Kind, rounder: Turn) -> "_PlainRotation":
        """A rotation as a plain kernel of a type computes it."""
        found = cls(*rotation)
        found.kind, found.rounder = kind, rounder
        return found

    def turned(self, side: Operand, start: Array, batched: bool = True) -> Array:
        rounder, rows = self.rounder, side.numbers
        if self.table is not None:
            tables = (replace(t, array=rounder(t.array.astype(np.float64))) for t in self.table)
            return self._replace(table=Table(*tables)).exactly(side, start, batched)
        dtype = working_dtype(Float(self.kind)).carrier
        width = rows.shape[-1] if self.width is None else self.width
        exponents = (np.arange(0, width, 2) / width).astype(dtype)
        places: Array = (start + np.arange(rows.shape[-2])[:, None]).astype(dtype)
        angles = places / np.power(np.array(self.base or 1.0, dtype), exponents)
        cos, sin = rounder(np.cos(angles)), rounder(np.sin(angles))
        interleaved = self.pairs == "interleaved"
        turned = rounder(attention.rotated(rows, cos, np.zeros_like(cos), interleaved))
        turned += rounder(attention.rotated(rows, np.zeros_like(sin), sin, interleaved))
        turned[..., width:] = rows[..., width:]
        return turned

    def exactly(self, side: Operand, start: Array, batched: bool) -> Array:
        """The rotation without any rounding of its own."""
        return Rotation(*self).turned(side, start, batched)


def _narrow(problem: Problem, rounder: Turn) -> Problem:
    """The problem with its operands as a type holds them."""

    def narrow(operand: Operand | None) -> Operand | None:
        return None if operand is None else replace(operand, array=rounder(operand.numbers))

    return replace(
        problem,
        query=narrow(problem.query),
        key=narrow(problem.key),
        value=narrow(problem.value),
        scores=narrow(problem.scores),
        weights=narrow(problem.weights),
        sinks=None if problem.sinks is None else rounder(problem.sinks),
        score_steps=tuple(_narrow_score(step, rounder) for step in problem.score_steps),
        output_steps=tuple(step.changed(rounder) for step in problem.output_steps),
    )


def _narrow_score(step: ScoreStep, rounder: Turn) -> ScoreStep:
    if isinstance(step, Softcap):
        return _PlainSoftcap(step.cap, rounder)
    return _PlainAlibi(step, rounder) if isinstance(step, Alibi) else step


class _PlainSoftcap(Softcap):
    """A softcap that rounds what it computes on the way."""

    def __init__(self, cap: float, rounder: Turn) -> None:
        super().__init__(cap)
        self.rounder = rounder

    def __call__(self, scores: Array, rows: slice, keys: slice, out: Array | None = None) -> Array:
        return self.cap * self.rounder(np.tanh(self.rounder(scores / self.cap)))


class _PlainAlibi(Alibi):
    """ALiBi as kernels have it that add slope·j, which rounds the further on the more."""

    def __init__(self, exact: Alibi, rounder: Turn) -> None:
        super().__init__(exact.slopes, exact.positions, exact.ahead)
        self.rounder = rounder

    def __call__(self, scores: Array, rows: slice, keys: slice, out: Array | None = None) -> Array:
        ahead = self.slopes * self.positions.of_keys(keys)
        rest = -self.slopes * self.positions.of_queries(rows)  # of a whole row
        return self.rounder(scores + self.rounder(ahead)) + rest


def _arrays(problem: Problem, after: Turn, ways: Ways) -> dict[str, Array]:
    """The steps of a chain, ``after`` done to each."""
    with np.errstate(all="ignore"):
        found: dict[str, Array] = {step.name: step.array for step in problem.made}
        if problem.weights is None:
            found |= score_arrays(problem, after)
            found["weights"] = after(ways.softmax(problem, found[problem.last_score]))
        weights = found.get("weights") if problem.weights is None else problem.weights.array
        if problem.value is not None and weights is not None:
            found |= output_arrays(problem, weights, after, ways.mixed)
    return found
