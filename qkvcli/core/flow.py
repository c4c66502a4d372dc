"""Results on their way to a file: held where that is little, else computed as they are written."""

from collections.abc import Callable, Iterator

import numpy as np

from qkvcli.core.arrays import Array
from qkvcli.core.engine import Stage, take
from qkvcli.core.prepared import Prepared
from qkvcli.core.steps import Flow, Step, Written

HELD = 2**20
"""Scores up to this many are computed at once, and held."""

Advance = Callable[[int, int], None]
"""Told how much of how much is done."""


def flows(
    work: Prepared, until: Stage, advance: Advance = lambda done, total: None
) -> list[Written]:
    """The steps for a writer, whose rows come in parts."""
    if work.size <= HELD:
        return list(take(work, until))
    outline = take(work, until, rows=np.arange(0))
    # a projection has no rows picked: it is L·d, and here already
    return [step if step.picked is None else _flow(work, step, advance) for step in outline]


def _flow(work: Prepared, step: Step, advance: Advance) -> Flow:
    def compute() -> Iterator[Array]:
        from qkvcli.core.stream import output, rows

        if step.name == "output":
            return output(work, step, advance)
        return rows(work, step, "weights" if step.name == "weights" else "scores", advance)

    return Flow(step, compute)
