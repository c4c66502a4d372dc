"""What is shown of the steps: some rows, heads and batches, and no others computed."""

from __future__ import annotations  # what is only named there is not imported

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from qkvcli.core.compute import SIZES, Advance, Sizes, silent, steps_of
from qkvcli.core.config import ORDER, Stage
from qkvcli.core.facts import Weighed
from qkvcli.core.operands import Array, Labels, Shape
from qkvcli.core.problem import Problem
from qkvcli.core.steps import Outline, Step
from qkvcli.core.together import TOGETHER, Together, by_place
from qkvcli.errors import UsageError

if TYPE_CHECKING:
    from qkvcli.core.pieces import Crew

Result = TypeVar("Result")

_NUMBER = r"(-?\d{1,18})"
_SLICE = re.compile(rf"{_NUMBER}?:{_NUMBER}?(?::{_NUMBER})?")


class Selection(NamedTuple):
    """Which rows (L_q), heads and batches are wanted; None for all of them.

    ``gaps`` says that the rows were picked for want of room, and those between are left out.
    """

    rows: Array | None = None
    heads: tuple[int, ...] | None = None
    batches: tuple[int, ...] | None = None
    gaps: bool = False

    def of(self, problem: Problem) -> Problem:
        """The problem of what is selected."""
        if self.rows is not None:
            problem = problem.with_rows(self.rows)
        if self.batches is not None:
            problem = problem.with_batches(self.batches)
        return problem if self.heads is None else problem.with_heads(self.heads)

    def shortened(self, count: int, most: int | None) -> Selection:
        """The same where rows were chosen; else the first and last ``most`` of ``count``."""
        if self.rows is not None or most is None or count <= most:
            return self
        kept = [i for i in edges(count, most) if i is not None]
        return self._replace(rows=np.array(kept, dtype=np.intp), gaps=True)


class Matrix:
    """One matrix of a view: where it is in the whole, its numbers, and which are hidden."""

    def __init__(self, place: Shape, array: Array, hidden: Array | None = None) -> None:
        self.place, self.array, self.hidden = place, array, hidden

    @cached_property
    def weighed(self) -> tuple[Weighed, ...]:
        """What there is to say of each row, of weights."""
        return tuple(map(Weighed, self.array))

    def of_rows(self, numbers: list[int]) -> Matrix:
        """Some of the rows, of which nothing is found twice; itself, where they are all."""
        if numbers == list(range(len(self.array))):
            return self
        hidden = None if self.hidden is None else self.hidden[numbers]
        part = Matrix(self.place, self.array[numbers], hidden)
        part.weighed = tuple(self.weighed[i] for i in numbers)
        return part


class View:
    """A part of a step.

    ``step`` says what the whole is; ``part`` has the numbers, when they are looked at. ``rows``
    are the numbers of its rows (None: all), and where they have ``gaps`` those between were left
    out for want of room; ``axes`` are the indexes along each leading axis. ``hidden`` (of
    weights, and in pictures of scores) is true where a key may not be seen, or None; where the
    ``problem`` of the part is given, it is found from that when it is looked at. ``together``
    computes the part with other steps.
    """

    def __init__(
        self,
        step: Outline,
        part: Step,
        rows: Array | None = None,
        axes: tuple[tuple[int, ...], ...] = (),
        gaps: bool = False,
        hidden: Array | None = None,
        problem: Problem | None = None,
        together: Together | None = None,
    ) -> None:
        self.step, self.part, self.rows, self.axes, self.gaps = step, part, rows, axes, gaps
        self.together = together
        self._hidden, self._problem = hidden, problem

    @classmethod
    def held(
        cls,
        step: Outline,
        array: Array,
        rows: Array | None = None,
        axes: tuple[tuple[int, ...], ...] = (),
        gaps: bool = False,
        hidden: Array | None = None,
    ) -> View:
        """A part whose numbers are here."""
        return cls(step, Step.held(step.name, array), rows, axes, gaps, hidden)

    def of_numbers(self, array: Array, hidden: Array | None) -> View:
        """Others in place of the numbers, as many matrices, and what is hidden in them."""
        return View.held(self.step, array, self.rows, self.axes, self.gaps, hidden)

    @classmethod
    def whole(cls, step: Step) -> View:
        """All of a step."""
        return cls(step, step, axes=tuple(tuple(range(n)) for n in step.shape[:-2]))

    @property
    def shape(self) -> Shape:
        """The shape of the part."""
        return self.part.shape

    @property
    def array(self) -> Array:
        """The numbers of the part, all at once."""
        return self.part.array

    @cached_property
    def hidden(self) -> Array | None:
        """Where a key may not be seen, all at once."""
        return self._hidden if self._problem is None else self._problem.hidden

    def matrices(self) -> Iterator[Matrix]:
        """Each matrix, one after the other, after its index in the whole."""
        return by_matrix([self], lambda found: found[0])

    def stretches(self, most: int) -> Iterator[SomeRows]:
        """Each matrix as some rows after the others, at most so many; an empty one too.

        No more is held, and looked at whether it is hidden, than has to be computed together.
        """
        count, columns = self.shape[-2:]
        parts, part = self.part.parts(), np.empty((0, columns), self.part.dtype)
        nothing = part
        for place in np.ndindex(*self.shape[:-2]):
            for first in range(0, max(count, 1), most):
                rows = slice(first, min(first + most, count))
                missing, found = rows.stop - first, list[Array]()
                while missing:
                    part = part if len(part) else next(parts)
                    found.append(part[:missing])
                    part, missing = part[missing:], missing - len(found[-1])
                array = found[0] if len(found) == 1 else np.concatenate([nothing, *found])
                yield SomeRows(rows, Matrix(self.index(place), array, self._hides(place, rows)))

    def index(self, place: Shape) -> Shape:
        """Where in the whole a matrix of the part is."""
        return tuple(axis[i] for axis, i in zip(self.axes, place, strict=True))

    def _hides(self, place: Shape, rows: slice) -> Array | None:
        """What is hidden in some rows of a matrix."""
        if self._problem is None or "hidden" in vars(self):
            return None if self.hidden is None else self.hidden[place][rows]
        return self._problem.with_matrix(place).with_rows(np.arange(rows.start, rows.stop)).hidden


