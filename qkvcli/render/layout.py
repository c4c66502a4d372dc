"""How much of a step is shown: which matrices, which rows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qkvcli.core.arrays import Array
from qkvcli.core.steps import Step
from qkvcli.render.numbers import DIGITS


@dataclass(frozen=True)
class Room:
    """How much is shown: columns of text, lines (None: no bound), decimals.

    ``full`` shows every row and column, in several grids where one is too wide; ``plain``
    keeps to ASCII; ``heads`` and ``batches`` are those to show (None: all).
    """

    width: int | None = None
    height: int | None = None
    digits: int = DIGITS
    full: bool = False
    plain: bool = False
    heads: tuple[int, ...] | None = None
    batches: tuple[int, ...] | None = None

    def indexes(self, step: Step) -> Iterator[tuple[int, ...]]:
        """Which matrices of a step to show; what it has no axis for chooses none of them out.

        >>> list(Room(heads=(1,)).indexes(Step("scores", "", (), np.ones((2, 3, 1, 1)))))
        [(0, 1), (1, 1)]
        """
        wanted = {step.axis("head"): self.heads, step.axis("batch"): self.batches}
        for index in np.ndindex(step.shape[:-2]):
            if all(
                numbers is None or axis is None or index[axis + 2] in numbers
                for axis, numbers in wanted.items()
            ):
                yield index

    @property
    def ellipsis(self) -> str:
        """What stands where something is left out."""
        return "..." if self.plain else "…"


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


def gaps(picked: Array, count: int) -> list[int | None]:
    """The rows picked of ``count``; None stands for those that are left out.

    >>> gaps(np.array([0, 1, 8]), 9), gaps(np.array([4]), 9)
    ([0, 1, None, 8], [None, 4, None])
    """
    shown: list[int | None] = []
    before = -1
    for i in picked.tolist():
        shown += [i] if i == before + 1 else [None, i]
        before = i
    return shown if before == count - 1 else [*shown, None]
