"""From a problem to its steps: computed at once where that is little, else part by part.

A step that is too large to hold is computed while it is written: scores and weights some
rows at a time, the output by `blocks`, on all cores.
"""

from __future__ import annotations  # what is only named there is not imported

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np

from qkvcli.core import attention
from qkvcli.core.config import MIXED, Stage
from qkvcli.core.dense import dense, score_arrays
from qkvcli.core.dtypes import converted, working_dtype
from qkvcli.core.operands import Array
from qkvcli.core.problem import Problem, needed
from qkvcli.core.steps import Outline, Parts, Step, flat_rows

if TYPE_CHECKING:  # little is computed in pieces
    from threading import Event

    from qkvcli.core.blocks import Mixed
    from qkvcli.core.pieces import Crew, Place

Advance: TypeAlias = Callable[[int, int], None]
"""A progress callback: it is given how many parts are done, and of how many."""

PlacedOutput: TypeAlias = "tuple[Place, Array, Array | None]"
"""Some rows' place, their output, and the logarithm of each one's sum of e^score."""

Done = TypeVar("Done")


class Sizes(NamedTuple):
    """Size limits.

    With up to ``held`` scores, all steps are computed at once and kept in memory. Otherwise
    a matrix is computed in parts, of which all that are there at a time have ``parts``
    numbers, and the output in blocks of ``queries`` and ``keys``, so that the scores of one
    stay in a core's own cache. Where a window is narrow, a block has fewer queries, and as many
    keys, but for the ``least``: together they see little that not each of them sees. Steps that
    are looked at together are held where they have up to ``together`` numbers.
    """

    held: int = 2**20
    parts: int = 2**23
    queries: int = 1024
    keys: int = 256
    least: int = 256
    together: int = 2**26


SIZES = Sizes()
_FINISHED = 4096
"""How many rows of the output are gated and projected at a time."""
_WHOLE = 2**25
"""Up to so many numbers of keys and values are converted once, and not for each block."""
_WORTH = 2**34
"""How many multiplications and additions a piece has that is sent: a tenth of a second."""
_EACH = 4
"""How many pieces each worker gets at least, or its last one would keep the others waiting."""


def silent(done: int, total: int) -> None:
    """Do nothing with the progress."""


def steps_of(
    problem: Problem,
    until: Stage = "output",
    sizes: Sizes = SIZES,
    advance: Advance = silent,
    crew: Crew | None = None,
    together: tuple[str, ...] = (),
) -> tuple[Step, ...]:
    """The steps up to a stage, each computed when its numbers are looked at.

    ``crew`` maps the pieces of the output (None: threads). Of large steps up to the weights, those
    that are to be looked at ``together`` are computed together, if they can be held.
    """
    if problem.size <= sizes.held:
        arrays = cache(lambda: _at_once(problem, until, crew))  # at the first look

        def whole(name: str) -> Parts:
            return iter([flat_rows(arrays()[name])])

        return tuple(
            outline.computed_by(partial(whole, outline.name)) for outline in problem.outlines(until)
        )

    @cache
    def output() -> Array:  # one for all the steps after it
        return _whole_output(problem, None, sizes, advance, crew)

    outlines = problem.outlines(until)
    joint = _Joint(problem, outlines, together, sizes, advance)
    found = []
    for outline in outlines:
        if isinstance(outline, Step):  # one that made Q, K or V: it is here already
            found.append(outline)
        elif outline.name == "output" and not problem.output_steps:
            found.append(outline.computed_by(partial(_mixed, problem, sizes, advance, crew)))
        elif outline.name == "output":
            found.append(outline.computed_by(partial(_given_out, problem, output)))
        elif outline.name in MIXED:
            found.append(outline.computed_by(partial(_finished, problem, outline, output)))
        elif outline.name in joint.names:
            found.append(outline.computed_by(partial(joint.rows, outline.name)))
        else:
            rows = partial(_rows, problem, outline.name, sizes, advance)
            found.append(outline.computed_by(rows))
    return tuple(found)


class _Joint:
    """Large steps up to the weights that are computed in one go, and held; by their ``names``."""

    def __init__(
        self,
        problem: Problem,
        outlines: tuple[Outline, ...],
        names: tuple[str, ...],
        sizes: Sizes,
        advance: Advance,
    ) -> None:
        self.problem, self.sizes, self.advance = problem, sizes, advance
        wanted = [step for step in outlines if step.name in names and step.columns_are_keys]
        few = len(wanted) * problem.size <= sizes.together
        self.outlines = wanted if few else []
        self.names = tuple(step.name for step in self.outlines)

    @cached_property
    def arrays(self) -> dict[str, Array]:
        """Each of them whole, computed at the first look."""
        found = {step.name: np.empty(step.shape, step.dtype) for step in self.outlines}
        for (index, rows), parts in _by_rows(self.problem, self.names, self.sizes, self.advance):
            place: tuple[int | slice, ...] = (*index, rows)
            for name, array in found.items():
                array[place] = parts[name]
        return found

    def rows(self, name: str) -> Parts:
        """One of them, as the rows of all its matrices."""
        yield flat_rows(self.arrays[name])


