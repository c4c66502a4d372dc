"""From a problem to its steps: computed at once where that is little, else part by part.

A step that is too large to hold is computed while it is written: scores and weights some
rows at a time, the output by `blocks`, on all cores.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, lru_cache, partial
from itertools import product
from threading import Event, Lock
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from qkvcli.core import attention
from qkvcli.core.config import MIXED, Stage
from qkvcli.core.dense import dense, score_arrays
from qkvcli.core.dtypes import Float, converted, working_dtype
from qkvcli.core.operands import Array, Shape
from qkvcli.core.problem import Problem
from qkvcli.core.steps import Outline, Parts, Step, flat_rows

Advance: TypeAlias = Callable[[int, int], None]
"""A progress callback: it is given how many parts are done, and of how many."""

Place: TypeAlias = tuple[tuple[int, ...], slice]
"""Some rows of one matrix: its leading index, and which rows."""

PlacedOutput: TypeAlias = tuple[Place, Array, Array | None]
"""Some rows' place, their output, and the logarithm of each one's sum of e^score."""

Done = TypeVar("Done")


class Sizes(NamedTuple):
    """Size limits.

    With up to ``held`` scores, all steps are computed at once and kept in memory. Otherwise
    a matrix is computed in parts, of which all that are there at a time have ``parts``
    numbers, and the output in blocks of ``queries`` and ``keys``, so that the scores of one
    stay in a core's own cache.
    """

    held: int = 2**20
    parts: int = 2**23
    queries: int = 1024
    keys: int = 256


SIZES = Sizes()
_FINISHED = 4096
"""How many rows of the output are gated and projected at a time."""


def silent(done: int, total: int) -> None:
    """Do nothing with the progress."""


def steps_of(
    problem: Problem,
    until: Stage = "output",
    sizes: Sizes = SIZES,
    advance: Advance = silent,
) -> tuple[Step, ...]:
    """The steps up to a stage, each computed when its numbers are looked at."""
    if problem.size <= sizes.held:
        arrays = cache(lambda: dense(problem, until))  # all at once, at the first look

        def whole(name: str) -> Parts:
            return iter([flat_rows(arrays()[name])])

        return tuple(
            outline.computed_by(partial(whole, outline.name)) for outline in problem.outlines(until)
        )

    @cache
    def output() -> Array:  # one for itself and all the steps after it
        return _whole_output(problem, None, sizes, advance)

    found = []
    for outline in problem.outlines(until):
        if isinstance(outline, Step):  # one that made Q, K or V: it is here already
            found.append(outline)
        elif outline.name in MIXED:
            found.append(outline.computed_by(partial(_mixed, problem, outline, output)))
        else:
            rows = partial(_rows, problem, outline.name, sizes, advance)
            found.append(outline.computed_by(rows))
    return tuple(found)


def _rows(problem: Problem, name: str, sizes: Sizes, advance: Advance) -> Parts:
    """A large step up to the weights, computed independently of the others."""
    for _, array in _by_rows(problem, name, sizes, advance):
        yield array


def _mixed(problem: Problem, outline: Outline, output: Callable[[], Array]) -> Parts:
    """The output of a large problem, or one of the steps after it."""
    whole = output()
    if outline.name != "output":
        made = np.empty(outline.shape, outline.dtype)
        _finish(problem, whole, made, outline.name)
        whole = made
    yield flat_rows(converted(whole, problem.dtype))


def _whole_output(
    problem: Problem, log_sum_exp: Array | None, sizes: Sizes, advance: Advance
) -> Array:
    """The output, in the working dtype where there are steps after it."""
    [outline] = [step for step in problem.outlines() if step.name == "output"]
    whole = np.empty(outline.shape, _of_output(problem).carrier)
    _mix_into(problem, whole, log_sum_exp, sizes, advance)
    return whole


def _of_output(problem: Problem) -> Float:
    """The type of the output: the results' own, where no step goes on from it."""
    return working_dtype(problem.dtype) if problem.output_steps else problem.dtype


def _finish(problem: Problem, output: Array, out: Array, name: str) -> None:
    """A step after the output, computed some rows at a time."""
    count = output.shape[-2]
    for first in range(0, count, _FINISHED):
        rows = np.arange(first, min(first + _FINISHED, count))
        part = output[..., rows[0] : rows[-1] + 1, :]
        with np.errstate(all="ignore"):
            for step in problem.output_steps:
                part = step.for_rows(rows)(part)
                if step.name == name:
                    out[..., rows[0] : rows[-1] + 1, :] = converted(part, problem.dtype)
                    break


