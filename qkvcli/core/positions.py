"""Where the queries and the keys stand, and what depends on that: rotations, and ALiBi's slopes.

Which keys a query may see by its position is in `masks`.
"""

import math
from collections import Counter
from dataclasses import dataclass, replace
from threading import Event
from typing import NamedTuple

import numpy as np

from qkvcli.core import attention
from qkvcli.core.config import AttentionConfig, Pairs
from qkvcli.core.dtypes import own_dtype
from qkvcli.core.operands import Array, Operand, Shape
from qkvcli.core.shapes import along, check_table, matrix_at
from qkvcli.errors import DataError, ShapeError, UsageError

_FARTHEST = 2**61
"""A position that is as good as any beyond it, and can be added to without an overflow."""
_AT_ONCE = 2**12
"""How many tokens are turned together: their cosines stay in a core's own cache."""


@dataclass(frozen=True, eq=False)
class Positions:
    """Key j stands at position j, query i at position ``rows[i]`` + ``offset``.

    ``rows`` (L_q,) are the numbers of the queries among all that there are, ``keys`` is
    L_k. ``offset`` (1, 1) is one number, or one for each batch (B, 1, …, 1).
    """

    rows: Array
    keys: int
    offset: Array

    def of_queries(self, part: slice, shift: int = 0) -> Array:
        """The positions of some queries, (…, n, 1), moved by ``shift``."""
        moved = np.clip(self.offset.astype(object) + shift, -_FARTHEST, _FARTHEST)  # exact before
        positions: Array = self.rows[part, None] + moved.astype(np.int64)
        return positions

    @property
    def written(self) -> str:
        """The offset as a title has it; nothing where it is 0."""
        return written(self.offset)

    def of_keys(self, part: slice) -> Array:
        """The positions of some keys, (m,)."""
        return np.arange(part.start, part.stop)

    def for_rows(self, rows: Array) -> "Positions":
        """Those of some of the queries alone."""
        return replace(self, rows=self.rows[rows])

    def for_axis(self, axis: int, numbers: tuple[int, ...]) -> "Positions":
        """Those of some indexes of a leading axis, which is counted from the end."""
        return replace(self, offset=along(self.offset, axis, numbers))

    def for_matrix(self, index: tuple[int, ...]) -> "Positions":
        """Those of one matrix among the leading axes."""
        return replace(self, offset=matrix_at(self.offset, index))


def written(offset: Array) -> str:
    """An offset as a title has it; nothing where it is 0.

    >>> written(np.array([[3]])), written(np.array([[0]]))
    (' (offset 3)', '')
    """
    found = {int(number) for number in offset.flat} or {0}
    if len(found) > 1:
        return f" (offset {min(found)} to {max(found)})"
    return "" if found == {0} else f" (offset {found.pop()})"


def offset_of(config: AttentionConfig, shape: Shape, past: int) -> Array:
    """Where query 0 stands, for arrays of a shape (…, L_q, ·): (1, 1), or (B, 1, …, 1).

    It is the config's own offset, or follows from the valid lengths, or is the length of a
    cache, ``past``. Raises UsageError where the valid lengths are not one for each batch.
    """
    if config.offset is not None:
        return np.array([[int(config.offset)]], object)
    lengths = lengths_of(config, shape)
    return np.array([[past]]) if lengths is None else lengths - shape[-2]


def lengths_of(config: AttentionConfig, shape: Shape) -> Array | None:
    """From which key on there is padding, (1, 1) or (B, 1, …, 1); None where nothing says it.

    Raises UsageError where there is not one for each batch of a shape.
    """
    if config.valid_length is None:
        return None
    lengths: Array = np.array(config.valid_length)
    if len(lengths) == 1:
        return lengths.reshape(1, 1)
    batched = len(shape) > (3 if config.heads else 2)
    if not batched or shape[0] != len(lengths):
        raise UsageError(f"valid length names {len(lengths)}, one per batch, and there is {shape}")
    return lengths.reshape(-1, *[1] * (len(shape) - 1))


def places_of(scores: Operand) -> Array | None:
    """The number of each row among the keys, (L_q,), where the labels of given scores tell it.

    Labels that are whole numbers are it: rows that were chosen carry theirs. Otherwise each
    row stands where a column has its label, if there are as many columns of that label as rows,
    and they stand in the same order (those of another text need not).

    >>> places_of(Operand(np.zeros((2, 3)), rows=("1", "2"))).tolist()
    [1, 2]
    >>> places_of(Operand(np.zeros((1, 3)), rows=("sat",), columns=("the", "cat", "sat"))).tolist()
    [2]
    """
    rows, columns = scores.rows, scores.columns
    if rows is None:
        return None
    if columns is None:
        numbered = all(row.isdecimal() and len(row) < 16 for row in rows)
        return np.array(list(map(int, rows))) if numbered else None
    places = _among(rows, columns)
    return places if places is not None and (np.diff(places) > 0).all() else None


