"""Attention as a reader of the papers would write it: loops, lists and floats; no NumPy."""

import math
from collections.abc import Callable
from typing import Any

Seen = Callable[[int, int], bool]


def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    scale: float = 1.0,
    cap: float | None = None,
    bias: Any = None,
    seen: Seen = lambda i, j: True,
) -> tuple[list[list[float]], list[list[float]]]:
    """Weights and output of one head; a key that is not seen does not exist."""
    weights, output = [], []
    for i, q in enumerate(query):
        scores: dict[int, float] = {}
        for j, k in enumerate(key):
            if not seen(i, j) or (bias is not None and bias[i][j] == -math.inf):
                continue
            score = 0.0
            for a, b in zip(q, k, strict=True):
                score += a * b
            score *= scale
            if cap is not None:
                score = cap * math.tanh(score / cap)
            scores[j] = score + (0.0 if bias is None else bias[i][j])
        peak = max(scores.values(), default=0.0)
        shares = {j: math.exp(score - peak) for j, score in scores.items()}
        total = sum(shares.values())
        weights.append([shares.get(j, 0.0) / total if total else 0.0 for j in range(len(key))])
        row = [0.0] * len(value[0]) if len(value) else []
        for j, share in shares.items():
            for c, v in enumerate(value[j]):
                row[c] += share / total * v
        output.append(row)
    return weights, output