def output_into(
    problem: Problem,
    out: Array,
    log_sum_exp: Array | None = None,
    sizes: Sizes = SIZES,
    advance: Advance = silent,
) -> None:
    """The last step, written into an array of its shape: the output block by block.

    ``log_sum_exp`` (…, H, L_q) takes the logarithm of each row's sum of e^score.
    """
    if problem.size <= sizes.held and log_sum_exp is None:
        with np.errstate(all="ignore"):
            out[...] = dense(problem)[problem.outlines()[-1].name]
    elif problem.output_steps:
        whole = _whole_output(problem, log_sum_exp, sizes, advance)
        _finish(problem, whole, out, problem.output_steps[-1].name)
    else:
        _mix_into(problem, out, log_sum_exp, sizes, advance)


def _mix_into(
    problem: Problem, out: Array, log_sum_exp: Array | None, sizes: Sizes, advance: Advance
) -> None:
    """The output, written into an array of its shape, block by block."""
    dtype = _of_output(problem)
    problem = replace(problem, output_steps=(), dtype=working_dtype(problem.dtype))
    apart = (
        out if problem.merged_heads is None else attention.split_heads(out, problem.merged_heads)
    )
    outputs = _by_blocks if problem.in_blocks else _by_dense_rows
    with np.errstate(all="ignore"):  # too large for float16 is inf there, log 0 is −inf
        for (index, rows), output, logarithm in outputs(problem, sizes, advance):
            place: tuple[int | slice, ...] = (*index, rows)
            apart[place] = converted(output, dtype)
            if log_sum_exp is not None:
                log_sum_exp[place] = logarithm


def _by_blocks(problem: Problem, sizes: Sizes, advance: Advance) -> Iterator[PlacedOutput]:
    """Every block of queries of every matrix: its place, output and log-sum-exp."""
    from qkvcli.core.blocks import Blocks, Mixed

    @lru_cache(maxsize=4)  # a few matrices are worked on at once
    def blocks(index: tuple[int, ...]) -> Blocks:
        return Blocks(problem.with_matrix(index), sizes.keys)

    making = Lock()

    def job(place: Place, stop: Event) -> Mixed:
        index, rows = place
        with making:  # or each thread would make them for itself
            ready = blocks(index)
        return ready.output(rows, stop)

    places = _places(problem.leading, problem.shape[-2], sizes.queries)
    for place, mixed in _in_order(job, places, advance):
        yield place, mixed.output, mixed.log_sum_exp


def _by_dense_rows(problem: Problem, sizes: Sizes, advance: Advance) -> Iterator[PlacedOutput]:
    """The same, where the weights are given or have a dtype of their own."""
    problem = problem.apart()

    def job(place: Place, stop: Event) -> tuple[Array, Array | None]:
        part = _part(problem, place)
        output = dense(part)["output"]
        if part.weights is not None:
            return output, None
        with np.errstate(all="ignore"):  # a thread does not inherit it
            return output, attention.log_sum_exp(score_arrays(part)[part.last_score], part.sinks)

    places = _places(problem.leading, problem.shape[-2], _rows_at_once(problem, sizes))
    for place, (output, logarithm) in _in_order(job, places, advance):
        yield place, output, logarithm


def _by_rows(
    problem: Problem, name: str, sizes: Sizes, advance: Advance
) -> Iterator[tuple[Place, Array]]:
    """A step between Q·Kᵀ and the weights, part by part, one matrix after the other."""
    until: Stage = "weights" if name == "weights" else "scores"

    def job(place: Place, stop: Event) -> Array:
        return dense(_part(problem, place), until)[name]

    places = _places(problem.shape[:-2], problem.shape[-2], _rows_at_once(problem, sizes))
    return _in_order(job, places, advance)


def _part(problem: Problem, place: Place) -> Problem:
    """Some rows of one matrix."""
    index, rows = place
    return problem.with_matrix(index).with_rows(np.arange(rows.start, rows.stop))


def _rows_at_once(problem: Problem, sizes: Sizes) -> int:
    from qkvcli.core.threads import at_once

    return max(sizes.parts // at_once() // max(problem.shape[-1], 1), 1)


def _places(leading: Shape, queries: int, rows: int) -> list[Place]:
    """All matrices' rows, this many at a time."""
    parts = [slice(i, min(i + rows, queries)) for i in range(0, queries, rows)]
    return list(product(np.ndindex(*leading), parts))


def _in_order(
    job: Callable[[Place, Event], Done], places: list[Place], advance: Advance
) -> Iterator[tuple[Place, Done]]:
    from qkvcli.core.threads import ordered

    for done, (place, result) in enumerate(zip(places, ordered(job, places), strict=True), 1):
        advance(done, len(places))
        yield place, result
