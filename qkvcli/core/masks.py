"""Which keys each query may see, by where it stands (`positions`) and by masks that were given."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from qkvcli.core.config import AttentionConfig
from qkvcli.core.operands import Array, Operand, Shape
from qkvcli.core.positions import Positions, lengths_of
from qkvcli.core.shapes import along, matrix_at
from qkvcli.errors import DataError, ShapeError

_LOOK = 2**20
"""How many numbers of a mask are looked at at a time."""


class Hidden(NamedTuple):
    """A mask that hides a key: its name, where the query stands, and what bounds it.

    ``bounds`` are a window's left and right, or the valid length; of other masks there are none.
    """

    mask: str
    position: int
    bounds: tuple[int | None, ...] = ()


class Reach(NamedTuple):
    """What some queries see.

    Keys from ``first`` to ``last`` are those that any of them may see, keys from
    ``all_from`` to ``all_to`` those that each of them sees.
    """

    first: int
    last: int
    all_from: int
    all_to: int


@dataclass(frozen=True, eq=False)
class Visibility:
    """Which keys each query may see, by all the masks together.

    ``sides`` is the window to the left and to the right. ``lengths`` (1, 1) or
    (B, 1, …, 1) says from which key on there is only padding. ``mask`` is the user's own,
    boolean or numbers, with (L_q or 1, L_k or 1) for its last axes; one that is shorter
    than the keys hides the rest.
    """

    positions: Positions
    causal: bool = False
    sides: tuple[int | None, int | None] = (None, None)
    lengths: Array | None = None
    mask: Array | None = None
    _reaches: dict[tuple[int, int], Reach] = field(default_factory=dict, init=False)

    @property
    def windowed(self) -> bool:
        """Whether there is a window."""
        return self.sides != (None, None)

    @property
    def widest(self) -> int | None:
        """How many keys a query sees at most by a window, which bounds both sides; else None."""
        left, right = self.sides
        ahead = min(right, 0) if self.causal and right is not None else 0 if self.causal else right
        return None if left is None or ahead is None else max(left + ahead + 1, 0)

    @property
    def hides(self) -> bool:
        """Whether there is anything to mask at all."""
        return bool(self.named_shapes)

    @property
    def named_shapes(self) -> tuple[tuple[str, Shape], ...]:
        """Each mask's name, as a title has it, and the shape that it broadcasts from."""
        keys = self.positions.keys
        whole = (*self.positions.offset.shape[:-2], len(self.positions.rows), keys)
        asked = [("causal mask", self.causal), ("window", self.windowed)]
        found = [(name, whole) for name, wanted in asked if wanted]
        if found:
            found[0] = (found[0][0] + self.positions.written, whole)
        if self.lengths is not None:
            batches = self.lengths.shape[:-1] if self.lengths.ndim > 2 else ()
            found.append(("valid length", (*batches, keys)))
        if self.mask is not None:
            found.append(("mask", (*self.mask.shape[:-1], keys)))
        return tuple(found)

    def span(self, part: slice) -> tuple[Array | None, Array | None]:
        """The first and the last key that some queries see by their positions, (…, n, 1).

        None where nothing bounds that side. The causal mask, the window and the valid
        length are defined only here.
        """
        left, right = self.sides
        last = []
        if self.causal:
            last.append(self.positions.of_queries(part))
        if right is not None:
            last.append(self.positions.of_queries(part, right))
        if self.lengths is not None:
            last.append(self.lengths - 1)
        first = None if left is None else self.positions.of_queries(part, -left)
        return first, reduce(np.minimum, last) if last else None

    @property
    def unseeing(self) -> int:
        """How many queries, of all batches together, see no key by their positions."""
        count, end = len(self.positions.rows), self.positions.keys - 1
        first, last = self.span(slice(0, count))
        lowest = np.zeros((count, 1), np.int64) if first is None else np.maximum(first, 0)
        highest = end if last is None else np.minimum(last, end)
        return int((lowest > highest).sum())

    def combined(self, part: slice, keys: slice) -> tuple[Array, Array | None]:
        """For some queries and keys: what may be seen, and what is added to the scores."""
        j, n = self.positions.of_keys(keys), len(self.positions.rows[part])
        first, last = self.span(part)
        sides = [*([] if last is None else [j <= last]), *([] if first is None else [j >= first])]
        visible = reduce(np.logical_and, sides) if sides else np.True_
        visible = np.broadcast_to(visible, np.broadcast_shapes(visible.shape, (n, len(j))))
        if self.mask is None:
            return visible, None
        own = self._own(self.mask, part, keys)
        if own.dtype == np.bool_:
            return visible & own, None
        return visible & ~np.isneginf(own), own  # −∞ hides: added to a score of ∞ it would be NaN

    def hiding(self, row: int, key: int) -> Iterator["Hidden"]:
        """The masks that hide a key from a row of a single matrix."""
        only = replace(self, causal=False, sides=(None, None), lengths=None, mask=None)
        position = int(self.positions.of_queries(slice(row, row + 1)).flat[0])
        lengths = () if self.lengths is None else (int(self.lengths.flat[0]),)
        masks: tuple[tuple[str, dict[str, Any], tuple[int | None, ...]], ...] = (
            ("causal mask", {"causal": self.causal}, ()),
            ("window", {"sides": self.sides}, self.sides),
            ("valid length", {"lengths": self.lengths}, lengths),
            ("mask", {"mask": self.mask}, ()),
        )
        for mask, alone, bounds in masks:
            visible, _ = replace(only, **alone).combined(slice(row, row + 1), slice(key, key + 1))
            if not visible.all():
                yield Hidden(mask, position, bounds)

    def reach(self, part: slice) -> Reach:
        """What some queries of a single matrix see by their positions."""
        known = self._reaches.get((part.start, part.stop))
        if known is None:
            first, last = self.span(part)
            end = self.positions.keys - 1
            known = Reach(
                0 if first is None else max(int(first.min()), 0),
                end if last is None else min(int(last.max()), end),
                0 if first is None else int(first.max()),
                end if last is None else int(last.min()),
            )
            self._reaches[part.start, part.stop] = known
        return known

    def sees_all(self, part: slice, keys: slice) -> bool:
        """Whether each of these queries sees each of these keys, as it is."""
        reach = self.reach(part)
        return self.mask is None and reach.all_from <= keys.start and keys.stop - 1 <= reach.all_to

    def for_rows(self, rows: Array) -> "Visibility":
        """That of some of the queries alone."""
        mask = self.mask
        if mask is not None and mask.shape[-2] != 1:
            mask = mask[..., rows, :]
        return replace(self, positions=self.positions.for_rows(rows), mask=mask)

    def for_axis(self, axis: int, numbers: tuple[int, ...]) -> "Visibility":
        """That of some indexes of a leading axis, which is counted from the end."""
        return replace(
            self,
            positions=self.positions.for_axis(axis, numbers),
            lengths=None if self.lengths is None else along(self.lengths, axis, numbers),
            mask=None if self.mask is None else along(self.mask, axis, numbers),
        )

    def for_matrix(self, index: tuple[int, ...]) -> "Visibility":
        """That of one matrix among the leading axes."""
        return replace(
            self,
            positions=self.positions.for_matrix(index),
            lengths=None if self.lengths is None else matrix_at(self.lengths, index),
            mask=None if self.mask is None else matrix_at(self.mask, index),
        )

    def _own(self, mask: Array, part: slice, keys: slice) -> Array:
        if mask.shape[-2] != 1:
            mask = mask[..., part, :]
        if mask.shape[-1] == 1 and self.positions.keys != 1:
            return np.broadcast_to(mask, (*mask.shape[:-1], keys.stop - keys.start))
        own = mask[..., keys]
        short = keys.stop - keys.start - own.shape[-1]
        if not short:
            return own
        hidden = False if own.dtype == np.bool_ else -np.inf
        return np.pad(own, [(0, 0)] * (own.ndim - 1) + [(0, short)], constant_values=hidden)


