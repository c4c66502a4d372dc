"""What a person types for a matrix: ``PATH[:MEMBER][SLICE]``, and ``.T`` after any of them."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import EllipsisType
from typing import NamedTuple, TypeAlias

from qkvcli.core.operands import Labels, Operand
from qkvcli.errors import DataError

Index: TypeAlias = tuple[int | slice | EllipsisType | None, ...]

_TURN = ".T"
HALF = "if it is half a slice, quote the whole: a shell parts words at blanks"
NO_SLICE = "is no slice such as [0], [:, 3] or [..., 0:2], after which .T may stand"
_BRACKETS = re.compile(r"(.*)\[([^\[\]]*)\]", re.DOTALL)
_WHOLE = r"[-+]?\d{1,18}"
_ITEM = re.compile(
    rf"\s*(?:(?P<one>{_WHOLE})|(?P<all>\.\.\.)|(?P<new>None|np\.newaxis|newaxis)"
    rf"|(?P<first>{_WHOLE})?\s*:\s*(?P<stop>{_WHOLE})?\s*(?::\s*(?P<step>{_WHOLE})?)?)\s*"
)


@dataclass(frozen=True)
class Part:
    """A part of an array: what NumPy's basic indexing gives, and whether it is turned."""

    index: Index | None = None
    turned: bool = False
    text: str = ""

    def __str__(self) -> str:
        brackets = "" if self.index is None else f"[{self.text}]"
        return brackets + (_TURN if self.turned else "")

    def of(self, operand: Operand) -> Operand:
        """The part of an operand, a view, with the labels that are left.

        >>> import numpy as np
        >>> whole = Operand(np.arange(6).reshape(2, 3), rows=("a", "b"), columns=("x", "y", "z"))
        >>> part = Part((slice(1, None), slice(0, 2)), turned=True).of(whole)
        >>> part.array.tolist(), part.rows, part.columns
        ([[3], [4]], ('x', 'y'), ('b',))

        Raises DataError for an index that the array does not have.
        """
        found = operand
        if self.index is not None:
            found = _indexed(operand, self.index, self.text)
        if not self.turned:
            return found
        if found.array.ndim < 2:
            what = f".T turns the last two axes, and there are no two: {found.shape}"
            raise DataError(f"{operand.origin}: {what}")
        turned = found.array.swapaxes(-1, -2)
        return replace(found, array=turned, rows=found.columns, columns=found.rows, numbered=False)


WHOLE = Part()


def _indexed(operand: Operand, index: Index, text: str) -> Operand:
    array = operand.array
    named = sum(item is not None and item is not ... for item in index)
    if named > array.ndim:
        raise DataError(
            f"{operand.origin}: [{text}] names {named} axes, and there are {array.ndim}: "
            f"{operand.shape}"
        )
    try:
        part = array[index]
    except IndexError as fault:
        raise DataError(f"{operand.origin}: [{text}] of {operand.shape}: {fault}") from None
    labels = {array.ndim - 2: operand.rows, array.ndim - 1: operand.columns}
    left = [(axis, item) for axis, item in _by_axis(index, array.ndim) if type(item) is not int]
    rows, columns = (_labels(labels, left, place) for place in (-2, -1))
    numbered = operand.numbered and rows is not None
    return replace(operand, array=part, rows=rows, columns=columns, numbered=numbered)


def _by_axis(index: Index, axes: int) -> Iterator[tuple[int | None, int | slice]]:
    """Each item of an index with the axis that it is of; None for a new one."""
    gap = axes - sum(item is not None and item is not ... for item in index)
    axis = 0
    for item in (*index, ...) if ... not in index else index:
        if item is None:
            yield None, slice(None)
        elif item is ...:
            for _ in range(gap):
                yield axis, slice(None)
                axis += 1
        else:
            yield axis, item
            axis += 1


def _labels(
    labels: dict[int, Labels], left: list[tuple[int | None, int | slice]], place: int
) -> Labels:
    """The labels of an axis of the part, which was an axis of the whole."""
    if len(left) < -place:
        return None
    axis, item = left[place]
    known = None if axis is None else labels.get(axis)
    return known[item] if known is not None and isinstance(item, slice) else None