def _among(rows: tuple[str, ...], columns: tuple[str, ...]) -> Array | None:
    """Where the labels of rows stand among those of columns; None where that is not clear."""
    at: dict[str, list[int]] = {}
    for j, column in enumerate(columns):
        at.setdefault(column, []).append(j)
    if any(count != len(at.get(row, ())) for row, count in Counter(rows).items()):
        return None
    left = {row: iter(places) for row, places in at.items()}
    return np.array([next(left[row]) for row in rows], dtype=np.intp)


class Table(NamedTuple):
    """Cosines and sines that were given, (L, N/2) or (B, L, N/2)."""

    cos: Operand
    sin: Operand


class Rotation(NamedTuple):
    """A rotation by position: by the angles of a ``base``, or by a ``table`` in place of them.

    ``width`` is N, how many columns of each head are turned; None for all. A table is read
    ``by_position``, or has a row for each token (`read_for`).
    """

    base: float | None
    table: Table | None = None
    pairs: Pairs = "half"
    width: int | None = None
    by_position: bool = False

    def read_for(self, *counts: int) -> "Rotation":
        """The same, for so many tokens of each side: one table is read in one way for all.

        It has a row for each token of every side, or rows for their positions.
        """
        if self.table is None:
            return self
        rows = self.table.cos.shape[-2]
        return self._replace(by_position=any(count != rows for count in counts))

    @classmethod
    def of(
        cls, config: AttentionConfig, cos: Operand | None, sin: Operand | None
    ) -> "Rotation | None":
        """What is asked for. Raises UsageError for half of it, ShapeError, DataError."""
        if (cos is None) != (sin is None):
            one, other = ("cos", "sin") if sin is None else ("sin", "cos")
            raise UsageError(f"{one} without {other}; a rotation needs both")
        if cos is None or sin is None:
            if config.base is None:
                for name in ("rope_pairs", "rope_dim"):
                    if getattr(config, name) is not None:
                        words = name.replace("_", " ")
                        raise UsageError(f"{words} without a rotation; give rope, or cos and sin")
                return None
            return cls(config.base, None, config.rope_pairs or "half", config.turned)
        check_table(cos, sin)
        width = 2 * cos.shape[-1]
        if config.turned not in (None, width):
            raise ShapeError(
                f"{cos.described}: {cos.shape[-1]} columns turn {width} columns of a head, and "
                f"rope dim is {config.turned}"
            )
        for side in (cos, sin):
            own_dtype(side)  # says what is no number
            _check_once(side)
        if cos.array.size > 1 and np.array_equal(cos.array, sin.array):
            raise DataError(f"{cos.described} and {sin.described}: both are the same numbers")
        return cls(None, Table(cos, sin), config.rope_pairs or "half", width)

    @property
    def written(self) -> str:
        """The rotation as a title has it."""
        said = [] if self.base is None else [f"base {self.base:.12g}"]
        if self.table is not None:
            said.append("given cos and sin")
        if self.pairs == "interleaved":
            said.append("interleaved pairs")
        if self.width is not None and self.table is None:
            said.append(f"first {self.width} columns")
        return ", ".join(said)

    def turned(self, side: Operand, start: Array, batched: bool = True) -> Array:
        """Rows (…, L, d) turned, the first of them standing at ``start`` (1, 1), (B, 1, …, 1).

        ``batched`` says that the first axis of three or more counts
        batches. Raises ShapeError where the widths or lengths do not fit.
        """
        rows = side.array
        start = np.clip(start.astype(object), -_FARTHEST, _FARTHEST).astype(np.int64)
        width = rows.shape[-1] if self.width is None else self.width
        if width > rows.shape[-1] or width % 2:
            has = f"a head has {rows.shape[-1]} columns"
            if width % 2:
                raise ShapeError(f"{side.described}: {has}, and they are turned in pairs")
            asked = "rope dim says" if self.table is None else f"{self.table.cos.described} says"
            raise ShapeError(f"{side.described}: {has}, and {asked} to turn {width}")
        interleaved = self.pairs == "interleaved"
        turned = np.empty(rows.shape, rows.dtype)
        if self.table is not None:
            cos, sin = (
                self._rows(table, side, start, batched).astype(rows.dtype) for table in self.table
            )
            return attention.rotated(np.asarray(rows), cos, sin, interleaved, turned)
        frequencies = _frequencies(self.base or 1.0, width)
        within = _turns(np.arange(min(_AT_ONCE, rows.shape[-2]))[:, None], frequencies)

        def turn(some: slice, stop: Event | None = None) -> None:
            begin = _turns(start + some.start, frequencies)  # (…, 1, N/2)
            angles = begin * within[: some.stop - some.start]  # e^ia·e^ib turns by a + b
            cos, sin = (part.astype(rows.dtype) for part in (angles.real, angles.imag))
            attention.rotated(rows[..., some, :], cos, sin, interleaved, turned[..., some, :])

        count = rows.shape[-2]
        if count <= _AT_ONCE:
            turn(slice(0, count))
            return turned
        from qkvcli.core.threads import ordered

        parts = [slice(i, min(i + _AT_ONCE, count)) for i in range(0, count, _AT_ONCE)]
        for _ in ordered(turn, parts):
            pass
        return turned

    def _rows(self, table: Operand, side: Operand, start: Array, batched: bool) -> Array:
        """The rows of a table that belong to the tokens, with axes that fit theirs."""
        array, count, axes = table.array, side.shape[-2], side.array.ndim
        if self.by_position or array.shape[-2] != count:
            array = _at_positions(table, side, start)
        if array.ndim == 3 and axes > 3:  # (B, L, N/2) beside (B, …, H, L, d)
            array = array.reshape(array.shape[0], *[1] * (axes - 3), *array.shape[1:])
        elif array.ndim == 3 and array.shape[0] == 1 and axes == 2:
            array = array[0]
        alone = array.ndim == axes == 3 and array.shape[0] != 1 and not batched  # axis of heads
        try:
            fits = np.broadcast_shapes(array.shape[:-2], side.shape[:-2]) == side.shape[:-2]
        except ValueError:
            fits = False
        if alone or not fits:
            raise _misfit(table, side)
        return array


