"""What somebody may have done in place of a problem: one hypothesis."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from qkvcli.core.dense import output_arrays, output_of, score_arrays, weights_of
from qkvcli.core.operands import Array
from qkvcli.core.problem import Problem

Softmax: TypeAlias = Callable[[Problem, Array], Array]
"""How weights come from the last scores of a problem."""


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """What may have been done instead.

    ``said`` fits after "It equals this", and ``meaning`` says what that comes to. ``mixed`` is how
    the weights and the values make the output. ``whole`` is true where a row of it needs the other
    rows, ``joins`` where it needs those of all heads.
    """

    said: str
    meaning: str
    problem: Problem
    softmax: Softmax = weights_of
    mixed: Callable[[Problem, Array], Array] = output_of
    whole: bool = False
    joins: bool = False

    def arrays(self, problem: Problem, until: str) -> dict[str, Array]:
        """The steps of a part of its problem."""
        found: dict[str, Array] = {}
        if problem.weights is None:
            found |= score_arrays(problem)
            if until == "scores":
                return found
            found["weights"] = self.softmax(problem, found[problem.last_score])
        weights = found.get("weights") if problem.weights is None else problem.weights.array
        if until == "output" and problem.value is not None and weights is not None:
            found |= output_arrays(problem, weights, mixed=self.mixed)
        return found
