"""Which keys each query may see."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from qkvcli.core.arrays import Array, Labelled
from qkvcli.core.description import Attention
from qkvcli.errors import ShapeError, UsageError


@dataclass(frozen=True, eq=False)
class Frame:
    """Where the queries stand among the keys, and what is hidden from them.

    Query i stands at place i + ``offset``. ``offset`` and ``lengths`` are one number, or
    one for each batch in the shape (B, 1, …, 1) that broadcasts with the scores. ``mask``
    is the user's own, boolean or numbers, with (L_q or 1, L_k or 1) for its last axes;
    one that is shorter than the keys hides the rest.
    """

    attention: Attention
    keys: int
    offset: Array
    lengths: Array | None = None
    mask: Array | None = None

    @property
    def hides(self) -> bool:
        """Whether there is anything to mask at all."""
        return self.attention.places or self.lengths is not None or self.mask is not None

    def parts(self, rows: Array, keys: slice) -> Iterator[tuple[str, Array]]:
        """Each mask by the name that a title gives it, for some queries and some keys.

        Boolean ones say what may be seen; numbers are to be added.
        """
        place = rows[:, None] + self.offset  # (…, n, 1)
        j = np.arange(keys.start, keys.stop)  # (m,)
        if self.attention.causal:
            yield "causal mask", j <= place
        if self.attention.window is not None:
            left, right = self.attention.window
            near = np.ones(np.broadcast_shapes(place.shape, j.shape), dtype=np.bool_)
            if left is not None:
                near &= place - left <= j
            if right is not None:
                near &= j <= place + right
            yield "window", near
        if self.lengths is not None:
            yield "valid length", j < self.lengths
        if self.mask is not None:
            yield "mask", self._own(self.mask, rows, keys)

    def combined(self, rows: Array, keys: slice) -> tuple[Array, Array | None]:
        """What may be seen, and what is added to it, by all the masks together."""
        visible = np.ones((len(rows), keys.stop - keys.start), dtype=np.bool_)
        bias = None
        for _, part in self.parts(rows, keys):
            if part.dtype == np.bool_:
                visible = visible & part
            else:  # −∞ hides: added to a score of ∞ it would be NaN
                visible = visible & ~np.isneginf(part)
                bias = part
        return visible, bias

    def bounds(self, rows: slice) -> tuple[int, int]:
        """The first and the last key that any of these queries may see, by their places.

        For one batch: ``offset`` and ``lengths`` are single numbers.
        """
        left, right = self.attention.window or (None, None)
        first, last = 0, self.keys - 1
        if left is not None:
            first = max(first, rows.start + int(self.offset) - left)
        if self.attention.causal:
            right = 0 if right is None else min(right, 0)
        if right is not None:
            last = min(last, rows.stop - 1 + int(self.offset) + right)
        if self.lengths is not None:
            last = min(last, int(self.lengths) - 1)
        return first, last

    def all_seen(self, rows: slice, keys: slice) -> bool:
        """Whether each of these queries sees each of these keys, as it is. For one batch."""
        if self.mask is not None:
            return False
        left, right = self.attention.window or (None, None)
        if self.attention.causal:
            right = 0 if right is None else min(right, 0)
        return (
            (left is None or keys.start >= rows.stop - 1 + int(self.offset) - left)
            and (right is None or keys.stop - 1 <= rows.start + int(self.offset) + right)
            and (self.lengths is None or keys.stop <= int(self.lengths))
        )

    def at(self, index: tuple[int, ...]) -> "Frame":
        """The frame of one matrix among the leading axes."""

        def one(array: Array, kept: int) -> Array:
            leading = array.shape[: array.ndim - kept]
            place = index[len(index) - len(leading) :]
            at = tuple(0 if n == 1 else i for n, i in zip(leading, place, strict=True))
            matrix: Array = array[at]
            return matrix

        return replace(
            self,
            offset=self.offset if self.offset.ndim == 0 else one(self.offset, 2).reshape(()),
            lengths=self.lengths
            if self.lengths is None or self.lengths.ndim == 0
            else one(self.lengths, 2).reshape(()),
            mask=None if self.mask is None else one(self.mask, 2),
        )

    def _own(self, mask: Array, rows: Array, keys: slice) -> Array:
        if mask.shape[-2] != 1:
            mask = mask[..., rows, :]
        if mask.shape[-1] == 1 and self.keys != 1:
            return np.broadcast_to(mask, (*mask.shape[:-1], keys.stop - keys.start))
        part = mask[..., keys]
        short = keys.stop - keys.start - part.shape[-1]
        if not short:
            return part
        hidden = False if part.dtype == np.bool_ else -np.inf
        return np.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, short)], constant_values=hidden)


def framed(
    attention: Attention, shape: tuple[int, ...], mask: Labelled | None, past: int = 0
) -> Frame:
    """The frame for scores of a shape (…, L_q, L_k), with ``past`` keys from a cache.

    Raises ShapeError where a mask or the valid lengths don't fit the shape.
    """
    queries, keys = shape[-2:]
    lengths = _lengths(attention, shape)
    if attention.offset is not None:
        offset = np.asarray(attention.offset)
    elif lengths is not None:
        offset = lengths - queries
    else:
        offset = np.asarray(past)
    own = None if mask is None else _checked(mask, shape)
    return Frame(attention, keys, offset, lengths, own)


def _lengths(attention: Attention, shape: tuple[int, ...]) -> Array | None:
    if attention.valid_length is None:
        return None
    lengths: Array = np.array(attention.valid_length)
    if lengths.max(initial=0) > shape[-1]:
        raise ShapeError(f"valid length {lengths.max()} is more than the {shape[-1]} keys")
    if len(lengths) == 1:
        return lengths.reshape(())
    batched = len(shape) > (3 if attention.heads else 2)
    if not batched or shape[0] != len(lengths):
        raise UsageError(
            f"valid length names {len(lengths)}, one a batch, and the scores are {shape}"
        )
    return lengths.reshape(-1, *[1] * (len(shape) - 1))


def _checked(mask: Labelled, shape: tuple[int, ...]) -> Array:
    """The mask with two axes at least, if it broadcasts to scores of the shape."""
    array = mask.array if mask.array.ndim > 1 else mask.array.reshape(1, -1)
    keys = shape[-1] if array.shape[-1] not in (1, shape[-1]) else array.shape[-1]
    try:
        if array.shape[-1] > max(shape[-1], 1):
            raise ValueError
        if np.broadcast_shapes((*array.shape[:-1], keys), shape) != shape:
            raise ValueError
    except ValueError:
        what = f"{mask.described('mask')} and scores {shape}"
        raise ShapeError(f"{what}: the mask must broadcast to the scores") from None
    return array
