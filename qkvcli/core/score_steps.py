"""What is done to scores before the softmax: each step written once, for any tile of them.

A tile is some queries' scores for some keys. `dense` hands over whole matrices, `blocks` a
block of keys at a time, and both go through the same list. What a step says of itself
(``linear``, ``shifts``, `ScoreStep.bound`) tells `blocks` what it may do ahead of time; a
new step that says nothing is computed as it is written. The model for this is PyTorch's
FlexAttention, whose ``score_mod`` and ``mask_mod`` are written once for every kernel.
"""

from copy import copy
from typing import ClassVar

import numpy as np

from qkvcli.core import attention
from qkvcli.core.masks import Visibility
from qkvcli.core.operands import Array, Shape
from qkvcli.core.positions import Positions
from qkvcli.core.shapes import along, matrix_at


class ScoreStep:
    """One step on the way from Q·Kᵀ to the softmax."""

    name: ClassVar[str]
    linear: ClassVar[bool] = False
    """Whether it may be done to the queries, before the product, with the same result."""
    shifts: ClassVar[bool] = False
    """Whether a number that is taken off the scores before it may as well be taken off after."""

    def formula(self, before: str) -> str:
        """What is computed from the step ``before``, as a title has it."""
        raise NotImplementedError

    def at(self, row: int, key: int) -> str:
        """The same for one score, which it writes as ``{}``."""
        return self.formula("{}")

    @property
    def added(self) -> tuple[Shape, ...]:
        """The shapes of what is added to the scores."""
        return ()

    @property
    def least(self) -> float:
        """How large what it adds is at the least, for each key of some query."""
        return 0.0

    def bound(self, largest: Array) -> Array:
        """How large a result can be, if no score is larger than ``largest`` (n,)."""
        return np.full_like(largest, np.inf)

    def bound_in(self, largest: Array, rows: slice, keys: slice) -> Array:
        """The same for the rows of a tile, if no score of theirs is larger than ``largest``."""
        return self.bound(largest)

    def skips(self, rows: slice, keys: slice) -> bool:
        """Whether it leaves a tile as it is."""
        return False

    def for_rows(self, rows: Array) -> "ScoreStep":
        """The step for some of the queries alone."""
        return self

    def for_axis(self, axis: int, numbers: tuple[int, ...]) -> "ScoreStep":
        """The step for some indexes of a leading axis, which is counted from the end."""
        return self

    def for_matrix(self, index: tuple[int, ...]) -> "ScoreStep":
        """The step for one matrix among the leading axes."""
        return self

    def __call__(self, scores: Array, rows: slice, keys: slice, out: Array | None = None) -> Array:
        """The step, done to a tile of scores (…, n, m); in place where ``out`` is the scores."""
        raise NotImplementedError


class Scale(ScoreStep):
    """Scores × a number; ``written`` is the number as a title has it."""

    name = "scaled"
    linear = True

    def __init__(self, factor: float, written: str) -> None:
        self.factor, self.written = factor, written

    def formula(self, before: str) -> str:
        return f"{before} × {self.written}"

    def bound(self, largest: Array) -> Array:
        return largest * abs(self.factor)

    def __call__(self, scores: Array, rows: slice, keys: slice, out: Array | None = None) -> Array:
        return attention.scaled(scores, self.factor, out)


class Softcap(ScoreStep):
    """Scores bent into ±C: C·tanh(scores / C) (Gemma 2 report, section 2)."""

    name = "capped"

    def __init__(self, cap: float) -> None:
        self.cap = cap

    def formula(self, before: str) -> str:
        return f"{self.cap:g}·tanh({before} / {self.cap:g})"

    def bound(self, largest: Array) -> Array:
        return np.minimum(largest, self.cap)

    def __call__(self, scores: Array, rows: slice, keys: slice, out: Array | None = None) -> Array:
        return attention.capped(scores, self.cap, out)


