"""What is shown of the steps: some rows, heads and batches, and no others computed."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from qkvcli.core.dense import dense
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

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return self.rows is None and self.heads is None and self.batches is None


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

    def alone(self, selection: Selection) -> Step:
        """The part as a step of its own; an axis of which one index was chosen goes."""
        chosen = (("head", selection.heads), ("batch", selection.batches))
        axes = (self.step.axis(kind) for kind, numbers in chosen if numbers and len(numbers) == 1)
        labels = self.step.rows
        if labels is not None and self.rows is not None:
            labels = tuple(labels[i] for i in self.rows.tolist())
        gone = (axis for axis in axes if axis is not None and self.array.shape[axis] == 1)
        array = self.array.squeeze(tuple(gone))
        return Step.held(
            self.step.name, array, self.step.formula, rows=labels, columns=self.step.columns
        )


def views(
    problem: Problem, until: Stage, names: tuple[str, ...], selection: Selection
) -> list[View]:
    """The steps ``names``, with the rows, heads and batches selected, and no others computed."""
    part = problem
    if selection.rows is not None:
        part = part.with_rows(selection.rows)
    if selection.batches is not None:
        part = part.with_batches(selection.batches)
    if selection.heads is None:
        found = dense(part, until)
    elif problem.merged_heads is None or until != "output":
        found = dense(part.with_heads(selection.heads), until)
    else:  # the output merges all heads, also where few of the weights are shown
        found = dense(part.with_heads(selection.heads), "weights") if names != ("output",) else {}
        found["output"] = dense(part)["output"]
    outlines = (outline for outline in problem.outlines(until) if outline.name in names)
    return [_view(outline, found[outline.name], selection) for outline in outlines]


def _view(step: Outline, array: Array, selection: Selection) -> View:
    chosen = {step.axis("head"): selection.heads, step.axis("batch"): selection.batches}
    axes = []
    for axis in range(-len(step.shape), -2):
        numbers = chosen.get(axis)
        if numbers is not None and isinstance(step, Step):  # a projection, which is held whole
            numbers = tuple(n for n in numbers if n < step.shape[axis])  # it may have fewer
            array = array.take(numbers, axis=axis)
        axes.append(tuple(range(step.shape[axis])) if numbers is None else numbers)
    of_queries = step.name not in ("key", "value")
    return View(step, array, selection.rows if of_queries else None, tuple(axes))


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