def visibility(
    config: AttentionConfig, shape: Shape, positions: Positions, mask: Operand | None = None
) -> Visibility:
    """What is visible in scores of a shape (…, L_q, L_k).

    Raises ShapeError or UsageError where a mask or the valid lengths don't fit the shape,
    DataError for a mask that may be meant in two ways.
    """
    lengths = lengths_of(config, shape)
    if lengths is not None and lengths.max(initial=0) > shape[-1]:
        raise ShapeError(f"valid length {lengths.max()} is more than the {shape[-1]} keys")
    own = None if mask is None else _checked(mask, shape)
    return Visibility(positions, config.causal, config.sides, lengths, own)


def _checked(mask: Operand, shape: Shape) -> Array:
    """The mask with two axes at least, if it broadcasts to scores of the shape."""
    array = mask.array if mask.array.ndim > 1 else mask.array.reshape(1, -1)
    keys = shape[-1] if array.shape[-1] not in (1, shape[-1]) else array.shape[-1]
    try:
        if array.shape[-1] > max(shape[-1], 1):
            raise ValueError
        if np.broadcast_shapes((*array.shape[:-1], keys), shape) != shape:
            raise ValueError
    except ValueError:
        what = f"{mask.described} and scores {shape}"
        raise ShapeError(
            f"{what}: the mask must broadcast to the scores{_hint(mask, shape)}"
        ) from None
    _check_meaning(mask)
    return array


def _hint(mask: Operand, shape: Shape) -> str:
    """How a mask of each batch is written, where this one looks like it."""
    batches, *own = mask.shape or (0,)
    if len(shape) < 3 or len(own) not in (1, 2) or batches != shape[0] or own[-1] != shape[-1]:
        return ""
    between = (1,) * (len(shape) - 1 - len(own))
    return f"; one for each batch is {(batches, *between, *own)}"


def _check_meaning(mask: Operand) -> None:
    """Raise DataError for numbers that may be meant as true and false."""
    kind = mask.array.dtype.kind
    if kind in "iu" or (kind == "f" and _zeros_and_ones(mask.array)):
        what = "0 and 1 would be added to the scores, and hide nothing"
        if kind != "f":
            what = "whole numbers may be meant as true and false, or to be added to the scores"
        raise DataError(f"{mask.described}: {what}; write true/false, or 0 and -inf")


def _zeros_and_ones(array: Array) -> bool:
    """Whether an array holds nothing but 0 and 1, and a 1 at all."""
    ones = False
    for i in range(0, array.size, _LOOK):
        part = array.flat[i : i + _LOOK]
        if not ((part == 0) | (part == 1)).all():
            return False
        ones = ones or bool(part.any())
    return ones
