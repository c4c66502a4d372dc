"""What somebody else may have done instead: each hypothesis is the same problem but for one thing.

Its score steps are others, or who shares which head, or how weights come from scores; `layers` has
those about what comes before the scores and after the output. `trial` names one only if every
step of theirs is what it computes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import TypeAlias

import numpy as np

from qkvcli.core import attention
from qkvcli.core.compare.expected import Expected
from qkvcli.core.compare.hypothesis import Hypothesis
from qkvcli.core.compare.layers import SPLIT, biases, outputs, sides, sinks
from qkvcli.core.compare.reference import Reference
from qkvcli.core.dense import output_of, score_arrays, weights_of
from qkvcli.core.masks import Visibility
from qkvcli.core.operands import Array, Operand
from qkvcli.core.output_steps import Taken
from qkvcli.core.positions import Positions
from qkvcli.core.problem import Groups, Problem
from qkvcli.core.score_steps import Alibi, Mask, Scale, ScoreStep, Softcap

Kinds: TypeAlias = Callable[[Problem], Iterator[Hypothesis]]
"""What makes hypotheses of one kind about a problem."""
_FINITE = -1e4
"""Somebody's number below this may stand for −∞."""


def hypotheses(
    reference: Reference, problem: Problem, expected: Sequence[Expected] = ()
) -> Iterator[Hypothesis]:
    """What may have been done in place of a problem, the likeliest first.

    It is the reference's own, or one that goes on from somebody's steps. Source of the faults:
    those that people make, and the conventions that libraries differ in.
    """
    if not any(isinstance(step, Taken) for step in problem.output_steps):
        if problem.query is not None:
            yield from sides(reference)
        if problem.weights is None:
            yield from _scales(problem)
            yield from _positions(problem)
            yield from _masks(problem)
            yield from _finite(problem, expected)
            yield from biases(reference, problem)
            yield from _orders(problem)
            yield from _swapped(problem)
            yield from sinks(reference, problem)
            yield from _softmaxes(problem)
        yield from _heads(problem)
        yield from _products(problem)
    yield from outputs(reference, problem)


def pairs(
    reference: Reference, problem: Problem, expected: Sequence[Expected]
) -> Iterator[Hypothesis]:
    """Two things done at once, the first of them to Q and K or to the score steps."""
    if problem.weights is not None:
        return
    biased, sunk, mixed = (partial(kind, reference) for kind in (biases, sinks, outputs))
    kinds: list[Kinds] = [_scales, _positions, _masks, biased, _orders, _swapped]
    if problem.query is not None:
        kinds.insert(0, lambda _: sides(reference))
    for i, kind in enumerate(kinds):
        for first in kind(problem):
            if first.softmax is not weights_of:
                continue
            rest: list[Kinds] = [*kinds[i + 1 :], sunk, _softmaxes, _heads, _products, mixed]
            for second in (other for more in rest for other in more(first.problem)):
                said = f"{first.said} and {second.said}"
                yield replace(second, said=said, meaning=f"{first.meaning}; {second.meaning}")


def _with(problem: Problem, steps: Sequence[ScoreStep]) -> Problem:
    return replace(problem, score_steps=tuple(steps))


def _scales(problem: Problem) -> Iterator[Hypothesis]:
    """Another factor: none, 1/√d, 1/d, √d; and 1/√ of the width of all heads together."""
    others = [step for step in problem.score_steps if not isinstance(step, Scale)]
    now = next((s.factor for s in problem.score_steps if isinstance(s, Scale)), 1.0)
    tried_factors = {now}
    for factor, said, meaning in _factors(problem, now):
        if not any(math.isclose(factor, known) for known in tried_factors):
            tried_factors.add(factor)
            steps = [Scale(factor, f"{factor:g}"), *others]
            yield Hypothesis(f"with {said}", meaning, _with(problem, steps))


def _factors(problem: Problem, now: float) -> Iterator[tuple[float, str, str]]:
    yield 1.0, "--scale none", "the scale is missing"
    if problem.query is None:
        return
    d = problem.query.shape[-1]
    if not d:
        return
    root = math.sqrt(d)
    yield 1 / root, "--scale sqrt", f"the scores are multiplied by 1/√{d}"
    twice = ", as 1/√d twice" if math.isclose(now, 1 / root) else ""
    yield 1 / d, f"--scale {1 / d:.9g}", f"the scores are multiplied by 1/d = 1/{d}{twice}"
    yield root, f"--scale {root:.9g}", f"the scores are multiplied by √{d}, and not divided"
    heads = problem.leading[-1] if problem.leading else 1
    width = d * heads
    said = f"--scale {1 / math.sqrt(width):.9g}"
    yield 1 / math.sqrt(width), said, f"1/√{width} is of all {heads} heads together, not of one"


