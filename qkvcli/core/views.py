"""What is shown of the steps: some rows, heads and batches, and no others computed."""

from __future__ import annotations  # what is only named there is not imported

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qkvcli.core.compute import SIZES, Advance, Sizes, silent, steps_of
from qkvcli.core.config import ORDER, Stage
from qkvcli.core.operands import Array, Labels
from qkvcli.core.problem import Problem
from qkvcli.core.steps import Outline, Step
from qkvcli.errors import UsageError

if TYPE_CHECKING:
    from qkvcli.core.pieces import Crew

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


class Matrix(NamedTuple):
    """One matrix of a view: where it is in the whole, its numbers, and which are hidden."""

    place: tuple[int, ...]
    array: Array
    hidden: Array | None = None


class View(NamedTuple):
    """A part of a step.

    ``step`` says what the whole is; ``array`` holds the part. ``rows`` are the numbers of
    its rows (None: all), and where they have ``gaps`` those between were left out for want of
    room; ``axes`` are the indexes along each leading axis. ``hidden`` (of weights, and in
    pictures of scores) is true where a key may not be seen, or None.
    """

    step: Outline
    array: Array
    rows: Array | None
    axes: tuple[tuple[int, ...], ...]
    gaps: bool = False
    hidden: Array | None = None

    @classmethod
    def whole(cls, step: Step, hidden: Array | None = None) -> View:
        """All of a step."""
        axes = tuple(tuple(range(n)) for n in step.shape[:-2])
        return cls(step, step.array, None, axes, hidden=hidden)

    def matrices(self) -> Iterator[Matrix]:
        """Each matrix, after its index in the whole."""
        for place in np.ndindex(self.array.shape[:-2]):
            index = tuple(axis[i] for axis, i in zip(self.axes, place, strict=True))
            hidden = None if self.hidden is None else self.hidden[place]
            yield Matrix(index, self.array[place], hidden)


_HELD = 2**26
"""With up to so many scores among what is looked at, its steps are computed at once: a terminal's
rows of a million keys. (Apart from each other, the steps would each begin with Q·Kᵀ.)"""


def views(
    problem: Problem, until: Stage, names: tuple[str, ...], selection: Selection
) -> Iterator[View]:
    """The steps ``names``, with the rows, heads and batches selected, and no others computed."""
    whole = {outline.name: outline for outline in outlines(problem, until, selection)}
    for step in selected(problem, until, names, selection, SIZES._replace(held=_HELD)):
        outline = whole[step.name]
        rows = selection.rows if outline.of_queries else None
        view = View(outline, step.array, rows, axes_of(outline, problem, selection), selection.gaps)
        if step.name == "weights" and problem.weights is None:
            view = view._replace(hidden=selection.of(problem).hidden)
        yield view


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
