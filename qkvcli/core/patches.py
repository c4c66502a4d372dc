"""Steps reduced to what fits a screen: the peak of each patch, computed in parts and not held.

Rows are computed as `dense` has them, some at a time, and reduced at once: first each along
its columns, then those of one row of the picture together. Where all of them would take too
long, each row of the picture has as many of its queries computed as any other.
"""

import math
from collections.abc import Collection, Iterator, Set
from dataclasses import replace
from itertools import product
from threading import Event
from typing import NamedTuple

import numpy as np

from qkvcli.core import attention
from qkvcli.core.compute import SIZES, Advance, Sizes, silent
from qkvcli.core.config import MADE, MIXED, SCORES, Stage
from qkvcli.core.dense import dense
from qkvcli.core.dtypes import converted, working_dtype
from qkvcli.core.operands import Array, Shape
from qkvcli.core.output_steps import OutputStep
from qkvcli.core.pieces import Place
from qkvcli.core.problem import Problem
from qkvcli.core.steps import Step
from qkvcli.core.threads import at_once, check, ordered
from qkvcli.core.views import Selection, View, axes_of, outlines, selected

BUDGET = 2**34
"""How much is computed, in multiply-adds: about a second's work on two cores."""
_PER_SCORE = 64
"""What a score costs beside its products (its step, the softmax, the search), in the same unit."""
_TOGETHER = 8
"""Rows that are computed together at least, or each would read all keys for itself."""
_STRONGEST = 5
_FEW = 16
"""Where a query sees less than this part of what another sees, its weights are large for that."""
_FEWEST = 40
"""Rows that a picture keeps, however long one query takes."""
_INPUTS = frozenset(MADE)
"""The steps that are held: they were given, or made already."""


class Fit(NamedTuple):
    """How many rows and columns a picture may have; of a smaller matrix it has fewer."""

    rows: int
    columns: int


class Pair(NamedTuple):
    """A weight, and where it stands: the index of its matrix, the query, the key."""

    weight: float
    matrix: tuple[int, ...]
    query: int
    key: int


class Sample(NamedTuple):
    """For each row of a picture, ``taken`` queries are computed, of ``least`` to ``most``."""

    taken: int
    least: int
    most: int


class Patches(NamedTuple):
    """A step that is reduced.

    ``view`` holds the peak of each patch (…, r, c) in place of the numbers; its rows are
    still those of the step. Its ``hidden`` is true where the numbers are −∞ for no other reason
    than that a mask hides the keys; weights are −∞ there too, since those keys have none.
    ``strongest`` are the largest weights, ``sample`` says how many of the queries were computed,
    where not all were. ``usual`` is the largest weight of queries that do not see far fewer keys
    than others do, where a mask hides some: the first of a causal mask would outshine the rest.
    """

    view: View
    strongest: tuple[Pair, ...] = ()
    sample: Sample | None = None
    usual: float | None = None

    def within(self, fit: Fit) -> "Patches":
        """The same, reduced (once more) to fit."""
        view = self.view
        array = reduced(view.array, fit, view.step.name)
        hidden = view.hidden
        if hidden is not None:
            rows, columns = (
                starts(n, most) for n, most in zip(view.array.shape[-2:], fit, strict=True)
            )
            bare = _any(_any(_bare(view.array, hidden), columns, -1), rows, -2)
            hidden = np.isneginf(array) & ~bare
        return self._replace(view=view.of_numbers(array, hidden))


def patches(
    problem: Problem,
    until: Stage,
    names: Collection[str],
    selection: Selection,
    fit: Fit,
    budget: int = BUDGET,
    sizes: Sizes = SIZES,
    advance: Advance = silent,
) -> list[Patches]:
    """The steps ``names``, with the rows, heads and batches selected, each reduced to fit."""
    steps = [step for step in outlines(problem, until, selection) if step.name in names]
    held = {
        step.name: step.array
        for step in selected(problem, until, tuple(_INPUTS & set(names)), selection)
    }
    stream = _Stream(selection.of(problem), {step.name for step in steps} - _INPUTS, fit, budget)
    if stream.names:
        stream.run(sizes, advance)
    found = []
    for step in steps:
        rows = selection.rows if step.of_queries else None
        axes = axes_of(step, problem, selection)
        if step.name in held:
            array, sample = reduced(held[step.name], fit, step.name), None
        else:
            array, sample = stream.found[step.name], stream.sample
        strongest = stream.pairs(axes, rows) if step.name == "weights" else ()
        view = View.held(step, array, rows, axes, hidden=stream.hidden(step.name))
        usual = _usual(stream.tops) if step.name == "weights" else None
        found.append(Patches(view, strongest, sample, usual))
    return found


