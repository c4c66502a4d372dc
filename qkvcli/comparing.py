"""The library's comparison: somebody else's numbers beside those of `attend`.

A module of its own, so that `attend` need not wait for what only comparing takes.
"""

from __future__ import annotations  # help() shows the types by their names

import math
import os
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any, SupportsFloat, SupportsIndex

from numpy.typing import ArrayLike

from qkvcli.api import Steps, operand_of
from qkvcli.core.compare.comparison import Comparison as _Comparison
from qkvcli.core.compare.comparison import compare as compared_with
from qkvcli.core.compare.expected import Expected, Rules
from qkvcli.core.compare.reference import Reference
from qkvcli.core.compare.tolerance import kind_of
from qkvcli.core.config import KINDS, ORDER, Kind, kind_named
from qkvcli.core.dtypes import own_dtype
from qkvcli.core.operands import Operand
from qkvcli.core.steps import Step
from qkvcli.core.views import Selection
from qkvcli.errors import DataError, UsageError
from qkvcli.formats.stored import BFLOAT16, lacking


def compare(
    steps: Steps,
    expected: Mapping[str, ArrayLike] | ArrayLike | str | os.PathLike[str],
    *,
    dtype: Kind | None = None,
    rtol: SupportsFloat | None = None,
    atol: SupportsFloat | None = None,
    ulp: SupportsIndex | None = None,
    equal_nan: bool = False,
    follow: bool = False,
) -> Comparison:
    """Whether somebody else's numbers are those of `attend`, and what they did instead.

    ``expected`` has arrays by the names of steps, or is one array for the last step, or a file.
    The reference is computed anew in float64, of the inputs as they are now, and rounded once to
    the type of theirs, whose tolerance counts (`torch.testing.assert_close`'s). ``dtype`` says in
    which type they were computed ("bfloat16" kept as float32), ``rtol``, ``atol`` and ``ulp``
    what is the same; ``equal_nan`` makes NaN the same as NaN. With ``follow``, each step is
    computed from theirs before it. Raises UsageError where no step has one of the names,
    DataError for what is no array of numbers.

    >>> from qkvcli import attend, softmax
    >>> steps = attend([[1, 2]], [[3, 1], [0, 1]], [[1], [5]], scale="sqrt")
    >>> found = compare(steps, {"weights": softmax([[5.0, 2.0]])})
    >>> found.same, found.fits[0].hypothesis.said
    (False, 'with --scale none')
    >>> print(found)  # doctest: +ELLIPSIS
    weights   DIFFERS  max 0.0596 at [0, 0]: 0.89, expected 0.95; rows 1 of 1
    It equals this with --scale none (to ...): the scale is missing.
    """
    asked, problem = steps._asked, steps._problem
    if asked is None or problem is None:
        raise UsageError("only the steps that attend gives can be compared")
    names = [name for name in steps.names if name in ORDER]
    if not names:
        raise UsageError(f"none of the steps {', '.join(steps.names)} can be compared")
    theirs = _theirs(expected, names)
    if dtype is not None:
        kind = kind_named(dtype)
        if kind is None:
            raise UsageError(f"dtype {dtype!r} is not one of {', '.join(KINDS)}")
        theirs = [one.computed_in(kind) for one in theirs]
    relative, absolute = _bound("rtol", rtol), _bound("atol", atol)
    last = None if ulp is None else int(_bound("ulp", index(ulp)) or 0)
    own = problem.dtype.name
    rules = Rules(relative, absolute, last, equal_nan, follow, own)
    chosen = Selection(asked.rows)
    reference = Reference.of(asked.config, asked.operands, selection=chosen)
    found = compared_with(reference, theirs, rules)
    if not any(step.cells for step in found.steps):
        raise DataError("expected has no number to compare")
    return Comparison(**vars(found))


class Comparison(_Comparison):
    """What `compare` gives: whether all is the ``same``, the ``steps``; as text, a report."""

    def __repr__(self) -> str:
        count = f"{len(self.steps)} step{'' if len(self.steps) == 1 else 's'}"
        return f"Comparison({'same' if self.same else 'differs'}, {count})"

    def __str__(self) -> str:
        from qkvcli.render.grids import Room
        from qkvcli.render.verdicts import report

        return "\n".join(str(block.content) for block in report(self, Room()))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}

    def _repr_html_(self) -> str:
        from qkvcli.render.notebook import compared

        return compared(self)


def _bound(name: str, size: SupportsFloat | None) -> float | None:
    """A bound of a rule as a number. Raises UsageError for one that is none, or below 0."""
    number = 0.0 if size is None else float(size)
    if not 0 <= number < math.inf:
        raise UsageError(f"{name} {size!r} is not a number from 0 on")
    return None if size is None else number


def _theirs(expected: Any, names: Sequence[str]) -> list[Expected]:
    """Somebody's steps, from a file, by their names, or the last one."""
    if isinstance(expected, (str, os.PathLike)):
        from qkvcli.formats.expected import read_expected, step_named
        from qkvcli.formats.files import address_of
        from qkvcli.formats.source import Source

        address = address_of(os.fspath(expected))
        step = step_named(address)
        found, _ = read_expected(Source.file(address.path), names, step, address)
        return found
    if not isinstance(expected, (Mapping, Steps)):
        expected = {names[-1]: expected}
    given_names = tuple(expected.keys())  # iterating over `Steps` gives its steps
    called = {str(name).lower(): name for name in given_names}
    held = tuple(called)
    strange = [name for name in held if name not in ORDER]
    given = {name: expected[called[name]] for name in held if name in names}
    if strange or not given:
        there = ", ".join(names)
        named = ", ".join(strange or held)
        raise UsageError(f"expected has {named or 'nothing'}; what can be compared is {there}")
    found = []
    for name, array in given.items():
        operand = operand_of(name, array)
        own_dtype(operand)  # says what is no number
        found.append(Expected(name, operand.array, _kind(array, operand)))
    return found


def _kind(given: Any, operand: Operand) -> Kind:
    """The type of somebody's array, also where the operand made of it only carries that."""
    if isinstance(given, Step):
        return kind_named(given.kind) or "float64"
    if lacking(getattr(given, "dtype", None)) is BFLOAT16:
        return "bfloat16"
    return kind_of(operand.array.dtype)
