"""What attention gives, in longdouble, and how far off our own arithmetic may be.

A score is off by a few roundings of what it is summed of, at the width that is worked in, and
its weight by as much again, relatively; this bounds each number of the output. The bound says
nothing, and is NaN, where scores are so large that rounding decides which wins, or pass the
largest number on the way, or where a weight before ∞ is about to vanish.
"""

from itertools import product
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from qkvcli.core.dtypes import working_dtype
from qkvcli.core.operands import Array, Operand
from qkvcli.core.problem import Problem, needed

Expected: TypeAlias = tuple[Array, Array]
"""What is right, and how far off it may be: NaN where nothing can be said."""


def limits(name: str) -> Any:
    """A type's eps, largest and smallest numbers."""
    finfo: Any = ml_dtypes.finfo  # also of types that NumPy lacks
    return finfo(name)


def expected(problem: Problem, given: dict[str, Any]) -> tuple[Expected, Expected]:
    """The output (…, L_q, d_v) and the log-sum-exp (…, L_q), computed in longdouble."""
    working = working_dtype(problem.dtype).name
    work, result = limits(working), limits(problem.dtype.name)
    narrow = max(work, limits(given.get("softmax_dtype", working)), key=lambda info: info.eps)
    eps, least = float(narrow.eps), np.longdouble(narrow.smallest_subnormal)
    scores, off, clear, alone = expected_scores(problem, given, narrow)
    value = wide(needed(problem.value, "value"), problem.groups.value)
    keys = scores.shape[-1]
    peak = scores.max(-1, keepdims=True, initial=-np.inf)
    peak = np.where(np.isneginf(peak), 0, peak)
    shares = np.exp(scores - peak)
    total = shares.sum(-1, keepdims=True)
    weights = shares / np.where(total == 0, 1, total)
    roundings = eps * (keys + 16)
    sums = np.log(total) + peak
    sums_off = off + roundings + eps * (abs(finite(sums)) + 4 * abs(finite(peak)))
    output, mixed = weights @ finite(value), weights @ abs(finite(value))
    output_off = mixed * (np.where(alone, 0, np.expm1(2 * off)) + roundings)
    output_off += abs(output) * float(result.eps) + np.longdouble(result.smallest_subnormal)
    # what is too small for a weight, or for its product with a value, is lost
    output_off += 4 * least * (abs(finite(value)).sum(-2, keepdims=True) + keys * 1024)
    edge = mixed * (1 + roundings) + finite(output_off) > result.max
    nearly = abs(np.log(weights) - np.log(least)) < 4 + np.log(keys + 1) + 2 * off
    edge |= nearly.astype(float) @ ~np.isfinite(value) > 0  # ∞ with a weight, or with none
    bound = clear * np.where(edge, np.nan, finite(output_off))
    return (output, bound), (sums[..., 0], (clear * finite(sums_off))[..., 0])


def expected_scores(
    problem: Problem, given: dict[str, Any], narrow: Any
) -> tuple[Array, Array, Array, Array]:
    """The scores (…, L_q, L_k), −∞ where hidden; and of each row, (…, L_q, 1), three things.

    How far off they may be; 1, or NaN where rounding decides which is the largest; and
    whether a single key has all of the weight, whatever its score.
    """
    eps, least, most = map(np.longdouble, (narrow.eps, narrow.smallest_subnormal, narrow.max))
    query = wide(needed(problem.query, "query"))
    key = wide(needed(problem.key, "key"), problem.groups.key).swapaxes(-1, -2)
    width, cap = query.shape[-1], problem.config.cap
    scale = problem.config.scale_of(width)
    scores = query @ key * scale
    size = abs(finite(query)) @ abs(finite(key)) * max(1, abs(scale))  # of what is summed
    far = size > most
    off = eps * (width + 4) * size * min(1, abs(scale)) + least * max(1, abs(scale))
    if cap is not None:
        scores = cap * np.tanh(scores / cap)
        off = np.fmin(off, 2 * cap) + 8 * eps * abs(scores)
    seen, bias = seen_and_added(given, problem)
    absorbed = abs(bias) > 2.0**60 * (abs(scores) + off + 1)  # the sum is the bias itself
    scores = np.where(absorbed, bias, scores + bias)
    off = np.where(absorbed, 0, off + 2 * eps * abs(scores))
    far |= np.isfinite(scores) & (abs(scores) > most * (1 + eps / 8))
    scores = np.where(seen, scores, -np.inf)
    sure = np.where(np.isfinite(scores), scores - off, -np.inf)
    lowest = sure.max(-1, keepdims=True, initial=-np.inf) + np.log(least) - 3
    counts = np.isfinite(scores) & (scores + off >= lowest)  # whose weight may be above 0
    off = np.where(counts, off, 0).max(-1, keepdims=True, initial=0)
    alone = counts.sum(-1, keepdims=True) < 2
    clear = ~(far & seen).any(-1, keepdims=True) & (alone | (off < 0.05))
    return scores, off, np.where(clear, 1, np.nan), alone


def wide(operand: Operand, group: int = 1) -> Array:
    array = operand.array.astype(np.longdouble)
    return array if group == 1 else np.repeat(array, group, axis=-3)


def finite(array: Array) -> Array:
    return np.where(np.isfinite(array), array, 0)


def seen_and_added(given: dict[str, Any], problem: Problem) -> tuple[Array, Array]:
    """Which keys are seen, by the README's words and whole numbers of any size; and the bias."""
    *leading, n, m = problem.shape
    lengths = given.get("valid_length", [m])
    left, right = given.get("window", (None, None))

    def sees(length: int, i: int, j: int) -> bool:
        at = i + given.get("offset", length - n if "valid_length" in given else 0)
        low = -np.inf if left is None else at - left
        high = at if given.get("causal") else np.inf
        return j < length and low <= j <= min(high, np.inf if right is None else at + right)

    places = [sees(*place) for place in product(lengths, range(n), range(m))]
    batches = [len(lengths), *[1] * (len(leading) - 1)][: len(leading)]
    seen = np.array(places, bool).reshape(*batches, n, m)
    mask = given.get("mask", np.ones((1, m), bool))
    if mask.shape[-1] not in (1, m):  # one that is shorter hides the rest
        rest: Any = False if mask.dtype == bool else -np.inf
        mask = np.pad(mask, [(0, 0), (0, m - mask.shape[-1])], constant_values=rest)
    if mask.dtype == bool:
        return seen & mask, np.zeros((1, 1))
    return seen & ~np.isneginf(mask), np.where(np.isneginf(mask), 0, mask).astype(np.longdouble)
