"""The library's four functions: NumPy arrays (or what NumPy can read) in, arrays out.

``options`` are those of `qkvcli.core.description.Attention`, where they are explained:
scale, softcap, causal, window, offset, valid_length, heads, kv_heads, dtype and
softmax_dtype. ``mask`` is boolean (true may be seen) or numbers (added to the scores), and
broadcasts to the scores; one that is shorter than the keys hides the rest.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from qkvcli.core.arrays import Array, Labelled
from qkvcli.core.description import Attention
from qkvcli.core.engine import compute
from qkvcli.core.operands import Operands
from qkvcli.core.steps import Steps
from qkvcli.errors import DataError

Given = npt.ArrayLike | None


def scores(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    *,
    mask: Given = None,
    past_key: Given = None,
    **options: Any,
) -> Array:
    """Q·Kᵀ, and scaled, capped and masked where asked for.

    >>> scores([[1, 0], [0, 2]], [[1, 1], [3, 4]])
    array([[1., 3.],
           [2., 8.]])
    >>> scores([[1, 0], [0, 2]], [[1, 1], [3, 4]], scale=0.5, causal=True)
    array([[ 0.5, -inf],
           [ 1. ,  4. ]])

    Shapes: query (…, L_q, d), key (…, L_k, d) → (…, L_q, L_k); the axes before the last
    two broadcast, and at −3 the heads of the query may be a multiple of the key's. Type:
    the inputs' own; float64 for integers and booleans; float16 is worked on in float32.
    Raises ShapeError and DataError (both ValueErrors), UsageError for an option's value
    that does not exist. Source: Vaswani et al., section 3.2.1.
    """
    operands = _operands(query=query, key=key, mask=mask, past_key=past_key)
    return compute(Attention(**options), operands, until="scores")[-1].array


def softmax(scores: npt.ArrayLike, *, mask: Given = None, **options: Any) -> Array:
    """The weights: each row of scores as shares of 1.

    >>> softmax([[0, 0, -np.inf], [-np.inf, -np.inf, -np.inf]])
    array([[0.5, 0.5, 0. ],
           [0. , 0. , 0. ]])

    Shape: (…, L_q, L_k) → the same. What ``options`` ask for is done to the scores first.
    The row's maximum is taken off, so that no exponential is above 1; a row that is −∞
    throughout, or empty, gives zeros. Types and errors as in `scores`.
    Source: Vaswani et al., section 3.2.1.
    """
    operands = _operands(scores=scores, mask=mask)
    return compute(Attention(**options), operands, until="weights").weights


def output(
    weights: npt.ArrayLike, value: npt.ArrayLike, *, past_value: Given = None, **options: Any
) -> Array:
    """weights·V: for each query, the values mixed by its row of weights.

    >>> output([[0.5, 0.5, 0], [0, 0, 1]], [[10, 0], [20, 2], [7, 7]])
    array([[15.,  1.],
           [ 7.,  7.]])

    Shapes: weights (…, L_q, L_k), value (…, L_k, d_v) → (…, L_q, d_v). A key of weight 0
    adds nothing, also where its value is inf or NaN. Types and errors as in `scores`.
    Source: Vaswani et al., section 3.2.1.
    """
    operands = _operands(weights=weights, value=value, past_value=past_value)
    return compute(Attention(**options), operands).output


def attend(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    *,
    mask: Given = None,
    past_key: Given = None,
    past_value: Given = None,
    wq: Given = None,
    wk: Given = None,
    wv: Given = None,
    bq: Given = None,
    bk: Given = None,
    bv: Given = None,
    **options: Any,
) -> Steps:
    """Attention, with every step on the way to the output.

    >>> steps = attend([[1, 0]], [[0, 1], [0, 2]], [[4, 0], [0, 8]], scale="sqrt")
    >>> steps.names
    ('scores', 'scaled', 'weights', 'output')
    >>> steps.weights, steps.output
    (array([[0.5, 0.5]]), array([[2., 4.]]))
    >>> steps["scaled"].formula, steps["scaled"].array
    ('scores × 1/√2', array([[0., 0.]]))

    Shapes: query (…, L_q, d), key (…, L_k, d), value (…, L_k, d_v) → output
    (…, L_q, d_v); past_key and past_value go before key and value along the tokens. With
    wq (m, d) the query given is X (…, L_q, m) of Q = X·Wq + bq; likewise key and value.
    Types and errors as in `scores`; the steps share one working precision and are rounded
    to the inputs' type at the end.
    Source: Vaswani et al., "Attention Is All You Need", section 3.2.1.
    """
    operands = _operands(
        query=query,
        key=key,
        value=value,
        mask=mask,
        past_key=past_key,
        past_value=past_value,
        wq=wq,
        wk=wk,
        wv=wv,
        bq=bq,
        bk=bk,
        bv=bv,
    )
    return compute(Attention(**options), operands)


def _operands(**given: Given) -> Operands:
    arrays = ((name, one) for name, one in given.items() if one is not None)
    return Operands(**{name: _operand(name, one) for name, one in arrays})


def _operand(name: str, given: Any) -> Labelled:
    try:
        return Labelled(np.asarray(given))
    except ValueError as fault:  # rows of different lengths
        raise DataError(f"{name.replace('_', ' ')} is not a matrix: {fault}") from None
