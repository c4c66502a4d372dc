"""A comparison with somebody else's steps, whole: what differs, what follows from what, and why."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from qkvcli.core.compare.expected import Compared, Expected, Rules, narrower
from qkvcli.core.compare.judge import Judge
from qkvcli.core.compare.reference import Reference
from qkvcli.core.compare.trial import Fit, Tried, tried
from qkvcli.core.compute import SIZES, Advance, Sizes, silent
from qkvcli.core.config import Kind
from qkvcli.core.operands import Array

USUAL = Rules()
_EVEN = 2
"""Two of an axis are no pattern."""
_LEAST = 8
"""Blocks of a kernel are at least so long."""


class Pattern(NamedTuple):
    """Which of an axis's indexes have a difference: from ``first`` to ``last``, every ``step``.

    ``axis`` is "row", "column", "head" or "batch"; there are ``many`` of them, of ``total``. A
    ``block`` of 2^n divides ``first``, where they go on from there to the end.
    """

    axis: str
    first: int
    last: int
    step: int
    many: int
    total: int
    block: int = 0


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came of comparing somebody else's steps with those that are computed here.

    ``fits`` are the hypotheses that fit, of ``tried``; ``patterns`` say where the first step that
    is not the same differs. ``narrow`` is a narrower type that holds all their numbers, and by
    whose tolerance every step is the same.
    """

    steps: tuple[Compared, ...]
    fits: tuple[Fit, ...] = ()
    tried: int = 0
    patterns: tuple[Pattern, ...] = ()
    narrow: Kind | None = None

    @property
    def same(self) -> bool:
        """Whether every step that was compared is the same."""
        return all(step.same for step in self.steps)


def compare(
    reference: Reference,
    expected: Sequence[Expected],
    rules: Rules = USUAL,
    sizes: Sizes = SIZES,
    advance: Advance = silent,
) -> Comparison:
    """Compare somebody's steps with those of the reference.

    >>> from qkvcli.core.config import AttentionConfig
    >>> from qkvcli.core.operands import Input, Operand, Operands
    >>> sides = [Input(Operand(np.array(rows, float), name)) for name, rows in (
    ...     ("query", [[1, 2]]), ("key", [[3, 1], [0, 1]]), ("value", [[1], [5]]))]
    >>> reference = Reference.of(AttentionConfig(scale="sqrt"), Operands(*sides))
    >>> theirs = Expected("scaled", np.array([[5.0, 2.0]]), "float64")
    >>> found = compare(reference, [theirs])
    >>> found.same, found.steps[0].differing, found.fits[0].hypothesis.said
    (False, 2, 'with --scale none')
    """
    judge = Judge(reference, rules, sizes=sizes, advance=advance)
    order = list(judge.outlines)
    known = sorted((e for e in expected if e.name in order), key=lambda e: order.index(e.name))
    found = _judged(judge, known)
    wrong = [one for one in found if not one.same and one.follows is None]
    unexplained = [one for one in wrong if one.differing]
    found_out = Tried()
    if unexplained and rules.usual:
        narrow = _as_narrow(judge, known)
        if narrow is not None:
            return Comparison(tuple(found), narrow=narrow)
    if wrong and not rules.follow:
        found_out = tried(judge, known, found)
    if unexplained and not found_out.fits:
        one_by_one = _one_by_one(judge, known, unexplained)
        found_out = Tried(one_by_one.fits, max(found_out.total, one_by_one.total))
    patterns = _patterns(unexplained[0]) if unexplained else ()
    return Comparison(tuple(found), *found_out, patterns)


def _as_narrow(judge: Judge, known: Sequence[Expected]) -> Kind | None:
    """The type that somebody may have computed in, and widened the numbers of."""
    thinner = [narrower(one) for one in known]
    held = [one for one in thinner if one is not None]
    kinds = {one.loose or one.kind for one in held}
    if len(held) < len(known) or len(kinds) > 1:
        return None
    return kinds.pop() if all(one.same for one in _judged(judge, held)) else None


def _judged(judge: Judge, known: Sequence[Expected]) -> list[Compared]:
    """What comes of each step, as the rules ask for it."""
    return _followed(judge, known) if judge.rules.follow else _all(judge, known)


def _all(judge: Judge, known: Sequence[Expected]) -> list[Compared]:
    """Each step beside the reference's; those that follow from an earlier fault say so."""
    steps = judge.steps()
    found = [judge.judged(steps[one.name], one) for one in known]
    for i, one in enumerate(found):
        wrong = [before.name for before in found[:i] if not before.same]
        if one.same or not wrong:
            continue
        followed = judge.followed(known, one.expected)
        cause = [] if followed is None else [e.name for e in followed.used if e.name in wrong]
        if followed is not None and cause:
            again = judge.judged(followed.step, one.expected, followed.slack)
            if again.same or again.only_unseeing:
                found[i] = replace(one, follows=cause[0])
    return found


def _followed(judge: Judge, known: Sequence[Expected]) -> list[Compared]:
    """Each step beside what follows from theirs before it, where there is one."""
    found, steps = [], judge.steps()
    for one in known:
        followed = judge.followed(known, one)
        if followed is None:
            found.append(judge.judged(steps[one.name], one))
        else:
            found.append(judge.judged(followed.step, one, followed.slack))
    return found


def _one_by_one(judge: Judge, known: Sequence[Expected], wrong: Sequence[Compared]) -> Tried:
    """The hypotheses that fit each faulty step, computed from theirs before it."""
    fits: list[Fit] = []
    most = 0
    for one in wrong:
        start = judge.going_on(known, one.name)
        own = judge
        if start is not None:
            own = Judge(start.reference, judge.rules, start.problem)
        elif not judge.rules.follow and len(known) == 1:
            continue  # tried already
        some, total = tried(own, [one.expected], [one])
        fits += [fit._replace(step=one.name) for fit in some]
        most = max(most, total)
    return Tried(tuple(fits), most)


def _patterns(one: Compared) -> tuple[Pattern, ...]:
    """Where the cells of a step differ, along each axis on which not all of them do."""
    kinds = ["batch"] * max(one.rows.ndim - 2, 0) + ["head"] * (one.rows.ndim > 1)
    if one.outline.axis("head") is None:
        kinds = ["batch"] * (one.rows.ndim - 1)
    axes = [(kind, axis) for axis, kind in enumerate(kinds)] + [("row", one.rows.ndim - 1)]
    found = []
    for kind, axis in axes:
        others = tuple(i for i in range(one.rows.ndim) if i != axis)
        found.append(_pattern(kind, np.any(one.rows, axis=others, keepdims=True).ravel()))
    found.append(_pattern("column", one.columns))
    return tuple(pattern for pattern in found if pattern is not None)


def _pattern(axis: str, differing: Array) -> Pattern | None:
    """The pattern of one axis; None where all of it differs, or nothing."""
    places = np.flatnonzero(differing)
    count, total = len(places), len(differing)
    if count in (0, total):
        return None
    first, last = int(places[0]), int(places[-1])
    gaps = np.diff(places)
    even = count > 1 and (gaps == gaps[0]).all()
    step = int(gaps[0]) if even and (count > _EVEN or gaps[0] == 1) else int(count == 1)
    block = first & -first if step == 1 and last == total - 1 else 0
    return Pattern(axis, first, last, step, count, total, block if block >= _LEAST else 0)
