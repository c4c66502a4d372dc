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
    sink: float | None = None,
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
        peak = max([*scores.values(), *([] if sink is None else [sink])], default=0.0)
        shares = {j: math.exp(score - peak) for j, score in scores.items()}
        total = sum(shares.values()) + (0.0 if sink is None else math.exp(sink - peak))
        weights.append([shares.get(j, 0.0) / total if total else 0.0 for j in range(len(key))])
        row = [0.0] * len(value[0]) if len(value) else []
        for j, share in shares.items():
            for c, v in enumerate(value[j]):
                row[c] += share / total * v
        output.append(row)
    return weights, output


def projected(rows: Any, weight: Any, bias: Any = None) -> list[list[float]]:
    """rows·weight + bias."""
    columns = range(len(weight[0]))
    return [
        [
            sum(row[i] * weight[i][c] for i in range(len(row))) + (0.0 if bias is None else bias[c])
            for c in columns
        ]
        for row in rows
    ]


def clipped(rows: Any, limit: float) -> list[list[float]]:
    return [[max(-limit, min(limit, number)) for number in row] for row in rows]


def normed(
    rows: Any, weight: Any, bias: Any = None, *, epsilon: float = 1e-6, layer: bool = False
) -> list[list[float]]:
    found = []
    for row in rows:
        middle = sum(row) / len(row) if layer else 0.0
        size = math.sqrt(sum((number - middle) ** 2 for number in row) / len(row) + epsilon)
        plain = [w * (number - middle) / size for w, number in zip(weight, row, strict=True)]
        found.append(plain if bias is None else [a + b for a, b in zip(plain, bias, strict=True)])
    return found


def rotated(rows: Any, base: float, width: int, interleaved: bool, first: int) -> list[list[float]]:
    """Each pair of columns of the row at place p turned by p·base^(−2i/width)."""
    found = [list(row) for row in rows]
    for number, row in enumerate(rows):
        for i in range(width // 2):
            a, b = (2 * i, 2 * i + 1) if interleaved else (i, i + width // 2)
            angle = (first + number) * base ** (-2 * i / width)
            found[number][a] = row[a] * math.cos(angle) - row[b] * math.sin(angle)
            found[number][b] = row[a] * math.sin(angle) + row[b] * math.cos(angle)
    return found


def slope(head: int, heads: int) -> float:
    """ALiBi's slope of a head, counted from 0, as its authors' own code has it."""
    power = 1
    while 2 * power <= heads:
        power *= 2
    if head < power:
        return float(2.0 ** (-8 * (head + 1) / power))
    return float(2.0 ** (-8 * (2 * (head - power) + 1) / (2 * power)))
