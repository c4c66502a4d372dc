"""Steps that are computed matrix by matrix, all steps of one head at once."""

from __future__ import annotations  # what is only named there is not imported

from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from qkvcli.core import attention
from qkvcli.core.config import SCORES, Stage
from qkvcli.core.dense import dense
from qkvcli.core.operands import Array, Shape
from qkvcli.core.problem import Problem
from qkvcli.core.steps import Outline, Parts, Step, flat_rows

if TYPE_CHECKING:
    from threading import Event

Result = TypeVar("Result")

TOGETHER = 2**26
"""So many scores are computed at once, with the steps that follow them: a terminal's rows of a
million keys. (Apart from each other, the steps would each begin with Q·Kᵀ.)"""


class Together:
    """Steps up to the output that are computed matrix by matrix, all steps of one at once.

    ``names`` are those that are wanted; the output may have heads that are to be ``merged``.
    ``size`` is how many numbers of a matrix are held at a time.
    """

    def __init__(self, problem: Problem, names: tuple[str, ...]) -> None:
        self.names, self.leading, self.merged = names, problem.shape[:-2], problem.merged_heads
        self.size = prod(problem.shape[-2:]) * (2 + len(problem.score_steps))
        self._problem = problem.apart()
        self._until: Stage = "output" if "output" in names else "weights"
        if not {"output", "weights"} & set(names):
            self._until = "scores"
        self._only: dict[str, Array] | None = None  # where there is one matrix
        self._outputs: dict[Shape, Array] = {}

    @classmethod
    def of(
        cls, problem: Problem, until: Stage, names: tuple[str, ...], held: int
    ) -> Together | None:
        """What computes the steps ``names`` of a problem so; None where another way is better.

        That is where all is little (``held`` scores), where a single matrix is too much, and
        where the output needs more than one matrix.
        """
        apart = not problem.output_steps and problem.leading == problem.shape[:-2]
        computed = {outline.name for outline in problem.outlines(until)}
        wanted = {*SCORES, "weights", *(("output",) if apart else ())} & computed & set(names)
        if not apart and until == "output" and problem.size <= TOGETHER:
            return None
        if problem.size <= held or prod(problem.shape[-2:]) > TOGETHER or not wanted:
            return None
        return cls(problem, tuple(wanted))

    def at(self, place: Shape) -> dict[str, Array]:
        """The steps of a matrix, by name. Held are a single matrix, and all that is of outputs."""
        if self._only is not None:
            return self._only
        found = dense(self._problem.with_matrix(place), self._until)
        found = {name: found[name] for name in self.names}
        if "output" in found and self.merged is not None:
            self._outputs[place] = found["output"]
        if prod(self.leading) == 1:
            self._only = found
        return found

    def part(self, outline: Outline) -> Step:
        """One of the steps, as it is known, with what computes it."""
        rows = self._merged if self.merges(outline) else partial(self._rows, outline.name)
        return outline.computed_by(rows)

    def merges(self, outline: Outline) -> bool:
        """Whether a step has no matrices of single heads: the output, where those are joined."""
        return self.merged is not None and outline.name == "output"

    def _rows(self, name: str) -> Parts:
        return (self.at(place)[name] for place in np.ndindex(*self.leading))

    def _merged(self) -> Parts:
        """All of the output, its heads side by side; what is missing is computed."""

        def keep(place: Shape) -> None:
            if place not in self._outputs:
                self.at(place)

        for _ in by_place(self, keep):
            pass
        heads = np.stack([self._outputs[place] for place in np.ndindex(*self.leading)])
        yield flat_rows(attention.merge_heads(heads.reshape(*self.leading, *heads.shape[-2:])))


def by_place(together: Together, work: Callable[[Shape], Result]) -> Iterator[Result]:
    """``work`` on each place of a matrix, in their order: on all cores, if those hold little."""
    from threading import BoundedSemaphore

    from qkvcli.core.threads import check, ordered

    room = BoundedSemaphore(max(TOGETHER // max(together.size, 1), 1))

    def job(place: Shape, stop: Event) -> Result:
        with room:
            check(stop)
            return work(place)

    return ordered(job, list(np.ndindex(*together.leading)))
