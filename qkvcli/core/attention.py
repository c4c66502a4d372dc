"""Attention, one function per step. Start here.

    scores = Q·Kᵀ        weights = softmax(scores)        output = weights·V

That is all that the article needs, an introduction to the Query, Key and Value vectors of
BERT and GPT; what real models do besides stands between these three. Every function takes
and gives floating-point arrays. ``…`` stands for any leading axes (batches, heads); there
are L_q queries and L_k keys; a query and a key are d wide, a value d_v.
Source: Vaswani et al., "Attention Is All You Need", section 3.2.

>>> cat = np.array([[0.0, 2.0]])                    # one query          (1, 2)
>>> keys = np.array([[1.0, 0.0], [0.0, 1.0]])       # the, sat           (2, 2)
>>> scores(cat, keys)                               # 0·1+2·0, 0·0+2·1   (1, 2)
array([[0., 2.]])
>>> softmax(scores(cat, keys)).round(3)             # e⁰, e² of e⁰+e²    (1, 2)
array([[0.119, 0.881]])
>>> values = np.array([[10.0], [20.0]])             # one for each key   (2, 1)
>>> output(softmax(scores(cat, keys)), values).round(1)  # 10·0.119 + 20·0.881
array([[18.8]])
"""

from collections.abc import Callable

import numpy as np

from qkvcli.core.operands import Array

_EXACT = 64.0
"""Up to here a bias leaves float32 five digits behind the point."""


def projected(embeddings: Array, weight: Array, bias: Array | None = None) -> Array:
    """Embeddings X as queries, keys or values: X·W, and a bias on every row."""
    rows: Array = embeddings @ weight  # (…, L, m)·(m, d) → (…, L, d)
    return rows if bias is None else rows + bias  # (…, L, d) + (d,)


def clipped(rows: Array, limit: float) -> Array:
    """Numbers brought into ±limit (DBRX, MPT, OLMo)."""
    return np.clip(rows, -limit, limit)  # (…, L, d)


def normed(
    rows: Array, weight: Array, bias: Array | None = None, *, epsilon: float, centred: bool = False
) -> Array:
    """Rows brought to a mean square of 1, and each column × its weight.

    Source: Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), section 4. With
    ``centred`` the mean is taken off first, and a bias is added (Ba et al., "Layer
    Normalization", 2016).

    >>> normed(np.array([[3.0, -3.0], [0.5, 0.5]]), np.array([1.0, 2.0]), epsilon=1e-6).round(3)
    array([[ 1., -2.],
           [ 1.,  2.]])
    """
    unit = np.maximum(np.abs(rows).max(axis=-1, keepdims=True, initial=1), 1)  # (…, L, 1)
    small, width = rows / unit, max(rows.shape[-1], 1)  # no square of it overflows
    if centred:
        small = small - small.sum(axis=-1, keepdims=True) / width
    square = (small * small).sum(axis=-1, keepdims=True) / width  # (…, L, 1)
    size = np.sqrt(square + epsilon / np.square(unit, dtype=np.float64)).astype(rows.dtype)
    brought: Array = weight * (small / size)  # (d,) or (H, 1, d) × (…, L, d)
    return brought if bias is None else brought + bias


def rotated(
    rows: Array, cos: Array, sin: Array, interleaved: bool = False, out: Array | None = None
) -> Array:
    """Pairs of columns turned by an angle: the first 2·n, where there are n cosines.

    Column i goes with i + n, or, ``interleaved``, 2i with 2i + 1; the other columns stay.
    Source: Su et al., "RoFormer" (2021), section 3.2.2 and equation 34.

    >>> quarter = np.cos(np.pi / 2), np.sin(np.pi / 2)
    >>> rotated(np.array([[1.0, 0.0, 7.0]]), *(np.full((1, 1), n) for n in quarter)).round(3)
    array([[0., 1., 7.]])
    """
    count = cos.shape[-1]
    first, second = slice(0, count), slice(count, 2 * count)
    if interleaved:
        first, second = slice(0, 2 * count, 2), slice(1, 2 * count, 2)
    turned = np.empty_like(rows) if out is None else out  # (…, L, d)
    one, other = rows[..., first], rows[..., second]  # (…, L, n) each
    turned[..., first] = one * cos - other * sin
    turned[..., second] = one * sin + other * cos
    turned[..., 2 * count :] = rows[..., 2 * count :]
    return turned