class SomeRows(NamedTuple):
    """Some rows of a matrix of a view: which, counted in the view, and their numbers."""

    rows: slice
    matrix: Matrix


def by_matrix(
    views: Sequence[View], work: Callable[[tuple[Matrix, ...]], Result]
) -> Iterator[Result]:
    """``work`` on each matrix of some views that have the same, in their order.

    It is given that of each view. Those that are computed together are let go when the work is
    done, which is done on all cores where they hold little.
    """
    together = next((view.together for view in views if view.together is not None), None)
    hidden = [view.hidden for view in views]
    if together is None:
        for found in zip(*(view.stretches(max(view.shape[-2], 1)) for view in views), strict=True):
            yield work(tuple(stretch.matrix for stretch in found))
        return
    # what is found at once is so here, before threads ask for it
    held = [None if view.together is together else view.array for view in views]

    def job(place: Shape) -> Result:
        arrays = together.at(place)
        return work(
            tuple(
                Matrix(
                    view.index(place),
                    arrays[view.step.name] if array is None else array[place],
                    None if which is None else which[place],
                )
                for view, array, which in zip(views, held, hidden, strict=True)
            )
        )

    yield from by_place(together, job)


def views(
    problem: Problem,
    until: Stage,
    names: tuple[str, ...],
    selection: Selection,
    held: int = SIZES.held,
    by_rows: bool = False,
) -> Iterator[View]:
    """The steps ``names``, with the rows, heads and batches selected, and no others computed.

    With up to ``held`` scores they are computed at once; more are so matrix by matrix, where a
    matrix is not too large for that, or, ``by_rows``, each step for itself, to be read by
    `View.stretches`.
    """
    part = selection.of(problem)
    together = None if by_rows else Together.of(part, until, names, held)
    at_once = SIZES._replace(held=held if together or by_rows else TOGETHER)
    known = {outline.name: outline for outline in outlines(problem, until, selection)}
    for step in selected(problem, until, names, selection, at_once):
        outline = known[step.name]
        mine = together if together is not None and step.name in together.names else None
        hides = step.name == "weights" and problem.weights is None
        yield View(
            outline,
            step if mine is None else mine.part(step),
            selection.rows if outline.of_queries else None,
            axes_of(outline, problem, selection),
            selection.gaps,
            problem=part if hides else None,
            together=None if mine is None or mine.merges(outline) else mine,
        )


def outlines(problem: Problem, until: Stage, selection: Selection) -> tuple[Outline, ...]:
    """Every step up to a stage, what was given too, in their order.

    Where heads are selected, the output is that of each head, and not joined.
    """
    computed = (problem if selection.heads is None else problem.apart()).outlines(until)
    return tuple(sorted((*problem.given, *computed), key=lambda step: ORDER.index(step.name)))


def selected(
    problem: Problem,
    until: Stage,
    names: tuple[str, ...],
    selection: Selection,
    sizes: Sizes = SIZES,
    advance: Advance = silent,
    crew: Crew | None = None,
    together: tuple[str, ...] = (),
) -> list[Step]:
    """The same as steps of their own, computed when they are looked at.

    They keep every axis, also one of which a single index was selected. Rows that were
    selected have their numbers for labels, where they had none. ``crew`` and ``together`` as in
    `steps_of`.
    """
    part = selection.of(problem)
    held = {step.name for step in (*part.given, *part.made)}
    found = [
        cut(step, problem, selection) if step.name in held else step
        for step in (*part.given, *steps_of(part, until, sizes, advance, crew, together))
        if step.name in names
    ]
    return sorted(found, key=lambda step: ORDER.index(step.name))