def affordable(
    problem: Problem,
    until: Stage,
    names: Collection[str],
    selection: Selection,
    fit: Fit,
    budget: int = BUDGET,
) -> Fit:
    """The same fit, of fewer rows where one query for each would be more than the budget."""
    computed = {step.name for step in outlines(problem, until, selection)} & set(names)
    stream = _Stream(selection.of(problem), computed - _INPUTS, fit, budget)
    most = max(budget // max(stream.work, 1), _FEWEST) if stream.names else fit.rows
    return fit._replace(rows=min(fit.rows, most))


def patches_of(steps: Collection[Step], problem: Problem | None, fit: Fit) -> list[Patches]:
    """Steps that are held, each reduced to fit; what is hidden in them, the problem knows."""
    found = []
    for step in steps:
        array, strongest, usual = step.array, tuple[Pair, ...](), None
        hidden = None if problem is None else _hidden_in(problem, step.name)
        if hidden is not None:
            hidden = np.broadcast_to(hidden, step.shape)
        if step.name == "weights":
            seen = np.ones(step.shape, bool) if hidden is None else ~hidden
            count = np.count_nonzero(seen, axis=-1, keepdims=True)
            strongest = _strongest(np.where(_alone(problem, count), 0, array))
            if hidden is not None:
                usual = _usual(_tops(array, count[..., 0], step.shape[-1]))
            array = np.where(seen, array, -np.inf)
        whole = View.whole(step).of_numbers(array, hidden)
        found.append(Patches(whole, strongest, usual=usual).within(fit))
    return found


def _tops(weights: Array, seen: Array, keys: int) -> Array:
    """The largest weight of the queries that see 0, 1, … of the keys; −∞ where none sees so many.

    >>> _tops(np.array([[1, 0], [0.3, 0.7], [0.5, 0.5]]), np.array([1, 2, 2]), 2)
    array([-inf,  1. ,  0.7])
    """
    tops = np.full(keys + 1, -np.inf)
    largest = np.fmax.reduce(weights, axis=-1, initial=-np.inf)
    np.fmax.at(tops, seen.ravel(), largest.ravel())
    return tops


def _usual(tops: Array) -> float | None:
    """The largest weight of queries that see no less than a 16th of what any of them sees.

    >>> _usual(np.array([-np.inf, 1, 0.7])), _usual(np.array([0, 1.0] + [-np.inf] * 30 + [0.2]))
    (1.0, 0.2)
    """
    known = np.flatnonzero(np.isfinite(tops))
    if not known.size:
        return None
    return float(tops[known[known * _FEW >= known[-1]]].max())


def _hides(problem: Problem, name: str) -> bool:
    """Whether keys may be hidden in a step of this name.

    A −∞ that was computed, or given in Q, K or V, is a number as others are.
    """
    if name in ("masked", "weights"):
        return problem.visibility is not None or problem.scores is not None
    return name in SCORES and problem.scores is not None


def _hidden_in(problem: Problem, name: str) -> Array | None:
    """True where a key is hidden in a step of this name; None where none is."""
    if not _hides(problem, name):
        return None
    if name in ("masked", "weights") or problem.scores is None:
        return problem.hidden
    return np.isneginf(problem.scores.array)


def _alone(problem: Problem | None, seen: Array) -> Array:
    """Whether a weight says nothing, since its query sees that one key alone; a sink has a share.

    ``seen`` counts the keys that a query sees.
    """
    return (seen == 1) & (problem is None or problem.sinks is None)


def _bare(array: Array, hidden: Array) -> Array:
    """Where there is a −∞ that no mask hides."""
    return np.isneginf(array) & ~hidden


def _any(array: Array, begins: Array, axis: int) -> Array:
    """Whether anything is true in each patch along one axis."""
    if not array.size:
        shape = list(array.shape)
        shape[axis] = len(begins)
        return np.zeros(shape, np.bool_)
    found: Array = np.logical_or.reduceat(array, begins, axis=axis)
    return found


def _strongest(weights: Array) -> tuple[Pair, ...]:
    flat = weights.ravel()
    places = (tuple(map(int, np.unravel_index(i, weights.shape))) for i in _highest(flat))
    return tuple(Pair(float(weights[p]), p[:-2], *p[-2:]) for p in places)


def reduced(array: Array, fit: Fit, name: str) -> Array:
    """The peaks of the patches of matrices (…, rows, columns), at most as many as fit.

    Of weights that is the largest number; of a step around 0 the one of largest magnitude,
    with its sign. −∞, which hides a key, counts only where nothing else is, NaN not even there.

    >>> reduced(np.array([[1.0, -3.0, 2.0, -np.inf]]), Fit(1, 2), "scores")
    array([[-3.,  2.]])
    """
    rows, columns = array.shape[-2:]
    begins = starts(rows, fit.rows)
    ends = [*begins[1:].tolist(), rows][: len(begins)]
    shape = (*array.shape[:-2], len(begins), min(columns, fit.columns))
    found = np.empty(shape, array.dtype)
    for i, (first, end) in enumerate(zip(begins.tolist(), ends, strict=True)):
        down = _peaks(array[..., first:end, :], np.zeros(1, np.intp), -2, name)
        found[..., i : i + 1, :] = _peaks(down, starts(columns, fit.columns), -1, name)
    return found


def starts(count: int, most: int) -> Array:
    """Where each of at most so many patches begins, of ``count`` numbers; none is empty.

    >>> starts(9, 4), starts(2, 4)
    (array([0, 2, 4, 6]), array([0, 1]))
    """
    parts = min(count, most)
    return np.arange(parts) * count // max(parts, 1)


def _peaks(array: Array, begins: Array, axis: int, name: str) -> Array:
    """The peak of each patch along one axis."""
    if not begins.size or not array.size:
        shape = list(array.shape)
        shape[axis] = len(begins)
        return np.full(shape, np.nan, array.dtype)
    with np.errstate(all="ignore"):  # NaN among the numbers is nothing to be warned of
        high = np.fmax.reduceat(array, begins, axis=axis)
        if name == "weights":
            return high
        low = np.fmin.reduceat(array, begins, axis=axis)
        if np.isneginf(low).any():
            shown = np.where(np.isneginf(array), np.nan, array)
            low = np.fmin.reduceat(shown, begins, axis=axis)
        return np.where(-low > high, low, high)


class _Some(NamedTuple):
    """What one piece of work found for some rows of the picture: peaks by step; weights.

    ``bare`` is true where there is a −∞ that no mask hides, in the steps in which keys are hidden;
    ``tops`` are the largest weights by how many keys are seen (`_tops`).
    """

    matrix: tuple[int, ...]
    first: int
    peaks: dict[str, Array]
    bare: dict[str, Array]
    strongest: list[Pair]
    tops: Array | None


class _Stream:
    """The steps that are computed, while their rows come in."""

    def __init__(self, problem: Problem, names: Set[str], fit: Fit, budget: int) -> None:
        # in the working dtype, as what each head adds is summed in it
        self.problem = replace(problem.apart(), dtype=working_dtype(problem.dtype))
        self.names, self.dtype, self.begins = (
            names,
            problem.dtype,
            starts(problem.shape[-2], fit.rows),
        )
        self.until: Stage = "weights" if "weights" in names else "scores"
        if not set(MIXED).isdisjoint(names):
            self.until = "output"
        known = (*problem.given, *problem.outlines(self.until))
        self.outlines = {step.name: step for step in known}
        self.joined = _joined(problem, names)
        self.columns = {
            name: starts(self.outlines[name].shape[-1], fit.columns) for name in self.names
        }
        self.rows, self.row_of, self.sample = self._sampled(budget)
        self.found: dict[str, Array] = {}
        self.bare: dict[str, Array] = {}
        self.tops = np.full(self.problem.shape[-1] + 1, -np.inf)
        self.strongest: list[Pair] = []

    @property
    def leading(self) -> Shape:
        """The leading axes of all the matrices that are computed."""
        return self.problem.leading if self.until == "output" else self.problem.shape[:-2]

    def _sampled(self, budget: int) -> tuple[Array, Array, Sample | None]:
        """The queries that are computed, for each its row of the picture, and what is left out."""
        count = self.problem.shape[-2]
        sizes = np.diff(self.begins, append=count)  # queries of each row of the picture
        taken = max(budget // max(self.work * len(sizes), 1), 1)
        if taken >= sizes.max(initial=0):
            return np.arange(count), np.arange(len(sizes)).repeat(sizes), None
        within = (2 * np.arange(taken) + 1) * sizes[:, None] // (2 * taken)  # (r, taken)
        rows = (self.begins[:, None] + within).ravel()
        sample = Sample(taken, int(sizes.min()), int(sizes.max()))
        return rows, np.arange(len(sizes)).repeat(taken), sample

    @property
    def work(self) -> int:
        """What one query costs, in all the matrices together, in multiply-adds."""
        problem = self.problem
        computed = problem.outlines(self.until)
        each, after = _PER_SCORE * sum(step.columns_are_keys for step in computed), 0
        if problem.query is not None and problem.scores is None and problem.weights is None:
            each += problem.query.shape[-1]
        if self.until == "output" and problem.value is not None:
            width = problem.value.shape[-1]
            each += width
            after = sum(step.work(width) for step in problem.output_steps)
        return (each * problem.shape[-1] + after) * math.prod(self.leading)

    def run(self, sizes: Sizes, advance: Advance) -> None:
        """Compute the rows, on all cores, and keep what they are reduced to."""
        for name in self.names:
            leading, width = self.outlines[name].shape[:-2], len(self.columns[name])
            shape = (*leading, len(self.begins), width)
            self.found[name] = np.full(shape, np.nan, self.dtype.carrier)
            if _hides(self.problem, name):
                self.bare[name] = np.zeros(shape, np.bool_)
        together = max(sizes.parts // at_once() // max(self.problem.shape[-1], 1), _TOGETHER)
        rows = range(0, len(self.rows), together)
        parts = [slice(i, min(i + together, len(self.rows))) for i in rows]
        groups = self.leading[:-1] if self.joined else self.leading
        places = list(product(np.ndindex(*groups), parts))
        for done, found in enumerate(ordered(self._some, places), 1):
            advance(done, len(places))
            for some in found:
                self._take(some)

    def _some(self, place: Place, stop: Event) -> list[_Some]:
        """Some queries of one matrix, reduced; of all heads, where they are joined."""
        group, part = place
        heads: dict[str, list[Array]] = {name: [] for name in self.joined}
        found = []
        for index in self._matrices(group):
            check(stop)
            problem = self.problem.with_matrix(index).with_rows(self.rows[part])
            arrays = dense(problem, self.until)
            for name, apart in heads.items():
                apart.append(arrays[name])
            found.append(self._of_matrix(index, part, arrays, problem))
        peaks = {}
        begins = np.flatnonzero(np.diff(self.row_of[part], prepend=-1))
        for name, step in self.joined.items():
            stacked = np.stack(heads[name])  # (H, n, ·)
            with np.errstate(all="ignore"):
                whole = attention.merge_heads(stacked) if step is None else step.joined(stacked)
            peaks[name] = self._reduced(whole, name, begins)
        return [*found, _Some(group, int(self.row_of[part][0]), peaks, {}, [], None)]

    def _matrices(self, group: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """The matrices that are computed together: those of all heads, where they are joined."""
        if not self.joined:
            yield group
        else:
            yield from ((*group, head) for head in range(self.leading[-1]))

    def _reduced(self, array: Array, name: str, begins: Array) -> Array:
        """The peaks of some rows of a step, of which those of the picture begin at ``begins``."""
        across = _peaks(converted(array, self.dtype), self.columns[name], -1, name)
        return _peaks(across, begins, -2, name)

    def _of_matrix(
        self, index: tuple[int, ...], part: slice, arrays: dict[str, Array], problem: Problem
    ) -> _Some:
        """Some queries of one matrix, reduced; but for the steps whose heads are joined."""
        rows, row_of, hidden = self.rows[part], self.row_of[part], problem.hidden
        begins = np.flatnonzero(np.diff(row_of, prepend=-1))
        peaks, bare, strongest, tops = {}, dict[str, Array](), list[Pair](), None
        for name in self.names - self.joined.keys():
            columns, array = self.columns[name], converted(arrays[name], self.dtype)
            across = _peaks(array, columns, -1, name)
            closed = None if name == "weights" else _hidden_in(problem, name)
            if closed is not None:  # of weights none is −∞ where they can be hidden
                bare[name] = _any(_any(_bare(array, closed), columns, -1), begins, -2)
            if name == "weights":
                matrix = _index_in(self.problem.shape[:-2], index)
                seen = np.full(len(rows), problem.shape[-1])
                if hidden is not None and hidden.size:
                    seen = np.count_nonzero(~hidden, axis=-1)
                free = np.where(_alone(problem, seen)[:, None], 0, across)
                if hidden is not None and hidden.size:
                    tops = _tops(across, seen, problem.shape[-1])
                    no_key = np.logical_and.reduceat(hidden, columns, axis=-1)
                    across = np.where(no_key, -np.inf, across)
                found = _largest(array, free, columns)
                strongest = [Pair(w, matrix, int(rows[i]), j) for w, i, j in found]
            peaks[name] = _peaks(across, begins, -2, name)
        return _Some(index, int(row_of[0]), peaks, bare, strongest, tops)

    def _take(self, some: _Some) -> None:
        for name, peaks in some.peaks.items():
            whole = self.found[name]
            matrix = whole[_index_in(whole.shape[:-2], some.matrix)]
            rows = slice(some.first, some.first + len(peaks))
            both = np.stack([matrix[rows], peaks])  # a row may be computed in several pieces
            matrix[rows] = _peaks(both, np.zeros(1, np.intp), 0, name)[0]
            if name in some.bare:
                whole = self.bare[name]
                whole[_index_in(whole.shape[:-2], some.matrix)][rows] |= some.bare[name]
        if some.tops is not None:
            np.fmax(self.tops, some.tops, out=self.tops)
        # where values have batches of their own, the same weights are computed for each
        known = {*self.strongest, *some.strongest}
        self.strongest = sorted(known, key=lambda pair: (-pair.weight, *pair[1:]))[:_STRONGEST]

    def hidden(self, name: str) -> Array | None:
        """Where the keys of a step are hidden, (…, r, c); None where none is."""
        bare = self.bare.get(name)
        return None if bare is None else np.isneginf(self.found[name]) & ~bare

    def pairs(self, axes: tuple[tuple[int, ...], ...], rows: Array | None) -> tuple[Pair, ...]:
        """The largest weights, by the numbers that their matrices and rows have in the whole."""
        return tuple(
            pair._replace(
                matrix=tuple(axis[i] for axis, i in zip(axes, pair.matrix, strict=True)),
                query=pair.query if rows is None else int(rows[pair.query]),
            )
            for pair in self.strongest
        )


def _joined(problem: Problem, names: Collection[str]) -> dict[str, OutputStep | None]:
    """The steps among ``names`` whose heads are joined, by their names; None for the output."""
    found: dict[str, OutputStep | None] = {}
    joined = problem.merged_heads is not None
    for step in (None, *problem.output_steps):
        joined = joined or (step is not None and step.joins)
        name = "output" if step is None else step.name
        if joined and name in names:
            found[name] = step
    return found


def _index_in(leading: Shape, index: tuple[int, ...]) -> tuple[int, ...]:
    """The index of a matrix among fewer leading axes, or some that broadcast."""
    own = index[len(index) - len(leading) :]
    return tuple(0 if n == 1 else i for n, i in zip(leading, own, strict=True))


def _largest(weights: Array, peaks: Array, begins: Array) -> list[tuple[float, int, int]]:
    """The largest weights (n, L_k) above 0, with their places; ``peaks`` (n, c) of each patch.

    They stand in the patches of the largest peaks: those are looked through, and no others.
    """
    found = []
    ends = [*begins[1:].tolist(), weights.shape[-1]]
    for patch in _highest(peaks.ravel()):
        i, column = divmod(patch, len(begins))
        first = int(begins[column])
        segment = weights[i, first : ends[column]]
        found += [(float(segment[j]), i, first + j) for j in _highest(segment)]
    return sorted(found, key=lambda pair: (-pair[0], *pair[1:]))[:_STRONGEST]


def _highest(numbers: Array) -> list[int]:
    """The indexes of the largest numbers above 0; among equals, of the first."""
    above = np.where(numbers > 0, numbers, 0)
    least = 0
    if len(above) > _STRONGEST:
        least = np.partition(above, -_STRONGEST)[-_STRONGEST]
    hits = np.flatnonzero((above >= least) & (above > 0))
    order = np.argsort(-above[hits], kind="stable")[:_STRONGEST]
    chosen: list[int] = hits[order].tolist()
    return chosen