def split_heads(rows: Array, heads: int) -> Array:
    """Rows that hold heads side by side, as heads that hold rows: a view."""
    *leading, width = rows.shape
    parted = rows.reshape(*leading, heads, width // heads)  # (…, L, H·d) → (…, L, H, d)
    return parted.swapaxes(-2, -3)  # (…, H, L, d)


def merge_heads(heads: Array) -> Array:
    """Heads side by side again: the inverse of `split_heads`."""
    parted = heads.swapaxes(-2, -3)  # (…, H, L, d) → (…, L, H, d)
    *leading, count, width = parted.shape
    return parted.reshape(*leading, count * width)  # (…, L, H·d)


def by_group(
    product: Callable[[Array, Array], Array], heads: Array, shared: Array, group: int
) -> Array:
    """`scores` or `output`, where each head of K or V serves ``group`` heads; none is copied."""
    if group == 1:
        return product(heads, shared)
    *leading, count, rows, width = heads.shape
    parted = heads.reshape(*leading, count // group, group, rows, width)  # (…, G, H/G, L_q, ·)
    result = product(parted, shared[..., None, :, :])  # with (…, G, 1, L_k, ·)
    return result.reshape(*result.shape[:-4], count, *result.shape[-2:])  # (…, H, L_q, ·)


def scores(query: Array, key: Array) -> Array:
    """How well each query matches each key: their dot product."""
    return query @ key.swapaxes(-1, -2)  # (…, L_q, d)·(…, d, L_k) → (…, L_q, L_k)


def scaled(scores: Array, scale: float, out: Array | None = None) -> Array:
    """Scores brought to a smaller range, usually by 1/√d; float64 where float32 ends too soon."""
    if _beyond(scale, scores):
        wide = scores.astype(np.float64) * scale  # what float32 may not hold, softmax may
        return wide if out is None else _stored(wide, out)
    return np.multiply(scores, scale, out=out)  # (…, L_q, L_k)


def capped(scores: Array, softcap: float, out: Array | None = None) -> Array:
    """Scores bent so that none is beyond ±softcap, and small ones stay as they are."""
    if _beyond(softcap, scores):
        bent = softcap * np.tanh(scores.astype(np.float64) / softcap)
        return _stored(bent, np.empty_like(scores) if out is None else out)
    bent = np.tanh(np.divide(scores, softcap, out=out), out=out)  # (…, L_q, L_k)
    return np.multiply(softcap, bent, out=out)  # (…, L_q, L_k)


def _beyond(number: float, array: Array) -> bool:
    """Whether an array's own type is too narrow for a number, or blurs what it makes of others."""
    return number != 0 and array.dtype != np.float64 and not 1e-30 < abs(number) < 1e30


def _stored(wide: Array, out: Array) -> Array:
    out[...] = wide
    return out


def biased(
    scores: Array, slopes: Array, queries: Array, keys: Array, out: Array | None = None
) -> Array:
    """Scores + slope·(j − i) for a query at i and a key at j: ALiBi (Press et al., section 3).

    >>> biased(np.zeros((1, 3)), np.array([[0.5]]), np.array([[2]]), np.arange(3))
    array([[-1. , -0.5,  0. ]])
    """
    if out is None:
        bias = slopes * (keys - queries)  # (H, 1, 1)·(…, L_q, L_k) → (…, H, L_q, L_k)
        if np.abs(bias).max(initial=0) > _EXACT:
            return scores + bias  # in float64: float32 would blur how the keys differ
        return scores + bias.astype(scores.dtype)
    first = keys[0] if keys.size else 0  # of a tile in two parts, which need no matrix
    out += (slopes * (keys - first)).astype(out.dtype)
    out += (slopes * (first - queries)).astype(out.dtype)
    return out


def masked(
    scores: Array, visible: Array, bias: Array | None = None, out: Array | None = None
) -> Array:
    """Scores with a bias added, and −∞ where a query may not see a key."""
    hidden = scores.copy() if out is None else out  # (…, L_q, L_k); ``out`` is the scores
    if bias is not None:
        hidden += bias  # (…, L_q, L_k)
    np.copyto(hidden, -np.inf, where=~visible)
    return hidden


def softmax(scores: Array, sinks: Array | None = None) -> Array:
    """Each row of scores as shares of 1; a row with no key left is zeros.

    A sink is one more score in each row, (H, 1, 1), whose share no key gets (gpt-oss).
    """
    peak = _peak(scores, sinks)  # (…, L_q, 1)
    shares: Array = scores - peak  # (…, L_q, L_k), in place from here on: it may be large
    np.exp(shares, out=shares)  # the largest is e⁰ = 1
    total: Array = shares.sum(axis=-1, keepdims=True)  # (…, L_q, 1)
    if sinks is not None:
        total = total + _power(sinks, peak)
    shares /= np.where(total == 0, 1, total)  # each row sums to 1
    return shares


def log_sum_exp(scores: Array, sinks: Array | None = None) -> Array:
    """The logarithm of what the softmax divides a row by; −∞ for a row with no key left."""
    peak = _peak(scores, sinks)
    total: Array = np.exp(scores - peak).sum(axis=-1, keepdims=True)  # (…, L_q, 1)
    if sinks is not None:
        total = total + _power(sinks, peak)
    return (np.log(total) + peak)[..., 0]  # (…, L_q)


def _power(sinks: Array, peak: Array) -> Array:
    """e^(sink − peak), which is 1 where the sink is the peak: also where both are ∞."""
    return np.where(sinks == peak, 1, np.exp(sinks - peak))


def _peak(scores: Array, sinks: Array | None) -> Array:
    """The largest score of each row, (…, L_q, 1); 0 where all are −∞ and there is none."""
    peak: Array = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    if sinks is not None:
        peak = np.maximum(peak, sinks)
    return np.where(np.isneginf(peak), 0, peak)


def output(weights: Array, value: Array) -> Array:
    """The values, mixed by each row of weights; a key of weight 0 adds nothing."""
    plain: Array = weights @ value  # (…, L_q, L_k)·(…, L_k, d_v) → (…, L_q, d_v)
    if np.isfinite(plain).all():
        return plain
    finite: Array = weights @ np.where(np.isfinite(value), value, 0)  # (…, L_q, d_v)
    return finite + not_finite(weights, value)


def sigmoid(numbers: Array) -> Array:
    """Numbers between 0 and 1: 1 / (1 + e^−x).

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    small = np.exp(-np.abs(numbers))  # never above 1
    return np.where(numbers < 0, small, 1) / (1 + small)


def gated(output: Array, gate: Array) -> Array:
    """The output, each column let through as far as its gate is open (Qiu et al., section 2)."""
    return output * gate  # (…, L_q, d_v) × (…, L_q, d_v or 1)


def not_finite(weights: Array, value: Array) -> Array:
    """What ∞ and NaN among the values add to the output, of keys that have a weight at all."""
    up, down = (weights > 0).astype(np.float32), (weights < 0).astype(np.float32)
    high, low, lost = (
        hit.astype(np.float32) for hit in (np.isposinf(value), np.isneginf(value), np.isnan(value))
    )  # (…, L_k, d_v)
    sums = np.where(up @ high + down @ low > 0, np.inf, 0)  # (…, L_q, d_v): 0·∞ is no part of it
    sums = sums + np.where(up @ low + down @ high > 0, -np.inf, 0)  # ∞ − ∞ is NaN
    return sums + np.where((up + down) @ lost > 0, np.nan, 0)
