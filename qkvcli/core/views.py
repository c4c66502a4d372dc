"""What is shown of the steps: some rows, heads and batches, and no others computed."""

import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from qkvcli.core.compute import SIZES, Advance, Sizes, silent, steps_of
from qkvcli.core.operands import Array, Labels
from qkvcli.core.problem import Problem
from qkvcli.core.steps import Outline, Stage, Step
from qkvcli.errors import UsageError

_NUMBER = r"(-?\d{1,18})"
_SLICE = re.compile(rf"{_NUMBER}?:{_NUMBER}?(?::{_NUMBER})?")


class Selection(NamedTuple):
    """Which rows (L_q), heads and batches are wanted; None for all of them."""

    rows: Array | None = None
    heads: tuple[int, ...] | None = None
    batches: tuple[int, ...] | None = None


class View(NamedTuple):
    """A part of a step.

    ``step`` says what the whole is; ``array`` holds the part. ``rows`` are the numbers of
    its rows (None: all), ``axes`` the indexes along each leading axis.
    """

    step: Outline
    array: Array
    rows: Array | None
    axes: tuple[tuple[int, ...], ...]

    @classmethod
    def whole(cls, step: Step) -> "View":
        """All of a step."""
        return cls(step, step.array, None, tuple(tuple(range(n)) for n in step.shape[:-2]))

    def matrices(self) -> Iterator[tuple[tuple[int, ...], Array]]:
        """Each matrix, after its index in the whole."""
        for place in np.ndindex(self.array.shape[:-2]):
            index = tuple(axis[i] for axis, i in zip(self.axes, place, strict=True))
            yield index, self.array[place]


_HELD = 2**26
"""With up to so many scores among what is looked at, its steps are computed at once: a terminal's
rows of a million keys. (Apart from each other, the steps would each begin with Q·Kᵀ.)"""


def views(
    problem: Problem, until: Stage, names: tuple[str, ...], selection: Selection
) -> Iterator[View]:
    """The steps ``names``, with the rows, heads and batches selected, and no others computed."""
    whole = {outline.name: outline for outline in problem.outlines(until)}
    for step in selected(problem, until, names, selection, SIZES._replace(held=_HELD)):
        outline = whole[step.name]
        of_queries = step.name not in ("key", "value")
        rows = selection.rows if of_queries else None
        yield View(outline, step.array, rows, axes_of(outline, selection))


def selected(
    problem: Problem,
    until: Stage,
    names: tuple[str, ...],
    selection: Selection,
    sizes: Sizes = SIZES,
    advance: Advance = silent,
) -> list[Step]:
    """The same as steps of their own, computed when they are looked at.

    They keep every axis, also one of which a single index was selected. Rows that were
    selected have their numbers for labels, where they had none.
    """
    part = problem
    if selection.rows is not None:
        part = part.with_rows(selection.rows)
    if selection.batches is not None:
        part = part.with_batches(selection.batches)
    steps = partial(steps_of, sizes=sizes, advance=advance)
    if selection.heads is None:
        found = steps(part, until)
    elif problem.merged_heads is None or until != "output":
        found = steps(part.with_heads(selection.heads), until)
    else:  # the output merges all heads, also where few of the weights are shown
        found = (*steps(part.with_heads(selection.heads), "weights"), steps(part)[-1])
    projected = {step.name for step in problem.projections}
    return [
        _taken(step, selection) if step.name in projected else step
        for step in found
        if step.name in names
    ]


def axes_of(step: Outline, selection: Selection) -> tuple[tuple[int, ...], ...]:
    """The indexes along each leading axis that are selected."""
    chosen = {step.axis("head"): selection.heads, step.axis("batch"): selection.batches}
    axes = []
    for axis in range(-len(step.shape), -2):
        numbers = chosen.get(axis)
        count = step.shape[axis]  # a projection may have fewer than the scores
        axes.append(tuple(n for n in numbers if n < count) if numbers else tuple(range(count)))
    return tuple(axes)


def _taken(step: Step, selection: Selection) -> Step:
    """The heads and batches selected of a projection, which is held whole."""
    array = step.array
    for axis, numbers in enumerate(axes_of(step, selection)):
        if numbers != tuple(range(array.shape[axis])):
            array = array.take(numbers, axis=axis)
    return step.part(array, step.rows)


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