def _masked(problem: Problem, seen: Visibility) -> Problem:
    """The problem with another mask, in the place of its own, or after its other steps."""
    if problem.visibility is None:
        return _with(problem, [*problem.score_steps, Mask(seen)])
    steps = (Mask(seen) if isinstance(s, Mask) else s for s in problem.score_steps)
    return _with(problem, [*steps])


def _unmasked(problem: Problem) -> Problem:
    return _with(problem, [s for s in problem.score_steps if not isinstance(s, Mask)])


def _positions(problem: Problem) -> Iterator[Hypothesis]:
    """Queries that stand elsewhere among the keys: by one, and as if the last ones met."""
    seen = problem.visibility
    if seen is None or not (seen.causal or seen.windowed):
        return
    queries, keys = problem.shape[-2:]
    now = {int(offset) for offset in seen.positions.offset.flat}
    for shift in (1, -1):
        moved = replace(seen, positions=_moved(seen, shift))
        said = (
            f"--offset {now.copy().pop() + shift}" if len(now) == 1 else f"offsets {shift:+} more"
        )
        many = "too many" if shift > 0 else "too few"
        what = f"the causal mask shows one key {many}"
        if not seen.causal:
            what = f"the window lies one key too far to the {'right' if shift > 0 else 'left'}"
        yield Hypothesis(f"with {said}", what, _masked(problem, moved))
    for offset, what in ((0, "first"), (keys - queries, "last")):
        if now.isdisjoint({offset, offset + 1, offset - 1}):
            places = replace(seen.positions, offset=np.array([[offset]], object))
            meaning = f"the {what} query meets the {what} key"
            moved = replace(seen, positions=places)
            yield Hypothesis(f"with --offset {offset}", meaning, _masked(problem, moved))


def _moved(seen: Visibility, shift: int) -> Positions:
    return replace(seen.positions, offset=seen.positions.offset.astype(object) + shift)


def _masks(problem: Problem) -> Iterator[Hypothesis]:
    """No mask, each of several left out, its opposite, and one that is applied too late."""
    seen = problem.visibility
    if seen is None:
        if problem.shape[-2] > 1 and problem.scores is None:
            yield from _causal(problem)
        return
    names = [name.partition(" (")[0] for name, _ in seen.named_shapes]
    parts = " and ".join(f"the {name}" for name in names)
    yield Hypothesis("without the mask", f"{parts} left out", _unmasked(problem))
    if len(names) > 1:
        yield from _each_left_out(problem, seen)
    meaning = "it hides what should be seen, and shows what should be hidden"
    other = _with(problem, _inverted(problem, seen))
    yield Hypothesis("with the mask inverted", meaning, other)
    yield Hypothesis(
        "with the mask applied after the softmax",
        "weights are set to 0 there, and no longer sum to 1",
        problem,
        _masked_after,
    )


def _causal(problem: Problem) -> Iterator[Hypothesis]:
    queries, keys = problem.shape[-2:]
    for offset in dict.fromkeys((0, keys - queries)):
        seen = Visibility(Positions(np.arange(queries), keys, np.array([[offset]])), causal=True)
        said = "with --causal" + (f" --offset {offset}" if offset else "")
        yield Hypothesis(said, "later keys are hidden", _masked(problem, seen))


def _each_left_out(problem: Problem, seen: Visibility) -> Iterator[Hypothesis]:
    parts: list[tuple[str, bool, Visibility]] = [
        ("causal mask", seen.causal, replace(seen, causal=False)),
        ("window", seen.windowed, replace(seen, sides=(None, None))),
        ("valid length", seen.lengths is not None, replace(seen, lengths=None)),
        ("mask file", seen.mask is not None, replace(seen, mask=None)),
    ]
    for name, there, rest in parts:
        if there:
            yield Hypothesis(
                f"without the {name}", f"the {name} is left out", _masked(problem, rest)
            )


class _Inverted(Mask):
    """A mask that shows what it should hide."""

    def __call__(self, scores: Array, rows: slice, keys: slice, out: Array | None = None) -> Array:
        visible, _ = self.visibility.combined(rows, keys)
        return attention.masked(scores, ~visible, None, out)


def _inverted(problem: Problem, seen: Visibility) -> list[ScoreStep]:
    return [_Inverted(seen) if isinstance(s, Mask) else s for s in problem.score_steps]