def _at_once(problem: Problem, until: Stage, crew: Crew | None) -> dict[str, Array]:
    """All steps of a small problem, computed here or by a worker."""
    if crew is None:
        return dense(problem, until)
    found: dict[str, Array] = crew.once(dense, problem, until)
    return found


def _rows(problem: Problem, name: str, sizes: Sizes, advance: Advance) -> Parts:
    """A large step up to the weights, computed independently of the others."""
    for _, arrays in _by_rows(problem, (name,), sizes, advance):
        yield arrays[name]


def _mixed(problem: Problem, sizes: Sizes, advance: Advance, crew: Crew | None) -> Parts:
    """The output of a large problem, some rows after the others."""
    for _, array, _ in _outputs(problem, None, sizes, advance, crew):
        yield converted(array, problem.dtype)


def _given_out(problem: Problem, output: Callable[[], Array]) -> Parts:
    """The output of a large problem, which is held for the steps after it."""
    yield flat_rows(converted(output(), problem.dtype))


def _finished(problem: Problem, outline: Outline, output: Callable[[], Array]) -> Parts:
    """A step after the output of a large problem."""
    made = np.empty(outline.shape, outline.dtype)
    _finish(problem, output(), made, outline.name)
    yield flat_rows(made)


def _whole_output(
    problem: Problem,
    log_sum_exp: Array | None,
    sizes: Sizes,
    advance: Advance,
    crew: Crew | None,
) -> Array:
    """The output, in the working dtype, for the steps after it."""
    [outline] = [step for step in problem.outlines() if step.name == "output"]
    whole = np.empty(outline.shape, working_dtype(problem.dtype).carrier)
    _mix_into(problem, whole, log_sum_exp, sizes, advance, crew)
    return whole


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
    crew: Crew | None = None,
) -> None:
    """The last step, written into an array of its shape: the output block by block.

    ``log_sum_exp`` (…, H, L_q) takes the logarithm of each row's sum of e^score. ``crew`` maps
    the pieces (None: threads).
    """
    if problem.size <= sizes.held and log_sum_exp is None:
        with np.errstate(all="ignore"):
            out[...] = _at_once(problem, "output", crew)[problem.outlines()[-1].name]
    elif problem.output_steps:
        whole = _whole_output(problem, log_sum_exp, sizes, advance, crew)
        _finish(problem, whole, out, problem.output_steps[-1].name)
    else:
        _mix_into(problem, out, log_sum_exp, sizes, advance, crew)


def _mix_into(
    problem: Problem,
    out: Array,
    log_sum_exp: Array | None,
    sizes: Sizes,
    advance: Advance,
    crew: Crew | None,
) -> None:
    """The output, written into an array of its shape, block by block."""
    dtype = working_dtype(problem.dtype) if problem.output_steps else problem.dtype
    with np.errstate(all="ignore"):  # too large for float16 is inf there, log 0 is −inf
        for (index, rows), array, logarithm in _outputs(problem, log_sum_exp, sizes, advance, crew):
            place: tuple[int | slice, ...] = (*index, rows)
            out[place] = converted(array, dtype)
            if log_sum_exp is not None:
                heads = () if problem.merged_heads is None else (slice(None),)
                of_heads = (*index, *heads, rows)
                log_sum_exp[of_heads] = logarithm


def _outputs(
    problem: Problem,
    log_sum_exp: Array | None,
    sizes: Sizes,
    advance: Advance,
    crew: Crew | None,
) -> Iterator[PlacedOutput]:
    """Some rows of the output after the others, heads merged where they are to be."""
    problem = replace(problem, output_steps=(), dtype=working_dtype(problem.dtype))
    if problem.in_blocks:
        found = _by_blocks(problem, log_sum_exp is not None, sizes, advance, crew)
    else:
        found = _by_dense_rows(problem, sizes, advance)
    heads = problem.merged_heads
    if heads is None:
        return found
    return _merged(found, heads)


def _merged(outputs: Iterator[PlacedOutput], heads: int) -> Iterator[PlacedOutput]:
    """The heads of the same rows, which follow each other, side by side."""
    while some := list(islice(outputs, heads)):
        ((*batch, _), rows), _, logarithm = some[0]
        merged = attention.merge_heads(np.stack([array for _, array, _ in some]))
        logarithms = None if logarithm is None else np.stack([cast(Array, n) for *_, n in some])
        yield (tuple(batch), rows), merged, logarithms


def _by_blocks(
    problem: Problem, wants_sum: bool, sizes: Sizes, advance: Advance, crew: Crew | None
) -> Iterator[PlacedOutput]:
    """Every block of queries of every matrix: its place, output and log-sum-exp."""
    if crew is None:
        found = _on_threads(problem, wants_sum, sizes, advance)
    else:
        found = _on_workers(problem, wants_sum, sizes, advance, crew)
    for place, mixed in found:
        yield place, mixed.output, mixed.log_sum_exp