def index_of(text: str) -> Index | None:
    """What stands in brackets as an index; None where it is none of NumPy's basic ones.

    >>> index_of("1, :, -3"), index_of("..., 0:4:2"), index_of("a-z"), index_of("")
    ((1, slice(None, None, None), -3), (Ellipsis, slice(0, 4, 2)), None, None)
    """
    found: list[int | slice | EllipsisType | None] = []
    for item in text.removesuffix(",").split(","):
        match = _ITEM.fullmatch(item)
        if match is None or (match["step"] and int(match["step"]) == 0):
            return None
        if match["one"]:
            found.append(int(match["one"]))
        elif match["all"] or match["new"]:
            found.append(... if match["all"] else None)
        else:
            bounds = (match["first"], match["stop"], match["step"])
            found.append(slice(*(None if bound is None else int(bound) for bound in bounds)))
    return tuple(found) if found.count(...) < 2 else None


def readings(text: str) -> Iterator[tuple[str, Part]]:
    """A name as it stands, and without what may be a slice and a turn after it.

    >>> [(name, part.index, part.turned) for name, part in readings("w[3].T")]
    [('w[3].T', None, False), ('w[3]', None, True), ('w', (3,), True)]
    """
    yield text, WHOLE
    turned = text.endswith(_TURN)
    rest = text.removesuffix(_TURN) if turned else text
    if turned:
        yield rest, Part(turned=True)
    match = _BRACKETS.fullmatch(rest)
    index = None if match is None else index_of(match[2])
    if match is not None and index is not None:
        yield match[1], Part(index, turned, match[2])


class Address(NamedTuple):
    """Where a matrix is: a file, and of what it holds a member and a part.

    ``text`` is what was typed. ``member`` may be a pattern, and has its slice and turn in it
    still: a name may look like one of these. None where the part is of whichever is meant.
    """

    text: str
    path: Path
    member: str | None = None
    part: Part = WHOLE

    @classmethod
    def of(cls, text: str, known: Callable[[Path], bool] = lambda path: False) -> "Address":
        """Read an address; the path as it stands comes first, then the longest that is there.

        ``known`` says whether a path that does not exist looks like one of a file.

        >>> Address.of("no/such.npz:q[0].T", lambda path: path.suffix == ".npz").member
        'q[0].T'
        """
        for name, part in readings(text):
            if _is_there(name):
                return cls(text, Path(name), part=part)
        colons = [match.start() for match in re.finditer(":", text)]
        for colon in reversed(colons):
            if _is_there(text[:colon]):
                return cls._of_member(text, colon)
        return cls._of_none(text, colons, known)

    @classmethod
    def _of_none(cls, text: str, colons: list[int], known: Callable[[Path], bool]) -> "Address":
        """The address of a file that is not there, as far as it can be told; reading it says so."""
        for colon in colons:
            if known(Path(text[:colon])):
                return cls._of_member(text, colon)
        if text.endswith("]") and "[" not in text:
            raise DataError(f"{text}: not there; {HALF}")
        *_, (name, part) = readings(text)
        brackets = _BRACKETS.fullmatch(text.removesuffix(_TURN))
        if brackets and _is_there(brackets[1]):
            raise _no_index(text, brackets[2])
        before, bracket, _ = text.rpartition("[")
        if bracket and _is_there(before):
            raise DataError(f"{text}: not there; {HALF}")
        if known(Path(name)):
            return cls(text, Path(name), part=part)
        return cls(text, Path(text))

    @classmethod
    def _of_member(cls, text: str, colon: int) -> "Address":
        member = text[colon + 1 :]
        if not member:
            raise DataError(f"{text}: no member is named after the colon")
        return cls(text, Path(text[:colon]), member)

    def __str__(self) -> str:
        return self.text


def _no_index(text: str, brackets: str) -> DataError:
    return DataError(f"{text}: [{brackets}] {NO_SLICE}")


def _is_there(name: str) -> bool:
    return name == "-" or (bool(name) and os.path.lexists(name))
