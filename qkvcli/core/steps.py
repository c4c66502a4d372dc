"""What attention went through: named steps, each an array with how it came about."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt

from qkvcli.core.arrays import Array, Labels

SCORES = ("scores", "scaled", "capped", "masked")
"""The steps up to the softmax, in their order."""
EVERY = ("query", "key", "value", *SCORES, "weights", "output")


class Written(Protocol):
    """A step as a writer sees it: its rows come in parts, and need not all be held."""

    @property
    def name(self) -> str:
        """What the step is called."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its numbers."""

    @property
    def rows(self) -> Labels:
        """The names of the axis −2."""

    @property
    def columns(self) -> Labels:
        """The names of the last axis."""

    def parts(self) -> Iterator[Array]:
        """All rows in their order, in parts (n, columns)."""


@dataclass(frozen=True, eq=False)
class Step:
    """One intermediate matrix.

    ``formula`` says how it came from the steps before ("softmax(scores)"), ``operands``
    the shapes that went in, as they stand in the formula. ``rows`` and ``columns`` name
    the last two axes of the whole. ``array`` holds all of it, or only the rows ``picked``
    of the ``whole`` shape. Of the leading axes the last counts heads, where ``heads``, and
    those before it batches. NumPy takes a step for its array.
    """

    name: str
    formula: str
    operands: tuple[tuple[int, ...], ...]
    array: Array
    rows: Labels = None
    columns: Labels = None
    picked: Array | None = None
    whole: tuple[int, ...] = ()
    heads: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole."""
        return self.whole or self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its numbers."""
        return self.array.dtype

    def axis(self, kind: str) -> int | None:
        """Which axis, from the end, counts the "head" or the "batch"; None where none does."""
        axis = {"head": -3 if self.heads else 0, "batch": -4 if self.heads else -3}[kind]
        return axis if axis and len(self.shape) >= -axis else None

    def parts(self) -> Iterator[Array]:
        """All rows in their order, as one part (n, columns)."""
        yield self.array.reshape(int(np.prod(self.array.shape[:-1])), self.array.shape[-1])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.array, dtype=dtype, copy=copy)


@dataclass(frozen=True, eq=False)
class Flow:
    """A step that is computed while it is written, since it is too large to hold."""

    step: Step
    compute: Callable[[], Iterator[Array]]

    @property
    def name(self) -> str:
        """What the step is called."""
        return self.step.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole."""
        return self.step.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its numbers."""
        return self.step.dtype

    @property
    def rows(self) -> Labels:
        """The names of the axis −2."""
        return self.step.rows

    @property
    def columns(self) -> Labels:
        """The names of the last axis."""
        return self.step.columns

    def parts(self) -> Iterator[Array]:
        """All rows in their order, in parts (n, columns)."""
        return self.compute()


class Steps(Sequence[Step]):
    """The steps in the order in which they were taken, also by name.

    >>> steps = Steps([Step("scores", "Q·Kᵀ", ((1, 2), (2, 1)), np.ones((1, 1)))])
    >>> steps.names, steps["scores"].formula, steps.scores
    (('scores',), 'Q·Kᵀ', array([[1.]]))
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)

    @property
    def names(self) -> tuple[str, ...]:
        """What the steps are called, in order."""
        return tuple(step.name for step in self._steps)

    @overload
    def __getitem__(self, which: int | str) -> Step: ...
    @overload
    def __getitem__(self, which: slice) -> "Steps": ...
    def __getitem__(self, which: int | str | slice) -> "Step | Steps":
        if isinstance(which, slice):
            return Steps(self._steps[which])
        if not isinstance(which, str):
            return self._steps[which]
        for step in self._steps:
            if step.name == which:
                return step
        raise KeyError(f"no step {which!r}; there are {', '.join(self.names)}")

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)

    def __repr__(self) -> str:
        return f"Steps({', '.join(f'{step.name} {step.array.shape}' for step in self)})"

    @property
    def scores(self) -> Array:
        """The dot products Q·Kᵀ, (…, L_q, L_k)."""
        return self["scores"].array

    @property
    def weights(self) -> Array:
        """The softmax over the keys, (…, L_q, L_k)."""
        return self["weights"].array

    @property
    def output(self) -> Array:
        """The mixed values, (…, L_q, d_v)."""
        return self["output"].array