def _at_positions(table: Operand, side: Operand, start: Array) -> Array:
    """The rows of a table at the tokens' positions."""
    array, count = table.array, side.shape[-2]
    places = (start + np.arange(count)[:, None])[..., 0]  # (L,), or (B, …, L)
    if places.size and (places.min() < 0 or places.max() >= array.shape[-2]):
        first, last = places.min(), places.max()
        raise ShapeError(
            f"{table.described}: it needs a row for each of the {count} tokens of "
            f"{side.described}, and of all that are turned, or rows for their positions, "
            f"{first} to {last}"
        )
    if array.ndim == 2:
        found: Array = array[places]
        return found
    places = places.reshape(-1, count)
    if len(array) not in (1, len(places)) and len(places) != 1:
        raise _misfit(table, side)
    found = array[np.arange(len(array))[:, None], places]
    return found


def _misfit(table: Operand, side: Operand) -> ShapeError:
    return ShapeError(
        f"{table.described} and {side.described}: a table is (L, N/2), or (B, L, N/2) with a "
        "part for each batch"
    )


def _frequencies(base: float, width: int) -> Array:
    """How far each pair turns from one token to the next, (N/2,).

    >>> _frequencies(10000.0, 4).tolist()
    [1.0, 0.01]
    """
    return np.power(base, -np.arange(0, width, 2) / width)


def _turns(positions: Array, frequencies: Array) -> Array:
    """e^(i·angle) of each position (…, n, 1) and pair: (…, n, N/2), in double precision."""
    turns: Array = np.exp(1j * (positions * frequencies))
    return turns


def _check_once(table: Operand) -> None:
    """Raise DataError for a table that has each angle twice, as some models keep it."""
    array, half = table.array, table.shape[-1] // 2
    if table.shape[-1] % 2 or not half or not array.size or (array == array.flat[0]).all():
        return
    halves = np.array_equal(array[..., :half], array[..., half:])
    if halves or np.array_equal(array[..., ::2], array[..., 1::2]):
        part = f"first {half} columns" if halves else "even columns"
        raise DataError(
            f"{table.described}: each angle stands there twice; give one column for each pair "
            f"that is turned, the {part}"
        )


def slopes(heads: int) -> Array:
    """ALiBi's slope of each head, (H,): 2^(−8h/H) for h = 1, …, H.

    Where H is no power of 2, those of the next smaller one, and then every second of twice as
    many, as the authors' own code has it. Source: Press et al., "Train Short, Test Long" (2022),
    section 3.

    >>> slopes(4).tolist(), slopes(3).tolist()
    ([0.25, 0.0625, 0.015625, 0.00390625], [0.0625, 0.00390625, 0.25])
    """
    whole = 2 ** math.floor(math.log2(max(heads, 1)))

    def of(count: int) -> Array:
        return 2.0 ** (-8 * np.arange(1, count + 1) / count)

    found: Array = np.concatenate([of(whole), of(2 * whole)[::2]])[:heads]
    return found
