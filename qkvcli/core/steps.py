"""The steps of attention: each has a name, a formula and a shape, and numbers when looked at."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from qkvcli.core.config import OF_KEYS, SCORES
from qkvcli.core.dtypes import Float
from qkvcli.core.naming import Names
from qkvcli.core.operands import Array, Labels, Shape

if TYPE_CHECKING:
    import numpy.typing as npt

Parts: TypeAlias = Iterator[Array]
"""The rows of a matrix in their order, in parts (n, columns)."""
_MOVED = 2**20
"""So many numbers are moved at a time: they are copied on the way."""


@dataclass(frozen=True, eq=False)
class Outline:
    """What is known of a step before it is computed.

    ``formula`` says how it comes from the steps before ("softmax(scores)"), ``terms`` the
    shapes that go in with the signs between them, as they stand in the formula. ``rows``
    and ``columns`` label the last two axes. Of the leading axes the last counts heads,
    where it ``has_heads``, and those before it batches. Of weights, ``sinks`` says that rows
    sum to less than 1, since a sink has the rest. ``kind`` is the type that the numbers were
    rounded to: "bfloat16", which ``dtype`` only carries, or the name of ``dtype``.
    """

    name: str
    formula: str
    terms: tuple[Shape | str, ...]
    shape: Shape
    dtype: np.dtype[Any]
    rows: Labels = None
    columns: Labels = None
    has_heads: bool = True
    sinks: bool = False
    kind: str = ""

    def __post_init__(self) -> None:
        """Take the name of the dtype, where nothing else is said."""
        if not self.kind:
            object.__setattr__(self, "kind", self.dtype.name)

    @classmethod
    def typed(
        cls,
        name: str,
        formula: str,
        terms: "tuple[Shape | str, ...]",
        shape: Shape,
        dtype: Float,
        rows: Labels = None,
        columns: Labels = None,
        has_heads: bool = True,
    ) -> "Outline":
        """The outline of a step in the dtype of the results."""
        carrier, kind = dtype.carrier, dtype.name
        return cls(name, formula, terms, shape, carrier, rows, columns, has_heads, kind=kind)

    def axis(self, kind: str) -> int | None:
        """Which axis, from the end, counts the "head" or the "batch"; None where none does."""
        axis = {"head": -3 if self.has_heads else 0, "batch": -4 if self.has_heads else -3}[kind]
        return axis if axis and len(self.shape) >= -axis else None

    @property
    def of_queries(self) -> bool:
        """Whether each of its rows is a query's: not those of keys and values."""
        return self.name not in OF_KEYS

    @property
    def columns_are_keys(self) -> bool:
        """Whether each of its columns is a key's: of scores and weights, and what is between."""
        return self.name in (*SCORES, "weights")

    @cached_property
    def row_names(self) -> Names:
        """What the rows are called, each by a name of its own."""
        return Names(self.rows, self.shape[-2])

    @cached_property
    def column_names(self) -> Names:
        """What the columns are called."""
        return Names(self.columns, self.shape[-1])

    @property
    def count(self) -> int:
        """How many rows there are in all the matrices together."""
        return math.prod(self.shape[:-1])

    def computed_by(self, make: Callable[[], Parts]) -> "Step":
        """The step, whose parts ``make`` computes."""
        return Step(**self._known(), make=make)

    def _known(self) -> dict[str, Any]:
        return {known.name: getattr(self, known.name) for known in fields(Outline)}


@dataclass(frozen=True, eq=False)
class Step(Outline):
    """One intermediate matrix: held, or computed when its numbers are looked at.

    NumPy takes a step for its array.

    >>> step = Step.held("weights", np.array([[0.25, 0.75]]), formula="softmax(scores)")
    >>> step
    Step(weights = softmax(scores), (1, 2) float64)
    >>> np.asarray(step).sum()
    np.float64(1.0)
    """

    make: Callable[[], Parts] = field(default=lambda: iter(()), repr=False)

    @classmethod
    def held(cls, name: str, array: Array, formula: str = "", **known: Any) -> "Step":
        """A step whose array is here already."""
        outline = Outline(name, formula, known.pop("terms", ()), array.shape, array.dtype, **known)
        return _held(outline, array)

    def part(self, array: Array, rows: Labels) -> "Step":
        """A part of the step, which is held, with its row labels."""
        known = self._known() | {"shape": array.shape, "rows": rows}
        return _held(Outline(**known), array)

    def rows_of(self, numbers: Array, labels: Labels) -> "Step":
        """Some rows of the step, taken when they are looked at, with their labels."""
        shape = (*self.shape[:-2], len(numbers), self.shape[-1])
        outline = Outline(**self._known() | {"shape": shape, "rows": labels})
        return outline.computed_by(lambda: iter([flat_rows(self.array[..., numbers, :])]))

    def tokens_first(self) -> "Step":
        """The step with its tokens before its heads, (…, L, H, d), moved while it is read.

        Its rows are heads then, and have no labels.

        >>> step = Step.held("output", np.arange(4).reshape(2, 2, 1), rows=("the", "cat"))
        >>> step.tokens_first().array.ravel().tolist(), step.tokens_first().rows
        ([0, 2, 1, 3], None)
        """
        *leading, heads, rows, width = self.shape
        at_once = max(_MOVED // max(heads * width, 1), 1)

        def parts() -> Parts:
            for place in np.ndindex(*leading):
                whole = self.array[place]  # computed once, at the first look
                for first in range(0, rows, at_once):
                    yield flat_rows(whole[:, first : first + at_once].swapaxes(0, 1))

        shape = (*leading, rows, heads, width)
        return Outline(**self._known() | {"shape": shape, "rows": None}).computed_by(parts)

    @cached_property
    def array(self) -> Array:
        """All of it, computed at the first look and held from then on."""
        parts = self.make()
        first = next(parts, None)
        if first is not None and len(first) == self.count:
            return first.reshape(self.shape)
        whole = np.empty(self.shape, self.dtype)
        flat = flat_rows(whole)
        done = 0
        while first is not None:
            flat[done : done + len(first)] = first
            done += len(first)
            first = next(parts, None)
        return whole

    def parts(self) -> Parts:
        """All rows in their order, in parts (n, columns); not held, unless they are already."""
        if "array" in vars(self):
            return iter([flat_rows(self.array)])
        return self.make()

    def __getitem__(self, index: Any) -> Any:
        """A part of the array, by NumPy's indexing."""
        return self.array[index]

    def __array__(self, dtype: "npt.DTypeLike | None" = None, copy: bool | None = None) -> Array:
        return np.array(self.array, dtype=dtype, copy=copy)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the step with its numbers, which are computed first."""
        return _held, (Outline(**self._known()), self.array)

    def __repr__(self) -> str:
        return f"Step({self.name} = {self.formula}, {self.shape} {self.kind})"


def flat_rows(array: Array) -> Array:
    """The rows of all the matrices of an array, one below the other: (n, columns)."""
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


def _held(outline: Outline, array: Array) -> Step:
    return outline.computed_by(lambda: iter([flat_rows(array)]))
