"""An array, the names of its rows and columns, and where it came from."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Labels: TypeAlias = tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class Labelled:
    """An array with what a person calls it.

    ``rows`` and ``columns`` name the last two axes; ``name`` says which of its role's
    names it has ("scaled", among scores; "" where that is not known); ``origin`` says
    where it came from, in words that fit an error ("q.npy", "standard input", "seed 42").
    """

    array: Array
    rows: Labels = None
    columns: Labels = None
    name: str = ""
    origin: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return self.array.shape

    def described(self, role: str) -> str:
        """The array in an error's words.

        >>> import numpy as np
        >>> Labelled(np.zeros((4, 5)), origin="q.npy").described("query")
        'query (4, 5) from q.npy'
        """
        return f"{role} {self.shape}" + (f" from {self.origin}" if self.origin else "")