def _masked_after(problem: Problem, scores: Array) -> Array:
    """The softmax of all scores, and then 0 where a key is hidden."""
    found = score_arrays(_unmasked(problem))
    weights = weights_of(problem, found[_unmasked(problem).last_score])
    seen = problem.visibility
    if seen is None:
        return weights
    visible, _ = seen.combined(slice(0, weights.shape[-2]), slice(0, weights.shape[-1]))
    return np.where(visible, weights, 0)


class _Filled(Mask):
    """A mask that puts a finite number where −∞ belongs."""

    def __init__(self, visibility: Visibility, fill: float) -> None:
        super().__init__(visibility)
        self.fill = fill

    def __call__(self, scores: Array, rows: slice, keys: slice, out: Array | None = None) -> Array:
        visible, bias = self.visibility.combined(rows, keys)
        shown = scores if bias is None else scores + np.where(np.isfinite(bias), bias, 0)
        return np.where(visible, shown, self.fill)


class _Lowered(_Filled):
    """A mask that adds a large number to the scores in place of −∞."""

    def __call__(self, scores: Array, rows: slice, keys: slice, out: Array | None = None) -> Array:
        visible, bias = self.visibility.combined(rows, keys)
        shown = scores if bias is None else scores + np.where(np.isfinite(bias), bias, 0)
        return shown + np.where(visible, 0, self.fill)


def _finite(problem: Problem, expected: Sequence[Expected]) -> Iterator[Hypothesis]:
    """A finite number in place of −∞: theirs, where it stands in their step, or a usual one."""
    seen = problem.visibility
    if seen is None:
        return
    fills = [-1e9, -1e4, float(np.finfo(np.float32).min), float(np.finfo(np.float16).min)]
    for one in expected:
        if one.name == "masked" and one.array.size:
            lowest = float(np.fmin.reduce(one.array, axis=None))
            if np.isfinite(lowest) and lowest < _FINITE:
                fills.insert(0, lowest)
    for kind, fill in product((_Filled, _Lowered), dict.fromkeys(fills)):
        steps = [kind(seen, fill) if isinstance(s, Mask) else s for s in problem.score_steps]
        where = "in place of −∞" if kind is _Filled else "added in place of −∞"
        yield Hypothesis(
            f"with {fill:.4g} {where}",
            "a row in which every key is hidden then has weights",
            _with(problem, steps),
        )


def _orders(problem: Problem) -> Iterator[Hypothesis]:
    """The score steps in another order, or one fewer."""
    steps = problem.score_steps
    kinds = [type(step) for step in steps]
    if Softcap in kinds:
        rest = [s for s in steps if not isinstance(s, Softcap)]
        yield Hypothesis("without --softcap", "the softcap is left out", _with(problem, rest))
        caps = [s for s in steps if isinstance(s, Softcap)]
        if Mask in kinds:
            meaning = "−∞ becomes −C, and hidden keys have weights"
            order = [*rest, *caps]
            yield Hypothesis("with the softcap after the mask", meaning, _with(problem, order))
        if Scale in kinds:
            meaning = "the softcap bends the scores before they are scaled"
            order = [*caps, *rest]
            yield Hypothesis("with the softcap before the scale", meaning, _with(problem, order))
    seen = problem.visibility
    adds = seen is not None and seen.mask is not None and seen.mask.dtype.kind == "f"
    for kind, there, said in ((Mask, adds, "the mask"), (Alibi, True, "--alibi")):
        if Scale in kinds and kind in kinds and there:
            order = [s for s in steps if isinstance(s, kind)]
            order += [s for s in steps if not isinstance(s, kind)]
            meaning = "what it adds to the scores is scaled with them"
            yield Hypothesis(f"with {said} before the scale", meaning, _with(problem, order))


def _swapped(problem: Problem) -> Iterator[Hypothesis]:
    query, key = problem.query, problem.key
    if query is None or key is None or query.shape != key.shape:
        return
    other = replace(
        problem, query=replace(query, array=key.array), key=replace(key, array=query.array)
    )
    meaning = "the scores are K·Qᵀ: each row is a key's"
    yield Hypothesis("with Q and K swapped", meaning, other)


