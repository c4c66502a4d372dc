"""Explanations as JSON."""

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from qkvcli.core.explain import Explanation
from qkvcli.core.operands import Array
from qkvcli.formats.json_text import write_data

_KEYS = 10
"""How many of the keys that weigh most are listed; the rest are summed."""


def write_explained(
    found: Sequence[Explanation], stream: BinaryIO, digits: int | None = None
) -> None:
    """One explanation as an object, several as a list of them, with this many decimals."""
    data = [explained(one) for one in found]
    write_data(data[0] if len(data) == 1 else data, stream, digits)


def explained(found: Explanation) -> dict[str, Any]:
    """An explanation as plain numbers, lists and text.

    The weight is ``numerator`` / ``denominator``: e^(score − shift), and the sum of all, a
    sink's with them. Where the head is one of several, ``projected`` is what it adds to the sum
    of all, without bo.
    """
    *batch, head = found.place or (None,)
    picked = found.strongest(_KEYS)
    powers = found.powers
    finish = found.finish
    made = {
        "output": found.output,
        "gate": finish.gate,
        "gated": finish.gated,
        "projected": finish.projected,
    }
    vectors = {"q": found.query_vector, "k": found.key_vector, "products": found.products}
    return {
        "query": found.query._asdict(),
        "key": found.key._asdict(),
        **({"batch": batch[0] if len(batch) == 1 else batch} if batch else {}),
        **({} if head is None else {"head": head}),
        "weight": found.weight,
        "rank": found.rank,
        "keys": len(found.weights),
        "seen": found.seen,
        "equal_share": found.equal_share,
        **({} if found.columns is None else {"columns": found.columns}),
        **{name: vector.tolist() for name, vector in vectors.items() if vector is not None},
        **_positions(found),
        "score": found.score,
        "steps": [{"name": link.name, "value": link.after} for link in found.links],
        "hidden_by": [hidden.mask for hidden in found.hidden],
        "shift": found.shift,
        "numerator": float(powers[found.key.number]),
        "denominator": found.total,
        "strongest": [_told(found, j) for j in picked.tolist()],
        "rest": _summed(found, found.rest(picked)),
        **({} if found.sink is None else {"sink": _sink(found)}),
        **{name: array.tolist() for name, array in made.items() if array is not None},
    }


def _positions(found: Explanation) -> dict[str, Any]:
    """Where the query and the key stand, if they were turned by that."""
    if found.positions is None:
        return {}
    return {"positions": dict(zip(("query", "key"), found.positions, strict=True))}


def _sink(found: Explanation) -> dict[str, float | None]:
    return {"score": found.sink, "weight": found.sink_weight}


def _told(found: Explanation, j: int) -> dict[str, Any]:
    return {
        "name": found.keys[j],
        "number": j,
        "score": float(found.scores[j]),
        "weight": float(found.weights[j]),
        **_share(found, np.array([j])),
    }


def _summed(found: Explanation, keys: Array) -> dict[str, Any]:
    weight = float(found.weights[keys].sum(dtype=np.float64))
    return {"keys": len(keys), "weight": weight, **_share(found, keys)}


def _share(found: Explanation, keys: Array) -> dict[str, float]:
    return {} if found.shares is None else {"share": float(found.shares[keys].sum())}