def axes_of(step: Outline, problem: Problem, selection: Selection) -> tuple[tuple[int, ...], ...]:
    """The indexes along each leading axis that are selected."""
    axes = [tuple(range(count)) for count in step.shape[:-2]]
    for kind, numbers in (("head", selection.heads), ("batch", selection.batches)):
        axis = step.axis(kind)
        if axis is not None and numbers is not None:
            count = step.shape[axis]
            shared = max(counted(problem, kind) // max(count, 1), 1)  # K may have fewer heads
            axes[axis + 2] = tuple(dict.fromkeys(n // shared for n in numbers))
    return tuple(axes)


def counted(problem: Problem, kind: str) -> int:
    """How many heads, or batches, there are; 0 where no axis counts them."""
    axis = {"head": -1, "batch": -2}[kind]
    return problem.leading[axis] if len(problem.leading) >= -axis else 0


def cut(step: Step, problem: Problem, selection: Selection) -> Step:
    """The heads and batches selected of a step that is held whole."""
    return step.part(taken(step.array, axes_of(step, problem, selection)), step.rows)


def taken(array: Array, axes: tuple[tuple[int, ...], ...]) -> Array:
    """The indexes along each leading axis; nothing is copied where they are all.

    >>> taken(np.arange(6).reshape(3, 1, 2), ((2, 0),)).tolist()
    [[[4, 5]], [[0, 1]]]
    """
    for axis, numbers in enumerate(axes):
        if numbers != tuple(range(array.shape[axis])):
            array = array.take(numbers, axis=axis)
    return array


def edges(count: int, room: int | None) -> list[int | None]:
    """The indexes that are shown of ``count``; None stands for those between the two edges.

    >>> edges(3, 5), edges(9, 4), edges(9, 1)
    ([0, 1, 2], [0, 1, None, 8], [0, None])
    """
    if room is None or count <= room:
        return list(range(count))
    last = max(room - 1, 1) // 2
    first = max(room - 1 - last, 1)
    return [*range(first), None, *range(count - last, count)]


def numbers_named(parts: Iterable[str], count: int, kind: str) -> tuple[int, ...]:
    """The heads or batches, of ``count``, that indexes, slices and ``all`` name.

    They keep the order in which they are named, each once.

    >>> numbers_named(["6", "0:2", "-1:"], 8, "head"), numbers_named(["all"], 3, "head")
    ((6, 0, 1, 7), (0, 1, 2))

    Raises UsageError for one that does not exist.
    """
    there = f"they are 0 to {count - 1}" if count else f"what is shown has no {kind} axis"
    if not count and kind == "head":
        there += "; --heads N splits the last axis into heads"
    found: dict[int, None] = {}
    for part in parts:
        if part.isdecimal():
            picked = range(count)[int(part) : int(part) + 1]
        else:
            bounds = (int(bound) if bound else None for bound in part.split(":"))
            picked = range(count) if part == "all" else range(count)[slice(*bounds)]
        if not picked:
            raise UsageError(f"--{kind}: there is no {kind} {part}; {there}")
        found |= dict.fromkeys(picked)
    return tuple(found)


def rows_named(text: str, count: int, labels: Labels, said: str = "--rows") -> Array:
    """The rows, of ``count``, that a text names by index, slice or label; in their own order.

    ``said`` is the option's name in an error.

    >>> rows_named("0:2,-1,sat", 5, ("The", "cat", "sat", "on", "mat")).tolist()
    [0, 1, 2, 4]

    Raises UsageError for a row that does not exist.
    """
    found: set[int] = set()
    for part in (part.strip() for part in text.split(",")):
        if labels is not None and part in labels:
            found |= {i for i, label in enumerate(labels) if label == part}
        elif match := _SLICE.fullmatch(part):
            start, stop, step = (int(bound) if bound else None for bound in match.groups())
            if step == 0:
                raise UsageError(f"{said} {part}: a step of 0 leads nowhere")
            found |= set(range(count)[start:stop:step])
        elif re.fullmatch(_NUMBER, part):
            if not -count <= int(part) < count:
                raise UsageError(f"{said}: there is no row {part}; there are {count}")
            found.add(int(part) % count)
        else:
            known = "" if labels is None else f"; the labels are {' '.join(labels[:20])}"
            raise UsageError(f"{said}: {part[:40]!r} is not an index, a slice or a label{known}")
    return np.array(sorted(found), dtype=np.intp)