def _on_threads(
    problem: Problem, wants_sum: bool, sizes: Sizes, advance: Advance
) -> Iterator[tuple[Place, Mixed]]:
    """The pieces on the cores of this machine; what advances are blocks of keys."""
    from qkvcli.core.pieces import Mixing, piece_at, places
    from qkvcli.core.threads import Tally, ordered

    queries, keys = _block_of(problem, sizes)
    if problem.shape[-2] > queries and _numbers(problem) <= _WHOLE:
        problem = problem.converted()
    query, mixing = needed(problem.query, "query").array, Mixing(problem, queries, keys, wants_sum)
    found = places(problem.leading, problem.shape[-2], queries, problem.merged_heads is not None)
    if advance is silent:
        results = ordered(lambda place, stop: mixing(piece_at(query, place), stop), found)
    else:
        tally = Tally(sum(map(mixing.count, found)), advance)

        def job(place: Place, stop: Event) -> Mixed:
            return mixing(piece_at(query, place), stop, tally.tick)

        results = ordered(job, found, tally.show)
    return zip(found, results, strict=True)


def _on_workers(
    problem: Problem, wants_sum: bool, sizes: Sizes, advance: Advance, crew: Crew
) -> Iterator[tuple[Place, Mixed]]:
    """The pieces on the workers of a crew; what advances are pieces."""
    from qkvcli.core.pieces import Mixing, piece_at, places

    queries, keys = _block_of(problem, sizes)
    query, mixing = needed(problem.query, "query").array, Mixing(problem, queries, keys, wants_sum)
    rows = _piece_of(problem, queries, crew)
    found = places(problem.leading, problem.shape[-2], rows, problem.merged_heads is not None)
    results = crew(mixing, (piece_at(query, place) for place in found))
    for done, (place, mixed) in enumerate(zip(found, results, strict=True), 1):
        advance(done, len(found))
        yield place, mixed


def _numbers(problem: Problem) -> int:
    """How many numbers there are in the keys and values."""
    key, value = needed(problem.key, "key"), needed(problem.value, "value")
    return key.array.size + value.array.size


def _block_of(problem: Problem, sizes: Sizes) -> tuple[int, int]:
    """How many queries a block has, and how many keys; nearer a square, where few keys are seen."""
    seen = problem.visibility
    span = None if seen is None else seen.widest
    if span is None or span // 2 >= sizes.queries:
        return sizes.queries, sizes.keys
    side = min(max(span // 2, sizes.least), sizes.queries)
    return side, side


def _piece_of(problem: Problem, queries: int, crew: Crew) -> int:
    """How many rows a piece has that is sent: whole blocks, whose work is worth the way."""
    value = needed(problem.value, "value")
    keys, width = problem.shape[-1], needed(problem.key, "key").shape[-1] + value.shape[-1]
    blocks = max(_WORTH // max(2 * queries * keys * width, 1), 1)
    count = math.prod(problem.leading) * problem.shape[-2] // queries
    return queries * max(min(blocks, count // (_EACH * crew.workers)), 1)


def _by_dense_rows(problem: Problem, sizes: Sizes, advance: Advance) -> Iterator[PlacedOutput]:
    """The same, where the weights are given, or the scores."""
    from qkvcli.core.pieces import places

    merged, problem = problem.merged_heads is not None, problem.apart().converted()

    def job(place: Place, stop: Event) -> tuple[Array, Array | None]:
        part = _part(problem, place)
        output = dense(part)["output"]
        if part.weights is not None:
            return output, None
        with np.errstate(all="ignore"):  # a thread does not inherit it
            return output, attention.log_sum_exp(score_arrays(part)[part.last_score], part.sinks)

    rows = _rows_at_once(problem, sizes)
    found = places(problem.leading, problem.shape[-2], rows, merged)
    for place, (output, logarithm) in _in_order(job, found, advance):
        yield place, output, logarithm


def _by_rows(
    problem: Problem, names: tuple[str, ...], sizes: Sizes, advance: Advance
) -> Iterator[tuple[Place, dict[str, Array]]]:
    """Steps between Q·Kᵀ and the weights, part by part, one matrix after the other."""
    from qkvcli.core.pieces import places

    until: Stage = "weights" if "weights" in names else "scores"
    problem = replace(problem, value=None).converted()

    def job(place: Place, stop: Event) -> dict[str, Array]:
        found = dense(_part(problem, place), until)
        return {name: found[name] for name in names}

    found = places(problem.shape[:-2], problem.shape[-2], _rows_at_once(problem, sizes))
    return _in_order(job, found, advance)


def _part(problem: Problem, place: Place) -> Problem:
    """Some rows of one matrix."""
    index, rows = place
    return problem.with_matrix(index).with_rows(np.arange(rows.start, rows.stop))


def _rows_at_once(problem: Problem, sizes: Sizes) -> int:
    from qkvcli.core.threads import at_once

    return max(sizes.parts // at_once() // max(problem.shape[-1], 1), 1)


def _in_order(
    job: Callable[[Place, Event], Done], places: list[Place], advance: Advance
) -> Iterator[tuple[Place, Done]]:
    from qkvcli.core.threads import ordered

    for done, (place, result) in enumerate(zip(places, ordered(job, places), strict=True), 1):
        advance(done, len(places))
        yield place, result