def _softmaxes(problem: Problem) -> Iterator[Hypothesis]:
    """Other ways from scores to weights."""
    several = problem.shape[-2] > 1
    for said, meaning, softmax, whole in (
        (
            "with the softmax over the queries",
            "each column of the weights sums to 1, where each row should",
            _along_queries,
            True,
        ),
        ("with the scores in place of the weights", "the softmax is left out", _scores, False),
        ("with 2^score in place of e^score", "the exponent is of base 2", _base_two, False),
        ("with e^score in place of its share", _NO_SUM, _powers, False),
        ("with e^(score − largest) in place of its share", _NO_SUM, _powers_below, False),
        (
            "with 1 added to the sum that the softmax divides by",
            "a row sums to less than 1",
            _with_sink,
            False,
        ),
        (
            "with the softmax over all rows together",
            "all weights of a matrix sum to 1, and not those of each row",
            _over_all,
            True,
        ),
    ):
        if several or not whole:
            yield Hypothesis(said, meaning, problem, softmax, whole=whole)


_NO_SUM = "the weights are not divided by their sum"


def _along_queries(problem: Problem, scores: Array) -> Array:
    return attention.softmax(scores.swapaxes(-1, -2)).swapaxes(-1, -2)


def _scores(problem: Problem, scores: Array) -> Array:
    return scores


def _base_two(problem: Problem, scores: Array) -> Array:
    sinks = None if problem.sinks is None else problem.sinks * math.log(2)
    return attention.softmax(scores * math.log(2), sinks)


def _powers(problem: Problem, scores: Array) -> Array:
    return np.exp(scores)


def _powers_below(problem: Problem, scores: Array) -> Array:
    return np.exp(scores - _peak(scores))


def _with_sink(problem: Problem, scores: Array) -> Array:
    peak = np.maximum(_peak(scores), 0)
    shares = np.exp(scores - peak)
    return shares / (shares.sum(axis=-1, keepdims=True) + np.exp(-peak))


def _over_all(problem: Problem, scores: Array) -> Array:
    flat = scores.reshape(*scores.shape[:-2], 1, -1)
    return attention.softmax(flat).reshape(scores.shape)


def _peak(scores: Array) -> Array:
    peak = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    return np.where(np.isneginf(peak), 0, peak)


def _heads(problem: Problem) -> Iterator[Hypothesis]:
    """Heads that share others, or are split and joined, in another order."""
    groups = problem.groups
    if max(groups) > 1:
        yield Hypothesis(
            "with the heads of K and V tiled",
            "head h uses head h mod G of K and V, and not h // (H / G)",
            _tiled(problem, groups),
        )
    heads = problem.merged_heads
    if heads is None or heads == 1:
        return
    if problem.value is not None:
        yield Hypothesis(
            "with the heads joined by a reshape alone",
            "(H, L, d) is laid out as (L, H·d) and its axes not swapped",
            problem,
            mixed=_reshaped,
            joins=True,
        )
    if problem.query is None or any(step.has_heads for step in problem.made):
        return  # what is done to a head, `sides` does again
    given = (problem.query, problem.key, problem.value)
    query, key, value = (None if side is None else _split_by_reshape(side) for side in given)
    other = replace(problem, query=query, key=key, value=value)
    said, meaning = SPLIT
    yield Hypothesis(said, meaning, other)
    yield Hypothesis(f"{said}, and joined by one", meaning, other, mixed=_reshaped, joins=True)


def _reshaped(problem: Problem, weights: Array) -> Array:
    output = output_of(problem.apart(), weights)
    *leading, heads, rows, width = output.shape
    return output.reshape(*leading, rows, heads * width)


def _split_by_reshape(side: Operand) -> Operand:
    whole = attention.merge_heads(side.array)
    return replace(side, array=np.ascontiguousarray(whole).reshape(side.shape))


def _tiled(problem: Problem, groups: Groups) -> Problem:
    heads = problem.leading[-1]

    def tiled(side: Operand | None, group: int) -> Operand | None:
        if side is None or group == 1:
            return side
        own = np.arange(heads) % (heads // group)
        return replace(side, array=side.array[..., own, :, :])

    key, value = tiled(problem.key, groups.key), tiled(problem.value, groups.value)
    return replace(problem, key=key, value=value, groups=Groups())


def _products(problem: Problem) -> Iterator[Hypothesis]:
    """Other ways from weights to the output."""
    queries, keys = problem.shape[-2:]
    if problem.value is None or queries != keys or queries < 2:
        return
    yield Hypothesis(
        "with weightsᵀ·V",
        "the values are mixed over the queries, and not over the keys",
        problem,
        mixed=_transposed_product,
        whole=True,
    )


def _transposed_product(problem: Problem, weights: Array) -> Array:
    return output_of(problem, np.swapaxes(weights, -1, -2))