class Alibi(ScoreStep):
    """slope·(j − i) added, a slope for each head (Press et al., ALiBi, section 3).

    ``slopes`` is (H, 1, 1), ``ahead`` whether a query may see keys that stand after it.
    """

    name = "biased"
    shifts = True

    def __init__(self, slopes: Array, positions: Positions, ahead: bool) -> None:
        self.slopes, self.positions, self.ahead = slopes, positions, ahead

    def formula(self, before: str) -> str:
        return f"{before} + slope·(j − i){self.positions.written}"

    def at(self, row: int, key: int) -> str:
        place = int(self.positions.of_queries(slice(row, row + 1)).flat[0])
        distance = f"{key} {'−' if place >= 0 else '+'} {abs(place)}"
        return f"{{}} + {float(self.slopes.flat[0]):g}·({distance})"

    @property
    def least(self) -> float:
        places = self.positions.of_queries(slice(None))
        away = max(int(places.max(initial=0)) - self.positions.keys + 1, 0)
        return float(self.slopes.max(initial=0)) * away

    def bound_in(self, largest: Array, rows: slice, keys: slice) -> Array:
        farthest = keys.stop - 1 - self.positions.of_queries(rows)[..., 0]
        if not self.ahead:  # keys that a mask hides do not count
            farthest = np.minimum(farthest, 0)
        return largest + float(self.slopes.flat[0]) * farthest

    def for_rows(self, rows: Array) -> "Alibi":
        return Alibi(self.slopes, self.positions.for_rows(rows), self.ahead)

    def for_axis(self, axis: int, numbers: tuple[int, ...]) -> "Alibi":
        own = along(self.slopes, axis, numbers)
        return Alibi(own, self.positions.for_axis(axis, numbers), self.ahead)

    def for_matrix(self, index: tuple[int, ...]) -> "Alibi":
        own = matrix_at(self.slopes, index)
        return Alibi(own, self.positions.for_matrix(index), self.ahead)

    def __call__(self, scores: Array, rows: slice, keys: slice, out: Array | None = None) -> Array:
        places = self.positions.of_queries(rows), self.positions.of_keys(keys)
        return attention.biased(scores, self.slopes, *places, out)


class Mask(ScoreStep):
    """A bias added, and −∞ where a query may not see a key."""

    name = "masked"
    shifts = True

    def __init__(self, visibility: Visibility) -> None:
        self.visibility = visibility

    def formula(self, before: str) -> str:
        return " + ".join([before, *(name for name, _ in self.visibility.named_shapes)])

    def at(self, row: int, key: int) -> str:
        _, bias = self.visibility.combined(slice(row, row + 1), slice(key, key + 1))
        return "{}" if bias is None else f"{{}} + {float(bias.flat[0]):g} (mask)"

    @property
    def added(self) -> tuple[Shape, ...]:
        return tuple(shape for _, shape in self.visibility.named_shapes)

    def bound(self, largest: Array) -> Array:
        mask = self.visibility.mask
        biased = mask is not None and mask.dtype != np.bool_
        return super().bound(largest) if biased else largest

    def seeing(self, visibility: Visibility) -> "Mask":
        """The same with another visibility."""
        other = copy(self)
        other.visibility = visibility
        return other

    def for_rows(self, rows: Array) -> "Mask":
        return self.seeing(self.visibility.for_rows(rows))

    def for_axis(self, axis: int, numbers: tuple[int, ...]) -> "Mask":
        return self.seeing(self.visibility.for_axis(axis, numbers))

    def for_matrix(self, index: tuple[int, ...]) -> "Mask":
        return self.seeing(self.visibility.for_matrix(index))

    def skips(self, rows: slice, keys: slice) -> bool:
        return self.visibility.sees_all(rows, keys)

    def __call__(self, scores: Array, rows: slice, keys: slice, out: Array | None = None) -> Array:
        visible, bias = self.visibility.combined(rows, keys)
        return attention.masked(scores, visible, bias, out)
