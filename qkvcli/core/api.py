"""The library's four functions: NumPy arrays (or what NumPy can read) in, arrays out."""

from typing import Any

import numpy as np
import numpy.typing as npt

from qkvcli.core.arrays import Array, Labelled
from qkvcli.core.description import Attention, Scale
from qkvcli.core.engine import Operands, compute
from qkvcli.core.steps import Steps
from qkvcli.errors import DataError


def scores(
    query: npt.ArrayLike, key: npt.ArrayLike, *, scale: Scale = None, causal: bool = False
) -> Array:
    """Q·Kᵀ, scaled and masked where asked for.

    >>> scores([[1, 0], [0, 2]], [[1, 1], [3, 4]])
    array([[1., 3.],
           [2., 8.]])
    >>> scores([[1, 0], [0, 2]], [[1, 1], [3, 4]], scale=0.5, causal=True)
    array([[ 0.5, -inf],
           [ 1. ,  4. ]])

    Shapes: query (…, L_q, d), key (…, L_k, d) → (…, L_q, L_k); the axes before the last
    two broadcast. ``scale``: None, "sqrt" for 1/√d, or a number. ``causal``: query i sees
    keys 0…i, the others are −∞. Type: the inputs' own; float64 for integers and booleans;
    float16 is worked on in float32. Raises ShapeError, DataError (both ValueErrors), and
    UsageError for a scale that does not exist. Source: Vaswani et al., section 3.2.1.
    """
    operands = Operands(query=_operand(query), key=_operand(key))
    return compute(Attention(scale, causal), operands, until="scores")[-1].array


def softmax(scores: npt.ArrayLike) -> Array:
    """The weights: each row of scores as shares of 1.

    >>> softmax([[0, 0, -np.inf], [-np.inf, -np.inf, -np.inf]])
    array([[0.5, 0.5, 0. ],
           [0. , 0. , 0. ]])

    Shape: (…, L_q, L_k) → the same. The row's maximum is taken off first, so that no
    exponential is above 1; a row that is −∞ throughout, or empty, gives zeros. Types and
    errors as in `scores`. Source: Vaswani et al., section 3.2.1.
    """
    return compute(Attention(), Operands(scores=_operand(scores)), until="weights").weights


def output(weights: npt.ArrayLike, value: npt.ArrayLike) -> Array:
    """weights·V: for each query, the values mixed by its row of weights.

    >>> output([[0.5, 0.5, 0], [0, 0, 1]], [[10, 0], [20, 2], [7, 7]])
    array([[15.,  1.],
           [ 7.,  7.]])

    Shapes: weights (…, L_q, L_k), value (…, L_k, d_v) → (…, L_q, d_v). A key of weight 0
    adds nothing, also where its value is inf or NaN. Types and errors as in `scores`.
    Source: Vaswani et al., section 3.2.1.
    """
    operands = Operands(weights=_operand(weights), value=_operand(value))
    return compute(Attention(), operands, until="output").output


def attend(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    *,
    scale: Scale = None,
    causal: bool = False,
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
    (…, L_q, d_v). Options, types and errors as in `scores`; the steps share one working
    precision and are rounded to the inputs' type at the end.
    Source: Vaswani et al., "Attention Is All You Need", section 3.2.1.
    """
    operands = Operands(query=_operand(query), key=_operand(key), value=_operand(value))
    return compute(Attention(scale, causal), operands)


def _operand(given: Any) -> Labelled:
    try:
        return Labelled(np.asarray(given))
    except ValueError as fault:  # rows of different lengths
        raise DataError(f"not a matrix: {fault}") from None
