"""Somebody's array brought to the shape that it should have, and what had to be done."""

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import TypeAlias

from qkvcli.core import attention
from qkvcli.core.operands import Array, Shape
from qkvcli.core.steps import Outline

Turn: TypeAlias = Callable[[Array], Array]
"""What makes an array one of another shape."""
_AXES = 5
"""Of so many axes at most, every order is tried."""


def fitting(theirs: Shape, ours: Shape, heads: int | None = None) -> Turn | None:
    """What brings an array of one shape to another that differs in axes of 1 at most.

    With ``heads``, they are split off where they were joined. None where that is not enough.
    """
    if theirs == ours:
        return lambda array: array
    if heads is not None:
        *leading, _, rows, width = ours
        joined = fitting(theirs, (*leading, rows, heads * width))
        if joined is not None:
            return lambda array: attention.split_heads(joined(array), heads)
    first = next(turns(theirs, ours, None), None)
    return None if first is None or first[0] else first[1]


def onto(theirs: Shape, step: Outline, joined: int | None) -> Turn | None:
    """What brings an array of a shape to a step's, with heads apart or ``joined`` as there.

    None where that is not enough.
    """
    if not step.columns_are_keys and step.axis("head") is not None:
        return fitting(theirs, step.shape, step.shape[-3])
    turn = fitting(theirs, step.shape)
    if turn is not None or joined is None:
        return turn
    *leading, rows, width = step.shape
    split = fitting(theirs, (*leading, joined, rows, width // joined))
    return None if split is None else lambda array: attention.merge_heads(split(array))


def turns(theirs: Shape, ours: Shape, heads: int | None) -> Iterator[tuple[str, Turn]]:
    """What makes an array of one shape one of another, with what is to be said of it.

    With ``heads``, so many are joined in the other.

    >>> [said for said, _ in turns((3, 2), (2, 3), None)], list(turns((3, 2), (2, 4), None))
    (['its axes are swapped'], [])
    >>> [said for said, _ in turns((1, 2, 2), (2, 2), None)]
    ['']
    """
    slim = tuple(n for n in theirs if n != 1)
    if slim == tuple(n for n in ours if n != 1):
        yield "", lambda array: array.reshape(ours)
    if heads is not None and len(theirs) > 2:
        *leading, rows, width = ours
        if theirs == (*leading, rows, heads, width // heads):
            yield "its heads are an axis of their own", lambda array: array.reshape(ours)
        if theirs == (*leading, heads, rows, width // heads):
            yield "its heads are an axis of their own", attention.merge_heads
    if heads is None and len(ours) > 2:
        *leading, count, rows, width = ours
        if theirs == (*leading, rows, count * width):
            yield "its heads are side by side", lambda array: attention.split_heads(array, count)
    yield from _permuted(theirs, ours)


def _permuted(theirs: Shape, ours: Shape) -> Iterator[tuple[str, Turn]]:
    if len(theirs) != len(ours) or sorted(theirs) != sorted(ours) or len(ours) > _AXES:
        return
    usual = tuple(range(len(ours)))
    for order in permutations(usual):
        if order != usual and tuple(theirs[i] for i in order) == ours:
            if len(ours) == 2:
                said = "its axes are swapped"
            elif order == (*usual[:-2], usual[-1], usual[-2]):
                said = "its last two axes are swapped"
            else:
                said = f"its axes fit in the order {order}"

            def turn(array: Array, order: tuple[int, ...] = order) -> Array:
                return array.transpose(order)

            yield said, turn
